"""The DHT as a program uses it: find peers, be found, keep small values. All methods may wait.

``open_dht`` is a node with sockets of its own; ``DhtNode`` takes sockets that UDX streams share.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from p2prss.codec.compact import Writer
from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair, PublicKey
from p2prss.errors import DecodeError, NetworkError, UsageError
from p2prss.net.dht.bootstrap import PUBLIC_BOOTSTRAPS
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.handshake import RelayInfo
from p2prss.net.dht.messages import MAX_VALUE, Command, ErrorCode
from p2prss.net.dht.node import Write
from p2prss.net.dht.query import Answer
from p2prss.net.dht.records import (
    MAX_PEERS,
    LookupReply,
    MutablePut,
    MutableValue,
    PeerRecord,
    peer_target,
    sign_announcement,
)
from p2prss.net.dht.running_query import RunningQuery
from p2prss.net.dht.shell import DhtShell
from p2prss.net.dht.udp import UdpSocket

MAX_FOUND: Final = 512  # peers one lookup returns
SELF_ANNOUNCE_NODES: Final = 3  # that relay for a server

T = TypeVar("T")
OnPeer = Callable[[PeerRecord], None]


@dataclass(frozen=True, slots=True)
class Found:
    """The outcome of a lookup: peers without doubles, and the nodes nearest to the topic."""

    peers: tuple[PeerRecord, ...]
    closest: tuple[Endpoint, ...]  # good ``start`` nodes for the next time
    stored: int = 0  # nodes that took the announcement, if there was one


class DhtNode(DhtShell):
    """A node of the network, for those who want something of it."""

    # -- peers

    async def lookup(
        self, topic: bytes, *, on_peer: OnPeer | None = None, start: Iterable[Endpoint] = ()
    ) -> Found:
        """Who announced this topic (32 bytes)? ``on_peer`` hears of each as soon as it is found."""
        peers = _PeerCollector(on_peer)
        query = await self.query(topic, Command.LOOKUP, start=start, on_answer=peers.take)
        return Found(peers.found, _endpoints(query))

    async def announce(
        self,
        topic: bytes,
        key_pair: KeyPair,
        relays: Sequence[Endpoint] = (),
        *,
        on_peer: OnPeer | None = None,
        start: Iterable[Endpoint] = (),
        replace: bool = False,
    ) -> Found:
        """Look up a topic, then tell the nodes nearest to it that ``key_pair`` serves it.

        Args: relays: addresses through which we can be dialled; replace: revoke first what is stored, for
        JavaScript nodes keep the old relays otherwise.
        Raises: NetworkError when no node took it.
        """
        peers = _PeerCollector(on_peer)
        stale: list[Answer] = []

        def answered(answer: Answer) -> None:
            told = peers.take(answer)
            if any(peer.public_key == key_pair.public_key for peer in told) or len(told) >= MAX_PEERS:
                stale.append(answer)

        query = await self.query(topic, Command.LOOKUP, start=start, on_answer=answered)
        if replace and stale:
            await self.commit(stale, topic, _announcer(Command.UNANNOUNCE, topic, key_pair, ()))
        commit = await self.commit(
            query.closest, topic, _announcer(Command.ANNOUNCE, topic, key_pair, relays)
        )
        if not commit.stored:
            raise NetworkError("no DHT node took the announcement")
        return Found(peers.found, _endpoints(query), len(commit.stored))

    async def unannounce(self, topic: bytes, key_pair: KeyPair, *, start: Iterable[Endpoint] = ()) -> int:
        """Revoke an announcement; returns how many nodes confirmed."""
        query = await self.query(topic, Command.LOOKUP, start=start)
        commit = await self.commit(query.closest, topic, _announcer(Command.UNANNOUNCE, topic, key_pair, ()))
        return len(commit.stored)

    async def find_peer(
        self,
        public_key: PublicKey,
        *,
        on_relay: Callable[[Endpoint], None] | None = None,
        start: Iterable[Endpoint] = (),
    ) -> tuple[Endpoint, ...]:
        """Nodes that relay for a server's key; ``on_relay`` hears of each as soon as it is found."""
        relays: dict[Endpoint, None] = {}

        def answered(answer: Answer) -> None:
            if answer.reply.value and answer.reply.value[: len(public_key)] == public_key:
                relays.setdefault(answer.endpoint)
                if on_relay is not None:
                    on_relay(answer.endpoint)

        await self.query(peer_target(public_key), Command.FIND_PEER, start=start, on_answer=answered)
        return tuple(relays)

    async def announce_self(
        self, key_pair: KeyPair, *, start: Iterable[Endpoint] = ()
    ) -> tuple[RelayInfo, ...]:
        """Make the three nodes nearest to our key relay for it, to the socket our requests go out of now.

        Returns: each of them, and our address as it sees us.
        Raises: NetworkError when no node took it.
        """
        target = peer_target(key_pair.public_key)
        query = await self.query(target, Command.FIND_PEER, start=start)
        nearest = query.closest[:SELF_ANNOUNCE_NODES]
        commit = await self.commit(nearest, target, _announcer(Command.ANNOUNCE, target, key_pair, ()))
        if not commit.stored:
            raise NetworkError("no DHT node relays for us")
        return tuple(RelayInfo(answer.endpoint, answer.reply.to) for answer in commit.stored)

    async def unannounce_self(self, key_pair: KeyPair, relays: Iterable[Endpoint]) -> int:
        """Tell former relays to forget us; returns how many confirmed."""
        target = peer_target(key_pair.public_key)
        answers: list[Answer] = []

        async def ask(relay: Endpoint) -> None:
            try:
                response = await self.request(relay, Command.FIND_PEER, target=target, sends=2)
            except NetworkError:
                return
            answers.append(Answer(relay, response.reply, 0))

        async with trio.open_nursery() as nursery:
            for relay in relays:
                nursery.start_soon(ask, relay)
        make = _announcer(Command.UNANNOUNCE, target, key_pair, ())
        return len((await self.commit(answers, target, make)).stored)

    # -- values

    async def put_immutable(self, value: bytes) -> bytes:
        """Store up to 1000 bytes for two days under their hash, which is returned.

        Raises: NetworkError when no node took it.
        """
        _check_size(value)
        target = blake2b(value)
        await self._put(target, Command.IMMUTABLE_GET, None, Write(Command.IMMUTABLE_PUT, value))
        return target

    async def get_immutable(self, target: bytes) -> bytes | None:
        """The bytes with that hash, if anybody keeps them."""

        def read(answer: Answer) -> bytes | None:
            value = answer.reply.value
            return value if value is not None and blake2b(value) == target else None

        return await self._first(target, Command.IMMUTABLE_GET, None, read)

    async def put_mutable(self, key_pair: KeyPair, value: bytes, *, seq: int) -> int:
        """Store up to 1000 bytes under a key, in place of any with a lower ``seq``.

        Returns: how many nodes took it.
        Raises: NetworkError when none did: nobody answered, or ``seq`` is used up.
        """
        _check_size(value)
        put = MutablePut(key_pair.public_key, MutableValue.signed(seq, value, key_pair))
        write = Write(Command.MUTABLE_PUT, put.encode())
        return await self._put(peer_target(key_pair.public_key), Command.MUTABLE_GET, _uint(0), write)

    async def get_mutable(
        self, public_key: PublicKey, *, min_seq: int = 0, latest: bool = True
    ) -> MutableValue | None:
        """A value signed by a key; the newest any node has, or with ``latest`` false the first that comes."""
        best: list[MutableValue] = []

        def read(answer: Answer) -> MutableValue | None:
            if answer.reply.value is None:
                return None
            try:
                value = MutableValue.decode(answer.reply.value)
            except DecodeError:
                return None
            if value.seq < min_seq or (best and value.seq <= best[0].seq):
                return None
            if not value.is_signed_by(public_key):
                return None
            best[:] = [value]
            return None if latest else value

        await self._first(peer_target(public_key), Command.MUTABLE_GET, _uint(min_seq), read)
        return best[0] if best else None

    async def _put(self, target: bytes, question: Command, value: bytes | None, write: Write) -> int:
        query = await self.query(target, question, value=value)
        commit = await self.commit(query.closest, target, lambda _answer, _token: write)
        if commit.stored:
            return len(commit.stored)
        refused = {ErrorCode.SEQ_REUSED, ErrorCode.SEQ_TOO_LOW} & set(commit.errors)
        raise NetworkError(
            "DHT nodes have a value with this number or a higher one"
            if refused
            else "no DHT node took the value"
        )

    async def _first(
        self, target: bytes, command: Command, value: bytes | None, read: Callable[[Answer], T | None]
    ) -> T | None:
        """The first answer ``read`` makes something of; the query ends there."""
        found: list[T] = []
        done = trio.Event()

        def take(answer: Answer) -> None:
            result = read(answer)
            if result is not None and not found:
                found.append(result)
                done.set()

        await self.query(target, command, value=value, on_answer=take, done=done)
        return found[0] if found else None


