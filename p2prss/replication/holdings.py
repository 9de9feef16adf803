"""Which blocks a peer says it has: a contiguous beginning, and bits for the rest."""

from p2prss.codec.compact import Buffer
from p2prss.log.bitfield import Bitfield


class Holdings:
    """A peer's claims. What they can cost is bounded by the ``bound`` given with each: bits of blocks
    from there on are not kept; a contiguous beginning is one number, however long.
    """

    __slots__ = ("_bits", "contiguous")

    def __init__(self) -> None:
        self.contiguous = 0  # blocks
        self._bits = Bitfield()

    def has(self, index: int) -> bool:
        """Whether it has the block."""
        return index < self.contiguous or self._bits.has(index)

    def has_all(self, start: int, stop: int) -> bool:
        """Whether it has every block of ``[start, stop)``."""
        return stop <= self.contiguous or self._bits.all_set(max(start, self.contiguous), stop)

    def count(self, length: int) -> int:
        """How many of the first ``length`` blocks it has."""
        return min(self.contiguous, length) + self._bits.count(self.contiguous, length)

    def first(self, start: int) -> int | None:
        """The first block from ``start`` on that it has."""
        return start if start < self.contiguous else self._bits.first_set(start)

    def word(self, start: int, blocks: int) -> int:
        """Bit i says whether it has block ``start`` + i; both arguments are multiples of 32."""
        bits = int.from_bytes(self._bits.words(start, blocks // 32), "little")
        if start < self.contiguous:
            bits |= (1 << min(self.contiguous - start, blocks)) - 1
        return bits

    def add(self, start: int, stop: int, bound: int) -> None:
        """It has ``[start, stop)``, and keeps what it had."""
        if start <= self.contiguous:
            self.contiguous = max(self.contiguous, stop)
        else:
            self._bits.set_range(start, min(stop, bound))

    def drop(self, start: int, stop: int, bound: int) -> None:
        """It has ``[start, stop)`` no longer."""
        self._bits.unset_range(start, min(stop, bound))
        if start < self.contiguous:
            self._bits.set_range(stop, min(self.contiguous, bound))
            self.contiguous = start

    def overwrite(self, start: int, words: Buffer, bound: int) -> None:
        """It has what ``words`` says from block ``start`` (a multiple of 32) on, and keeps the rest."""
        words = memoryview(words)[: max(0, (bound - start + 31) // 32 * 4)]
        stop = start + 8 * len(words)
        if start < self.contiguous:
            self._bits.set_range(stop, min(self.contiguous, bound))
            self.contiguous = start
        if len(words):
            self._bits.set_words(start, words)

    def cut(self, length: int) -> None:
        """Its log was cut to ``length`` blocks."""
        self.contiguous = min(self.contiguous, length)
        last = self._bits.last_set()
        if last is not None and last >= length:
            self._bits.unset_range(length, last + 1)
