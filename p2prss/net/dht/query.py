"""The iterative query: ask the nearest nodes known for nearer ones, until nobody knows any.

A machine without sockets and clock. The caller asks ``next_visits`` whom to ask now and tells what came of
each visit; ``closest`` are the 20 nearest that answered, with the tokens to write to them.

What others name is a rumour: candidates per reply, visits per query, and visits and results per public host
are capped.

Source: dht-rpc 6.27.0 lib/query.js; spec/07-net.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import Final

from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.messages import Reply
from p2prss.net.dht.routing import Crowding, K

CONCURRENCY: Final = 10  # requests in flight
BACKGROUND_CONCURRENCY: Final = 3  # the same when nobody waits
MAX_VISITS: Final = 200  # nodes one query may ask; honest networks need 30
MAX_VISITS_PER_HOST: Final = 10  # of them on one public host: its ports are as many as it likes
MAX_VISITS_PER_NETWORK: Final = 20  # the same for a /24
MAX_CANDIDATES: Final = 20  # closer nodes taken from one reply
_OVERDUE: Final = 2  # repeats after which a small network's query ends without an answer
_TOO_FEW: Final = K // 4  # successes below which the nodes a query was started with were no good


@dataclass(frozen=True, slots=True)
class Answer:
    """What one visited node said."""

    endpoint: Endpoint
    reply: Reply
    hops: int  # referrals that led to it; 0 for a node known before


class Query:
    """One walk towards ``target``; 32 bytes.

    Args: start: whom to ask first; fallback: whom to ask when fewer than 5 of these answered; accept: a
    judge of addresses that others name.
    """

    def __init__(
        self,
        target: bytes,
        start: Iterable[Endpoint],
        *,
        accept: Callable[[Endpoint], bool],
        fallback: Callable[[], Iterable[Endpoint]] | None = None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self.target = target
        self.concurrency = concurrency
        self.closest: list[Answer] = []  # nearest first
        self.visits = self.successes = self.failures = 0
        self.hops = 0  # longest chain of referrals among those that answered
        self.finished = False
        self._accept = accept
        self._fallback = fallback
        self._number = int.from_bytes(target, "big")
        self._distances: list[int] = []  # of ``closest``
        self._candidates: list[tuple[int, Endpoint, int]] = []  # heap: distance, whom, hops
        self._referrers: dict[Endpoint, list[Endpoint]] = {}  # of everybody seen
        self._flying: dict[Endpoint, int] = {}  # hops
        self._asked = Crowding(per_host=MAX_VISITS_PER_HOST, per_network=MAX_VISITS_PER_NETWORK)
        self._slow: dict[Endpoint, int] = {}  # times that each of those in flight was repeated
        self._dead: set[Endpoint] = set()
        self.add(start)

    def add(self, endpoints: Iterable[Endpoint]) -> None:
        """More to ask, if they are near enough."""
        for endpoint in endpoints:
            self._consider(endpoint, None, 0)

    def next_visits(self) -> list[Endpoint]:
        """Whom to ask now; each once. An empty list with ``finished`` set is the end."""
        visits: list[Endpoint] = []
        if self.finished:
            return visits
        while True:
            while (
                self._candidates
                and self.visits < MAX_VISITS
                and len(self._flying) - len(self._slow) < self.concurrency
            ):
                away, endpoint, hops = heappop(self._candidates)
                if not self._improves(away):
                    self._candidates.clear()  # all others are farther still
                    break
                if not self._asked.has_room(endpoint.host):
                    continue
                self._asked.add(endpoint.host)
                self._flying[endpoint] = hops
                self.visits += 1
                visits.append(endpoint)
            if self._more_to_come():
                return visits
            if self._fallback is None or self.successes >= _TOO_FEW:
                self.finished = True
                return visits
            fallback, self._fallback = self._fallback, None
            self.add(fallback())

    def replied(self, endpoint: Endpoint, reply: Reply) -> list[tuple[Endpoint, Endpoint]]:
        """A visited node answered; returns down hints to send, see ``failed``."""
        hops = self._landed(endpoint)
        if hops is None:
            return []
        if reply.error:
            self.failures += 1
        else:
            self.successes += 1
            self.hops = max(self.hops, hops)
            if reply.id is not None:
                self._insert(Answer(endpoint, reply, hops))
        hints = []
        for closer in reply.closer_nodes[:MAX_CANDIDATES]:
            if closer in self._dead:
                hints.append((endpoint, closer))
            elif self._accept(closer) and not self._consider(closer, endpoint, hops + 1):
                break  # honest lists are sorted: the rest is no nearer
        return hints

    def failed(self, endpoint: Endpoint) -> list[tuple[Endpoint, Endpoint]]:
        """A visited node never answered; returns (who named it, the dead one) pairs to tell them."""
        if self._landed(endpoint) is None:
            return []
        self.failures += 1
        self._dead.add(endpoint)
        return [(referrer, endpoint) for referrer in self._referrers[endpoint]]

    def slow(self, endpoint: Endpoint) -> None:
        """A visited node lets us wait, it was asked again: somebody else may be asked meanwhile."""
        if endpoint in self._flying:
            self._slow[endpoint] = self._slow.get(endpoint, 0) + 1

    @property
    def in_flight(self) -> list[Endpoint]:
        """Visits whose outcome is not known."""
        return list(self._flying)

    def _more_to_come(self) -> bool:
        if self._candidates and self.visits < MAX_VISITS:
            return True  # as soon as a visit lands
        if len(self._slow) < len(self._flying):
            return True
        if not self._flying or len(self.closest) >= K:
            return False
        return self.successes == 0 or any(times < _OVERDUE for times in self._slow.values())

    def _landed(self, endpoint: Endpoint) -> int | None:
        self._slow.pop(endpoint, None)
        return self._flying.pop(endpoint, None) if not self.finished else None

    def _improves(self, away: int) -> bool:
        return len(self._distances) < K or away < self._distances[-1]

    def _consider(self, endpoint: Endpoint, referrer: Endpoint | None, hops: int) -> bool:
        """Note a candidate; false when it is no nearer than what we have."""
        away = int.from_bytes(node_id(endpoint), "big") ^ self._number
        improves = self._improves(away)
        referrers = self._referrers.get(endpoint)
        if referrers is not None:
            if referrer is not None and len(referrers) < K:
                referrers.append(referrer)
        elif improves:
            self._referrers[endpoint] = [] if referrer is None else [referrer]
            heappush(self._candidates, (away, endpoint, hops))
        return improves

    def _insert(self, answer: Answer) -> None:
        if not Crowding(one.endpoint.host for one in self.closest).has_room(answer.endpoint.host):
            return
        away = int.from_bytes(node_id(answer.endpoint), "big") ^ self._number
        place = bisect_left(self._distances, away)
        self._distances.insert(place, away)
        self.closest.insert(place, answer)
        del self._distances[K:], self.closest[K:]
