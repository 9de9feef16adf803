"""Keeping feeds of others: a node follows some of them, and seeds whole drives."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import ConflictError, FeedFormatError, P2prssError, UsageError, first_leaf
from p2prss.net.address import Address
from p2prss.node.events import Error, Notice, Withdrawn
from p2prss.node.feed_lookup import FoundFeed, find_feed, is_address
from p2prss.node.follower import Follower
from p2prss.node.link_text import FeedLink
from p2prss.node.open_feed import OpenFeed
from p2prss.node.orders import DEFAULT_LATEST, FollowOrder, SeedOrder, Wanted
from p2prss.node.patience import Patience, keep_trying
from p2prss.node.saved_feeds import Role, SavedFeed, new_feed
from p2prss.node.seeder import Seeder

if TYPE_CHECKING:
    from p2prss.node.node import Node

READABLE_SECONDS: Final = 5.0  # to wait for a new feed's first text before saying that it is ready
MAX_SAVED_PEERS: Final = 32  # addresses kept for one feed
CLOSED_SECONDS: Final = 1.0  # after which a wait for a feed's text sees that it was removed


async def follow(node: "Node", order: FollowOrder) -> None:
    """Replicate a feed and serve it, for ever or until all that is wanted is here.

    Raises: UsageError, NoPeersError, StorageError, DriveError, FeedFormatError.
    """
    if is_address(order.feed):
        found: FoundFeed | None = await find_feed(order.feed, node.settings.home.incoming)
    else:
        found = FoundFeed(FeedLink.parse(order.feed), order.named_by) if order.named_by else None
    link = found.link if found is not None else FeedLink.parse(order.feed)
    known = node.saved.get(link.key)
    is_new = known is None or bool(known.named_by)
    saved = _remember(node, link, Role.FOLLOW, order)
    named_by = found.addresses if found is not None and is_new else ()
    if named_by != saved.named_by:
        saved = node.saved.save(msgspec.structs.replace(saved, named_by=named_by))
    feed = await node.open_saved(saved, eager=True)
    node.library.add(feed)
    node.library.ready = True
    _dial_all(node, saved)
    if found is not None:
        await _check_origin(node, feed, found, order, is_new=is_new)
        if feed.scope.cancel_called:  # removed meanwhile
            return
    wanted = Wanted(latest=saved.latest, since=saved.since)
    follower = Follower(feed, wanted, node.emit, partial(node.rename, feed))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell_when_readable, node, feed)
        patience = Patience(order.patience, partial(node.why_nobody, feed))
        await _keep(node, feed, partial(follower.run, patience=patience), once=order.once)
        nursery.cancel_scope.cancel()


async def _check_origin(
    node: "Node", feed: OpenFeed, found: FoundFeed, order: FollowOrder, *, is_new: bool
) -> None:
    """Wait for the feed's own word about its origin.

    Raises: FeedFormatError when it is another one than that which named the feed; NoPeersError.
    """
    node.emit(Notice(message=f"{found.site} names the feed {feed.saved.key}", key=feed.saved.key))
    async with trio.open_nursery() as nursery:
        if order.once:
            nursery.start_soon(Patience(order.patience, partial(node.why_nobody, feed)).watch, feed)
        while feed.drive.version <= 1 and not feed.scope.cancel_called:
            with trio.move_on_after(CLOSED_SECONDS):
                await feed.drive.wait_changed(feed.drive.version)
        if feed.scope.cancel_called:
            nursery.cancel_scope.cancel()
            return
        info = await keep_trying(feed.archive.info)
        nursery.cancel_scope.cancel()
    try:
        found.check(info)
    except FeedFormatError:
        if is_new:
            node.delete_feed(feed)
        raise
    if feed.saved.named_by:
        feed.saved = node.saved.save(msgspec.structs.replace(feed.saved, named_by=()))
    node.emit(Notice(message=f"and the feed names {found.site}: it is their own", key=feed.saved.key))


async def seed(node: "Node", order: SeedOrder) -> None:
    """Keep whole drives, for ever or until they are here; one that fails does not stop the others.

    Raises: when all have ended, what the first of those that failed met: UsageError, NoPeersError,
    StorageError, DriveError.
    """
    links = {link.key: link for link in map(FeedLink.parse, order.feeds)}
    failures: list[P2prssError] = []

    async def keep(link: FeedLink) -> None:
        try:
            await _seed_one(node, link, order)
        except P2prssError as error:
            failures.append(error)
        except BaseExceptionGroup as group:
            ours, others = group.split(P2prssError)
            if others is not None or ours is None:
                raise
            failures.append(first_leaf(ours))
        else:
            return
        if len(links) > 1:
            key, code = format_key(link.key), failures[-1].exit_code
            node.emit(Error(code=code, message=f"{key}: {failures[-1]}", key=key))

    async with trio.open_nursery() as nursery:
        for link in links.values():
            nursery.start_soon(keep, link)
    if len(failures) > 1:
        raise type(failures[0])(f"{len(failures)} of {len(links)} failed, the first: {failures[0]}")
    if failures:
        raise failures[0]


async def _seed_one(node: "Node", link: FeedLink, order: SeedOrder) -> None:
    saved = _remember(node, link, Role.SEED)
    feed = await node.open_saved(saved, eager=True)
    _dial_all(node, saved)
    node.emit(node.ready(feed, with_feed_url=False))
    patience = Patience(order.patience, partial(node.why_nobody, feed))
    await _keep(node, feed, partial(Seeder(feed, node.emit).run, patience=patience), once=order.once)


async def _keep(node: "Node", feed: OpenFeed, run: Callable[..., Awaitable[None]], *, once: bool) -> None:
    """Run whoever keeps a feed. One in conflict gets nothing new; what is here stays, and is served."""
    try:
        if feed.conflict is not None:
            raise feed.conflict
        with feed.scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_heed_withdrawal, node, feed)
                await run(once=once)
                nursery.cancel_scope.cancel()
        if feed.conflict is not None:  # of its second log, which was not open yet
            raise feed.conflict
    except (ConflictError, BaseExceptionGroup) as error:
        ours, others = error.split(ConflictError) if isinstance(error, BaseExceptionGroup) else (error, None)
        if once or ours is None:
            raise
        node.tell_conflict(feed.db.log)
        if others is not None:  # the end of the node, perhaps, which came at the same moment
            raise others from None
        await trio.sleep_forever()


async def _heed_withdrawal(node: "Node", feed: OpenFeed) -> None:
    """Share a feed no longer once its publisher has taken it back; what is here stays."""
    while True:
        version = feed.drive.version
        with suppress(P2prssError):  # another drive than a feed
            if feed.drive.db.length and (await keep_trying(feed.archive.info)).withdrawn is not None:
                break
        await feed.drive.wait_changed(version)
    node.stop_sharing(feed.db.log.discovery_key)
    node.exchange.forget((await feed.blobs()).key)
    node.emit(Withdrawn(key=feed.saved.key, title=feed.title, version=version))


async def _tell_when_readable(node: "Node", feed: OpenFeed) -> None:
    """Say that the feed is ready once an app that asks for it gets it, or after a while anyway."""
    with trio.move_on_after(READABLE_SECONDS):
        try:
            while not feed.drive.db.length:
                await feed.db.session.changed.wait()
            await feed.archive.channel()
        except P2prssError:
            pass  # the follower meets it too, and tells
    if not feed.drive.db.length and not feed.peers:
        node.emit(Notice(message=f"{node.why_nobody(feed)}; still trying", key=feed.saved.key))
    node.emit(node.ready(feed, with_feed_url=True))


def _remember(node: "Node", link: FeedLink, role: Role, order: FollowOrder | None = None) -> SavedFeed:
    """Save what is asked for, on top of what is known of the feed already."""
    known = node.saved.get(link.key)
    saved = known or new_feed(link.key, role)
    if saved.role is Role.PUBLISH:
        if role is Role.FOLLOW:
            raise UsageError("this feed is published from this very home; nothing to follow")
        return saved
    peers = tuple(dict.fromkeys([*map(str, link.peers), *saved.peers]))[:MAX_SAVED_PEERS]
    changes: dict[str, object] = {
        "role": role,
        "problem": "",
        "peers": peers,
        "name": link.name or saved.name,
    }
    is_change = known is not None and known.role not in (role, Role.UNKNOWN)
    if order is not None:
        wanted = order.wanted
        if wanted is None and (known is None or known.role is not role):
            wanted = Wanted(latest=DEFAULT_LATEST)
        if wanted is not None:
            changes |= {"latest": wanted.latest, "since": wanted.since}
        changes["removed"] = order.removed or saved.removed
    if is_change:
        node.emit(Notice(message=f"{saved.label}: {_CHANGE_OF_ROLE[role]}", key=saved.key))
    return node.saved.save(msgspec.structs.replace(saved, **changes))


_CHANGE_OF_ROLE: Final = {
    Role.FOLLOW: "all of it was kept until now (seed); from now on it is served to podcast apps, and of new"
    " episodes those are kept that follow is asked for",
    Role.SEED: "it was followed until now; from now on all of it is kept, and it is served to podcast apps no"
    " longer: for both use p2prss follow KEY --all",
}


def _dial_all(node: "Node", saved: SavedFeed) -> None:
    for text in saved.peers:
        with suppress(UsageError):  # then it was never one of ours
            node.dial(Address.parse(text))
