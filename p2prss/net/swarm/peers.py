"""Whom to dial next, of all peers that were found for all topics: a machine.

It is driven by what lookups find (``found``), by the links there are (``links``), by dials that end
(``ended``) and by the clock (``due``). Goals: every topic gets a connection before any gets another, also
when there are more topics than connections; a peer that cannot be reached costs ever less; nobody is dialled
twice. Non-goal: knowing who is honest. Anybody can announce any key for a topic, so what is kept is
bounded, and a peer proves nothing by being found.

Memory: ``MAX_PEERS`` of some 500 bytes, and ``MAX_BANNED`` keys.
Source: hyperswarm 4.17 (states and pauses); spec/07-net, "Swarm".
"""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple

from p2prss.crypto.keys import DiscoveryKey, PublicKey
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.swarm.priority import Priority, retry_pause, turn

if TYPE_CHECKING:
    from random import Random

MAX_DIALS: Final = 3  # at once, of those that are not slow
MAX_SLOW_DIALS: Final = 16  # at once, of all: whoever was killed is announced for twenty minutes still
SLOW_SECONDS: Final = 2.0  # after which a dial is slow, and others get their turn beside it
MAX_CONNECTIONS: Final = 64  # with peers that were found, whoever dialled; over it nobody is dialled
MAX_ACCEPTED: Final = 128  # connections in all over which nobody is let in
MAX_PER_TOPIC: Final = 24  # connections of a topic for which more are dialled
MAX_PEERS: Final = 4096  # that are remembered
MAX_TOPIC_PEERS: Final = 256  # that are remembered for one topic; liars can fill no more
MAX_BANNED: Final = 1024  # keys; the first is forgotten for the next
BAN_SECONDS: Final = 600.0
GOOD_SECONDS: Final = 15.0  # that a connection lasts for its end not to count as a failure after others
REST_SECONDS: Final = 60.0  # for a peer that failed too often; then a lookup may bring it again
USELESS_SECONDS: Final = 600.0  # likewise for one that has nothing of what it was found for
SETTLE_SECONDS: Final = 10.0  # in which a new connection counts for the topics its peer was found for
TURN_SECONDS: Final = 300.0  # that a quiet connection has when topics without any are waiting for room
SPARE_SECONDS: Final = 30.0  # likewise, one whose topics all have others


class Stage(Enum):
    """What is up with a peer."""

    QUEUED = "queued"
    DIALLING = "dialling"
    SLOW = "slow"  # it is dialled, but nobody waits for it
    LINKED = "linked"
    WAITING = "waiting"  # for its next dial
    RESTING = "resting"  # it failed too often


@dataclass(slots=True)
class Peer:
    """Somebody who was found."""

    key: PublicKey
    order: float  # random: among equals
    relays: tuple[Endpoint, ...] = ()
    topics: set[DiscoveryKey] = field(default_factory=set)
    explicit: bool = False  # the user named it
    stage: Stage = Stage.QUEUED
    attempts: int = 0
    proven: bool = False  # it was connected once
    due_at: float = inf  # while it waits or rests, and until its dial is slow
    linked_at: float = -inf  # when it was connected last


class Dial(NamedTuple):
    """Connect to this peer, then say ``ended``."""

    key: PublicKey
    relays: tuple[Endpoint, ...]
    brief: bool = False  # nothing is known of it but a record, which outlives its peer by twenty minutes


