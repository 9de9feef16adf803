"""UDP sockets for a DHT node that shares none with UDX: receive in batches, send without waiting."""

import errno
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

import trio

from p2prss.errors import NetworkError

DEFAULT_PORTS: Final = (49737, 49738, 49739, 49740, 49741)  # tried in turn by a server socket
BATCH: Final = 64  # datagrams taken per turn of the event loop
RECEIVE_SIZE: Final = 2048  # bytes; one more than a datagram may have

OnDatagram = Callable[[bytes, tuple[str, int], Any], None]
"""Gets (datagram, (host, port) of the sender, the socket)."""


class DatagramSocket(Protocol):
    """What a node needs of a socket; a ``UdxSocket`` is one, and gives it what is no stream's."""

    on_datagram: OnDatagram | None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it is bound to."""
        ...

    def send_datagram(self, datagram: bytes, address: tuple[str, int]) -> None:
        """Send at once or not at all: whatever goes wrong is a lost datagram."""
        ...


class UdpSocket:
    """A bound IPv4 socket; ``run`` reads it until cancelled, then closes it."""

    def __init__(self, raw: socket.socket) -> None:
        self.on_datagram: OnDatagram | None = None
        self.lost = 0  # datagrams that could not be sent
        self._socket = raw
        self._address: tuple[str, int] = raw.getsockname()[:2]

    @classmethod
    def bind(cls, host: str = "0.0.0.0", port: int = 0) -> "UdpSocket":
        """Bind; port 0 lets the system choose.

        Raises: NetworkError naming the address and the system's reason.
        """
        raw = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            raw.setblocking(False)
            raw.bind((host, port))
        except OSError as error:
            raw.close()
            raise NetworkError(f"cannot bind UDP {host}:{port}: {error.strerror or error}") from error
        return cls(raw)

    @classmethod
    def bind_default(cls, host: str = "0.0.0.0") -> "UdpSocket":
        """Bind one of the ports of the reference, else any."""
        for port in DEFAULT_PORTS:
            try:
                return cls.bind(host, port)
            except NetworkError as error:
                cause = error.__cause__
                if not isinstance(cause, OSError) or cause.errno != errno.EADDRINUSE:
                    raise
        return cls.bind(host)

    @property
    def address(self) -> tuple[str, int]:
        return self._address

    def send_datagram(self, datagram: bytes, address: tuple[str, int]) -> None:
        try:
            self._socket.sendto(datagram, address)
        except OSError:
            self.lost += 1

    async def run(self) -> None:
        """Hand what comes in to ``on_datagram``."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._socket)
                self._receive_batch()
                await trio.lowlevel.checkpoint()
        finally:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def _receive_batch(self) -> None:
        for _ in range(BATCH):
            try:
                data, source = self._socket.recvfrom(RECEIVE_SIZE)
            except BlockingIOError:
                return
            except OSError:
                continue  # an ICMP error about something sent earlier
            if self.on_datagram is not None:
                self.on_datagram(data, source, self)
