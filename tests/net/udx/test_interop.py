"""UDX against the reference in a process of its own, on loopback and through a relay that loses packets."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio

from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.events import CloseReason
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream
from tests.net.udx.js_udx import AVAILABLE, JsUdx, LossyRelay

pytestmark = [
    pytest.mark.interop,
    pytest.mark.skipif(not AVAILABLE, reason="needs node and the reference's packages"),
]


@asynccontextmanager
async def both() -> AsyncIterator[tuple[JsUdx, UdxSocket]]:
    with trio.fail_after(60):
        async with JsUdx.open() as js, UdxEndpoint.open() as endpoint:
            yield js, endpoint.bind("127.0.0.1", 0)


async def connect(js: JsUdx, socket: UdxSocket, relay: LossyRelay | None = None) -> tuple[int, UdxTrioStream]:
    """A stream of each side, connected; gives the reference's id."""
    there = await js.do("stream")
    number, port = there["stream"], there["port"]
    stream = socket.endpoint.create_stream()
    near = socket.address[1]
    if relay is not None:
        relay.targets = [("127.0.0.1", near), ("127.0.0.1", port)]
        near, port = relay.ports[1], relay.ports[0]
    await js.do("connect", stream=number, remote=stream.stream_id, port=near)
    stream.connect(socket, number, ("127.0.0.1", port))
    return number, stream


async def read(stream: UdxTrioStream, size: int) -> tuple[int, str]:
    digest, count = hashlib.sha256(), 0
    while count < size and (chunk := await stream.receive_some(1 << 20)):
        digest.update(chunk)
        count += len(chunk)
    return count, digest.hexdigest()


async def test_64_mib_each_way() -> None:
    size = 64 << 20
    async with both() as (js, socket):
        number, stream = await connect(js, socket)
        chunk = Random(1).randbytes(1 << 20)
        digest = hashlib.sha256()
        for _ in range(64):
            digest.update(chunk)
            await stream.send_all(chunk)
        await stream.send_eof()
        report = await js.do("wait", stream=number, **{"for": "end"})
        assert (report["bytes"], report["sha256"]) == (size, digest.hexdigest())
        async with trio.open_nursery() as nursery:
            received: list[tuple[int, str]] = []

            @nursery.start_soon
            async def reader() -> None:
                received.append(await read(stream, size))

            sent = await js.do("pump", stream=number, bytes=size)
        assert received == [(size, sent["sha256"])]
        await js.do("end", stream=number)
        assert await stream.receive_some() == b""
        assert await stream.wait_closed() is CloseReason.ENDED
        assert (await js.do("wait", stream=number, **{"for": "close"}))["error"] is None


@pytest.mark.parametrize("size", [1, 1131, 1132, 1133, 1151, 1152, 1153, 1452, 10_000])
async def test_sizes_around_a_packet_and_the_end_in_it(size: int) -> None:
    async with both() as (js, socket):
        number, stream = await connect(js, socket)
        await js.do("echo", stream=number)
        data = Random(size).randbytes(size)
        stream.machine.send(data)
        await stream.send_eof()
        assert await read(stream, size) == (size, hashlib.sha256(data).hexdigest())
        assert await stream.receive_some() == b""
        assert await stream.wait_closed() is CloseReason.ENDED


async def test_half_close_either_way() -> None:
    async with both() as (js, socket):
        number, stream = await connect(js, socket)
        await stream.send_eof()
        assert (await js.do("wait", stream=number, **{"for": "end"}))["ended"]
        await js.do("write", stream=number, hex=b"still here".hex())
        assert await stream.receive_some() == b"still here"
        await js.do("end", stream=number)
        assert await stream.wait_closed() is CloseReason.ENDED

        number, stream = await connect(js, socket)
        await js.do("end", stream=number)
        assert await stream.receive_some() == b""
        await stream.send_all(b"me too")
        await stream.aclose()
        report = await js.do("wait", stream=number, **{"for": "close"})
        assert (report["bytes"], report["error"]) == (6, None)


