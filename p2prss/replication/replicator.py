"""Replication of one log with any number of peers, sans-IO.

Participants: the log (read only, through ``ReplicatedCore``), peers (messages), the shell (carries out
events, feeds results back), readers (wants). Goals: bring what is wanted, the most urgent first, from all
who have it; serve what is held; tell peers at once what changed; survive any peer. Non-goals: proofs and
storage (the log's), encryption (the wire's), push mode (what was not asked for is ignored).

Driven by the caller (``want``, ``add_peer``, …), the peers (``receive``) and the clock (``handle_timer``
at ``deadline``). After any of these drain ``events()``: it also takes the decisions that are better taken
once per batch of messages. Source: hypercore lib/replicator.js; spec/05-replication.
"""

from math import inf
from typing import TYPE_CHECKING

from p2prss.log.merkle import Head
from p2prss.log.proof_parts import Proof, ProofRequest
from p2prss.replication.announcer import Announcer
from p2prss.replication.core import AppliedAnswer, ReplicatedCore, Verdict
from p2prss.replication.events import (
    Apply,
    Completed,
    Drop,
    DropReason,
    Event,
    Send,
    Serve,
    Stalled,
    Stored,
    Synced,
    Truncated,
    Upgraded,
)
from p2prss.replication.hearing import Hearing
from p2prss.replication.limits import Limits, UploadLimit
from p2prss.replication.peer import Peer, PeerStatistics
from p2prss.replication.reminders import Reminders
from p2prss.replication.scheduler import Scheduler
from p2prss.replication.serving import Server
from p2prss.replication.state import State
from p2prss.replication.wants import Priority, SeekWant
from p2prss.replication.wants import Want as BlockWant
from p2prss.wire.messages import Message, NoDataReason, Request

if TYPE_CHECKING:
    from random import Random

__all__ = ["Apply", "Completed", "Drop", "DropReason", "Event", "Priority", "Replicator", "Send", "Serve"]
__all__ += ["Stalled", "Stored", "Synced", "Truncated", "Upgraded"]


