"""The decoded blocks of Hyperbees, within one budget of memory for all that are open.

Blocks never change within a fork, so what is cached stays true; a truncation empties the cache.
"""

import weakref
from contextlib import aclosing, suppress
from typing import Final

from p2prss.drive.btree import BeeBlock, Header
from p2prss.drive.core import Core
from p2prss.drive.errors import DriveError
from p2prss.units import MIB

CACHED_BLOCKS: Final = 16 * 1024  # of one bee
CACHED_BYTES: Final = 32 * MIB  # of memory, for all bees together
_BLOCK_OVERHEAD: Final = 640  # bytes a decoded block takes beside its content, measured
_BULK_BLOCKS: Final = 64  # new ones, from which on reading everything in one go is worth it


class CacheBudget:
    """Memory shared by caches; when it is used up, the cache that rested longest is emptied."""

    def __init__(self, max_bytes: int = CACHED_BYTES) -> None:
        self.max_bytes = max_bytes
        self.used = 0  # bytes
        self._used_by: dict[weakref.ref[BlockCache], int] = {}  # the one that rested longest first

    def join(self, cache: "BlockCache") -> "weakref.ref[BlockCache]":
        """Take a cache in; it leaves when it is collected. Returns: what it is known by here."""
        ref = weakref.ref(cache, self._leave)
        self._used_by[ref] = 0
        return ref

    def touch(self, ref: "weakref.ref[BlockCache]") -> None:
        """Note that a cache is in use."""
        self._used_by[ref] = self._used_by.pop(ref)

    def charge(self, ref: "weakref.ref[BlockCache]", size: int) -> None:
        """Account for bytes a cache took, or with a negative size gave back."""
        self._used_by[ref] += size
        self.used += size

    def make_room(self, ref: "weakref.ref[BlockCache]") -> bool:
        """Empty others until all fits. Returns: whether it does."""
        while self.used > self.max_bytes:
            other = next((other for other, used in self._used_by.items() if used and other != ref), None)
            cache = other() if other is not None else None
            if cache is None:
                return False
            cache.forget_all()
        return True

    def _leave(self, ref: "weakref.ref[BlockCache]") -> None:
        self.used -= self._used_by.pop(ref)


SHARED_BUDGET: Final = CacheBudget()


class BlockCache:
    """Loads and decodes the blocks of one log; forgets the ones loaded first when there are too many."""

    def __init__(
        self, core: Core, *, max_blocks: int = CACHED_BLOCKS, budget: CacheBudget = SHARED_BUDGET
    ) -> None:
        self._core = core
        self._max_blocks = max_blocks
        self._budget = budget
        self._ref = budget.join(self)
        self._blocks: dict[int, BeeBlock] = {}
        self._fork = core.fork
        self._header: Header | None = None
        self._warmed = 1  # all blocks below have been read once

    def __len__(self) -> int:
        return len(self._blocks)

    def peek(self, seq: int) -> BeeBlock | None:
        """The block, if it is here."""
        if self._fork != self._core.fork:
            self.forget_all()
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
        self._budget.touch(self._ref)
        if self._fork != self._core.fork:
            self.forget_all()
        if self._header is None:
            fork = self._core.fork
            header = Header.decode(await self._core.get(0))
            if fork != self._core.fork:
                return header
            self._header = header
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
        if fork == self._core.fork:
            self._warmed = version

    def add(self, seq: int, block: bytes) -> None:
        """Keep a block that was just appended."""
        self._keep(BeeBlock.decode(seq, block), self._core.fork)

    def forget_all(self) -> None:
        """Start anew."""
        self._budget.charge(self._ref, -sum(block.size + _BLOCK_OVERHEAD for block in self._blocks.values()))
        self._blocks.clear()
        self._header = None
        self._warmed = 1
        self._fork = self._core.fork

    def _keep(self, block: BeeBlock, fork: int) -> None:
        if fork != self._core.fork or self.peek(block.entry.seq) is not None:
            return
        self._blocks[block.entry.seq] = block
        self._budget.charge(self._ref, block.size + _BLOCK_OVERHEAD)
        while self._blocks and (
            len(self._blocks) > self._max_blocks or not self._budget.make_room(self._ref)
        ):
            oldest = self._blocks.pop(next(iter(self._blocks)))
            self._budget.charge(self._ref, -(oldest.size + _BLOCK_OVERHEAD))
