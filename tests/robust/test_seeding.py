"""When a seeder has everything: cleared blocks are gone for good, and liars promise what never comes."""

from collections.abc import Awaitable, Callable

import pytest
import trio
from trio.testing import MockClock

from p2prss.crypto.key_text import format_key
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.node.events import Event, Synced
from p2prss.node.open_feed import FeedOpener, OpenFeed
from p2prss.node.saved_feeds import Role, new_feed, new_seed_name
from p2prss.node.seeder import Seeder
from p2prss.wire.messages import Range, Sync
from tests.fakes.lying_peer import LyingPeer
from tests.robust.conftest import Scene, let_time_fly


async def published(exchange: Exchange) -> OpenFeed:
    """A drive whose second version has replaced, and cleared, a file of the first."""
    opener, seed_name = FeedOpener(exchange.store, exchange), new_seed_name()
    key = opener.new_own_key(seed_name)
    saved = new_feed(key, Role.PUBLISH)
    saved = type(saved)(key=saved.key, role=saved.role, created=saved.created, seed_name=seed_name)
    feed = await opener.open(saved, eager=False)
    await feed.drive.put("/old", b"first version" * 10_000)
    await feed.drive.put("/kept", b"kept" * 50_000)
    entry = await feed.drive.entry("/old")
    await feed.drive.put("/old", b"second version" * 10_000)
    assert entry is not None
    await feed.drive.clear(entry)
    return feed


async def seeded(scene: Scene, feed: OpenFeed) -> tuple[OpenFeed, list[Event]]:
    """The same drive, once it is all at the reader's."""
    opener = FeedOpener(scene.reader.store, scene.reader)
    copy = await opener.open(new_feed(feed.key, Role.SEED), eager=True)
    events: list[Event] = []
    await Seeder(copy, events.append).run(once=True)
    return copy, events


async def check(copy: OpenFeed, feed: OpenFeed, events: list[Event]) -> None:
    assert [event.version for event in events if isinstance(event, Synced)] == [feed.drive.version]
    assert await copy.drive.get("/old") == b"second version" * 10_000
    assert await copy.drive.get("/kept") == b"kept" * 50_000
    blobs, own = await copy.blobs(), await feed.blobs()
    assert blobs.held_total == own.held_total < own.length


async def test_what_its_owner_has_cleared_is_not_waited_for(scene: Scene, mock_clock: MockClock) -> None:
    let_time_fly(mock_clock)
    feed = await published(scene.writer)
    scene.connect_honest()
    with trio.fail_after(60):
        copy, events = await seeded(scene, feed)
    await check(copy, feed, events)


async def says_nothing(peer: LyingPeer) -> None:
    """The channel is open, and it never says where it stands."""


async def promises_more(peer: LyingPeer) -> None:
    await peer.say(Range(0, 2**50), Sync(0, 2**50, 0, can_upgrade=True))


async def promises_more_that_it_cannot_prove(peer: LyingPeer) -> None:
    await peer.say(Sync(0, 2**50, 0))


async def promises_another_fork(peer: LyingPeer) -> None:
    await peer.say(Sync(2**40, 2**50, 0, can_upgrade=True))


@pytest.mark.parametrize(
    "lie", [says_nothing, promises_more, promises_more_that_it_cannot_prove, promises_another_fork]
)
async def test_promises_are_not_waited_for_for_ever(
    scene: Scene, mock_clock: MockClock, lie: Callable[[LyingPeer], Awaitable[None]]
) -> None:
    let_time_fly(mock_clock)
    feed = await published(scene.writer)

    async def promise(peer: LyingPeer) -> None:
        peer.truth = scene.writer.store.open_log(feed.key)
        await peer.shake_hands()
        await peer.open()
        await lie(peer)
        peer.lied.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(swallow, peer)
            while True:
                await trio.sleep(5)
                await peer.say_frame(b"")

    copy_log = scene.reader.store.open_log(feed.key)
    scene.reader.session(copy_log, eager=True)
    liar = scene.let_in(scene.reader, promise, initiator=True)
    await liar.lied.wait()
    scene.connect_honest()
    with trio.fail_after(60):
        copy, events = await seeded(scene, feed)
    await check(copy, feed, events)
    assert format_key(feed.key) == events[-1].key  # type: ignore[attr-defined]


async def swallow(peer: LyingPeer) -> None:
    while True:
        await peer.read()


async def test_who_stayed_behind_is_brought_on_by_an_owner_that_has_cleared_and_restarted(
    scene: Scene, nursery: trio.Nursery
) -> None:
    """Without the blocks around the old end their nodes are still stored: the owner can prove its length."""
    log = scene.writer.store.create("another")
    log.append([b"one", b"two", b"three"])
    first = scene.reader.store.open_log(log.key)
    copy = PeerCore(scene.reader.session(first, eager=True))
    copy.follow_tip()
    link = trio.CancelScope()
    scene.connect(scene.writer, scope=link)
    with trio.fail_after(10):
        await copy.wait_length(3)
    link.cancel()
    log.append([b"four", b"five"])
    log.clear(0, 4)
    restarted = Exchange(scene.writer.store, nursery, patience=60.0)
    scene.connect(restarted)
    with trio.fail_after(10):
        await copy.wait_length(5)
        assert await copy.get(4) == b"five"