class Replicator:
    """One log, and all peers that have it open.

    Args: random: chance, for seeks and wants that are not linear; allow_fork: follow peers to a higher
        fork; upload_limit: who may be sent how much, unlimited when left out.
    """

    def __init__(
        self,
        core: ReplicatedCore,
        *,
        random: "Random",
        limits: Limits | None = None,
        allow_fork: bool = True,
        upload_limit: UploadLimit | None = None,
    ) -> None:
        self._state = state = State(core, limits or Limits(), random, allow_fork=allow_fork)
        self._core = core
        self._events = state.events
        self._peers = state.peers
        self._wants = state.wants
        self._downloads = state.downloads
        self._scheduler = Scheduler(state)
        self._server = Server(state, upload_limit)
        self._announcer = Announcer(core, state.peers, state.events)
        self._reminders = Reminders(core, state.peers)
        self._hearing = Hearing(
            state, self._scheduler, self._server, announcer=self._announcer, reminders=self._reminders
        )
        self._now = 0.0
        self._stored: list[int] = []  # blocks that peers brought since the last drain
        self._knew_manifest = core.manifest is not None
        self._sync_all = False
        self._stalled = False

    # Peers

    def add_peer(self, peer: int, now: float) -> None:
        """Both sides have opened the channel, and the peer has shown that it knows the key."""
        self._now = now
        entry = self._peers[peer] = Peer(peer, self._state.limits, now)
        self._announcer.greet(entry, self._state.head)

    def remove_peer(self, peer: int, now: float) -> None:
        """The channel is closed; what the peer was asked for goes to others."""
        self._now = now
        entry = self._peers.pop(peer, None)
        if entry is not None:
            self._scheduler.leave(entry)
            self._scheduler.growth.lengths_changed = True

    def receive(self, peer: int, message: Message, now: float) -> None:
        """Take a message; never raises for what it says (a ``Drop`` event follows at worst)."""
        self._now = now
        entry = self._peers.get(peer)
        if entry is None:
            return
        self._hearing.receive(entry, message, now)

    def set_queued(self, peer: int, queued_bytes: int, now: float) -> None:
        """Bytes on their way out to the peer: when they are many for its link it is not answered.

        The shell says so after it sent something and after it wrote something out.
        """
        self._now = now
        entry = self._peers.get(peer)
        if entry is not None:
            entry.uploads.set_queued(queued_bytes, now)
            self._server.pump(entry, now)

    def peers(self) -> list[PeerStatistics]:
        """A snapshot of every peer."""
        return [peer.statistics(self._now) for peer in self._peers.values()]

    def may_grow(self, now: float) -> bool:
        """Whether a longer log may come from the peers there are, as far as they have said."""
        return self._scheduler.growth.may_come(now)

    @property
    def stalled(self) -> bool:
        """Whether blocks are wanted that no peer has to offer, as far as they have said."""
        return self._stalled

    # Wants

    def want(
        self, start: int, stop: int | None, priority: Priority = Priority.BACKGROUND, *, linear: bool = True
    ) -> BlockWant:
        """Have blocks ``[start, stop)`` fetched; without ``stop``, also those still to be appended.

        Args: linear: from the first on; else each peer is asked from somewhere in the middle on.
        Returns: the want, done when ``Completed`` tells so, or ``cancel`` is called.
        """
        want = BlockWant(start, stop, priority, linear)
        self._wants.add(want)
        if stop is not None and self._core.bitfield.all_set(start, stop):
            self._wants.remove(want)
            self._events.append(Completed(want))
            return want
        if priority is not Priority.BACKGROUND:
            self._scheduler.promote(want, self._now)
        self._scheduler.stir()
        return want

    def want_seek(
        self, byte_offset: int, padding: int = 0, *, span: tuple[int, int] | None = None
    ) -> SeekWant:
        """Have the tree nodes fetched that tell where a byte lies; look again on ``Completed``.

        Args: span: the blocks ``[start, stop)`` below one tree node that it is known to lie in.
        """
        seek = SeekWant(byte_offset, padding, span)
        self._wants.seeks.append(seek)
        self._scheduler.stir()
        return seek

    def cancel(self, want: "BlockWant | SeekWant") -> None:
        """Nobody waits for it any more; blocks that nobody else wants are cancelled at the peers."""
        if isinstance(want, SeekWant):
            if want in self._wants.seeks:
                self._wants.seeks.remove(want)
            return
        self._wants.remove(want)
        for fetch in list(self._downloads.blocks.values()):
            if want.covers(fetch.index) and self._wants.priority_of(fetch.index) is None:
                self._downloads.drop_block(fetch)

    # Results of the shell's work

    def served(self, peer: int, request: Request, answer: Proof | NoDataReason, now: float) -> None:
        """The result of a ``Serve`` event."""
        self._now = now
        entry = self._peers.get(peer)
        if entry is not None and not self._hearing.drop(entry, self._server.served(entry, request, answer)):
            self._server.pump(entry, now)

    def applied(self, apply: Apply, answer: AppliedAnswer, now: float) -> None:
        """The result of an ``Apply`` event."""
        self._now = now
        verdict = Verdict(answer.outcome.value)
        if self._downloads.applied(apply, verdict) and apply.proof.block is not None:
            self._stored.append(apply.proof.block.index)
        self._end_parts(apply, verdict)
        entry = self._peers.get(apply.peer)
        if entry is not None and (verdict is Verdict.REJECTED or _resolves_doubt(entry, apply.request)):
            self._hearing.suspect(entry, apply.request, answer.error, now)
        if answer.upgraded or answer.truncated_to is not None or apply.proof.manifest is not None:
            self._refresh(answer.truncated_to)

    def apply_failed(self, apply: Apply, now: float) -> None:
        """An ``Apply`` event could not be carried out, for reasons of our own (a full disk)."""
        self._now = now
        self._downloads.applied(apply, Verdict.STALE)
        self._scheduler.growth.ended(apply.request)
        self._scheduler.seeking.start_over()
        self._scheduler.pause(now)

    def core_changed(self, now: float, *, truncated_to: int | None = None) -> None:
        """The log was appended to, truncated or cleared by ourselves: tell the peers.

        Args: truncated_to: the lowest length it was cut to since the last call. When left out, what the
            new head shares with the old one for certain is taken to be left; that costs a few bytes.
        """
        self._now = now
        self._refresh(truncated_to)
        dropped = self._announcer.catch_up(self._state.head.length)
        if dropped is not None:
            self._wants.missing_again(dropped)
            self._scheduler.stir()

    # Events and time

    def events(self) -> list[Event]:
        """Everything there is to do, in order; each event is given once."""
        if self._stored:
            self._tell_stored()
        if self._sync_all:
            self._sync_all = False
            self._announcer.sync_all(self._state.head)
        if self._hearing.remind:
            self._remind_peers()
        self._scheduler.run(self._now)
        self._note_stall()
        events = self._events[:]
        self._events.clear()
        return events

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` has something to do, ``inf`` for never."""
        return min(self._scheduler.next_at, self._server.next_at, self._reminders.next_at)

    def handle_timer(self, now: float) -> None:
        """Time has passed: requests grow old, delays end."""
        self._now = now
        if now >= self._scheduler.next_at:
            self._scheduler.handle_timer(now)
            for peer in list(self._peers.values()):
                if peer.doubt is not None and peer.doubt.given_up:
                    self._hearing.drop(peer, DropReason.BAD_PROOF)
        if now >= self._reminders.next_at:
            for peer in self._reminders.take_due(self._state.head, now):
                self._announcer.sync(peer, self._state.head, again=True)
        if now >= self._server.next_at:
            self._server.next_at = inf
            for peer in self._peers.values():
                self._server.pump(peer, now)
                if now < peer.uploads.delayed_until:
                    self._server.next_at = min(self._server.next_at, peer.uploads.delayed_until)

    # What we tell

    def _tell_stored(self) -> None:
        """Blocks have come: tell the shell, the peers, and those who waited for them."""
        indexes = sorted(set(self._stored))
        self._stored.clear()
        start = stop = indexes[0]
        for index in [*indexes, -1]:
            if index == stop:
                stop += 1
                continue
            self._events.append(Stored(start, stop))
            self._announcer.announce(start, stop, self._state.head.length)
            for want in self._wants.take_completed(self._core.bitfield, start, stop):
                self._events.append(Completed(want))
            start, stop = index, index + 1
        self._announcer.sync_waiting(self._state.head)

    def _remind_peers(self) -> None:
        """Say again where we stand, to who may be able to prove its length to us now, or a longer one.

        The reference looks whether it can only when it hears from us, or gets blocks from us, and keeps a
        longer log that it cannot prove to itself.
        """
        for number, peer in self._hearing.remind.items():
            behind = peer.synced and peer.claimed > peer.length
            if number in self._peers and (behind or self._scheduler.growth.waits_for_proof(peer)):
                self._announcer.sync(peer, self._state.head, again=True)
        self._hearing.remind.clear()

    def _note_stall(self) -> None:
        length = self._state.head.length
        stalled = not self._downloads.busy and self._wants.any_missing(self._core.bitfield, length)
        if stalled and not self._stalled:
            self._events.append(Stalled())
        self._stalled = stalled

    # The log's head

    def _refresh(self, truncated_to: int | None) -> None:
        """Look at the log's head, and make what follows from a new one."""
        old, head = self._state.head, self._core.head
        if head is not old or self._knew_manifest != (self._core.manifest is not None):
            self._knew_manifest = self._core.manifest is not None
            self._sync_all = True
        if head is old:
            return
        if head.fork != old.fork or head.length < old.length:
            self._cut(_common_length(old, head) if truncated_to is None else truncated_to, old)
        self._scheduler.renew_head()
        self._events.append(Upgraded(head))

    def _cut(self, common: int, old: Head) -> None:
        self._scheduler.cut()
        self._stored = [index for index in self._stored if self._core.bitfield.has(index)]
        for want in self._wants:
            want.cursors.clear()
            want.missing_from = want.start
        self._events.append(Truncated(common, self._core.head.fork))
        self._announcer.withdraw(common, old.length)
        for run in list(self._core.bitfield.runs(common, self._core.head.length)):
            self._stored.extend(run)

    def _end_parts(self, apply: Apply, verdict: Verdict) -> None:
        """What rode along with the block of an answer, or came without one, is over too."""
        request = apply.request
        if request.upgrade is not None:
            entry = self._peers.get(apply.peer)
            if entry is not None and verdict is not Verdict.STORED:
                entry.refused_upgrade = (entry.fork, entry.length)
            self._scheduler.growth.ended(request)
        self._scheduler.seeking.end(request, verdict)


def _resolves_doubt(peer: Peer, request: ProofRequest) -> bool:
    return peer.doubt is not None and peer.doubt.request is request


def _common_length(old: Head, new: Head) -> int:
    """Blocks that two heads share for certain: those below their equal leading roots."""
    common = 0
    for one, other in zip(old.roots, new.roots, strict=False):
        if one != other:
            break
        common += one.index - 2 * common + 1
    return common
