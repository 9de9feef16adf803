"""A server's relays: the DHT nodes through which strangers reach it, chosen, told and kept.

Three nodes nearest to the hash of our key remember the address our announcement came from. A ping every
three seconds keeps the NAT's door to them open; every five minutes, and sooner when they fall silent or our
own address changed, they are chosen anew.

Source: hyperdht 6.34.0 lib/announcer.js; spec/07-net.
"""

from typing import Final

import trio

from p2prss.errors import NetworkError
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.dht.client import SELF_ANNOUNCE_NODES
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import RelayInfo
from p2prss.net.dht.shell import NetworkView

PING_SECONDS: Final = 3.0  # between pings of the relays
PING_ROUNDS: Final = 100  # pings until they are chosen anew
RETRY_SECONDS: Final = 5.0  # after nobody took the announcement
FAREWELL_SECONDS: Final = 1.5  # we take at most to tell the relays that we go
PING_SENDS: Final = 2  # of one ping; the next round follows soon


class Announcer:
    """Keeps a server's relays; ``run`` until cancelled, then they are told to forget us."""

    def __init__(self, parts: NetworkParts) -> None:
        self.relays: tuple[RelayInfo, ...] = ()
        self._parts = parts
        self._announced = trio.Event()

    @property
    def addresses(self) -> tuple[Endpoint, ...]:
        """What others are to be told: our own address first if anybody can reach it, then the relays'."""
        public = self._parts.dht.public_endpoint
        told = ([] if public is None else [public]) + [relay.relay_address for relay in self.relays]
        return tuple(told)[:SELF_ANNOUNCE_NODES]

    async def wait_announced(self) -> None:
        """Until some node relays for us."""
        await self._announced.wait()

    async def run(self) -> None:
        """Announce, keep, and announce again."""
        dht = self._parts.dht
        await dht.wait_bootstrapped()
        try:
            while True:
                seen, socket = dht.network_view, dht.request_socket
                try:
                    await self._announce()
                except NetworkError:
                    self.relays = ()
                    await trio.sleep(RETRY_SECONDS)
                    continue
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_on_change, seen, nursery.cancel_scope)
                    await self._keep(socket)
                    nursery.cancel_scope.cancel()
        finally:
            with trio.move_on_after(FAREWELL_SECONDS, shield=True):
                await dht.unannounce_self(self._parts.key_pair, self._relay_addresses)

    @property
    def _relay_addresses(self) -> list[Endpoint]:
        return [relay.relay_address for relay in self.relays]

    async def _announce(self) -> None:
        """Choose relays; those of before that were not chosen again are told to forget us."""
        former = self._relay_addresses
        self.relays = await self._parts.dht.announce_self(self._parts.key_pair, start=former)
        self._announced.set()
        dropped = [address for address in former if address not in self._relay_addresses]
        if dropped:
            await self._parts.dht.unannounce_self(self._parts.key_pair, dropped)

    async def _end_on_change(self, seen: NetworkView, scope: trio.CancelScope) -> None:
        await self._parts.dht.wait_network_change(seen)
        scope.cancel()

    async def _keep(self, socket: int) -> None:
        """Ping them from the socket they know us by, until it is time, or too few answer."""
        wanted = len(self.relays)
        for _ in range(PING_ROUNDS):
            await trio.sleep(PING_SECONDS)
            answered: list[Endpoint] = []
            async with trio.open_nursery() as nursery:
                for relay in self._relay_addresses:
                    nursery.start_soon(self._ping, relay, socket, answered)
            if len(answered) < wanted:
                return

    async def _ping(self, relay: Endpoint, socket: int, answered: list[Endpoint]) -> None:
        try:
            await self._parts.dht.ping(relay, socket=socket, sends=PING_SENDS)
        except NetworkError:
            return
        answered.append(relay)
