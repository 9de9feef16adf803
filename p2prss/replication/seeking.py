"""Seeking: the tree nodes that tell in which block a byte lies are asked for, a few at a time."""

from p2prss.log.proof_parts import HashRequest, ProofRequest, SeekRequest
from p2prss.replication.core import Verdict
from p2prss.replication.downloads import PROOF_BYTES
from p2prss.replication.events import Completed
from p2prss.replication.state import State
from p2prss.replication.wants import Priority, SeekWant


class Seeking:
    """Asks for what the seeks that are wanted still lack."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._seeks = state.wants.seeks

    def ask(self, now: float) -> None:
        """Ask for each seek that nobody is being asked for yet."""
        for seek in self._seeks:
            span = None if seek.asked else seek.span or self._root_span(seek)
            if span is None:
                continue
            start, stop = span
            index = self._state.random.randrange(start, stop)
            candidates = [
                peer
                for peer in self._state.peers.values()
                if peer.fork == self._state.head.fork
                and peer.length >= stop
                and peer.usable(now)
                and peer.has_room(Priority.PLAYHEAD)
                and peer.holdings.has(index)
            ]
            if not candidates:
                continue
            peer = min(
                candidates, key=lambda peer: (not peer.holdings.has_all(start, stop), peer.reliability)
            )
            request = ProofRequest(
                self._state.head.fork,
                hash=HashRequest(2 * index, (stop - start).bit_length() - 1),
                seek=SeekRequest(seek.byte_offset, seek.padding),
            )
            seek.asked = True
            self._state.downloads.ask(peer, request, Priority.PLAYHEAD, PROOF_BYTES, now, seek=seek)

    def end(self, request: ProofRequest, verdict: Verdict) -> None:
        """An answer has been applied."""
        if request.seek is None:
            return
        for seek in self._seeks[:]:
            if (seek.byte_offset, seek.padding) == request.seek and seek.asked:
                if verdict in (Verdict.STORED, Verdict.STALE):
                    self._seeks.remove(seek)
                    self._state.events.append(Completed(seek))
                else:
                    seek.asked = False

    def start_over(self) -> None:
        """What was asked for is lost."""
        for seek in self._seeks:
            seek.asked = False

    def _root_span(self, seek: SeekWant) -> tuple[int, int] | None:
        """The blocks below the root that holds the byte; None when it lies beyond the log we know."""
        rest, start = seek.byte_offset, 0
        for root in self._state.head.roots:
            blocks = root.index - 2 * start + 1
            size = root.size - seek.padding * blocks
            if rest < size:
                return start, start + blocks
            rest -= size
            start += blocks
        return None
