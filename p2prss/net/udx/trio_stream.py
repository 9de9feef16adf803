"""A UDX stream for trio: what ``p2prss.net.link.Link`` runs on, like on a TCP connection."""

from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, Protocol

import trio

from p2prss.codec.compact import Buffer
from p2prss.errors import LocalProtocolError
from p2prss.net.udx.events import CloseReason, Event, MessageReceived
from p2prss.net.udx.packet import Header
from p2prss.net.udx.socket import SocketAddress, UdxSocket
from p2prss.net.udx.stream import UdxStream
from p2prss.units import KIB

READ_SIZE: Final = 64 * KIB  # bytes, when the reader does not say
MAX_MESSAGES: Final = 64  # unordered messages waiting; the oldest are dropped
LINGER_SECONDS: Final = 15.0  # after ``aclose``, for what is queued to arrive and the peer to end

Firewall = Callable[[UdxSocket, tuple[str, int]], bool]
"""Asked for each packet that comes to another socket than the stream's: (socket, (host, port)) -> take it?"""


class Keeper(Protocol):
    """Who looks after streams: their endpoint, as they know it."""

    def arm(self, stream: "UdxTrioStream") -> None:
        """Look at the stream when its deadline comes."""

    def forget(self, stream: "UdxTrioStream", now: float) -> None:
        """The stream is over."""


