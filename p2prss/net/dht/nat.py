"""What others say our address is, and what that says about the NAT in between.

``AddressSampler`` is a node's view of itself: a majority of recent answers. ``PunchSampler`` judges one
socket before a hole is punched with it. Neither believes a single voice.

Source: nat-sampler index.js, hyperdht 6.34.0 lib/nat.js; spec/07-net.
"""

from collections import Counter, deque
from typing import Final

from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall

MAX_SAMPLES: Final = 16  # answers a node remembers
MAX_PUNCH_SAMPLES: Final = 64  # answers about one socket
_CONSISTENT_HITS: Final = 3  # answers that agree


class AddressSampler:
    """The address most of the last 16 answers agree on: a host with port, a host alone (port 0), or none."""

    def __init__(self) -> None:
        self._samples: deque[Endpoint] = deque(maxlen=MAX_SAMPLES)
        self.host: str | None = None
        self.port = 0

    def __len__(self) -> int:
        return len(self._samples)

    @property
    def threshold(self) -> int:
        """Answers that have to agree now."""
        size = len(self._samples)
        return size - (0 if size < 4 else 1 if size < 8 else 2 if size < 12 else 3)

    def add(self, seen_as: Endpoint) -> None:
        """Take one answer."""
        self._samples.append(seen_as)
        endpoint, hits = Counter(self._samples).most_common(1)[0]
        if hits >= self.threshold:
            self.host, self.port = endpoint
            return
        host, hits = Counter(sample.host for sample in self._samples).most_common(1)[0]
        self.host, self.port = (host if hits >= self.threshold else None), 0


class PunchSampler:
    """What kind of NAT one socket is behind; ``addresses`` are where it may be reached.

    Each remote counts once: the caller passes one answer per remote.
    """

    def __init__(self, *, firewalled: bool = True) -> None:
        self._firewalled = firewalled
        self._samples: dict[Endpoint, int] = {}  # hits, in order of first sight
        self.sampled = 0
        self.frozen = False
        self.firewall = Firewall.UNKNOWN if firewalled else Firewall.OPEN
        self.addresses: tuple[Endpoint, ...] | None = None

    def add(self, seen_as: Endpoint) -> None:
        """Take one answer; while frozen it counts, but the judgement stands."""
        if self.sampled >= MAX_PUNCH_SAMPLES:
            return
        self.sampled += 1
        self._samples[seen_as] = self._samples.get(seen_as, 0) + 1
        if not self.frozen:
            self._judge()

    def freeze(self) -> None:
        """Stand by the judgement: the other side was told."""
        self.frozen = True

    def _judge(self) -> None:
        if not self._firewalled:
            self.firewall, self.addresses = Firewall.OPEN, None
            return
        ranked = sorted(self._samples.items(), key=lambda item: -item[1])  # stable: first seen first
        hosts: Counter[str] = Counter()
        for endpoint, hits in self._samples.items():
            hosts[endpoint.host] += hits
        self.firewall = self._classify([hits for _, hits in ranked], len(hosts))
        if self.firewall is Firewall.RANDOM:
            self.addresses = (Endpoint(hosts.most_common(1)[0][0], 0),)
        elif self.firewall is Firewall.CONSISTENT:
            self.addresses = tuple(
                endpoint for place, (endpoint, hits) in enumerate(ranked) if hits > 1 or place < 2
            )
        else:
            self.addresses = None

    def _classify(self, hits: list[int], hosts: int) -> Firewall:
        if self.sampled < _CONSISTENT_HITS:
            return Firewall.UNKNOWN
        if hits[0] >= _CONSISTENT_HITS:
            return Firewall.CONSISTENT
        if hits[0] == 1 or (hosts == 1 and self.sampled > _CONSISTENT_HITS):
            return Firewall.RANDOM
        if hosts > 1 and hits[1] > 1:
            return Firewall.CONSISTENT
        return Firewall.RANDOM if self.sampled > _CONSISTENT_HITS + 1 else Firewall.UNKNOWN
