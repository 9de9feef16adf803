"""The connection against the JavaScript reference, in both roles, over TCP."""

import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.log.proof_parts import BlockRequest, ProofRequest
from p2prss.wire.capability import capability, verify_capability
from p2prss.wire.connection import Connection, Event, Ready
from p2prss.wire.messages import Data, Message, Range, ReplicationHandshake, Request, Sync, decode_message
from p2prss.wire.mux import Opened, Received, Rejected, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel
from tests.conftest import StartJsPeer

pytestmark = pytest.mark.interop

ALPHA = "hypercore/alpha"
PATIENCE = 30  # seconds, for anything that should take none
BLOCKS = [random.Random(size).randbytes(size) for size in (0, 1, 300, 65_536, 5_000_000, 70_000, 12)]


class Link:
    """The thinnest of shells: a connection on a stream, one event at a time."""

    def __init__(self, connection: Connection, stream: trio.SocketStream) -> None:
        self.connection = connection
        self._stream = stream
        self._events: list[Event] = []

    async def next(self) -> Event:
        while not self._events:
            if data := b"".join(self.connection.data_to_send()):
                await self._stream.send_all(data)
            self._events = self.connection.events() or self.connection.receive(
                await self._stream.receive_some(256 * 1024), trio.current_time()
            )
        return self._events.pop(0)

    async def next_message(self) -> tuple[MuxChannel, Message | None]:
        while not isinstance(event := await self.next(), Received):
            assert not isinstance(event, Rejected)
        return event.channel, decode_message(event.type, event.payload)

    def open(self, key: CoreKey, handshake_hash: bytes) -> MuxChannel:
        shown = capability(handshake_hash, initiator=self.connection.initiator, core_key=key)
        return self.connection.open(ALPHA, discovery_key(key), ReplicationHandshake(shown).encode())


def connection(*, initiator: bool) -> Connection:
    return Connection(
        initiator=initiator,
        key_pair=KeyPair.from_seed(bytes(32)),
        ephemeral_seed=random.SystemRandom().randbytes(32),
        stream_header=random.SystemRandom().randbytes(24),
        now=trio.current_time(),
    )


@asynccontextmanager
async def dialled_by_us(port: int) -> AsyncIterator[Link]:
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        yield Link(connection(initiator=True), stream)


@asynccontextmanager
async def dialled_by_them(connect: Callable[[int], Awaitable[None]]) -> AsyncIterator[Link]:
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(connect, listener.socket.getsockname()[1])
        async with await listener.accept() as stream:
            yield Link(connection(initiator=False), stream)
        nursery.cancel_scope.cancel()


async def fetch(link: Link, key: CoreKey, *, corked: bool) -> list[bytes]:
    """Download all blocks; checks what the channel says on the way."""
    ready = await link.next()
    assert isinstance(ready, Ready)
    unknown = link.connection.open(ALPHA, bytes(32), ReplicationHandshake(bytes(32)).encode())
    channel = link.open(key, ready.handshake_hash)
    opened = rejected = False
    length = 0
    while not (opened and rejected and length):
        match await link.next():
            case Opened(found, handshake):
                assert found is channel
                shown = ReplicationHandshake.decode(handshake).capability
                remote = not link.connection.initiator
                assert verify_capability(shown, ready.handshake_hash, initiator=remote, core_key=key)
                opened = True
            case Rejected(found):
                assert found is unknown
                rejected = True
            case RemoteOpen() as remote_open:
                link.connection.reject(remote_open)
            case Received(_, kind, payload):
                message = decode_message(kind, payload)
                length = message.length if isinstance(message, Sync) else length
    channel.send(Sync.TYPE, *Sync(0, 0, length).encode_parts())
    if corked:
        link.connection.cork()
    for index in range(length):
        request = Request(index + 1, ProofRequest(0, block=BlockRequest(index, 0)))
        channel.send(Request.TYPE, *request.encode_parts())
    if corked:
        link.connection.uncork()
    blocks: dict[int, bytes] = {}
    while len(blocks) < length:
        _, message = await link.next_message()
        if isinstance(message, Data):
            assert message.proof.block is not None
            assert message.request_id == message.proof.block.index + 1
            blocks[message.proof.block.index] = bytes(message.proof.block.value)
        else:
            assert isinstance(message, Sync | Range)
    return [blocks[index] for index in range(length)]


@pytest.mark.parametrize("corked", [False, True])
@pytest.mark.parametrize("initiator", [False, True])
async def test_all_blocks_of_a_javascript_peer_arrive(
    js_peer: StartJsPeer, initiator: bool, corked: bool
) -> None:
    with trio.fail_after(PATIENCE):
        peer = await js_peer("writer")
        core = await peer.open_core(name="blocks")
        await peer.append(core.key, BLOCKS)
        way = dialled_by_us(await peer.listen()) if initiator else dialled_by_them(peer.connect)
        async with way as link:
            assert await fetch(link, CoreKey(bytes.fromhex(core.key)), corked=corked) == BLOCKS
