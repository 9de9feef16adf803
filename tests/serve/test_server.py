"""The server around the application: addresses, limits, and how it ends."""

import random
import socket
from functools import partial

import pytest
import trio
import trio.testing

from p2prss.serve import server
from p2prss.serve.app import create_app
from p2prss.serve.server import bind_tcp, serve_http
from tests.fakes.memory_drive import MemoryFeed, MemoryLibrary, Trouble
from tests.serve.conftest import StartServer, read_reply

ASK = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


def big_show(byte_length: int) -> tuple[MemoryFeed, bytes]:
    """A show with one large episode, and the request for it."""
    feed = MemoryFeed()
    item_id = feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", bytes(byte_length)))[-20:-4]
    path = f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3"
    return feed, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


async def test_port_0_gives_the_real_address_on_every_family() -> None:
    sockets = bind_tcp("localhost", 0)
    ports = {one.getsockname()[1] for one in sockets}
    assert len(ports) == 1
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(serve_http, create_app(MemoryLibrary()), sockets)
        assert {port for _, port in addresses} == ports != {0}
        for host, port in addresses:
            async with await trio.open_tcp_stream(host, port) as stream:
                await stream.send_all(ASK)
                assert (await read_reply(stream)).text == "ok\n"
        nursery.cancel_scope.cancel()


def test_an_address_in_use_is_an_error_and_leaves_no_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        bind_tcp("127.0.0.1", taken.getsockname()[1])


async def test_the_server_does_not_name_itself(start_server: StartServer) -> None:
    assert "server" not in (await (await start_server()).send(ASK)).headers


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
    ],
)
async def test_broken_requests_are_400(start_server: StartServer, raw: bytes) -> None:
    assert (await (await start_server()).send(raw)).status == 400


async def test_headers_have_a_largest_size(start_server: StartServer) -> None:
    client = await start_server()
    raw = b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * server.MAX_HEADER_BYTES
    assert (await client.send(raw)).status == 431


async def test_slow_headers_are_not_waited_for(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "KEEP_ALIVE_SECONDS", 0.05)
    client = await start_server()
    async with await client.connect() as stream:
        await stream.send_all(ASK[:10])
        with trio.fail_after(5):
            assert await stream.receive_some(10) == b""


async def test_too_many_connections_are_turned_away(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    feed, ask = big_show(64 << 20)
    client = await start_server(feed)
    async with await client.connect() as first:
        await first.send_all(ask)
        await feed.drive.wait_open_reads(1)
        async with await client.connect() as second:
            assert await second.receive_some(10) == b""
        assert await first.receive_some(10) == b"HTTP/1.1 2"


async def test_when_there_are_too_many_the_idle_give_way(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 3)
    client = await start_server()
    async with (
        await client.connect() as answered,
        await client.connect() as half,
        await client.connect() as new,
    ):
        await answered.send_all(ASK)
        await read_reply(answered)
        await half.send_all(ASK[:10])
        await trio.testing.wait_all_tasks_blocked()
        async with await client.connect() as fourth, await client.connect() as fifth:
            await fourth.send_all(ASK)
            await fifth.send_all(ASK)
            assert (await read_reply(fourth)).status == (await read_reply(fifth)).status == 200
            assert await half.receive_some(10) == await new.receive_some(10) == b""
            await answered.send_all(ASK)
            assert (await read_reply(answered)).status == 200


async def test_when_there_are_too_many_those_who_do_not_read_give_way(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 1)
    monkeypatch.setattr(server, "STALLED_SECONDS", 0.0)
    feed, ask = big_show(64 << 20)
    client = await start_server(feed)
    async with await client.connect() as first:
        await first.send_all(ask)
        await feed.drive.wait_open_reads(1)
        await trio.sleep(0.05)
        assert (await client.send(ASK)).text == "ok\n"
        await feed.drive.wait_open_reads(0)


async def test_http_2_and_websockets_are_not_spoken(start_server: StartServer) -> None:
    client = await start_server()
    upgrade = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\n"
    h2c = upgrade + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA\r\n\r\n"
    assert (await client.send(h2c)).text == "ok\n"
    websocket = (
        b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    assert (await client.send(websocket)).status == 403
    async with await client.connect() as stream:
        await stream.send_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(64))
        with trio.fail_after(5):
            assert not (await stream.receive_some(100)).startswith(b"\x00\x00")
    assert (await client.send(ASK)).status == 200


async def test_a_client_that_stops_reading_is_given_up(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "SEND_STALL_SECONDS", 0.1)
    feed, ask = big_show(64 << 20)
    client = await start_server(feed)
    async with await client.connect() as stream:
        await stream.send_all(ask)
        with trio.fail_after(5):
            await feed.drive.wait_open_reads(1)
            await feed.drive.wait_open_reads(0)


# The end


async def test_shutdown_lets_a_running_answer_finish_and_takes_no_new_one() -> None:
    data = random.Random(1).randbytes(200_000)
    feed = MemoryFeed()
    item_id = feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", data))[-20:-4]
    path = f"/feeds/{feed.key_text}/episodes/{item_id}/1/2024-01-31-{item_id}.mp3"
    shutdown = trio.Event()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(_serve, feed, shutdown)
        stored = next(one for one in feed.drive.files if one.startswith("/media/"))
        trouble = feed.drive.troubles[stored] = Trouble(at=100_000, wait=True)
        trouble.resume = trio.Event()
        stream, idle = (
            await trio.open_tcp_stream("127.0.0.1", port),
            await trio.open_tcp_stream("127.0.0.1", port),
        )
        await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        first = await stream.receive_some(10)
        shutdown.set()
        with trio.fail_after(1):
            assert await idle.receive_some(10) == b""
        with pytest.raises(OSError, match="connect"):
            await trio.open_tcp_stream("127.0.0.1", port)
        trouble.resume.set()
        rest = [bytes(part) async for part in stream]
        assert (first + b"".join(rest)).endswith(data)
        await stream.aclose()
        await idle.aclose()


async def test_shutdown_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_SECONDS", 0.1)
    await _ends_although_a_client_does_not_read(graceful=True)


async def test_cancelling_ends_at_once_even_while_a_client_does_not_read() -> None:
    await _ends_although_a_client_does_not_read(graceful=False)


async def _ends_although_a_client_does_not_read(*, graceful: bool) -> None:
    feed, ask = big_show(64 << 20)
    shutdown = trio.Event()
    with trio.fail_after(2):
        async with trio.open_nursery() as nursery:
            port = await nursery.start(_serve, feed, shutdown)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            await stream.send_all(ask)
            await stream.receive_some(10)
            await trio.sleep(0.05)
            if graceful:
                shutdown.set()
            else:
                nursery.cancel_scope.cancel()
    assert feed.drive.open_reads == 0
    await stream.aclose()


async def _serve(feed: MemoryFeed, shutdown: trio.Event, task_status: trio.TaskStatus[int]) -> None:
    app = create_app(MemoryLibrary([feed]))
    async with trio.open_nursery() as nursery:
        serve = partial(serve_http, shutdown=shutdown)
        task_status.started((await nursery.start(serve, app, bind_tcp("127.0.0.1", 0)))[0][1])
