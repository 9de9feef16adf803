"""The side that dials: find the server, agree on keys, and find a way for the stream.

The ways, in this order: packets of the server that came by themselves; the address we asked, when it was the
server's; the server's public address; waiting for the server, when it is we who can be reached; the local
network and a hole through both NATs, at the same time. The stream exists, and keeps what comes for it,
before the server is told its number.

Source: hyperdht 6.34.0 lib/connect.js; spec/07-net.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import trio
from nacl.utils import random as random_bytes

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError
from p2prss.net.connect.blind_relay import propose
from p2prss.net.connect.noise_ik import ClientHandshake
from p2prss.net.connect.parts import NetworkParts
from p2prss.net.connect.peer_stream import ConnectError, Path, PeerStream
from p2prss.net.connect.puncher import ClientPuncher
from p2prss.net.connect.search import MAX_REMEMBERED, Answer, RelayMemory, Search
from p2prss.net.dht.endpoint import Endpoint, is_private, is_reserved
from p2prss.net.dht.handshake import (
    PAYLOAD_VERSION,
    Firewall,
    HandshakeError,
    NoisePayload,
    RelayThrough,
    UdxInfo,
    holepunch_key,
)
from p2prss.net.udx.socket import UdxSocket
from p2prss.net.udx.trio_stream import UdxTrioStream

CONNECT_SECONDS: Final = 90.0  # for all of it; a punch alone may take a minute
PASSIVE_SECONDS: Final = 10.0  # we wait for a server that has to come to us
NAT_REASONS: Final = frozenset({"holepunch-aborted", "double-random", "cannot-punch"})
"""Reasons for failing after which a relay is proposed the next time."""


@dataclass(frozen=True, slots=True)
class Way:
    """Where a stream is to be connected."""

    path: Path
    socket: UdxSocket
    address: Endpoint


class Client:
    """Dials for one key pair; any number of ``connect`` may run at once."""

    def __init__(self, parts: NetworkParts) -> None:
        self.memory = RelayMemory()
        self._parts = parts
        self._out_of_reach: OrderedDict[PublicKey, None] = OrderedDict()  # for the NATs between us

    async def connect(
        self, public_key: PublicKey, relays: Sequence[Endpoint] = (), *, brief: bool = False
    ) -> PeerStream:
        """Reach the server with this key.

        Args: relays: DHT nodes that were named as its relays, or its own address; brief: give up soon
        when none of them brings an answer.
        Returns: a connected stream. That the server is there is sure once its secret-stream header came.
        Raises: ConnectError; another NetworkError when there are too many streams.
        """
        relay = self._parts.blind_relay
        proposal = propose(relay) if relay is not None and public_key in self._out_of_reach else None
        try:
            peer = await self._dial(public_key, relays, proposal, brief=brief)
        except ConnectError as error:
            if error.reason in NAT_REASONS:
                self._note(public_key)
            raise
        if peer.path is not Path.RELAYED:
            self._out_of_reach.pop(public_key, None)
        return peer

    async def connect_relay(self, public_key: PublicKey) -> PeerStream:
        """Reach a blind relay, not over another one."""
        return await self._dial(public_key, (), None, brief=False)

    async def _dial(
        self,
        public_key: PublicKey,
        relays: Sequence[Endpoint],
        proposal: RelayThrough | None,
        *,
        brief: bool,
    ) -> PeerStream:
        if public_key == self._parts.key_pair.public_key:
            raise ConnectError("refused")
        arrival = _Arrival()
        stream = self._parts.udx.create_stream(firewall=arrival.admits)
        try:
            with trio.move_on_after(CONNECT_SECONDS):
                return await self._connect(public_key, relays, proposal, stream, arrival, brief=brief)
            raise ConnectError("timeout")
        except BaseException:
            stream.destroy()
            raise

    def _note(self, public_key: PublicKey) -> None:
        """No hole can be made to this peer: the next time a relay is proposed."""
        self._out_of_reach[public_key] = None
        if len(self._out_of_reach) > MAX_REMEMBERED:
            self._out_of_reach.popitem(last=False)

    async def _connect(
        self,
        public_key: PublicKey,
        relays: Sequence[Endpoint],
        proposal: RelayThrough | None,
        stream: UdxTrioStream,
        arrival: "_Arrival",
        *,
        brief: bool,
    ) -> PeerStream:
        parts = self._parts
        payload = NoisePayload(
            firewall=parts.firewall,
            addresses4=parts.told_addresses,
            udx=UdxInfo(stream.stream_id),
            secret_stream=1,
            relay_through=proposal,
        )
        handshake = ClientHandshake(parts.key_pair, public_key, payload, random_bytes(32))
        search = Search(parts.dht, public_key, handshake)
        answer = await search.run(relays or self.memory.get(public_key), brief=brief)
        remote_id = _check(answer.outcome.payload)
        way = await self._find_way(payload, answer, arrival, stream)
        if stream.socket is None:
            stream.connect(way.socket, remote_id, way.address)
        elif way.path is not Path.RELAYED:  # both succeeded in the same moment
            stream.change_remote(way.socket, remote_id, way.address)
        self.memory.add(public_key, [*(answer.outcome.payload.relay_addresses or ()), answer.relay])
        return PeerStream(stream, answer.outcome.result, True, public_key, way.path)

    async def _find_way(
        self, told: NoisePayload, answer: Answer, arrival: "_Arrival", stream: UdxTrioStream
    ) -> Way:
        """The way both sides think of; ``told`` is what the server knows of us."""
        parts, payload = self._parts, answer.outcome.payload
        if arrival.socket is not None:
            return arrival.way if answer.is_relayed else replace(arrival.way, path=Path.DIRECT)
        if not answer.is_relayed:
            return Way(Path.DIRECT, parts.socket(answer.socket), answer.relay)
        punchable = payload.holepunch is not None and bool(payload.holepunch.relays)
        if payload.firewall == Firewall.OPEN or not punchable:
            return Way(Path.OPEN, parts.socket(parts.dht.request_socket), self._public_address(answer))
        if told.firewall == Firewall.OPEN:
            with trio.move_on_after(PASSIVE_SECONDS):
                await arrival.wait()
                return arrival.way
            raise ConnectError("timeout")

        async def punch() -> Way:
            return await self._punch(answer, stream)

        async def find_on_lan() -> Way:
            return await self._find_on_lan(answer)

        async def meet() -> Way:
            if parts.blind_relays is not None and meeting is not None:
                await parts.blind_relays.meet(meeting, stream)
            if stream.socket is None or stream.machine.remote is None:
                raise ConnectError("relay-failed")
            return Way(Path.RELAYED, stream.socket, Endpoint(*stream.machine.remote.address[:2]))

        meeting = parts.meeting(client=told.relay_through, server=payload.relay_through, is_server=False)
        finders = [punch]
        if self._same_host(answer):
            finders.append(find_on_lan)
        if meeting is not None:
            finders.append(meet)
        return await _race(arrival, finders)

    def _public_address(self, answer: Answer) -> Endpoint:
        """The first of the server's addresses that means something everywhere, else what the relay sees."""
        for address in answer.outcome.payload.addresses4:
            if address.port and not is_private(address.host) and not is_reserved(address.host):
                return address
        if not self._parts.may_send(answer.server_address):
            raise ConnectError("cannot-punch")
        return answer.server_address

    def _same_host(self, answer: Answer) -> bool:
        """Whether the two of us are likely on one local network, as others see us at one address."""
        return self._parts.lan_addresses and answer.client_address.host == answer.server_address.host

    async def _find_on_lan(self, answer: Answer) -> Way:
        """The server's local address, if it answers there; it need not look like one of ours."""
        theirs = answer.outcome.payload.addresses4
        address = self._parts.local_match(theirs) or next(iter(theirs), None)
        if address is None or not address.port or is_reserved(address.host):
            raise ConnectError("cannot-punch")
        try:
            await self._parts.dht.ping(address)
        except NetworkError:
            raise ConnectError("timeout") from None
        return Way(Path.LAN, self._parts.server_socket, address)

    async def _punch(self, answer: Answer, stream: UdxTrioStream) -> Way:
        """A way through both NATs; its socket lives as long as the stream."""
        sockets, (result, payload) = self._parts.punch_sockets, answer.outcome
        if payload.holepunch is None:
            raise ConnectError("cannot-punch")
        secret = holepunch_key(result.handshake_hash)
        way, reason = None, "cannot-punch"
        try:
            async with ClientPuncher.open(
                sockets, secret=secret, remote_firewall=payload.firewall
            ) as puncher:
                socket, address = await puncher.punch(
                    result.remote_public_key,
                    payload.holepunch,
                    relay=answer.relay,
                    server_address=answer.server_address,
                )
                sockets.keep(socket, stream)
                way = Way(Path.PUNCHED, socket, address)
        except* ConnectError as errors:
            reason = _leaf(errors).reason
        except* NetworkError:
            pass  # no socket to punch with
        if way is None:
            raise ConnectError(reason)
        return way


