"""Endpoints on loopback: many streams on a socket, other datagrams beside them, Link's kind of use."""

import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from p2prss.crypto.keys import KeyPair
from p2prss.net.link import Link
from p2prss.net.udx.endpoint import UdxEndpoint
from p2prss.net.udx.events import CloseReason
from p2prss.net.udx.packet import DATA, DESTROY, encode
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream
from p2prss.wire.connection import Connection, Event, Ready


@asynccontextmanager
async def two_sockets(host: str = "127.0.0.1") -> AsyncIterator[tuple[UdxSocket, UdxSocket]]:
    async with UdxEndpoint.open() as one, UdxEndpoint.open() as other:
        yield one.bind(host, 0), other.bind(host, 0)


def connect(here: UdxSocket, there: UdxSocket, **options: int) -> tuple[UdxTrioStream, UdxTrioStream]:
    near, far = here.endpoint.create_stream(**options), there.endpoint.create_stream(**options)
    near.connect(here, far.stream_id, there.address)
    far.connect(there, near.stream_id, here.address)
    return near, far


async def read_all(stream: UdxTrioStream) -> bytes:
    data = bytearray()
    while chunk := await stream.receive_some(1 << 20):
        data += chunk
    return bytes(data)


async def test_it_is_a_stream_as_trio_wants_it() -> None:
    async with two_sockets() as (here, there):

        async def make() -> tuple[UdxTrioStream, UdxTrioStream]:
            return connect(here, there)

        near, far = await make()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.send_all, b"ping")
            assert await far.receive_some() == b"ping"
            await far.send_eof()
            assert await near.receive_some() == b""
        with pytest.raises(trio.ClosedResourceError):
            await far.send_all(b"after the end")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(far.receive_some)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(trio.BusyResourceError):
                await far.receive_some()
            await near.aclose()
        with pytest.raises(trio.ClosedResourceError):
            await near.receive_some()
        assert await far.wait_closed() is CloseReason.ENDED


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
async def test_megabytes_both_ways(host: str) -> None:
    async with two_sockets(host) as (here, there):
        near, far = connect(here, there)
        there_data, back_data = bytes(range(251)) * 20_000, bytes(range(256)) * 10_000
        received: dict[str, bytes] = {}

        async def run(name: str, stream: UdxTrioStream, data: bytes) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(send, stream, data)
                received[name] = await read_all(stream)

        async def send(stream: UdxTrioStream, data: bytes) -> None:
            await stream.send_all(bytearray(data))
            await stream.send_eof()

        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(run, "near", near, there_data)
                nursery.start_soon(run, "far", far, back_data)
            assert await near.wait_closed() is CloseReason.ENDED
        assert received == {"near": back_data, "far": there_data}
        assert not here.endpoint.streams


async def test_a_thousand_streams_share_a_socket_with_other_datagrams() -> None:
    heard: list[tuple[bytes, tuple[str, int]]] = []
    async with UdxEndpoint.open() as one, UdxEndpoint.open() as other:
        here = one.bind("127.0.0.1", 0)
        there = other.bind("127.0.0.1", 0, lambda data, address, socket: heard.append((data, address)))
        pairs = [connect(here, there) for _ in range(1000)]
        here.send_datagram(b"\x03request", there.address, ttl=5)
        here.send_datagram(b"", there.address)
        unknown = encode(DATA, 1, 0, 0, 0, b"for nobody")
        here.send_datagram(unknown, there.address)
        for number, (near, _) in enumerate(pairs):
            await near.send_all(b"stream %d" % number)
        with trio.fail_after(20):
            for number, (_, far) in enumerate(pairs):
                assert await far.receive_some() == b"stream %d" % number
        assert [data for data, _ in heard] == [b"\x03request", b"", unknown]
        assert {address for _, address in heard} == {here.address}


async def test_a_reader_that_rests_stops_the_writer() -> None:
    async with two_sockets() as (here, there):
        near, far = connect(here, there, window=200_000)
        count = 0
        with trio.move_on_after(0.5):
            while True:
                await near.send_all(bytes(50_000))
                count += 50_000
        assert count < 1_500_000
        received = 0
        with trio.fail_after(10):
            while received < count:
                received += len(await far.receive_some())


async def test_aclose_brings_across_what_is_queued() -> None:
    async with two_sockets() as (here, there):
        near, far = connect(here, there)
        await near.send_all(bytes(3_000_000))
        await near.aclose()
        with trio.fail_after(10):
            assert len(await read_all(far)) == 3_000_000
            await far.send_all(b"nobody reads this")
            await far.aclose()
            await here.endpoint.drain(5)
            await there.endpoint.drain(5)
        assert (near.close_reason, far.close_reason) == (CloseReason.ENDED, CloseReason.ENDED)


