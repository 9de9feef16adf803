"""Telling the peers of one log what changed: syncs, ranges, drops."""

from collections import deque
from collections.abc import Iterator, Mapping

from p2prss.log.bitfield import Bitfield
from p2prss.log.merkle import Head
from p2prss.replication.core import ReplicatedCore
from p2prss.replication.events import Event, Send
from p2prss.replication.limits import MAX_PAST_LENGTHS
from p2prss.replication.node_count import knows_roots
from p2prss.replication.peer import Peer
from p2prss.wire.messages import Message, Range, Sync


class Announcer:
    """Remembers what the peers were told, and tells them the difference."""

    def __init__(self, core: ReplicatedCore, peers: Mapping[int, Peer], events: list[Event]) -> None:
        self.changes = 0  # grows when an answer to a peer's want may become another
        self._core = core
        self._peers = peers
        self._events = events
        self._told = core.bitfield.copy()  # blocks that peers may have been told of
        self._told_whole = -1  # the length at which they were told that we hold all
        self._fork = core.head.fork
        self._past_lengths = deque(
            [core.head.length], MAX_PAST_LENGTHS
        )  # of this fork; their roots are stored

    def greet(self, peer: Peer, head: Head) -> None:
        """Tell a new peer where we stand: blocks first, so that its first request can ask for one."""
        if contiguous := self._core.contiguous_length:
            self._events.append(Send(peer.number, Range(0, contiguous)))
        self.sync(peer, head)

    def sync(self, peer: Peer, head: Head, *, again: bool = False) -> None:
        """Tell a peer how far the log reaches, unless (or, with ``again``, even if) it was told just so."""
        core = self._core
        same_fork = peer.fork == head.fork
        sync = Sync(
            fork=head.fork,
            length=head.length,
            remote_length=peer.length if same_fork else 0,
            can_upgrade=same_fork and self._can_prove_from(peer.length, head),
            uploading=True,
            downloading=True,  # the reference closes a channel on which neither side downloads
            has_manifest=core.manifest is not None and not core.compat,
        )
        if again or sync != peer.told:
            peer.told = sync
            self._events.append(Send(peer.number, sync))

    def sync_all(self, head: Head) -> None:
        """The log has a new head, or we know more about who may sign it."""
        if head.fork != self._fork:
            self._fork = head.fork
            self._past_lengths.clear()
        if head.length not in self._past_lengths:
            self.changes += 1
            self._past_lengths.append(head.length)
        for peer in self._peers.values():
            self.sync(peer, head)

    def sync_waiting(self, head: Head) -> None:
        """Blocks have come: perhaps their nodes let us prove the head to who could not be helped before."""
        for peer in self._peers.values():
            if (
                peer.fork == head.fork
                and peer.length < head.length
                and peer.told
                and not peer.told.can_upgrade
            ):
                self.sync(peer, head)

    def _can_prove_from(self, length: int, head: Head) -> bool:
        """Whether we have the nodes that prove the head to who has ``length`` blocks."""
        return length == 0 or (
            length < head.length
            and (
                self._core.writable
                or length in self._past_lengths
                or knows_roots(length, head.length, self._core.bitfield)
            )
        )

    def announce(self, start: int, stop: int, length: int) -> None:
        """Tell who may want to know that we hold ``[start, stop)`` of a log of ``length`` blocks."""
        self.changes += 1
        self._told.set_range(start, stop)
        if self._core.contiguous_length == length:
            if self._told_whole != length:
                self._told_whole = length
                self._broadcast(Range(0, length))
            return
        for peer in self._peers.values():
            if peer.interests.covers(start, stop, length) and not peer.holdings.has_all(start, stop):
                self._events.append(Send(peer.number, Range(start, stop - start)))

    def withdraw(self, start: int, stop: int) -> None:
        """Tell all that we do not hold ``[start, stop)`` any more, if they may think so."""
        if self._told.any_set(start, stop):
            self.changes += 1
            self._told.unset_range(start, stop)
            self._told_whole = -1
            self._broadcast(Range(start, stop - start, drop=True))

    def catch_up(self, length: int) -> int | None:
        """Announce and withdraw whatever was stored and dropped without our being told.

        Returns: the first block that was dropped, if any was.
        """
        held = self._core.bitfield
        for start, stop in list(_missing(held, self._told, length)):
            self.announce(start, stop, length)
        dropped = list(_missing(self._told, held, length))
        for start, stop in dropped:
            self.withdraw(start, stop)
        return dropped[0][0] if dropped else None

    def _broadcast(self, message: Message) -> None:
        self._events.extend(Send(peer, message) for peer in self._peers)


def _missing(one: Bitfield, other: Bitfield, length: int) -> Iterator[tuple[int, int]]:
    """The stretches below ``length`` that are in one set and not in the other."""
    for run in one.runs(0, length):
        start = other.first_unset(run.start)
        while start < run.stop:
            following = other.first_set(start)
            stop = run.stop if following is None else min(following, run.stop)
            yield start, stop
            start = other.first_unset(stop)
