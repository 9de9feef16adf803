"""Texts over a ``PeerStream``, in frames of the secret stream: what JavaScript calls ``socket.write``."""

import trio
from nacl.utils import random as random_bytes

from p2prss.net.connect.peer_stream import PeerStream
from p2prss.wire.framing import LENGTH_SIZE, MAX_FRAME_BYTES, FrameReader
from p2prss.wire.secret_stream import (
    HEADER_FRAME_SIZE,
    OVERHEAD,
    STREAM_HEADER_SIZE,
    STREAM_ID_SIZE,
    FrameOpener,
    FrameSealer,
    stream_id,
)


class Talk:
    """Our end of the secret stream; ``open`` it, then ``say`` and ``hear``."""

    def __init__(self, peer: PeerStream) -> None:
        self._peer = peer
        self._frames = FrameReader()
        self._header = random_bytes(STREAM_HEADER_SIZE)
        self._sealer = FrameSealer(peer.handshake.send_key, self._header)
        self._opener: FrameOpener | None = None

    async def open(self) -> None:
        own_id = stream_id(self._peer.handshake.handshake_hash, initiator=self._peer.initiator)
        body = own_id + self._header
        await self._peer.stream.send_all(len(body).to_bytes(LENGTH_SIZE, "little") + body)
        header = bytes(await self._next(HEADER_FRAME_SIZE, HEADER_FRAME_SIZE))
        wanted = stream_id(self._peer.handshake.handshake_hash, initiator=not self._peer.initiator)
        assert header[:STREAM_ID_SIZE] == wanted
        self._opener = FrameOpener(self._peer.handshake.receive_key, header[STREAM_ID_SIZE:])

    async def say(self, text: str) -> None:
        await self._peer.stream.send_all(bytes(self._sealer.seal([text.encode()])))

    async def hear(self) -> str:
        assert self._opener is not None
        while True:
            plain = bytes(self._opener.open(await self._next(OVERHEAD, MAX_FRAME_BYTES)))
            if plain:  # an empty one only keeps the connection alive
                return plain.decode()

    async def _next(self, smallest: int, largest: int) -> memoryview | bytes | bytearray:
        while (frame := self._frames.next_frame(smallest, largest)) is None:
            data = await self._peer.stream.receive_some()
            assert data, "the peer has ended"
            self._frames.feed(data)
        return frame


async def echo(peer: PeerStream) -> None:
    """Say back what is heard, until the peer goes."""
    talk = Talk(peer)
    try:
        await talk.open()
        while True:
            await talk.say(await talk.hear())
    except (trio.BrokenResourceError, trio.ClosedResourceError, AssertionError):
        peer.stream.destroy()
