"""The rules both sides of the swarm have to agree on, or had better: who is dialled first, and which stays.

Pure functions, as the reference decides. Source: hyperswarm 4.17 ``lib/peer-info.js`` and ``index.js``;
spec/07-net, "Swarm".
"""

from enum import IntEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from p2prss.crypto.keys import PublicKey

if TYPE_CHECKING:
    from random import Random

MAX_ATTEMPTS: Final = 3  # in a row that failed, then a peer is let be until it is found again


class Priority(IntEnum):
    """Of a dial; the greatest goes first."""

    LOW = 1
    NORMAL = 2
    HIGH = 3
    VERY_HIGH = 4


class Turn(NamedTuple):
    """A peer's place among those to dial; None: it is let be."""

    priority: Priority | None
    attempts: int  # that count from now on


_BY_ATTEMPTS: Final = (Priority.NORMAL, Priority.VERY_HIGH, Priority.HIGH, Priority.LOW)

_SHORT: Final = (1.0, 2.0)  # seconds, least and most
_MEDIUM: Final = (5.0, 6.5)
_LONG: Final = (15.0, 17.5)
_VERY_LONG: Final = (600.0, 720.0)
_PAUSES: Final = {
    True: (_SHORT, _MEDIUM, _LONG),
    False: (_MEDIUM, _LONG, _LONG),
}  # by whether it was there once


def turn(attempts: int, *, explicit: bool) -> Turn:
    """When a peer comes that failed so often; an explicit one (the user named it) always does."""
    if attempts <= MAX_ATTEMPTS:
        return Turn(_BY_ATTEMPTS[attempts], attempts)
    return Turn(Priority.LOW, MAX_ATTEMPTS) if explicit else Turn(None, attempts)


def retry_pause(attempts: int, random: "Random", *, proven: bool, explicit: bool) -> float | None:
    """Seconds until a peer is dialled again after its ``attempts``-th failure; None: it is not."""
    if attempts <= MAX_ATTEMPTS:
        return random.uniform(*_PAUSES[proven][max(attempts, 1) - 1])
    return random.uniform(*_VERY_LONG) if explicit else None


def keep_new(own: PublicKey, remote: PublicKey, *, new_is_initiator: bool, existing_has_worked: bool) -> bool:
    """Which of two connections with a peer stays: whether it is the new one.

    Normally that which the greater key dialled. One that worked and is dialled again must be dead at the
    other end.
    """
    return existing_has_worked or (own > remote) == new_is_initiator
