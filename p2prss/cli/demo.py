"""The demo: the whole way of an episode, on one machine and without a network."""

from typing import Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.output import format_bytes


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(demo)


def demo(
    ctx: typer.Context,
    once: Annotated[
        bool | None,
        typer.Option("--once/--keep", help="End after the check, or serve until Ctrl-C (on a terminal)."),
    ] = None,
) -> None:
    """Make a tiny show, publish it, follow it from a second home, and play it from there.

    Everything happens in a temporary folder and on this computer only.

    Example: `p2prss demo`
    """
    import sys

    context = Context.of(ctx)
    ends = once if once is not None else not sys.stdout.isatty()

    async def main() -> None:
        from p2prss.node.demo import run_demo

        output = context.output
        async with run_demo(lambda message: output.talk(message)) as result:
            output.data(
                result,
                f"{result.episodes} episodes, {format_bytes(result.bytes)}, went from one home to the other;"
                f" byte for byte the same\n{result.feed_url}",
            )
            if not ends:
                import trio

                output.talk("open that address in a podcast app, or in a browser; Ctrl-C ends the demo")
                await trio.sleep_forever()

    context.run(main)
