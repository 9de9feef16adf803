"""Saying again where we stand, to peers that may wait in vain for somebody else.

The reference has no time-outs: it asks a second peer for a block only in the moment when it hears something
from that one. So whoever asked a peer that has died waits until that connection is given up, and for a peer
that is alive but does not answer it waits for ever, however many idle ones have what it needs. A peer that
has said something of late, and lacks blocks that we hold, hears our unchanged sync again, at growing
intervals; after ``MAX_REMINDER`` without a sign of it we leave it in peace.

Source: hypercore lib/replicator.js ``updatePeer``, ``_updateHotswap``; spec/05-replication, "Announcements".
"""

from collections.abc import Mapping
from math import inf

from p2prss.log.merkle import Head
from p2prss.replication.core import ReplicatedCore
from p2prss.replication.limits import FIRST_REMINDER, MAX_REMINDER
from p2prss.replication.peer import Peer


class Reminders:
    """Of the peers of one log. ``next_at`` is when ``take_due`` has something to do, ``inf`` for never."""

    def __init__(self, core: ReplicatedCore, peers: Mapping[int, Peer]) -> None:
        self.next_at = inf
        self._core = core
        self._peers = peers

    def heard(self, peer: Peer, now: float) -> None:
        """A peer has asked for something, or told something new: it is at work."""
        peer.reminder_seconds = FIRST_REMINDER
        peer.remind_at = now + FIRST_REMINDER
        self.next_at = min(self.next_at, peer.remind_at)

    def take_due(self, head: Head, now: float) -> list[Peer]:
        """The peers to be reminded now."""
        due = []
        self.next_at = inf
        for peer in self._peers.values():
            if now >= peer.remind_at:
                if not self._may_wait(peer, head):
                    peer.remind_at = inf  # until it is heard of
                    continue
                due.append(peer)
                peer.reminder_seconds *= 2
                peer.remind_at = inf if peer.reminder_seconds > MAX_REMINDER else now + peer.reminder_seconds
            self.next_at = min(self.next_at, peer.remind_at)
        return due

    def _may_wait(self, peer: Peer, head: Head) -> bool:
        """Whether it downloads, and has not said that it has all we could give it."""
        if not peer.synced or not peer.downloading or peer.fork != head.fork:
            return False
        contiguous = peer.holdings.contiguous
        return contiguous < head.length and self._core.bitfield.first_set(contiguous) is not None
