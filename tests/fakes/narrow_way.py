"""A TCP way to a peer that counts what it carries, and can be narrow, or end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio

PIECE = 16 * 1024  # bytes carried at once


class NarrowWay:
    """``port`` leads to somebody else's; ``carried`` bytes came back from there."""

    def __init__(self, port: int, target: int, bytes_per_second: float | None) -> None:
        self.port = port
        self.carried = 0
        self._target = target
        self._rate = bytes_per_second
        self._moved = trio.Event()
        self._open: set[trio.SocketStream] = set()
        self._is_broken = False

    async def carry(self, client: trio.SocketStream) -> None:
        if self._is_broken:
            await trio.aclose_forcefully(client)
            return
        async with client:
            with suppress(OSError):
                async with await trio.open_tcp_stream("127.0.0.1", self._target) as server:
                    self._open |= {client, server}
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._copy, client, server, False)
                        await self._copy(server, client, True)
                        nursery.cancel_scope.cancel()
                    self._open -= {client, server}

    async def wait_carried(self, count: int) -> None:
        """Wait until so many bytes have come back."""
        while self.carried < count:
            await self._moved.wait()

    async def break_off(self) -> None:
        """End all there is, and lead nowhere until ``mend``."""
        self._is_broken = True
        for stream in list(self._open):
            await trio.aclose_forcefully(stream)

    def mend(self) -> None:
        """Lead there again."""
        self._is_broken = False

    async def _copy(self, source: trio.SocketStream, sink: trio.SocketStream, counts: bool) -> None:
        try:
            while data := await source.receive_some(PIECE):
                if counts and self._rate:
                    await trio.sleep(len(data) / self._rate)
                await sink.send_all(data)
                if counts:
                    self.carried += len(data)
                    self._moved.set()
                    self._moved = trio.Event()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass


@asynccontextmanager
async def narrow_way(target: int, bytes_per_second: float | None = None) -> AsyncIterator[NarrowWay]:
    """A way to a port of this machine, open until the block ends."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    way = NarrowWay(listener.socket.getsockname()[1], target, bytes_per_second)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio.serve_listeners, way.carry, [listener], handler_nursery=nursery))
        yield way
        nursery.cancel_scope.cancel()
