"""The commands that look: list, status, show, log, paths. They work while a node runs on the same home."""

from typing import TYPE_CHECKING, Annotated, Final

import typer

from p2prss.cli.context import Context
from p2prss.cli.moments import parse_moment
from p2prss.cli.options import At, FeedArgument, OptionalFeed
from p2prss.cli.output import format_bytes, printable
from p2prss.errors import UsageError

if TYPE_CHECKING:
    from p2prss.node.episodes import ShownEpisode
    from p2prss.node.feed_log import FeedLog, LoggedChange

MAX_LOGGED: Final = 10_000  # changes of one episode


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command(name="list")(list_)
    app.command()(status)
    app.command()(show)
    app.command()(log)
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
        for feed in feeds:
            if feed.problem:
                context.output.talk(f"{feed.slug or feed.key}: {feed.problem}")
        if not feeds:
            context.output.talk("no feeds here yet; start with: p2prss publish URL, or: p2prss follow KEY")

    context.run(main)


def status(ctx: typer.Context, feed: OptionalFeed = None) -> None:
    """Tell how much of each feed is here, and what is missing.

    Example: `p2prss status my-show`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.control import node_runs
        from p2prss.node.home_paths import HomePaths
        from p2prss.node.inspection import feed_status

        home = HomePaths.find(context.home_option)
        found = await feed_status(home, feed)
        for one in found:
            context.output.data(one)
        context.output.table(
            ("NAME", "ROLE", "EPISODES", "HERE", "SIZE", "VERSION"),
            [
                (
                    one.slug,
                    one.role,
                    str(one.episodes)
                    + (f" ({one.removed_episodes} removed)" if one.removed_episodes else ""),
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
            if one.dynamic_hosts:
                hosts = printable(", ".join(one.dynamic_hosts[:5]))
                context.output.talk(f"{one.slug or one.key}: other bytes at each download from {hosts}")
            if one.degraded:
                context.output.talk(
                    f"{one.slug or one.key}: the origin's feed is so broken that parts are lost"
                )
            for problem in filter(None, (one.problem, one.source.words if one.source else None)):
                context.output.talk(f"{one.slug or one.key}: {printable(problem)}")
            if one.source is not None and one.source.next_look is not None:
                planned = f"{one.source.next_look:%Y-%m-%d %H:%M} UTC"
                runs = await node_runs(home)
                when = f"at {planned}" if runs else f"when its node runs next, not before {planned}"
                context.output.talk(f"{one.slug or one.key}: the next look at the source is {when}", level=1)

    context.run(main)


def show(
    ctx: typer.Context,
    feed: FeedArgument,
    item: Annotated[
        str | None, typer.Argument(metavar="[ITEM]", help="An episode's id or guid, or a part of its title.")
    ] = None,
    history: Annotated[bool, typer.Option("--history", help="What became of ITEM, and when.")] = False,
    at: At = None,
) -> None:
    """List a feed's episodes, newest first; or tell of one of them.

    Example: `p2prss show my-show "Episode 7" --history`
    """
    context = Context.of(ctx)
    if history and item is None:
        raise UsageError("--history is for one episode: give ITEM; for the whole feed use: p2prss log FEED")
    if history and at is not None:
        raise UsageError("give either --history or --at")
    when = parse_moment(at, option="--at", ends=True)

    async def main() -> None:
        from p2prss.node.episodes import show_feed
        from p2prss.node.feed_log import item_history
        from p2prss.node.home_paths import HomePaths

        home = HomePaths.find(context.home_option)
        if history and item is not None:
            _tell_log(context, await item_history(home, feed, item, limit=MAX_LOGGED), MAX_LOGGED)
            return
        episodes, version = await show_feed(home, feed, item, when)
        if version is not None:
            context.output.talk(f"as it was in version {version.version}, of {version.at:%Y-%m-%d %H:%M} UTC")
        for one in episodes:
            context.output.data(one)
        if item is None:
            context.output.table(
                ("DATE", "HERE", "SIZE", "ID", "TITLE"),
                [
                    (
                        f"{one.published:%Y-%m-%d}" if one.published else "",
                        "yes" if one.local else "no",
                        format_bytes(one.bytes),
                        one.item_id,
                        one.title + (f" ({_removal(one)})" if one.removed_at else ""),
                    )
                    for one in episodes
                ],
            )
        else:
            context.output.table(("WHAT", "VALUE"), [row for one in episodes for row in _details(one)])

    context.run(main)


def log(
    ctx: typer.Context,
    feed: FeedArgument,
    limit: Annotated[
        int, typer.Option("--limit", min=1, max=1_000_000, metavar="N", help="The last N changes.")
    ] = 100,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="Changes since a day, as 2025-01-31.")
    ] = None,
) -> None:
    """Tell what changed in a feed, the last change first.

    All of it comes from the feed's own signed history, also at a follower. What exactly was edited in a
    text can be told only where the older text is here as well.

    Example: `p2prss log my-show --limit 20 --since 2025-01-31`
    """
    context = Context.of(ctx)
    when = parse_moment(since, option="--since", ends=False)

    async def main() -> None:
        from p2prss.node.feed_log import feed_log
        from p2prss.node.home_paths import HomePaths

        home = HomePaths.find(context.home_option)
        _tell_log(context, await feed_log(home, feed, limit=limit, since=when), limit)

    context.run(main)


def _tell_log(context: Context, found: "FeedLog", limit: int) -> None:
    for one in found.changes:
        context.output.data(one, _line(one))
        for part in one.differences:
            for sign, text in (("-", part.before), ("+", part.after)):
                for line in text.splitlines():
                    context.output.text(f"    {sign} {part.field}: {printable(line)}")
    if found.has_more:
        context.output.talk(f"these are the last {limit} changes: more with --limit")
    if found.missing:
        context.output.talk(
            f"{found.missing} entries of the history are not here, so changes may be missing:"
            " follow or seed the feed to fetch them"
        )
    if found.broken:
        context.output.talk(f"{found.broken} entries of the history make no sense and were left out")


def _line(change: "LoggedChange") -> str:
    what = change.change.replace("-", " ")
    if change.fields or not change.fields_known:
        unknown = "" if change.fields_known else "text, which is not here as it was before"
        what += ": " + ", ".join(filter(None, [*change.fields, unknown]))
    if change.removed_as:
        what = change.removed_as.replace("-", " ")
    if change.files:
        what += f" {change.files} file{'s' * (change.files > 1)}, {format_bytes(change.bytes)}"
    when = f"{change.at:%Y-%m-%d %H:%M}" if change.at else "undated"
    return f"{when}  {printable(what)}" + (f"  {printable(change.title)}" if change.item_id else "")


def _removal(episode: "ShownEpisode") -> str:
    how = (episode.removed_as or "removed").replace("-", " ")
    return f"{how} {episode.removed_at:%Y-%m-%d}"


def _details(episode: "ShownEpisode") -> list[tuple[str, str]]:
    """An episode for a person, line by line."""
    rows = [
        ("title", episode.title),
        ("id", episode.item_id),
        ("guid", episode.guid),
        ("published", f"{episode.published:%Y-%m-%d %H:%M} UTC" if episode.published else "without a date"),
        ("first seen", f"{episode.first_seen:%Y-%m-%d %H:%M} UTC"),
    ]
    if episode.removed_at is not None:
        rows.append(("at the origin", _removal(episode)))
    for asset in episode.assets:
        size = format_bytes(asset.byte_length) if asset.byte_length else "of unknown size"
        state = asset.path or "not captured"
        rows.append((str(asset.role), f"{asset.url}, {size}, {state}"))
    return rows


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
