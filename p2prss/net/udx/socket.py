"""One UDP socket, shared by UDX streams and by everything else that speaks datagrams.

A datagram whose id names a stream of the endpoint is that stream's; all others, UDX packets for unknown ids
included, go to the handler. What can be read is read in one go, up to ``MAX_READ``, and then each stream
that got something is run once. On Linux the kernel cuts large writes into datagrams (UDP_SEGMENT) and joins
what arrives from a sender that did the same (UDP_GRO); where it can't, datagrams go one by one.

Memory: the socket's buffers in the kernel (``BUFFER_SIZE`` each), one read of ``MAX_READ`` datagrams, and
what the streams had ready when the kernel would take no more: at most one burst of packets for each.
"""

import errno
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol, Self

import trio

from p2prss.errors import NetworkError
from p2prss.net.udx.mtu import IPV4_OVERHEAD, IPV6_OVERHEAD, USUAL_MTU
from p2prss.net.udx.packet import HEADER, HEADER_SIZE, MARKER, Header
from p2prss.units import KIB, MIB

MAX_READ: Final = 128  # datagrams, joined ones count as one, before the streams get their turn
DATAGRAM_SIZE: Final = 64 * KIB  # bytes, the largest there are
BUFFER_SIZE: Final = 4 * MIB  # bytes asked of the kernel; it may grant less
MAX_SEGMENTS: Final = 8  # datagrams the kernel cuts from one write; with more the receiver starts late
MAX_SEGMENTED: Final = 65_000  # bytes of one such write
TTL: Final = 64  # hops

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_UDP_GRO: Final = 104
_IP_MTU_DISCOVER: Final = 10
_IP_MTU: Final = 14
_IPV6_MTU: Final = 24
_MSG_TRUNC: Final = int(socket.MSG_TRUNC)  # as an enumeration it costs as much as a datagram's reading
_IPV6_MTU_DISCOVER: Final = 23
_PMTUDISC_PROBE: Final = 3  # never fragment, and never believe what routers say of sizes
_ANCILLARY_SIZE: Final = 64  # bytes, enough for the size of joined datagrams
_SEGMENT: Final = struct.Struct("=H")

_LIKE_LOSS: Final = {  # errors of sending that are as if the datagram was lost on its way
    errno.EPERM,
    errno.EACCES,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.EHOSTDOWN,
    errno.ECONNREFUSED,
    errno.EMSGSIZE,
    errno.EADDRNOTAVAIL,
    errno.EINVAL,
}

SocketAddress = tuple[str, int] | tuple[str, int, int, int]
"""An address as the system writes it: with IPv6 it has four members, and IPv4 peers are ``::ffff:…``."""

DatagramHandler = Callable[[bytes, tuple[str, int], "UdxSocket"], None]
"""Gets (datagram, (host, port) of the sender, socket); must not raise because of the bytes."""


class SocketStream(Protocol):
    """A stream, as the sockets know it."""

    inbox: list[tuple[Header, bytes, SocketAddress | None]]
    """Filled by the sockets, for ``process``."""

    @property
    def socket(self) -> "UdxSocket | None":
        """The one it uses."""

    def admits(self, socket: "UdxSocket", source: tuple[str, int]) -> bool:
        """May a packet from there be taken, though the stream does not use that socket?"""

    def process(self, now: float) -> None:
        """Take what is in the inbox."""

    def flush(self, now: float) -> None:
        """Hand over what may leave."""


class StreamTable(Protocol):
    """All streams of an endpoint, as its sockets know them."""

    @property
    def streams(self) -> Mapping[int, SocketStream]:
        """By our id."""

    def haunt(self, socket: "UdxSocket", stream_id: int, kind: int, source: SocketAddress) -> bool:
        """Repeat the last words of a closed stream to a peer that missed them; false: there is no such."""


