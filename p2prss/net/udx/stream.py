"""One UDX stream: an ordered, reliable byte stream in each direction, as a machine without I/O.

The machine is driven by its owner (``send``, ``end``, ``destroy``, ``read``), by the peer (``receive``) and
by the clock (``handle_timer``). After each of them ``data_to_send`` gives the datagrams for ``remote``, and
``deadline`` says when the clock is to be heard next::

    OPEN -- both ENDs sent and acknowledged --------> CLOSED (ended)
         -- destroy(), sends DESTROY ---------------> CLOSED (destroyed)
         -- DESTROY received -----------------------> CLOSED (reset)
         -- 13 s without an answer -----------------> CLOSED (timed out; unconfirmed when both have ended)

There is no handshake and no encryption: ids and addresses are agreed on elsewhere, and what is inside must
be protected by a layer above. Not goals: telling who the peer is, and noticing that an idle peer has gone.
After a change of address packets sent before go again to the new address, other than in the reference,
where a resend still takes the old way: a number means the same on both ways.

Source: udx-native 1.21.3 as observed; spec/07-net, "UDX packets".
"""

from collections.abc import Iterable
from math import inf
from typing import Final, Generic, NamedTuple, TypeVar

from p2prss.codec.compact import Buffer
from p2prss.errors import LocalProtocolError
from p2prss.net.udx.events import (
    Closed,
    CloseReason,
    Event,
    MessageReceived,
    Readable,
    RemoteChanged,
    RemoteEnded,
)
from p2prss.net.udx.heartbeat import Heartbeat
from p2prss.net.udx.mtu import IPV4_OVERHEAD, USUAL_MTU
from p2prss.net.udx.packet import (
    ACK,
    DESTROY,
    HALF,
    HEARTBEAT,
    MESSAGE,
    NUMBERED,
    SACK,
    SEQ_MASK,
    Header,
    decode,
    encode,
    encode_ranges,
)
from p2prss.net.udx.receiving import MAX_AHEAD, RECEIVE_WINDOW, ReceiveSide
from p2prss.net.udx.sacks import SackReader
from p2prss.net.udx.sending import Envelope, SendSide
from p2prss.net.udx.timers import Due, Timers
from p2prss.units import KIB

SEND_BUFFER: Final = 512 * KIB  # bytes queued and not sent above which a writer should wait

Address = TypeVar("Address")

Received = tuple[Header, bytes, Address | None]
"""Header, body and source of a packet."""


class Remote(NamedTuple, Generic[Address]):
    """Where the packets go."""

    stream_id: int
    address: Address


