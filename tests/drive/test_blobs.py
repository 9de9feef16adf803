"""Blobs against bytes, however they were cut, and whatever their ids say."""

from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.compact import Writer
from p2prss.drive.blobs import APPEND_SIZE, BLOCK_SIZE, BlobId, Blobs, Held
from p2prss.drive.block_map import decode_block_map
from p2prss.drive.errors import DriveError
from p2prss.errors import BlockUnavailableError, DecodeError
from tests.fakes.memory_core import MemoryCore

CHUNKS = st.lists(st.binary(max_size=40), max_size=8)
POSITIONS = st.integers(0, 120)


async def read(blobs: Blobs, blob: BlobId, start: int = 0, stop: int | None = None) -> bytes:
    async with aclosing(blobs.read(blob, start, stop)) as pieces:
        return b"".join([piece async for piece in pieces])


async def slowly(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        await trio.lowlevel.checkpoint()
        yield chunk


def block_map(*pairs: tuple[int, int]) -> bytes:
    out = Writer()
    out.uint(0)
    out.uint(len(pairs))
    for index, size in pairs:
        out.uint(index)
        out.uint(size)
    return out.finish()


@given(CHUNKS, CHUNKS, POSITIONS, POSITIONS)
def test_what_was_put_is_read(before: list[bytes], chunks: list[bytes], start: int, stop: int) -> None:
    async def test() -> None:
        core = MemoryCore()
        blobs = Blobs(core, block_size=16)
        await blobs.put(before)
        content = b"".join(chunks)
        ids = [
            await blobs.put(chunks),
            await blobs.put(slowly(chunks)),
            await blobs.put(content),
            await blobs.put(bytearray(content)),
        ]
        ids += await blobs.put_many([content, bytearray(content)])
        await blobs.put(b"what comes after")
        for blob in ids:
            assert blob.byte_length == len(content)
            assert blob.block_length == -(-len(content) // 16)
            assert await read(blobs, blob) == content
            assert await read(blobs, blob, start, stop) == content[start:stop]
            assert await read(blobs, blob, start) == content[start:]

    trio.run(test)


@given(CHUNKS, POSITIONS, POSITIONS, st.booleans(), st.integers(0, 5))
def test_blocks_of_any_size_are_read(
    blocks: list[bytes], start: int, stop: int, tree_tells: bool, lie: int
) -> None:
    """As JavaScript's write streams leave them; ``lie`` is how far the claimed byte offset is off."""

    async def test() -> None:
        core = MemoryCore([b"before", *blocks, b"after"])
        if not tree_tells:
            core.byte_offset = lambda index: None  # type: ignore[method-assign]
        content = b"".join(blocks)
        blob = BlobId(1, len(b"before") + lie, len(blocks), len(content))
        assert await read(Blobs(core, block_size=16), blob, start, stop) == content[start:stop]

    trio.run(test)


@given(CHUNKS, st.data())
def test_block_maps(blocks: list[bytes], data: st.DataObject) -> None:
    listed = data.draw(st.lists(st.integers(0, len(blocks) - 1), max_size=12) if blocks else st.just([]))
    start, stop = data.draw(POSITIONS), data.draw(POSITIONS)

    async def test() -> None:
        content = b"".join(blocks[index] for index in listed)
        pairs = [(index, len(blocks[index])) for index in listed]
        half = len(pairs) // 2
        core = MemoryCore([*blocks, block_map(*pairs[:half]), block_map(*pairs[half:])])
        blobs = Blobs(core)
        blob = BlobId(len(blocks), 0, 2, 999, block_map=True)
        assert await blobs.size(blob) == len(content)
        assert await read(blobs, blob) == content
        assert await read(blobs, blob, start, stop) == content[start:stop]
        await blobs.clear(blob)
        assert core.missing == {*listed, len(blocks), len(blocks) + 1}
        core.missing.discard(len(blocks))
        core.missing.discard(len(blocks) + 1)
        assert await blobs.held(blob) == Held(2, 2 + len(set(listed)))
        await blobs.download(blob)
        assert await blobs.held(blob) == Held(2 + len(set(listed)), 2 + len(set(listed)))

    trio.run(test)


async def test_a_large_blob_is_appended_in_parts_of_one_range() -> None:
    core = MemoryCore()
    blobs = Blobs(core)
    size = 2 * APPEND_SIZE + BLOCK_SIZE + 1

    async def put_small() -> None:
        await blobs.put(b"small")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(put_small)
        blob = await blobs.put(slowly(bytes([n % 251]) * 10_000 for n in range(size // 10_000)))
    assert (
        max(b - a for a, b in zip([0, *core.appends], core.appends, strict=False))
        <= APPEND_SIZE // BLOCK_SIZE
    )
    assert all(
        len(core.blocks[index]) == BLOCK_SIZE for index in range(blob.block_offset, blob.block_stop - 1)
    )
    content = await read(blobs, blob)
    assert content == b"".join(bytes([n % 251]) * 10_000 for n in range(size // 10_000))


async def test_a_range_fetches_only_its_blocks() -> None:
    core = MemoryCore()
    blobs = Blobs(core, block_size=10)
    blob = await blobs.put(bytes(range(200)))
    core.missing = set(range(core.length))
    assert await read(blobs, blob, 95, 112) == bytes(range(95, 112))
    assert core.fetched == [9, 10, 11]


async def test_a_reader_who_leaves_stops_the_fetching() -> None:
    core = MemoryCore()
    blobs = Blobs(core, block_size=10)
    blob = await blobs.put(bytes(100))
    core.missing = set(range(core.length))
    async with aclosing(blobs.read(blob)) as pieces:
        await anext(pieces)
    assert core.fetched == [0]


@pytest.mark.parametrize(
    "blob",
    [
        BlobId(0, 0, 2, 21),  # more bytes than the blocks hold
        BlobId(0, 0, 0, 5),  # bytes in no blocks
        BlobId(0, 0, 1, 2**53 - 1),
        BlobId(2, 0, 1, 5, block_map=True),  # content where the map should be
        BlobId(3, 0, 1, 5, block_map=True),  # a listed block has another size
        BlobId(4, 0, 1, 5, block_map=True),  # a listed block larger than any may be
        BlobId(0, 0, 65, 5, block_map=True),
        BlobId(0, 0, 0, 5, block_map=True),
    ],
)
async def test_ids_that_lie_are_refused(blob: BlobId) -> None:
    core = MemoryCore([bytes(10), bytes(10), b"\x01 no map", block_map((0, 9)), block_map((0, 2**40))])
    with pytest.raises(DriveError):
        await read(Blobs(core), blob)


@pytest.mark.parametrize(
    "blob", [BlobId(5, 0, 1, 5), BlobId(2**53 - 1, 0, 2**53 - 1, 5), BlobId(1, 0, 1, 1, block_map=True)]
)
async def test_blocks_that_are_not_announced_are_not_waited_for(blob: BlobId) -> None:
    core = MemoryCore([b"x", block_map((2**53 - 1, 1))])
    with pytest.raises(BlockUnavailableError):
        await read(Blobs(core), blob)


async def test_a_map_that_unfolds_too_far_is_refused() -> None:
    bomb = block_map(*[(0, 15 * 2**20)] * 8192)
    core = MemoryCore([b"x", *[bomb] * 64])
    with pytest.raises(DriveError, match="unfolds"):
        await Blobs(core).size(BlobId(1, 0, 64, 1, block_map=True))


@given(st.binary())
def test_any_bytes_are_a_map_or_a_decode_error(block: bytes) -> None:
    try:
        pairs = decode_block_map(block)
    except DecodeError:
        return
    assert len(pairs) <= len(block)


async def test_what_is_here_of_many_blobs_is_read_together() -> None:
    core = MemoryCore()
    blobs = Blobs(core, block_size=16)
    contents = {number: bytes([number]) * (5 * number) for number in range(1, 80)}
    ids = dict(zip(contents, await blobs.put_many(list(contents.values())), strict=True))
    assert await blobs.get_held(ids, max_bytes=400) == contents
    core.missing = {ids[7].block_offset, ids[70].block_stop - 1}
    core.remote = False
    found = await blobs.get_held(ids, max_bytes=300)
    assert found == {name: data for name, data in contents.items() if name < 61 and name != 7}
    assert not core.fetched


@pytest.mark.parametrize(
    "lie",
    [
        BlobId(1, 16, 1, 15),
        BlobId(1, 16, 1, 17),
        BlobId(1, 16, 9, 16),
        BlobId(1, 16, 0, 16),
        BlobId(1, 16, 10**12, 16),
        BlobId(10**12, 16, 1, 16),
        BlobId(1, 16, 3, 48, block_map=False),
    ],
)
async def test_a_blob_that_is_not_what_it_says_is_not_among_them(lie: BlobId) -> None:
    blobs = Blobs(MemoryCore(), block_size=16)
    first, _, third = await blobs.put_many([b"a" * 16, b"b" * 16, b"c" * 15])
    found = await blobs.get_held({"first": first, "lie": lie, "third": third}, max_bytes=100)
    assert "lie" not in found
    assert set(found.values()) <= {b"a" * 16, b"c" * 15}
