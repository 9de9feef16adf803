"""What hostile clients do: each is refused or survived, and a player is served meanwhile."""

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import pytest
import trio

from p2prss.serve import server
from p2prss.units import MIB
from tests.fakes.memory_drive import MemoryFeed
from tests.serve.conftest import Client, StartServer

AUDIO: Final = random.Random(3).randbytes(8 << 20)
PART: Final = 100_000  # bytes of each request of the player
HOST: Final = "Host: localhost\r\n"
WAIT_SECONDS: Final = 20.0  # a busy machine is slow
QUIET_SECONDS: Final = 0.3  # after an answer, until no second one comes


class Target:
    """A running server with one show, and what is to be had there."""

    def __init__(self, client: Client, feed: MemoryFeed) -> None:
        self.client, self.feed = client, feed
        item_id = feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", AUDIO))[-20:-4]
        self.episode = f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3"

    def get(self, *headers: str, path: str | None = None, method: str = "GET") -> bytes:
        lines = "".join(f"{one}\r\n" for one in headers)
        return f"{method} {path or self.episode} HTTP/1.1\r\n{HOST}{lines}\r\n".encode()

    @asynccontextmanager
    async def playing(self) -> AsyncIterator[None]:
        """A player that goes on reading while the block runs, and must get all it asks for."""
        parts = 0

        async def play() -> None:
            nonlocal parts
            while True:
                start = parts * PART % (len(AUDIO) - PART)
                with trio.fail_after(WAIT_SECONDS):
                    reply = await self.client.request(self.episode, Range=f"bytes={start}-{start + PART - 1}")
                assert (reply.status, reply.body) == (206, AUDIO[start : start + PART])
                parts += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            yield
            enough = parts + 2
            with trio.fail_after(WAIT_SECONDS):
                while parts < enough:  # noqa: ASYNC110  (nobody tells)
                    await trio.sleep(0.01)
            nursery.cancel_scope.cancel()


@pytest.fixture
async def target(start_server: StartServer) -> Target:
    feed = MemoryFeed()
    return Target(await start_server(feed), feed)


async def ends(stream: trio.SocketStream) -> bytes:
    """All that comes until the server ends the connection."""
    data = b""
    with trio.fail_after(WAIT_SECONDS):
        try:
            while more := await stream.receive_some(65536):
                data += more
        except trio.BrokenResourceError:
            pass
    return data


async def answered(client: Client, raw: bytes) -> bytes:
    """All that comes for these bytes until the server ends the connection, or says nothing more."""
    data = b""
    async with await client.connect() as stream:
        try:
            await stream.send_all(raw)
            with trio.fail_after(WAIT_SECONDS):
                while True:
                    more = b""
                    with trio.move_on_after(QUIET_SECONDS if data else math.inf):
                        more = bytes(await stream.receive_some(65536))
                    if not more:
                        break
                    data += more
        except trio.BrokenResourceError:
            pass
        return data


