"""The sockets that holes are punched with: opened for an attempt, closed after it, unless a stream took one.

A node has one ``PunchSockets``; it also holds what all attempts share, the budget of loud ones.
"""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from random import Random, SystemRandom
from typing import Final, Self

import trio

from p2prss.errors import NetworkError
from p2prss.net.connect.probes import LOW_TTL, PROBE, RandomPunches
from p2prss.net.dht.client import DhtNode
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream

MAX_PUNCH_SOCKETS: Final = 600  # of a node: one loud attempt, and hundreds of others or streams

FILES_SHARE: Final = 3  # sockets may be one of so many files that the system lets us open

OnProbe = Callable[["PunchSocket", Endpoint], None]
"""Gets (socket, sender) of each probe."""


class PunchSocket:
    """A UDX socket the DHT node knows by ``number``, or (None) does not; made by ``PunchSockets.take``."""

    def __init__(self, udx_socket: UdxSocket, number: int | None) -> None:
        self.udx_socket = udx_socket
        self.number = number

    def probe(self, to: Endpoint, *, low_ttl: bool = False) -> None:
        """Send one; with few hops it only opens our own NAT."""
        self.udx_socket.send_datagram(PROBE, to, ttl=LOW_TTL if low_ttl else None)


class PunchSockets:
    """Use: ``async with PunchSockets.open(dht, udx) as sockets``; all of them are closed with the block."""

    def __init__(self, dht: DhtNode, udx: UdxEndpoint, host: str, nursery: trio.Nursery) -> None:
        self.dht = dht
        self.random_punches = RandomPunches()
        self.random: Random = SystemRandom()
        self._udx = udx
        self._host = host
        self._nursery = nursery
        self._all: dict[UdxSocket, PunchSocket] = {}
        self._kept: set[UdxSocket] = set()
        self._limit = min(MAX_PUNCH_SOCKETS, _file_limit() // FILES_SHARE)

    @classmethod
    @asynccontextmanager
    async def open(cls, dht: DhtNode, udx: UdxEndpoint, *, host: str = "0.0.0.0") -> AsyncIterator[Self]:
        """Sockets of one node, bound to ``host``."""
        async with trio.open_nursery() as nursery:
            sockets = cls(dht, udx, host, nursery)
            try:
                yield sockets
            finally:
                for socket in list(sockets._all.values()):
                    sockets._close(socket)
                nursery.cancel_scope.cancel()

    def __len__(self) -> int:
        return len(self._all)

    def accepts(self, host: str) -> bool:
        """Whether a probe may go there because a peer says so: no reserved host, no private one from afar."""
        return self.dht.machine.state.accepts(Endpoint(host, 1))

    def take(self, on_probe: OnProbe, *, with_dht: bool = True) -> PunchSocket:
        """A new socket; probes that come in go to ``on_probe``, DHT messages to the node.

        Raises: NetworkError when there are too many, or the system gives none.
        """
        if len(self._all) >= self._limit:
            raise NetworkError(f"more than {self._limit} sockets to punch with")
        udx_socket = self._udx.bind(self._host, 0)
        socket = PunchSocket(udx_socket, self.dht.add_socket(udx_socket) if with_dht else None)
        others = udx_socket.on_datagram

        def sort(datagram: bytes, sender: tuple[str, int], via: UdxSocket) -> None:
            if len(datagram) == 1:
                on_probe(socket, Endpoint(*sender))
            elif others is not None:
                others(datagram, sender, via)

        udx_socket.on_datagram = sort
        self._all[udx_socket] = socket
        return socket

    def release(self, socket: PunchSocket) -> None:
        """The attempt no longer needs it; it is closed unless a stream does."""
        if socket.udx_socket not in self._kept:
            self._close(socket)

    def keep(self, udx_socket: UdxSocket, stream: UdxTrioStream) -> None:
        """A stream uses this socket, if it is one of ours: it is closed when the stream is over."""
        if udx_socket in self._all and udx_socket not in self._kept:
            self._kept.add(udx_socket)
            self._nursery.start_soon(self._close_after, self._all[udx_socket], stream)

    async def _close_after(self, socket: PunchSocket, stream: UdxTrioStream) -> None:
        await stream.wait_closed()
        self._close(socket)

    def _close(self, socket: PunchSocket) -> None:
        if self._all.pop(socket.udx_socket, None) is None:
            return
        self._kept.discard(socket.udx_socket)
        if socket.number is not None:
            self.dht.remove_socket(socket.number)
        socket.udx_socket.on_datagram = None
        socket.udx_socket.close()


def _file_limit() -> int:
    """How many files and sockets this process may have open at once."""
    if sys.platform == "win32":
        return MAX_PUNCH_SOCKETS * FILES_SHARE
    import resource  # there is none on Windows

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_PUNCH_SOCKETS * FILES_SHARE if soft == resource.RLIM_INFINITY else soft
