"""Whom to ask for what, and when to ask somebody else.

Rules: blocks go out by priority; within a priority whoever has room takes the next one, so several peers
share the work and fast ones do more of it. A request that takes too long is asked elsewhere too, soon when
the play head waits for it; a peer that falls silent is left alone for a while. How the log itself grows is
the business of ``growth``.
"""

from math import inf
from operator import attrgetter

from p2prss.log.proof_parts import BlockRequest, ProofRequest
from p2prss.replication.events import Send
from p2prss.replication.growth import Growth
from p2prss.replication.limits import (
    APPLY_PAUSE,
    LOOK_INTERVAL,
    MAX_COPIES,
    MAX_REMOTE_WANTS,
    OVERTAKE_OTHERS,
    OVERTAKE_PLAYHEAD,
    REQUEST_LIFETIME,
    REQUEST_TIMEOUT,
    TICK,
    WANT_BLOCKS,
)
from p2prss.replication.node_count import known_level, root_level
from p2prss.replication.peer import Fetch, Flight, Peer
from p2prss.replication.seeking import Seeking
from p2prss.replication.state import State
from p2prss.replication.wants import Priority, Want, next_block
from p2prss.wire.messages import Want as WantMessage

_PROMOTE_BEHIND = 4  # requests in front of one before it is asked again with more priority