class _PeerCollector:
    """Peers without doubles, from answers that may be nonsense."""

    def __init__(self, on_peer: OnPeer | None) -> None:
        self._on_peer = on_peer
        self._peers: dict[PeerRecord, None] = {}

    @property
    def found(self) -> tuple[PeerRecord, ...]:
        return tuple(self._peers)

    def take(self, answer: Answer) -> Sequence[PeerRecord]:
        """Note the peers of one answer; returns all it named."""
        if answer.reply.value is None:
            return ()
        try:
            told = LookupReply.decode(answer.reply.value).peers[: MAX_PEERS + 1]
        except DecodeError:
            return ()
        for peer in told:
            if peer not in self._peers and len(self._peers) < MAX_FOUND:
                self._peers[peer] = None
                if self._on_peer is not None:
                    self._on_peer(peer)
        return told


def _announcer(
    command: Command, target: bytes, key_pair: KeyPair, relays: Sequence[Endpoint]
) -> Callable[[Answer, bytes], Write]:
    peer = PeerRecord(key_pair.public_key, tuple(relays))

    def make(answer: Answer, token: bytes) -> Write:
        node = answer.reply.id or node_id(answer.endpoint)
        return Write(command, sign_announcement(command, target, node, token, peer, key_pair).encode())

    return make


