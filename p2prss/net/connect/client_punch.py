"""The dialling side of a punch: it asks by relays, in rounds, and starts the probes of both.

    ROUND_0 ─> JUDGING ─> ROUND_1 ─> PROBING ─> a probe came in: punched
      ^  └ PAUSE ┘ └ again, once        └ LATER: not now, ask again

Round 0 tells the NATs to each other and brings the server's token; round 1 brings both tokens back, by
another relay if there is one, and with them the proof that both receive where they say. A probe of the
server's fast answer may end it in any state.

Where ports are guessed, round 1 must not arrive twice: a node allows itself one such attempt at a time, and
hyperdht 6.34.0 counts every message of a client that punches as one more, and gives up on both. So it is sent
once; without an answer the next round asks, itself not punching, whether the server does.

Source: hyperdht 6.34.0 lib/connect.js; spec/07-net.
"""

from collections.abc import Sequence
from dataclasses import replace
from enum import Enum
from math import inf
from typing import Final

from p2prss.net.connect.probes import Probe
from p2prss.net.connect.punch_side import (
    ABORT,
    Action,
    Ask,
    Punched,
    PunchSettings,
    PunchSide,
    SendProbes,
)
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import MAX_PUNCH_ROUND, Firewall, HandshakeError, HolepunchPayload, RelayInfo

PAUSE_SECONDS: Final = 1.0  # for a server that does not know its NAT yet
LATER_SECONDS: Final = (10.0, 20.0)  # until a busy node is asked again, at random between them
STRANGER_SECONDS: Final = 2.0  # a probe from a host the server did not name counts only if no other comes
INQUIRY_SECONDS: Final = 1.0  # without an answer to a round that is sent once, until the server is asked
MAX_SECOND_ROUNDS: Final = 6  # of one attempt: round 1 and those that make up for a lost one
MAX_SERVER_RELAYS: Final = 3  # of those a server names that are asked


class State(Enum):
    """What is waited for."""

    ROUND_0 = "the server's view"
    PAUSE = "a server that needs a moment"
    JUDGING = "the judgement on our NAT"
    ROUND_1 = "the server's consent"
    LATER = "a busy node"
    PROBING = "a probe"


