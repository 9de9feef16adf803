"""The answering side: a peer's questions, waiting for their turn.

Goals: a peer that asks for much while it reads little costs a bounded queue, not memory for answers; what
is in front of a play head overtakes the rest. It can overtake only what is not on its way out yet: so a slow
link gets its answers bit by bit. Non-goal: fairness between logs (the shell's batches).
"""

from collections import OrderedDict
from math import inf
from typing import TYPE_CHECKING

from p2prss.log.proof_parts import Proof
from p2prss.replication.core import ReplicatedCore
from p2prss.replication.events import DropReason, Event, Send, Serve
from p2prss.replication.limits import (
    MAX_INVALID_REQUESTS,
    MAX_QUEUED_REQUESTS,
    MAX_SERVING,
    MIN_UPLOAD_QUEUE,
    UPLOAD_QUEUE_SECONDS,
    UPLOAD_RATE_SECONDS,
    WASTED_BYTES,
    Limits,
    UploadLimit,
)
from p2prss.wire.messages import Data, NoData, NoDataReason, Request

if TYPE_CHECKING:
    from p2prss.replication.peer import Peer

_CLOCK_SECONDS = 0.001  # below which its readings tell nothing
_PROOF_BYTES = 1024  # what an answer without a block, or the proof of one with, takes


