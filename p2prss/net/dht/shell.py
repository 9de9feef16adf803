"""A DHT node on real sockets: it hands datagrams and time to the machine and sends what comes out.

All of it that waits is here; every decision is the machine's.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import SystemRandom
from time import time
from typing import Final, NamedTuple, Self

import trio

from p2prss.crypto.keys import PublicKey
from p2prss.errors import NetworkError
from p2prss.net.dht.bootstrap import PUBLIC_BOOTSTRAPS, Bootstrap, resolve_all
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.messages import Command, Internal, is_dht_datagram
from p2prss.net.dht.node import Commit, DhtMachine, Write
from p2prss.net.dht.query import Answer
from p2prss.net.dht.records import peer_target
from p2prss.net.dht.relay import PeerHandler, PeerMessage
from p2prss.net.dht.requests import QUERY_SENDS, SENDS, Response
from p2prss.net.dht.running_query import RunningQuery
from p2prss.net.dht.state import CLIENT, SERVER, DhtConfig
from p2prss.net.dht.udp import DatagramSocket
from p2prss.net.dht.upkeep import SLEEP_SECONDS

BOOTSTRAP_PATIENCE: Final = 3.0  # seconds until the names of bootstrap nodes are looked up
RESOLVE_PAUSE: Final = 15.0  # seconds until names nobody knew are looked up again


class NetworkView(NamedTuple):
    """How the network sees a node. Port 0: unknown, or another one for each remote."""

    firewalled: bool
    persistent: bool
    host: str | None
    port: int


OnOther = Callable[[bytes, Endpoint, int], None]
"""Gets (datagram, sender, socket) of what is not for the DHT, such as punch probes."""


@dataclass(frozen=True, slots=True)
class DhtStatistics:
    """A node's state and counters."""

    nodes: int  # in the routing table
    bootstrapped: bool
    persistent: bool
    firewalled: bool  # no proof that strangers reach us
    public_host: str | None
    public_port: int  # 0: unknown or different for each remote
    round_trip: float | None  # seconds, smoothed
    in_flight: int
    queued: int
    requests_sent: int
    requests_repeated: int
    requests_failed: int
    requests_answered: int
    replies_forged: int
    replies_refused: int  # over a host's budget
    undecodable: int
    forwarded: int
    forwards_refused: int
    stored: dict[str, int]


