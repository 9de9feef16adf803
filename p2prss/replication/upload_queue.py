"""What one peer asks of us, from its request until the answer is on its way out.

It can overtake only what is not on its way out yet; how much that may be is measured, so that a slow link
gets its answers bit by bit.
"""

from collections import OrderedDict
from math import inf

from p2prss.replication.limits import (
    MAX_QUEUED_REQUESTS,
    MAX_SERVING,
    MIN_UPLOAD_QUEUE,
    UPLOAD_QUEUE_SECONDS,
    UPLOAD_RATE_SECONDS,
    Limits,
)
from p2prss.wire.messages import Request

_CLOCK_SECONDS = 0.001  # below which its readings tell nothing


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