async def test_destroy_either_way() -> None:
    async with both() as (js, socket):
        number, stream = await connect(js, socket)
        stream.destroy()
        assert (await js.do("wait", stream=number, **{"for": "close"}))["error"] == "ECONNRESET"
        number, stream = await connect(js, socket)
        await js.do("destroy", stream=number)
        with pytest.raises(trio.BrokenResourceError):
            await stream.receive_some()
        assert stream.close_reason is CloseReason.RESET


async def test_many_streams_messages_and_plain_datagrams_on_one_socket() -> None:
    async with both() as (js, socket):
        heard: list[bytes] = []
        arrived = trio.Event()

        def hear(data: bytes, address: tuple[str, int], where: UdxSocket) -> None:
            heard.append(data)
            arrived.set()

        socket.on_datagram = hear
        pairs = [await connect(js, socket) for _ in range(50)]
        for number, _ in pairs:
            await js.do("echo", stream=number)
        async with trio.open_nursery() as nursery:

            async def run(stream: UdxTrioStream, seed: int) -> None:
                data = Random(seed).randbytes(30_000 + seed)
                await stream.send_all(data)
                assert (await read(stream, len(data)))[1] == hashlib.sha256(data).hexdigest()

            for seed, (_, stream) in enumerate(pairs):
                nursery.start_soon(run, stream, seed)
        number, stream = pairs[0]
        stream.send_message(b"")
        stream.send_message(b"unordered")
        report = await js.do("wait", stream=number, count=2, **{"for": "messages"})
        assert report["messages"] == ["", b"unordered".hex()]
        await js.do("message", stream=number, hex="abcd")
        assert stream.machine.remote is not None
        socket.send_datagram(b"\x03plain", ("127.0.0.1", stream.machine.remote.address[1]))
        await js.do("datagram", hex="13ff", port=socket.address[1])
        await arrived.wait()
        assert (heard, list(stream.messages)) == ([b"\x13\xff"], [b"\xab\xcd"])
        assert (await js.do("info", stream=number))["plain"] == [b"\x03plain".hex()]


@pytest.mark.parametrize(
    ("loss", "late", "twice", "size"), [(0.01, 0.0, 0.0, 2_000_000), (0.05, 0.1, 0.02, 700_000)]
)
async def test_a_bad_path_both_ways(loss: float, late: float, twice: float, size: int) -> None:
    relay = LossyRelay(seed=7, loss=loss, delay=0.02, late=late, twice=twice)
    try:
        async with both() as (js, socket), trio.open_nursery() as nursery:
            nursery.start_soon(relay.run)
            number, stream = await connect(js, socket, relay)
            data = Random(2).randbytes(size)
            await stream.send_all(data)
            await stream.send_eof()
            sent = await js.do("pump", stream=number, bytes=size)
            assert await read(stream, size) == (size, sent["sha256"])
            report = await js.do("wait", stream=number, **{"for": "end"})
            assert (report["bytes"], report["sha256"]) == (size, hashlib.sha256(data).hexdigest())
            await js.do("end", stream=number)
            assert await stream.receive_some() == b""
            assert await stream.wait_closed() in (CloseReason.ENDED, CloseReason.UNCONFIRMED)
            assert (await js.do("wait", stream=number, **{"for": "close"}))["error"] is None
            nursery.cancel_scope.cancel()
    finally:
        relay.close()


async def test_the_reference_moves_to_another_socket() -> None:
    async with both() as (js, socket):
        number, stream = await connect(js, socket)
        await js.do("write", stream=number, hex="01")
        assert await stream.receive_some() == b"\x01"
        changed = await js.do("change", stream=number, remote=stream.stream_id, port=socket.address[1])
        await js.do("write", stream=number, hex="02")
        assert await stream.receive_some() == b"\x02"
        stream.change_remote(socket, number, ("127.0.0.1", changed["port"]))
        await stream.aclose()
        assert (await js.do("wait", stream=number, **{"for": "end"}))["ended"]
