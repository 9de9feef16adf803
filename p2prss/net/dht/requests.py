"""Requests on their way: ids, repeats, adaptive timeouts, and a window on what is sent.

A reply counts only if it has the id of a request in flight *and* comes from where that went; ids are drawn
at random. The first timeout follows the round trips measured so far, repeats wait the full second. What the
node passes on to somebody else takes two round trips.

Source: dht-rpc 6.27.0 lib/io.js (window, repeats, times); RFC 6298 (the estimate); spec/07-net.
"""

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.messages import Reply, Request

if TYPE_CHECKING:
    from random import Random

TIMEOUT: Final = 1.0  # seconds per send
SHORTEST_TIMEOUT: Final = 0.25  # seconds, the least the first send waits
SENDS: Final = 4  # of one request
QUERY_SENDS: Final = 6  # of a request of a query

MAX_IN_FLIGHT: Final = 4096  # requests; with queued ones at most 8192 of about 1.5 kB
MAX_QUEUED: Final = 4096  # requests that wait for the window
WINDOW_SLOTS: Final = 4
SLOT_SECONDS: Final = 0.75
MAX_PER_SLOT: Final = 80  # unanswered sends
MAX_IN_WINDOW: Final = 160  # unanswered sends


class Outgoing(NamedTuple):
    """A datagram to send from one of the node's sockets."""

    socket: int
    to: Endpoint
    data: bytes


class Response(NamedTuple):
    """A reply with how it came."""

    reply: Reply
    source: Endpoint
    socket: int  # it came in at
    round_trip: float | None  # seconds; None when it was asked more than once


OnReply = Callable[[Response, float], None]  # (response, now)
OnFailure = Callable[[float], None]  # (now)


class PendingRequest:
    """A request that is queued or in flight; ``cancel`` it when the answer no longer matters."""

    __slots__ = (
        "_requests", "closed", "data", "deadline", "on_failure", "on_reply", "on_slow", "patience", "queued",
        "relayed", "sends_left", "sent", "sent_at", "socket", "tid", "to",
    )  # fmt: skip

    def __init__(
        self,
        requests: "RequestTable",
        outgoing: Outgoing,
        tid: int,
        sends: int,
        on_reply: OnReply | None,
        on_failure: OnFailure | None,
        on_slow: OnFailure | None,
        *,
        relayed: bool,
        patience: float | None,
    ) -> None:
        self._requests = requests
        self.socket, self.to, self.data = outgoing
        self.tid = tid
        self.sends_left = sends
        self.relayed, self.patience = relayed, patience
        self.sent = 0
        self.sent_at = 0.0
        self.deadline = inf
        self.on_reply, self.on_failure, self.on_slow = on_reply, on_failure, on_slow
        self.queued = self.closed = False

    def cancel(self) -> None:
        """Forget it; neither reply nor failure is told."""
        self._requests.forget(self)


class RoundTrips:
    """An estimate of how long a living node takes to answer."""

    def __init__(self) -> None:
        self._smoothed: float | None = None
        self._variation = 0.0

    def add(self, seconds: float) -> None:
        if self._smoothed is None:
            self._smoothed, self._variation = seconds, seconds / 2
            return
        self._variation += (abs(self._smoothed - seconds) - self._variation) / 4
        self._smoothed += (seconds - self._smoothed) / 8

    @property
    def smoothed(self) -> float | None:
        """Seconds, or None before the first answer."""
        return self._smoothed

    @property
    def timeout(self) -> float:
        """Seconds after which a first send is repeated."""
        return self._timeout(1)

    @property
    def relayed_timeout(self) -> float:
        """The same for one that somebody else answers, by way of the node that is asked."""
        return self._timeout(2)

    def _timeout(self, legs: int) -> float:
        if self._smoothed is None:
            return TIMEOUT
        return min(TIMEOUT, max(SHORTEST_TIMEOUT, legs * (self._smoothed + 4 * self._variation)))


class CongestionWindow:
    """Sends minus replies, in four slots of 750 ms; a burst above 80 or a total of 160 has to wait."""

    def __init__(self) -> None:
        self._slots = [0] * WINDOW_SLOTS
        self._current = 0
        self._turned_at = -inf

    def is_full(self, now: float) -> bool:
        self._turn(now)
        return self._slots[self._current] >= MAX_PER_SLOT or sum(self._slots) >= MAX_IN_WINDOW

    def sent(self, now: float) -> None:
        self._turn(now)
        self._slots[self._current] += 1

    def answered(self) -> None:
        if self._slots[self._current] > 0:
            self._slots[self._current] -= 1

    @property
    def opens_at(self) -> float:
        """When the next slot begins."""
        return self._turned_at + SLOT_SECONDS

    def _turn(self, now: float) -> None:
        turns = now - self._turned_at
        if turns < SLOT_SECONDS:
            return
        if turns >= WINDOW_SLOTS * SLOT_SECONDS:
            self._slots = [0] * WINDOW_SLOTS
            self._turned_at = now
            return
        for _ in range(int(turns / SLOT_SECONDS)):
            self._current = (self._current + 1) % WINDOW_SLOTS
            self._slots[self._current] = 0
            self._turned_at += SLOT_SECONDS