async def at_once(count: int, attack: Callable[[int], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(count):
            nursery.start_soon(attack, number)


# Names and origins


@pytest.mark.parametrize(
    "host",
    [
        "rebound.example",
        "rebound.example:7737",
        "127.0.0.1.rebound.example",
        "localhost.rebound.example",
        "localhost@rebound.example",
        "localhost#rebound.example",
        "0.0.0.0",
        "2130706433",
        "0x7f000001",
        "127.0.0.1,rebound.example",
        "",
    ],
)
async def test_a_name_that_was_pointed_at_us(target: Target, host: str) -> None:
    for path in ("/", "/opml.xml", "/everything.xml", "/feeds/a-show/feed.xml", target.episode):
        reply = await target.client.request(path, Host=host, X_Forwarded_Host="localhost")
        assert reply.status in (400, 421)
        assert b"A show" not in reply.body
        assert "access-control-allow-origin" not in reply.headers


async def test_the_name_in_a_whole_address_counts_and_not_the_host(target: Target) -> None:
    evil = target.get(path="http://rebound.example/opml.xml")
    assert (await target.client.send(evil)).status == 421
    foreign = b"GET http://localhost/healthz HTTP/1.1\r\nHost: rebound.example\r\n\r\n"
    assert (await target.client.send(foreign)).text == "ok\n"
    assert (await target.client.send(target.get(path="http://localhost"))).status == 200
    for odd in (
        "gopher://localhost/healthz",
        "http:///healthz",
        "//localhost/healthz",
        "http://u@localhost/",
    ):
        assert (await target.client.send(target.get(path=odd))).status in (404, 421)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost.evil.example"])
async def test_a_foreign_page_reads_nothing_without_the_key(target: Target, origin: str) -> None:
    for path in ("/", "/opml.xml", "/everything.xml", "/feeds/a-show/feed.xml", "/static/page.css"):
        for method in ("GET", "OPTIONS"):
            reply = await target.client.request(
                path, method, Origin=origin, Access_Control_Request_Method="DELETE"
            )
            assert "access-control-allow-origin" not in reply.headers
            assert "access-control-allow-credentials" not in reply.headers
            assert reply.headers["cross-origin-resource-policy"] == "same-origin"
    preflight = await target.client.request(target.episode, "OPTIONS", Origin=origin)
    assert preflight.headers["access-control-allow-methods"] == "GET, HEAD, OPTIONS"


# Paths


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/%252e%252e%252fetc%252fpasswd",
        "/..\\..\\etc\\passwd",
        "/..%5c..%5cetc%5cpasswd",
        "/static/../app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/static/page.css%00.html",
        "/static/page.css/",
        "/static//etc/passwd",
        "/static/%c0%ae%c0%ae/app.py",
        "/feeds/{key}/../../opml.xml",
        "/feeds/{key}/assets/..%2f..%2fp2prss.json",
        "/feeds/{key}/assets/%2e%2e%2fp2prss.json",
        "/feeds/{key}/assets/{sha}.mp3%00",
        "/feeds/{key}/assets/{sha}.mp3%0d%0aX-Evil:%201",
        "/feeds/{key}/assets/{sha}.mp3/..",
        "/feeds/{key}/assets/{SHA}.mp3",
        "/feeds/{key}/episodes/../../p2prss.json",
        "/feeds/{key}/episodes/%2fetc%2fpasswd/1/x.mp3",
        "/feeds/{key}%00/feed.xml",
        "/feeds/..%2f{key}/feed.xml",
        "/FEEDS/{key}/feed.xml",
        "/feeds/{key}/feed.xml;/../x",
        "/feeds/{key}/p2prss.json",
        "/" + "a/" * 4000,
        "/%",
        "/%zz",
        "/%ff%fe",
        "*",
    ],
)
async def test_paths_lead_nowhere_else(target: Target, path: str) -> None:
    sha = next(one for one in target.feed.drive.files if one.startswith("/media/"))[10:74]
    asked = path.format(key=target.feed.key_text, sha=sha, SHA=sha.upper())
    reply = await target.client.send(target.get("Connection: close", path=asked))
    assert reply.status in (400, 404, 421)
    assert "x-evil" not in reply.headers
    assert len(reply.body) < 100


# Floods


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: y\r\n" % number for number in range(5000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 2_000_000,
        b"GET /" + b"a" * 2_000_000,
        b"G" * 2_000_000,
        b"GET / HTTP/1.1\r\n" + b"\r\n".join([b" folded"] * 10_000),
        b"\r\n" * 500_000,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
    ],
    ids=["headers", "a-header", "a-path", "a-method", "folds", "empty-lines", "tls"],
)
async def test_requests_without_end_are_cut_off(target: Target, raw: bytes) -> None:
    async with target.playing():

        async def flood(_: int) -> None:
            data = await answered(target.client, raw)
            assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 431"))
            assert len(data) < 1000

        await at_once(10, flood)


@pytest.mark.parametrize(
    "ranges",
    [
        "bytes=" + ",".join(["0-"] * 1000),
        "bytes=" + ",".join(f"{at}-{at}" for at in range(0, 2000, 2)),
        "bytes=" + ",".join(f"{at}-" for at in range(600)),
        "bytes=0-," + "," * 3000,
        "bytes=" + "9" * 10_000 + "-",
        "bytes=-" + "9" * 4000,
    ],
    ids=["all-of-it-often", "single-bytes", "overlapping", "commas", "long-start", "long-suffix"],
)
async def test_many_ranges_are_never_more_than_the_whole(target: Target, ranges: str) -> None:
    reply = await target.client.request(target.episode, Range=ranges)
    assert (reply.status, reply.headers["content-type"]) == (200, "audio/mpeg")
    assert reply.body == AUDIO


async def test_two_hundred_connections_at_once(target: Target) -> None:
    async def play(number: int) -> None:
        start = number * 40_000
        reply = await target.client.request(target.episode, Range=f"bytes={start}-{start + 39_999}")
        assert (reply.status, reply.body) == (206, AUDIO[start : start + 40_000])

    with trio.fail_after(60):
        await at_once(200, play)
        await target.feed.drive.wait_open_reads(0)


# Slow clients


async def test_headers_that_trickle_in_do_not_hold_a_connection(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.5)
    feed = MemoryFeed()
    target = Target(await start_server(feed), feed)
    ended = 0

    async def trickle(_: int) -> None:
        nonlocal ended
        async with await target.client.connect() as stream:
            try:
                for byte in target.get("X: " + "x" * 500)[:-4]:
                    await stream.send_all(bytes([byte]))
                    await trio.sleep(0.02)
            except trio.BrokenResourceError:
                ended += 1

    async with target.playing():
        with trio.fail_after(WAIT_SECONDS):
            await at_once(100, trickle)
    assert ended == 100


