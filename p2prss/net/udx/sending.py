"""The sending half of a stream: what is queued becomes packets, as fast as path and peer allow.

Memory per stream, at worst: what the writer queued, and the payloads of ``MAX_WINDOW`` packets under way.
"""

from collections import deque
from collections.abc import Iterable
from math import inf
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.net.udx.congestion import Bbr
from p2prss.net.udx.flight import MAX_UNACKED, Flight, Packet
from p2prss.net.udx.mtu import USUAL_MTU, MtuSearch
from p2prss.net.udx.packet import DATA, END, HEADER, MARKER, SEQ_MASK, encode
from p2prss.net.udx.round_trip import RoundTrip
from p2prss.units import MIB

MAX_BURST: Final = 256  # packets handed out at once, so that reading is not put off
FIRST_PEER_WINDOW: Final = 4 * MIB  # bytes, until the peer says otherwise


class Envelope(NamedTuple):
    """What every packet of ours carries besides its own."""

    stream_id: int  # the peer's
    window: int  # bytes we take
    ack: int  # the number we expect


class SendSide:
    """Queue, packets under way, and what is known of the path."""

    def __init__(self, first_seq: int, now: float) -> None:
        self.flight = Flight(first_seq)
        self.round_trip = RoundTrip()
        self.congestion = Bbr(now)
        self.mtu = MtuSearch()
        self.queued_bytes = 0  # not yet sent for the first time
        self.window = FIRST_PEER_WINDOW  # bytes the peer takes
        self.resent_count = 0
        self.ending = False  # nothing may be written any more
        self.end_seq: int | None = None  # number of the packet with our END, once sent
        self._first_seq = first_seq
        self._queue: deque[memoryview] = deque()
        self._offset = 0  # bytes of the first in the queue that have left
        self._recover_seq: int | None = None  # its acknowledgement ends the recovery

    @property
    def pending(self) -> bool:
        """There is something that was never sent: bytes, or the end."""
        return bool(self._queue) or (self.ending and self.end_seq is None)

    @property
    def ended(self) -> bool:
        """Our end was sent and everything is acknowledged."""
        return self.end_seq is not None and self.flight.una > self.end_seq

    @property
    def recovering(self) -> bool:
        """Since a loss, until what was under way then is acknowledged."""
        return self._recover_seq is not None

    def write(self, data: Buffer) -> None:
        """Queue bytes; they must not change any more."""
        if data:
            self._queue.append(memoryview(data))
            self.queued_bytes += len(data)

    def clear(self) -> None:
        """Forget everything: the stream is closed."""
        self.flight.clear()
        self._queue.clear()
        self.queued_bytes = 0

    def restart_path(self, overhead: int, now: float, link_mtu: int = USUAL_MTU) -> None:
        """The packets take another way from now on: nothing is known of it."""
        self.round_trip = RoundTrip()
        self.congestion = Bbr(now)
        self.flight.forget_probes()
        self.flight.least_rtt = 0.0
        self.mtu.restart(overhead, link_mtu)

    # ------------------------------------------------------------------ leaving

    @property
    def may_probe(self) -> bool:
        """Only the clock can tell of a loss: no gap is known, or nothing more goes that could show one."""
        if not self.pending and not self.flight.lost_count:
            return True
        return not self.recovering and not self.flight.sacked_count

    def next_datagrams(self, envelope: Envelope, now: float) -> list[bytes]:
        """The packets that may leave now; they count as sent."""
        flight, congestion = self.flight, self.congestion
        room = congestion.window - flight.in_flight
        if room <= 0 or not (flight.lost_count or self.pending):
            return []
        room = min(room, congestion.allowance(flight.in_flight, now), MAX_BURST)
        out: list[bytes] = []
        if room > 0 and flight.lost_count:
            self._send_again(flight.take_lost(room), envelope, now, out)
        room = min(room - len(out), self._peer_room())
        if room > 0 and self.pending:
            self._send_new(room, envelope, now, out)
        if not self.pending and not flight.lost_count and flight.in_flight < congestion.window:
            congestion.ran_dry(flight.in_flight)
        return out

    def pacing_deadline(self, now: float) -> float:
        """When more may leave, if pacing is all that holds it back; else ``inf``."""
        flight = self.flight
        if flight.in_flight >= self.congestion.window:
            return inf
        if flight.lost_count or (self.pending and self._peer_room() > 0):
            return self.congestion.next_allowance(now)
        return inf

    def probe_tail(self, envelope: Envelope, now: float) -> list[bytes]:
        """One packet whatever the windows say, to learn of a loss at the tail: a new one, else the last."""
        out: list[bytes] = []
        if self.pending and self.flight.unacked < MAX_UNACKED:
            self._send_new(1, envelope, now, out)
        elif (seq := self.flight.last_in_flight()) is not None:
            if self.flight.forget_probes():
                self.mtu.lost()  # it goes again at a size known to pass
            self._send_again([seq], envelope, now, out)
        return out

    def _peer_room(self) -> int:
        """Packets the peer's window has room for: one at least, unless it is shut."""
        if self.window <= 0:
            return 0
        packets = max(1, self.window // self.mtu.payload_size)
        return min(packets - self.flight.in_flight, MAX_UNACKED - self.flight.unacked)

    def _send_again(self, numbers: list[int], envelope: Envelope, now: float, out: list[bytes]) -> None:
        if not numbers:
            return
        burst = self.congestion.begin_burst(self.flight.in_flight, now)
        for seq, packet in zip(numbers, self.flight.resend(numbers, burst), strict=True):
            out.append(encode(packet.kind, *envelope[:2], seq, envelope.ack, packet.payload))
        self.congestion.spend(len(numbers))
        self.resent_count += len(numbers)

    def _send_new(self, limit: int, envelope: Envelope, now: float, out: list[bytes]) -> None:
        flight, queue = self.flight, self._queue
        stream_id, window, ack = envelope
        size = self.mtu.payload_size
        burst = self.congestion.begin_burst(flight.in_flight, now)
        pack = HEADER.pack
        packets: list[Packet] = []
        seq = flight.next_seq
        padding = 0 if self.mtu.probing or flight.una == self._first_seq else self.mtu.padding
        while queue and limit > 0:
            head, start = queue[0], self._offset
            stop = start + size
            if stop < len(head):
                payload: Buffer = head[start:stop]
                self._offset = stop
            else:
                payload = self._cut(size)
            self.queued_bytes -= len(payload)
            kind = DATA
            if not queue and self.ending and len(payload) < size:
                kind = DATA | END
                self.end_seq = seq
            packet = Packet(kind, payload, burst)
            packets.append(packet)
            if padding and len(payload) == size:
                out.append(encode(kind, stream_id, window, seq, ack, payload, padding))
                flight.pad(packet, padding)
                self.mtu.started()
                padding = 0
            else:
                out.append(pack(MARKER, kind, 0, stream_id, window, seq & SEQ_MASK, ack & SEQ_MASK) + payload)
            seq += 1
            limit -= 1
        if limit > 0 and self.pending and not queue:
            self.end_seq = seq
            packets.append(Packet(END, b"", burst))
            out.append(encode(END, stream_id, window, seq, ack))
        flight.add(packets, burst)
        self.congestion.spend(len(packets))

    def _cut(self, size: int) -> Buffer:
        """The next ``size`` bytes, or all that are left: joined from pieces where writes meet."""
        pieces: list[memoryview] = []
        while self._queue and size > 0:
            piece = self._queue[0][self._offset : self._offset + size]
            pieces.append(piece)
            size -= len(piece)
            self._offset += len(piece)
            if self._offset == len(self._queue[0]):
                self._queue.popleft()
                self._offset = 0
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # ----------------------------------------------------------------- arriving

    def acknowledge(
        self, una: int, ranges: Iterable[tuple[int, int]], now: float, told_until: float | None = inf
    ) -> bool:
        """The peer has everything before ``una``, and the ranges; true when that was news.

        Args: told_until: see ``Flight.acknowledge``.
        """
        flight = self.flight
        delivery = flight.acknowledge(una, ranges, now, told_until)
        if delivery.probe:
            self.mtu.delivered()
            self.congestion.resize(self.mtu.payload_size)
        if delivery.rtt is not None:
            self.round_trip.sample(delivery.rtt, now)
            flight.least_rtt = self.round_trip.min_rtt
        if self._recover_seq is not None and flight.una >= self._recover_seq:
            self._recover_seq = None
            self.congestion.recovered()
        if delivery.count or now >= flight.late_deadline:
            self.find_lost(now)
        if delivery.burst is not None:
            self.congestion.delivered(
                delivery.count, delivery.burst, delivery.rtt, flight.in_flight, now, flight.told_all
            )
        return delivery.count > 0

    def find_lost(self, now: float) -> None:
        """Look for packets that are too late by now."""
        flight, way = self.flight, self.round_trip
        lost, probe = flight.find_lost(way.srtt, way.min_rtt, self.recovering, now)
        if probe:
            self.mtu.lost()
        if lost:
            if self._recover_seq is None:
                self._recover_seq = flight.next_seq
            self.congestion.lost(lost, flight.in_flight)

    def time_out(self, now: float) -> None:
        """Nothing came back for long: begin again with the oldest packet."""
        flight = self.flight
        if flight.lose_all_before(now - self.round_trip.srtt):
            self.mtu.lost()
        self._recover_seq = flight.next_seq
        self.congestion.timed_out(flight.in_flight)
