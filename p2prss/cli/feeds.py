"""The commands that run a node: publish, follow, seed, up."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import typer

from p2prss.cli.context import Context
from p2prss.cli.network_options import APPS, PEERS, NetworkOptions, with_network
from p2prss.cli.options import All, Latest, Once, Removed, Timeout
from p2prss.errors import UsageError

if TYPE_CHECKING:
    from p2prss.node.orders import Order, Wanted

MAX_SOURCE: Final = 4096  # characters that are read of a SOURCE on stdin
SEEN_BY_ALL: Final = (
    "stands on this command line, which all users of this machine can read while it runs:"
    " write the address into a file, and use p2prss publish - < FILE"
)


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(publish)
    app.command()(follow)
    app.command()(seed)
    app.command()(up)


@with_network(*PEERS, *APPS)
def publish(
    ctx: typer.Context,
    network: NetworkOptions,
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A feed's URL or file, a folder of audio, one with a site and its feed, or an OPML list;"
            " - reads it from stdin, for a URL that nobody else should see.",
        ),
    ],
    once: Annotated[bool, typer.Option("--once", help="End when the mirror is complete.")] = False,
    latest: Latest = None,
    all_: All = False,
    since: Annotated[
        datetime | None, typer.Option(formats=["%Y-%m-%d"], help="Media of episodes since that day.")
    ] = None,
    no_media: Annotated[bool, typer.Option("--no-media", help="The feed's text only.")] = False,
    alternates: Annotated[
        bool | None,
        typer.Option(
            "--alternates/--no-alternates",
            help="The other editions of episodes as well (podcast:alternateEnclosure), or not.",
            show_default=False,
        ),
    ] = None,
    recapture: Annotated[
        Literal["never", "on-change", "keep-both"] | None,
        typer.Option(
            help="Where the source announces that an episode's file has changed: keep the first capture; "
            "replace it; or keep the new one beside it.",
        ),
    ] = None,
    removed: Removed = None,
    adopt: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            exists=True,
            file_okay=False,
            help="Take over episodes that another program has downloaded there (gPodder, Podgrab, PodFetch,"
            " podcast-dl, podcast-archiver), where the source proves that they are the same.",
        ),
    ] = None,
    feed: Annotated[
        str | None,
        typer.Option(
            metavar="FEED",
            help="A feed published here that comes from SOURCE from now on, such as a folder that was moved.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="What to call the feed instead of its title; '' for the title again.")
    ] = None,
    interval: Annotated[
        str | None,
        typer.Option(
            metavar="TIME", help="Between looks at the source: 90s, 30m, 6h; else by the show's own rhythm."
        ),
    ] = None,
    allow_private: Annotated[
        bool,
        typer.Option(
            "--allow-private",
            help="Publish a source that only some may read, with a password or a token.",
        ),
    ] = False,
    credentials: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Lines 'Authorization: …' and 'Cookie: …' for the source's server; with --allow-private.",
        ),
    ] = None,
    allow_private_host: Annotated[
        list[str] | None,
        typer.Option(
            metavar="HOST[:PORT]",
            help="Fetch what the feed names from this host, though it is on the local network; repeatable.",
        ),
    ] = None,
    websub_callback: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Where the internet reaches this node's HTTP server: hubs then tell of news."
        ),
    ] = None,
    user_agent: Annotated[
        str | None, typer.Option(metavar="TEXT", help="How to introduce ourselves to the source.")
    ] = None,
    allow_locked: Annotated[
        bool,
        typer.Option("--allow-locked", help="Announce a feed that its publisher has locked: you have leave."),
    ] = False,
    forget_options: Annotated[
        bool,
        typer.Option("--forget-options", help="Drop what was asked for of SOURCE before, credentials too."),
    ] = False,
    unlisted: Annotated[
        bool | None,
        typer.Option(
            "--unlisted/--listed",
            help="Announce it nowhere, until --listed: it reaches whom you give link and address.",
            show_default=False,
        ),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Fetch a very large show without asking.")] = False,
) -> None:
    """Mirror a feed into a signed one and share it; print its link.

    The same SOURCE in the same home is always the same feed, so running it again carries on. A folder of
    audio becomes a podcast by its tags and, if there is one, its show.toml; a site is published with its
    pages; of an OPML list each feed gets its own key.

    What is asked for is saved in the home: `p2prss up` does it again. All but which episodes' media is wanted
    holds for this command, too, until an option says otherwise: the interval, credentials (which never leave
    the home), --unlisted and the like. --forget-options starts afresh; an unlisted feed stays that.

    A source that wants a token: `p2prss publish URL --credentials FILE --allow-private`. If the URL has it in
    itself: `p2prss publish - --allow-private < FILE`, as all users of a machine can read command lines.

    Example: `p2prss publish https://example.org/feed.xml`
    """
    from p2prss.node.events import Notice
    from p2prss.node.orders import PublishOrder, RemovedPolicy
    from p2prss.node.source_access import secret_in, source_access

    access = source_access(
        user_agent=user_agent, private_hosts=allow_private_host or (), credentials=credentials, environ={}
    )
    if websub_callback is not None and network.no_http:
        raise UsageError("--websub-callback needs the HTTP server: leave out --no-http")
    wanted = _wanted(latest=latest, all_=all_, since=since, none=no_media)
    context = Context.of(ctx)
    if source == "-":
        source = _read_source(context)
    elif allow_private and (secret := secret_in(source)):
        context.output.event(Notice(message=f"{secret} {SEEN_BY_ALL}"))
    order = PublishOrder(
        source=source,
        once=once,
        wanted=wanted,
        name=name,
        interval=_seconds(interval) if interval is not None else None,
        access=access,
        websub_callback=websub_callback,
        confirmed=yes,
        alternates=alternates,
        recapture=recapture,
        removed=RemovedPolicy(removed) if removed else None,
        allow_private=allow_private,
        allow_locked=allow_locked,
        unlisted=unlisted,
        forget_options=forget_options,
        feed=feed,
        adopt=adopt,
    )
    _run(ctx, order, network)


@with_network(*PEERS, *APPS)
def follow(
    ctx: typer.Context,
    network: NetworkOptions,
    feed: Annotated[
        str, typer.Argument(metavar="KEY|LINK|URL", help="A feed's key or link, or its address.")
    ],
    latest: Latest = None,
    all_: All = False,
    on_demand: Annotated[
        bool, typer.Option("--on-demand", help="Fetch an episode when it is played.")
    ] = False,
    removed: Removed = None,
    once: Once = False,
    timeout: Timeout = None,
) -> None:
    """Follow a feed: print a local RSS address for any podcast app, and keep it fresh.

    All episodes are listed; the newest 3 are kept here, others come when they are played: what else is asked
    for is saved, and holds until an option says otherwise. Given the address
    of a feed or a site, its key is asked for there, and the feed must name that site in return.

    Example: `p2prss follow p2prss://KEY` or `p2prss follow https://example.org/feed.xml`
    """
    from p2prss.node.orders import FollowOrder, RemovedPolicy

    wanted = None  # as asked for before
    if latest is not None or all_ or on_demand:
        wanted = _wanted(latest=latest, all_=all_, none=on_demand)
    order = FollowOrder(
        feed=feed,
        once=once,
        wanted=wanted,
        removed=RemovedPolicy(removed) if removed else None,
        patience=_patience(timeout, once=once),
    )
    _run(ctx, order, network)


@with_network(*PEERS)
def seed(
    ctx: typer.Context,
    network: NetworkOptions,
    keys: Annotated[list[str] | None, typer.Argument(metavar="KEY...", help="Keys or links.")] = None,
    file: Annotated[
        typer.FileText | None,
        typer.Option("--file", help="More keys, one a line; # starts a comment.", errors="replace"),
    ] = None,
    once: Once = False,
    timeout: Timeout = None,
) -> None:
    """Keep whole feeds, or any Hyperdrive, and share them.

    Example: `p2prss seed KEY1 KEY2`
    """
    from p2prss.node.events import Error
    from p2prss.node.link_text import FeedLink
    from p2prss.node.orders import SeedOrder

    wanted, bad = list(keys or []), 0
    for number, line in enumerate(file or (), 1):
        if link := line.partition("#")[0].strip():
            try:
                FeedLink.parse(link)
                wanted.append(link)
            except UsageError as error:
                bad += 1
                text = f"{file.name if file else ''}, line {number}: {error}; the others go on"
                Context.of(ctx).output.event(Error(code=error.exit_code, message=text))
    if not wanted:
        raise UsageError("nothing to seed: give a KEY or --file LIST")
    order = SeedOrder(feeds=tuple(wanted), once=once, patience=_patience(timeout, once=once))
    _run(ctx, order, replace(network, no_http=True))
    if bad:
        raise typer.Exit(UsageError.exit_code)


@with_network(*PEERS, *APPS)
def up(
    ctx: typer.Context,
    network: NetworkOptions,
) -> None:
    """Run every feed that is saved in this home: publish, follow and seed each as it was asked for.

    Shows can be added and removed on the page meanwhile; `p2prss page` prints its address.

    Example: `p2prss up`
    """
    from p2prss.node.orders import UpOrder

    _run(ctx, UpOrder(), network)


def _read_source(context: Context) -> str:
    """The source that stands on stdin, where no list of processes shows it. Raises: UsageError."""
    import sys

    if sys.stdin.isatty():
        context.output.talk("SOURCE, in one line:")
    text = sys.stdin.readline(MAX_SOURCE + 1).strip()
    if not text or len(text) > MAX_SOURCE:
        raise UsageError("SOURCE is -, so its first line must come on stdin: p2prss publish - < FILE")
    return text


def _run(ctx: typer.Context, order: "Order", network: NetworkOptions) -> None:
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.node import run_order

        settings = network.settings(context.home_option)
        await run_order(settings, order, context.output.event, context.confirm)

    context.run(main)


def _wanted(
    *,
    latest: int | None,
    all_: bool,
    none: bool,
    since: datetime | None = None,
) -> "Wanted":
    from p2prss.node.orders import Wanted

    if (latest is not None) + all_ + none + (since is not None) > 1:
        raise UsageError("give only one of the options that say which media to fetch")
    if latest is not None or none:
        return Wanted(latest=latest or 0)
    if since is not None:
        return Wanted(since=since.replace(tzinfo=UTC))
    return Wanted()


def _patience(timeout: float | None, *, once: bool) -> float | None:
    if timeout is not None and not once:
        raise UsageError("--timeout is for --once: without it a node never gives up")
    return timeout


def _seconds(text: str) -> float:
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    number, unit = (text[:-1], units[text[-1]]) if text[-1:] in units else (text, 1)
    try:
        seconds = float(number) * unit
    except ValueError:
        seconds = 0.0
    if not 10 <= seconds <= 30 * 86400:
        raise UsageError(f"--interval {text!r}: write 90s, 30m or 6h, from 10 s to 30 days")
    return seconds
