"""What is missing, and in what order it is to come.

A ``Want`` is a stretch of blocks with a priority. Each peer is led through it by a cursor of its own, so
that several peers share the work and nobody looks twice at what a peer cannot bring.
"""

from collections.abc import Container, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

from p2prss.log.bitfield import Bitfield
from p2prss.replication.holdings import Holdings

_CHUNK: Final = 32768  # blocks looked at in one step of a search; a page of a bitfield


class Priority(IntEnum):
    """How soon a block is needed."""

    BACKGROUND = 0
    READ_AHEAD = 1
    PLAYHEAD = 2


@dataclass(slots=True)
class _Cursor:
    """A peer's place in a want. When it began in the middle, it comes back for the first part."""

    position: int
    stop: int | None  # None: the log's length
    began: int | None = None  # where, when not at the want's start and not come back yet


@dataclass(slots=True, eq=False)
class Want:
    """Blocks ``[start, stop)`` are wanted; without ``stop``, all from ``start`` on, for good."""

    start: int  # block index
    stop: int | None
    priority: Priority
    linear: bool = True  # from the first block on; else each peer begins somewhere
    missing_from: int = 0  # all blocks of the want in front of this one are held
    cursors: dict[int, _Cursor] = field(default_factory=dict, repr=False)  # by peer

    def covers(self, index: int) -> bool:
        """Whether the block is wanted."""
        return self.start <= index and (self.stop is None or index < self.stop)

    def stop_at(self, length: int) -> int:
        """Where the want ends in a log of that length."""
        return length if self.stop is None or self.stop > length else self.stop


@dataclass(slots=True, eq=False)
class SeekWant:
    """The tree nodes are wanted that tell which block holds byte ``byte_offset``."""

    byte_offset: int
    padding: int  # bytes of each block that do not count
    span: tuple[int, int] | None = None  # blocks [start, stop) the byte must lie in, when known
    asked: bool = False


class Wants:
    """All wants of one log, the most urgent first."""

    def __init__(self) -> None:
        self.seeks: list[SeekWant] = []
        self._wants: dict[Priority, dict[Want, None]] = {priority: {} for priority in reversed(Priority)}

    def __iter__(self) -> Iterator[Want]:
        for wants in self._wants.values():
            yield from wants

    def __bool__(self) -> bool:
        return bool(self.seeks) or any(self._wants.values())

    def add(self, want: Want) -> None:
        """Add a want; among equals the older one goes first."""
        want.missing_from = want.start
        self._wants[want.priority][want] = None

    def remove(self, want: Want) -> None:
        """Remove it, if it is there."""
        self._wants[want.priority].pop(want, None)

    def of(self, priority: Priority) -> list[Want]:
        """The wants of that priority."""
        return list(self._wants[priority])

    def priority_of(self, index: int) -> Priority | None:
        """How soon the block is needed; None when nobody wants it."""
        for want in self:
            if want.covers(index):
                return want.priority
        return None

    def rewind(self, index: int, peer: int | None = None) -> None:
        """Blocks from ``index`` on are to be looked at again, for one peer or for all."""
        for want in self:
            cursors = want.cursors.values() if peer is None else filter(None, [want.cursors.get(peer)])
            for cursor in cursors:
                if index < cursor.position:
                    cursor.position = max(index, want.start)
                    cursor.stop, cursor.began = want.stop, None

    def missing_again(self, index: int) -> None:
        """Blocks from ``index`` on were held and may be so no longer."""
        self.rewind(index)
        for want in self:
            want.missing_from = min(want.missing_from, max(want.start, index))

    def forget(self, peer: int) -> None:
        """A peer is gone."""
        for want in self:
            want.cursors.pop(peer, None)

    def restart_scattered(self) -> None:
        """The log has grown: wants that are not linear are gone through again, from elsewhere."""
        for want in self:
            if not want.linear:
                want.cursors.clear()

    def any_missing(self, held: Bitfield, length: int) -> bool:
        """Whether something is wanted that is not held; what lies beyond the log counts, if it has an end."""
        for want in self:
            want.missing_from = max(want.missing_from, held.first_unset(want.missing_from))
            if want.missing_from < (length if want.stop is None else want.stop):
                return True
        return bool(self.seeks)

    def take_completed(self, held: Bitfield, start: int, stop: int) -> list[Want]:
        """Remove and return the wants that have become complete by blocks in ``[start, stop)``."""
        completed = []
        for want in list(self):
            if want.stop is None or want.stop <= start or stop <= want.missing_from:
                continue
            want.missing_from = held.first_unset(want.missing_from)
            if want.missing_from >= want.stop:
                completed.append(want)
                self.remove(want)
        return completed


def next_block(
    want: Want,
    peer: int,
    holdings: Holdings,
    held: Bitfield,
    claimed: Container[int],
    length: int,
    begin: int,
) -> int | None:
    """The next block of the want that a peer can be asked for, moving its cursor behind it.

    Args: held: our blocks; claimed: those that are being fetched already; length: of the log; begin:
        where the peer's cursor starts when it has none yet.
    """
    cursor = want.cursors.get(peer)
    if cursor is None:
        cursor = _Cursor(begin, want.stop, begin if begin > want.start else None)
        want.cursors[peer] = cursor
    while True:
        stop = length if cursor.stop is None or cursor.stop > length else cursor.stop
        found = _search(cursor.position, stop, holdings, held, claimed)
        if found is not None:
            cursor.position = found + 1
            return found
        cursor.position = max(cursor.position, stop)
        if cursor.began is None:
            return None
        cursor.position, cursor.stop, cursor.began = want.start, cursor.began, None


def _search(index: int, stop: int, holdings: Holdings, held: Bitfield, claimed: Container[int]) -> int | None:
    """The first block of ``[index, stop)`` the peer has, and we neither have nor fetch."""
    while index < stop:
        if held.has(index):
            index = held.first_unset(index)
        elif not holdings.has(index):
            following = holdings.first(index)
            if following is None:
                return None
            index = following
        elif index in claimed:
            index += 1
        else:
            return index
        if index < stop and (held.has(index) or not holdings.has(index)):
            # Holes here and there on both sides: look at many blocks at once.
            base = index & ~31
            candidates = holdings.word(base, _CHUNK) & ~int.from_bytes(
                held.words(base, _CHUNK // 32), "little"
            )
            candidates &= -1 << (index - base)
            index = base + ((candidates & -candidates).bit_length() - 1 if candidates else _CHUNK)
    return None
