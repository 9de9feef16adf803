"""The commands that care for feeds: verify, export, remove, unpublish."""

from dataclasses import replace
from typing import Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.moments import parse_moment
from p2prss.cli.network_options import NetworkOptions, with_network
from p2prss.cli.options import (
    At,
    FeedArgument,
    Folder,
    OptionalFeed,
)
from p2prss.cli.output import format_bytes
from p2prss.errors import CorruptLogError, UsageError


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(verify)
    app.command()(export)
    app.command()(remove)
    app.command()(unpublish)


def verify(ctx: typer.Context, feed: OptionalFeed = None) -> None:
    """Read everything that is stored and check it against the signed heads.

    Nothing is changed. Exits with 4 when something is damaged; a node that runs fetches damaged
    blocks again by itself when it meets them.

    Example: `p2prss verify`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.verification import verify_feeds

        reports = await verify_feeds(HomePaths.find(context.home_option), feed, context.output.event)
        for report in reports:
            context.output.data(report)
        context.output.table(
            ("NAME", "BLOCKS", "SIZE", "RESULT"),
            [
                (
                    report.slug,
                    str(report.blocks),
                    format_bytes(report.bytes),
                    "ok" if report.ok else f"{report.damaged_blocks or 'all'} damaged: {report.problem}",
                )
                for report in reports
            ],
        )
        damaged = [report for report in reports if not report.ok]
        if damaged:
            more = f"; and {len(damaged) - 1} more feeds" if len(damaged) > 1 else ""
            raise CorruptLogError(
                f"{damaged[0].slug or damaged[0].key} is damaged: {damaged[0].problem}{more}"
            )

    context.run(main)


def export(ctx: typer.Context, feed: FeedArgument, folder: Folder, at: At = None) -> None:
    """Write a show as plain files: audio by title, and a feed.xml beside it that names them.

    Files that are there already with the right size are kept.

    Example: `p2prss export my-show ~/Podcasts/my-show`
    """
    context = Context.of(ctx)
    when = parse_moment(at, option="--at", ends=True)

    async def main() -> None:
        from p2prss.node.export import export_feed
        from p2prss.node.home_paths import HomePaths

        home = HomePaths.find(context.home_option)
        report = await export_feed(home, feed, folder, context.output.event, at=when)
        context.output.data(
            report,
            f"{report.files} files, {format_bytes(report.bytes)}, in {report.folder}"
            + (f"; {report.missing} are not here yet" if report.missing else ""),
        )

    context.run(main)


def remove(
    ctx: typer.Context,
    feed: FeedArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
) -> None:
    """Delete a feed and everything stored of it from this home. This cannot be undone.

    Others who have copies keep them. A feed that this home publishes can be signed again later, as its
    key comes from the home's primary key and the record that is deleted here: export it first.

    Example: `p2prss remove my-show --yes`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import find_feed, remove_feed

        home = HomePaths.find(context.home_option)
        found = await find_feed(home, feed)
        if not yes:
            if context.output.json or not typer.get_text_stream("stdin").isatty():
                raise UsageError("removing a feed can't be undone: add --yes")
            typer.confirm(f"Delete {found.label} ({found.role}) and all that is stored of it?", abort=True)
        context.output.data(await remove_feed(home, found), f"removed {found.label}")

    context.run(main)


@with_network("peer", "bootstrap", "no_dht", "no_lan")
def unpublish(
    ctx: typer.Context,
    network: NetworkOptions,
    feed: FeedArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask.")] = False,
    once: Annotated[bool, typer.Option("--once", help="Don't wait to tell peers.")] = False,
) -> None:
    """Take back a feed that this home publishes: its files are dropped, and it is announced no longer.

    A signed note takes its place, which p2prss seedboxes and followers heed: they stop sharing. What others
    have copied already cannot be recalled, and other programs may go on sharing it. For ten minutes the
    note is given to whoever is connected; later ones see it when they meet somebody who has it. The same
    source can be published again, under a new key.

    Example: `p2prss unpublish my-show`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import find_feed
        from p2prss.node.unpublishing import SPREAD_SECONDS, unpublish

        found = await find_feed(HomePaths.find(context.home_option), feed)
        if not yes:
            if context.output.json or not typer.get_text_stream("stdin").isatty():
                raise UsageError("taking a feed back can't be undone: add --yes")
            typer.confirm(f"Take {found.label} back? Copies that others have stay with them.", abort=True)
        settings = replace(network, no_http=True).settings(context.home_option)
        seconds = 0.0 if once else SPREAD_SECONDS
        await unpublish(settings, found.key, context.output.event, seconds=seconds)

    context.run(main)
