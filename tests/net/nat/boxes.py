"""Boxes between a host and the internet: NATs of all kinds, and firewalls that translate nothing.

Words as in RFC 4787: a *mapping* says which public port a packet leaves from, a *filter* who may answer.
"""

from collections.abc import Callable
from enum import Enum
from random import Random
from typing import Final, NamedTuple

from tests.net.nat.packets import Address, Packet

IDLE_SECONDS: Final = 30.0  # until a mapping that nothing left through is forgotten; home routers have 30-300


class Mapping(Enum):
    """Which public port a socket gets."""

    NONE = "none"  # a firewall: the address stays
    STEADY = "steady"  # one for all destinations
    RANDOM = "random"  # another for each destination


class Filter(Enum):
    """Whose packets come in."""

    ANY = "any"  # everybody's, once something went out
    HOST = "host"  # of hosts something went to
    PORT = "port"  # of addresses something went to


class _Hole(NamedTuple):
    inside: Address
    outside: Address


class Box:
    """One of them. Time comes in with each packet.

    Args: public: its own host outside; idle_seconds: how long a mapping lives without packets from inside;
    hairpin: whether those inside reach one another by their public addresses.
    """

    def __init__(
        self,
        public: str | None,
        mapping: Mapping,
        filtering: Filter,
        random: Random,
        *,
        idle_seconds: float = IDLE_SECONDS,
        hairpin: bool = False,
    ) -> None:
        if (mapping is Mapping.NONE) != (public is None):
            raise ValueError("a firewall has no address of its own, a NAT has one")
        self.public = public
        self.mapping = mapping
        self.hairpin = hairpin
        self.dropped = 0  # packets nobody inside wanted
        self._filter = filtering
        self._random = random
        self._idle_seconds = idle_seconds
        self._ports: dict[tuple[Address, Address | None], Address] = {}  # to the public address
        self._inside: dict[Address, Address] = {}  # public to private
        self._holes: dict[tuple[Address, object], float] = {}  # (public, whom) to when it closes
        self._used: dict[Address, float] = {}  # public address to when it is forgotten

    def outbound(self, packet: Packet, now: float) -> Packet:
        """What leaves on the other side."""
        public = self._public_address(packet, now)
        self._used[public] = now + self._idle_seconds
        self._holes[public, self._whom(packet.destination)] = now + self._idle_seconds
        return packet._replace(source=public)

    def inbound(self, packet: Packet, now: float) -> Packet | None:
        """What gets in, if it does."""
        public = packet.destination
        closes_at = self._holes.get((public, self._whom(packet.source)), -1.0)
        if closes_at < now or self._used.get(public, -1.0) < now:
            self.dropped += 1
            return None
        inside = public if self.mapping is Mapping.NONE else self._inside[public]
        return packet._replace(destination=inside)

    def _public_address(self, packet: Packet, now: float) -> Address:
        if self.public is None:
            return packet.source
        key = packet.source, packet.destination if self.mapping is Mapping.RANDOM else None
        public = self._ports.get(key)
        if public is None or self._used[public] < now:
            public = Address(self.public, self._free_port())
            self._ports[key] = public
            self._inside[public] = packet.source
        return public

    def _free_port(self) -> int:
        assert self.public is not None
        while True:
            port = self._random.randint(1024, 65535)
            if Address(self.public, port) not in self._inside:
                return port

    def _whom(self, remote: Address) -> object:
        match self._filter:
            case Filter.ANY:
                return None
            case Filter.HOST:
                return remote.host
            case Filter.PORT:
                return remote


MAKERS: Final[dict[str, Callable[[str | None, Random], Box]]] = {
    "firewall": lambda _public, random: Box(None, Mapping.NONE, Filter.PORT, random),
    "steady": lambda public, random: Box(public, Mapping.STEADY, Filter.PORT, random),
    "carrier": lambda public, random: Box(public, Mapping.STEADY, Filter.PORT, random, hairpin=True),
    "full-cone": lambda public, random: Box(public, Mapping.STEADY, Filter.ANY, random),
    "random": lambda public, random: Box(public, Mapping.RANDOM, Filter.PORT, random),
}
"""Kinds of boxes by name: (public host, random) to a box."""
