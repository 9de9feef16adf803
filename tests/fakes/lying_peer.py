"""A peer that knows the key and finishes the handshake, and then says whatever its script wants.

It is the real ``wire.Connection`` over a stream, without a replicator behind it: nothing it sends is
checked, counted or held back. What is read from the other side are decoded messages; how it answers is up
to the script, and ``truth`` is the log it may answer from when it happens to be honest.
"""

from collections.abc import Awaitable, Callable, Sequence
from random import Random

import trio

from p2prss.codec.compact import Buffer, Writer
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import RemoteProtocolError
from p2prss.log.log import Log
from p2prss.log.proof import InvalidRequestError, NotHeldError
from p2prss.wire.capability import capability
from p2prss.wire.connection import Connection, Event, Ready, State
from p2prss.wire.messages import (
    Data,
    Message,
    NoData,
    NoDataReason,
    Range,
    ReplicationHandshake,
    Request,
    Sync,
    decode_message,
)
from p2prss.wire.mux import Opened, Received, Rejected, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel

PROTOCOL = "hypercore/alpha"


class LinkEnded(Exception):
    """The other side has ended the connection."""


class LyingPeer:
    """One end of a stream. ``Script`` is what it is given to do."""

    def __init__(self, stream: trio.abc.Stream, truth: Log, *, initiator: bool, seed: int = 0) -> None:
        self.stream = stream
        self.truth = truth
        self.random = Random(seed)
        self.connection = Connection(
            initiator=initiator,
            key_pair=KeyPair.from_seed(self.random.randbytes(32)),
            ephemeral_seed=self.random.randbytes(32),
            stream_header=self.random.randbytes(24),
            now=trio.current_time(),
        )
        self.handshake_hash = b""
        self.channel: MuxChannel | None = None
        self.lied = trio.Event()  # set by the script once the other side has had a taste of it
        self._events: list[Event] = []

    # Bytes

    async def flush(self) -> None:
        """Write out what was said. Raises: LinkEnded."""
        if data := b"".join(self.connection.data_to_send()):
            await self.write(data)

    async def write(self, data: Buffer) -> None:
        """Write bytes past the connection. Raises: LinkEnded."""
        try:
            await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkEnded from None

    async def read(self) -> bytes:
        """Read bytes past the connection. Raises: LinkEnded."""
        try:
            data = bytes(await self.stream.receive_some())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise LinkEnded from None
        if not data:
            raise LinkEnded
        return data

    async def receive(self) -> None:
        """Read once and keep the events. Raises: LinkEnded, also when our own connection is at its wits' end:
        it does not know of frames that were sent past it."""
        data = await self.read()
        try:
            self._events += self.connection.receive(data, trio.current_time())
        except RemoteProtocolError:
            raise LinkEnded from None

    # The connection

    async def shake_hands(self) -> None:
        """Finish the handshake and the headers."""
        await self.flush()
        while self.connection.state is not State.OPEN:
            await self.receive()
            await self.flush()
        ready = next(event for event in self._events if isinstance(event, Ready))
        self.handshake_hash = ready.handshake_hash

    def capability(self, key: CoreKey | None = None) -> bytes:
        """What shows that we know ``key``, the true one when left out."""
        return capability(
            self.handshake_hash, initiator=self.connection.initiator, core_key=key or self.truth.key
        )

    async def open(self, handshake: bytes | None = None) -> None:
        """Open the log's channel and wait until the other side has done so too."""
        handshake = handshake or ReplicationHandshake(self.capability()).encode()
        self.channel = self.connection.open(PROTOCOL, self.truth.discovery_key, handshake)
        await self.flush()
        self._events += self.connection.events()
        while not any(isinstance(event, Opened) for event in self._events):
            if any(isinstance(event, Rejected) for event in self._events):
                raise LinkEnded
            await self.receive()
        await self.flush()

    async def hear_open(self) -> RemoteOpen:
        """Wait until the other side opens a channel."""
        while True:
            for event in self._events:
                if isinstance(event, RemoteOpen):
                    return event
            await self.receive()

    async def say_frame(self, plaintext: Buffer) -> None:
        """One encrypted frame of any content."""
        self.connection._send_plaintext([plaintext])
        await self.flush()

    # Messages

    async def say(self, *messages: Message) -> None:
        """Send messages on the log's channel, each in a frame of its own."""
        for message in messages:
            self.put(message)
        await self.flush()

    def put(self, message: Message) -> None:
        """Send with the next flush."""
        assert self.channel is not None
        self.channel.send(message.TYPE, *message.encode_parts())

    async def say_payload(self, message_type: int, *parts: Buffer) -> None:
        """Send a message of any type and payload on the log's channel."""
        assert self.channel is not None
        self.channel.send(message_type, *parts)
        await self.flush()

    def batch(self, messages: Sequence[Message]) -> bytes:
        """The plaintext of one frame with all these messages on the log's channel."""
        assert self.channel is not None
        assert self.channel.local_id < 0xFD
        out = Writer()
        out.raw(b"\0\0" + bytes([self.channel.local_id]))
        for message in messages:
            item = bytes([message.TYPE]) + b"".join(message.encode_parts())
            out.buffer(item)
        return out.finish()

    async def hear(self) -> list[Message]:
        """Wait for messages on the log's channel and take all that are there."""
        while True:
            events, self._events = self._events, []
            heard = [
                message
                for event in events
                if isinstance(event, Received) and event.channel is self.channel
                if (message := decode_message(event.type, event.payload)) is not None
            ]
            if heard:
                return heard
            await self.receive()

    async def hear_requests(self) -> list[Request]:
        """Wait for requests; other messages are passed over."""
        while True:
            requests = [message for message in await self.hear() if isinstance(message, Request)]
            if requests:
                return requests

    async def claim_all(self, **changes: object) -> None:
        """Say that we have the whole log and can prove it."""
        head = self.truth.head
        fields: dict[str, object] = {
            "fork": head.fork,
            "length": head.length,
            "remote_length": 0,
            "can_upgrade": True,
            "has_manifest": True,
        }
        sync = Sync(**(fields | changes))  # type: ignore[arg-type]
        await self.say(Range(0, head.length), sync)

    def honest(self, request: Request) -> Data | NoData:
        """The right answer."""
        try:
            return Data(request.id, self.truth.answer(request.proof))
        except NotHeldError:
            return NoData(request.id, NoDataReason.NOT_AVAILABLE)
        except InvalidRequestError:
            return NoData(request.id, NoDataReason.INVALID_REQUEST)

    async def ready(self, **changes: object) -> None:
        """Handshake, channel, and the claim to have everything."""
        await self.shake_hands()
        await self.open()
        await self.claim_all(**changes)


Script = Callable[[LyingPeer], Awaitable[None]]
"""What a lying peer does, from before the handshake on, until the link ends or it has had enough."""
