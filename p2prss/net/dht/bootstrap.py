"""The nodes a newcomer asks first: ``host:port``, or ``ip@name:port`` for an address that rarely changes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import trio

from p2prss.errors import UsageError
from p2prss.net.address import Address
from p2prss.net.dht.endpoint import Endpoint, is_ipv4

PUBLIC_BOOTSTRAPS: Final = (
    "88.99.3.86@node1.hyperdht.org:49737",
    "142.93.90.113@node2.hyperdht.org:49737",
    "138.68.147.8@node3.hyperdht.org:49737",
)
"""Of the public network, run by Holepunch."""


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """One of them; ``name`` is looked up when there is no ``address``, or nobody answers there."""

    name: str
    port: int
    address: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``host:port`` or ``ip@name:port``.

        Raises: UsageError that says what is wrong with the text.
        """
        suggested, at, rest = text.strip().rpartition("@")
        place = Address.parse(rest)
        if place.port == 0:
            raise UsageError(f"{text!r} needs a port of its own")
        if at and not is_ipv4(Endpoint(suggested, place.port)):
            raise UsageError(f"{suggested!r} in {text!r} is no IPv4 address")
        if at:
            return cls(place.host, place.port, suggested)
        return cls(place.host, place.port, place.host if is_ipv4(Endpoint(*_pair(place))) else None)

    @property
    def known(self) -> Endpoint | None:
        """Its address, without looking up its name."""
        return Endpoint(self.address, self.port) if self.address is not None else None

    async def resolve(self) -> Endpoint | None:
        """The address its name has now; None when the name is unknown."""
        try:
            found = await trio.socket.getaddrinfo(
                self.name, self.port, trio.socket.AF_INET, trio.socket.SOCK_DGRAM
            )
        except (OSError, UnicodeError):
            return None
        return Endpoint(str(found[0][4][0]), self.port) if found else None


def _pair(place: Address) -> tuple[str, int]:
    return place.host, place.port


async def resolve_all(bootstraps: Sequence[Bootstrap]) -> list[Endpoint]:
    """All names at once; those nobody knows are left out."""
    found: list[Endpoint | None] = [None] * len(bootstraps)

    async def resolve(place: int, one: Bootstrap) -> None:
        found[place] = await one.resolve()

    async with trio.open_nursery() as nursery:
        for place, one in enumerate(bootstraps):
            nursery.start_soon(resolve, place, one)
    return [endpoint for endpoint in found if endpoint is not None]
