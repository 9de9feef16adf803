"""A part of a file costs a part of the traffic, on both sides, whatever the blocks look like."""

import fcntl
import hashlib
import os
import struct
import termios
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import trio

from p2prss.drive.blobs import BlobId
from p2prss.drive.drive import Drive
from p2prss.net.core import PeerCore
from p2prss.units import KIB
from tests.conftest import StartJsPeer
from tests.interop.conftest import Meet, StartPythonPeer
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PythonPeer, held_ranges, until

pytestmark = pytest.mark.interop

_PATIENCE = 20  # seconds, for anything that should take less than two
_FILE = Random(1).randbytes(256 * 64 * KIB + 5)  # 257 blocks
_SIZES = Random(2).choices(range(1, 9000), k=400)  # of the blocks of an irregular file, in bytes
_IRREGULAR = Random(3).randbytes(sum(_SIZES))
_RANGES = [(0, 10), (65_530, 65_546), (1_000_000, 1_000_001), (len(_IRREGULAR) - 7, len(_IRREGULAR))]


async def read_range(drive: Drive, path: str, start: int, stop: int) -> bytes:
    async with aclosing(drive.read(path, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def blobs_of(drive: Drive) -> PeerCore:
    core = (await drive.blobs()).core
    assert isinstance(core, PeerCore)
    return core


async def put_irregular(drive: Drive, path: str) -> None:
    """A file whose blocks have the sizes above, behind another file."""
    await drive.put("/before", b"x" * 100_000)
    core = await blobs_of(drive)
    blob = BlobId(core.length, core.byte_length, len(_SIZES), len(_IRREGULAR))
    starts = [sum(_SIZES[:number]) for number in range(len(_SIZES))]
    async with core.write_lock:
        pieces = zip(starts, _SIZES, strict=True)
        await core.append([_IRREGULAR[start : start + size] for start, size in pieces])
    async with drive.batch() as batch:
        batch.put_entry(path, blob)
    await drive.put("/after", b"y" * 100_000)


def at_most(ranges: Sequence[tuple[int, int]], blocks: int) -> bool:
    return 0 < sum(stop - start for start, stop in ranges) <= blocks


async def test_they_fetch_only_the_blocks_of_a_byte_range(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        drive = await ours.drive()
        await drive.put("/file", _FILE)
        key = drive.key.hex()
        await theirs.open_drive(key=key)
        await meet(ours, theirs)
        await theirs.wait_length(key, drive.version)
        part = await theirs.read_range(key, "/file", 10_000_000, 10_000_100)
        assert part.data == _FILE[10_000_000:10_000_100]
        assert part.held == ((152, 153),)
        (peer,) = (await blobs_of(drive)).session.replicator.peers()
        assert peer.blocks_sent == 1


async def test_we_fetch_only_the_blocks_of_a_byte_range(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(_FILE)
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        await theirs.put(key, "/file", tmp_path / "file")
        await meet(ours, theirs)
        drive = await ours.drive(key)
        await drive.wait_changed(1)
        assert await read_range(drive, "/file", 10_000_000, 10_000_100) == _FILE[10_000_000:10_000_100]
        assert held_ranges(await blobs_of(drive)) == [(152, 153)]


async def test_they_seek_in_irregular_blocks_of_ours(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        drive = await ours.drive()
        await put_irregular(drive, "/file")
        key = drive.key.hex()
        await theirs.open_drive(key=key)
        await meet(ours, theirs)
        await theirs.wait_length(key, drive.version)
        for number, (start, stop) in enumerate(_RANGES, 1):
            part = await theirs.read_range(key, "/file", start, stop)
            assert part.data == _IRREGULAR[start:stop]
            assert at_most(part.held, 3 * number)
        whole = await theirs.read(key, "/file")
        assert whole.sha256 == hashlib.sha256(_IRREGULAR).hexdigest()


async def test_we_seek_in_irregular_blocks_that_they_seed(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        async with PythonPeer.open() as writer:
            drive = await writer.drive()
            await put_irregular(drive, "/file")
            key = drive.key.hex()
            await theirs.open_drive(key=key)
            await theirs.connect(await writer.listen())
            await theirs.wait_length(key, drive.version)
            await theirs.download(key)
            blobs = await theirs.blobs(key)
            await theirs.wait_length(blobs.key, (await blobs_of(drive)).length)
            await theirs.download(blobs.key)
        await theirs.disconnect()

        await meet(ours, theirs)
        copy = await ours.drive(key)
        await copy.wait_changed(1)
        for number, (start, stop) in enumerate(_RANGES, 1):
            assert await read_range(copy, "/file", start, stop) == _IRREGULAR[start:stop]
            assert at_most(held_ranges(await blobs_of(copy)), 3 * number)
        assert await copy.get("/file") == _IRREGULAR


async def test_we_read_what_a_stream_of_theirs_wrote_in_odd_pieces(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet, tmp_path: Path
) -> None:
    """A write stream of the reference makes a block of each piece that it is given."""
    pieces = [Random(size).randbytes(size) for size in _SIZES[:60]]
    content = b"".join(pieces)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        key = (await theirs.open_drive(name="show")).key
        async with trio.open_nursery() as nursery:
            nursery.start_soon(theirs.put, key, "/file", pipe)
            await trickle(pipe, pieces)
        await meet(ours, theirs)
        drive = await ours.drive(key)
        await drive.wait_changed(1)
        entry = await drive.entry("/file")
        assert entry is not None
        assert entry.blob is not None
        assert entry.blob.block_length > len(pieces) // 2  # it may get hold of two at once
        assert await read_range(drive, "/file", 150_000, 150_010) == content[150_000:150_010]
        assert at_most(held_ranges(await blobs_of(drive)), 3)
        assert await drive.get("/file") == content


async def trickle(pipe: Path, pieces: Sequence[bytes]) -> None:
    """Write pieces into a pipe, each when the one before it has been read."""
    descriptor = await trio.to_thread.run_sync(os.open, pipe, os.O_WRONLY)
    try:
        for piece in pieces:
            os.write(descriptor, piece)
            await until(lambda: not unread(descriptor))
    finally:
        os.close(descriptor)


def unread(pipe: int) -> int:
    """Bytes that nobody has read yet."""
    (size,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(size)


async def test_both_sides_seek_in_cores(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    blocks = [bytes([n % 251]) * size for n, size in enumerate(_SIZES)]
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append(blocks)
        await theirs.open_core(key=own.key.hex())
        other = (await theirs.open_core(name="theirs")).key
        await theirs.append(other, blocks)
        copy = ours.core(other)
        await meet(ours, theirs)
        await copy.wait_length(len(blocks))
        await theirs.wait_length(own.key.hex(), len(blocks))
        for index in (0, 1, 77, 255, 256, 300, 399):
            start = sum(_SIZES[:index])
            for offset in (0, _SIZES[index] - 1):
                assert await copy.seek(start + offset) == (index, offset)
                found = await theirs.seek(own.key.hex(), start + offset)
                assert found is not None
                assert (found.index, found.offset) == (index, offset)
        assert held_ranges(copy) == []


@asynccontextmanager
async def sparse_seeder_of_theirs(js_peer: StartJsPeer) -> AsyncIterator[tuple[JsPeer, str, list[bytes]]]:
    """A JavaScript peer that holds here and there a block of a core whose writer is gone."""
    blocks = [b"block %d" % n for n in range(3000)]
    theirs = await js_peer()
    async with PythonPeer.open() as writer:
        own = writer.own_core()
        await own.append(blocks)
        key = own.key.hex()
        await theirs.open_core(key=key)
        await theirs.connect(await writer.listen())
        await theirs.wait_length(key, len(blocks))
        for start, stop in _HELD:
            await theirs.download(key, start, stop)
    await theirs.disconnect()
    yield theirs, key, blocks


_HELD = [(3, 4), (64, 128), (1000, 1001), (1500, 1600), (2999, 3000)]


async def test_we_fetch_from_one_of_theirs_that_has_only_parts(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    with trio.fail_after(_PATIENCE):
        async with sparse_seeder_of_theirs(js_peer) as (theirs, key, blocks):
            ours = await python_peer()
            copy = ours.core(key)
            await meet(ours, theirs)
            await copy.wait_length(len(blocks))
            assert await copy.get(1550) == blocks[1550]
            copy.follow_tip()
            while held_ranges(copy) != _HELD:
                await copy.session.changed.wait()
            assert await copy.get(2999) == blocks[2999]


async def test_they_fetch_from_one_of_ours_that_has_only_parts(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    blocks = [b"block %d" % n for n in range(3000)]
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        async with PythonPeer.open() as writer:
            own = writer.own_core()
            await own.append(blocks)
            key = own.key.hex()
            copy = ours.core(key)
            ours.dial(await writer.listen())
            await copy.wait_length(len(blocks))
            for start, stop in _HELD:
                await copy.download(start, stop)
        await theirs.open_core(key=key)
        await meet(ours, theirs)
        await theirs.wait_length(key, len(blocks))
        assert await theirs.get(key, 1550) == blocks[1550]
        for start, stop in _HELD:
            await theirs.download(key, start, stop)
        assert await theirs.held(key) == _HELD
        assert held_ranges(copy) == _HELD


async def test_one_of_theirs_helps_us_on_as_soon_as_it_can(
    js_peer: StartJsPeer, python_peer: StartPythonPeer
) -> None:
    """It knows a longer log but not the nodes that prove it to us, until it has fetched the blocks."""
    with trio.fail_after(_PATIENCE):
        theirs, ours, writer = await js_peer(), await python_peer(), await python_peer("writer")
        own = writer.own_core()
        await own.append([b"0"])
        copy = ours.core(own.key)
        port = await writer.listen()
        ours.dial(port)
        assert await copy.get(0) == b"0"
        writer.cut()
        writer.stop_listening()
        await until(lambda: not ours.exchange.links)

        await own.append([b"1", b"2", b"3"])
        key = own.key.hex()
        await theirs.open_core(key=key)
        await theirs.connect(await writer.listen())
        await theirs.wait_length(key, 4)
        await theirs.connect(await ours.listen())
        await until(lambda: copy.session.peers == 1)
        await theirs.download(key)
        await copy.wait_length(4)
        assert await copy.get(3) == b"3"


async def test_what_is_cleared_is_asked_of_nobody(
    js_peer: StartJsPeer, python_peer: StartPythonPeer, meet: Meet
) -> None:
    """Blocks cleared while connected; each side then fetches what the other has still."""
    blocks = [b"block %d" % n for n in range(100)]
    with trio.fail_after(_PATIENCE):
        theirs, ours = await js_peer(), await python_peer()
        own = ours.own_core()
        await own.append(blocks)
        await theirs.open_core(key=own.key.hex())
        other = (await theirs.open_core(name="theirs")).key
        await theirs.append(other, blocks)
        copy = ours.core(other)
        await meet(ours, theirs)
        await copy.wait_length(100)
        await theirs.wait_length(own.key.hex(), 100)
        assert await copy.get(0) == blocks[0]
        assert await theirs.get(own.key.hex(), 0) == blocks[0]

        await own.clear(10, 20)
        await theirs.clear(other, 10, 20)
        for start, stop in ((0, 10), (20, 100)):
            await copy.download(start, stop)
            await theirs.download(own.key.hex(), start, stop)
        assert held_ranges(copy) == await theirs.held(own.key.hex()) == [(0, 10), (20, 100)]
