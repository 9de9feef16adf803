"""A seeded network of replicators over real logs in memory, where time is a number.

Messages of one link stay in order, as on TCP; links are slow in different ways, may go silent, and whoever
answers does so in shuffled order. Disk work takes time, so answers cross each other as in real life.
"""

from collections import defaultdict
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from random import Random

from p2prss.codec.compact import Writer
from p2prss.log.log import Log, NotHeldError
from p2prss.log.proof import InvalidRequestError
from p2prss.log.proof_parts import Proof
from p2prss.log.store import Store
from p2prss.replication.events import Apply, Drop, Event, Send, Serve
from p2prss.replication.limits import Limits, UploadLimit
from p2prss.replication.replicator import Replicator
from p2prss.wire.messages import Data, Message, NoDataReason, decode_message

Tamper = Callable[[Message], Message | None]
"""What a hostile node does to a message on its way out; None swallows it."""


class SimulatedNode:
    """A log, its replicator, and the shell around them."""

    def __init__(
        self,
        network: "SimulatedNetwork",
        name: str,
        log: Log,
        *,
        limits: Limits | None = None,
        upload_limit: UploadLimit | None = None,
        disk_seconds: float = 0.001,
    ) -> None:
        self.name = name
        self.log = log
        self.network = network
        self.disk_seconds = disk_seconds
        self.disk_full_until = 0.0
        self.tamper: Tamper | None = None
        self.news: list[Event] = []  # events that are for the application
        self.sent: list[tuple[str, Message]] = []  # (to, message)
        self.dropped: dict[str, str] = {}  # name → reason
        self.links: dict[int, Link] = {}
        self.replicator = Replicator(
            log, random=Random(network.random.random()), limits=limits, upload_limit=upload_limit
        )
        self._serves: list[Serve] = []
        self._applies: list[Apply] = []
        self._at_work = False
        self._timer_at = float("inf")

    def append(self, blocks: list[bytes]) -> None:
        """Write to the log and tell the peers."""
        self.log.append(blocks)
        self.changed()

    def changed(self) -> None:
        """The log changed by our own doing."""
        self.replicator.core_changed(self.network.now)
        self.drain()

    def requested_blocks(self, peer: str | None = None) -> list[int]:
        """Block indexes in the order they were asked for."""
        return [
            message.proof.block.index
            for to, message in self.sent
            if message.TYPE == 1 and message.proof.block is not None and peer in (None, to)  # type: ignore[attr-defined]
        ]

    def drain(self) -> None:
        """Carry out events."""
        for event in self.replicator.events():
            match event:
                case Send(peer, message):
                    self._send(peer, message)
                case Serve():
                    self._serves.append(event)
                case Apply():
                    self._applies.append(event)
                case Drop(peer, reason):
                    if link := self.links.get(peer):
                        self.dropped[link.far(self).name] = reason.value
                        link.close()
                case _:
                    self.news.append(event)
        if (self._serves or self._applies) and not self._at_work:
            self._at_work = True
            self.network.at(self.disk_seconds, self._work)
        deadline = self.replicator.deadline
        if deadline < self._timer_at:
            self._timer_at = deadline
            self.network.at(max(0.0, deadline - self.network.now) + 1e-6, self._tick)

    def _send(self, peer: int, message: Message) -> None:
        link = self.links.get(peer)
        if link is None:
            return
        self.sent.append((link.far(self).name, message))
        if self.tamper is not None:
            tampered = self.tamper(message)
            if tampered is None:
                return
            message = tampered
        link.carry(self, message)

    def _tick(self) -> None:
        if self.network.now >= self._timer_at:
            self._timer_at = float("inf")
            self.replicator.handle_timer(self.network.now)
            self.drain()

    def _work(self) -> None:
        """One turn of the worker thread: everything that is there, in one batch."""
        self._at_work = False
        serves, self._serves = self._serves, []
        applies, self._applies = self._applies, []
        answers = [self._answer(serve) for serve in serves]
        now = self.network.now
        if now < self.disk_full_until:
            for apply in applies:
                self.replicator.apply_failed(apply, now)
            applies = []
        outcomes = self.log.apply([(apply.request, apply.proof) for apply in applies]) if applies else []
        pairs = list(zip(serves, answers, strict=True))
        self.network.random.shuffle(pairs)
        for serve, answer in pairs:
            self.replicator.served(serve.peer, serve.request, answer, now)
        for apply, outcome in zip(applies, outcomes, strict=True):
            self.replicator.applied(apply, outcome, now)
        self.drain()

    def _answer(self, serve: Serve) -> Proof | NoDataReason:
        try:
            return self.log.answer(serve.request.proof)
        except NotHeldError:
            return NoDataReason.NOT_AVAILABLE
        except InvalidRequestError:
            return NoDataReason.INVALID_REQUEST


