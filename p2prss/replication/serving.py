"""The answering side: a peer's questions, waiting for their turn.

Goals: a peer that asks for much while it reads little costs a bounded queue, not memory for answers; what
is in front of a play head overtakes the rest. It can overtake only what is not on its way out yet: so a slow
link gets its answers bit by bit. Non-goal: fairness between logs (the shell's batches).
"""

from math import inf

from p2prss.log.proof_parts import Proof
from p2prss.replication.events import DropReason, Send, Serve
from p2prss.replication.limits import (
    MAX_INVALID_REQUESTS,
    WASTED_BYTES,
    UploadLimit,
)
from p2prss.replication.peer import Peer
from p2prss.replication.state import State
from p2prss.wire.messages import Data, NoData, NoDataReason, Request

_PROOF_BYTES = 1024  # what an answer without a block, or the proof of one with, takes


class Server:
    """Answers the peers of one log, as far as room and the upload limit allow."""

    def __init__(self, state: State, upload_limit: UploadLimit | None) -> None:
        self.next_at = inf  # when a request that the upload limit has delayed may go on
        self._state = state
        self._core = state.core
        self._events = state.events
        self._upload_limit = upload_limit

    def receive(self, peer: Peer, request: Request, now: float) -> DropReason | None:
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

    def cancel(self, peer: Peer, request_id: int, now: float) -> DropReason | None:
        """The peer does not need an answer any more; work that was done in vain it has to pay for."""
        wasted = peer.uploads.cancel(request_id) or 0
        return None if peer.spend(1 + wasted // WASTED_BYTES, now) else DropReason.FLOOD

    def served(self, peer: Peer, request: Request, answer: Proof | NoDataReason) -> DropReason | None:
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

    def pump(self, peer: Peer, now: float) -> None:
        """Hand waiting requests to the shell, as many as there is room for."""
        queue = peer.uploads
        while len(queue) and now >= queue.delayed_until:
            cost = _PROOF_BYTES + (self._state.block_bytes if queue.peek().proof.block is not None else 0)
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
