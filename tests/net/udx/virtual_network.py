"""A seeded network between two streams, on a virtual clock: it drops, doubles, delays and queues."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import inf
from random import Random

from p2prss.net.udx.events import CloseReason
from p2prss.net.udx.ghosts import Ghosts
from p2prss.net.udx.packet import DATA, decode
from p2prss.net.udx.stream import UdxStream


@dataclass
class Path:
    """What happens to a datagram on its way, in either direction; times in seconds."""

    loss: float = 0.0
    delay: float = 0.02
    jitter: float = 0.0  # up to so much more, so that packets overtake each other
    twice: float = 0.0
    rate: float = inf  # bytes per second
    queue: int = 1 << 18  # bytes that wait for the rate; more are dropped
    mtu: int = 1500  # bytes of IP packets; larger ones vanish
    until: float = inf  # nothing passes from then on
    _free_at: dict[str, float] = field(default_factory=dict)

    def arrivals(self, datagram: bytes, to: str, now: float, random: Random) -> Iterable[float]:
        """When the datagram arrives, once for each copy."""
        if now >= self.until or random.random() < self.loss or len(datagram) + 28 > self.mtu:
            return
        start = max(now, self._free_at.get(to, 0.0))
        if self.rate < inf:
            if (start - now) * self.rate > self.queue:
                return
            start += len(datagram) / self.rate
            self._free_at[to] = start
        for _ in range(2 if random.random() < self.twice else 1):
            yield start + self.delay + random.random() * self.jitter


class VirtualNetwork:
    """Two connected streams, ``a`` and ``b``, and all that is on its way between them."""

    def __init__(
        self,
        path: Path,
        *,
        seed: int = 1,
        first_seq: int = 0,
        window: int = 4 << 20,
        ghosts: bool = True,
        link_mtu: int = 1500,
    ) -> None:
        self.now = 0.0
        self.path = path
        self.a: UdxStream[str] = UdxStream(1, 0.0, first_seq=first_seq, first_ack=first_seq, window=window)
        self.b: UdxStream[str] = UdxStream(2, 0.0, first_seq=first_seq, first_ack=first_seq, window=window)
        self.a.connect(2, "b", 0.0, link_mtu=link_mtu)
        self.b.connect(1, "a", 0.0, link_mtu=link_mtu)
        self.received: dict[str, bytearray] = {"a": bytearray(), "b": bytearray()}
        self.sent_bytes = 0
        self.largest = 0  # bytes of a datagram
        self.doubled = 0  # DATA packets that came again
        self.reading = {"a": True, "b": True}
        self._random = Random(seed)
        self._on_the_way: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._ghosts: dict[str, Ghosts[str]] | None = {"a": Ghosts(), "b": Ghosts()} if ghosts else None
        self._buried: set[str] = set()
        self._seen: set[tuple[str, int]] = set()

    @property
    def reasons(self) -> tuple[CloseReason | None, CloseReason | None]:
        return self.a.close_reason, self.b.close_reason

    def put(self, to: str, datagram: bytes) -> None:
        """Send a datagram that may be nobody's."""
        self.sent_bytes += len(datagram)
        self.largest = max(self.largest, len(datagram))
        for at in self.path.arrivals(datagram, to, self.now, self._random):
            self._count += 1
            heappush(self._on_the_way, (at, self._count, to, datagram))

    def flush(self) -> None:
        """Let both streams send, and read what they have."""
        for name, stream, other in (("a", self.a, "b"), ("b", self.b, "a")):
            if self.reading[name]:
                self.received[name] += stream.read(1 << 30)
            for datagram in stream.data_to_send(self.now):
                self.put(other, datagram)
            if stream.closed and name not in self._buried and self._ghosts is not None:
                self._buried.add(name)
                if stream.last_words is not None:
                    self._ghosts[name].add(stream.stream_id, stream.last_words, other, self.now)

    def run(self, until: float = inf) -> None:
        """Go on until nothing more will happen, or until that time."""
        self.flush()
        for _ in range(2_000_000):
            arrival = self._on_the_way[0][0] if self._on_the_way else inf
            due = min(arrival, self.a.deadline, self.b.deadline)
            if due == inf or due > until:
                self.now = until if until < inf else self.now
                return
            self.now = max(self.now, due)
            while self._on_the_way and self._on_the_way[0][0] <= self.now:
                _, _, to, datagram = heappop(self._on_the_way)
                self._deliver(to, datagram)
            for stream in (self.a, self.b):
                if stream.deadline <= self.now:
                    stream.handle_timer(self.now)
            self.flush()
        raise AssertionError("the streams never come to rest")

    def _deliver(self, to: str, datagram: bytes) -> None:
        stream, source = (self.a, "b") if to == "a" else (self.b, "a")
        header, _ = decode(datagram)
        if header[1] & DATA:
            self.doubled += (to, header[5]) in self._seen
            self._seen.add((to, header[5]))
        if not stream.closed:
            stream.receive(datagram, self.now, source)
        elif self._ghosts is not None:
            answer = self._ghosts[to].answer(stream.stream_id, datagram[2], source, self.now)
            if answer is not None:
                self.put(source, answer)
