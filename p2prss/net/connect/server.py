"""The side that is dialled: it reads handshakes, answers them, and waits for the client to come.

A connection counts once the client's secret-stream header is here: making it needs the keys of the
handshake, so neither a recorded message 1 nor a forged address gets further than a half-open attempt, which
ends after ten seconds. Until then the peer's claimed address gets a few small packets at most.

Source: hyperdht 6.34.0 lib/server.js; spec/07-net.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import trio
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.net.connect.announcer import Announcer
from p2prss.net.connect.noise_ik import ServerHandshake, ephemeral_of
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.connect.puncher import ServerPuncher
from p2prss.net.connect.replies import KEEP_REPLY_SECONDS, Attempt, ReplyCache
from p2prss.net.connect.visit import Visit
from p2prss.net.dht.handshake import (
    Firewall,
    HandshakeEnvelope,
    HandshakeError,
    HolepunchInfo,
    NoisePayload,
    UdxInfo,
    holepunch_key,
)
from p2prss.net.dht.relay import PeerMessage
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
        self._last_id = 0
        self._visits: dict[int, Visit] = {}  # those that may punch, by their id

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
            attempt = self.cache.get(message.envelope.noise)
            if attempt is None:
                self._begin(message, message.envelope.noise, now)
            else:
                self._answer(message, attempt)
            return
        visit = self._visits.get(message.envelope.id)
        if visit is not None and visit.puncher is not None:
            own = any(message.source == relay.relay_address for relay in self._announcer.relays)
            visit.puncher.handle(message, from_own_relay=own)

    def _answer(self, message: PeerMessage, attempt: Attempt) -> None:
        if attempt.reply is not None:
            socket = attempt.reply_socket() if attempt.reply_socket is not None else None
            self._parts.dht.answer(message, attempt.reply, socket=socket)

    def _begin(self, message: PeerMessage, noise: bytes, now: float) -> None:
        """Read a new message 1 and answer it, unless there is a reason to be silent."""
        client_host = message.client_address.host
        relay_host = message.source.host if message.is_relayed else None
        if not self.cache.has_room(client_host, relay_host, now):
            return
        try:
            ephemeral = ephemeral_of(noise)
            if self.cache.is_used(ephemeral, now):
                return
            handshake = ServerHandshake(self._parts.key_pair, noise, random_bytes(32))
        except RemoteProtocolError:
            self.rejected += 1
            self.cache.fail(message.source.host, now)
            return
        if handshake.public_key == self._parts.key_pair.public_key or not self._admit(handshake.public_key):
            return
        visit = Visit(self._parts, message, handshake.payload, self._new_id())
        if handshake.error is HandshakeError.NONE:
            try:
                visit.stream = self._parts.udx.create_stream(firewall=visit.admits)
            except NetworkError:
                return
        if self._nursery is None:
            raise AssertionError("handshakes are taken while the server runs")
        attempt = self.cache.begin(noise, ephemeral, client_host, relay_host, now)
        attempt.reply, result = handshake.reply(self._payload(handshake.error, visit))
        if visit.stream is None or not visit.has_to_punch:
            self._answer(message, attempt)
        self._nursery.start_soon(self._receive, attempt, visit, result)

    def _new_id(self) -> int:
        self._last_id = (self._last_id + 1) % 2**31
        return self._last_id

    def _payload(self, error: HandshakeError, visit: Visit) -> NoisePayload:
        """What we tell a client about how to reach us."""
        parts, relays = self._parts, self._announcer.relays
        firewall = parts.firewall
        return NoisePayload(
            error=error,
            firewall=firewall,
            holepunch=None if firewall is Firewall.OPEN else HolepunchInfo(visit.id, relays),
            addresses4=parts.told_addresses,
            udx=UdxInfo(0 if visit.stream is None else visit.stream.stream_id),
            secret_stream=1,
            relay_addresses=self._announcer.addresses or None,
        )

    async def _receive(self, attempt: Attempt, visit: Visit, result: HandshakeResult) -> None:
        """Wait until the client shows that it is there, then hand it on."""
        stream = visit.stream
        established = False
        try:
            if stream is not None:
                if visit.has_to_punch:
                    await self._wait_punched(attempt, visit, result)
                else:
                    visit.meet()
                with trio.move_on_after(HALF_OPEN_SECONDS if not visit.has_failed else 0.0):
                    established = await _wait_header(stream, visit.knocks, result)
        finally:
            if stream is not None and not established:
                stream.destroy()
            self.cache.end(attempt)
        if established and stream is not None and self._nursery is not None:
            peer = PeerStream(stream, result, False, result.remote_public_key, visit.path)
            self._nursery.start_soon(self._hand_on, peer)
        await trio.sleep(KEEP_REPLY_SECONDS)
        self.cache.forget(attempt)

    async def _wait_punched(self, attempt: Attempt, visit: Visit, result: HandshakeResult) -> None:
        """Answer from a socket of its own, and punch until the client's first packet comes, or in vain.

        One that may be on our local network is answered from the usual socket, which is where it finds us.
        """
        secret = holepunch_key(result.handshake_hash)
        remote_firewall = visit.payload.firewall
        meeting = self._parts.meeting(client=visit.payload.relay_through, server=None, is_server=True)
        try:
            async with ServerPuncher.open(
                self._parts.punch_sockets,
                secret=secret,
                remote_firewall=remote_firewall,
                has_relay=meeting is not None,
            ) as puncher:
                if not visit.is_neighbour:
                    attempt.reply_socket = lambda: puncher.socket_number
                self._answer(visit.message, attempt)
                visit.puncher = puncher
                self._visits[visit.id] = visit
                async with trio.open_nursery() as nursery:

                    async def punch_and_meet() -> None:
                        async with trio.open_nursery() as ways:
                            if meeting is not None:
                                ways.start_soon(visit.meet_at_relay, meeting)
                            with suppress(ConnectError):
                                await puncher.wait_failed()
                        visit.has_failed = not visit.connected.is_set()
                        nursery.cancel_scope.cancel()

                    nursery.start_soon(punch_and_meet)
                    await visit.connected.wait()
                    nursery.cancel_scope.cancel()
        except* NetworkError:
            self._answer(visit.message, attempt)  # no socket to punch with
        finally:
            self._visits.pop(visit.id, None)

    async def _hand_on(self, peer: PeerStream) -> None:
        handled = self._on_peer(peer)
        if handled is not None:
            await handled


async def _wait_header(stream: UdxTrioStream, knocks: bool, result: HandshakeResult) -> bool:
    """Whether the client's header comes and belongs to this handshake."""
    async with trio.open_nursery() as nursery:
        if knocks:
            nursery.start_soon(_knock, stream)
        try:
            frame = await stream.peek(LENGTH_SIZE + HEADER_FRAME_SIZE)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            frame = b""
        nursery.cancel_scope.cancel()
    wanted = stream_id(result.handshake_hash, initiator=True)
    return frame[LENGTH_SIZE : LENGTH_SIZE + STREAM_ID_SIZE] == wanted


async def _knock(stream: UdxTrioStream) -> None:
    """Send small packets, for a client that waits to see where we are; few, as its address may be forged."""
    for pause in KNOCK_PAUSES:
        await trio.sleep(pause)
        stream.send_message(b"")
