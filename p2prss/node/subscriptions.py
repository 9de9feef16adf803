"""Lists of feeds: a whole library published or followed by one node, and lists written for other apps.

Each feed is on its own: one that fails is told, and the others go on.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import trio

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.errors import FeedError, P2prssError, StorageError, UsageError
from p2prss.feed.origin.url import path_of, redact
from p2prss.feed.sources.opml import (
    HEAD_BYTES,
    MAX_OPML_BYTES,
    Subscription,
    is_opml,
    local_feed_key,
    parse_opml,
    render_opml,
)
from p2prss.node.control import ask_status
from p2prss.node.events import Error, Notice
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import open_for_reading
from p2prss.node.keeping import follow
from p2prss.node.link_text import FeedLink
from p2prss.node.orders import FollowOrder, ImportOrder, PublishOrder
from p2prss.node.publishing import publish_feed
from p2prss.node.saved_feeds import Role
from p2prss.node.source_access import source_access

if TYPE_CHECKING:
    from p2prss.node.node import Node
    from p2prss.node.publisher import Confirm

UPDATES_AT_ONCE: Final = 4  # feeds of a library that are looked at or mirrored at the same time
RETRY_SECONDS: Final = 1800.0  # before a feed of a list is tried again that was never had
RETRY_JITTER: Final = 0.1  # share of the wait by which tries are spread
DEFAULT_ADDRESS: Final = "http://127.0.0.1:7737"  # of the local feeds, where no node runs

LINK_SCHEMES: Final = ("p2prss://", "hyper://", "pear://")


async def library_of(source: str) -> list[Subscription] | None:
    """The feeds that a local OPML file lists; None for any other source.

    Raises: FeedFormatError for OPML that cannot be read, or lists nothing; FeedError when the file cannot be.
    """
    parts = urlsplit(source)
    if parts.scheme != "file":
        return None
    path = path_of(parts)

    def read() -> list[Subscription] | None:
        if not path.is_file():
            return None
        with path.open("rb") as file:
            if not is_opml(file.read(HEAD_BYTES)):
                return None
        return read_list(path)

    try:
        return await trio.to_thread.run_sync(read)
    except OSError:
        return None  # whoever fetches it tells


def read_list(path: Path) -> list[Subscription]:
    """The feeds of an OPML file. Raises: FeedError, FeedFormatError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_OPML_BYTES + 1)
    except OSError as error:
        raise FeedError(f"{path} cannot be read: {(error.strerror or 'no file').lower()}") from None
    found = parse_opml(data)
    if not found:
        raise FeedError(f"{path.name} lists no feeds")
    return found


async def publish_library(
    node: "Node", order: PublishOrder, feeds: list[Subscription], confirm: "Confirm"
) -> None:
    """Publish every feed of a list, a few at a time; each has its own key.

    Raises: with ``once``, when some failed, the first one's kind of error; StorageError ends all.
    """
    if order.name is not None:
        raise UsageError("--name is for one feed, not for a list of them")
    if order.access is not None and order.access.credentials:
        raise UsageError("--credentials is for one feed: each server of a list would be sent them")
    node.emit(Notice(message=f"{len(feeds)} feeds are listed"))
    turn, lock = trio.CapacityLimiter(UPDATES_AT_ONCE), trio.Lock()

    async def ask(question: str) -> bool:
        async with lock:
            return await confirm(question)

    jobs = [
        _Job(feed, partial(_publish_one, node, replace(order, source=feed.url), ask, turn)) for feed in feeds
    ]
    await _run_all(node, jobs, once=order.once, verb="published")


async def run_import(node: "Node", order: ImportOrder, confirm: "Confirm") -> None:
    """Follow and publish what a list names, in one node.

    Raises: as ``publish_library``.
    """
    turn = trio.CapacityLimiter(UPDATES_AT_ONCE)
    jobs = [
        _Job(feed, partial(follow, node, FollowOrder(feed.url, order.once, order.wanted, order.patience)))
        for feed in order.follow
    ]
    jobs += [
        _Job(feed, partial(_publish_one, node, PublishOrder(feed.url, order.once), confirm, turn))
        for feed in order.publish
    ]
    await _run_all(node, jobs, once=order.once, verb="imported")