class Scheduler:
    """Decides over the requests of one log, those for a longer one and for seeks included."""

    def __init__(self, state: State) -> None:
        self.growth = Growth(state)
        self.seeking = Seeking(state)
        self.next_at = inf  # when to look after the requests in the air
        self.urgent = False  # something new is wanted: do not wait for a quarter of the room to be free
        self._look_into_pen = False
        self._paused_until = -inf
        self._state = state
        self._core = state.core
        self._peers = state.peers
        self._wants = state.wants
        self._downloads = state.downloads
        self.renew_head()

    def renew_head(self) -> None:
        """The log may have another head."""
        self._state.renew_head()
        self._wants.restart_scattered()
        self.stir()

    def stir(self) -> None:
        """Something changed that may let any peer be asked for more."""
        self.urgent = self.growth.lengths_changed = True
        for peer in self._peers.values():
            peer.dry = False

    def has_more(self, peer: Peer, now: float) -> None:
        """A peer has announced blocks; looking at every announcement of a chatty one would cost too much."""
        if now >= peer.look_again_at:
            peer.look_again_at = now + LOOK_INTERVAL
            peer.dry = False
        else:
            self.next_at = min(self.next_at, peer.look_again_at)

    # Asking

    def run(self, now: float) -> None:
        """Ask for all that may be asked for now."""
        if self._downloads.failed:
            self._take_failed()
        if now < self._paused_until:
            self.next_at = min(self.next_at, self._paused_until)
            return
        self.growth.ask(now)
        if self._wants:
            if self._wants.seeks:
                self.seeking.ask(now)
            urgent, self.urgent = self.urgent, False
            peers = list(self._peers.values())
            if urgent and len(peers) > 1:
                peers.sort(key=attrgetter("reliability"))
            for peer in peers:
                if not peer.dry and (urgent or peer.wants_refill):
                    self._fill(peer, now)
            if self._downloads.failed:  # a block cannot be had of whoever was asked last: others may have it
                self._take_failed()
        if self._look_into_pen:
            self._look_into_pen = False
            if any(peer.fork == self._state.head.fork and peer.usable(now) for peer in self._peers.values()):
                self._downloads.free_stranded()
        if self._downloads.in_flight and self.next_at > now + TICK:
            self.next_at = now + TICK

    def pause(self, now: float) -> None:
        """What comes cannot be stored: ask for nothing for a while."""
        self._paused_until = now + APPLY_PAUSE

    def promote(self, want: Want, now: float) -> None:
        """Blocks that were asked for in passing are urgent now: ask for them again, in front of the rest."""
        blocks = self._downloads.blocks
        span = range(want.start, max(want.start, want.stop_at(self._state.head.length)))
        near = span if len(span) < len(blocks) else sorted(blocks)
        for index in near:
            fetch = blocks.get(index)
            if fetch is None or index not in span or any(f.priority >= want.priority for f in fetch.flights):
                continue
            if want.priority is Priority.PLAYHEAD:
                self._downloads.hurry(fetch)
            for flight in fetch.flights[:]:
                flight.priority = want.priority
                in_front = next(n for n, other in enumerate(flight.peer.flights.values()) if other is flight)
                if want.priority is Priority.PLAYHEAD and in_front > _PROMOTE_BEHIND:
                    self._ask_block(flight.peer, index, want.priority, now)
                    self._downloads.cancel(flight)

    def _take_failed(self) -> None:
        failed = self._downloads.failed
        for index in failed:
            self._wants.rewind(index)
        failed.clear()
        for peer in self._peers.values():
            peer.dry = False

    def _fill(self, peer: Peer, now: float) -> None:
        """Ask a peer for blocks until it has enough to do or has no more of what is wanted."""
        head = self._state.head
        if peer.fork != head.fork or not peer.usable(now):
            if now < peer.resting_until:
                self.next_at = min(self.next_at, peer.resting_until)
            return
        length = min(head.length, peer.length)
        held, claimed = self._core.bitfield, self._downloads.blocks
        for priority in reversed(Priority):
            for want in self._wants.of(priority):
                begin = self._state.first_index(want, peer)
                while True:
                    if not peer.has_room(priority):
                        return
                    if self._downloads.congested and priority is not Priority.PLAYHEAD:
                        return
                    index = next_block(want, peer.number, peer.holdings, held, claimed, length, begin)
                    if index is None:
                        break
                    self._ask_block(peer, index, priority, now)
        peer.dry = True
        self._ask_announcements(peer)

    def _ask_block(self, peer: Peer, index: int, priority: Priority, now: float) -> bool:
        """Ask for one block; False when the peer's tree is too short to prove it to us."""
        length = self._state.head.length
        late = peer.take_late_block(index)
        if late is not None and late.request.fork == self._state.head.fork:
            self._downloads.revive(late, now)
            return True
        effort = self._downloads.efforts.get(index, 0)
        certain = True
        if effort > 1:
            nodes = root_level(index, length)
        else:
            # The play head does not wait for anybody's answer but its own; and a peer with holes may lack
            # nodes that are only promised: then count what is held.
            patient = not effort and priority is not Priority.PLAYHEAD and index not in self._downloads.blocks
            coming = self._downloads.coming if patient and peer.holdings.contiguous >= length else None
            nodes, certain = known_level(index, length, self._core.bitfield, coming)
        if peer.length < length and nodes > root_level(index, peer.length):
            return False
        self._downloads.ask(
            peer,
            ProofRequest(self._state.head.fork, BlockRequest(index, nodes)),
            priority,
            self._state.block_bytes,
            now,
            waits_at=-1 if certain else nodes,
        )
        return True

    def _ask_announcements(self, peer: Peer) -> None:
        """Nothing is left to ask of a peer: have it tell us which of the wanted blocks it has or gets."""
        length = min(self._state.head.length, peer.length)
        for want in self._wants:
            stop = want.stop_at(length)
            if want.missing_from >= stop or peer.holdings.has_all(want.missing_from, stop):
                continue
            for batch in range(want.missing_from // WANT_BLOCKS, (stop - 1) // WANT_BLOCKS + 1):
                if len(peer.asked_batches) >= MAX_REMOTE_WANTS:
                    return
                if batch not in peer.asked_batches:
                    peer.asked_batches.add(batch)
                    self._state.events.append(
                        Send(peer.number, WantMessage(batch * WANT_BLOCKS, WANT_BLOCKS))
                    )

    # Answers, failures, time

    def give_up(self, flight: Flight) -> None:
        """A request will not be answered."""
        self._downloads.give_up(flight)
        self.growth.ended(flight.request)
        if flight.seek is not None:
            flight.seek.asked = False

    def refused(self, flight: Flight) -> None:
        """A peer does not answer a request, and would not if it were asked again."""
        if flight.request.upgrade is not None:
            if flight.request.block is None:
                flight.peer.refused_upgrade = (flight.peer.fork, flight.peer.length)
            else:  # perhaps it was only the block that it lacks, or cannot read
                flight.peer.bare_upgrades = True
        self.give_up(flight)

    def _give_up_for_now(self, flight: Flight) -> None:
        """An answer takes too long; it is welcome when it comes after all."""
        flight.given_up = True
        flight.peer.expect_late(flight)
        self.give_up(flight)

    def revive(self, peer: Peer, now: float) -> None:
        """A peer that was given up answers again: wait for the rest of what it was asked for."""
        for flight in [flight for flight in peer.late.values() if flight.given_up]:
            peer.take_late(flight.id)
            block = flight.request.block
            if (
                block is not None
                and flight.request.fork == self._state.head.fork
                and block.index not in self._downloads.blocks
                and not self._core.bitfield.has(block.index)
                and self._wants.priority_of(block.index) is not None
            ):
                self._downloads.revive(flight, now)

    def cut(self) -> None:
        """The log changed its fork: whatever was asked about the old one is of no use."""
        for peer in self._peers.values():
            for flight in [flight for flight in peer.flights.values() if flight.fetch is None]:
                self._downloads.cancel(flight)
                self.give_up(flight)
        self.growth.cut()
        self._downloads.cut()

    def leave(self, peer: Peer) -> None:
        """A peer is gone: what it was asked for goes to others."""
        for flight in list(peer.flights.values()):
            self.give_up(flight)
        self._wants.forget(peer.number)

    def handle_timer(self, now: float) -> None:
        """Ask others for what takes too long, and leave silent peers alone."""
        self.next_at = inf
        for peer in list(self._peers.values()):
            self._expire(peer, now)
        for peer in list(self._peers.values()):
            self._overtake(peer, now)
        for peer in self._peers.values():
            if self._wants and now < peer.resting_until < self.next_at:
                self.next_at = peer.resting_until
        self._look_into_pen = True
        self.stir()

    def _expire(self, peer: Peer, now: float) -> None:
        flights = list(peer.flights.values())
        if not flights:
            return
        if now - max(flights[0].sent_at, peer.last_answer_at) >= REQUEST_TIMEOUT:
            peer.rest(now)
        else:
            flights = [flight for flight in flights if now - flight.sent_at >= REQUEST_LIFETIME]
        for flight in flights:
            self._give_up_for_now(flight)

    def _overtake(self, peer: Peer, now: float) -> None:
        for flight in list(peer.flights.values()):
            age = now - flight.sent_at
            if age < OVERTAKE_PLAYHEAD:
                return
            fetch = flight.fetch
            if flight.request.upgrade is not None:
                if age >= OVERTAKE_OTHERS and self.growth.can_ask_another(flight, now):
                    flight.peer.rest(now)
                    self._give_up_for_now(flight)
            elif fetch is not None and (flight.priority is Priority.PLAYHEAD or age >= OVERTAKE_OTHERS):
                self._ask_again(fetch, now)

    def _ask_again(self, fetch: Fetch, now: float) -> None:
        """Ask one more peer for a block."""
        if len(fetch.flights) >= MAX_COPIES or self._state.head.length <= fetch.index:
            return
        asked = [flight.peer for flight in fetch.flights]
        urgent = any(flight.priority is Priority.PLAYHEAD for flight in fetch.flights)
        priority = Priority.PLAYHEAD if urgent else Priority.BACKGROUND
        candidates = [
            peer
            for peer in self._peers.values()
            if peer not in asked
            and peer.fork == self._state.head.fork
            and peer.length > fetch.index
            and peer.usable(now)
            and peer.holdings.has(fetch.index)
            and peer.has_room(priority)
            and (urgent or peer.dry)
        ]
        if candidates:
            self._ask_block(min(candidates, key=attrgetter("reliability")), fetch.index, priority, now)
