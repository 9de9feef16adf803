"""Two machines that punch, the NATs in front of them, and relays between, in one clock without waiting."""

from collections.abc import Callable
from dataclasses import replace
from heapq import heappop, heappush
from random import Random
from typing import Final

from p2prss.net.connect.client_punch import ClientPunch
from p2prss.net.connect.probes import RandomPunches
from p2prss.net.connect.punch_side import (
    Action,
    Answer,
    Ask,
    Failed,
    OpenMore,
    Punched,
    PunchSettings,
    PunchSide,
    Reopen,
    SendProbes,
)
from p2prss.net.connect.server_punch import ServerPunch
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import HolepunchPayload, RelayInfo

LATENCY: Final = 0.02  # seconds, one way
CLIENT_HOST: Final = "5.0.0.1"
SERVER_HOST: Final = "5.0.0.2"
RELAYS: Final = tuple(Endpoint(f"5.0.1.{number}", 49737) for number in range(1, 4))
NODES: Final = tuple(Endpoint(f"5.0.2.{number}", 49737) for number in range(1, 5))


class Nat:
    """What is in front of one side.

    Args: steady: it keeps one port per socket; shaky: but not for the first; open: it lets everything in.
    """

    def __init__(
        self, host: str, random: Random, *, steady: bool = True, shaky: bool = False, open: bool = False
    ) -> None:
        self.host = host
        self._random = random
        self._steady, self._shaky, self._open = steady, shaky, open
        self._ports: dict[tuple[int, Endpoint | None], int] = {}
        self._sockets: dict[int, int] = {}  # by public port
        self._sent: set[tuple[int, Endpoint]] = set()  # (public port, to)

    def send(self, socket: int, to: Endpoint) -> Endpoint:
        """The public address a datagram leaves from."""
        steady = self._steady and not (self._shaky and socket == 0)
        key = socket, None if steady else to
        if key not in self._ports:
            self._ports[key] = self._random.randint(2000, 65000)
            self._sockets[self._ports[key]] = socket
        self._sent.add((self._ports[key], to))
        return Endpoint(self.host, self._ports[key])

    def receive(self, to: Endpoint, source: Endpoint) -> int | None:
        """The socket a datagram from outside gets to, if to any."""
        if self._open or (to.port, source) in self._sent:
            return self._sockets.get(to.port)
        return None


class StrictServerPunch(ServerPunch):
    """As hyperdht 6.34.0 does it: a punch at random takes the budget, and the next message finds it taken."""

    def _may_punch(self, now: float) -> bool:
        return not self._holds_budget and super()._may_punch(now)


