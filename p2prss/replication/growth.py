"""A longer log, or a higher fork: who has one, and whom to ask to prove it.

One request for a new length, and one for a higher fork, is in the air at a time, at a peer that can prove it
from where we are.
"""

from operator import attrgetter

from p2prss.log.proof_parts import BlockRequest, ProofRequest, UpgradeRequest
from p2prss.replication.downloads import PROOF_BYTES
from p2prss.replication.limits import REQUEST_TIMEOUT
from p2prss.replication.node_count import known_level
from p2prss.replication.peer import Flight, Peer
from p2prss.replication.state import State
from p2prss.replication.wants import Priority, next_block


class Growth:
    """Asks for new heads of one log."""

    def __init__(self, state: State) -> None:
        self.lengths_changed = True  # a peer's or our own, or whether somebody is being asked for his
        self._state = state
        self._core = state.core
        self._peers = state.peers
        self._wants = state.wants
        self._downloads = state.downloads
        self._upgrade: Flight | None = None  # asked, or its answer is being applied
        self._reorg: Flight | None = None

    def may_come(self, now: float) -> bool:
        """Whether a longer log is on its way, or a peer has not said yet whether it has one.

        A peer that has not done in time what it seemed to promise is not waited for.
        """
        return (
            self._upgrade is not None
            or self._reorg is not None
            or any(
                (not peer.synced or self._is_ahead(peer)) and now - peer.news_at < REQUEST_TIMEOUT
                for peer in self._peers.values()
            )
        )

    def waits_for_proof(self, peer: Peer) -> bool:
        """Whether a peer is ahead on our fork, but has not said that it can prove it from where we are."""
        head = self._state.head
        can_prove = peer.can_upgrade and peer.acked == head.length
        return peer.fork == head.fork and self._is_ahead(peer) and not can_prove

    def ask(self, now: float) -> None:
        """Ask for what may be asked for now."""
        if self.lengths_changed:
            self.lengths_changed = False
            self._ask_upgrade(now)
            self._ask_reorg(now)

    def ask_all(self, peer: Peer, now: float) -> Flight:
        """Ask a peer to prove its log from the start, by way of the length both have."""
        head = self._state.head
        request = ProofRequest(head.fork, upgrade=UpgradeRequest(0, min(head.length, peer.length)))
        return self._downloads.ask(peer, request, Priority.PLAYHEAD, PROOF_BYTES, now)

    def ended(self, request: ProofRequest) -> None:
        """The answer to a request has been applied, or has got lost."""
        if self._upgrade is not None and self._upgrade.request is request:
            self._upgrade = None
            self.lengths_changed = True
        elif self._reorg is not None and self._reorg.request is request:
            self._reorg = None
            self.lengths_changed = True

    def can_ask_another(self, flight: Flight, now: float) -> bool:
        """Whether somebody else than who was asked could prove the new length."""
        return flight is self._upgrade and any(
            self._can_upgrade(peer, now) for peer in self._peers.values() if peer is not flight.peer
        )

    def cut(self) -> None:
        """The log changed its fork."""
        self._upgrade = None

    def _is_ahead(self, peer: Peer) -> bool:
        """Whether a peer has a longer log, or a higher fork, than ours and may yet bring us there."""
        head = self._state.head
        if peer.refused_upgrade == (peer.fork, peer.length):
            return False
        if peer.fork == head.fork:
            return peer.length > head.length
        return self._state.allow_fork and peer.fork > head.fork and peer.length > 0

    def _can_upgrade(self, peer: Peer, now: float) -> bool:
        """Whether a peer's last sync allows to ask it for its length: a sparse reference peer that is asked
        for a proof it cannot build destroys the connection."""
        return (
            peer.fork == self._state.head.fork
            and self._is_ahead(peer)
            and not self.waits_for_proof(peer)
            and peer.usable(now)
            and peer.has_room(Priority.PLAYHEAD)
        )

    def _ask_upgrade(self, now: float) -> None:
        if self._upgrade is not None:
            return
        candidates = [peer for peer in self._peers.values() if self._can_upgrade(peer, now)]
        if not candidates:
            return
        peer = min(candidates, key=attrgetter("reliability"))
        head = self._state.head
        index = None if peer.bare_upgrades else self._companion(peer)
        block = None
        if index is not None:
            nodes = known_level(index, head.length, self._core.bitfield)[0] if index < head.length else 0
            block = BlockRequest(index, nodes)
        request = ProofRequest(
            head.fork,
            block=block,
            upgrade=UpgradeRequest(head.length, peer.length - head.length),
            manifest=self._core.manifest is None and peer.has_manifest,
        )
        cost = PROOF_BYTES + (self._state.block_bytes if block else 0)
        self._upgrade = self._downloads.ask(peer, request, Priority.PLAYHEAD, cost, now)

    def _companion(self, peer: Peer) -> int | None:
        """A wanted block that the peer can send along with the longer log."""
        held, claimed = self._core.bitfield, self._downloads.blocks
        for want in self._wants:
            begin = self._state.first_index(want, peer)
            index = next_block(want, peer.number, peer.holdings, held, claimed, peer.length, begin)
            if index is not None:
                return index
        return None

    def _ask_reorg(self, now: float) -> None:
        if self._reorg is not None or not self._state.allow_fork:
            return
        candidates = [
            peer
            for peer in self._peers.values()
            if peer.fork > self._state.head.fork and self._is_ahead(peer) and peer.usable(now)
        ]
        if candidates:
            peer = min(candidates, key=attrgetter("reliability"))
            request = ProofRequest(
                peer.fork,
                upgrade=UpgradeRequest(0, peer.length),
                manifest=self._core.manifest is None and peer.has_manifest,
            )
            self._reorg = self._downloads.ask(peer, request, Priority.PLAYHEAD, PROOF_BYTES, now)
