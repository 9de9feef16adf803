"""Hyperblobs: byte strings cut into the blocks of one log.

A blob id names a range of blocks. What it says about bytes is the writer's word, so the real sizes
of the blocks decide: nothing is allocated by it, reads are cut to it, and a blob that holds fewer
bytes than it says is an error, never a short read that looks whole.
In the deduplicated form (``block_map``) the range holds a list of blocks instead of the content.
Source: hyperblobs index.js, lib/block-map.js; spec/06-drive, "Blobs".
"""

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

from p2prss.codec.compact import Buffer
from p2prss.drive.block_map import (
    MAX_BLOCK_SIZE,
    MAX_MAP_BLOCKS,
    MAX_MAP_BYTES,
    Pair,
    cut,
    decode_block_map,
    runs,
)
from p2prss.drive.core import Core
from p2prss.drive.cutter import Cutter
from p2prss.drive.errors import DriveError
from p2prss.errors import BlockUnavailableError, DecodeError
from p2prss.units import KIB, MIB

BLOCK_SIZE: Final = 64 * KIB  # bytes; what we and the reference write, never what we rely on
APPEND_SIZE: Final = 4 * MIB  # bytes under one signature; memory of a put is this and one chunk
MAX_HELD_BLOCKS: Final = 64  # read together, where many small blobs are asked for

T = TypeVar("T")

Source = Buffer | Iterable[Buffer] | AsyncIterable[Buffer]


@dataclass(frozen=True, slots=True)
class BlobId:
    """Where a blob is; with ``block_map`` all four numbers describe the map."""

    block_offset: int
    byte_offset: int  # bytes of all blocks before it; not relied on
    block_length: int
    byte_length: int
    block_map: bool = False

    @property
    def is_plausible(self) -> bool:
        """Whether so many blocks can hold so many bytes."""
        return self.byte_length <= self.block_length * MAX_BLOCK_SIZE

    @property
    def block_stop(self) -> int:
        """The block behind the last one."""
        return self.block_offset + self.block_length


@dataclass(frozen=True, slots=True)
class Held:
    """How many blocks of a blob are held here, of how many."""

    blocks: int
    total: int