class RequestTable:
    """All requests of a node. ``outbox`` is where datagrams go, shared with whoever answers."""

    def __init__(self, outbox: list[Outgoing], random: "Random") -> None:
        self.round_trips = RoundTrips()
        self.sent = self.repeated = self.timed_out = self.forged = 0  # counters
        self._outbox = outbox
        self._random = random
        self._window = CongestionWindow()
        self._in_flight: dict[int, PendingRequest] = {}
        self._queue: deque[PendingRequest] = deque()
        self._timers: list[tuple[float, int, int, PendingRequest]] = []
        self._counter = 0

    def __len__(self) -> int:
        return len(self._in_flight)

    @property
    def queued(self) -> int:
        """Requests waiting for the window."""
        return len(self._queue)

    def start(
        self,
        request: Request,
        socket: int,
        now: float,
        *,
        sends: int = SENDS,
        on_reply: OnReply | None = None,
        on_failure: OnFailure | None = None,
        on_slow: OnFailure | None = None,
        relayed: bool = False,
        patience: float | None = None,
    ) -> PendingRequest | None:
        """Send, or queue when the window is full; ``request.tid`` must come from ``new_tid``.

        Args: relayed: the node passes it on, and the reply back; patience: seconds to wait for a reply to
        each send, when that does not follow the round trips measured.
        Returns: None when far too much is under way; nothing is called then.
        """
        if len(self._in_flight) >= MAX_IN_FLIGHT:
            return None
        outgoing = Outgoing(socket, request.to, request.encode())
        pending = PendingRequest(
            self,
            outgoing,
            request.tid,
            sends,
            on_reply,
            on_failure,
            on_slow,
            relayed=relayed,
            patience=patience,
        )
        if self._queue or self._window.is_full(now):
            if len(self._queue) >= MAX_QUEUED:
                return None
            pending.queued = True
            self._queue.append(pending)
            self._in_flight[pending.tid] = pending
            return pending
        self._in_flight[pending.tid] = pending
        self._send(pending, now)
        return pending

    def new_tid(self) -> int:
        """An id nobody can guess and no request in flight has."""
        while True:
            tid = self._random.getrandbits(16)
            if tid not in self._in_flight:
                return tid

    def receive(
        self, reply: Reply, source: Endpoint, socket: int, now: float, learn: OnReply | None = None
    ) -> bool:
        """Take a reply; false when nobody asked for it. ``learn`` is told before the one who asked."""
        pending = self._in_flight.get(reply.tid)
        if pending is None or pending.queued:
            return False
        if pending.to != source:
            self.forged += 1
            return False
        self.forget(pending)
        self._window.answered()
        round_trip = now - pending.sent_at if pending.sent == 1 else None
        if round_trip is not None and not pending.relayed:
            self.round_trips.add(round_trip)
        response = Response(reply, source, socket, round_trip)
        if learn is not None:
            learn(response, now)
        if pending.on_reply is not None:
            pending.on_reply(response, now)
        self._drain(now)
        return True

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` has something to do."""
        while self._timers and self._timers[0][0] != self._timers[0][3].deadline:
            heappop(self._timers)  # answered or sent again meanwhile
        waiting = self._timers[0][0] if self._timers else inf
        return min(waiting, self._window.opens_at) if self._queue else waiting

    def handle_timer(self, now: float) -> None:
        """Repeat, give up, and send what waited for the window."""
        while self._timers and self._timers[0][0] <= now:
            due, _, _, pending = heappop(self._timers)
            if due == pending.deadline and not pending.closed:
                self._time_out(pending, now)
        self._drain(now)

    def forget(self, pending: PendingRequest) -> None:
        """Drop a request without a word."""
        pending.closed = True
        pending.deadline = inf
        if self._in_flight.get(pending.tid) is pending:
            del self._in_flight[pending.tid]

    def _time_out(self, pending: PendingRequest, now: float) -> None:
        if pending.sends_left > 0:
            self.repeated += 1
            self._send(pending, now)
            if pending.on_slow is not None:
                pending.on_slow(now)
            return
        self.timed_out += 1
        self.forget(pending)
        if pending.on_failure is not None:
            pending.on_failure(now)

    def _drain(self, now: float) -> None:
        while self._queue and (self._queue[0].closed or not self._window.is_full(now)):
            pending = self._queue.popleft()
            if not pending.closed:
                pending.queued = False
                self._send(pending, now)

    def _send(self, pending: PendingRequest, now: float) -> None:
        pending.sends_left -= 1
        pending.sent += 1
        pending.sent_at = now
        pending.deadline = now + self._timeout(pending)
        self._counter += 1
        self.sent += 1
        heappush(self._timers, (pending.deadline, self._counter, pending.tid, pending))
        self._window.sent(now)
        self._outbox.append(Outgoing(pending.socket, pending.to, pending.data))

    def _timeout(self, pending: PendingRequest) -> float:
        if pending.patience is not None:
            return pending.patience
        if pending.sent > 1:
            return TIMEOUT
        return self.round_trips.relayed_timeout if pending.relayed else self.round_trips.timeout
