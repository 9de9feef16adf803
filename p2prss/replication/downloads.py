"""Blocks on their way from the question to the disk.

A block is *asked* (requests are in the air at one or more peers), then *handed* (its answer is with the
shell, to be verified and stored, or waits for its turn) or *penned*: its answer came, but is connected
only by nodes that another answer will bring. Whoever is handed out goes before whoever builds on him, and
the shell applies in order, so a penned answer is released as soon as its support is handed out.
"""

from collections import deque
from dataclasses import replace
from itertools import count

from p2prss.log.proof_parts import Proof, ProofRequest
from p2prss.replication.core import ReplicatedCore, Verdict
from p2prss.replication.events import Apply, Event, Send
from p2prss.replication.limits import Limits
from p2prss.replication.node_count import BlockSet, below_held
from p2prss.replication.peer import Fetch, Flight, Peer, Stage
from p2prss.replication.wants import Priority, SeekWant
from p2prss.units import KIB
from p2prss.wire.messages import Cancel, Request

PROOF_BYTES = 2048  # what an answer without a block takes, about
_SMALL_FRAME = 4 * KIB  # bytes; a block from a frame of such a size is not worth copying
_NODE_BYTES = 200  # of memory for one node of a proof


class Downloads:
    """All blocks of one log that are on their way, and all requests in the air."""

    def __init__(self, core: ReplicatedCore, limits: Limits, events: list[Event]) -> None:
        self.blocks: dict[int, Fetch] = {}
        self.coming = BlockSet()  # blocks whose answers will bring their nodes: asked or handed
        self.efforts: dict[int, int] = {}  # blocks whose answers did not connect: 1 count held nodes, 2 all
        self.failed: list[int] = []  # blocks that have to be asked again; whoever reads it clears it
        self.in_flight = 0  # requests in the air
        self.in_flight_bytes = 0
        self._core = core
        self._limits = limits
        self._events = events
        self._ids = count(1)
        self._ready = BlockSet()  # handed
        self._handed_bytes = 0  # with the shell
        self._waiting_bytes = 0  # penned or held back
        self._held_back: deque[Apply] = deque()
        self._pen: dict[tuple[int, int], list[Fetch]] = {}  # by level and number of the tree node below
        # which a block must come first

    @property
    def congested(self) -> bool:
        """Whether enough is on its way for the whole log."""
        return bool(self._held_back) or self.in_flight_bytes >= self._limits.total_in_flight_bytes

    @property
    def busy(self) -> bool:
        """Whether anything is on its way."""
        return bool(self.in_flight or self.blocks)

    # Asking

    def ask(
        self,
        peer: Peer,
        request: ProofRequest,
        priority: Priority,
        cost: int,
        now: float,
        *,
        waits_at: int = -1,
        seek: SeekWant | None = None,
    ) -> Flight:
        """Send a request; ``cost`` is the size of the answer we expect, in bytes."""
        flight = Flight(next(self._ids), peer, request, priority, now, cost, None, waits_at, seek)
        self._take_off(flight)
        # Read-ahead is as patient as the rest on the wire: the reference answers what has a priority
        # last in, first out when its link is slow.
        urgency = 1 if priority is Priority.PLAYHEAD else 0
        self._events.append(Send(peer.number, Request(flight.id, request, urgency)))
        return flight

    def revive(self, flight: Flight, now: float) -> None:
        """A request that was given up is taken to be in the air again."""
        flight.sent_at, flight.given_up = now, False
        flight.revivals += 1
        self._take_off(flight)

    def _take_off(self, flight: Flight) -> None:
        block = flight.request.block
        if block is not None:
            fetch = self.blocks.get(block.index)
            if fetch is None:
                fetch = self.blocks[block.index] = Fetch(block.index)
                self.coming.add(block.index)
            flight.fetch = fetch
            fetch.flights.append(flight)
        flight.peer.take_off(flight)
        self.in_flight += 1
        self.in_flight_bytes += flight.cost

    def land(self, flight: Flight) -> None:
        """The request is in the air no longer, for whatever reason; it may have landed already."""
        if not flight.peer.land(flight):
            return
        self.in_flight -= 1
        self.in_flight_bytes -= flight.cost
        if flight.fetch is not None:
            flight.fetch.flights.remove(flight)

    def cancel(self, flight: Flight) -> None:
        """Tell the peer that the answer is not needed any more."""
        self.land(flight)
        flight.peer.expect_late(flight)
        self._events.append(Send(flight.peer.number, Cancel(flight.id)))

    def give_up(self, flight: Flight) -> None:
        """The request failed; its block, if nobody else was asked, has to be asked again."""
        self.land(flight)
        fetch = flight.fetch
        if fetch is not None and fetch.stage is Stage.ASKED and not fetch.flights:
            self._lose(fetch)

    def hurry(self, fetch: Fetch) -> None:
        """If the block's answer waits for others, ask again for one that does not."""
        if fetch.stage is Stage.PENNED:
            self._retry(fetch, 1)

    def drop_block(self, fetch: Fetch) -> None:
        """Nobody wants the block any more; what is with the shell already is stored nevertheless."""
        if fetch.stage is Stage.HANDED:
            return
        if any(flight.request.upgrade is not None for flight in fetch.flights):
            return
        for flight in fetch.flights[:]:
            self.cancel(flight)
        self._forget(fetch)
        self.efforts.pop(fetch.index, None)

    # Answers

    def arrived(self, flight: Flight, proof: Proof) -> None:
        """An answer came that fits its request. The flight has landed already."""
        apply = Apply(flight.peer.number, flight.request, _without_its_frame(proof))
        fetch = flight.fetch
        if fetch is None:
            self._handed_bytes += _size(apply)
            self._events.append(apply)
            return
        self._call_off(fetch)
        if self._waiting_bytes + _size(apply) > self._limits.waiting_bytes:
            self._lose(fetch)
            return
        fetch.apply = apply
        if flight.waits_at < 0 or self._is_connected(fetch.index, flight.waits_at):
            self._hand_out(fetch)
        else:
            self._put_in_pen(fetch, flight.waits_at)

    def arrived_late(self, flight: Flight, proof: Proof) -> None:
        """An answer came to a request that was given up; take it if it is of use still."""
        block = flight.request.block
        flight.fetch = None
        if flight.request.upgrade is None and block is not None:
            if flight.request.fork != self._core.head.fork or self._core.bitfield.has(block.index):
                return
            fetch = self.blocks.get(block.index)
            if fetch is None:
                fetch = self.blocks[block.index] = Fetch(block.index)
            elif fetch.stage is not Stage.ASKED:
                return
            flight.fetch = fetch
        self.arrived(flight, proof)

    def applied(self, apply: Apply, verdict: Verdict) -> bool:
        """The shell is done with an answer. Returns: whether it brought a block that is held now."""
        self._handed_bytes -= _size(apply)
        self._hand_out_held_back()
        block = apply.proof.block
        if block is None:
            return False
        held = self._core.bitfield.has(block.index)
        fetch = self.blocks.get(block.index)
        if fetch is not None and (fetch.apply is apply or fetch.stage is Stage.ASKED):
            if held:
                self._call_off(fetch)
                self._forget(fetch)
                self.efforts.pop(fetch.index, None)
                if self._pen:
                    self._release(fetch.index)
            elif fetch.apply is not apply:
                pass  # it was an answer on the side; the block is still asked for
            elif verdict is Verdict.UNCONNECTED:
                self._retry(fetch, min(2, self.efforts.get(fetch.index, 0) + 1))
            else:
                self._lose(fetch)
        return held and verdict is Verdict.STORED

    def cut(self) -> None:
        """The log changed its fork: nothing that is on its way fits any more."""
        for fetch in list(self.blocks.values()):
            for flight in fetch.flights[:]:
                self.cancel(flight)
            self._forget(fetch)
            self.failed.append(fetch.index)
        for apply in self._held_back:
            self._waiting_bytes -= _size(apply)
        self._held_back.clear()
        self.efforts.clear()

    def free_stranded(self) -> None:
        """Ask again for those in the pen whose support is not even asked for any more."""
        for (level, number), penned in list(self._pen.items()):
            if not self.coming.below(number << level, level):
                for fetch in penned[:]:
                    self._retry(fetch, 1)

    # Inside

    def _is_connected(self, index: int, level: int) -> bool:
        """Whether the ancestor at ``level`` is known, or will be when all that was handed is stored."""
        return self._ready.below(index, level + 1) or below_held(index, level + 1, self._core.bitfield)

    def _hand_out(self, first: Fetch) -> None:
        todo = [first]
        while todo:
            fetch = todo.pop()
            assert fetch.apply is not None
            fetch.stage = Stage.HANDED
            self._ready.add(fetch.index)
            self.coming.add(fetch.index)
            self._held_back.append(fetch.apply)
            self._waiting_bytes += _size(fetch.apply)
            if self._pen:
                todo.extend(self._take_released(fetch.index))
        self._hand_out_held_back()

    def _hand_out_held_back(self) -> None:
        while self._held_back and self._handed_bytes < self._limits.apply_bytes:
            apply = self._held_back.popleft()
            size = _size(apply)
            self._waiting_bytes -= size
            self._handed_bytes += size
            self._events.append(apply)

    def _put_in_pen(self, fetch: Fetch, level: int) -> None:
        fetch.stage, fetch.waits_at = Stage.PENNED, level
        self.coming.discard(fetch.index)
        assert fetch.apply is not None
        self._waiting_bytes += _size(fetch.apply)
        self._pen.setdefault((level + 1, fetch.index >> (level + 1)), []).append(fetch)

    def _take_released(self, index: int) -> list[Fetch]:
        """Take out of the pen who waited for block ``index``."""
        released = []
        for level in range(1, self._core.head.length.bit_length() + 1):
            for fetch in self._pen.pop((level, index >> level), ()):
                assert fetch.apply is not None
                self._waiting_bytes -= _size(fetch.apply)
                released.append(fetch)
        return released

    def _release(self, index: int) -> None:
        for fetch in self._take_released(index):
            self._hand_out(fetch)

    def _retry(self, fetch: Fetch, effort: int) -> None:
        self.efforts[fetch.index] = effort
        self._lose(fetch)

    def _lose(self, fetch: Fetch) -> None:
        """The block is on its way no longer, and not held. Others may count on it, so that next time it
        has to get by without counting on them."""
        self._forget(fetch)
        self.failed.append(fetch.index)
        self.efforts.setdefault(fetch.index, 1)

    def _call_off(self, fetch: Fetch) -> None:
        """The block is here: nobody else needs to send it."""
        for flight in fetch.flights[:]:
            if flight.request.upgrade is None:
                self.cancel(flight)
            else:  # go on for the sake of the longer log
                fetch.flights.remove(flight)
                flight.fetch = None

    def _forget(self, fetch: Fetch) -> None:
        if self.blocks.get(fetch.index) is not fetch:
            return
        del self.blocks[fetch.index]
        self.coming.discard(fetch.index)
        self._ready.discard(fetch.index)
        if fetch.stage is Stage.PENNED:
            key = (fetch.waits_at + 1, fetch.index >> (fetch.waits_at + 1))
            penned = self._pen.get(key, [])
            if fetch in penned:
                penned.remove(fetch)
                assert fetch.apply is not None
                self._waiting_bytes -= _size(fetch.apply)
                if not penned:
                    del self._pen[key]


def _without_its_frame(proof: Proof) -> Proof:
    """A block is a view of the frame it came in: it must not keep a much larger frame in memory."""
    block = proof.block
    if block is None or not isinstance(block.value, memoryview):
        return proof
    if memoryview(block.value.obj).nbytes <= 2 * len(block.value) + _SMALL_FRAME:
        return proof
    return replace(proof, block=block._replace(value=bytes(block.value)))


def _size(apply: Apply) -> int:
    """Bytes of memory that an answer takes, about."""
    block = apply.proof.block
    return len(block.value) + _NODE_BYTES * len(block.nodes) if block is not None else 0
