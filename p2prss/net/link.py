"""One connection to one peer: the only code that reads from and writes to its stream.

The ``Connection`` machine decides everything about the bytes, the handler everything about their
meaning. One task reads, one writes; the reader never waits for the writer, so that two peers that
fetch from each other can't block one another. What a peer can make us hold is bounded by the
machine (spec/04-connection, "Memory"), what all of them can by the exchange.
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf
from typing import Final, Protocol

import trio

from p2prss.codec.compact import Buffer
from p2prss.errors import NetworkError, P2prssError, RemoteProtocolError
from p2prss.units import KIB
from p2prss.wire.connection import KEEP_ALIVE_SECONDS, MAX_QUEUED_BYTES, Connection, Event

READ_SIZE: Final = 512 * KIB  # bytes asked of the stream at once
WRITE_SIZE: Final = 256 * KIB  # bytes of small frames joined into one write

Handler = Callable[[list[Event]], None]


class Sender(Protocol):
    """Somebody who sends much on a link, and wants to know when more may follow."""

    def written(self, peer: int, queued_bytes: int) -> None:
        """So many bytes are still waiting on the peer's link."""


class Link:
    """A running connection. ``close`` may be called at any time, from any task."""

    def __init__(self, stream: trio.abc.Stream, connection: Connection, label: str) -> None:
        self.connection = connection
        self.label = label
        self.bytes_received = 0
        self.bytes_sent = 0
        self._stream = stream
        self._writing = 0  # bytes handed to the writer and not written yet
        self._senders: dict[int, Sender] = {}  # by peer number
        self._wake = trio.Event()
        self._scope = trio.CancelScope()
        self._error: P2prssError | None = None

    @property
    def queued_bytes(self) -> int:
        """Bytes that wait to be written."""
        return self.connection.queued_bytes + self._writing

    @property
    def held_bytes(self) -> int:
        """Bytes of memory that the peer makes us use now."""
        return self.connection.held_bytes + self._writing

    @property
    def ending(self) -> bool:
        """Whether it was closed by us; its tasks may still have to notice."""
        return self._scope.cancel_called

    def flush(self, sender: Sender | None = None, peer: int = 0) -> None:
        """Have everything written that was sent since the last call.

        ``sender.written(peer, queued_bytes)`` is called as the bytes go out, until all have.
        """
        if self.queued_bytes > MAX_QUEUED_BYTES:
            self.close(RemoteProtocolError(f"{self.label} does not read", reason="does-not-read"))
        if sender is not None:
            self._senders[peer] = sender
        self._wake.set()

    def close(self, error: P2prssError | None = None) -> None:
        """End the connection; ``run`` then raises the first error that was given."""
        self._error = self._error or error
        self._scope.cancel()

    async def run(self, handle: Handler) -> None:
        """Serve until either side ends it; ``handle`` gets the machine's events as they come.

        Raises: RemoteProtocolError when the peer broke the rules, NetworkError when the connection
            broke, or the error given to ``close``.
        """
        try:
            with self._scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._end_with_error, self._write)
                    nursery.start_soon(self._end_with_error, self._keep_time, handle)
                    await self._end_with_error(self._read, handle)
                    nursery.cancel_scope.cancel()
        finally:
            await trio.aclose_forcefully(self._stream)
        if self._error is not None:
            raise self._error

    async def _end_with_error(self, task: Callable[..., Awaitable[None]], *arguments: Handler) -> None:
        """Run one of the tasks; its error becomes the link's, whichever task met it."""
        try:
            await task(*arguments)
        except RemoteProtocolError as error:
            self.close(error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self.close(NetworkError(f"connection to {self.label} broke"))

    async def _read(self, handle: Handler) -> None:
        while not self.connection.closed:
            data = await self._stream.receive_some(READ_SIZE)
            if not data or self.connection.closed:  # a timer may have closed it in the same moment
                return
            self.bytes_received += len(data)
            handle(self.connection.receive(data, trio.current_time()))
            self.flush()

    async def _keep_time(self, handle: Handler) -> None:
        """Fire the machine's timers: keep-alives go out, silence is noticed."""
        while self.connection.deadline < inf:
            # A deadline may come nearer while we sleep: that of the handshake gives way to a keep-alive's.
            soon = trio.current_time() + KEEP_ALIVE_SECONDS
            await trio.sleep_until(min(self.connection.deadline, soon))
            handle(self.connection.handle_timer(trio.current_time()))
            self.flush()

    async def _write(self) -> None:
        """The one task that sends."""
        while True:
            frames = self.connection.data_to_send()
            if not frames:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            await self._send(frames)

    async def _send(self, frames: "Sequence[Buffer]") -> None:
        """Write frames in order: small ones joined, so that each costs no system call of its own."""
        batch: list[Buffer] = []
        size = 0
        self._writing = sum(map(len, frames))
        for number, frame in enumerate(frames, 1):
            batch.append(frame)
            size += len(frame)
            if size >= WRITE_SIZE or number == len(frames):
                await self._stream.send_all(batch[0] if len(batch) == 1 else b"".join(batch))
                self.bytes_sent += size
                self._writing -= size
                batch, size = [], 0
                self._tell_senders()

    def _tell_senders(self) -> None:
        queued = self.queued_bytes
        senders = list(self._senders.items())
        if not queued:
            self._senders.clear()
        for peer, sender in senders:
            sender.written(peer, queued)
