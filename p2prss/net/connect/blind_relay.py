"""Meeting at a blind relay: a third peer that copies the packets of two streams to each other, unread.

One of the two proposes a relay and a token in its Noise payload. Both dial the relay, show the token, and
learn from it the number of a stream at the relay to which they connect their own. What goes through is the
secret stream the two agreed on: the relay can drop it, delay it and count it, nothing else.

Trust: a peer can make us dial whatever key it proposes, so the caller says for which peers that is allowed;
there is one dial per meeting, ``MAX_MEETINGS`` of them in all, and each has ``MEET_SECONDS``.

Source: blind-relay 1.3 index.js, hyperdht 6.34.0 lib/connect.js ``relayConnection``; spec/07-net.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final, Self

import trio
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import DecodeError, P2prssError
from p2prss.net.connect.peer_stream import ConnectError, PeerStream
from p2prss.net.dht.blind_relay import PROTOCOL, TOKEN_SIZE, Pair
from p2prss.net.dht.handshake import RelayThrough
from p2prss.net.link import Link
from p2prss.net.udx.trio_stream import UdxTrioStream
from p2prss.wire.connection import Connection, Event, Ready
from p2prss.wire.mux import Closed, Received, Rejected, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel

MEET_SECONDS: Final = 15.0  # from dialling the relay until both are there
MAX_MEETINGS: Final = 64  # connections to relays at once
_PAIR: Final = 0  # message number

Dial = Callable[[PublicKey], Awaitable[PeerStream]]
"""Connects to a peer by its key, as ``PeerNetwork.connect``; raises ConnectError."""


@dataclass(frozen=True, slots=True)
class Meeting:
    """What two peers have agreed on."""

    relay: PublicKey
    token: bytes = field(repr=False)
    proposed: bool  # by us


def propose(relay: PublicKey) -> RelayThrough:
    """What to put into our Noise payload, for one attempt."""
    return RelayThrough(relay, random_bytes(TOKEN_SIZE))


def agree(*, client: RelayThrough | None, server: RelayThrough | None, is_server: bool) -> Meeting | None:
    """The meeting that follows from both payloads; the server's proposal goes before the client's."""
    chosen = server or client
    if chosen is None:
        return None
    return Meeting(chosen.public_key, chosen.token, is_server == (chosen is server))


class BlindRelays:
    """Our connections to relays. Use: ``async with BlindRelays.open(key_pair, dial) as relays``.

    A connection lives as long as the stream that goes through it, or until ``leave``. Memory: that of
    ``Connection`` for each.
    """

    def __init__(self, key_pair: KeyPair, dial: Dial, nursery: trio.Nursery) -> None:
        self._key_pair = key_pair
        self._dial = dial
        self._nursery = nursery
        self._scopes: dict[UdxTrioStream, trio.CancelScope] = {}

    @classmethod
    @asynccontextmanager
    async def open(cls, key_pair: KeyPair, dial: Dial) -> AsyncIterator[Self]:
        """Args: key_pair: with which relays are dialled; dial: how."""
        async with trio.open_nursery() as nursery:
            yield cls(key_pair, dial, nursery)
            nursery.cancel_scope.cancel()

    def __len__(self) -> int:
        return len(self._scopes)

    async def meet(self, meeting: Meeting, stream: UdxTrioStream) -> PeerStream:
        """Go to the relay, and find out where the other side's packets will come from.

        Args: stream: ours for the peer, not connected yet; its number is told to the relay.
        Returns: the connection to the relay, over which the stream is connected now.
        Raises: ConnectError "relay-failed" when the relay or the peer is not there in time.
        """
        if len(self._scopes) >= MAX_MEETINGS or stream in self._scopes:
            raise ConnectError("relay-failed")
        visit = _Visit(meeting, stream, self._key_pair)
        self._scopes[stream] = visit.scope
        self._nursery.start_soon(self._attend, visit)
        try:
            with trio.move_on_after(MEET_SECONDS):
                await visit.settled.wait()
        finally:
            if visit.remote_id is None:
                visit.scope.cancel()
        if visit.remote_id is None or visit.relay is None:
            raise ConnectError("relay-failed")
        return visit.connect()

    def leave(self, stream: UdxTrioStream) -> None:
        """The stream has found a way of its own: end the connection to the relay, if there is one."""
        scope = self._scopes.get(stream)
        if scope is not None:
            scope.cancel()

    async def _attend(self, visit: "_Visit") -> None:
        try:
            with visit.scope, suppress(P2prssError):
                visit.relay = await self._dial(visit.meeting.relay)
                await visit.run()
        finally:
            del self._scopes[visit.stream]
            visit.settled.set()


class _Visit:
    """One connection to a relay."""

    def __init__(self, meeting: Meeting, stream: UdxTrioStream, key_pair: KeyPair) -> None:
        self.meeting = meeting
        self.stream = stream
        self.scope = trio.CancelScope()
        self.settled = trio.Event()
        self.relay: PeerStream | None = None
        self.remote_id: int | None = None  # of the relay's stream for us
        self._key_pair = key_pair
        self._connection: Connection | None = None
        self._channel: MuxChannel | None = None
        self._link: Link | None = None

    def connect(self) -> PeerStream:
        """Connect our stream over the relay's socket to the relay's stream."""
        assert self.relay is not None
        assert self.remote_id is not None
        socket, remote = self.relay.stream.socket, self.relay.stream.machine.remote
        if socket is None or remote is None or self.stream.socket is not None:
            self.scope.cancel()
            raise ConnectError("relay-failed")
        host, port = remote.address[:2]
        self.stream.connect(socket, self.remote_id, (host.removeprefix("::ffff:"), port))
        return self.relay

    async def run(self) -> None:
        """Until our stream is over, or the relay goes."""
        assert self.relay is not None
        self._connection = Connection(
            initiator=True,
            key_pair=self._key_pair,
            ephemeral_seed=random_bytes(32),
            stream_header=random_bytes(24),
            now=trio.current_time(),
            handshake=self.relay.handshake,
        )
        self._link = Link(self.relay.stream, self._connection, "a blind relay")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._end_with_stream)
            with suppress(P2prssError):  # the relay went, or talks nonsense
                await self._link.run(self._handle)
            nursery.cancel_scope.cancel()

    async def _end_with_stream(self) -> None:
        await self.stream.wait_closed()
        if self._link is not None:
            self._link.close()

    def _handle(self, events: list[Event]) -> None:
        assert self._connection is not None
        assert self._link is not None
        for event in events:
            if isinstance(event, Ready):
                self._channel = self._connection.open(PROTOCOL, self._key_pair.public_key)
                pair = Pair(self.meeting.proposed, self.meeting.token, self.stream.stream_id)
                self._channel.send(_PAIR, pair.encode())
            elif isinstance(event, RemoteOpen):
                self._connection.reject(event)
            elif isinstance(event, Rejected | Closed) and event.channel is self._channel:
                self._link.close()
            elif isinstance(event, Received) and event.channel is self._channel and event.type == _PAIR:
                self._paired(event.payload)
        self._link.flush()

    def _paired(self, payload: memoryview) -> None:
        """The relay says that both are there; anything else it says is not for us."""
        try:
            pair = Pair.decode(payload)
        except DecodeError:
            return
        ours = self.meeting
        if compare_digest(pair.token, ours.token) and pair.is_initiator == ours.proposed:
            self.remote_id = pair.id
            self.settled.set()
