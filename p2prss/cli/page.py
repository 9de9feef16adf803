"""The page of the node that runs on this home: its address, with what lets a browser change things."""

from typing import Annotated

import typer

from p2prss.cli.context import Context


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(page)


def page(
    ctx: typer.Context,
    open_: Annotated[bool, typer.Option("--open", help="Open it in the browser, too.")] = False,
) -> None:
    """Print the address of the page of the node that runs on this home.

    Opened once, it lets that browser add and remove shows. Whoever has this address can do the same: keep it
    to yourself. The page itself can be read without it. Ends with exit code 1 when no node runs.

    Example: `p2prss page --open`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.errors import P2prssError
        from p2prss.node.control import ask_status
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.page_token import make_code, read_token

        home = HomePaths.find(context.home_option)
        status = await ask_status(home)
        if status.http is None:
            raise P2prssError(f"the node of {home.path} serves no page: start it without --no-http")
        token = read_token(home.page_token)
        address = f"{status.http}/?token={token}"
        context.output.data({"page": address}, address)
        if open_:
            import webbrowser

            webbrowser.open(f"{status.http}/?token={make_code(token)}")  # others see a program's arguments

    context.run(main)