async def _publish_one(
    node: "Node", order: PublishOrder, confirm: "Confirm", turn: trio.CapacityLimiter
) -> None:
    """One feed of a list: whoever wrote that may lead us neither to files nor into the local network."""
    if not order.source.startswith(("http://", "https://")):
        raise UsageError("only http and https addresses of a list are published")
    access = replace(order.access or source_access(), source_may_be_private=False)
    await publish_feed(node, replace(order, access=access), confirm, turn=turn)


@dataclass(frozen=True)
class _Job:
    feed: Subscription
    run: Callable[[], Awaitable[None]]

    @property
    def label(self) -> str:
        return self.feed.title or redact(self.feed.url)


async def _run_all(node: "Node", jobs: list[_Job], *, once: bool, verb: str) -> None:
    failures: list[P2prssError] = []
    random = Random()

    async def keep(job: _Job) -> None:
        while True:
            try:
                await job.run()
                return
            except StorageError:
                raise
            except P2prssError as error:
                node.emit(Error(code=error.exit_code, message=f"{job.label}: {error}"))
                if once:
                    failures.append(error)
                    return
            await trio.sleep(RETRY_SECONDS * random.uniform(1 - RETRY_JITTER, 1 + RETRY_JITTER))

    async with trio.open_nursery() as nursery:
        for job in jobs:
            nursery.start_soon(keep, job)
    if failures:
        kinds = {error.exit_code: error for error in failures}
        kind = type(failures[0]) if len(kinds) == 1 else P2prssError
        raise kind(f"{len(failures)} of {len(jobs)} feeds could not be {verb}")


# ---- lists for and from other apps


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What a list means for this home: links to follow, own feeds, and feeds that are none of p2prss."""

    follow: tuple[Subscription, ...]
    own: tuple[Subscription, ...]
    ordinary: tuple[Subscription, ...]
    unknown: tuple[Subscription, ...]  # neither a link nor a web address


async def plan_import(home: HomePaths, path: Path) -> ImportPlan:
    """Sort the feeds of an OPML file by what is to be done with them. Raises: FeedError, FeedFormatError."""
    feeds = await trio.to_thread.run_sync(read_list, path)
    own: set[str] = set()
    if home.exists:
        async with open_for_reading(home) as (saved, _, _):
            own = {feed.key for feed in saved.all() if feed.role is Role.PUBLISH}
    found: dict[str, list[Subscription]] = {"follow": [], "own": [], "ordinary": [], "unknown": []}
    for feed in feeds:
        kind, one = _sorted(feed, own)
        found[kind].append(one)
    return ImportPlan(*(tuple(found[kind]) for kind in ("follow", "own", "ordinary", "unknown")))


def _sorted(feed: Subscription, own: set[str]) -> tuple[str, Subscription]:
    try:
        if feed.url.startswith(LINK_SCHEMES):
            link = feed.url
            key = format_key(FeedLink.parse(link).key)
        elif (named := local_feed_key(feed.url)) is not None:
            link = key = format_key(parse_key(named))
        else:
            is_web = urlsplit(feed.url).scheme in ("http", "https")
            return ("ordinary" if is_web else "unknown"), feed
    except (UsageError, ValueError):
        return "unknown", feed
    return ("own" if key in own else "follow"), Subscription(feed.title, link)


async def export_list(home: HomePaths) -> tuple[bytes, int]:
    """The local addresses of this home's feeds as OPML, and how many there are.

    They are those of the node that runs, else the usual ones. Raises: StorageError.
    """
    address = DEFAULT_ADDRESS
    feeds: list[Subscription] = []
    if home.exists:
        with suppress(P2prssError):  # none runs
            address = (await ask_status(home)).http or address
        async with open_for_reading(home) as (saved, _, _):
            feeds = [
                Subscription(feed.label, f"{address.rstrip('/')}/feeds/{feed.key}/feed.xml")
                for feed in saved.all()
                if feed.role in (Role.PUBLISH, Role.FOLLOW)
            ]
    return render_opml("Podcasts of this p2prss", feeds), len(feeds)


def write_list(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. Raises: UsageError."""
    new = path.with_name(f".{path.name}.new")
    try:
        new.write_bytes(data)
        new.replace(path)
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {(error.strerror or str(error)).lower()}") from None