class Link:
    """Two nodes, a delay, and a bandwidth in bytes per second."""

    def __init__(
        self, network: "SimulatedNetwork", a: SimulatedNode, b: SimulatedNode, delay: float, bandwidth: float
    ) -> None:
        self.network = network
        self.ends = {a: b, b: a}
        self.delay = delay
        self.bandwidth = bandwidth
        self.silent = False
        self.open = True
        self.numbers = {a: next(network.numbers), b: next(network.numbers)}
        self._free_at: dict[SimulatedNode, float] = defaultdict(float)
        self._queued: dict[SimulatedNode, int] = defaultdict(int)
        for end, number in self.numbers.items():
            end.links[number] = self
        for end, number in self.numbers.items():
            end.replicator.add_peer(number, network.now)
            end.drain()

    def far(self, node: SimulatedNode) -> SimulatedNode:
        """The other end."""
        return self.ends[node]

    def close(self) -> None:
        """Cut the link; both ends notice at once."""
        self.open = False
        for end, number in self.numbers.items():
            if end.links.pop(number, None) is not None:
                end.replicator.remove_peer(number, self.network.now)
                self.network.at(0.0, end.drain)

    def carry(self, sender: SimulatedNode, message: Message) -> None:
        """Take a message to the other end, behind those sent before."""
        out = Writer()
        message.encode(out)
        payload = out.finish()
        network = self.network
        start = max(network.now, self._free_at[sender])
        self._free_at[sender] = leaves = start + len(payload) / self.bandwidth
        self._queued[sender] += len(payload)
        network.at(leaves - network.now, lambda: self._left(sender, len(payload)))
        arrives = leaves + self.delay
        network.at(arrives - network.now, lambda: self._deliver(self.ends[sender], message.TYPE, payload))

    def _left(self, sender: SimulatedNode, nbytes: int) -> None:
        self._queued[sender] -= nbytes
        if self.open:
            sender.replicator.set_queued(self.numbers[sender], self._queued[sender], self.network.now)
            sender.drain()

    def _deliver(self, receiver: SimulatedNode, message_type: int, payload: bytes) -> None:
        if self.open and not self.silent:
            message = decode_message(message_type, payload)
            assert message is not None
            receiver.replicator.receive(self.numbers[receiver], message, self.network.now)
            receiver.drain()


class SimulatedNetwork:
    """Clock and calendar of the simulation."""

    def __init__(self, seed: int = 0) -> None:
        self.random = Random(seed)
        self.now = 100.0
        self.numbers = count(1)
        self._calendar: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, delay: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heappush(self._calendar, (self.now + delay, next(self._order), action))

    def node(self, name: str, log: Log, **options: object) -> SimulatedNode:
        """A node over a log."""
        return SimulatedNode(self, name, log, **options)  # type: ignore[arg-type]

    def connect(
        self, a: SimulatedNode, b: SimulatedNode, *, delay: float = 0.01, bandwidth: float = 50e6
    ) -> Link:
        """A link between two nodes; ``delay`` in seconds one way, ``bandwidth`` in bytes per second."""
        return Link(self, a, b, delay, bandwidth)

    def run(self, seconds: float = 60.0, until: Callable[[], bool] | None = None) -> float:
        """Let time pass until nothing is left to do, a condition holds, or it is over. Returns: seconds."""
        started = self.now
        end = started + seconds
        while self._calendar and self._calendar[0][0] <= end:
            if until is not None and until():
                return self.now - started
            self.now, _, action = heappop(self._calendar)
            action()
        if self._calendar:
            self.now = end
        return self.now - started


def blocks_of(length: int, size: int = 100) -> list[bytes]:
    """Distinct blocks."""
    return [(b"%06d " % index).ljust(size, b".") for index in range(length)]


def written(length: int, size: int = 100, store: Store | None = None) -> Log:
    """A writable log of so many blocks."""
    log = (store or Store.in_memory()).create("log")
    log.append(blocks_of(length, size))
    return log


def reader_of(log: Log) -> Log:
    """An empty log under the same key, in a store of its own."""
    return Store.in_memory().open_log(log.key)


def copy_of(log: Log, indexes: list[int] | range) -> Log:
    """A log that holds only some of the blocks of another."""
    from p2prss.log.proof_parts import BlockRequest, ProofRequest, UpgradeRequest

    copy = reader_of(log)
    request = ProofRequest(log.fork, upgrade=UpgradeRequest(0, log.length), manifest=True)
    assert copy.apply([(request, log.answer(request))])[0].upgraded
    for index in indexes:
        level = (index ^ log.length).bit_length() - 1
        request = ProofRequest(log.fork, block=BlockRequest(index, level))
        copy.apply([(request, log.answer(request))])
    return copy


__all__ = [
    "Data",
    "Link",
    "SimulatedNetwork",
    "SimulatedNode",
    "blocks_of",
    "copy_of",
    "reader_of",
    "written",
]
