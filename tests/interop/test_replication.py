"""Cores between p2prss and the JavaScript reference: both as writer, both as the one who listens."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from p2prss.net.core import PeerCore
from p2prss.units import KIB, MIB
from tests.conftest import StartJsPeer
from tests.interop.conftest import Meet, StartPythonPeer
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PythonPeer, assert_alike, held_ranges, statistics, until

pytestmark = pytest.mark.interop

_PATIENCE = 20  # seconds, for anything that should take less than two
_SHORT = 0.5  # seconds that a peer of ours waits for what is not to come
_NOBODY = "ab" * 32  # the key of a core that nobody has


async def read_all(core: PeerCore) -> list[bytes]:
    return [block async for block in core.read(0, core.length)]


async def test_many_cores_share_one_connection(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        await meet(ours, theirs)
        for number in range(10):
            own = ours.own_core(f"ours-{number}")
            await own.append([b"%d" % i for i in range(number + 1)])
            await theirs.open_core(key=own.key.hex())
            name = (await theirs.open_core(name=f"theirs-{number}")).key
            await theirs.append(name, [b"%d" % -i for i in range(number + 1)])
            copy = ours.core(name)
            await copy.wait_length(number + 1)
            assert await theirs.get(own.key.hex(), number) == b"%d" % number
            assert await copy.get(number) == b"%d" % -number
            await assert_alike(own, theirs)
            await assert_alike(copy, theirs)
        assert len(ours.exchange.links) == 1


async def test_two_thousand_small_blocks_go_both_ways(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    blocks = [b"%d" % i for i in range(2000)]
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append(blocks)
        other = (await theirs.open_core(name="theirs")).key
        await theirs.append(other, blocks)
        copy = ours.core(other)
        await theirs.open_core(key=own.key.hex())
        await meet(ours, theirs)

        copy.follow_tip()
        await copy.wait_whole()
        assert await read_all(copy) == blocks
        await theirs.wait_length(own.key.hex(), 2000)
        await theirs.download(own.key.hex())
        assert await theirs.held(own.key.hex()) == [(0, 2000)]
        await assert_alike(own, theirs)
        await assert_alike(copy, theirs)


def random_blocks(count: int, size: int) -> list[bytes]:
    """No two are equal, and making them takes no time."""
    pool = Random(1).randbytes(size + count)
    return [pool[index : index + size] for index in range(count)]


async def test_sixty_four_mebibytes_come_to_us(js_peer: StartJsPeer, python_peer: StartPythonPeer) -> None:
    count, size = 1024, 64 * KIB
    with trio.fail_after(2 * _PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        other = (await theirs.open_core(name="theirs")).key
        await theirs.bench_append(other, count, size, 128)
        ours.dial(await theirs.listen())
        copy = ours.core(other)
        started = trio.current_time()
        copy.follow_tip()
        await copy.wait_whole()
        took = trio.current_time() - started
        print(f"{count * size / took / 1e6:.0f} MB/s")  # shown by pytest -s
        await assert_alike(copy, theirs)
        assert (await trio.to_thread.run_sync(copy.log.verify)).clean


async def test_sixty_four_mebibytes_go_to_them(js_peer: StartJsPeer, python_peer: StartPythonPeer) -> None:
    count, size = 1024, 64 * KIB
    blocks = random_blocks(count, size)
    with trio.fail_after(2 * _PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        for start in range(0, count, 128):
            await own.append(blocks[start : start + 128])
        key = own.key.hex()
        await theirs.open_core(key=key)
        result = await theirs.bench_download(key, await ours.listen(), count)
        print(f"{count * size / result.seconds / 1e6:.0f} MB/s")
        assert await theirs.held(key) == [(0, count)]
        await assert_alike(own, theirs)


async def test_a_block_of_fifteen_mebibytes_goes_both_ways(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    block = Random(1).randbytes(15 * MIB)
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append([b"small", block, b"small"])
        other = (await theirs.open_core(name="theirs")).key
        await theirs.append(other, [b"small", block, b"small"])
        copy = ours.core(other)
        await theirs.open_core(key=own.key.hex())
        await meet(ours, theirs)
        await copy.wait_length(3)
        assert await copy.get(1) == block
        assert await theirs.get(own.key.hex(), 1) == block


async def test_an_empty_core_grows(js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        other = (await theirs.open_core(name="theirs")).key
        copy = ours.core(other)
        await theirs.open_core(key=own.key.hex())
        await meet(ours, theirs)
        await until(lambda: copy.session.peers > 0)
        assert not await copy.update()
        assert (await theirs.update(own.key.hex())).length == 0

        await theirs.append(other, [b"first"])
        await copy.wait_length(1)
        assert await copy.get(0) == b"first"
        await own.append([b"erster"])
        await theirs.wait_length(own.key.hex(), 1)
        assert await theirs.get(own.key.hex(), 0) == b"erster"


async def test_a_core_that_the_other_has_not_is_refused_and_the_connection_goes_on(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer(patience=_SHORT)
        unknown = ours.core(_NOBODY[::-1])
        await theirs.open_core(key=_NOBODY)
        own = ours.own_core()
        await own.append([b"known"])
        await theirs.open_core(key=own.key.hex())
        await meet(ours, theirs)
        assert await theirs.get(own.key.hex(), 0) == b"known"
        assert not await unknown.update()  # both sides have been told so, hence nobody waits
        assert (await theirs.update(_NOBODY)).length == 0
        assert unknown.session.peers == 0
        assert (await theirs.core_stats(_NOBODY))["peers"] == 0

        later = (await theirs.open_core(name="theirs")).key  # a core opened later is offered then
        await theirs.append(later, [b"later"])
        copy = ours.core(later)
        await copy.wait_length(1)
        assert await copy.get(0) == b"later"


async def test_a_core_refused_at_first_is_found_once_the_other_has_it(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, writer = await js_peer(), await python_peer("writer")
        ours = await python_peer(patience=_SHORT)
        own = writer.own_core()
        await own.append([b"one"])
        copy = ours.core(own.key)
        await meet(ours, theirs)
        await until(lambda: bool(ours.exchange.links))
        assert not await copy.update()
        await theirs.open_core(key=own.key.hex())
        await theirs.connect(await writer.listen())
        await copy.wait_length(1)
        await theirs.download(own.key.hex())
        assert await copy.get(0) == b"one"


async def test_an_interrupted_download_goes_on_where_it_was(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    count = 1024  # more than may be on its way when the link is cut
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        other = (await theirs.open_core(name="theirs")).key
        await theirs.bench_append(other, count, 64 * KIB, 64)
        copy = ours.core(other)
        copy.follow_tip()
        ours.dial(await theirs.listen())
        while copy.held_total < 50:
            await copy.session.changed.wait()
        ours.cut()
        held = copy.held_total
        assert held < count
        await until(lambda: theirs.events[-1]["event"] == "disconnected")
        sent = (await theirs.core_stats(other))["wireData"]["tx"]
        await copy.wait_whole()
        again = (await theirs.core_stats(other))["wireData"]["tx"] - sent
        assert ours.links_made == 2
        assert again <= count - held
        assert sum(len(block) for block in await read_all(copy)) == count * 64 * KIB


async def test_an_interrupted_download_of_theirs_goes_on_where_it_was(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    count = 256
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append([Random(i).randbytes(64 * KIB) for i in range(count)])
        key = own.key.hex()
        await theirs.open_core(key=key)
        port = await ours.listen()
        await theirs.connect(port)
        await theirs.wait_length(key, count)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.download, key)
            await until(lambda: any(peer.blocks_sent > 50 for peer in statistics(own)))
            ours.cut()
            await until(lambda: theirs.events[-1]["event"] == "disconnected")
            held = sum(stop - start for start, stop in await theirs.held(key))
            await theirs.connect(port)
        assert await theirs.held(key) == [(0, count)]
        (peer,) = statistics(own)
        assert peer.blocks_sent <= count - held


@asynccontextmanager
async def halves(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, count: int
) -> AsyncIterator[tuple[str, JsPeer, PythonPeer, list[bytes]]]:
    """A core of which a JavaScript peer has the second half and one of ours the first; the writer is gone."""
    theirs, ours = await js_peer("half"), await python_peer("half-ours")
    async with PythonPeer.open() as writer:
        own = writer.own_core()
        blocks = [Random(i).randbytes(1000) for i in range(count)]
        await own.append(blocks)
        key = own.key.hex()
        port = await writer.listen()
        await theirs.open_core(key=key)
        await theirs.connect(port)
        copy = ours.core(key)
        ours.dial(port)
        await copy.wait_length(count)
        await copy.download(0, count // 2)
        await theirs.wait_length(key, count)
        await theirs.download(key, count // 2, count)
    while copy.session.peers:
        await copy.session.changed.wait()
    await theirs.disconnect()
    yield key, theirs, ours, blocks


async def test_two_sparse_seeders_make_a_whole_for_one_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    with trio.fail_after(_PATIENCE):
        async with halves(js_peer, python_peer, 200) as (key, theirs, ours, blocks):
            reader = await python_peer("reader")
            copy = reader.core(key)
            reader.dial(await theirs.listen())
            reader.dial(await ours.listen())
            copy.follow_tip()
            await copy.wait_whole()
            assert await read_all(copy) == blocks
            assert [peer.blocks_received for peer in statistics(copy)] == [100, 100]


async def test_two_sparse_seeders_make_a_whole_for_one_of_theirs(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    with trio.fail_after(_PATIENCE):
        async with halves(js_peer, python_peer, 200) as (key, theirs, ours, blocks):
            reader = await js_peer("reader")
            await reader.open_core(key=key)
            await reader.connect(await theirs.listen())
            await reader.connect(await ours.listen())
            await reader.wait_length(key, 200)
            await reader.download(key)
            assert [await reader.get(key, index) for index in (0, 99, 100, 199)] == [
                blocks[index] for index in (0, 99, 100, 199)
            ]
            assert await reader.held(key) == [(0, 200)]


async def test_who_waits_for_a_silent_peer_is_reminded_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    """The reference asks a second peer for a block only when it hears something from that one."""
    count = 6  # gets; each goes to one of two peers by chance
    theirs, silent, ours = await js_peer("reader"), await js_peer("silent"), await python_peer()
    with trio.fail_after(2 * _PATIENCE):
        own = ours.own_core()
        await own.append(random_blocks(count, KIB))
        key, port = own.key.hex(), await ours.listen()
        await silent.open_core(key=key)
        await silent.connect(port)
        await silent.wait_length(key, count)
        await silent.download(key)
        await theirs.open_core(key=key)
        await theirs.connect(port)
        await theirs.connect(await silent.listen())
        await theirs.wait_length(key, count)
        while sum(peer.has == (count,) for peer in (await theirs.waits())[0].peers) < 2:  # noqa: ASYNC110
            await trio.sleep(0.01)
        os.kill(silent.pid, signal.SIGSTOP)  # its connection stays, and nothing comes any more
        try:
            for index in range(count):
                await theirs.get(key, index)
        finally:
            os.kill(silent.pid, signal.SIGCONT)


async def test_we_pass_on_between_two_of_theirs(js_peer: StartJsPeer, python_peer: StartPythonPeer) -> None:
    with trio.fail_after(_PATIENCE):
        writer, reader, ours = await js_peer("writer"), await js_peer("reader"), await python_peer()
        key = (await writer.open_core(name="core")).key
        await writer.append(key, [b"%d" % i for i in range(100)])
        copy = ours.core(key)
        copy.follow_tip()
        ours.dial(await writer.listen())
        await reader.open_core(key=key)
        await reader.connect(await ours.listen())
        await reader.wait_length(key, 100)
        await reader.download(key)
        assert await reader.get(key, 99) == b"99"
        for number in range(100, 105):
            await writer.append(key, [b"%d" % number])
            await reader.wait_length(key, number + 1)
            assert await reader.get(key, number) == b"%d" % number
        await assert_alike(copy, reader)


async def test_a_block_nobody_has_yet_is_passed_on_when_it_comes(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    """We know the longer log but not its blocks; a reader of theirs waits until we have fetched one."""
    with trio.fail_after(_PATIENCE):
        writer, reader, ours = await js_peer("writer"), await js_peer("reader"), await python_peer()
        key = (await writer.open_core(name="core")).key
        await writer.append(key, [b"%d" % i for i in range(1000)])
        copy = ours.core(key)
        ours.dial(await writer.listen())
        await copy.wait_length(1000)
        await reader.open_core(key=key)
        await reader.connect(await ours.listen())
        await reader.wait_length(key, 1000)
        got: list[bytes | None] = []

        async def get() -> None:
            got.append(await reader.get(key, 300))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(get)
            await reader.core_info(key)
            assert await copy.get(300) == b"300"
        assert got == [b"300"]
        assert held_ranges(copy) == [(300, 301)]
