"""One log at work: its replicator, the links it is open on, and the threads that do its disk work.

Data's way: a link's message → ``Replicator`` → Serve or Apply → a worker thread on the ``Log`` →
``Replicator`` → messages to links. Answers for peers and answers from peers are worked on in batches:
whatever came in while the last batch was on the disk makes the next, so one commit covers many blocks
when they stream in, and a single block waits for nobody.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from math import inf
from random import Random
from typing import Final

import trio

from p2prss.errors import ConflictError, P2prssError, RemoteProtocolError, StorageError
from p2prss.log.log import FROZEN, Log
from p2prss.log.merkle import Head
from p2prss.log.proof import InvalidRequestError, NotHeldError
from p2prss.log.proof_parts import Proof
from p2prss.log.verify import ConflictingHeadError
from p2prss.net.link import Link
from p2prss.replication.limits import APPLY_PAUSE
from p2prss.replication.replicator import Apply, Drop, Replicator, Send, Serve
from p2prss.units import MIB
from p2prss.wire.messages import Message, NoDataReason
from p2prss.wire.mux_channel import MuxChannel

SERVE_BATCH: Final = 32  # requests answered in one turn of a worker thread
APPLY_BATCH_BYTES: Final = 16 * MIB  # block bytes verified and stored by one commit


@dataclass(slots=True)
class Port:
    """Where a peer is reached for this log: a channel of a link."""

    link: Link
    channel: MuxChannel


OnConflict = Callable[["Session", Head], Awaitable[None]]
"""Told of another head of the log that is signed as well."""


class Session:
    """A log that is open for replication. All methods run in the trio thread."""

    def __init__(
        self, log: Log, nursery: trio.Nursery, random: Random, patience: float, on_conflict: OnConflict
    ) -> None:
        self.log = log
        self.patience = patience  # seconds a reader waits for a block
        self.replicator = Replicator(log, random=random)
        self.conflict = ConflictError(FROZEN) if log.frozen else None  # why it is open on no link
        self.eager = False  # offer the log on every link, rather than only where the peer asks for it
        self.offers = 0  # links on which we offered the log, and the peer has not answered yet
        self._on_conflict = on_conflict
        self._failure: StorageError | None = None
        self._failed_until = -inf  # so long the replicator rests; then storing is tried again
        self._nursery = nursery
        self._ports: dict[int, Port] = {}
        self._serves: list[Serve] = []
        self._applies: list[Apply] = []
        self._serving = False
        self._applying = False
        self._changed = trio.Event()

    @property
    def peers(self) -> int:
        """Links on which both sides have this log open."""
        return len(self._ports)

    @property
    def ports(self) -> Mapping[int, Port]:
        """Where its peers are reached, by their numbers."""
        return self._ports

    @property
    def failure(self) -> P2prssError | None:
        """Why nothing can be stored at present; None when all is well, or may be well again."""
        if self.conflict is not None:
            return self.conflict
        return self._failure if trio.current_time() < self._failed_until else None

    @property
    def changed(self) -> trio.Event:
        """Set at the next news: blocks stored, a longer head, a peer come or gone."""
        return self._changed

    def add_port(self, peer: int, port: Port, now: float) -> None:
        """Both sides have opened the channel and the peer has shown that it knows the key."""
        self._ports[peer] = port
        self.replicator.add_peer(peer, now)
        self._announce()
        self.drain()

    def remove_port(self, peer: int, now: float) -> None:
        """The channel or its link is gone."""
        if self._ports.pop(peer, None) is not None:
            self.replicator.remove_peer(peer, now)
            self._announce()
            self.drain()

    def receive(self, peer: int, message: Message, now: float) -> None:
        """A message of the peer; ``drain`` is left to the caller, who has more of them."""
        if peer in self._ports:
            self.replicator.receive(peer, message, now)

    def log_changed(self) -> None:
        """The log was appended to, truncated or cleared by ourselves: tell the peers."""
        self.replicator.core_changed(trio.current_time())
        self._announce()
        self.drain()

    def freeze(self) -> None:
        """The log is in conflict: nothing is asked or answered any more; the caller closes its channels."""
        self.conflict = ConflictError(FROZEN)
        self._serves.clear()
        self._applies.clear()
        self._announce()

    def written(self, peer: int, queued_bytes: int) -> None:
        """The peer's link has written something out: more may be answered."""
        self.replicator.set_queued(peer, queued_bytes, trio.current_time())
        self.drain()

    def handle_timer(self, now: float) -> None:
        """Time-outs of requests and the like."""
        self.replicator.handle_timer(now)
        self.drain()

    def drain(self) -> None:
        """Carry out what the replicator decided since the last time."""
        touched: dict[int, Port] = {}
        for event in self.replicator.events():
            match event:
                case Send(peer, message):
                    if port := self._ports.get(peer):
                        port.channel.send(message.TYPE, *message.encode_parts())
                        touched[peer] = port
                case Serve():
                    self._serves.append(event)
                case Apply():
                    self._applies.append(event)
                case Drop(peer, reason):
                    if port := self._ports.get(peer):
                        port.link.close(
                            RemoteProtocolError(f"{port.link.label} dropped: {reason}", reason=reason)
                        )
                case _:
                    self._announce()
        now = trio.current_time()
        for peer, port in touched.items():
            port.link.flush(self, peer)
            self.replicator.set_queued(peer, port.link.queued_bytes, now)
        if self._serves and not self._serving:
            self._serving = True
            self._nursery.start_soon(self._serve)
        if self._applies and not self._applying:
            self._applying = True
            self._nursery.start_soon(self._apply)

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _serve(self) -> None:
        """Answer what peers asked, a batch at a time, until nothing is left."""
        while self._serves:
            batch, self._serves = self._serves[:SERVE_BATCH], self._serves[SERVE_BATCH:]
            answers = await trio.to_thread.run_sync(_answer_all, self.log, batch)
            now = trio.current_time()
            for serve, answer in zip(batch, answers, strict=True):
                self.replicator.served(serve.peer, serve.request, answer, now)
            self.drain()
        self._serving = False

    async def _apply(self) -> None:
        """Verify and store what peers answered, a batch at a time, until nothing is left."""
        while self._applies:
            batch = self._take_applies()
            answers = [(apply.request, apply.proof) for apply in batch]
            try:
                outcomes = await trio.to_thread.run_sync(self.log.apply, answers)
            except StorageError as error:
                self._fail(batch, error)
                continue
            self._failure = None
            for outcome in outcomes:
                if isinstance(outcome.error, ConflictingHeadError):
                    await self._on_conflict(self, outcome.error.head)
                    return
            now = trio.current_time()
            for apply, outcome in zip(batch, outcomes, strict=True):
                self.replicator.applied(apply, outcome, now)
            self._announce()
            self.drain()
        self._applying = False

    def _fail(self, batch: list[Apply], error: StorageError) -> None:
        """Nothing of the batch was stored: say so; the replicator rests before it asks again."""
        now = trio.current_time()
        self._failure, self._failed_until = error, now + APPLY_PAUSE
        for apply in batch:
            self.replicator.apply_failed(apply, now)
        self._announce()
        self.drain()

    def _take_applies(self) -> list[Apply]:
        size, count = 0, 0
        for apply in self._applies:
            if size >= APPLY_BATCH_BYTES:
                break
            size += len(apply.proof.block.value) if apply.proof.block else 0
            count += 1
        batch, self._applies = self._applies[:count], self._applies[count:]
        return batch


def _answer_all(log: Log, serves: list[Serve]) -> list[Proof | NoDataReason]:
    """Runs in a worker thread."""
    answers: list[Proof | NoDataReason] = []
    for serve in serves:
        try:
            answers.append(log.answer(serve.request.proof))
        except (NotHeldError, StorageError):
            answers.append(NoDataReason.NOT_AVAILABLE)
        except InvalidRequestError:
            answers.append(NoDataReason.INVALID_REQUEST)
    return answers