def _endpoints(query: RunningQuery) -> tuple[Endpoint, ...]:
    return tuple(answer.endpoint for answer in query.closest)


def _uint(value: int) -> bytes:
    out = Writer()
    out.uint(value)
    return out.finish()


def _check_size(value: bytes) -> None:
    if len(value) > MAX_VALUE:
        raise UsageError(f"{len(value)} bytes; the network keeps at most {MAX_VALUE}")


@asynccontextmanager
async def open_dht(
    *,
    host: str = "0.0.0.0",
    port: int | None = None,
    bootstraps: Sequence[str] = PUBLIC_BOOTSTRAPS,
    ephemeral: bool | None = None,
    public_host: str | None = None,
    allow_private: bool | None = None,
) -> AsyncIterator[DhtNode]:
    """A node on two sockets of its own, running until the block ends.

    Args: host: to bind; port: of the server socket, None for the usual ones, 0 for any; public_host: the
    address under which a bootstrap node is known, which makes it persistent at once.
    Raises: NetworkError when a port is taken.
    """
    server = UdpSocket.bind_default(host) if port is None else UdpSocket.bind(host, port)
    client = UdpSocket.bind(host)
    node = DhtNode(
        server,
        client,
        bootstraps=bootstraps,
        ephemeral=ephemeral,
        public_endpoint=None if public_host is None else Endpoint(public_host, server.address[1]),
        allow_private=allow_private,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.run)
        nursery.start_soon(client.run)
        await nursery.start(node.run)
        yield node
        nursery.cancel_scope.cancel()
