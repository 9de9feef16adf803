"""What the two sides of a punch have in common: a view of both NATs, and what they can ask of their shell.

The machines are driven by the remote's messages, by what DHT nodes say of our socket, and by the clock. They
return actions, in the order they are to be done.

Hostile remotes: a list of addresses counts up to ``MAX_ADDRESSES``, only hosts the caller's ``accepts`` lets
through get a probe, and until the remote has proven (a token) that it receives at a host only few.

Source: hyperdht 6.34.0 lib/holepuncher.js, lib/nat.js; spec/07-net.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from p2prss.net.connect.probes import (
    MAX_SPREAD_SOCKETS,
    GuessedPorts,
    Probe,
    ProbeSchedule,
    RandomPunches,
    SpreadProbes,
    SteadyProbes,
    Target,
)
from p2prss.net.dht.endpoint import Endpoint
from p2prss.net.dht.handshake import Firewall, HandshakeError, HolepunchPayload, holepunch_token
from p2prss.net.dht.nat import PunchSampler

if TYPE_CHECKING:
    from random import Random

MAX_ADDRESSES: Final = 8  # of a remote that get probes
MAX_REOPENS: Final = 3  # sockets tried instead of one whose NAT makes no sense
SAMPLES: Final = 4  # answers after which a socket's NAT is judged
MAX_ANSWERED_PROBES: Final = 64  # of one attempt: one byte for each byte, to who sent it


@dataclass(frozen=True, slots=True)
class SendProbes:
    """Send these, at once."""

    probes: list[Probe]


@dataclass(frozen=True, slots=True)
class Reopen:
    """Go on with a new socket, and ask DHT nodes how they see it."""


@dataclass(frozen=True, slots=True)
class OpenMore:
    """Open up to so many further sockets for probes; say with ``opened`` how many there are in all then."""

    count: int


@dataclass(frozen=True, slots=True)
class Ask:
    """Client: send a round by a relay, from the first socket, and pass on what comes of it."""

    relay: Endpoint
    peer_address: Endpoint  # of the server, as that relay sees it
    payload: HolepunchPayload
    once: bool = False  # whether the server must not get it twice; it is then lost more easily


@dataclass(frozen=True, slots=True)
class Answer:
    """Server: answer the message with that ticket."""

    ticket: int
    payload: HolepunchPayload


@dataclass(frozen=True, slots=True)
class Punched:
    """Client: connect from this socket to there."""

    socket: int
    address: Endpoint


@dataclass(frozen=True, slots=True)
class Failed:
    """It is over; ``reason`` as in ``ConnectError``."""

    reason: str


Action = SendProbes | Reopen | OpenMore | Ask | Answer | Punched | Failed


@dataclass(slots=True)
class PunchSettings:
    """What an attempt is given.

    Args: remote_firewall: from the remote's Noise payload; firewalled: whether we are; token_secret: 32 bytes
    nobody else has; accepts: whether a host may get a probe because a remote says so; has_relay: whether it
    is worth waiting when punching at random is not allowed now.
    """

    remote_firewall: int
    firewalled: bool
    token_secret: bytes = field(repr=False)
    random: "Random"
    random_punches: RandomPunches
    accepts: Callable[[str], bool] = lambda _host: True
    has_relay: bool = False


class PunchSide:
    """The common half of ``ClientPunch`` and ``ServerPunch``."""

    _first_probe_delay = 0.0  # seconds

    def __init__(self, settings: PunchSettings) -> None:
        self.sampler = PunchSampler(firewalled=settings.firewalled)
        self.remote_firewall = settings.remote_firewall
        self.targets: tuple[Target, ...] = ()
        self.remote_punching = False
        self.punching = False
        self.over = False
        self._settings = settings
        self._sampled: set[Endpoint] = set()
        self._asked_all = False
        self._reopens = 0
        self._schedule: ProbeSchedule | None = None
        self._holds_budget = False

    # -- what comes in

    def sampled(self, seen_as: Endpoint, source: Endpoint, now: float) -> list[Action]:
        """A node at ``source`` sees our first socket so."""
        if self.over or source in self._sampled:
            return []
        self._sampled.add(source)
        self.sampler.add(seen_as)
        return self._judged(now) if self.settled else []

    def sampling_over(self, now: float) -> list[Action]:
        """No more nodes can be asked about this socket."""
        if self.over or self._asked_all:
            return []
        self._asked_all = True
        return self._judged(now)

    def probed(self, source: Endpoint, socket: int, now: float) -> list[Action]:
        """A probe came in from there, at the socket of that number."""
        raise NotImplementedError

    def opened(self, count: int, now: float) -> list[Action]:
        """There are so many sockets now, the first one included."""
        target = self._verified_target()
        if self.over or not self.punching or target is None or count < 1:
            return []
        self._schedule = SpreadProbes(target.address, min(count, MAX_SPREAD_SOCKETS), now)
        return self._probe(now)

    @property
    def deadline(self) -> float:
        """When ``handle_timer`` has something to do."""
        return self._schedule.deadline if self._schedule is not None and not self.over else inf

    def handle_timer(self, now: float) -> list[Action]:
        """Send the next probes; fail when there are none left."""
        if self.over or self._schedule is None:
            return []
        actions = self._probe(now)
        return self._fail("holepunch-aborted", now) if self._schedule.deadline == inf else actions

    def finish(self, now: float) -> None:
        """The attempt is no longer wanted, or has succeeded."""
        self.over = True
        self._schedule = None
        if self._holds_budget:
            self._holds_budget = False
            self._settings.random_punches.release(now)

    # -- the two NATs

    @property
    def settled(self) -> bool:
        """There is a judgement on our NAT, as good as it gets with this socket."""
        return (
            self.sampler.firewall in (Firewall.OPEN, Firewall.CONSISTENT)
            or self.sampler.sampled >= SAMPLES
            or self._asked_all
        )

    @property
    def unstable(self) -> bool:
        """With this socket it makes no sense to go on."""
        return self.sampler.firewall is Firewall.UNKNOWN or self._both_random

    @property
    def _both_random(self) -> bool:
        return self.sampler.firewall is Firewall.RANDOM and self.remote_firewall >= Firewall.RANDOM

    @property
    def _any_random(self) -> bool:
        return self.sampler.firewall is Firewall.RANDOM or self.remote_firewall >= Firewall.RANDOM

    def _judged(self, now: float) -> list[Action]:
        """There is a judgement: go on with whatever waited for it."""
        raise NotImplementedError

    def _reopen(self) -> list[Action]:
        """Another socket, whose NAT is judged anew; nothing when enough were tried, or probes are out."""
        if self._reopens >= MAX_REOPENS or self.punching:
            return []
        self._reopens += 1
        self.sampler = PunchSampler(firewalled=self._settings.firewalled)
        self._sampled.clear()
        self._asked_all = False
        return [Reopen()]

    def _update_remote(self, payload: HolepunchPayload, verified: str | None) -> None:
        """Take the remote's view of itself. Args: verified: the host it has just proven to receive at."""
        proven = {target.address.host for target in self.targets if target.verified}
        if verified is not None:
            proven.add(verified)
        named = payload.addresses or ()
        accepts = self._settings.accepts
        self.targets = tuple(
            Target(address, address.host in proven)
            for address in dict.fromkeys(named)
            if accepts(address.host)
        )[:MAX_ADDRESSES]
        self.remote_firewall = payload.firewall
        self.remote_punching = payload.punching

    def _token(self, host: str) -> bytes:
        return holepunch_token(self._settings.token_secret, host)

    def _verified_target(self) -> Target | None:
        return next((target for target in self.targets if target.verified), None)

    # -- probes

    def _may_punch(self, now: float) -> bool:
        """Take a random punch from the node's budget, when it will be one."""
        if not self._any_random or self._holds_budget:
            return True
        self._holds_budget = self._settings.random_punches.take(now)
        return self._holds_budget

    def _punch(self, now: float) -> list[Action] | None:
        """Begin to send probes, unless that is done already; None when the two NATs do not allow it."""
        if self.punching:
            return []
        local, remote = _as_steady(self.sampler.firewall), _as_steady(self.remote_firewall)
        if local == remote == Firewall.CONSISTENT:
            targets = [target for target in self.targets if target.address.port]
            if not targets:
                return None
            self.punching = True
            self._schedule = SteadyProbes(targets, now, delay=self._first_probe_delay)
            return self._probe(now)
        target = self._verified_target()
        if target is None:
            return None
        if local == Firewall.CONSISTENT and remote >= Firewall.RANDOM:
            self.punching = True
            self._schedule = GuessedPorts(target.address.host, now, self._settings.random)
            return self._probe(now)
        if local == Firewall.RANDOM and remote == Firewall.CONSISTENT and target.address.port:
            self.punching = True
            return [OpenMore(MAX_SPREAD_SOCKETS - 1)]
        return None

    def _probe(self, now: float) -> list[Action]:
        probes = self._schedule.take(now) if self._schedule is not None else []
        return [SendProbes(probes)] if probes else []

    def _fail(self, reason: str, now: float) -> list[Action]:
        self.finish(now)
        return [Failed(reason)]


ABORT: Final = HolepunchPayload(error=HandshakeError.ABORTED)  # the round has to be filled in


def _as_steady(firewall: int) -> int:
    """Open to anybody is as good as a steady port."""
    return Firewall.CONSISTENT if firewall == Firewall.OPEN else firewall
