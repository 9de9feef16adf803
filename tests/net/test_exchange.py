"""Two stores, one TCP connection: what is written on one side arrives, verified, on the other."""

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from trio.testing import memory_stream_pair

from p2prss.crypto.keys import CoreKey
from p2prss.drive.drive import Drive
from p2prss.errors import NetworkError, NoPeersError, RemoteProtocolError
from p2prss.log.manifest import Manifest
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange


class Side:
    """One peer: a store in memory and its exchange."""

    def __init__(self, nursery: trio.Nursery, seed: int) -> None:
        self.store = Store.in_memory()
        self.exchange = Exchange(self.store, nursery, random=Random(seed), patience=2.0)

    def core(self, key: CoreKey, *, eager: bool = True) -> PeerCore:
        return PeerCore(self.exchange.session(self.store.open_log(key), eager=eager))

    def own_core(self, name: str) -> PeerCore:
        return PeerCore(self.exchange.session(self.store.create(name)))

    async def drive(self, key: CoreKey | None = None) -> Drive:
        log = self.store.create("db") if key is None else self.store.open_log(key)

        async def open_core(key: CoreKey, manifest: Manifest | None) -> PeerCore:
            opened = self.store.open_log(key, manifest=manifest, key_pair=log.key_pair)
            return PeerCore(self.exchange.session(opened, eager=not opened.writable))

        return Drive(PeerCore(self.exchange.session(log, eager=not log.writable)), open_core)


Connect = Callable[[Side, Side], trio.CancelScope]


@pytest.fixture
async def sides(nursery: trio.Nursery) -> tuple[Side, Side, Side]:
    return Side(nursery, 1), Side(nursery, 2), Side(nursery, 3)


@pytest.fixture
async def connect(nursery: trio.Nursery) -> Connect:
    """Join two sides; cancelling the scope that comes back cuts them apart."""

    def join(one: Side, other: Side) -> trio.CancelScope:
        near, far = memory_stream_pair()
        scope = trio.CancelScope()

        async def run(side: Side, stream: trio.abc.Stream, initiator: bool) -> None:
            with contextlib.suppress(NetworkError, RemoteProtocolError):
                await side.exchange.use_stream(stream, initiator, "peer")

        async def run_both() -> None:
            with scope:
                async with trio.open_nursery() as both:
                    both.start_soon(run, one, near, True)
                    both.start_soon(run, other, far, False)

        nursery.start_soon(run_both)
        return scope

    return join


@asynccontextmanager
async def in_time(seconds: float = 5.0) -> AsyncIterator[None]:
    with trio.fail_after(seconds):
        yield


async def test_blocks_arrive_and_live_appends_follow(
    sides: tuple[Side, Side, Side], connect: Connect
) -> None:
    writer, reader, _ = sides
    own = writer.own_core("show")
    await own.append([b"one", b"two"])
    copy = reader.core(own.key)
    connect(writer, reader)
    async with in_time():
        await copy.wait_length(2)
        assert [await copy.get(0), await copy.get(1)] == [b"one", b"two"]
        copy.follow_tip()
        await own.append([b"three"])
        await copy.wait_length(3)
        await copy.wait_whole()
    assert await copy.get(2) == b"three"
    assert copy.log.head == own.log.head


async def test_a_drive_is_read_through_a_second_home_when_the_writer_is_gone(
    sides: tuple[Side, Side, Side], connect: Connect
) -> None:
    writer, middle, reader = sides
    own = await writer.drive()
    content = Random(5).randbytes(1_000_000)
    await own.put("/media/a.mp3", content, metadata={"title": "A"})
    first = connect(writer, middle)
    async with in_time():
        copy = await middle.drive(own.key)
        assert await copy.wait_changed(1) == 2
        await copy.download_entries()
        await copy.download("/media/a.mp3")
        first.cancel()
        connect(reader, middle)
        last = await reader.drive(own.key)
        await last.wait_changed(1)
        assert await last.get("/media/a.mp3") == content
        entry = await last.entry("/media/a.mp3")
    assert entry is not None
    assert entry.metadata == {"title": "A"}


async def test_a_sparse_read_fetches_only_its_part(sides: tuple[Side, Side, Side], connect: Connect) -> None:
    writer, reader, _ = sides
    own = await writer.drive()
    content = Random(6).randbytes(64 * 65536)
    await own.put("/a", content)
    connect(writer, reader)
    async with in_time():
        copy = await reader.drive(own.key)
        await copy.wait_changed(1)
        pieces = [piece async for piece in copy.read("/a", 1_000_000, 1_000_100)]
    assert b"".join(pieces) == content[1_000_000:1_000_100]
    held = await copy.held("/a")
    assert held.blocks <= 2


async def test_a_block_that_nobody_has_is_reported(sides: tuple[Side, Side, Side]) -> None:
    writer, reader, _ = sides
    own = writer.own_core("show")
    await own.append([b"one"])
    copy = reader.core(own.key)
    reader.exchange.patience = 0.1
    copy.session.patience = 0.1
    with pytest.raises(NoPeersError):
        await copy.get(0)


async def test_a_log_that_is_only_stored_is_served_when_asked_for(
    sides: tuple[Side, Side, Side], connect: Connect
) -> None:
    writer, reader, _ = sides
    log = writer.store.create("quiet")
    log.append([b"hush"])
    copy = reader.core(log.key)
    connect(writer, reader)
    async with in_time():
        await copy.wait_length(1)
        assert await copy.get(0) == b"hush"


async def test_one_who_knows_only_the_discovery_key_is_dropped(
    sides: tuple[Side, Side, Side], connect: Connect
) -> None:
    writer, reader, _ = sides
    own = writer.own_core("secret")
    await own.append([b"one"])
    thief = reader.core(own.key)
    thief.log.__dict__["key"] = CoreKey(bytes(32))  # it offers the discovery key without the key
    connect(reader, writer)
    async with in_time():
        while not writer.exchange.drops and not reader.exchange.drops:  # noqa: ASYNC110 - a counter
            await trio.sleep(0.01)
    assert "bad-capability" in {*writer.exchange.drops, *reader.exchange.drops}
    assert thief.length == 0