class World:
    """Runs until the client has an address, or both have failed."""

    def __init__(
        self,
        *,
        client: dict[str, bool] | None = None,
        server: dict[str, bool] | None = None,
        seed: int = 1,
        fast: bool = True,
        has_relay: bool = False,
        random_punches: RandomPunches | None = None,
        strict: bool = False,
    ) -> None:
        """Args: strict: the server is like the reference, which takes a repeat for another attempt."""
        self.now = 0.0
        self.fast = fast
        self.repeat_after = 4.0  # seconds without an answer, until a request is sent a second time
        self.lost_answers: Callable[[HolepunchPayload, int], bool] = lambda _payload, _count: False
        self.lost_asks: Callable[[Ask, int], bool] = lambda _ask, _count: False
        self.tamper: Callable[[HolepunchPayload], HolepunchPayload] = lambda payload: payload
        self.own_relays = RELAYS  # where the server is announced
        self.asked: list[Ask] = []
        self.answered: list[HolepunchPayload] = []
        self.probes = {CLIENT_HOST: 0, SERVER_HOST: 0}
        self.failed: dict[str, str] = {}
        self.punched: Endpoint | None = None
        self._random = Random(seed)
        self._nats = {
            CLIENT_HOST: Nat(CLIENT_HOST, self._random, **(client or {})),
            SERVER_HOST: Nat(SERVER_HOST, self._random, **(server or {})),
        }
        self._first_socket = {CLIENT_HOST: 0, SERVER_HOST: 0}
        self._sockets = {CLIENT_HOST: 1, SERVER_HOST: 1}
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0
        self._tickets: list[tuple[Endpoint, Endpoint]] = []  # relay, client as it sees it
        self._came_back: set[int] = set()  # tickets whose answer the client has
        self.client = ClientPunch(self._settings(has_relay, random_punches))
        kind = StrictServerPunch if strict else ServerPunch
        self.server = kind(self._settings(has_relay, None), 0.0)
        self._sides: dict[str, PunchSide] = {CLIENT_HOST: self.client, SERVER_HOST: self.server}

    def _settings(self, has_relay: bool, punches: RandomPunches | None) -> PunchSettings:
        return PunchSettings(
            remote_firewall=0,
            firewalled=True,
            token_secret=self._random.randbytes(32),
            random=self._random,
            random_punches=punches or RandomPunches(),
            accepts=lambda host: not host.startswith("127."),
            has_relay=has_relay,
        )

    def run(self, seconds: float = 60.0, nodes: int = 4) -> None:
        """From the handshake on. Args: nodes: how many answer what they see."""
        for host in self._sides:
            self._sample(host, nodes)
        server = self._nats[SERVER_HOST]
        seen_as = [server.send(0, relay) for relay in RELAYS]
        relays = [RelayInfo(relay, seen) for relay, seen in zip(RELAYS[1:], seen_as[1:], strict=True)]
        self._do(
            CLIENT_HOST,
            self.client.start(
                relays, relay=RELAYS[0], server_address=seen_as[0], fast=self.fast, now=self.now
            ),
        )
        while self.punched is None and len(self.failed) < 2:
            deadline = min(side.deadline for side in self._sides.values())
            at = min(deadline, self._events[0][0] if self._events else deadline)
            if at > seconds:
                return
            self.now = max(at, self.now)
            if self._events and self._events[0][0] <= self.now:
                heappop(self._events)[2]()
            for host, side in self._sides.items():
                if side.deadline <= self.now:
                    self._do(host, side.handle_timer(self.now))

    def later(self, seconds: float, what: Callable[[], None]) -> None:
        self._count += 1
        heappush(self._events, (self.now + seconds, self._count, what))

    def _sample(self, host: str, nodes: int) -> None:
        side, socket = self._sides[host], self._first_socket[host]
        for node in NODES[:nodes]:
            seen_as = self._nats[host].send(socket, node)

            def told(seen_as: Endpoint = seen_as, node: Endpoint = node) -> None:
                if self._first_socket[host] == socket:
                    self._do(host, side.sampled(seen_as, node, self.now))

            self.later(2 * LATENCY, told)
        self.later(1.0, lambda: self._do(host, side.sampling_over(self.now)))

    def _do(self, host: str, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, SendProbes):
                for to, number, low_ttl in action.probes:
                    self._probe(host, number, to, low_ttl)
            elif isinstance(action, Ask):
                self._ask(action)
            elif isinstance(action, OpenMore):
                self._sockets[host] += action.count
                self._do(host, self._sides[host].opened(1 + action.count, self.now))
            elif isinstance(action, Reopen):
                self._first_socket[host] = 1000 + self._sockets[host]
                self._sockets[host] += 1
                self._sample(host, 4)
            elif isinstance(action, Punched):
                self.punched = action.address
            elif isinstance(action, Failed):
                self.failed[host] = action.reason
            elif isinstance(action, Answer):
                self._answer(action)
            else:
                raise AssertionError(action)

    def _probe(self, host: str, number: int, to: Endpoint, low_ttl: bool) -> None:
        self.probes[host] += 1
        socket = number or self._first_socket[host]
        source = self._nats[host].send(socket, to)
        nat = self._nats.get(to.host)
        if low_ttl or nat is None:
            return

        def arrive() -> None:
            inside = nat.receive(to, source)
            if inside is not None:
                number = 0 if inside == self._first_socket[to.host] else inside
                self._do(to.host, self._sides[to.host].probed(source, number, self.now))

        self.later(LATENCY, arrive)

    def _ask(self, ask: Ask) -> None:
        self.asked.append(ask)
        seen_as = self._nats[CLIENT_HOST].send(self._first_socket[CLIENT_HOST], ask.relay)
        if self.lost_asks(ask, len(self.asked)):
            self.later(4.0, lambda: self._do(CLIENT_HOST, self.client.lost(self.now)))
            return

        ticket = len(self._tickets)
        self._tickets.append((ask.relay, seen_as))

        def arrive() -> None:
            payload, own = self.tamper(ask.payload), ask.relay in self.own_relays
            actions = self.server.receive(ticket, payload, seen_as, from_own_relay=own, now=self.now)
            self._do(SERVER_HOST, actions)

        self.later(2 * LATENCY, arrive)

        def repeat() -> None:
            if ticket not in self._came_back:
                self.later(2 * LATENCY, arrive)

        if not ask.once:
            self.later(self.repeat_after, repeat)

    def _answer(self, answer: Answer) -> None:
        relay, client = self._tickets[answer.ticket]
        self.answered.append(answer.payload)
        server = self._nats[SERVER_HOST].send(self._first_socket[SERVER_HOST], relay)

        if self.lost_answers(answer.payload, len(self.answered)):
            return

        def arrive() -> None:
            if answer.ticket in self._came_back:
                return
            self._came_back.add(answer.ticket)
            self._do(CLIENT_HOST, self.client.receive(answer.payload, server, client, relay, self.now))

        self.later(2 * LATENCY, arrive)


def forged(payload: HolepunchPayload, addresses: list[Endpoint]) -> HolepunchPayload:
    """The same with other addresses."""
    return replace(payload, addresses=tuple(addresses))
