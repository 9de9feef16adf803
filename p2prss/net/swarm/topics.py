"""Which topics are to be looked up and announced, and when: a machine.

It is driven by its caller (``join``, ``leave``), by errands that end (``done``, ``failed``), by the news
which topics have connections (``connected``) and by the clock (``due``). Goals: a new topic is worked on at
once; a thousand of them never burst, but spread their announcements evenly over the time for which nodes keep
them; a topic that has nobody at all is looked up more often at first, for two that join at the same moment
miss each other, and then ever less. Non-goal: knowing peers, see ``peers``.

Source: hyperswarm 4.17 ``lib/peer-discovery.js`` (period, jitter, first announcement); spec/07-net, "Swarm".
"""

from collections import deque
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from heapq import heappop, heappush
from itertools import count
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from p2prss.crypto.keys import DiscoveryKey
from p2prss.net.dht.endpoint import Endpoint

if TYPE_CHECKING:
    from random import Random

MAX_ERRANDS: Final = 8  # at once; each asks some thirty nodes
REFRESH_SECONDS: Final = 600.0  # between announcements: nodes keep them for 800 to 1600
REFRESH_JITTER: Final = 120.0  # seconds more, at most
FIRST_REFRESH: Final = 60.0  # seconds after the first announcement, at least; it spreads those made together
LONELY_SECONDS: Final = 1.0  # until a topic without any connection is looked up again; doubled each time
LONELY_SHARE: Final = 0.02  # seconds more for each topic there is
RETRY_SECONDS: Final = 5.0  # after an errand failed; doubled each time
LONGEST_RETRY: Final = 120.0  # seconds
_GOLDEN: Final = 0.6180339887498949  # its multiples, modulo 1, lie evenly however many there are


class Kind(Enum):
    """What to do for a topic."""

    LOOKUP = "lookup"
    ANNOUNCE = "announce"  # which looks up as well
    UNANNOUNCE = "unannounce"


class Errand(NamedTuple):
    """Do this, then say ``done`` or ``failed``."""

    kind: Kind
    topic: DiscoveryKey
    start: tuple[Endpoint, ...]  # the nodes that were nearest last time
    replace: bool = False  # revoke first what is stored: it may name other relays


@dataclass(slots=True)
class Topic:
    """One that was joined."""

    key: DiscoveryKey
    server: bool
    client: bool
    phase: float  # 0 to 1, another for each
    announce_at: float = inf
    lookup_at: float = inf
    lonely_pause: float = 0.0  # 0: it was not lonely yet
    retry_pause: float = RETRY_SECONDS
    connected: bool = False
    errand: Errand | None = None  # that is under way
    announced: bool = False  # nodes know of it
    current: bool = False  # and what they know is where we are now
    lookups: int = 0  # that came to an end
    closest: tuple[Endpoint, ...] = ()


