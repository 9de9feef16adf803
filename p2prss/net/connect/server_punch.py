"""The dialled side of a punch: it answers rounds, probes when the client does, and answers probes.

    opened ──round 0──> judged ──round with punching──> probing ──> the stream's packets arrive
       └────10 s without punching, an error, nothing to probe────────> failed

A message is answered once our own NAT is judged; repeats are answered again, with the same effect. Rounds
below the highest one seen change nothing.

Source: hyperdht 6.34.0 lib/server.js ``_onpeerholepunch``; spec/07-net.
"""

from dataclasses import dataclass, replace
from math import inf
from typing import Final

from p2prss.net.connect.probes import ROUND_SECONDS, Probe
from p2prss.net.connect.punch_side import (
    ABORT,
    MAX_ANSWERED_PROBES,
    Action,
    Answer,
    PunchSettings,
    PunchSide,
    SendProbes,
)
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall, HandshakeError, HolepunchPayload

START_SECONDS: Final = 10.0  # from the handshake until the client has to be punching
POSTPONED_SECONDS: Final = 60.0  # the same when they meet at a relay, and a busy client may wait
PROBED_SECONDS: Final = 2.0  # a client that got through has to send its stream's packets
MAX_MESSAGES: Final = 64  # of one attempt, repeats included
MAX_WAITING: Final = 8  # messages that wait for the judgement on our NAT


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A message without an answer yet."""

    ticket: int
    payload: HolepunchPayload
    client: Endpoint
    from_own_relay: bool


class ServerPunch(PunchSide):
    """Driven by the client's messages; ``over`` once there is no hope or no need."""

    def __init__(self, settings: PunchSettings, now: float) -> None:
        super().__init__(settings)
        self._give_up_at = now + (POSTPONED_SECONDS if settings.has_relay else START_SECONDS)
        self._round = 0
        self._messages = 0
        self._answered_probes = 0
        self._waiting: list[_Waiting] = []

    def receive(
        self, ticket: int, payload: HolepunchPayload, client: Endpoint, *, from_own_relay: bool, now: float
    ) -> list[Action]:
        """Take a round. Args: ticket: names the message in ``Answer``; client: as its relay sees it."""
        self._messages += 1
        if self.over or self._messages > MAX_MESSAGES:
            return []
        if payload.error:
            return [self._abort(ticket), *self._fail("holepunch-aborted", now)]
        if payload.round >= self._round:
            self._round = payload.round
            echoed = from_own_relay and payload.remote_token == self._token(client.host)
            self._update_remote(payload, client.host if echoed else None)
        waiting = _Waiting(ticket, payload, client, from_own_relay)
        if self.settled:
            return self._answer(waiting, now)
        if len(self._waiting) < MAX_WAITING:
            self._waiting.append(waiting)
        return []

    def probed(self, source: Endpoint, socket: int, now: float) -> list[Action]:
        """A probe came in: the client learns where we are from one that comes back."""
        if self.over or self._answered_probes >= MAX_ANSWERED_PROBES:
            return []
        self._answered_probes += 1
        self._give_up_at = max(self._give_up_at, now + PROBED_SECONDS)
        return [SendProbes([Probe(source, socket)])]

    @property
    def deadline(self) -> float:
        own = self._give_up_at if not self.over else inf
        return min(own, super().deadline)

    def handle_timer(self, now: float) -> list[Action]:
        if now >= self._give_up_at and not self.over:
            return self._fail("timeout", now)
        return super().handle_timer(now)

    def _judged(self, now: float) -> list[Action]:
        waiting, self._waiting = self._waiting, []
        actions: list[Action] = []
        for place, message in enumerate(waiting):
            actions += self._answer(message, now)
            if self._waiting:  # a new socket is being judged
                self._waiting += waiting[place + 1 :]
                break
        return actions

    def _answer(self, message: _Waiting, now: float) -> list[Action]:
        """Our NAT is judged."""
        if self.over:
            return []
        if self.unstable and not self.remote_punching:
            actions = self._reopen()
            if actions:
                self._waiting.append(message)
                return actions
            return [self._abort(message.ticket), *self._fail("cannot-punch", now)]
        actions = []
        if self._is_opened_to_us(message.payload):
            actions.append(SendProbes([Probe(message.client)]))
            self._first_probe_delay = ROUND_SECONDS  # the first is out already
        if self.remote_punching:
            self._give_up_at = inf
            if not self._may_punch(now):
                return [*actions, *self._postpone(message, now)]
            started = self._punch(now)
            if started is None:
                return [self._abort(message.ticket), *self._fail("cannot-punch", now)]
            actions += started
        if self.sampler.firewall is not Firewall.UNKNOWN:
            self.sampler.freeze()
        return [*actions, Answer(message.ticket, self._view(message))]

    def _is_opened_to_us(self, payload: HolepunchPayload) -> bool:
        """The client has sent a probe to where we really are: one from us gets through to it."""
        return (
            self.sampler.firewall in (Firewall.OPEN, Firewall.CONSISTENT)
            and payload.remote_address is not None
            and payload.remote_address in (self.sampler.addresses or ())
        )

    def _postpone(self, message: _Waiting, now: float) -> list[Action]:
        """Another random punch is running or was just now."""
        busy = HandshakeError.TRY_LATER
        if self._settings.has_relay:
            self._give_up_at = now + POSTPONED_SECONDS
            return [Answer(message.ticket, replace(self._view(message), error=busy))]
        answer = Answer(message.ticket, HolepunchPayload(error=busy, round=self._round))
        return [answer, *self._fail("holepunch-aborted", now)]

    def _view(self, message: _Waiting) -> HolepunchPayload:
        return HolepunchPayload(
            firewall=self.sampler.firewall,
            round=self._round,
            punching=self.punching,
            addresses=self.sampler.addresses,
            token=self._token(message.client.host) if message.from_own_relay else None,
            remote_token=message.payload.token,
        )

    def _abort(self, ticket: int) -> Answer:
        return Answer(ticket, replace(ABORT, round=self._round))
