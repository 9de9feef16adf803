"""A running server on loopback, and a client that shows every byte."""

import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import brotli  # type: ignore[import-untyped]  # it has no stubs
import pytest
import trio

from p2prss.serve.actions import HomeActions
from p2prss.serve.app import create_app
from p2prss.serve.library import ServeSettings
from p2prss.serve.server import bind_tcp, serve_http
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary


@dataclass
class Reply:
    """An answer as it came; ``body`` ends where the connection or its promised length did."""

    status: int
    headers: dict[str, str]
    body: bytes = field(repr=False)

    @property
    def is_whole(self) -> bool:
        return len(self.body) == int(self.headers["content-length"])

    @property
    def text(self) -> str:
        match self.headers.get("content-encoding"):
            case None:
                return self.body.decode()
            case "gzip":
                return gzip.decompress(self.body).decode()
            case "br":
                return bytes(brotli.decompress(self.body)).decode()
            case other:
                raise AssertionError(f"unknown coding {other}")


@dataclass
class Client:
    """Speaks raw HTTP/1.1 to the server, one connection for each request."""

    port: int
    library: MemoryLibrary

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream("127.0.0.1", self.port)

    async def send(self, raw: bytes, *, has_body: bool = True) -> Reply:
        """Any bytes, and the first answer to them."""
        async with await self.connect() as stream:
            await stream.send_all(raw)
            reply = await read_reply(stream, has_body=has_body)
            if reply.headers.get("connection") == "close":
                with trio.fail_after(2):
                    assert await stream.receive_some(1) == b"", "more than was promised"
            return reply

    async def request(self, path: str, method: str = "GET", **headers: str) -> Reply:
        """A request; ``_`` in a header's name stands for ``-``."""
        lines = {"Host": f"127.0.0.1:{self.port}", "Connection": "close"}
        lines |= {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode(), has_body=method != "HEAD")


async def read_reply(stream: trio.abc.ReceiveStream, *, has_body: bool = True) -> Reply:
    data = b""
    while b"\r\n\r\n" not in data:
        more = bytes(await stream.receive_some(65536))
        assert more, f"the connection ended within the headers: {data!r}"
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    assert len(headers) == len(lines), f"a header twice: {lines}"
    chunks = [body]
    missing = int(headers.get("content-length", 0)) - len(body) if has_body else 0
    while missing > 0:
        try:
            more = bytes(await stream.receive_some(65536))
        except trio.BrokenResourceError:
            break
        if not more:
            break
        chunks.append(more)
        missing -= len(more)
    return Reply(int(status.split()[1]), headers, b"".join(chunks))


StartServer = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start_server() -> AsyncIterator[StartServer]:
    """``await start_server(feed, ...)`` serves these feeds; the rest is as for the application."""
    async with trio.open_nursery() as nursery:

        async def start(
            *feeds: MemoryFeed, settings: ServeSettings | None = None, actions: HomeActions | None = None
        ) -> Client:
            library = MemoryLibrary(list(feeds))
            app = create_app(library, settings, actions)
            addresses = await nursery.start(serve_http, app, bind_tcp("127.0.0.1", 0))
            return Client(addresses[0][1], library)

        yield start
        nursery.cancel_scope.cancel()
