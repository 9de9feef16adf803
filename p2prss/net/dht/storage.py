"""What a persistent node keeps for the network: announcements, routes to servers, and small values.

All of it comes from strangers. Every kind has a lifetime and caps, in all and per host (an address that
proved by a token that it receives what is sent to it). Signatures are checked before anything gets here.

Source: hyperdht 6.34.0 lib/persistent.js; spec/07-net.
"""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.expiring import ExpiringMap
from p2prss.net.dht.records import MAX_PEERS, MutableValue
from p2prss.units import MIB

if TYPE_CHECKING:
    from random import Random

RECORD_LIFETIME: Final = 20 * 60.0  # seconds; announcers come again after 10 to 12 minutes
VALUE_LIFETIME: Final = 48 * 3600.0  # seconds
MAX_RECORDS: Final = 65_536  # announcements of all topics, about 0.9 kB each in memory
MAX_RECORDS_PER_HOST: Final = 16_384  # a seedbox announces 10,000 feeds, in a small network all of them here
MAX_RECORDS_PER_TOPIC: Final = 256  # a lookup returns 20 of them
MAX_ROUTES: Final = 32_768  # servers that announced themselves
MAX_ROUTES_PER_HOST: Final = 1024
MAX_REFRESHES: Final = 16_384
MAX_VALUES: Final = 32_768  # of each kind
MAX_VALUES_PER_HOST: Final = 2048
MAX_VALUE_BYTES: Final = 16 * MIB  # of each kind
MAX_BUMP_DRIFT: Final = 60_000  # milliseconds an announcer's clock may be ahead of ours


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a server that announced itself: where its datagram came from, and its record."""

    relay: Endpoint
    socket: int  # the one of ours it came in at
    record: bytes


@dataclass(frozen=True, slots=True)
class Refresh:
    """What the preimage of a hash renews."""

    target: bytes
    public_key: bytes
    record: bytes
    is_self: bool


class RecordStore:
    """The announcements, routes and values of one node."""

    def __init__(self, random: "Random") -> None:
        self._random = random
        self._records: ExpiringMap[tuple[bytes, bytes], bytes] = ExpiringMap(
            RECORD_LIFETIME, max_entries=MAX_RECORDS, max_per_host=MAX_RECORDS_PER_HOST
        )
        self._topics: dict[bytes, dict[bytes, str]] = {}  # target -> public key -> host, oldest first
        self._bumps: dict[bytes, int] = {}  # of topics that have records
        self._routes: ExpiringMap[bytes, Route] = ExpiringMap(
            RECORD_LIFETIME, max_entries=MAX_ROUTES, max_per_host=MAX_ROUTES_PER_HOST
        )
        self._refreshes: ExpiringMap[bytes, Refresh] = ExpiringMap(
            RECORD_LIFETIME, max_entries=MAX_REFRESHES, max_per_host=MAX_ROUTES_PER_HOST
        )
        self._mutables: ExpiringMap[bytes, MutableValue] = ExpiringMap(
            VALUE_LIFETIME,
            max_entries=MAX_VALUES,
            max_per_host=MAX_VALUES_PER_HOST,
            max_bytes=MAX_VALUE_BYTES,
        )
        self._immutables: ExpiringMap[bytes, bytes] = ExpiringMap(
            VALUE_LIFETIME,
            max_entries=MAX_VALUES,
            max_per_host=MAX_VALUES_PER_HOST,
            max_bytes=MAX_VALUE_BYTES,
        )

    # -- announcements

    def announce(
        self, target: bytes, public_key: bytes, record: bytes, host: str, now: float, *, bump: int = 0
    ) -> None:
        """Keep a peer under a topic; one that is there already is replaced and renewed."""
        topic = self._topics.get(target)
        if topic is not None and public_key not in topic and len(topic) >= MAX_RECORDS_PER_TOPIC:
            self._make_room(target, topic)
        self._records.put((target, public_key), record, host, now, size=len(record))
        self._forget_evicted()
        topic = self._topics.setdefault(target, {})
        topic.pop(public_key, None)
        topic[public_key] = host
        if bump > self._bumps.get(target, 0):
            self._bumps[target] = bump

    def revoke(self, target: bytes, public_key: bytes) -> None:
        """Forget a peer under a topic."""
        if self._records.pop((target, public_key)) is not None:
            self._forget(target, public_key)

    def lookup(self, target: bytes, now: float) -> list[bytes]:
        """Up to 20 encoded records of a topic, drawn at random."""
        self._records.expire(now)
        self._forget_evicted()
        keys = list(self._topics.get(target, ()))
        if len(keys) > MAX_PEERS:
            keys = self._random.sample(keys, MAX_PEERS)
        found = (self._records.get((target, key), now) for key in keys)
        return [record for record in found if record is not None]

    def bump(self, target: bytes) -> int:
        """The newest time an announcer of the topic gave: milliseconds since 1970, or 0."""
        return self._bumps.get(target, 0)

    def _make_room(self, target: bytes, topic: dict[bytes, str]) -> None:
        """Drop the oldest record of whoever has most of them."""
        crowded = Counter(topic.values()).most_common(1)[0][0]
        self.revoke(target, next(key for key, host in topic.items() if host == crowded))

    def _forget_evicted(self) -> None:
        for target, public_key in self._records.evicted:
            self._forget(target, public_key)
        self._records.evicted.clear()

    def _forget(self, target: bytes, public_key: bytes) -> None:
        topic = self._topics.get(target)
        if topic is not None:
            topic.pop(public_key, None)
            if not topic:
                del self._topics[target]
                self._bumps.pop(target, None)

    # -- servers that announced themselves

    def set_route(self, target: bytes, route: Route, now: float) -> None:
        self._routes.put(target, route, route.relay.host, now, size=len(route.record))
        self._routes.evicted.clear()

    def route(self, target: bytes, now: float) -> Route | None:
        return self._routes.get(target, now)

    def delete_route(self, target: bytes) -> None:
        self._routes.pop(target)

    # -- renewals without a signature

    def set_refresh(self, digest: bytes, refresh: Refresh, host: str, now: float) -> None:
        self._refreshes.put(digest, refresh, host, now, size=len(refresh.record))
        self._refreshes.evicted.clear()

    def take_refresh(self, digest: bytes, now: float) -> Refresh | None:
        """What a revealed preimage renews; each works once."""
        refresh = self._refreshes.get(digest, now)
        self._refreshes.pop(digest)
        return refresh

    # -- values

    def mutable(self, target: bytes, now: float) -> MutableValue | None:
        return self._mutables.get(target, now)

    def put_mutable(self, target: bytes, value: MutableValue, host: str, now: float) -> None:
        self._mutables.put(target, value, host, now, size=len(value.value) + 64)
        self._mutables.evicted.clear()

    def immutable(self, target: bytes, now: float) -> bytes | None:
        return self._immutables.get(target, now)

    def put_immutable(self, target: bytes, value: bytes, host: str, now: float) -> None:
        self._immutables.put(target, value, host, now, size=len(value))
        self._immutables.evicted.clear()

    def statistics(self) -> dict[str, int]:
        """How much of each kind is kept."""
        return {
            "records": len(self._records),
            "topics": len(self._topics),
            "routes": len(self._routes),
            "mutable_values": len(self._mutables),
            "immutable_values": len(self._immutables),
            "value_bytes": self._mutables.bytes + self._immutables.bytes,
        }
