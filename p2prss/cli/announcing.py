"""The command for publishers who have an ordinary host: announce."""

from pathlib import Path
from typing import Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import FeedArgument
from p2prss.errors import StorageError


def register(app: typer.Typer) -> None:
    """Add this module's command."""
    app.command()(announce)


def announce(
    ctx: typer.Context,
    feed: FeedArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it there, not to stdout.")
    ] = None,
    gateway: Annotated[
        str | None,
        typer.Option(metavar="URL", help="A p2prss on the web that everybody reaches, for apps without one."),
    ] = None,
    at: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the feed will stand: it says so itself, as directories want it."
        ),
    ] = None,
) -> None:
    """Write the feed to put where the show's own is, so that its host advertises the swarm.

    It is the feed as it was mirrored, with the key (`podcast:txt`) and, for each episode, where else it is to
    be had and its hash (`podcast:alternateEnclosure`). People can then follow the show by its address.

    Example: `p2prss announce my-show -o feed.xml`
    """
    context = Context.of(ctx)

    async def main() -> None:
        import msgspec

        from p2prss.node.announcement import announce_feed
        from p2prss.node.home_paths import HomePaths

        made = await announce_feed(HomePaths.find(context.home_option), feed, gateway, at)
        advice = f"or put this line into https://YOUR-HOST/.well-known/p2prss: {made.key}"
        if output is None:
            context.output.data(made, made.xml)
        else:
            try:
                output.write_text(made.xml, "utf-8")
            except OSError as error:
                raise StorageError(f"cannot write {output}: {error.strerror or error}") from error
            context.output.data(
                msgspec.structs.replace(made, xml=""),
                f"{output}: {made.items} items, {made.advertised} of their files in the swarm",
            )
        if made.relative:
            context.output.talk(
                f"{made.relative} of its files have no address on the web, so apps without p2prss cannot play"
                " them: add --gateway URL"
            )
        context.output.talk(advice)

    context.run(main)