class Topics:
    """The machine. Announcing waits until ``may_announce``: before, nobody knows how to reach us."""

    def __init__(self, random: "Random") -> None:
        self._random = random
        self._topics: dict[DiscoveryKey, Topic] = {}
        self._leaving: deque[Errand] = deque()
        self._busy = 0
        self._may_announce = False
        self._numbers = count(1)
        self._pushes = count()
        self._heap: list[tuple[float, int, DiscoveryKey]] = []  # of when to look at a topic; some are stale

    def __len__(self) -> int:
        return len(self._topics)

    def __contains__(self, key: DiscoveryKey) -> bool:
        return key in self._topics

    def __iter__(self) -> Iterator[Topic]:
        return iter(self._topics.values())

    def get(self, key: DiscoveryKey) -> Topic | None:
        """A topic that was joined."""
        return self._topics.get(key)

    # ---- the caller

    def join(self, key: DiscoveryKey, now: float, *, server: bool = True, client: bool = True) -> None:
        """Be found for this topic (``server``), find others (``client``); a second time adds to the first."""
        topic = self._topics.get(key)
        if topic is None:
            topic = Topic(key, server=False, client=False, phase=next(self._numbers) * _GOLDEN % 1)
            self._topics[key] = topic
        if server and not topic.server:
            topic.server, topic.announce_at = True, now
        if client and not topic.client:
            topic.client, topic.lookup_at = True, now
        self._plan(topic)

    def leave(self, key: DiscoveryKey) -> None:
        """Be found no longer."""
        topic = self._topics.pop(key, None)
        if topic is not None and topic.announced:
            self._leaving.append(Errand(Kind.UNANNOUNCE, key, topic.closest))

    def may_announce(self) -> None:
        """From now on others can be told where we are."""
        if not self._may_announce:
            self._may_announce = True
            for topic in self._topics.values():
                self._plan(topic)

    def network_changed(self, now: float) -> None:
        """We are somewhere else, or had been cut off: all is done again as soon as it may."""
        for topic in self._topics.values():
            topic.current = False
            topic.lonely_pause, topic.retry_pause = 0.0, RETRY_SECONDS
            topic.announce_at = now if topic.server else inf
            topic.lookup_at = now if topic.client else inf
            self._plan(topic)

    def connected(self, keys: Container[DiscoveryKey], now: float) -> None:
        """These topics have connections at present, the others have none."""
        for topic in self._topics.values():
            before, topic.connected = topic.connected, topic.key in keys
            if before and not topic.connected:
                topic.lonely_pause = 0.0
                self._look_up_again(topic, now)

    # ---- errands

    def due(self, now: float) -> list[Errand]:
        """What to do now."""
        errands: list[Errand] = []
        while self._leaving and self._busy < MAX_ERRANDS:
            errands.append(self._leaving.popleft())
            self._busy += 1
        while self._busy < MAX_ERRANDS and self._heap and self._heap[0][0] <= now:
            _, _, key = heappop(self._heap)
            topic = self._topics.get(key)
            if topic is None or topic.errand or self._next_at(topic) > now:
                continue
            announce = self._may_announce and topic.announce_at <= now
            kind = Kind.ANNOUNCE if announce else Kind.LOOKUP
            topic.errand = Errand(kind, key, topic.closest, replace=announce and not topic.current)
            self._busy += 1
            errands.append(topic.errand)
            topic.current = topic.current or announce  # unless the network changes meanwhile
        return errands

    def done(self, errand: Errand, now: float, closest: Iterable[Endpoint]) -> None:
        """It succeeded; ``closest`` are the nodes nearest to the topic."""
        topic = self._end(errand)
        if topic is None:
            return
        topic.closest = tuple(closest)
        topic.retry_pause = RETRY_SECONDS
        topic.lookups += 1
        if errand.kind is Kind.ANNOUNCE:
            pause = self._period()
            if not topic.announced:
                pause = FIRST_REFRESH + topic.phase * (REFRESH_SECONDS + REFRESH_JITTER / 2)
            topic.announced = True
            if topic.current:
                topic.announce_at = now + pause
        if topic.client:
            topic.lookup_at = inf if topic.announced else now + self._period()
            if not topic.connected:
                self._look_up_again(topic, now)
        self._plan(topic)

    def failed(self, errand: Errand, now: float) -> None:
        """Nobody answered, or nobody took it."""
        topic = self._end(errand)
        if topic is None:
            return
        at = now + topic.retry_pause * self._random.uniform(0.75, 1.25)
        topic.retry_pause = min(2 * topic.retry_pause, LONGEST_RETRY)
        if errand.kind is Kind.ANNOUNCE:
            topic.current = False
            topic.announce_at = at
        if topic.client:
            topic.lookup_at = at
        self._plan(topic)

    @property
    def deadline(self) -> float:
        """When ``due`` is to be asked next, unless something happens before."""
        if self._busy >= MAX_ERRANDS:
            return inf
        return -inf if self._leaving else (self._heap[0][0] if self._heap else inf)

    # ---- parts

    def _end(self, errand: Errand) -> Topic | None:
        """The errand is over; its topic, if it is still of interest."""
        self._busy -= 1
        topic = self._topics.get(errand.topic)
        if topic is None and errand.kind is Kind.ANNOUNCE:  # it was left meanwhile
            self._leaving.append(Errand(Kind.UNANNOUNCE, errand.topic, errand.start))
        if topic is None or topic.errand is not errand:
            return None
        topic.errand = None
        return topic

    def _period(self) -> float:
        return REFRESH_SECONDS + self._random.uniform(0.0, REFRESH_JITTER)

    def _look_up_again(self, topic: Topic, now: float) -> None:
        """It has nobody: do not wait for the next refresh."""
        least = LONELY_SECONDS + LONELY_SHARE * len(self._topics)
        topic.lonely_pause = min(max(2 * topic.lonely_pause, least), REFRESH_SECONDS)
        if topic.client and topic.lonely_pause < REFRESH_SECONDS:
            pause = topic.lonely_pause * self._random.uniform(0.75, 1.25)
            topic.lookup_at = min(topic.lookup_at, now + pause)
            self._plan(topic)

    def _next_at(self, topic: Topic) -> float:
        return min(topic.lookup_at, topic.announce_at if self._may_announce else inf)

    def _plan(self, topic: Topic) -> None:
        if topic.errand is None and (at := self._next_at(topic)) < inf:
            heappush(self._heap, (at, next(self._pushes), topic.key))