class UdxTrioStream(trio.abc.HalfCloseableStream):
    """One stream of an endpoint; made by ``UdxEndpoint.create_stream``.

    Errors: ``trio.BrokenResourceError`` when the peer reset the stream or was silent for too long,
    ``trio.ClosedResourceError`` after ``aclose`` and ``destroy``.
    """

    def __init__(self, keeper: Keeper, machine: UdxStream[SocketAddress], firewall: Firewall | None) -> None:
        self.machine = machine
        self.socket: UdxSocket | None = None
        self.inbox: list[tuple[Header, bytes, SocketAddress | None]] = []  # filled by the socket
        self.armed_at = inf  # when the endpoint's timer looks at us
        self.messages: deque[bytes] = deque(maxlen=MAX_MESSAGES)
        self._keeper = keeper
        self._firewall = firewall
        self._linger_until = inf
        self._arrived = trio.Event()  # bytes, messages, the end, or another address
        self._writable = trio.Event()
        self._closed = trio.Event()
        self._sending = self._receiving = self._abandoned = False

    @property
    def stream_id(self) -> int:
        """What the peer must put into its packets."""
        return self.machine.stream_id

    @property
    def close_reason(self) -> CloseReason | None:
        """Why the stream is over, once it is."""
        return self.machine.close_reason

    @property
    def lingering(self) -> bool:
        """Closed by us, but something is still on its way."""
        return self._abandoned and not self.machine.closed

    # --------------------------------------------------------------- connecting

    def connect(self, socket: UdxSocket, remote_id: int, address: tuple[str, int]) -> None:
        """Say where the peer is: its stream's id and (host, port), host a literal address."""
        now = trio.current_time()
        place, size = socket.resolve(*address), socket.link_mtu(*address)
        self.machine.connect(remote_id, place, now, overhead=socket.overhead, link_mtu=size)
        self.socket = socket
        self.flush(now)

    def change_remote(self, socket: UdxSocket, remote_id: int, address: tuple[str, int]) -> None:
        """Go on over another way."""
        now = trio.current_time()
        place, size = socket.resolve(*address), socket.link_mtu(*address)
        self.machine.change_remote(remote_id, place, now, overhead=socket.overhead, link_mtu=size)
        self.socket = socket
        self.flush(now)

    async def wait_remote_changed(self) -> None:
        """Until everything sent to the address before is acknowledged, or the stream is over."""
        while self.machine.migrating and not self.machine.closed:
            await self._wait_arrived()

    def admits(self, socket: UdxSocket, source: tuple[str, int]) -> bool:
        """May a packet from there be taken, though the stream does not use that socket?"""
        return self._firewall is not None and self._firewall(socket, source)

    # ------------------------------------------------------------------ writing

    async def send_all(self, data: Buffer) -> None:
        """Queue the bytes; waits first while too much is queued."""
        await self._wait_writable()
        try:
            self.machine.send(data if isinstance(data, bytes) else bytes(data))
        except LocalProtocolError as error:
            raise trio.ClosedResourceError(str(error)) from error
        self.flush(trio.current_time())

    async def wait_send_all_might_not_block(self) -> None:
        """Until ``send_all`` would queue at once."""
        await self._wait_writable()

    async def send_eof(self) -> None:
        """Nothing more will be sent; receiving goes on."""
        await trio.lowlevel.checkpoint()
        self._check_open()
        self.machine.end()
        self.flush(trio.current_time())

    def send_message(self, data: bytes) -> None:
        """Send an unordered message, once; it may get lost."""
        self.machine.send_message(data)
        self.flush(trio.current_time())

    async def _wait_writable(self) -> None:
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            await trio.lowlevel.checkpoint()
            self._check_open()
            while not self.machine.writable:
                self._writable = trio.Event()
                await self._writable.wait()
                self._check_open()
        finally:
            self._sending = False

    # ------------------------------------------------------------------ reading

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """What has arrived, up to ``max_bytes``; empty after the peer's end."""
        if self._receiving:
            raise trio.BusyResourceError("another task is receiving on this stream")
        self._receiving = True
        try:
            await trio.lowlevel.checkpoint()
            while True:
                if self._abandoned:
                    raise trio.ClosedResourceError
                data = self.machine.read(READ_SIZE if max_bytes is None else max_bytes)
                if data:
                    if self.machine.receiver.update_due:
                        self.flush(trio.current_time())
                    return data
                if self.machine.receiver.ended:
                    return b""
                self._check_open()
                await self._wait_arrived()
        finally:
            self._receiving = False

    async def peek(self, size: int) -> bytes:
        """Wait for the first ``size`` bytes and leave them to be read; fewer when the peer ends before.

        Errors are those of ``receive_some``, of which none may wait meanwhile.
        """
        await trio.lowlevel.checkpoint()
        while self.machine.receiver.unread_bytes < size and not self.machine.receiver.ended:
            self._check_open()
            await self._wait_arrived()
        return self.machine.receiver.peek(size)

    async def _wait_arrived(self) -> None:
        if self._arrived.is_set():
            self._arrived = trio.Event()
        await self._arrived.wait()

    # ------------------------------------------------------------------ closing

    async def aclose(self) -> None:
        """Send what is queued and our end in the background; what still arrives is thrown away."""
        self.close()
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        """``aclose`` for those who can't wait."""
        if self._abandoned:
            return
        self._abandoned = True
        if self.socket is None:
            self.machine.destroy()
        elif not self.machine.closed:
            self._linger_until = trio.current_time() + LINGER_SECONDS
            self.machine.end()
        self._let_go()

    def destroy(self) -> None:
        """Close at once, whatever is queued, and tell the peer."""
        self._abandoned = True
        self.machine.destroy()
        self._let_go()

    async def wait_closed(self) -> CloseReason:
        """Until the stream is over, in both directions."""
        while self.machine.close_reason is None:
            await self._closed.wait()
        return self.machine.close_reason

    def _let_go(self) -> None:
        self.machine.discard()
        self.flush(trio.current_time())
        self._arrived.set()
        self._writable.set()

    def _check_open(self) -> None:
        if self._abandoned:
            raise trio.ClosedResourceError
        reason = self.machine.close_reason
        if reason is not None:
            raise trio.BrokenResourceError(f"the stream is over: {reason.value}")

    # -------------------------------------------- for the socket and the endpoint

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` is to be called."""
        return min(self.machine.deadline, self._linger_until)

    def process(self, now: float) -> None:
        """Take what the socket put into the inbox."""
        inbox, self.inbox = self.inbox, []
        self._handle(self.machine.receive_batch(inbox, now))
        self.flush(now)

    def handle_timer(self, now: float) -> None:
        """The deadline has passed."""
        self._handle(self.machine.handle_timer(now))
        if now >= self._linger_until:
            self.machine.destroy()
        self.flush(now)

    def flush(self, now: float) -> None:
        """Hand what may leave to the socket."""
        machine = self.machine
        if self.socket is not None:
            if self.socket.blocked and not machine.closed:
                self.socket.stall(self)
                return
            datagrams = machine.data_to_send(now)
            if datagrams and machine.remote is not None:
                self.socket.transmit(datagrams, machine.remote.address)
        if machine.closed:
            self._keeper.forget(self, now)
            self._arrived.set()
            self._writable.set()
            self._closed.set()
            return
        self._keeper.arm(self)
        if machine.writable:
            self._writable.set()

    def _handle(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, MessageReceived):
                self.messages.append(event.data)
        if events:
            self._arrived.set()
