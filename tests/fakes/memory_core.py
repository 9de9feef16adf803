"""A log in memory that satisfies ``drive.core.Core``: no disk, no peers, no signatures."""

from bisect import bisect_right
from collections.abc import AsyncGenerator, Sequence
from itertools import accumulate

import trio

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey
from p2prss.drive.core import Core
from p2prss.errors import BlockUnavailableError
from p2prss.log.manifest import Manifest


class MemoryCore:
    """``blocks`` is the log; a block whose index is in ``missing`` must be fetched from ``remote`` first."""

    def __init__(
        self,
        blocks: Sequence[bytes] = (),
        *,
        key: bytes = bytes(32),
        manifest: Manifest | None = None,
        writable: bool = True,
    ) -> None:
        self.blocks = list(blocks)
        self.key = CoreKey(key)
        self.manifest = manifest
        self.writable = writable
        self.fork = 0
        self.write_lock = trio.Lock()
        self.missing: set[int] = set()
        self.remote = True  # whether a peer would send what is missing
        self.fetched: list[int] = []  # blocks that came from the peer, in order
        self.appends: list[int] = []  # the length after each append
        self._offsets = [0, *accumulate(map(len, self.blocks))]
        self._changed = trio.Event()

    @property
    def length(self) -> int:
        return len(self.blocks)

    @property
    def byte_length(self) -> int:
        return self._offsets[-1]

    def has(self, index: int) -> bool:
        return index < self.length and index not in self.missing

    def held(self, start: int, stop: int) -> int:
        if not self.missing:
            return min(stop, self.length) - start
        return sum(self.has(index) for index in range(start, stop))

    def byte_offset(self, index: int) -> int | None:
        return self._offsets[index] if index <= self.length else None

    async def get(self, index: int) -> bytes:
        assert 0 <= index < self.length, "a drive asks for no block that is not in the log"
        if index in self.missing:
            await trio.lowlevel.checkpoint()
            if not self.remote:
                raise BlockUnavailableError(f"block {index} is not here")
            self.missing.discard(index)
            self.fetched.append(index)
        return self.blocks[index]

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        for index in range(start, stop):
            yield await self.get(index)

    async def download(self, start: int, stop: int) -> None:
        for index in range(start, stop):
            await self.get(index)

    async def append(self, blocks: Sequence[Buffer]) -> int:
        assert self.write_lock.locked(), "the writer holds the lock"
        first = self.length
        for block in blocks:
            self.blocks.append(bytes(block))
            self._offsets.append(self._offsets[-1] + len(block))
        self.appends.append(self.length)
        self._wake()
        return first

    async def clear(self, start: int, stop: int) -> None:
        self.missing.update(range(start, stop))

    async def seek(self, byte_offset: int) -> tuple[int, int]:
        index = min(bisect_right(self._offsets, byte_offset) - 1, self.length - 1)
        return index, byte_offset - self._offsets[index]

    async def update(self) -> bool:
        return False

    async def wait_changed(self, length: int, fork: int) -> None:
        while (self.length, self.fork) == (length, fork):
            await self._changed.wait()

    def truncate(self, length: int) -> None:
        del self.blocks[length:], self._offsets[length + 1 :]
        self.fork += 1
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


def as_core(core: MemoryCore) -> Core:
    """Let the type checker see that the fake fits."""
    return core