class UdxSocket:
    """A bound socket of an endpoint; made by ``UdxEndpoint.bind``."""

    def __init__(
        self, endpoint: StreamTable, system_socket: socket.socket, on_datagram: DatagramHandler | None
    ) -> None:
        self.endpoint = endpoint
        self.on_datagram = on_datagram
        self.closed = False
        self.refused = 0  # datagrams the system would not send
        self._socket = system_socket
        self._ipv6 = system_socket.family == socket.AF_INET6
        self._buffer = bytearray(DATAGRAM_SIZE)
        self._view = memoryview(self._buffer)
        self._touched: list[SocketStream] = []
        self._segments = sys.platform == "linux"
        # For good: datagrams the kernel has joined already would lose their size with the option.
        self._joins = self._ask_to_join()
        self._backlog: deque[tuple[list[bytes], SocketAddress]] = deque()
        self._stalled: list[SocketStream] = []  # have something to send, wait for the backlog
        self._blocked = trio.Event()

    @classmethod
    def bind(cls, endpoint: StreamTable, host: str, port: int, on_datagram: DatagramHandler | None) -> Self:
        """Bind a new socket to a literal address; port 0 lets the system choose.

        Raises: NetworkError with the system's reason.
        """
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        system_socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            system_socket.setblocking(False)
            if family == socket.AF_INET6:
                system_socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            system_socket.bind((host, port))
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                system_socket.setsockopt(socket.SOL_SOCKET, option, BUFFER_SIZE)
            if sys.platform == "linux":
                if family == socket.AF_INET6:
                    system_socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER, _PMTUDISC_PROBE)
                system_socket.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _PMTUDISC_PROBE)
        except OSError as error:
            system_socket.close()
            raise NetworkError(f"cannot use UDP {host} port {port}: {error.strerror or error}") from error
        return cls(endpoint, system_socket, on_datagram)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port it is bound to."""
        host, port, *_ = self._socket.getsockname()
        return host, port

    @property
    def overhead(self) -> int:
        """Bytes of all headers of a packet that leaves here."""
        return IPV6_OVERHEAD if self._ipv6 else IPV4_OVERHEAD

    @property
    def blocked(self) -> bool:
        """The kernel takes no more at present."""
        return bool(self._backlog)

    def resolve(self, host: str, port: int) -> SocketAddress:
        """A literal address in the form this socket uses."""
        if not self._ipv6:
            return host, port
        return host if ":" in host else f"::ffff:{host}", port, 0, 0

    def link_mtu(self, host: str, port: int) -> int:
        """Bytes of the largest packet that our link towards a literal address carries."""
        if sys.platform != "linux":
            return USUAL_MTU
        ipv6 = ":" in host
        family = socket.AF_INET6 if ipv6 else socket.AF_INET
        level, option = (socket.IPPROTO_IPV6, _IPV6_MTU) if ipv6 else (socket.IPPROTO_IP, _IP_MTU)
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect((host, port))
                return probe.getsockopt(level, option)
        except OSError:
            return USUAL_MTU

    def close(self) -> None:
        """Give the port back. Streams that use it should have been moved or closed."""
        if not self.closed:
            self.closed = True
            self._backlog.clear()
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            self._blocked.set()

    # ------------------------------------------------------------------ sending

    def send_datagram(self, datagram: bytes, address: tuple[str, int], *, ttl: int | None = None) -> None:
        """Send something that is no stream's, once, or lose it when the kernel is busy.

        Args: ttl: hops after which routers drop it; None is the usual number.
        """
        if self.closed:
            return
        level, option = socket.IPPROTO_IP, socket.IP_TTL
        if self._ipv6:
            level, option = socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS
        if ttl is not None:
            self._socket.setsockopt(level, option, ttl)
        try:
            self._socket.sendto(datagram, self.resolve(*address))
        except OSError:
            self.refused += 1
        finally:
            if ttl is not None:
                self._socket.setsockopt(level, option, TTL)

    def transmit(self, datagrams: list[bytes], address: SocketAddress) -> None:
        """Send a stream's datagrams in order; what the kernel does not take waits for it."""
        if self.closed:
            return
        sent = 0 if self._backlog else self._send(datagrams, address)
        if sent < len(datagrams):
            self._backlog.append((datagrams[sent:], address))
            self._blocked.set()

    def stall(self, stream: SocketStream) -> None:
        """The stream wants to send once the backlog is gone."""
        if stream not in self._stalled:
            self._stalled.append(stream)

    def _send(self, datagrams: list[bytes], address: SocketAddress) -> int:
        """Send until the kernel takes no more; returns how many it took or refused for good."""
        position, count = 0, len(datagrams)
        try:
            while position < count:
                stop = position + 1
                if self._segments and stop < count:
                    stop = _run_end(datagrams, position)
                if stop - position == 1 or not self._send_run(datagrams[position:stop], address):
                    stop = position + 1
                    self._send_one(datagrams[position], address)
                position = stop
        except BlockingIOError:
            pass
        return position

    def _send_one(self, datagram: bytes, address: SocketAddress) -> None:
        try:
            self._socket.sendto(datagram, address)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _LIKE_LOSS:
                raise
            self.refused += 1

    def _send_run(self, run: list[bytes], address: SocketAddress) -> bool:
        """Datagrams of one size, the last perhaps shorter, in one call. False: it can't be done so."""
        ancillary = [(_SOL_UDP, _UDP_SEGMENT, _SEGMENT.pack(len(run[0])))]
        try:
            self._socket.sendmsg(run, ancillary, 0, address)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.EMSGSIZE):
                return False  # too large for this way, most likely: each datagram finds out for itself
            if error.errno in (errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                self._segments = False
                return False
            if error.errno not in _LIKE_LOSS:
                raise
            self.refused += len(run)
        return True

    async def write_backlog(self) -> None:
        """Runs as long as the socket: sends what the kernel did not take at once."""
        while not self.closed:
            while self._backlog:
                try:
                    await trio.lowlevel.wait_writable(self._socket)
                except (OSError, trio.ClosedResourceError):
                    return
                datagrams, address = self._backlog.popleft()
                sent = self._send(datagrams, address)
                if sent < len(datagrams):
                    self._backlog.appendleft((datagrams[sent:], address))
            stalled, self._stalled = self._stalled, []
            for stream in stalled:
                stream.flush(trio.current_time())
            if not self._backlog:
                self._blocked = trio.Event()
                await self._blocked.wait()

    # ------------------------------------------------------------------ reading

    async def read(self) -> None:
        """Runs as long as the socket: reads, and lets the streams work."""
        while not self.closed:
            if self.drain():
                await trio.lowlevel.checkpoint()
                continue
            try:
                await trio.lowlevel.wait_readable(self._socket)
            except (OSError, trio.ClosedResourceError):
                return

    def drain(self) -> int:
        """Read what is there, up to ``MAX_READ``, and run the streams it is for; returns how many came."""
        count = 0
        receive, receive_joined = self._socket.recvfrom_into, self._socket.recvmsg_into
        buffer, buffers = self._buffer, [self._buffer]
        try:
            while count < MAX_READ and not self.closed:
                if self._joins:
                    size, ancillary, flags, address = receive_joined(buffers, _ANCILLARY_SIZE)
                    if flags & _MSG_TRUNC:
                        pass
                    elif ancillary:
                        self._take_joined(size, ancillary, address)
                    else:
                        self._take(0, size, address)
                else:
                    size, address = receive(buffer)
                    self._take(0, size, address)
                count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1  # the system tells of an earlier datagram that was refused somewhere
        if self._touched:
            touched, self._touched = self._touched, []
            now = trio.current_time()
            for stream in touched:
                stream.process(now)
        return count

    def _take_joined(
        self, size: int, ancillary: list[tuple[int, int, bytes]], address: SocketAddress
    ) -> None:
        """Hand out what the kernel has joined."""
        step = size
        for level, kind, value in ancillary:
            if level == _SOL_UDP and kind == _UDP_GRO:
                step = int.from_bytes(value, sys.byteorder) or size
        start = 0
        while start < size:
            stop = min(start + step, size)
            self._take(start, stop, address)
            start = stop
        if not size:
            self._take(0, 0, address)

    def _take(self, start: int, stop: int, address: SocketAddress) -> None:
        """Hand out the datagram that lies there in the buffer."""
        if stop - start >= HEADER_SIZE:
            header = HEADER.unpack_from(self._buffer, start)
            if header[0] == MARKER:
                stream = self.endpoint.streams.get(header[3])
                if stream is not None:
                    if stream.socket is not self and not stream.admits(self, _plain(address)):
                        return
                    inbox = stream.inbox
                    if not inbox:
                        self._touched.append(stream)
                    start += HEADER_SIZE
                    inbox.append((header, bytes(self._view[start:stop]) if start < stop else b"", address))
                    return
                if self.endpoint.haunt(self, header[3], header[1], address):
                    return
        if self.on_datagram is not None:
            self.on_datagram(bytes(self._view[start:stop]), _plain(address), self)

    def _ask_to_join(self) -> bool:
        if sys.platform != "linux":
            return False
        try:
            self._socket.setsockopt(_SOL_UDP, _UDP_GRO, 1)
        except OSError:
            return False
        return True


def _plain(address: SocketAddress) -> tuple[str, int]:
    return address[0].removeprefix("::ffff:"), address[1]


def _run_end(datagrams: list[bytes], start: int) -> int:
    """The end of the run that one call can send: equal sizes, only the last may be shorter."""
    size = len(datagrams[start])
    limit = min(len(datagrams), start + min(MAX_SEGMENTS, MAX_SEGMENTED // size))
    stop = start + 1
    while stop < limit:
        length = len(datagrams[stop])
        if length != size:
            return stop + 1 if length < size else stop
        stop += 1
    return stop
