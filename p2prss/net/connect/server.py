"""The side that is dialled: it reads handshakes, answers them, and waits for the client to come.

A connection counts once the client's secret-stream header is here: making it needs the keys of the
handshake, so neither a recorded message 1 nor a forged address gets further than a half-open attempt, which
ends after ten seconds. Until then the peer's claimed address gets a few small packets at most.

Source: hyperdht 6.34.0 lib/server.js; spec/07-net.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import trio
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.net.connect.announcer import Announcer
from p2prss.net.connect.noise_ik import ServerHandshake, ephemeral_of
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.connect.peer_stream import Path, PeerStream
from p2prss.net.connect.replies import KEEP_REPLY_SECONDS, Attempt, ReplyCache
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import (
    Firewall,
    HandshakeEnvelope,
    HandshakeError,
    HolepunchInfo,
    NoisePayload,
    UdxInfo,
)
from p2prss.net.dht.relay import PeerMessage
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream
from p2prss.wire.framing import LENGTH_SIZE
from p2prss.wire.noise import HandshakeResult
from p2prss.wire.secret_stream import HEADER_FRAME_SIZE, STREAM_ID_SIZE, stream_id

HALF_OPEN_SECONDS: Final = 10.0  # from the answer until the client's header must be here
KNOCK_PAUSES: Final = (0.0, 0.1, 0.3, 0.6, 1.0, 2.0)  # seconds before each packet to a client that is open

OnPeer = Callable[[PeerStream], Awaitable[None] | None]
Admit = Callable[[PublicKey], bool]


class Server:
    """Takes the handshakes for our key. ``run`` until cancelled.

    Args: on_peer: gets each stream whose peer is proven alive; what it returns is awaited in a task of its
    own. admit: whether a key may connect; others get no answer at all.
    """

    def __init__(self, parts: NetworkParts, announcer: Announcer, on_peer: OnPeer, admit: Admit) -> None:
        self.cache = ReplyCache()
        self.rejected = 0  # messages nothing could be made of
        self._parts = parts
        self._announcer = announcer
        self._on_peer = on_peer
        self._admit = admit
        self._nursery: trio.Nursery | None = None
        self._next_id = 0

    async def run(self) -> None:
        """Be there for clients, whether or not any node relays for us yet."""
        dht, public_key = self._parts.dht, self._parts.key_pair.public_key
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            dht.serve(public_key, self._handle)
            try:
                await self._announcer.run()
            finally:
                dht.unserve(public_key)

    def _handle(self, message: PeerMessage, now: float) -> None:
        if isinstance(message.envelope, HandshakeEnvelope):
            self._handle_handshake(message, message.envelope.noise, now)

    def _handle_handshake(self, message: PeerMessage, noise: bytes, now: float) -> None:
        attempt = self.cache.get(noise)
        if attempt is None:
            attempt = self._begin(message, noise, now)
        if attempt is not None and attempt.reply is not None:
            self._parts.dht.answer(message, attempt.reply, socket=attempt.reply_socket)

    def _begin(self, message: PeerMessage, noise: bytes, now: float) -> Attempt | None:
        """Read a new message 1 and answer it, unless there is a reason to be silent."""
        client_host = message.client_address.host
        relay_host = message.source.host if message.is_relayed else None
        if not self.cache.has_room(client_host, relay_host):
            return None
        try:
            ephemeral = ephemeral_of(noise)
            if self.cache.is_used(ephemeral, now):
                return None
            handshake = ServerHandshake(self._parts.key_pair, noise, random_bytes(32))
        except RemoteProtocolError:
            self.rejected += 1
            return None
        if handshake.public_key == self._parts.key_pair.public_key or not self._admit(handshake.public_key):
            return None
        visit = _Visit(message, handshake.payload)
        stream_number = 0
        if handshake.error is HandshakeError.NONE:
            try:
                visit.stream = self._parts.udx.create_stream(firewall=visit.admits)
            except NetworkError:
                return None
            stream_number = visit.stream.stream_id
        attempt = self.cache.begin(noise, ephemeral, client_host, relay_host, now)
        self._next_id = (self._next_id + 1) % 2**31
        attempt.reply, result = handshake.reply(self._payload(handshake.error, stream_number))
        if self._nursery is None:
            raise AssertionError("handshakes are taken while the server runs")
        self._nursery.start_soon(self._receive, attempt, visit, result)
        return attempt

    def _payload(self, error: HandshakeError, stream_number: int) -> NoisePayload:
        """What we tell a client about how to reach us."""
        parts, relays = self._parts, self._announcer.relays
        firewall = parts.firewall
        return NoisePayload(
            error=error,
            firewall=firewall,
            holepunch=None if firewall is Firewall.OPEN else HolepunchInfo(self._next_id, relays),
            addresses4=parts.told_addresses,
            udx=UdxInfo(stream_number),
            secret_stream=1,
            relay_addresses=self._announcer.addresses or None,
        )

    async def _receive(self, attempt: Attempt, visit: "_Visit", result: HandshakeResult) -> None:
        """Wait until the client shows that it is there, then hand it on."""
        stream = visit.stream
        established = False
        try:
            if stream is not None:
                with trio.move_on_after(HALF_OPEN_SECONDS):
                    self._meet(visit)
                    established = await self._wait_header(visit, stream, result)
        finally:
            if stream is not None and not established:
                stream.destroy()
            self.cache.end(attempt)
        if established and stream is not None and self._nursery is not None:
            peer = PeerStream(stream, result, False, result.remote_public_key, visit.path)
            self._nursery.start_soon(self._hand_on, peer)
        await trio.sleep(KEEP_REPLY_SECONDS)
        self.cache.forget(attempt)

    async def _hand_on(self, peer: PeerStream) -> None:
        handled = self._on_peer(peer)
        if handled is not None:
            await handled

    def _meet(self, visit: "_Visit") -> None:
        """Connect at once to a client that can be reached; any other has to come to us."""
        message = visit.message
        is_open = visit.payload.firewall == Firewall.OPEN
        if self._parts.firewall is Firewall.OPEN:
            visit.path = Path.OPEN
        if message.is_relayed and not is_open:
            return
        if not self._parts.may_send(message.client_address):
            return
        if message.is_relayed:
            visit.path, visit.knocks = Path.OPEN, True
            socket = self._parts.socket(self._parts.dht.request_socket)
        else:
            visit.path = Path.DIRECT
            socket = self._parts.socket(message.socket)
        visit.connect(socket, message.client_address)

    async def _wait_header(self, visit: "_Visit", stream: UdxTrioStream, result: HandshakeResult) -> bool:
        """Whether the client's header comes and belongs to this handshake."""
        async with trio.open_nursery() as nursery:
            if visit.knocks:
                nursery.start_soon(_knock, stream)
            try:
                frame = await stream.peek(LENGTH_SIZE + HEADER_FRAME_SIZE)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                frame = b""
            nursery.cancel_scope.cancel()
        wanted = stream_id(result.handshake_hash, initiator=True)
        return frame[LENGTH_SIZE : LENGTH_SIZE + STREAM_ID_SIZE] == wanted


class _Visit:
    """A client that was answered: where it may come from, and the stream that waits for it."""

    def __init__(self, message: PeerMessage, payload: NoisePayload) -> None:
        self.message = message
        self.payload = payload
        self.stream: UdxTrioStream | None = None
        self.path = Path.LAN  # for one who comes to us though nobody else could
        self.knocks = False  # it waits for a packet of ours

    def admits(self, socket: UdxSocket, source: tuple[str, int]) -> bool:
        """The first packet for the stream says where the client is; later ones must come the same way."""
        if self.stream is None or self.stream.socket is not None or not source[1]:
            return False
        self.connect(socket, Endpoint(*source))
        return True

    def connect(self, socket: UdxSocket, address: Endpoint) -> None:
        if self.stream is not None and self.stream.socket is None and self.payload.udx is not None:
            self.stream.connect(socket, self.payload.udx.id, address)


async def _knock(stream: UdxTrioStream) -> None:
    """Send small packets, for a client that waits to see where we are; few, as its address may be forged."""
    for pause in KNOCK_PAUSES:
        await trio.sleep(pause)
        stream.send_message(b"")
