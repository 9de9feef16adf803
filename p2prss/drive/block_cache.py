"""The decoded blocks of a Hyperbee, at most so many and so many bytes.

Blocks never change within a fork, so what is cached stays true; a truncation empties the cache.
"""

from contextlib import aclosing, suppress
from typing import Final

from p2prss.drive.btree import BeeBlock, Header
from p2prss.drive.core import Core
from p2prss.drive.errors import DriveError
from p2prss.units import MIB

CACHED_BLOCKS: Final = 16 * 1024
CACHED_BYTES: Final = 16 * MIB  # of encoded blocks; decoded they take about three times as much
_BULK_BLOCKS: Final = 64  # missing, from which on reading everything in one go is worth it


class BlockCache:
    """Loads and decodes the blocks of one log; forgets the ones loaded first when there are too many."""

    def __init__(self, core: Core, max_blocks: int = CACHED_BLOCKS, max_bytes: int = CACHED_BYTES) -> None:
        self._core = core
        self._max_blocks = max_blocks
        self._max_bytes = max_bytes
        self._blocks: dict[int, BeeBlock] = {}
        self._bytes = 0
        self._fork = core.fork
        self._header: Header | None = None
        self._warmed = 1  # all blocks below have been read once

    def __len__(self) -> int:
        return len(self._blocks)

    def peek(self, seq: int) -> BeeBlock | None:
        """The block, if it is here."""
        if self._fork != self._core.fork:
            self._forget_all()
        return self._blocks.get(seq)

    async def load(self, seq: int) -> BeeBlock:
        """The block, from the log if need be.

        Raises: DriveError when it is malformed, or gone because the log was truncated meanwhile.
        """
        block = self.peek(seq)
        if block is None:
            if not 1 <= seq < self._core.length:
                raise DriveError(f"block {seq} is outside the log of {self._core.length}")
            fork = self._core.fork
            block = BeeBlock.decode(seq, await self._core.get(seq))
            self._keep(block, fork)
        return block

    async def header(self) -> Header:
        """Block 0."""
        if self._fork != self._core.fork:
            self._forget_all()
        if self._header is None:
            self._header = Header.decode(await self._core.get(0))
        return self._header

    async def warm(self, version: int) -> None:
        """Read all blocks up to a version in one go, if they are held here, few enough, and many are new."""
        if version - self._warmed < _BULK_BLOCKS or version > self._max_blocks:
            return
        start = self._warmed
        if self._core.held(start, version) < version - start:
            return
        fork = self._core.fork
        async with aclosing(self._core.read(start, version)) as blocks:
            seq = start
            async for content in blocks:
                if seq not in self._blocks:
                    with suppress(DriveError):  # a malformed block matters only to those who need it
                        self._keep(BeeBlock.decode(seq, content), fork)
                seq += 1
        self._warmed = version

    def add(self, seq: int, block: bytes) -> None:
        """Keep a block that was just appended."""
        self._keep(BeeBlock.decode(seq, block), self._core.fork)

    def _keep(self, block: BeeBlock, fork: int) -> None:
        if fork != self._core.fork or fork != self._fork or block.entry.seq in self._blocks:
            return
        self._blocks[block.entry.seq] = block
        self._bytes += block.size
        while len(self._blocks) > self._max_blocks or self._bytes > self._max_bytes:
            oldest = next(iter(self._blocks))
            self._bytes -= self._blocks.pop(oldest).size

    def _forget_all(self) -> None:
        self._blocks.clear()
        self._bytes = 0
        self._header = None
        self._warmed = 1
        self._fork = self._core.fork
