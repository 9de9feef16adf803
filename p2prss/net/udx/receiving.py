"""The receiving half of a stream: packets in any order become bytes in order.

Memory per stream, at worst: ``RECEIVE_WINDOW`` of unread bytes in order and as much out of order, each chunk
counted with ``CHUNK_COST``; a peer that ignores our window has its packets dropped beyond that.
"""

from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.net.udx.packet import DATA, END, HALF, MAX_SACK_RANGES, NUMBERED, SEQ_MASK
from p2prss.net.udx.ranges import RangeSet
from p2prss.units import KIB, MIB

RECEIVE_WINDOW: Final = 4 * MIB  # bytes we are willing to hold
WINDOW_SLACK: Final = 64 * KIB  # bytes above it: probes and packets sent before the peer knew
CHUNK_COST: Final = 64  # bytes an object costs besides its content
MAX_AHEAD: Final = 65_536  # packets above the next expected one


class ReceiveSide:
    """Puts packets in order, and knows what to acknowledge."""

    __slots__ = (
        "_advertised",
        "_chunks",
        "_discarding",
        "_end_seq",
        "_kept",
        "_kept_cost",
        "_ranges",
        "_unread_cost",
        "ack_due",
        "capacity",
        "dropped",
        "next_seq",
        "unread_bytes",
    )

    def __init__(self, first_seq: int, capacity: int = RECEIVE_WINDOW) -> None:
        self.next_seq = first_seq  # all packets before it are here
        self.capacity = capacity
        self.unread_bytes = 0
        self.ack_due = False
        self.dropped = 0  # packets that broke a limit
        self._chunks: list[Buffer] = []
        self._unread_cost = 0
        self._kept: dict[int, tuple[int, Buffer]] = {}  # by number, above a gap
        self._kept_cost = 0
        self._ranges = RangeSet()  # the numbers kept
        self._end_seq: int | None = None
        self._advertised = capacity
        self._discarding = False

    @property
    def ended(self) -> bool:
        """The peer has sent its end, and everything before it is here."""
        return self._end_seq is not None and self.next_seq > self._end_seq

    @property
    def window(self) -> int:
        """Bytes we are willing to take now."""
        return max(0, self.capacity - self._unread_cost - self._kept_cost)

    @property
    def update_due(self) -> bool:
        """The reader made so much room that the peer should be told."""
        return self._advertised < self.capacity // 2 and self.window - self._advertised >= self.capacity // 4

    def advertise(self) -> int:
        """The window, about to be told to the peer."""
        self._advertised = self.window
        return self._advertised

    def sack_ranges(self) -> list[tuple[int, int]]:
        """What was received above a gap, the lowest ranges."""
        return self._ranges.first_ranges(MAX_SACK_RANGES)

    def take(self, kind: int, seq: int, payload: Buffer) -> None:
        """Take a DATA or END packet with the wire's number; duplicates only owe an acknowledgement."""
        self.ack_due = True
        steps = (seq - self.next_seq) & SEQ_MASK
        if steps >= HALF or self.ended:
            return
        if steps == 0:
            if self._unread_cost > self.capacity + WINDOW_SLACK:
                self.dropped += 1
                return
            self._accept(kind, payload)
            if self._kept:
                self._accept_kept()
        else:
            self._keep(kind, self.next_seq + steps, payload)

    def read(self, limit: int) -> bytes:
        """Take out up to ``limit`` bytes that are in order; empty when there are none."""
        chunks = self._chunks
        if self.unread_bytes <= limit:
            self._chunks = []
            self.unread_bytes = self._unread_cost = 0
            return b"".join(chunks)
        size = count = 0
        while size + len(chunks[count]) <= limit:
            size += len(chunks[count])
            count += 1
        taken = chunks[:count]
        if size < limit:
            view = memoryview(chunks[count])
            taken.append(view[: limit - size])
            chunks[count] = view[limit - size :]
        del chunks[:count]
        self.unread_bytes -= limit
        self._unread_cost -= limit + count * CHUNK_COST
        return b"".join(taken)

    def peek(self, limit: int) -> bytes:
        """The first bytes that are in order, up to ``limit``; they stay."""
        head = b""
        for chunk in self._chunks:
            if len(head) >= limit:
                break
            head += chunk[: limit - len(head)]
        return head

    def discard(self) -> None:
        """Nobody reads any more: what is here and what comes is thrown away."""
        self._discarding = True
        self._chunks = []
        self.unread_bytes = self._unread_cost = 0

    def _accept(self, kind: int, payload: Buffer) -> None:
        if kind & DATA and payload and not self._discarding:
            self._chunks.append(payload)
            self.unread_bytes += len(payload)
            self._unread_cost += len(payload) + CHUNK_COST
        if kind & END:
            self._end_seq = self.next_seq
        self.next_seq += 1

    def _accept_kept(self) -> None:
        kept = self._kept
        while (entry := kept.pop(self.next_seq, None)) is not None:
            kind, payload = entry
            self._kept_cost -= len(payload) + CHUNK_COST
            self._accept(kind, payload)
            if kind & END:
                kept.clear()  # numbers after the end mean nothing
                self._kept_cost = 0
        self._ranges.discard_below(self.next_seq)
        if self.ended:
            self._ranges = RangeSet()

    def _keep(self, kind: int, seq: int, payload: Buffer) -> None:
        if seq in self._kept:
            return
        cost = len(payload) + CHUNK_COST
        room = self.capacity + WINDOW_SLACK - self._unread_cost - self._kept_cost
        if seq - self.next_seq >= MAX_AHEAD or cost > room:
            self.dropped += 1
            return
        self._kept[seq] = kind & NUMBERED, payload
        self._kept_cost += cost
        self._ranges.add(seq, seq + 1)
