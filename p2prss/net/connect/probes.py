"""Probes: single bytes sent to where a peer's NAT may have a hole, and when to send which.

Non-goals: no schedule here knows whether it worked. Who punches stops asking once a probe came in.

Three ways, after what the two NATs are like: both keep one port per socket (ten rounds, a second apart); the
remote's port is unknown (guess it, 50 times a second); ours is unknown to the remote (256 sockets, so that
its guesses hit one of them). Nobody can hit when both are of the last kind.

Source: hyperdht 6.34.0 lib/holepuncher.js; spec/07-net.
"""

from collections.abc import Sequence
from math import inf
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from p2prss.net.dht.endpoint import MAX_PORT, Endpoint

if TYPE_CHECKING:
    from random import Random

PROBE: Final = b"\0"  # all of a probe
LOW_TTL: Final = 5  # hops: opens our own NAT, and is dropped on the way to the other's
ROUNDS: Final = 10  # of probes between two NATs that keep their ports
ROUND_SECONDS: Final = 1.0
UNVERIFIED_EVERY: Final = 4  # rounds; an address nobody vouched for gets few probes
GUESSES: Final = 1750  # probes to or from a NAT that has a port per destination
GUESS_SECONDS: Final = 0.02  # between them: 35 seconds in all
SPREAD_SECONDS: Final = 0.1  # from opening the sockets to the first round over them
MAX_SPREAD_SOCKETS: Final = 256  # of one attempt
FIRST_GUESSED_PORT: Final = 1000
MAX_RANDOM_PUNCHES: Final = 1  # at a time, of one node
RANDOM_PUNCH_PAUSE: Final = 20.0  # seconds from the end of one to the next


class Probe(NamedTuple):
    """One probe to send."""

    to: Endpoint
    socket: int = 0  # among the attempt's sockets, in the order they were opened
    low_ttl: bool = False


class Target(NamedTuple):
    """Where the remote may be; verified when it has proven that it receives there."""

    address: Endpoint
    verified: bool


class ProbeSchedule(Protocol):
    """Call ``take`` when ``deadline`` has come; infinite once there is nothing left to send."""

    deadline: float

    def take(self, now: float) -> list[Probe]:
        """What is to be sent now."""
        ...


class SteadyProbes:
    """Both NATs keep one port: ten rounds, a second apart, to the addresses the remote named.

    Args: delay: seconds before the first.
    """

    def __init__(self, targets: Sequence[Target], now: float, *, delay: float = 0.0) -> None:
        self.deadline = now + delay
        self._targets = tuple(targets)
        self._round = 0

    def take(self, now: float) -> list[Probe]:
        if now < self.deadline:
            return []
        self._round += 1
        if self._round > ROUNDS:
            self.deadline = inf
            return []
        self.deadline = now + ROUND_SECONDS
        everybody = self._round % UNVERIFIED_EVERY == 0
        return [Probe(target.address) for target in self._targets if target.verified or everybody]


class GuessedPorts:
    """The remote has a port per destination: probes from one socket to random ports of its host."""

    def __init__(self, host: str, now: float, random: "Random") -> None:
        self.deadline = now
        self._host = host
        self._random = random
        self._left = GUESSES

    def take(self, now: float) -> list[Probe]:
        if now < self.deadline:
            return []
        if self._left == 0:
            self.deadline = inf
            return []
        self._left -= 1
        self.deadline = _next_guess(self.deadline, now)
        return [Probe(Endpoint(self._host, self._random.randint(FIRST_GUESSED_PORT, MAX_PORT)))]


class SpreadProbes:
    """We have a port per destination: many sockets, each with a hole for the remote's one address.

    Args: sockets: how many there are; the first go out with few hops, all at once.
    """

    def __init__(self, to: Endpoint, sockets: int, now: float) -> None:
        self.deadline = now
        self._to = to
        self._sockets = sockets
        self._sent = -1  # below zero: the sockets have not been opened to the remote yet

    def take(self, now: float) -> list[Probe]:
        if now < self.deadline:
            return []
        if self._sent < 0:
            self._sent = 0
            self.deadline = now + SPREAD_SECONDS
            return [Probe(self._to, number, low_ttl=True) for number in range(self._sockets)]
        if self._sent == GUESSES:
            self.deadline = inf
            return []
        again, number = divmod(self._sent, self._sockets)
        self._sent += 1
        self.deadline = _next_guess(self.deadline, now)
        return [Probe(self._to, number, low_ttl=again == 0)]


def _next_guess(due: float, now: float) -> float:
    """When the one after that is due: being late by less than the pause does not add up."""
    return max(due + GUESS_SECONDS, now)


class RandomPunches:
    """A node's budget of guessing: it is loud, and many NATs take it for an attack."""

    def __init__(self) -> None:
        self._running = 0
        self._ended_at = -inf

    def take(self, now: float) -> bool:
        """Start one, if that is allowed now; ``release`` it at its end."""
        if self._running >= MAX_RANDOM_PUNCHES or now < self._ended_at + RANDOM_PUNCH_PAUSE:
            return False
        self._running += 1
        return True

    def release(self, now: float) -> None:
        self._running -= 1
        self._ended_at = now