async def test_destroy_breaks_the_other_end() -> None:
    async with two_sockets() as (here, there):
        near, far = connect(here, there)
        async with trio.open_nursery() as nursery:

            @nursery.start_soon
            async def reader() -> None:
                with pytest.raises(trio.BrokenResourceError):
                    await far.receive_some()

            await trio.testing.wait_all_tasks_blocked()
            near.destroy()
        with pytest.raises(trio.ClosedResourceError):
            await near.send_all(b"x")
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"x")


async def test_what_comes_before_connect_is_kept_if_the_firewall_lets_it_in() -> None:
    asked: list[tuple[str, int]] = []
    async with two_sockets() as (here, there):
        far = there.endpoint.create_stream(firewall=lambda socket, source: asked.append(source) is None)
        near = here.endpoint.create_stream()
        near.connect(here, far.stream_id, there.address)
        await near.send_all(b"early")
        with trio.fail_after(5):
            assert await far.receive_some() == b"early"
            far.connect(there, near.stream_id, here.address)
            await far.send_all(b"late")
            assert await near.receive_some() == b"late"
        assert set(asked) == {here.address}


async def test_without_a_firewall_nothing_gets_in_before_connect() -> None:
    async with two_sockets() as (here, there):
        far = there.endpoint.create_stream()
        here.send_datagram(encode(DATA, far.stream_id, 0, 0, 0, b"early"), there.address)
        await trio.sleep(0.05)
        assert far.machine.read(10) == b""


async def test_a_stream_moves_to_another_socket() -> None:
    async with two_sockets() as (here, there):
        near, far = connect(here, there)
        await near.send_all(b"one ")
        another = here.endpoint.bind("127.0.0.1", 0)
        far_firewalled = there.endpoint.bind("127.0.0.1", 0)
        near.change_remote(another, far.stream_id, there.address)
        far.change_remote(there, near.stream_id, another.address)
        here.close()
        far_firewalled.close()
        await near.send_all(b"two")
        with trio.fail_after(5):
            received = b""
            while len(received) < 7:
                received += await far.receive_some()
            await near.wait_remote_changed()
            await far.send_all(b"back")
            assert await near.receive_some() == b"back"
        assert received == b"one two"


async def test_a_forged_destroy_and_a_flood_of_ids_disturb_nobody() -> None:
    async with two_sockets() as (here, there):
        near, far = connect(here, there)
        async with UdxEndpoint.open() as enemy:
            socket = enemy.bind("127.0.0.1", 0)
            socket.send_datagram(encode(DESTROY, far.stream_id, 0, 0, 0), there.address)
            for number in range(5000):
                socket.send_datagram(encode(DATA, number, 0, 0, 0, bytes(100)), there.address)
                if number % 200 == 0:
                    await trio.lowlevel.checkpoint()
            await near.send_all(b"fine")
            with trio.fail_after(5):
                assert await far.receive_some() == b"fine"
        assert len(there.endpoint.streams) == 1


async def test_a_link_runs_on_it_as_on_tcp() -> None:
    ready: list[Ready] = []
    async with two_sockets() as (here, there), trio.open_nursery() as nursery:
        for initiator, stream in zip((True, False), connect(here, there), strict=True):
            connection = Connection(
                initiator=initiator,
                key_pair=KeyPair.from_seed(bytes([initiator]) * 32),
                ephemeral_seed=bytes([2 + initiator]) * 32,
                stream_header=bytes([4 + initiator]) * 24,
                now=trio.current_time(),
            )
            link = Link(stream, connection, "a peer")

            def handle(events: list[Event], link: Link = link) -> None:
                ready.extend(event for event in events if isinstance(event, Ready))
                if len(ready) == 2:
                    link.close()

            nursery.start_soon(link.run, handle)
    keys = {event.remote_public_key for event in ready}
    assert keys == {KeyPair.from_seed(bytes([side]) * 32).public_key for side in (0, 1)}
    assert len({event.handshake_hash for event in ready}) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux cuts and joins datagrams")
async def test_joined_datagrams_come_apart_after_any_number_of_single_ones() -> None:
    """What the kernel joined has no seams any more when a socket stops asking it to join."""
    heard: list[bytes] = []
    async with UdxEndpoint.open() as endpoint:
        there = endpoint.bind("127.0.0.1", 0, lambda data, _address, _socket: heard.append(data))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            run, size = [b"joined".ljust(500)] * 3, (500).to_bytes(2, sys.byteorder)
            for number in range(1, 33):
                for _ in range(32):
                    sender.sendto(b"single".ljust(1000), there.address)
                if number >= 16:
                    sender.sendmsg(run, [(17, 103, size)], 0, there.address)  # SOL_UDP, UDP_SEGMENT
                with trio.fail_after(5):
                    while len(heard) < 32 * number + 3 * max(0, number - 15):  # noqa: ASYNC110 - nobody tells
                        await trio.sleep(0.001)
    assert {len(data) for data in heard} == {500, 1000}
