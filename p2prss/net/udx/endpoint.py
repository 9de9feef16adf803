"""All UDX streams of a node: one table of ids over all its sockets, their clock, and their ghosts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from heapq import heappop, heappush
from math import inf
from secrets import randbits
from typing import Final, Self

import trio

from p2prss.errors import NetworkError
from p2prss.net.udx.ghosts import Ghosts
from p2prss.net.udx.receiving import RECEIVE_WINDOW
from p2prss.net.udx.socket import DatagramHandler, SocketAddress, UdxSocket
from p2prss.net.udx.stream import UdxStream
from p2prss.net.udx.trio_stream import Firewall, UdxTrioStream

MAX_STREAMS: Final = 8192  # a resting one takes some KiB, a hostile one up to two receive windows
LATE_SECONDS: Final = 0.05  # a timer so late has to hear first what came meanwhile


class UdxEndpoint:
    """Use: ``async with UdxEndpoint.open() as endpoint``; all streams end with the block."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.streams: dict[int, UdxTrioStream] = {}  # by our id
        self.sockets: list[UdxSocket] = []
        self._nursery = nursery
        self._ghosts: Ghosts[SocketAddress] = Ghosts()
        self._armed: list[tuple[float, int]] = []  # heap of (deadline, stream id), some of them stale
        self._timer = trio.CancelScope()

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator[Self]:
        """An endpoint without sockets, whose tasks live as long as the block."""
        async with trio.open_nursery() as nursery:
            endpoint = cls(nursery)
            nursery.start_soon(endpoint._keep_time)
            try:
                yield endpoint
            finally:
                endpoint._close()
                nursery.cancel_scope.cancel()

    def bind(self, host: str, port: int, on_datagram: DatagramHandler | None = None) -> UdxSocket:
        """A new socket. Datagrams that are no stream's go to ``on_datagram``.

        Raises: NetworkError when the address can't be had.
        """
        socket = UdxSocket.bind(self, host, port, on_datagram)
        self.sockets = [other for other in self.sockets if not other.closed] + [socket]
        self._nursery.start_soon(socket.read)
        self._nursery.start_soon(socket.write_backlog)
        return socket

    def create_stream(
        self, *, firewall: Firewall | None = None, window: int = RECEIVE_WINDOW
    ) -> UdxTrioStream:
        """A stream with a random id, which the peer must be told; ``connect`` it once the peer's is known.

        Args: firewall: says whether to take packets that come to other sockets than the stream's, and all
            of them while it has none; without a firewall they are not taken. window: bytes it may hold that
            nobody has read yet.
        Raises: NetworkError when there are too many.
        """
        if len(self.streams) >= MAX_STREAMS:
            raise NetworkError(f"more than {MAX_STREAMS} streams")
        stream_id = randbits(32)
        while stream_id in self.streams or stream_id in self._ghosts:
            stream_id = randbits(32)
        machine: UdxStream[SocketAddress] = UdxStream(stream_id, trio.current_time(), window=window)
        stream = UdxTrioStream(self, machine, firewall)
        self.streams[stream_id] = stream
        return stream

    async def drain(self, seconds: float) -> None:
        """Give closed streams time to bring across what they have queued."""
        with trio.move_on_after(seconds):
            for stream in [stream for stream in self.streams.values() if stream.lingering]:
                await stream.wait_closed()

    # ------------------------------------------------- for streams and sockets

    def arm(self, stream: UdxTrioStream) -> None:
        """Look at the stream when its deadline comes."""
        deadline = stream.deadline
        if deadline < stream.armed_at:
            stream.armed_at = deadline
            heappush(self._armed, (deadline, stream.stream_id))
            if deadline < self._timer.deadline:
                self._timer.deadline = deadline

    def forget(self, stream: UdxTrioStream, now: float) -> None:
        """The stream is over."""
        if self.streams.get(stream.stream_id) is not stream:
            return
        del self.streams[stream.stream_id]
        machine = stream.machine
        if machine.last_words is not None and machine.remote is not None:
            self._ghosts.add(stream.stream_id, machine.last_words, machine.remote.address, now)

    def haunt(self, socket: UdxSocket, stream_id: int, kind: int, source: SocketAddress) -> bool:
        """Repeat the last words of a closed stream to a peer that missed them; false: there is no such."""
        if stream_id not in self._ghosts:
            return False
        answer = self._ghosts.answer(stream_id, kind, source, trio.current_time())
        if answer is not None:
            socket.transmit([answer], source)
        return True

    async def _keep_time(self) -> None:
        while True:
            with trio.CancelScope() as self._timer:
                self._timer.deadline = self._armed[0][0] if self._armed else inf
                await trio.sleep_forever()
            self._run_timers(trio.current_time())

    def _run_timers(self, now: float) -> None:
        armed = self._armed
        if armed and now - armed[0][0] > LATE_SECONDS:
            for socket in self.sockets:
                socket.drain()
        while armed and armed[0][0] <= now:
            at, stream_id = heappop(armed)
            stream = self.streams.get(stream_id)
            if stream is None or stream.armed_at != at:
                continue
            stream.armed_at = inf
            if stream.deadline <= now:
                stream.handle_timer(now)
            else:
                self.arm(stream)

    def _close(self) -> None:
        for stream in list(self.streams.values()):
            stream.destroy()
        for socket in self.sockets:
            socket.close()
