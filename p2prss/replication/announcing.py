"""What peers are told about us: how far the log reaches, and which blocks we hold.

Source: hypercore lib/replicator.js ``onwant``, ``broadcastRange``; spec/05-replication, "Announcements".
"""

from p2prss.log.bitfield import Bitfield
from p2prss.replication.limits import (
    ALWAYS_ANNOUNCED,
    MAX_REMOTE_WANT_SIZES,
    MAX_REMOTE_WANTS,
    MIN_WANT_BLOCKS,
    WANT_BLOCKS,
)
from p2prss.wire.messages import BitfieldMessage, Range, Unwant, Want


class Interests:
    """The stretches of a log that a peer wants to hear about.

    Wants of odd shape, or too many of them, are not stored: the peer is then told everything.
    """

    __slots__ = ("_everything", "_sizes", "_stretches")

    def __init__(self) -> None:
        self._everything = False
        self._stretches: set[tuple[int, int]] = set()  # (size, number of the stretch of that size)
        self._sizes: dict[int, int] = {}  # how many stretches of each size

    def add(self, want: Want) -> bool:
        """Remember a want; False when it is too long to be heeded at all."""
        size = want.length
        if size > WANT_BLOCKS:
            return False
        stretch = (size, want.start // size if size else 0)
        if stretch in self._stretches:
            return True
        if (
            size < MIN_WANT_BLOCKS
            or size & (size - 1)
            or want.start % size
            or len(self._stretches) >= MAX_REMOTE_WANTS
            or (size not in self._sizes and len(self._sizes) >= MAX_REMOTE_WANT_SIZES)
        ):
            self._everything = True
            return True
        self._stretches.add(stretch)
        self._sizes[size] = self._sizes.get(size, 0) + 1
        return True

    def remove(self, unwant: Unwant) -> None:
        """Forget a want, if it was stored."""
        size = unwant.length
        stretch = (size, unwant.start // size if size else 0)
        if stretch in self._stretches:
            self._stretches.remove(stretch)
            self._sizes[size] -= 1
            if not self._sizes[size]:
                del self._sizes[size]

    def covers(self, start: int, stop: int, length: int) -> bool:
        """Whether to announce ``[start, stop)`` of a log of ``length`` blocks, unasked or not."""
        if self._everything or stop > length - ALWAYS_ANNOUNCED:
            return True
        return any(
            (size, number) in self._stretches
            for size in self._sizes
            for number in range(start // size, min((stop - 1) // size, start // size + MAX_REMOTE_WANTS) + 1)
        )


def want_reply(want: Want, held: Bitfield, contiguous: int, length: int) -> Range | BitfieldMessage | None:
    """What to say to a want: which blocks of it we hold; None when there is nothing to say."""
    stop = min(want.start + want.length, length)
    if want.start >= stop:
        return None
    if contiguous >= stop:
        return Range(0, contiguous)
    first = held.first_set(want.start)
    if first is None or first >= stop:
        return None
    if want.any:
        return Range(first, 1)
    start = want.start & ~31  # not the first block held: what the peer believes of those before may be stale
    return BitfieldMessage(start, held.words(start, (stop - start + 31) // 32))