class Blobs:
    """The blobs of one log."""

    def __init__(self, core: Core, *, block_size: int = BLOCK_SIZE) -> None:
        self.core = core
        self._block_size = block_size

    async def put(self, source: Source) -> BlobId:
        """Append bytes, or chunks of any size, as one blob; durable on return.

        It is written in appends of ``APPEND_SIZE``, so memory stays flat, while the log's write lock is held.
        Chunks should therefore come from a file rather than from a slow origin. If the source
        fails halfway, what was appended stays in the log, unnamed.
        """
        cutter = Cutter(self._block_size)
        async with self.core.write_lock:
            block_offset, byte_offset = self.core.length, self.core.byte_length
            if isinstance(source, Buffer):
                cutter.add(source)
            elif isinstance(source, AsyncIterable):
                async for chunk in source:
                    cutter.add(bytes(chunk))
                    await self._append(cutter, APPEND_SIZE)
            else:
                for chunk in source:
                    cutter.add(bytes(chunk))
                    await self._append(cutter, APPEND_SIZE)
            await self._append(cutter, APPEND_SIZE)
            cutter.finish()
            await self._append(cutter, 1)
            block_length = self.core.length - block_offset
        return BlobId(block_offset, byte_offset, block_length, cutter.total)

    async def put_many(self, contents: Iterable[Buffer]) -> list[BlobId]:
        """Append small blobs, many under one signed head; each begins a block of its own."""
        blobs: list[BlobId] = []
        cutter = Cutter(self._block_size)
        async with self.core.write_lock:
            block_offset, byte_offset = self.core.length, self.core.byte_length
            for content in contents:
                before, blocks_before = cutter.total, cutter.blocks
                cutter.add(content)
                cutter.finish()
                size, count = cutter.total - before, cutter.blocks - blocks_before
                blobs.append(BlobId(block_offset, byte_offset, count, size))
                block_offset, byte_offset = block_offset + count, byte_offset + size
                await self._append(cutter, APPEND_SIZE)
            await self._append(cutter, 1)
        return blobs

    async def size(self, blob: BlobId) -> int:
        """The bytes ``read`` gives, or fails to give; a map is read for it."""
        return sum(size for _, size in await self._map(blob)) if blob.block_map else blob.byte_length

    async def read(
        self, blob: BlobId, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes from ``start`` up to ``stop``, cut to the blob, in pieces as the blocks come.

        Close it when leaving early, best by ``contextlib.aclosing``: that ends the fetching too.
        Raises: DriveError when the blob holds less than it says; what ``Core.read`` raises.
        """
        pairs = await self._map(blob) if blob.block_map else None
        size = sum(length for _, length in pairs) if pairs is not None else blob.byte_length
        start, stop = max(start, 0), size if stop is None else min(stop, size)
        if start >= stop:
            return
        if pairs is not None:
            pieces = self._read_mapped(pairs, start, stop - start)
        else:
            pieces = self._read_plain(blob, start, stop - start)
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece

    async def get_held(self, blobs: Mapping[T, BlobId], *, max_bytes: int) -> dict[T, bytes]:
        """The content of those plain blobs that are wholly here and have at most ``max_bytes``.

        What lies side by side is read together. A blob whose blocks hold other than it says is left out.
        """
        wanted = [
            (blob, name)
            for name, blob in blobs.items()
            if blob.byte_length <= max_bytes
            and 0 < blob.block_length <= MAX_HELD_BLOCKS
            and blob.block_stop <= self.core.length
            and self.core.held(blob.block_offset, blob.block_stop) == blob.block_length
        ]
        wanted.sort(key=lambda one: one[0].block_offset)
        found: dict[T, bytes] = {}
        for run in _neighbours(wanted):
            start, promised = run[0][0].block_offset, sum(blob.byte_length for blob, _ in run)
            blocks: list[bytes] = []
            async with aclosing(self.core.read(start, run[-1][0].block_stop)) as source:
                async for block in source:
                    blocks.append(block)
                    promised -= len(block)
                    if promised < 0:  # one of them lies
                        break
            for blob, name in run:
                first = blob.block_offset - start
                content = b"".join(blocks[first : first + blob.block_length])
                if len(content) == blob.byte_length:
                    found[name] = content
        return found

    async def blocks(self, blob: BlobId) -> list[tuple[int, int]]:
        """The ranges of blocks a blob is made of, a map and what it lists included."""
        ranges = [(blob.block_offset, blob.block_stop)] if blob.block_length else []
        if blob.block_map:
            for index in sorted({index for index, _ in await self._map(blob)}):
                if ranges[-1][1] == index:
                    ranges[-1] = ranges[-1][0], index + 1
                else:
                    ranges.append((index, index + 1))
        return ranges

    async def held(self, blob: BlobId) -> Held:
        """How much of a blob is here; a map that is not here is fetched."""
        ranges = await self.blocks(blob)
        length = self.core.length
        here = sum(self.core.held(start, min(stop, length)) for start, stop in ranges if start < length)
        return Held(here, sum(stop - start for start, stop in ranges))

    async def download(self, blob: BlobId) -> None:
        """Wait until a whole blob is here."""
        for start, stop in await self.blocks(blob):
            await self._wait_announced(stop)
            await self.core.download(start, stop)

    async def clear(self, blob: BlobId) -> None:
        """Forget the blocks of a blob here; other blobs that share them lose them too."""
        for start, stop in await self.blocks(blob):
            if stop <= self.core.length:
                await self.core.clear(start, stop)

    async def _append(self, cutter: Cutter, minimum: int) -> None:
        while cutter.ready >= minimum:
            await self.core.append(cutter.take(APPEND_SIZE))

    async def _wait_announced(self, stop: int) -> None:
        """The db core may be ahead of the blobs core: ask for the rest once."""
        if stop > self.core.length:
            await self.core.update()
        if stop > self.core.length:
            raise BlockUnavailableError(
                f"the blobs have {self.core.length} blocks yet, block {stop - 1} is wanted"
            )

    async def _read_plain(self, blob: BlobId, start: int, left: int) -> AsyncGenerator[bytes, None]:
        if not blob.is_plausible:
            raise DriveError(f"a blob of {blob.byte_length} bytes in {blob.block_length} blocks")
        await self._wait_announced(blob.block_stop)
        index, skip = await self._locate(blob, start)
        typical = (
            self._block_size if self._may_be_uniform(blob) else -(-blob.byte_length // blob.block_length)
        )
        while left:
            if index >= blob.block_stop:
                raise DriveError(f"the blob at block {blob.block_offset} ends {left} bytes early")
            stop = min(blob.block_stop, index - (-(skip + left) // typical))
            async with aclosing(self.core.read(index, stop)) as blocks:
                async for block in blocks:
                    index += 1
                    piece = block[skip : skip + left] if skip or left < len(block) else block
                    skip = max(skip - len(block), 0)
                    left -= len(piece)
                    if piece:
                        yield piece
                    if not left:
                        return

    def _may_be_uniform(self, blob: BlobId) -> bool:
        return blob.block_length == -(-blob.byte_length // self._block_size)

    async def _locate(self, blob: BlobId, position: int) -> tuple[int, int]:
        """The block that holds a byte of a plain blob, and the byte's place in it.

        First by the usual layout, checked against the real size of the block and its place in the
        tree. Else by the tree, which cannot be trusted against a block, or at last by adding up.
        """
        first = blob.block_offset
        if position == 0:
            return first, 0
        if self._may_be_uniform(blob):
            number, skip = divmod(position, self._block_size)
            block = await self.core.get(first + number)
            if len(block) == min(self._block_size, blob.byte_length - number * self._block_size):
                base, place = self.core.byte_offset(first), self.core.byte_offset(first + number)
                base = blob.byte_offset if base is None else base
                if place is None or place - base == number * self._block_size:
                    return first + number, skip
        else:
            await self.core.get(first)  # with it come the tree nodes that tell its offset
            base = self.core.byte_offset(first)
            if base is not None:
                index, skip = await self.core.seek(base + position)
                if first <= index < blob.block_stop and skip < len(await self.core.get(index)):
                    return index, skip
        return await self._add_up(blob, position)

    async def _add_up(self, blob: BlobId, position: int) -> tuple[int, int]:
        index = blob.block_offset
        async with aclosing(self.core.read(index, blob.block_stop)) as blocks:
            async for block in blocks:
                if position < len(block):
                    return index, position
                position -= len(block)
                index += 1
        raise DriveError(f"the blob at block {blob.block_offset} is shorter than it says")

    async def _map(self, blob: BlobId) -> list[Pair]:
        """The pairs of a deduplicated blob."""
        if not 0 < blob.block_length <= MAX_MAP_BLOCKS:
            raise DriveError(f"a block map of {blob.block_length} blocks")
        await self._wait_announced(blob.block_stop)
        pairs: list[Pair] = []
        async with aclosing(self.core.read(blob.block_offset, blob.block_stop)) as blocks:
            async for block in blocks:
                try:
                    pairs += decode_block_map(block)
                except DecodeError as error:
                    raise DriveError(
                        f"the block map at {blob.block_offset} does not parse: {error}"
                    ) from error
        if sum(size for _, size in pairs) > MAX_MAP_BYTES:
            raise DriveError(f"the block map at {blob.block_offset} unfolds to too many bytes")
        return pairs

    async def _read_mapped(self, pairs: list[Pair], start: int, left: int) -> AsyncGenerator[bytes, None]:
        wanted, start = cut(pairs, start, left)
        for run in runs(wanted):
            await self._wait_announced(run[-1][0] + 1)
            async with aclosing(self.core.read(run[0][0], run[-1][0] + 1)) as blocks:
                lengths = iter(run)
                async for block in blocks:
                    index, length = next(lengths)
                    if len(block) != length:
                        raise DriveError(f"block {index} has {len(block)} bytes, its map says {length}")
                    piece = block[start : start + left]
                    start = 0
                    left -= len(piece)
                    if piece:
                        yield piece
                    if not left:
                        return


def _neighbours(blobs: Sequence[tuple[BlobId, T]]) -> Iterator[list[tuple[BlobId, T]]]:
    """Runs of blobs, sorted by offset, each beginning where the one before it ends."""
    run: list[tuple[BlobId, T]] = []
    size = 0
    for blob, name in blobs:
        size += blob.block_length
        if run and (run[-1][0].block_stop != blob.block_offset or size > MAX_HELD_BLOCKS):
            yield run
            run, size = [], blob.block_length
        run.append((blob, name))
    if run:
        yield run