class UdxStream(Generic[Address]):
    """A stream with the id ``stream_id``, which the peer puts into every packet for it.

    An address is whatever the socket uses; here it is only compared.
    """

    def __init__(
        self,
        stream_id: int,
        now: float,
        *,
        first_seq: int = 0,
        first_ack: int = 0,
        window: int = RECEIVE_WINDOW,
    ) -> None:
        self.stream_id = stream_id
        self.remote: Remote[Address] | None = None
        self.close_reason: CloseReason | None = None
        self.last_words: bytes | None = None  # for the ghost, once closed
        self.receiver = ReceiveSide(first_ack, window)
        self.sender = SendSide(first_seq, now)
        self._timers = Timers()
        self._trusted: set[Address] = set()  # where a DESTROY may come from
        self._outbox: list[bytes] = []  # packets without a number
        self._window_seq, self._window_ack = first_ack, first_seq  # of the packet that set the peer's window
        self._tail_probe_due = False
        self._heartbeat = Heartbeat()
        self._changed_seq: int | None = None
        self._told_end = False
        self._sacks = SackReader()
        self._pace_at = inf

    # ------------------------------------------------------------------- state

    @property
    def closed(self) -> bool:
        """Nothing is sent or taken any more, but for what ``data_to_send`` still holds."""
        return self.close_reason is not None

    @property
    def queued_bytes(self) -> int:
        """Bytes that were written and have not left once."""
        return self.sender.queued_bytes

    @property
    def writable(self) -> bool:
        """A writer need not wait."""
        return self.sender.queued_bytes < SEND_BUFFER

    @property
    def migrating(self) -> bool:
        """Packets sent to the address before are not acknowledged yet."""
        return self._changed_seq is not None

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` is to be called next."""
        timers, late_at = self._timers, self.sender.flight.late_deadline
        return min(timers.resend_at, timers.tail_at, late_at, self._pace_at, self._heartbeat.at)

    # ------------------------------------------------------------------- owner

    def connect(
        self,
        remote_id: int,
        address: Address,
        now: float,
        *,
        overhead: int = IPV4_OVERHEAD,
        link_mtu: int = USUAL_MTU,
    ) -> None:
        """Say where the peer is. What came before is acknowledged now.

        Args: overhead: bytes of all headers of a packet on this way; link_mtu: bytes of the largest packet
            that our own link carries.
        Raises: LocalProtocolError when it was said before.
        """
        if self.remote is not None:
            raise LocalProtocolError("already connected")
        self.remote = Remote(remote_id, address)
        self._trusted = {address}
        self.sender.restart_path(overhead, now, link_mtu)

    def change_remote(
        self,
        remote_id: int,
        address: Address,
        now: float,
        *,
        overhead: int = IPV4_OVERHEAD,
        link_mtu: int = USUAL_MTU,
    ) -> None:
        """Go on over another way; numbers and our id stay. ``RemoteChanged`` follows when ``migrating``.

        Raises: LocalProtocolError when the stream is closed or was never connected.
        """
        if self.remote is None or self.closed:
            raise LocalProtocolError("no connection whose address could change")
        self._trusted = {self.remote.address, address}
        self.remote = Remote(remote_id, address)
        self.sender.restart_path(overhead, now, link_mtu)
        if self.sender.flight.unacked:
            self._changed_seq = self.sender.flight.next_seq

    def send(self, data: Buffer) -> None:
        """Queue bytes; they are not copied and must not change any more.

        Raises: LocalProtocolError after ``end`` and on a closed stream.
        """
        if self.closed or self.sender.ending:
            raise LocalProtocolError("the stream was ended")
        self.sender.write(data)

    def send_message(self, data: Buffer) -> None:
        """Send one unordered message, at once and only once; it must fit into a packet."""
        if self.remote is not None and not self.closed:
            self._outbox.append(self._packet(MESSAGE, data))

    def end(self) -> None:
        """Nothing more will be written; what is queued still goes out, and reading goes on."""
        self.sender.ending = True

    def destroy(self) -> None:
        """Close at once, and tell the peer."""
        if not self.closed:
            if self.remote is not None:
                self.last_words = self._packet(DESTROY)
                self._outbox = [self.last_words]
            self._close(CloseReason.DESTROYED)

    def read(self, limit: int) -> bytes:
        """Up to ``limit`` bytes that arrived; empty when there are none."""
        return self.receiver.read(limit)

    def discard(self) -> None:
        """Throw away what arrived and what arrives."""
        self.receiver.discard()

    def set_keepalive(self, seconds: float, now: float) -> None:
        """Send a heartbeat whenever nothing is under way for so long; 0.0 ends it.

        It keeps address translations open. It does not tell whether the peer is alive.
        """
        self._heartbeat.keep_alive(seconds, now)

    # -------------------------------------------------------------------- peer

    def receive(self, datagram: Buffer, now: float, source: Address | None = None) -> list[Event]:
        """Take one datagram.

        Raises: DecodeError when it is no UDX packet; no other bytes can cause an error.
        """
        header, body = decode(datagram)
        return self.receive_batch([(header, body, source)], now)

    def receive_batch(self, batch: Iterable[Received[Address]], now: float) -> list[Event]:
        """Take packets that were read in one go; they are answered by one acknowledgement."""
        if self.closed:
            return []
        events: list[Event] = []
        receiver, sender = self.receiver, self.sender
        flight = sender.flight
        una, unacked, newest = flight.una, flight.unacked, 0
        window = sender.window
        unread = receiver.unread_bytes
        ranges: list[tuple[int, int]] = []
        sack: tuple[int, bytes, int] | None = None  # the newest
        told_until: float | None = None
        reset = False
        for header, body, source in batch:
            _, kind, padding, _, peer_window, seq, ack = header
            if kind & HEARTBEAT:
                receiver.ack_due = True
                continue
            if padding > len(body):
                continue
            if kind:  # most packets to a sender are bare ACKs
                if kind & NUMBERED:
                    receiver.take(kind, seq, body[padding:] if padding else body)
                if kind & DESTROY and self._may_destroy(seq, source):
                    reset = True
                    break
                if kind & MESSAGE:
                    events.append(MessageReceived(body[padding:]))
            steps = (ack - una) & SEQ_MASK
            if steps <= unacked:
                if steps > newest:
                    newest = steps
                later = (seq - self._window_seq) & SEQ_MASK
                if later < HALF and (later or (ack - self._window_ack) & SEQ_MASK < HALF):
                    sender.window = peer_window
                    self._window_seq, self._window_ack = seq, ack
            elif steps < HALF:
                continue  # it acknowledges what was never sent
            if kind & SACK:
                if steps > unacked:  # an old one
                    self._sacks.read(padding, body, una, una + unacked, ranges)
                elif steps == newest:
                    sack = padding, body, una + steps  # it repeats what the ones before it told
            elif kind == ACK and steps == newest:
                sack, told_until = None, inf
        if sack is not None:
            told_until = self._sacks.read(*sack, una + unacked, ranges)
        if newest or ranges:
            self._acknowledge(una + newest, ranges, told_until, events, now)
        if sender.window > 0 >= window:
            self._heartbeat.window_opened()
        if receiver.unread_bytes > unread:
            events.append(Readable())
        if receiver.ended and not self._told_end:
            self._told_end = True
            events.append(RemoteEnded())
        if reset:
            events.append(self._close(CloseReason.RESET))
        elif sender.ended and receiver.ended:
            events.append(self._end())
        return events

    def _may_destroy(self, seq: int, source: Address | None) -> bool:
        if self._trusted and source is not None and source not in self._trusted:
            return False
        return (seq - self.receiver.next_seq) & SEQ_MASK < MAX_AHEAD

    def _acknowledge(
        self,
        una: int,
        ranges: list[tuple[int, int]],
        told_until: float | None,
        events: list[Event],
        now: float,
    ) -> None:
        sender = self.sender
        flight = sender.flight
        if sender.acknowledge(una, ranges, now, told_until):
            self._timers.progressed(sender.round_trip, flight.unacked, sender.may_probe, now)
        if self._changed_seq is not None and flight.una >= self._changed_seq:
            self._changed_seq = None
            events.append(RemoteChanged())

    # ------------------------------------------------------------------- clock

    def handle_timer(self, now: float) -> list[Event]:
        """Do what is due."""
        if self.closed:
            return []
        sender = self.sender
        if now >= sender.flight.late_deadline:
            sender.find_lost(now)
        both_ended = self.receiver.ended and sender.end_seq is not None
        due = self._timers.due(sender.round_trip, both_ended, now)
        if due is Due.GIVE_UP:
            return [self._close(CloseReason.UNCONFIRMED if both_ended else CloseReason.TIMED_OUT)]
        if due is Due.TAIL_PROBE:
            self._tail_probe_due = sender.may_probe
        elif due is Due.RESEND:
            sender.time_out(now)
        if now >= self._heartbeat.at:
            self._heartbeat.rest()
            self._outbox.append(self._packet(HEARTBEAT))
        return []

    # ---------------------------------------------------------------- datagrams

    def data_to_send(self, now: float) -> list[bytes]:
        """The datagrams that are to go to ``remote`` now; none before it is known."""
        if self.remote is None:
            return []
        out, self._outbox = self._outbox, []
        if self.closed:
            return out
        sender, receiver = self.sender, self.receiver
        envelope = Envelope(self.remote.stream_id, receiver.window, receiver.next_seq)
        numbered = sender.next_datagrams(envelope, now)
        if self._tail_probe_due:
            self._tail_probe_due = False
            numbered = numbered or sender.probe_tail(envelope, now)
        if receiver.ack_due or receiver.update_due:
            ranges = receiver.sack_ranges()
            if ranges or not numbered or receiver.update_due:
                out.append(self._acknowledgement(ranges))
            receiver.ack_due = False
            receiver.advertise()
        if numbered:
            self._timers.sent(sender.round_trip, sender.flight.unacked, sender.may_probe, now)
            out += numbered
        self._pace_at = sender.pacing_deadline(now)
        self._heartbeat.arm(sender, now)
        return out

    def _packet(self, kind: int, body: Buffer = b"") -> bytes:
        """A packet that uses up no number."""
        if self.remote is None:
            raise LocalProtocolError("not connected")
        receiver = self.receiver
        return encode(
            kind,
            self.remote.stream_id,
            receiver.window,
            self.sender.flight.next_seq,
            receiver.next_seq,
            body,
        )

    def _acknowledgement(self, ranges: list[tuple[int, int]]) -> bytes:
        return self._packet(SACK, encode_ranges(ranges)) if ranges else self._packet(ACK)

    # ------------------------------------------------------------------ closing

    def _end(self) -> Closed:
        """Both sides have said all: acknowledge for the last time, and again if the peer asks."""
        self.last_words = self._acknowledgement([])
        if self.receiver.ack_due:
            self._outbox.append(self.last_words)
        return self._close(CloseReason.ENDED)

    def _close(self, reason: CloseReason) -> Closed:
        if reason is CloseReason.UNCONFIRMED:
            self.last_words = self._acknowledgement([])
        self.close_reason = reason
        self.sender.clear()
        self._timers.stop()
        self._heartbeat.rest()
        self._pace_at = inf
        self._tail_probe_due = False
        return Closed(reason)
