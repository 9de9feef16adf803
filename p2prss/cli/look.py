"""The commands that look: list, status, show, paths. They work while a node runs on the same home."""

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import FeedArgument, OptionalFeed
from p2prss.cli.output import format_bytes, printable


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="list")(list_)
    app.command()(status)
    app.command()(show)
    app.command()(paths)


def list_(ctx: typer.Context) -> None:
    """List the feeds of this home.

    Example: `p2prss list`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import list_feeds

        feeds = await list_feeds(HomePaths.find(context.home_option))
        for feed in feeds:
            context.output.data(feed)
        context.output.table(
            ("NAME", "ROLE", "TITLE", "KEY"), [(feed.slug, feed.role, feed.title, feed.key) for feed in feeds]
        )
        if not feeds:
            context.output.talk("no feeds here yet; start with: p2prss publish URL, or: p2prss follow KEY")

    context.run(main)


def status(ctx: typer.Context, feed: OptionalFeed = None) -> None:
    """Tell how much of each feed is here, and what is missing.

    Example: `p2prss status my-show`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import feed_status

        found = await feed_status(HomePaths.find(context.home_option), feed)
        for one in found:
            context.output.data(one)
        context.output.table(
            ("NAME", "ROLE", "EPISODES", "HERE", "SIZE", "VERSION"),
            [
                (
                    one.slug,
                    one.role,
                    str(one.episodes),
                    f"{one.local_media_files}/{one.media_files} files"
                    + (f", {one.uncaptured_files} not captured" if one.uncaptured_files else "")
                    + (f", {one.waiting_files} asked for later" if one.waiting_files else "")
                    + (f", {one.dynamic_files} dynamic" if one.dynamic_files else ""),
                    f"{format_bytes(one.local_bytes)} of {format_bytes(one.bytes)}",
                    str(one.version),
                )
                for one in found
            ],
        )
        for one in found:
            if one.problem is not None:
                context.output.talk(f"{one.slug or one.key}: {printable(one.problem)}")

    context.run(main)


def show(ctx: typer.Context, feed: FeedArgument) -> None:
    """List a feed's episodes, newest first.

    Example: `p2prss show my-show`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import show_feed

        episodes = await show_feed(HomePaths.find(context.home_option), feed)
        for one in episodes:
            context.output.data(one)
        context.output.table(
            ("DATE", "HERE", "SIZE", "TITLE"),
            [
                (
                    one.published.strftime("%Y-%m-%d") if one.published else "",
                    "yes" if one.local else "no",
                    format_bytes(one.bytes),
                    one.title,
                )
                for one in episodes
            ],
        )

    context.run(main)


def paths(ctx: typer.Context) -> None:
    """Print where this home keeps its data.

    Example: `p2prss paths`
    """
    from p2prss.node.home_paths import HomePaths

    context = Context.of(ctx)
    home = HomePaths.find(context.home_option)
    places = {
        "home": home.path,
        "database": home.database,
        "blocks": home.cores,
        "keys": home.keys,
        "incoming": home.incoming,
        "lock": home.lock,
    }
    context.output.data({name: str(path) for name, path in places.items()})
    context.output.table(("WHAT", "WHERE"), [(name, str(path)) for name, path in places.items()])