class UploadQueue:
    """Requests of one peer: waiting, or with the shell as Serve events."""

    __slots__ = (
        "_awaited",
        "_limits",
        "_measured_since",
        "_most_queued",
        "_normal",
        "_serving",
        "_serving_bytes",
        "_urgent",
        "_written",
        "delayed_until",
        "invalid",
        "queued_bytes",
    )

    def __init__(self, limits: Limits) -> None:
        self.invalid = 0  # requests that made no sense
        self.queued_bytes: int | None = None  # on their way out; None until the shell says
        self.delayed_until = -inf  # by an upload limit
        self._limits = limits
        self._most_queued = limits.queued_bytes  # for its link as it is
        self._written = 0  # bytes that went out since ``_measured_since``, while others waited
        self._measured_since = inf  # while nothing waits
        self._urgent: OrderedDict[int, Request] = OrderedDict()
        self._normal: OrderedDict[int, Request] = OrderedDict()
        self._serving: dict[int, tuple[Request, int]] = {}  # by ``id()``: cancelled ones keep their place,
        self._serving_bytes = 0  # or a flood of cancelled requests would keep the disk busy without a bound
        self._awaited: dict[int, Request] = {}  # those with the shell whose answers are to be sent

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._urgent) + len(self._normal)

    def add(self, request: Request) -> bool:
        """Queue a request; False when the queue is full."""
        if len(self) >= MAX_QUEUED_REQUESTS:
            return False
        (self._urgent if request.priority else self._normal)[request.id] = request
        return True

    def cancel(self, request_id: int) -> int | None:
        """The answer is no longer needed. Returns: bytes of work done in vain; None for an unknown id."""
        if self._urgent.pop(request_id, None) or self._normal.pop(request_id, None):
            return 0
        request = self._awaited.pop(request_id, None)
        return None if request is None else self._serving[id(request)][1]

    def set_queued(self, queued_bytes: int, now: float) -> None:
        """So many bytes are on their way out; that they become fewer tells how fast the link is."""
        before, self.queued_bytes = self.queued_bytes or 0, queued_bytes
        if self._measured_since == inf:
            if queued_bytes:
                self._written, self._measured_since = 0, now
            return
        if queued_bytes >= before:
            return
        self._written += before - queued_bytes
        seconds = now - self._measured_since
        most = self._most_queued
        if seconds >= UPLOAD_RATE_SECONDS or self._written >= most // 2:
            fitting = int(self._written / max(seconds, _CLOCK_SECONDS) * UPLOAD_QUEUE_SECONDS)
            fitting = min(max(fitting, most // 2), 2 * most)  # one hitch is no slow link
            self._most_queued = min(max(fitting, MIN_UPLOAD_QUEUE), self._limits.queued_bytes)
            self._written, self._measured_since = 0, now
        if not queued_bytes:
            self._measured_since = inf

    def has_room(self, cost: int) -> bool:
        """Whether one more answer of about ``cost`` bytes may be built now."""
        if len(self._serving) >= MAX_SERVING:
            return False
        ahead = (self.queued_bytes or 0) + self._serving_bytes
        return not ahead or ahead + cost <= self._most_queued

    def peek(self) -> Request:
        """The next request; the queue is not empty."""
        queue = self._urgent or self._normal
        return next(iter(queue.values()))

    def take(self, cost: int) -> Request:
        """Move the next request to those being served; its answer has about ``cost`` bytes."""
        _, request = (self._urgent or self._normal).popitem(last=False)
        self._serving[id(request)] = (request, cost)
        self._awaited[request.id] = request
        self._serving_bytes += cost
        return request

    def refuse(self) -> Request:
        """Take the next request out without serving it."""
        return (self._urgent or self._normal).popitem(last=False)[1]

    def finish(self, request: Request) -> bool:
        """The shell is done with it; False when it was cancelled or replaced meanwhile."""
        _, cost = self._serving.pop(id(request), (None, 0))
        self._serving_bytes -= cost
        if self._awaited.get(request.id) is not request:
            return False
        del self._awaited[request.id]
        return True


class Server:
    """Answers the peers of one log, as far as room and the upload limit allow."""

    def __init__(
        self, core: ReplicatedCore, limits: Limits, events: list[Event], upload_limit: UploadLimit | None
    ) -> None:
        self.next_at = inf  # when a request that the upload limit has delayed may go on
        self.block_bytes = 0  # mean size of a block
        self._core = core
        self._limits = limits
        self._events = events
        self._upload_limit = upload_limit

    def receive(self, peer: "Peer", request: Request, now: float) -> DropReason | None:
        """Take a request; what cannot be answered in any case is refused at once."""
        wanted = request.proof
        head = self._core.head
        if wanted.fork != head.fork or (
            wanted.block is not None
            and not wanted.manifest
            and not self._core.bitfield.has(wanted.block.index)
        ):
            self._events.append(Send(peer.number, NoData(request.id, NoDataReason.NOT_AVAILABLE)))
            return None if peer.spend(1, now) else DropReason.FLOOD
        wasted = peer.uploads.cancel(request.id)  # the newer one of an id counts
        if wasted is not None and not peer.spend(1 + wasted // WASTED_BYTES, now):
            return DropReason.FLOOD
        if not peer.uploads.add(request):
            return DropReason.TOO_MANY_REQUESTS
        self.pump(peer, now)
        return None

    def cancel(self, peer: "Peer", request_id: int, now: float) -> DropReason | None:
        """The peer does not need an answer any more; work that was done in vain it has to pay for."""
        wasted = peer.uploads.cancel(request_id) or 0
        return None if peer.spend(1 + wasted // WASTED_BYTES, now) else DropReason.FLOOD

    def served(self, peer: "Peer", request: Request, answer: Proof | NoDataReason) -> DropReason | None:
        """The shell has built an answer, or could not."""
        if not peer.uploads.finish(request):
            return None
        if isinstance(answer, NoDataReason):
            self._events.append(Send(peer.number, NoData(request.id, answer)))
            if answer is NoDataReason.INVALID_REQUEST:
                peer.uploads.invalid += 1
                if peer.uploads.invalid >= MAX_INVALID_REQUESTS:
                    return DropReason.INVALID_REQUESTS
            return None
        self._events.append(Send(peer.number, Data(request.id, answer)))
        if answer.block is not None:
            if peer.uploads.queued_bytes is not None:  # the shell will say so, but later
                peer.uploads.queued_bytes += len(answer.block.value)
            peer.blocks_sent += 1
            peer.bytes_sent += len(answer.block.value)
        return None

    def pump(self, peer: "Peer", now: float) -> None:
        """Hand waiting requests to the shell, as many as there is room for."""
        queue = peer.uploads
        while len(queue) and now >= queue.delayed_until:
            cost = _PROOF_BYTES + (self.block_bytes if queue.peek().proof.block is not None else 0)
            if not queue.has_room(cost):
                return
            delay = self._upload_limit.grant(peer.number, cost, now) if self._upload_limit else 0.0
            if delay == inf:
                self._events.append(Send(peer.number, NoData(queue.refuse().id, NoDataReason.NOT_AVAILABLE)))
            elif delay > 0:
                queue.delayed_until = now + delay
                self.next_at = min(self.next_at, now + delay)
            else:
                self._events.append(Serve(peer.number, queue.take(cost)))