class DhtShell:
    """A node on its sockets. ``run`` keeps it alive; every other method needs that it runs.

    It takes the datagrams of its sockets (sets their ``on_datagram``); those that are not for the DHT go to
    ``on_other``.

    Args: server: the socket strangers are told about, perhaps shared with UDX streams; client: a second one,
    without which the node can never prove that it is reachable; bootstraps: texts as in ``bootstrap``.
    """

    def __init__(
        self,
        server: DatagramSocket,
        client: DatagramSocket | None,
        *,
        bootstraps: Sequence[str] = PUBLIC_BOOTSTRAPS,
        ephemeral: bool | None = None,
        public_endpoint: Endpoint | None = None,
        allow_private: bool | None = None,
    ) -> None:
        self._bootstraps = [Bootstrap.parse(text) for text in bootstraps]
        config = DhtConfig(
            bootstraps=tuple(one.known for one in self._bootstraps if one.known is not None),
            server_port=server.address[1],
            ephemeral=ephemeral,
            public_endpoint=public_endpoint,
            allow_private=allow_private,
            single_socket=client is None,
        )
        self.machine = DhtMachine(config, random=SystemRandom(), now=trio.current_time(), unix_time=time())
        self.on_other: OnOther | None = None
        self._sockets: dict[int, DatagramSocket] = {}
        self._next_socket = CLIENT + 1
        self._timer = trio.CancelScope()
        self._bootstrapped = trio.Event()
        self._view = self.network_view
        self._clock_offset = time() - trio.current_time()
        self._changed = trio.Event()
        self._attach(SERVER, server)
        if client is not None:
            self._attach(CLIENT, client)

    # -- life

    async def run(self, *, task_status: trio.TaskStatus[Self] = trio.TASK_STATUS_IGNORED) -> None:
        """Take part until cancelled; the sockets are the owner's to read and close."""
        task_status.started(self)
        if self.machine.state.bootstraps or not self._bootstraps:
            self._bootstrap()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._resolve_names)
            while True:
                with trio.CancelScope(deadline=self.machine.deadline) as self._timer:
                    await trio.sleep_forever()
                if not self._timer.cancelled_caught:
                    return
                now = trio.current_time()
                if self._has_slept(now):
                    self.machine.wake(now)
                self.machine.handle_timer(now)
                self._flush()

    async def wait_bootstrapped(self) -> None:
        """Until the first nodes answered."""
        await self._bootstrapped.wait()

    async def wait_network_change(self, seen: NetworkView) -> NetworkView:
        """Until ``network_view`` is another than the one seen: announcements have to be made anew."""
        while self.network_view == seen:
            await self._changed.wait()
        return self.network_view

    # -- state

    @property
    def network_view(self) -> NetworkView:
        """How the network sees us."""
        state = self.machine.state
        return NetworkView(state.firewalled, not state.ephemeral, state.sampler.host, state.sampler.port)

    @property
    def firewalled(self) -> bool:
        """Whether there is no proof that strangers reach us."""
        return self.machine.state.firewalled

    @property
    def persistent(self) -> bool:
        """Whether we keep records for others."""
        return not self.machine.state.ephemeral

    @property
    def public_endpoint(self) -> Endpoint | None:
        """Where anybody can reach us; None when that is not proven."""
        return self.machine.state.public_endpoint

    @property
    def request_socket(self) -> int:
        """The socket our requests go out of now: what relays know us by."""
        return self.machine.state.request_socket

    def socket(self, number: int) -> DatagramSocket:
        """A socket by its number, as in ``PeerMessage`` and ``Response``."""
        return self._sockets[number]

    def recent_nodes(self, count: int) -> list[Endpoint]:
        """Nodes heard from most recently."""
        return [contact.endpoint for contact in self.machine.state.table.newest(count)]

    def statistics(self) -> DhtStatistics:
        state, machine = self.machine.state, self.machine
        return DhtStatistics(
            nodes=len(state.table),
            bootstrapped=machine.bootstrapped,
            persistent=self.persistent,
            firewalled=state.firewalled,
            public_host=state.sampler.host,
            public_port=state.sampler.port,
            round_trip=state.requests.round_trips.smoothed,
            in_flight=len(state.requests),
            queued=state.requests.queued,
            requests_sent=state.requests.sent,
            requests_repeated=state.requests.repeated,
            requests_failed=state.requests.timed_out,
            requests_answered=machine.answered,
            replies_forged=state.requests.forged,
            replies_refused=state.limit.refused,
            undecodable=machine.undecodable,
            forwarded=machine.relay.forwarded,
            forwards_refused=machine.relay.refused,
            stored=state.store.statistics(),
        )

    # -- sockets and messages for ``connect``

    def add_socket(self, socket: DatagramSocket) -> int:
        """Let DHT requests use one more socket, such as one to punch a hole with; returns its number."""
        number, self._next_socket = self._next_socket, self._next_socket + 1
        self._attach(number, socket)
        return number

    def remove_socket(self, number: int) -> None:
        """The socket is no longer used; its owner closes it."""
        self._sockets.pop(number).on_datagram = None

    def serve(self, public_key: PublicKey, handler: PeerHandler) -> None:
        """Take PEER_HANDSHAKE and PEER_HOLEPUNCH for a key of ours; ``answer`` them."""
        self.machine.relay.serve(peer_target(public_key), handler)

    def unserve(self, public_key: PublicKey) -> None:
        self.machine.relay.unserve(peer_target(public_key))

    def answer(self, message: PeerMessage, payload: bytes, *, socket: int | None = None) -> None:
        """Send a server's Noise or punch payload back the way the message came."""
        self.machine.relay.answer(message, payload, trio.current_time(), socket=socket)
        self._flush()

    async def request(
        self,
        to: Endpoint,
        command: int,
        *,
        internal: bool = False,
        target: bytes | None = None,
        value: bytes | None = None,
        token: bytes | None = None,
        socket: int | None = None,
        sends: int = SENDS,
        relayed: bool = False,
        patience: float | None = None,
    ) -> Response:
        """Ask one node.

        Args: relayed: it passes the request on, and the reply back; patience: seconds to wait for a reply to
        each send, else at most one.
        Raises: NetworkError when it does not answer.
        """
        outcome: list[Response] = []
        done = trio.Event()

        def replied(response: Response, _now: float) -> None:
            outcome.append(response)
            done.set()

        pending = self.machine.state.send_request(
            to,
            command,
            trio.current_time(),
            internal=internal,
            target=target,
            value=value,
            token=token,
            socket=socket,
            sends=sends,
            relayed=relayed,
            patience=patience,
            on_reply=replied,
            on_failure=lambda _now: done.set(),
        )
        if pending is None:
            raise NetworkError(f"{to} cannot be asked")
        self._flush()
        try:
            await done.wait()
        finally:
            pending.cancel()
        if not outcome:
            raise NetworkError(f"{to} does not answer")
        return outcome[0]

    async def ping(self, to: Endpoint, *, socket: int | None = None, sends: int = SENDS) -> Response:
        """Ask a node for nothing; ``reply.to`` is how it sees us.

        Raises: NetworkError when it does not answer.
        """
        return await self.request(to, Internal.PING, internal=True, socket=socket, sends=sends)

    # -- parts

    def _attach(self, number: int, socket: DatagramSocket) -> None:
        self._sockets[number] = socket

        def take(datagram: bytes, address: tuple[str, int], _socket: object) -> None:
            if is_dht_datagram(datagram):
                self.machine.receive(datagram, Endpoint(*address), number, trio.current_time())
                self._flush()
            elif self.on_other is not None:
                self.on_other(datagram, Endpoint(*address), number)

        socket.on_datagram = take

    def _flush(self) -> None:
        """Send what the machine wants sent, and note when it wants to be woken."""
        for number, to, data in self.machine.data_to_send():
            socket = self._sockets.get(number)
            if socket is not None:
                socket.send_datagram(data, to)
        self._timer.deadline = self.machine.deadline
        view = self.network_view
        if view != self._view:
            self._view = view
            self._changed.set()
            self._changed = trio.Event()

    def _bootstrap(self) -> None:
        self.machine.bootstrap(trio.current_time(), self._bootstrapped.set)
        self._flush()

    def _has_slept(self, now: float) -> bool:
        """Whether the wall clock went on while ours stood still; one that was merely set does no harm."""
        offset = time() - now
        jump, self._clock_offset = offset - self._clock_offset, offset
        return jump > SLEEP_SECONDS

    async def _resolve_names(self) -> None:
        """Look up names: at once those without a known address, later all if nobody answers."""
        nameless = [one for one in self._bootstraps if one.known is None]
        named = [one for one in self._bootstraps if one.known is not None and one.known.host != one.name]
        if nameless:
            await self._resolve(nameless)
        if named:
            with trio.move_on_after(BOOTSTRAP_PATIENCE):
                await self._bootstrapped.wait()
            if not self._bootstrapped.is_set():
                await self._resolve(named)

    async def _resolve(self, bootstraps: Sequence[Bootstrap]) -> None:
        """Look up until a name is known, then ask that node."""
        while True:
            found = await resolve_all(bootstraps)
            if found:
                self.machine.state.add_bootstraps(found)
                self._bootstrap()
                return
            await trio.sleep(RESOLVE_PAUSE)

    async def query(
        self,
        target: bytes,
        command: Command,
        *,
        value: bytes | None = None,
        start: Iterable[Endpoint] = (),
        on_answer: Callable[[Answer], object] | None = None,
        done: trio.Event | None = None,
    ) -> RunningQuery:
        """Run a query to its end, or until ``done`` is set by ``on_answer``."""
        over = done if done is not None else trio.Event()

        def take(answer: Answer) -> None:
            if on_answer is not None:
                on_answer(answer)

        query = self.machine.start_query(
            target,
            command,
            trio.current_time(),
            value=value,
            start=start,
            on_answer=take,
            on_done=lambda _query, _now: over.set(),
            sends=QUERY_SENDS,
        )
        self._flush()
        try:
            await over.wait()
        finally:
            query.cancel()
        return query

    async def commit(
        self, answers: Iterable[Answer], target: bytes, make: Callable[[Answer, bytes], Write]
    ) -> Commit:
        outcome: list[Commit] = []
        done = trio.Event()

        def finished(commit: Commit, _now: float) -> None:
            outcome.append(commit)
            done.set()

        self.machine.commit(answers, target, make, trio.current_time(), finished)
        self._flush()
        await done.wait()
        return outcome[0]