class Peers:
    """The machine. ``own`` is our public key; ``random`` mixes equals and spreads retries."""

    def __init__(
        self,
        own: PublicKey,
        random: "Random",
        *,
        max_connections: int = MAX_CONNECTIONS,
        max_per_topic: int = MAX_PER_TOPIC,
    ) -> None:
        self._own = own
        self._random = random
        self._max_connections = max_connections
        self._max_per_topic = max_per_topic
        self._known: dict[PublicKey, Peer] = {}
        self._by_topic: Counter[DiscoveryKey] = Counter()  # peers known
        self._linked: dict[PublicKey, frozenset[DiscoveryKey]] = {}
        self._banned: dict[PublicKey, float] = {}  # until when

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: PublicKey) -> bool:
        return key in self._known

    def count(self, topic: DiscoveryKey) -> int:
        """Peers that are known for a topic."""
        return self._by_topic[topic]

    def topics_of(self, key: PublicKey) -> Collection[DiscoveryKey]:
        """For which topics a peer was found."""
        peer = self._known.get(key)
        return () if peer is None else peer.topics

    # ---- what is learnt

    def found(self, topic: DiscoveryKey, key: PublicKey, relays: Iterable[Endpoint], now: float) -> None:
        """A lookup of the topic told of this peer, maybe not for the first time."""
        if key == self._own or self.is_banned(key, now):
            return
        peer = self._known.get(key)
        if peer is not None and topic in peer.topics:
            peer.relays = tuple(relays) or peer.relays
            return
        if self._by_topic[topic] >= MAX_TOPIC_PEERS:
            return
        if peer is None and (peer := self._add(key)) is None:
            return
        peer.relays = tuple(relays) or peer.relays
        peer.topics.add(topic)
        self._by_topic[topic] += 1

    def name(self, key: PublicKey, relays: Iterable[Endpoint] = ()) -> None:
        """The user wants this peer: it is always dialled again."""
        if key == self._own:
            return
        peer = self._known.get(key) or self._add(key)
        if peer is not None:
            peer.explicit = True
            peer.relays = tuple(relays) or peer.relays

    def leave(self, topic: DiscoveryKey) -> None:
        """The topic is of no interest any more, nor are those who have nothing else."""
        for peer in list(self._known.values()):
            if topic in peer.topics:
                peer.topics.discard(topic)
                self._forget_useless(peer)
        del self._by_topic[topic]

    def ban(self, key: PublicKey, now: float) -> None:
        """It broke the rules: neither dialled nor let in for a while."""
        self._banned.pop(key, None)
        while len(self._banned) >= MAX_BANNED:
            del self._banned[next(iter(self._banned))]
        self._banned[key] = now + BAN_SECONDS
        if (peer := self._known.get(key)) is not None:
            self._forget(peer)

    def is_banned(self, key: PublicKey, now: float) -> bool:
        """Whether it broke the rules lately."""
        return self._banned.get(key, -inf) > now

    def admits(self, key: PublicKey, now: float) -> bool:
        """Whether a peer that dials us is let in."""
        if key == self._own or self.is_banned(key, now):
            return False
        return key in self._linked or len(self._linked) < MAX_ACCEPTED

    def network_changed(self, now: float) -> None:
        """We are somewhere else: whoever could not be reached may be reached now."""
        for peer in self._known.values():
            if peer.stage in (Stage.WAITING, Stage.RESTING):
                peer.stage, peer.attempts, peer.due_at = Stage.QUEUED, 0, now

    # ---- links and dials

    def links(self, peers: Mapping[PublicKey, Collection[DiscoveryKey]], now: float) -> None:
        """With these peers there are links at present, whoever dialled, for these topics."""
        before = self._linked
        self._linked = {key: frozenset(topics) for key, topics in peers.items()}
        for key in self._linked.keys() - before.keys():
            if (peer := self._known.get(key)) is not None:
                peer.stage, peer.proven, peer.linked_at = Stage.LINKED, True, now
        for key in before.keys() - self._linked.keys():
            if (peer := self._known.get(key)) is not None and peer.stage is Stage.LINKED:
                self._lost(peer, now)

    def ended(self, key: PublicKey, now: float) -> None:
        """A dial came to nothing, or its link is over; ``links`` is told first."""
        peer = self._known.get(key)
        if peer is not None and peer.stage in (Stage.DIALLING, Stage.SLOW):
            self._failed(peer, now)

    def give_up(self, key: PublicKey, now: float) -> None:
        """Its link was ended by us to make room: it is no failure, and it comes last among equals."""
        peer = self._known.get(key)
        if peer is not None:
            peer.stage, peer.attempts, peer.linked_at = Stage.QUEUED, 0, now
        self._linked.pop(key, None)

    def let_be(self, key: PublicKey, now: float) -> None:
        """It has nothing for us, whatever it announced."""
        peer = self._known.get(key)
        if peer is not None and not peer.explicit:
            peer.stage, peer.due_at = Stage.RESTING, now + USELESS_SECONDS

    def due(self, now: float) -> list[Dial]:
        """Whom to dial now; say ``ended`` of each."""
        self._pass_time(now)
        busy = sum(peer.stage is Stage.DIALLING for peer in self._known.values())
        dialled = busy + sum(peer.stage is Stage.SLOW for peer in self._known.values())
        dials: list[Dial] = []
        served = self.served(now)
        room = self._room
        while busy < MAX_DIALS and dialled < min(MAX_SLOW_DIALS, room):
            peer = self._next(served)
            if peer is None:
                break
            peer.stage, peer.due_at = Stage.DIALLING, now + SLOW_SECONDS
            served.update(peer.topics)
            busy += 1
            dialled += 1
            brief = not (peer.attempts or peer.proven or peer.explicit)
            dials.append(Dial(peer.key, peer.relays, brief))
        return dials

    def spare(self, now: float, quiet: Collection[PublicKey]) -> PublicKey | None:
        """A link to end because there is no room for a topic that has none; ``quiet`` ones carry nothing."""
        if self._room > 0:
            return None
        served = self.served(now)
        waiting = self._next(served)
        if waiting is None or waiting.explicit or self._need(waiting, served) > 0:
            return None
        linked = [(self._known[key], topics) for key, topics in self._linked.items() if key in self._known]
        linked.sort(key=lambda pair: pair[0].linked_at)
        for peer, topics in linked:
            if now - peer.linked_at >= SPARE_SECONDS and all(served[topic] > 1 for topic in topics):
                return peer.key
        for peer, _ in linked:
            if now - peer.linked_at >= TURN_SECONDS and peer.key in quiet and not peer.explicit:
                return peer.key
        return None

    def surplus(self, now: float, quiet: Collection[PublicKey]) -> PublicKey | None:
        """A quiet link to end because nobody can be let in any more: of a topic that has most."""
        if len(self._linked) < MAX_ACCEPTED:
            return None
        served = self.linked_topics(now)
        crowds = {
            key: min((served[topic] for topic in topics), default=len(self._linked))
            for key, topics in self._linked.items()
            if key in quiet
        }
        largest = max(crowds.values(), default=0)
        return None if largest < 2 else next(key for key, crowd in crowds.items() if crowd == largest)

    def linked_topics(self, now: float) -> Counter[DiscoveryKey]:
        """How many connections each topic has that has some."""
        counts: Counter[DiscoveryKey] = Counter()
        for key, topics in self._linked.items():
            peer = self._known.get(key)
            if not topics and peer is not None and now - peer.linked_at < SETTLE_SECONDS:
                counts.update(peer.topics)
            else:
                counts.update(topics)
        return counts

    def served(self, now: float) -> Counter[DiscoveryKey]:
        """Likewise, with those that are being dialled."""
        counts = self.linked_topics(now)
        for peer in self._known.values():
            if peer.stage is Stage.DIALLING:
                counts.update(peer.topics)
        return counts

    @property
    def deadline(self) -> float:
        """When ``due`` is to be asked next, unless something happens before."""
        return min((peer.due_at for peer in self._known.values()), default=inf)

    # ---- parts

    @property
    def _room(self) -> int:
        """For connections with peers that were found; those that came by themselves take none of it."""
        return self._max_connections - sum(key in self._known for key in self._linked)

    def _add(self, key: PublicKey) -> Peer | None:
        if len(self._known) >= MAX_PEERS:
            return None
        peer = Peer(key, self._random.random())
        if key in self._linked:
            peer.stage, peer.proven = Stage.LINKED, True
        self._known[key] = peer
        return peer

    def _forget_useless(self, peer: Peer) -> None:
        if not (peer.topics or peer.explicit):
            self._forget(peer)

    def _forget(self, peer: Peer) -> None:
        del self._known[peer.key]
        self._by_topic.subtract(peer.topics)

    def _pass_time(self, now: float) -> None:
        """Those who have waited are queued, those who have rested are forgotten; dials become slow."""
        for peer in [peer for peer in self._known.values() if peer.due_at <= now]:
            peer.due_at = inf
            if peer.stage is Stage.WAITING:
                peer.stage = Stage.QUEUED
            elif peer.stage is Stage.DIALLING:
                peer.stage = Stage.SLOW
            elif peer.stage is Stage.RESTING:
                self._forget(peer)

    def _next(self, served: Counter[DiscoveryKey]) -> Peer | None:
        """The queued peer that is dialled first."""
        queued = [
            peer
            for peer in self._known.values()
            if peer.stage is Stage.QUEUED
            and peer.key not in self._linked
            and self._need(peer, served) < self._max_per_topic
        ]
        return min(queued, key=lambda peer: self._rank(peer, served), default=None)

    def _need(self, peer: Peer, served: Counter[DiscoveryKey]) -> int:
        """How many connections that of its topics has which has fewest."""
        return -1 if peer.explicit else min((served[topic] for topic in peer.topics), default=0)

    def _rank(self, peer: Peer, served: Counter[DiscoveryKey]) -> tuple[int, int, float, float]:
        priority = turn(peer.attempts, explicit=peer.explicit).priority or Priority.LOW
        if peer.attempts and not (peer.proven or peer.explicit):
            priority = Priority.LOW  # most likely it is dead: whoever was never tried comes first
        return self._need(peer, served), -priority, peer.linked_at, peer.order

    def _lost(self, peer: Peer, now: float) -> None:
        """Its last link is over."""
        if now - peer.linked_at >= GOOD_SECONDS:
            peer.attempts = 0
        self._failed(peer, now)

    def _failed(self, peer: Peer, now: float) -> None:
        peer.attempts += 1
        pause = retry_pause(peer.attempts, self._random, proven=peer.proven, explicit=peer.explicit)
        peer.stage = Stage.WAITING if pause is not None else Stage.RESTING
        peer.due_at = now + (REST_SECONDS if pause is None else pause)
        peer.attempts = turn(peer.attempts, explicit=peer.explicit).attempts
        peer.order = self._random.random()
        if not (peer.topics or peer.explicit):
            self._forget(peer)
