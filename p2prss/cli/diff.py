"""The command that shows what a served feed has changed: diff."""

from typing import Annotated, Final

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import DEFAULT_HTTP, FeedArgument

_WIDTH: Final = 70  # characters of a value in the table; --json has all of it


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(diff)


def diff(
    ctx: typer.Context,
    feed: FeedArgument,
    fetch: Annotated[
        bool,
        typer.Option("--fetch", help="Compare with what the origin says now, not with what was read last."),
    ] = False,
) -> None:
    """Show what differs between the origin's feed and the one served here: one line each, with its rule.

    The rules are those of the feed format. What stands under `changed` falls under none of them: the origin
    has changed since the last update.

    Example: `p2prss diff my-show --fetch`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.feed_diff import diff_feed
        from p2prss.node.home_paths import HomePaths

        found = await diff_feed(
            HomePaths.find(context.home_option), feed, base_url=f"http://{DEFAULT_HTTP}", fetch=fetch
        )
        for one in found:
            context.output.data(one)
        context.output.table(
            ("RULE", "WHERE", "ELEMENT", "ORIGIN", "SERVED"),
            [
                (one.rule, _short(one.where), one.element, _short(one.origin), _short(one.served))
                for one in found
            ],
        )
        if not found:
            context.output.talk("no differences")

    context.run(main)


def _short(value: str | None) -> str:
    text = " ".join((value or "-").split())
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
