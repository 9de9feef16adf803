"""Found by key alone: nodes of ours and JavaScript peers in one swarm, on a private DHT on loopback."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.feed.archive.writer import PLAIN_FEED_PATH
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.net.dht.client import open_dht
from p2prss.node.control import PeerStatus, list_peers
from p2prss.node.duties import carry_out
from p2prss.node.events import Event, Published, Ready, Synced
from p2prss.node.home_paths import HomePaths
from p2prss.node.node import Node, open_node
from p2prss.node.orders import FollowOrder, Order, PublishOrder, SeedOrder, Wanted
from p2prss.node.settings import NodeSettings
from p2prss.units import MIB
from tests.conftest import StartJsPeer
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import until

pytestmark = pytest.mark.interop

HOST: Final = "127.0.0.1"
PATIENCE: Final = 40  # seconds for a whole test
NODES: Final = 6  # of the reference's test network


async def no(_: str) -> bool:
    return False


class Running:
    """A node at work, and what it told."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.events: list[Event] = []
        self.news = trio.Event()

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self.news.set()
        self.news = trio.Event()

    async def wait(self, kind: type[Event]) -> Any:
        while True:
            for event in self.events:
                if isinstance(event, kind):
                    return event
            await self.news.wait()

    async def peers(self) -> list[PeerStatus]:
        _, found = await list_peers(HomePaths(self.node.settings.home.path), None)
        return found


@asynccontextmanager
async def running(home: Path, bootstrap: int, order: Order) -> AsyncIterator[Running]:
    """A node that has nothing but the DHT."""
    settings = NodeSettings.of(home=home, bootstrap=[f"{HOST}:{bootstrap}"], dht=True, no_http=True)
    told: list[Running] = []
    async with open_node(settings, lambda event: told[0].tell(event), with_http=False) as node:
        told.append(Running(node))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carry_out, node, order, no)
            yield told[0]
            nursery.cancel_scope.cancel()


@pytest.fixture
def show(tmp_path: Path) -> Path:
    folder = tmp_path / "show"
    folder.mkdir()
    return make_demo_show(folder)


def key_hex(node: Running) -> str:
    return node.node.feeds[0].key.hex()


