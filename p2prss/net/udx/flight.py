"""The packets of a stream that are under way: which have arrived, and which are lost.

A packet keeps its number and its payload for ever, since numbers count packets: a larger packet size is for
new packets only. Losses are found as in RACK (RFC 8985): a packet is lost when one that left later has
arrived and a while for reordering has passed since. A packet that the peer has above a gap gives back its
payload at once.

The peer tells of a limited number of ranges, the lowest. Of what lies above the last one of a list that is
full nothing is known, and RACK would take it for lost as soon as a packet that fills a gap is acknowledged:
it waits until the list has come so far.

Numbers are unwrapped: they never fall back to 0.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.net.udx.congestion import Burst
from p2prss.net.udx.ranges import RangeSet

MAX_UNACKED: Final = 32_768  # packets above the oldest unacknowledged one; receivers take 65,536
SACKS_FOR_HASTE: Final = 3  # packets above a gap: do not wait for reordering that was never seen

IN_FLIGHT, LOST, SACKED = range(3)  # states of a packet


class Packet:
    """A numbered packet that was sent and is not acknowledged in order."""

    __slots__ = ("burst", "kind", "padding", "payload", "resent", "state")

    def __init__(self, kind: int, payload: Buffer, burst: Burst) -> None:
        self.kind = kind
        self.payload = payload
        self.burst = burst  # with which it left last
        self.padding = 0  # zeros it left with: a probe of a larger packet size
        self.resent = False
        self.state = IN_FLIGHT


@dataclass(slots=True)
class Delivery:
    """What an acknowledgement told."""

    count: int = 0  # packets that arrived and were not known to have
    burst: Burst | None = None  # the latest burst of which one arrived
    rtt: float | None = None  # seconds, of the last packet of it, unless it was sent more than once
    probe: bool = False  # a padded packet is among them
    hasty: bool = False  # one was sent again though it was only late


class Flight:
    """Packets from the oldest unacknowledged to the newest, and the bursts in which they left."""

    def __init__(self, first_seq: int) -> None:
        self.una = first_seq  # the oldest packet that is not acknowledged
        self.least_rtt = 0.0  # seconds, the shortest round trip there was
        self.sacked_count = 0
        self.lost_count = 0  # known lost and not sent again
        self.late_deadline = inf  # when a packet that is late counts as lost
        self._packets: list[Packet] = []  # from ``una`` on
        self._bursts: deque[Burst] = deque()  # of which packets may be under way
        self._sacked = RangeSet()
        self._lost: list[int] = []  # heap of numbers; some may have arrived since
        self._unusual = 0  # packets that are not simply sent once and under way
        self._latest: Burst | None = None  # of which something arrived
        self._latest_seq = -1
        self._latest_rtt = 0.0
        self._highest = first_seq - 1  # the highest number that arrived
        self._told_until: float = inf  # the peer's last word says nothing of this number and above
        self._reordered = False
        self._patience = 1  # quarters of the shortest round trip to wait for what is late

    @property
    def next_seq(self) -> int:
        """The number of the next new packet."""
        return self.una + len(self._packets)

    @property
    def told_all(self) -> bool:
        """The peer's last word was of everything it had."""
        return self._told_until == inf

    @property
    def in_flight(self) -> int:
        """Packets believed to be on their way."""
        return len(self._packets) - self.sacked_count - self.lost_count

    @property
    def unacked(self) -> int:
        """Packets sent and not acknowledged in order."""
        return len(self._packets)

    def clear(self) -> None:
        """Forget all packets; their numbers stay used."""
        self.una = self.next_seq
        self._packets.clear()
        self._bursts.clear()
        self._lost.clear()
        self.sacked_count = self.lost_count = self._unusual = 0
        self.late_deadline = inf

    # ------------------------------------------------------------------ leaving

    def add(self, packets: Sequence[Packet], burst: Burst) -> None:
        """New packets leave together."""
        first = self.next_seq
        self._packets += packets
        burst.numbers = range(first, first + len(packets))
        self._bursts.append(burst)

    def pad(self, packet: Packet, padding: int) -> None:
        """One of the packets just added leaves as a probe."""
        packet.padding = padding
        self._unusual += 1

    def forget_probes(self) -> bool:
        """The fate of probes means nothing any more; true when one was under way."""
        probes = [packet for packet in self._packets if packet.padding]
        for packet in probes:
            packet.padding, packet.resent = 0, True
        return bool(probes)

    def take_lost(self, limit: int) -> list[int]:
        """The lowest numbers of lost packets, which are about to be sent again."""
        numbers: list[int] = []
        while self._lost and len(numbers) < limit:
            seq = heappop(self._lost)
            if seq >= self.una and self._packets[seq - self.una].state == LOST:
                numbers.append(seq)
        return numbers

    def last_in_flight(self) -> int | None:
        """The highest number that is under way."""
        for seq in range(self.next_seq - 1, self.una - 1, -1):
            if self._packets[seq - self.una].state == IN_FLIGHT:
                return seq
        return None

    def resend(self, numbers: Sequence[int], burst: Burst) -> list[Packet]:
        """Packets leave once more, without padding."""
        packets = [self._packets[seq - self.una] for seq in numbers]
        for packet in packets:
            if packet.state == LOST:
                self.lost_count -= 1
            elif not packet.resent and not packet.padding:
                self._unusual += 1
            packet.state, packet.burst, packet.resent, packet.padding = IN_FLIGHT, burst, True, 0
        burst.numbers = numbers
        self._bursts.append(burst)
        return packets

    # ----------------------------------------------------------------- arriving

    def acknowledge(
        self, una: int, ranges: Iterable[tuple[int, int]], now: float, told_until: float | None = inf
    ) -> Delivery:
        """The peer has everything before ``una`` and the ranges above it.

        Args: una: not above ``next_seq``; one below ours changes nothing. ranges: half open; what of them
        lies
            outside of the unacknowledged packets is left out. told_until: the number above the last range of
            a list that had room for no more; None when an old list tells nothing of that.
        """
        delivery = Delivery()
        if told_until is not None:
            self._told_until = told_until
        elif una > self._told_until:
            self._told_until = inf
        if una > self.una:
            if self._unusual:
                self._acknowledge_each(una, delivery, now)
            else:
                delivery.count = una - self.una
                self._arrived(una - 1, self._packets[una - 1 - self.una], delivery, now)
            del self._packets[: una - self.una]
            self.una = una
            self._highest = max(self._highest, una - 1)
            self._sacked.discard_below(una)
        first, stop = self.una, self.next_seq
        for start, end in ranges:
            start, end = max(start, first), min(end, stop)
            if start < end:
                for fresh in self._sacked.add(start, end):
                    self._sack(*fresh, delivery, now)
        if delivery.hasty:
            self._reordered = True
            self._patience += 1
        bursts = self._bursts
        while bursts and (not bursts[0].numbers or bursts[0].numbers[-1] < self.una):
            bursts.popleft()
        return delivery

    def _acknowledge_each(self, una: int, delivery: Delivery, now: float) -> None:
        for seq in range(self.una, una):
            packet = self._packets[seq - self.una]
            if packet.state == SACKED:
                self.sacked_count -= 1
            else:
                self._take_in(seq, packet, delivery, now)
            if packet.state != IN_FLIGHT or packet.resent or packet.padding:
                self._unusual -= 1
            if packet.state == LOST:
                self.lost_count -= 1

    def _sack(self, start: int, stop: int, delivery: Delivery, now: float) -> None:
        for seq in range(start, stop):
            packet = self._packets[seq - self.una]
            self._take_in(seq, packet, delivery, now)
            if packet.state == LOST:
                self.lost_count -= 1
            elif not packet.resent and not packet.padding:
                self._unusual += 1
            packet.state, packet.payload = SACKED, b""
            self.sacked_count += 1

    def _take_in(self, seq: int, packet: Packet, delivery: Delivery, now: float) -> None:
        """A packet that was not known to have arrived has."""
        delivery.count += 1
        if seq < self._highest and not packet.resent:
            self._reordered = True
        self._highest = max(self._highest, seq)
        if packet.padding:
            delivery.probe = True
        if delivery.burst is None or packet.burst.order >= delivery.burst.order:
            self._arrived(seq, packet, delivery, now)

    def _arrived(self, seq: int, packet: Packet, delivery: Delivery, now: float) -> None:
        burst = packet.burst
        rtt = now - burst.sent_at
        delivery.burst = burst
        delivery.rtt = None if packet.resent else rtt
        if packet.resent and rtt < self.least_rtt:
            delivery.hasty = True
            return  # too soon: it was late, not lost, and tells nothing of what left with its second copy
        if self._latest is None or (burst.order, seq) > (self._latest.order, self._latest_seq):
            self._latest, self._latest_seq, self._latest_rtt = burst, seq, rtt

    # ------------------------------------------------------------------- losing

    def find_lost(self, srtt: float, min_rtt: float, recovering: bool, now: float) -> tuple[int, bool]:
        """Mark what is lost by now; sets ``late_deadline`` when more may be soon.

        Returns: packets lost, not counting probes; whether a probe is lost.
        """
        self.late_deadline = inf
        latest = self._latest
        bursts = self._bursts
        if latest is None or not bursts or (not self._unusual and bursts[0].order >= latest.order):
            return 0, False
        hasty = not self._reordered and (recovering or self.sacked_count >= SACKS_FOR_HASTE)
        grace = self._latest_rtt + (0.0 if hasty else min(self._patience * min_rtt / 4, srtt))
        lost, probe = 0, False
        kept: list[Burst] = []
        while bursts and bursts[0].order <= latest.order:
            burst = bursts[0]
            if burst.numbers and burst.numbers[0] >= self._told_until:
                kept.append(bursts.popleft())
                continue
            due = now >= burst.sent_at + grace
            for seq in self._still_out(burst):
                if seq >= self._told_until:
                    kept.append(burst)
                    break
                if not due or (burst is latest and seq > self._latest_seq):
                    if not due:
                        self.late_deadline = burst.sent_at + grace
                    bursts.extendleft(reversed(kept))
                    return lost, probe
                if self._lose(seq):
                    probe = True
                else:
                    lost += 1
            bursts.popleft()
        bursts.extendleft(reversed(kept))
        return lost, probe

    def lose_all_before(self, sent_before: float) -> bool:
        """Nothing came back for long: what left before that time counts as lost, and the oldest always.

        What the peer could not tell of is waited for: it may well be there.

        Returns: whether a probe is among them.
        """
        probe = False
        for seq, packet in enumerate(self._packets, self.una):
            if packet.state == IN_FLIGHT and (seq == self.una or packet.burst.sent_at <= sent_before):
                if seq > self.una and seq >= self._told_until:
                    break
                probe |= self._lose(seq)
        return probe

    def _still_out(self, burst: Burst) -> Iterable[int]:
        numbers = burst.numbers
        if isinstance(numbers, range):
            numbers = range(max(numbers.start, self.una), numbers.stop)
        for seq in numbers:
            if seq >= self.una:
                packet = self._packets[seq - self.una]
                if packet.burst is burst and packet.state == IN_FLIGHT:
                    yield seq

    def _lose(self, seq: int) -> bool:
        """Mark a packet lost; tells whether it was a probe, whose loss says nothing about the path."""
        packet = self._packets[seq - self.una]
        probe = bool(packet.padding)
        if not packet.resent and not probe:
            self._unusual += 1
        packet.state, packet.padding = LOST, 0
        self.lost_count += 1
        heappush(self._lost, seq)
        return probe