class ClientPunch(PunchSide):
    """Call ``start`` first; every ``Ask`` is followed by ``receive`` or ``lost``."""

    def __init__(self, settings: PunchSettings) -> None:
        super().__init__(settings)
        self.state = State.ROUND_0
        self._relays: Sequence[RelayInfo] = ()
        self._server_relay: RelayInfo | None = None
        self._client_relay: RelayInfo | None = None  # with the server's address as that one sees it
        self._fast = True
        self._round = 0
        self._reply_from: Endpoint | None = None  # the server's address, as in the latest reply
        self._token_of_server: bytes | None = None
        self._may_repeat = True
        self._delayed = False
        self._second_rounds = 0
        self._punching_round = 0  # the latest in which we said that we punch
        self._once = False  # rounds are sent once, and made up for by others
        self._wake_at = inf
        self._stranger: tuple[float, Punched] | None = None

    def start(
        self,
        relays: Sequence[RelayInfo],
        *,
        relay: Endpoint,
        server_address: Endpoint,
        fast: bool,
        now: float,
    ) -> list[Action]:
        """Send round 0.

        Args: relays: of the server's payload; relay: that passed on the handshake; server_address: the server
        as that one sees it; fast: tell the server that we opened our NAT to it.
        """
        usable = [one for one in relays if one.relay_address.port and self._accepts(one.relay_address)]
        usable.sort(key=lambda one: one.relay_address != relay)  # stable: ours first, if it is one of them
        self._relays = usable[:MAX_SERVER_RELAYS]
        self._client_relay = RelayInfo(relay, server_address)
        self._fast = fast
        if not self._relays:
            return self._fail("cannot-punch", now)
        self._server_relay = self._relays[0]
        return self._ask_first()

    # -- what comes in

    def receive(
        self,
        payload: HolepunchPayload,
        peer_address: Endpoint | None,
        to: Endpoint,
        source: Endpoint,
        now: float,
    ) -> list[Action]:
        """A reply to an ``Ask``; only in round 1 there may have been a later one.

        Args: peer_address: the server, as the relay sees it; to: us, as it sees us; source: the relay.
        """
        if self.over or self.state not in (State.ROUND_0, State.ROUND_1, State.LATER):
            return []
        if self.state is State.LATER:
            if not payload.error:
                self._update_remote(payload, self._proven_host(payload))
            return []
        later = self.state is State.ROUND_1 and payload.error == HandshakeError.TRY_LATER
        if later and self._settings.has_relay:
            return self._wait_for_later(now)
        if payload.error:
            return self._fail("double-random" if self._both_random else "holepunch-aborted", now)
        if self.state is State.ROUND_0:
            self._update_remote(payload, None)
            self._token_of_server = payload.token
            self._reply_from = peer_address
            unknown = payload.firewall == Firewall.UNKNOWN
            self.state, self._wake_at = (
                (State.PAUSE, now + PAUSE_SECONDS) if unknown else (State.JUDGING, inf)
            )
            actions = self.sampled(to, source, now)
            if self.state is State.JUDGING and self.settled and not actions:
                return self._judged(now)
            return actions
        self._update_remote(payload, self._proven_host(payload))
        if not self.remote_punching:
            return self._not_punching(payload.round, now)
        self.state, self._wake_at = State.PROBING, inf
        started = self._punch(now)
        return self._fail("cannot-punch", now) if started is None else started

    def lost(self, now: float) -> list[Action]:
        """No reply to the last ``Ask``, or none of the server's."""
        if self.over:
            return []
        if self.state is State.ROUND_0 and self._server_relay in self._relays:
            rest = self._relays[self._relays.index(self._server_relay) + 1 :]
            if rest:
                self._server_relay = rest[0]
                return self._ask_first()
        if self.state is State.ROUND_1 and self._once:
            return []  # the timer inquires
        if self.state is State.ROUND_1 and not self._delayed:
            self._delayed = True  # by the server's relay instead
            return self._ask_second(now)
        if self.state in (State.ROUND_0, State.ROUND_1):
            return self._fail("holepunch-aborted", now)
        return []

    def probed(self, source: Endpoint, socket: int, now: float) -> list[Action]:
        """A probe came in: there is a way."""
        if self.over:
            return []
        punched = Punched(socket, source)
        hosts = {target.address.host for target in self.targets}
        if self._client_relay is not None:
            hosts.add(self._client_relay.peer_address.host)
        if self._server_relay is not None:
            hosts.add(self._server_relay.peer_address.host)
        if source.host in hosts:
            self.finish(now)
            return [punched]
        if self._stranger is None:
            self._stranger = now + STRANGER_SECONDS, punched
        return []

    @property
    def deadline(self) -> float:
        if self.over:
            return inf
        stranger = self._stranger[0] if self._stranger is not None else inf
        return min(self._wake_at, stranger, super().deadline)

    def handle_timer(self, now: float) -> list[Action]:
        if self.over:
            return []
        if self._stranger is not None and now >= self._stranger[0]:
            self.finish(now)
            return [self._stranger[1]]
        if now < self._wake_at:
            return super().handle_timer(now)
        self._wake_at = inf
        if self.state is State.PAUSE:
            self.state = State.JUDGING
            return self._judged(now) if self.settled else []
        if self.state is State.LATER:
            return self._consider(now)
        if self.state is State.ROUND_1:
            return self._ask_second(now, punching=False)  # it or its answer was lost: the server knows which
        return []

    # -- the rounds

    def _judged(self, now: float) -> list[Action]:
        if self.state is not State.JUDGING:
            return []
        if self.unstable:
            actions = self._reopen()
            if actions:
                return actions
        if self.sampler.firewall is Firewall.UNKNOWN:
            return self._abort("cannot-punch", now)
        remote_unknown = self.remote_firewall == Firewall.UNKNOWN
        moved = self._reopens > 0  # the server knows another socket, or can try another one of its own
        if (remote_unknown or self._token_of_server is None or moved) and self._may_repeat:
            self._may_repeat = False
            return self._ask_first()
        if self._both_random:
            return self._abort("double-random", now)
        return self._abort("cannot-punch", now) if remote_unknown else self._consider(now)

    def _ask_first(self) -> list[Action]:
        """Round 0: open our NAT, and tell the server."""
        assert self._client_relay is not None
        assert self._server_relay is not None
        self.state = State.ROUND_0
        there = self._client_relay.peer_address
        actions: list[Action] = []
        fast = self._fast and there.port != 0 and self._accepts(there)
        if fast:
            actions.append(SendProbes([Probe(there, low_ttl=True)]))
        payload = self._view(remote_address=there if fast else None)
        actions.append(Ask(self._server_relay.relay_address, self._server_relay.peer_address, payload))
        return actions

    def _consider(self, now: float) -> list[Action]:
        """Round 1, if a punch like this is allowed now."""
        assert self._client_relay is not None
        assert self._server_relay is not None
        self.sampler.freeze()
        if not self._may_punch(now):
            if not self._settings.has_relay:
                return self._abort("holepunch-aborted", now)
            actions: list[Action] = []
            if not self._delayed:
                token = self._token(self._client_relay.peer_address.host)
                payload = self._view(token=token, remote_token=self._token_of_server)
                way = self._client_relay
                actions.append(Ask(way.relay_address, way.peer_address, payload))
            return [*actions, *self._wait_for_later(now)]
        moved = self._reply_from
        same_relay = self._server_relay.relay_address == self._client_relay.relay_address
        actions = []
        if same_relay and moved is not None and moved != self._client_relay.peer_address:
            self._client_relay = RelayInfo(self._client_relay.relay_address, moved)
            if moved.port and self._accepts(moved):
                actions.append(SendProbes([Probe(moved, low_ttl=True)]))
        return [*actions, *self._ask_second(now)]

    def _ask_second(self, now: float, *, punching: bool = True) -> list[Action]:
        """Round 1, or a later one that makes up for it; unless ``punching`` it only asks how things are."""
        assert self._client_relay is not None
        assert self._server_relay is not None
        if self._second_rounds == MAX_SECOND_ROUNDS:
            return self._fail("holepunch-aborted", now)
        self._second_rounds += 1
        if punching:
            self._punching_round = self._round
        self.state, self._once = State.ROUND_1, self._any_random
        self._wake_at = now + INQUIRY_SECONDS if self._once else inf
        way = self._server_relay if self._delayed else self._client_relay
        token = None if self._delayed else self._token(way.peer_address.host)
        payload = self._view(punching=punching, token=token, remote_token=self._token_of_server)
        return [Ask(way.relay_address, way.peer_address, payload, once=self._once)]

    def _not_punching(self, round_: int, now: float) -> list[Action]:
        """The server, having seen rounds up to that one, says that it does not."""
        if self._once and round_ > self._punching_round:
            return self._ask_second(now)  # it has only heard that we asked
        if self._once and round_ < self._punching_round:
            return []  # an answer that was overtaken
        return self._fail("holepunch-aborted", now)

    def _wait_for_later(self, now: float) -> list[Action]:
        self.state = State.LATER
        self._delayed = True
        self._wake_at = now + self._settings.random.uniform(*LATER_SECONDS)
        if self._holds_budget:
            self._holds_budget = False
            self._settings.random_punches.release(now)
        return []

    def _abort(self, reason: str, now: float) -> list[Action]:
        """Tell the server that it need not wait, and fail."""
        assert self._server_relay is not None
        payload = replace(ABORT, round=self._next_round())
        way = self._server_relay
        return [Ask(way.relay_address, way.peer_address, payload), *self._fail(reason, now)]

    def _view(
        self,
        *,
        punching: bool = False,
        remote_address: Endpoint | None = None,
        token: bytes | None = None,
        remote_token: bytes | None = None,
    ) -> HolepunchPayload:
        return HolepunchPayload(
            firewall=self.sampler.firewall,
            round=self._next_round(),
            punching=punching,
            addresses=self.sampler.addresses,
            remote_address=remote_address,
            token=token,
            remote_token=remote_token,
        )

    def _next_round(self) -> int:
        number = min(self._round, MAX_PUNCH_ROUND)
        self._round += 1
        return number

    def _accepts(self, address: Endpoint) -> bool:
        return self._settings.accepts(address.host)

    def _proven_host(self, payload: HolepunchPayload) -> str | None:
        """The server's host, when it returns the token that was sent there."""
        assert self._client_relay is not None
        host = self._client_relay.peer_address.host
        return host if payload.remote_token == self._token(host) else None
