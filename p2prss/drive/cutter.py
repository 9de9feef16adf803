"""Bytes cut into blocks on their way into a log."""

from p2prss.codec.compact import Buffer


class Cutter:
    """Cuts chunks of any size into blocks of one size, copying only what crosses a boundary."""

    def __init__(self, block_size: int) -> None:
        self.total = 0  # bytes taken in
        self.blocks = 0  # finished
        self._size = block_size
        self._blocks: list[Buffer] = []
        self._tail = bytearray()

    @property
    def ready(self) -> int:
        """Bytes in finished blocks, the last of which may be short."""
        return len(self._blocks) * self._size

    def add(self, chunk: Buffer) -> None:
        """Take in a chunk, which must not change until its blocks are taken."""
        view = memoryview(chunk)
        self.total += len(view)
        start = 0
        if self._tail:
            start = min(self._size - len(self._tail), len(view))
            self._tail += view[:start]
            if len(self._tail) < self._size:
                return
            self.finish()
        stop = len(view) - (len(view) - start) % self._size
        self.blocks += (stop - start) // self._size
        self._blocks += [view[place : place + self._size] for place in range(start, stop, self._size)]
        self._tail += view[stop:]

    def finish(self) -> None:
        """Make a block of what is left."""
        if self._tail:
            self._blocks.append(self._tail)
            self.blocks += 1
            self._tail = bytearray()

    def take(self, size: int) -> list[Buffer]:
        """Up to ``size`` bytes of blocks."""
        count = max(size // self._size, 1)
        taken, self._blocks = self._blocks[:count], self._blocks[count:]
        return taken