async def test_connections_that_say_nothing_do_not_shut_out_the_player(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 20)

    async def sit(number: int) -> None:
        async with await target.client.connect() as stream:
            await stream.send_all(target.get()[: number % 40])
            await ends(stream)

    async with trio.open_nursery() as nursery:
        async with target.playing():
            for number in range(100):
                nursery.start_soon(sit, number)
        nursery.cancel_scope.cancel()


async def test_clients_that_do_not_read_cost_little_and_stop_nobody(target: Target) -> None:
    async def stall(_: int) -> None:
        async with await target.client.connect() as stream:
            await stream.send_all(target.get())
            await trio.sleep_forever()

    before = target.feed.drive.read_bytes
    async with trio.open_nursery() as nursery:
        for number in range(100):
            nursery.start_soon(stall, number)
        with trio.fail_after(WAIT_SECONDS):
            await target.feed.drive.wait_open_reads(100)
        async with target.playing():
            await trio.sleep(0.2)
        # each has what the sockets take, and little more is read for it
        assert target.feed.drive.read_bytes - before < 100 * (len(AUDIO) - (1 << 20))
        nursery.cancel_scope.cancel()
    with trio.fail_after(WAIT_SECONDS):
        await target.feed.drive.wait_open_reads(0)


async def test_clients_that_hang_up_at_once_leave_nothing_behind(target: Target) -> None:
    async def hang_up(_: int) -> None:
        async with await target.client.connect() as stream:
            await stream.send_all(target.get() * 3)

    async with target.playing():
        await at_once(200, hang_up)
    with trio.fail_after(WAIT_SECONDS):
        await target.feed.drive.wait_open_reads(0)


# Bodies, and where one request ends


async def test_bodies_are_not_taken_in_and_hold_no_connection(target: Target) -> None:
    async def upload(number: int) -> None:
        method = ("POST", "PUT", "GET")[number % 3]
        is_chunked = number % 2 == 1
        length = "Transfer-Encoding: chunked" if is_chunked else "Content-Length: 99999999999"
        piece = b"10000\r\n" + bytes(65536) + b"\r\n" if is_chunked else bytes(65536)
        sent = 0
        async with await target.client.connect() as stream:
            with trio.fail_after(WAIT_SECONDS), suppress(trio.BrokenResourceError):
                await stream.send_all(target.get(length, method=method))
                while sent < 200 * MIB:
                    await stream.send_all(piece)
                    sent += len(piece)
        assert sent < 50 * MIB

    async with target.playing():
        await at_once(6, upload)


SMUGGLED: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "head",
    [
        b"Content-Length: %d\r\nTransfer-Encoding: chunked" % len(b"0\r\n\r\n" + SMUGGLED),
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Transfer-Encoding: identity\r\nContent-Length: 5",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: cow",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding:\x0bchunked",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: 5, 6",
        b"Content-Length: +5",
        b"Content-Length: 0x5",
        b"Content-Length: 5 5",
        b"Content-Length: -1",
        b"Content-Length : 5",
    ],
)
async def test_a_request_hidden_in_another_is_not_answered(target: Target, head: bytes) -> None:
    """Two ways to read where a body ends let a proxy and us see different requests."""
    for method in (b"GET", b"POST"):
        first = method + b" /healthz HTTP/1.1\r\nHost: localhost\r\n" + head + b"\r\n\r\n"
        data = await answered(target.client, first + b"0\r\n\r\n" + SMUGGLED)
        assert data == b"" or data.startswith((b"HTTP/1.1 400", b"HTTP/1.1 501"))
        assert data.count(b"HTTP/1.1 ") <= 1


@pytest.mark.parametrize(
    "body",
    [
        b"-1\r\n",
        b"0x5\r\nhello\r\n0\r\n\r\n",
        b"5;" + b"a" * 50_000,
        b"fffffffffffffffff\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
    ],
)
async def test_broken_chunks_end_the_connection(target: Target, body: bytes) -> None:
    first = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = await answered(target.client, first + body + SMUGGLED)
    assert data.count(b"HTTP/1.1 200") <= 1


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /healthz HTTP/1.1\nHost: rebound.example\nX: y\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\rHost: rebound.example\r\n\r\n",
        b"GET /healthz\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz evil HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_odd_requests_are_refused(target: Target, raw: bytes) -> None:
    data = await answered(target.client, raw)
    assert b"HTTP/1.1 200" not in data
    assert data.count(b"HTTP/1.1 ") <= 1