def digests(folder: Path) -> set[str]:
    return {sha256(path.read_bytes()).hexdigest() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("firewalled", [False, True])
async def test_a_reader_of_the_reference_mirrors_our_feed(
    js_peer: StartJsPeer, show: Path, tmp_path: Path, *, firewalled: bool
) -> None:
    with trio.fail_after(PATIENCE):
        theirs = await js_peer("reader")
        port = await theirs.testnet(NODES)
        async with running(tmp_path / "home", port, PublishOrder(str(show))) as ours:
            await ours.wait(Published)
            key = key_hex(ours)
            assert ours.node.swarm is not None
            await until(lambda: ours.node.swarm.statistics().announced == 1)  # type: ignore[union-attr]
            drive = await theirs.open_drive(key=key)
            await theirs.join(key, port, server=False, firewalled=firewalled)
            await theirs.update_drive(drive.key)
            await theirs.mirror(drive.key, tmp_path / "mirror")
            assert digests(tmp_path / "mirror") >= {
                sha256(path.read_bytes()).hexdigest() for path in show.parent.glob("*.wav")
            }
            (peer,) = await ours.peers()
            assert (peer.role, peer.transport) == ("accepted", "udx")


async def test_a_reader_of_the_reference_mirrors_what_a_follower_of_ours_has(
    js_peer: StartJsPeer, show: Path, tmp_path: Path
) -> None:
    """Who follows all of a feed stands in for its publisher, also for those who mirror the whole drive."""
    with trio.fail_after(PATIENCE):
        theirs = await js_peer("reader")
        port = await theirs.testnet(NODES)
        async with running(tmp_path / "a", port, PublishOrder(str(show))) as publisher:
            ready = await publisher.wait(Ready)
            await publisher.wait(Published)
            key = key_hex(publisher)
            follower = FollowOrder(ready.link, once=True, wanted=Wanted())
            async with running(tmp_path / "b", port, follower) as ours:
                await ours.wait(Synced)
        async with running(tmp_path / "b", port, FollowOrder(ready.link, wanted=Wanted())) as ours:
            await ours.wait(Synced)
            drive = await theirs.open_drive(key=key)
            await theirs.join(key, port, server=False)
            await theirs.update_drive(drive.key)
            entries = await theirs.entries(drive.key)
            assert (await theirs.mirror(drive.key, tmp_path / "mirror")).files == len(entries)
            assert (tmp_path / "mirror" / "feed.xml").exists()


async def test_a_follower_keeps_one_plain_feed(js_peer: StartJsPeer, show: Path, tmp_path: Path) -> None:
    """The one of the newest version; older ones it drops, as the publisher does."""
    with trio.fail_after(PATIENCE):
        port = await (await js_peer("net")).testnet(NODES)
        async with running(tmp_path / "a", port, PublishOrder(str(show))) as publisher:
            ready = await publisher.wait(Ready)
            async with running(tmp_path / "b", port, FollowOrder(ready.link, wanted=Wanted())) as follower:
                await follower.wait(Synced)
                (source,), (copy,) = publisher.node.feeds, follower.node.feeds
                old = await copy.drive.entry(PLAIN_FEED_PATH)
                assert old is not None
                assert old.blob is not None
                blobs, place = await copy.blobs(), (old.blob.block_offset, old.blob.block_offset + 1)
                await until(lambda: blobs.held(*place) == 1)
                await source.drive.put(PLAIN_FEED_PATH, b"<rss/>")
                (await source.blobs()).session.log_changed()
                await until(lambda: blobs.held(*place) == 0)
                assert await copy.drive.get_held([PLAIN_FEED_PATH], max_bytes=10) == {
                    PLAIN_FEED_PATH: b"<rss/>"
                }


@pytest.mark.parametrize("firewalled", [False, True])
async def test_we_keep_a_drive_of_the_reference(
    js_peer: StartJsPeer, tmp_path: Path, *, firewalled: bool
) -> None:
    content = Random(1).randbytes(2 * MIB)
    with trio.fail_after(PATIENCE):
        theirs = await js_peer("writer")
        port = await theirs.testnet(NODES)
        drive = await theirs.open_drive(name="films")
        await theirs.put(drive.key, "/film.bin", content)
        await theirs.join(drive.key, port, client=False, firewalled=firewalled)
        async with running(tmp_path / "home", port, SeedOrder((drive.key,))) as ours:
            await ours.wait(Synced)
            (peer,) = await ours.peers()
            assert peer.bytes_received >= len(content)
            assert (peer.role, peer.transport, peer.key) == (
                "dialed",
                "udx",
                format_key(CoreKey(bytes.fromhex(drive.key))),
            )
            # News comes over the connection that is there.
            await theirs.put(drive.key, "/second.bin", content[:100])
            await until(lambda: sum(isinstance(event, Synced) for event in ours.events) > 1)


async def test_seeders_of_both_kinds_serve_one_download(js_peer: StartJsPeer, tmp_path: Path) -> None:
    """The writer is gone; what it wrote comes from a JavaScript peer and from one of ours at once."""
    content = Random(2).randbytes(24 * MIB)
    with trio.fail_after(PATIENCE):
        network, seeder = await js_peer("net"), await js_peer("seeder")
        port = await network.testnet(NODES)
        async with JsPeer.open(tmp_path / "writer") as writer:
            drive = await writer.open_drive(name="films")
            await writer.put(drive.key, "/film.bin", content)
        async with running(tmp_path / "seedbox", port, SeedOrder((drive.key,))) as seedbox:
            async with JsPeer.open(tmp_path / "writer") as writer:
                await writer.open_drive(name="films")
                await writer.join(drive.key, port)
                await seeder.open_drive(key=drive.key)
                await seeder.join(drive.key, port)
                await seeder.update_drive(drive.key)
                await seeder.read(drive.key, "/film.bin")
                await seedbox.wait(Synced)
            async with running(tmp_path / "home", port, SeedOrder((drive.key,))) as ours:
                await ours.wait(Synced)
                peers = await ours.peers()
                assert len(peers) == 2
                assert sum(peer.bytes_received for peer in peers) >= len(content)
                assert all(peer.bytes_received > MIB for peer in peers), peers


async def test_nodes_of_ours_alone_are_a_network_for_all(show: Path, tmp_path: Path) -> None:
    """A bootstrap and a few more, and no JavaScript among them, serve JavaScript peers and ours."""
    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(
                open_dht(host=HOST, port=0, bootstraps=[], public_host=HOST, ephemeral=False)
            )
            port = first.socket(0).address[1]
            for _ in range(4):
                node = await stack.enter_async_context(
                    open_dht(host=HOST, port=0, bootstraps=[f"{HOST}:{port}"], public_host=HOST)
                )
                await node.wait_bootstrapped()
            theirs = await stack.enter_async_context(JsPeer.open(tmp_path / "writer"))
            another = await stack.enter_async_context(JsPeer.open(tmp_path / "reader"))
            drive = await theirs.open_drive(name="films")
            await theirs.put(drive.key, "/film.bin", b"a film")
            await theirs.join(drive.key, port)
            await another.open_drive(key=drive.key)
            await another.join(drive.key, port)
            await another.update_drive(drive.key)
            assert (await another.read(drive.key, "/film.bin", data=True)).data == b"a film"
            publisher = await stack.enter_async_context(
                running(tmp_path / "a", port, PublishOrder(str(show)))
            )
            ready = await publisher.wait(Ready)
            follower = await stack.enter_async_context(
                running(tmp_path / "b", port, FollowOrder(ready.link, wanted=Wanted()))
            )
            assert (await follower.wait(Synced)).episodes == 3


async def test_peers_that_join_at_the_same_moment_find_each_other(
    js_peer: StartJsPeer, show: Path, tmp_path: Path
) -> None:
    """The follower is there before the publisher has announced anything."""
    with trio.fail_after(PATIENCE):
        theirs = await js_peer("net")
        port = await theirs.testnet(NODES)
        async with running(tmp_path / "a", port, PublishOrder(str(show))) as publisher:
            ready = await publisher.wait(Ready)
            async with running(tmp_path / "b", port, FollowOrder(ready.link, wanted=Wanted())) as follower:
                assert (await follower.wait(Synced)).episodes == 3


async def test_who_finds_nobody_says_so(js_peer: StartJsPeer, tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        theirs = await js_peer("net")
        port = await theirs.testnet(NODES)
        async with running(tmp_path / "a", port, SeedOrder((bytes(32).hex(),))) as ours:
            await until(lambda: bool(ours.node.feeds))
            feed = ours.node.feeds[0]
            await until(lambda: ours.node.why_nobody(feed) == "nobody in the DHT has the feed")
    with trio.fail_after(PATIENCE):
        async with running(tmp_path / "b", 9, SeedOrder((bytes(32).hex(),))) as ours:
            await until(lambda: bool(ours.node.feeds))
            assert ours.node.why_nobody(ours.node.feeds[0]) == "no node of the DHT answers"
