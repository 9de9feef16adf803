"""Getting the handshake across: relays are tried, few at a time, until one brings the server's reply.

Relays that were named to us come first, then those of an earlier connect; a little later the DHT is asked
who relays for the key, unless the dial is to be brief. All carry the same message 1, and a reply counts only
if it decrypts, so a relay that answers nonsense costs us its turn and nothing more.

Source: hyperdht 6.34.0 lib/connect.js ``findAndConnect``, ``connectThroughNode``; spec/07-net.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.net.connect.noise_ik import ClientHandshake, Outcome
from p2prss.net.connect.peer_stream import ConnectError
from p2prss.net.dht.client import SELF_ANNOUNCE_NODES, DhtNode
from p2prss.net.dht.endpoint import Endpoint, is_ipv4
from p2prss.net.dht.handshake import HandshakeEnvelope, Mode
from p2prss.net.dht.messages import Command
from p2prss.net.dht.records import peer_target
from p2prss.net.dht.requests import SENDS

PARALLEL: Final = 2  # handshakes under way at once over relays that were named to us, and over others
MAX_NAMED: Final = 4  # relays taken from the caller
HEAD_START: Final = 0.5  # seconds for named relays before the DHT is asked, with some 30 datagrams
BRIEF_SENDS: Final = 2  # of a handshake in a brief search, a second each
MAX_CANDIDATES: Final = 24  # relays tried in one connect
MAX_REMEMBERED: Final = 512  # peers whose relays are remembered


@dataclass(frozen=True, slots=True)
class Answer:
    """A handshake that got through."""

    outcome: Outcome
    relay: Endpoint  # the node that was asked; the server itself when it was reached directly
    server_address: Endpoint  # as the relay sees it
    client_address: Endpoint  # ours, as the node asked sees it
    socket: int  # the question went out of

    @property
    def is_relayed(self) -> bool:
        """Whether somebody stood between us and the server."""
        return self.relay != self.server_address


class RelayMemory:
    """The relays of peers we reached, those reached last."""

    def __init__(self) -> None:
        self._relays: OrderedDict[PublicKey, tuple[Endpoint, ...]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._relays)

    def get(self, public_key: PublicKey) -> tuple[Endpoint, ...]:
        """Where the peer was last reached; empty when that is not known."""
        return self._relays.get(public_key, ())

    def add(self, public_key: PublicKey, relays: Iterable[Endpoint]) -> None:
        """Note where a peer was reached."""
        self._relays[public_key] = tuple(dict.fromkeys(relays))[:SELF_ANNOUNCE_NODES]
        self._relays.move_to_end(public_key)
        if len(self._relays) > MAX_REMEMBERED:
            self._relays.popitem(last=False)


class Search:
    """One search for a server; ``run`` it once."""

    def __init__(self, dht: DhtNode, public_key: PublicKey, handshake: ClientHandshake) -> None:
        self._dht = dht
        self._public_key = public_key
        self._target = peer_target(public_key)
        self._handshake = handshake
        self._named: deque[Endpoint] = deque()  # not tried yet
        self._candidates: OrderedDict[Endpoint, None] = OrderedDict()  # likewise, of those the DHT named
        self._seen: set[Endpoint] = set()
        self._more = trio.Event()
        self._answer: Answer | None = None
        self._brief = False
        self._complete = False  # no candidate will come any more
        self._named_failed = trio.Event()

    async def run(self, named: Sequence[Endpoint], *, brief: bool = False) -> Answer:
        """The first good answer.

        Args: named: relays that are likely to know the server, or the server itself; brief: ask only
        them, if there are any, and not for long: most who do not answer then are gone.
        Raises: ConnectError: ``not-found`` when nobody relays for the key, ``silent`` when none of those who
        do brought an answer.
        """
        first = [endpoint for endpoint in dict.fromkeys(named) if is_ipv4(endpoint)][:MAX_NAMED]
        self._seen.update(first)
        self._named.extend(first)
        self._brief = self._complete = brief and bool(first)
        async with trio.open_nursery() as nursery:
            if not self._complete:
                nursery.start_soon(self._query, HEAD_START if first else 0)
            async with trio.open_nursery() as tries:
                for _ in range(PARALLEL):
                    tries.start_soon(self._try_named, nursery.cancel_scope)
                    tries.start_soon(self._try_found, nursery.cancel_scope)
            nursery.cancel_scope.cancel()
        if self._answer is not None:
            return self._answer
        raise ConnectError("silent" if self._seen else "not-found")

    def _add(self, endpoint: Endpoint) -> None:
        if endpoint not in self._seen and len(self._seen) < MAX_CANDIDATES and is_ipv4(endpoint):
            self._seen.add(endpoint)
            self._candidates[endpoint] = None
            self._wake()

    def _wake(self) -> None:
        self._more.set()
        self._more = trio.Event()

    async def _query(self, head_start: float) -> None:
        """Ask the DHT; a node that knows the way itself, as it is close to the key, starts with that."""
        with trio.move_on_after(head_start):
            await self._named_failed.wait()
        state = self._dht.machine.state
        route = state.store.route(self._target, trio.current_time())
        if route is not None:
            self._add(route.relay)
        await self._dht.find_peer(self._public_key, on_relay=self._add)
        self._complete = True
        self._wake()

    async def _try_named(self, done: trio.CancelScope) -> None:
        while self._named:
            await self._try(self._named.popleft(), done)
        self._named_failed.set()

    async def _try_found(self, done: trio.CancelScope) -> None:
        while self._candidates or not self._complete:
            if self._candidates:
                await self._try(self._candidates.popitem(last=False)[0], done)
            else:
                await self._more.wait()

    async def _try(self, candidate: Endpoint, done: trio.CancelScope) -> None:
        """Have one node pass the message on, and end the search if it brings back what we need."""
        answer = await self._ask(candidate)
        if answer is not None and self._answer is None:
            self._answer = answer
            done.cancel()

    async def _ask(self, candidate: Endpoint) -> Answer | None:
        """Have one node pass the message on; None when nothing useful comes back."""
        value = HandshakeEnvelope(Mode.FROM_CLIENT, self._handshake.message).encode()
        try:
            response = await self._dht.request(
                candidate,
                Command.PEER_HANDSHAKE,
                target=self._target,
                value=value,
                sends=BRIEF_SENDS if self._brief else SENDS,
                relayed=True,
            )
        except NetworkError:
            return None
        if response.reply.value is None:
            return None  # it has no way to the server (any more)
        try:
            envelope = HandshakeEnvelope.decode(response.reply.value)
            if envelope.mode != Mode.REPLY:
                return None
            outcome = self._handshake.receive(envelope.noise)
        except RemoteProtocolError:
            return None  # it did not decrypt, or made no sense
        server_address = envelope.peer_address or candidate
        return Answer(outcome, candidate, server_address, response.reply.to, response.socket)