async def _race(arrival: "_Arrival", finders: Sequence[Callable[[], Awaitable[Way]]]) -> Way:
    """Look for several ways at once; the first that is found counts.

    Raises: ConnectError, for the reason of the last to fail.
    """
    ways: list[Way] = []
    failures: list[ConnectError] = []
    async with trio.open_nursery() as nursery:

        async def attempt(find: Callable[[], Awaitable[Way]]) -> None:
            try:
                ways.append(await find())
            except ConnectError as error:
                failures.append(error)
            if ways or len(failures) == len(finders):
                nursery.cancel_scope.cancel()

        async def arrive() -> None:
            await arrival.wait()
            ways.append(arrival.way)
            nursery.cancel_scope.cancel()

        nursery.start_soon(arrive)
        for find in finders:
            nursery.start_soon(attempt, find)
    if ways:
        return ways[0]
    raise failures[-1]


class _Arrival:
    """The first packet that came for the stream, and where from: what others send is not taken."""

    def __init__(self) -> None:
        self.socket: UdxSocket | None = None
        self._address = Endpoint("0.0.0.0", 0)
        self._arrived = trio.Event()

    @property
    def way(self) -> Way:
        if self.socket is None:
            raise AssertionError("nothing arrived")
        return Way(Path.OPEN, self.socket, self._address)

    async def wait(self) -> None:
        await self._arrived.wait()

    def admits(self, socket: UdxSocket, source: tuple[str, int]) -> bool:
        if not source[1]:
            return False
        if self.socket is None:
            self.socket, self._address = socket, Endpoint(*source)
            self._arrived.set()
        return socket is self.socket and source == self._address


def _leaf(error: ConnectError | BaseExceptionGroup[ConnectError]) -> ConnectError:
    """The first error of a group."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _check(payload: NoisePayload) -> int:
    """The id of the server's stream.

    Raises: ConnectError when there is none to be had.
    """
    if payload.version != PAYLOAD_VERSION or payload.error == HandshakeError.VERSION_MISMATCH:
        raise ConnectError("incompatible")
    if payload.error != HandshakeError.NONE or payload.udx is None:
        raise ConnectError("server-error")
    return payload.udx.id
