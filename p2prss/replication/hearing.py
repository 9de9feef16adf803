"""What peers say: where they stand, what they hold, what they answer and ask; and who is dropped for it."""

from p2prss.errors import ProofError
from p2prss.log.proof_parts import ProofRequest
from p2prss.log.verify import BAD_SIGNATURE
from p2prss.replication.announcer import Announcer
from p2prss.replication.announcing import want_reply
from p2prss.replication.answers import exceeds, lacks
from p2prss.replication.events import Drop, DropReason, Send, Synced
from p2prss.replication.limits import BITFIELD_HORIZON, MAX_BITFIELD_BLOCKS
from p2prss.replication.peer import Flight, Peer
from p2prss.replication.reminders import Reminders
from p2prss.replication.scheduler import Scheduler
from p2prss.replication.serving import Server
from p2prss.replication.state import State
from p2prss.units import KIB
from p2prss.wire.messages import (
    BitfieldMessage,
    Cancel,
    Data,
    Extension,
    Message,
    NoData,
    Range,
    Request,
    Sync,
    Unwant,
    Want,
)


class Hearing:
    """Takes the messages of one log's peers; none of them can make it raise."""

    def __init__(
        self,
        state: State,
        scheduler: Scheduler,
        server: Server,
        *,
        announcer: Announcer,
        reminders: Reminders,
    ) -> None:
        self.remind: dict[int, Peer] = {}  # peers that have got blocks, until they were reminded of our head
        self._state = state
        self._wants = state.wants
        self._downloads = state.downloads
        self._scheduler = scheduler
        self._server = server
        self._announcer = announcer
        self._reminders = reminders

    def receive(self, peer: Peer, message: Message, now: float) -> None:
        """Take a message of a peer; at worst the peer is dropped."""
        match message:
            case Data():
                self._on_data(peer, message, now)
            case Request():
                self._reminders.heard(peer, now)
                self.drop(peer, self._server.receive(peer, message, now))
            case NoData():
                self._on_no_data(peer, message, now)
            case Cancel():
                self.drop(peer, self._server.cancel(peer, message.request_id, now))
            case Sync():
                if self._charge(peer, 1, now):
                    self._on_sync(peer, message, now)
            case Range():
                if self._charge(peer, 1, now):
                    self._on_range(peer, message, now)
            case BitfieldMessage():
                if self._charge(peer, 1 + len(message.words) // KIB, now):
                    self._on_bitfield(peer, message, now)
            case Want():
                self._on_want(peer, message, now)
            case Unwant():
                if self._charge(peer, 1, now):
                    peer.interests.remove(message)
            case Extension():
                self._charge(peer, 1 + len(message.body) // KIB, now)
            case _:
                pass

    def drop(self, peer: Peer, reason: DropReason | None) -> bool:
        """Forget a peer and have it disconnected, if there is a reason to."""
        if reason is None:
            return False
        if self._state.peers.pop(peer.number, None) is not None:
            self._scheduler.leave(peer)
            self._state.events.append(Drop(peer.number, reason))
        return True

    def suspect(self, peer: Peer, request: ProofRequest, error: ProofError | None, now: float) -> None:
        """What a peer answered is false: drop it. But what nobody has signed as a longer version of our log
        may be signed as another one; so first see its whole log, of which the log can tell."""
        upgrade, head = request.upgrade, self._state.head
        may_be_another = (
            peer.doubt is None
            and upgrade is not None
            and 0 < upgrade.start <= head.length
            and request.fork == peer.fork == head.fork
            and peer.length > 0
            and error is not None
            and error.reason == BAD_SIGNATURE
        )
        if may_be_another:
            peer.doubt = self._scheduler.growth.ask_all(peer, now)
        else:
            self.drop(peer, DropReason.BAD_PROOF)

    def _charge(self, peer: Peer, tokens: float, now: float) -> bool:
        """Count a small message; False when the peer is dropped for sending too many."""
        if peer.spend(tokens, now):
            return True
        self.drop(peer, DropReason.FLOOD)
        return False

    def _on_sync(self, peer: Peer, sync: Sync, now: float) -> None:
        changed = not peer.synced or peer.fork != sync.fork or peer.length != sync.length
        if peer.fork != sync.fork:
            for flight in list(peer.flights.values()):  # it would only refuse them
                self._scheduler.give_up(flight)
            peer.holdings.cut(sync.length)
        if not peer.synced:
            peer.synced = True
            self._state.events.append(Synced(peer.number))
        peer.fork, peer.length, peer.acked = sync.fork, sync.length, sync.remote_length
        peer.claimed = 0
        peer.can_upgrade, peer.uploading = sync.can_upgrade, sync.uploading
        peer.downloading = sync.downloading
        peer.has_manifest = sync.has_manifest
        peer.dry = False
        self._scheduler.growth.lengths_changed = True
        if changed:
            self._reminders.heard(peer, now)
            peer.news_at = now
            peer.refused_upgrade = None
            self._wants.rewind(0, peer.number)  # a longer tree can prove more
        head = self._state.head
        if changed and sync.fork == head.fork and sync.length < head.length:
            self._announcer.sync(peer, head, again=True)

    def _on_range(self, peer: Peer, message: Range, now: float) -> None:
        start, stop = message.start, message.start + message.length
        if message.drop:
            peer.holdings.drop(start, stop, self._bitfield_bound)
            for flight in list(peer.flights.values()):
                block = flight.request.block
                if block is not None and start <= block.index < stop:
                    self._scheduler.give_up(flight)
        else:
            peer.holdings.add(start, stop, self._bitfield_bound)
            peer.claimed = max(peer.claimed, stop)
            self._has_more(peer, start, now)

    def _on_bitfield(self, peer: Peer, message: BitfieldMessage, now: float) -> None:
        if message.start % 32 == 0:
            peer.holdings.overwrite(message.start, message.words, self._bitfield_bound)
            self._has_more(peer, message.start, now)

    def _has_more(self, peer: Peer, start: int, now: float) -> None:
        self._reminders.heard(peer, now)
        self.remind[peer.number] = peer
        if self._wants:
            self._wants.rewind(start, peer.number)
            self._scheduler.has_more(peer, now)

    def _on_want(self, peer: Peer, want: Want, now: float) -> None:
        reply = None
        if peer.interests.add(want) and peer.is_news(want, self._announcer.changes):
            core = self._state.core
            reply = want_reply(want, core.bitfield, core.contiguous_length, self._state.head.length)
        size = len(reply.words) if isinstance(reply, BitfieldMessage) else 0
        if self._charge(peer, 1 + size // KIB, now) and reply is not None:
            self._state.events.append(Send(peer.number, reply))

    def _on_data(self, peer: Peer, data: Data, now: float) -> None:
        proof = data.proof
        nbytes = len(proof.block.value) if proof.block is not None else 0
        flight = peer.flights.get(data.request_id)
        if flight is None:
            self._on_late_data(peer, data, nbytes, now)
            return
        self._downloads.land(flight)
        if exceeds(flight.request, proof):
            self._scheduler.give_up(flight)
            self.drop(peer, DropReason.WRONG_ANSWER)
        elif lacks(flight.request, proof):
            self._refused(peer, flight)
        else:
            peer.answered(flight, nbytes, now)
            self._downloads.arrived(flight, proof)

    def _on_late_data(self, peer: Peer, data: Data, nbytes: int, now: float) -> None:
        """An answer we no longer wait for; of use perhaps if we had only lost patience."""
        flight = peer.take_late(data.request_id)
        if flight is None:
            self._charge(peer, 1 + nbytes // KIB, now)
            return
        request, given_up = flight.request, flight.given_up
        if exceeds(request, data.proof):
            self.drop(peer, DropReason.WRONG_ANSWER)
            return
        wanted = request.upgrade is not None or (
            request.block is not None and self._wants.priority_of(request.block.index) is not None
        )
        if wanted and not lacks(request, data.proof):
            self._downloads.arrived_late(flight, data.proof)
        if given_up:
            peer.answered(flight, nbytes, now)
            self._scheduler.revive(peer, now)

    def _on_no_data(self, peer: Peer, message: NoData, now: float) -> None:
        flight = peer.flights.get(message.request_id)
        if flight is None:
            peer.take_late(message.request_id)
            self._charge(peer, 1, now)
            return
        peer.last_answer_at = now
        self._downloads.land(flight)
        self._refused(peer, flight)

    def _refused(self, peer: Peer, flight: Flight) -> None:
        if flight is peer.doubt:
            self.drop(peer, DropReason.BAD_PROOF)
            return
        peer.refusals += 1
        block = flight.request.block
        if block is not None:
            peer.holdings.drop(block.index, block.index + 1, self._bitfield_bound)
        self._scheduler.refused(flight)

    @property
    def _bitfield_bound(self) -> int:
        return min(self._state.head.length + BITFIELD_HORIZON, MAX_BITFIELD_BLOCKS)
