"""Whom of those who announce our feeds to dial, and when: a machine driven by announcements and links.

Both sides of a pair hear each other. The one with the smaller public key dials at once; the other gives
it a little time and then dials as well, for a firewall may stop one direction. A neighbour that can't be
reached is tried a few times with growing pauses and then forgotten until it is announced again.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Final

from p2prss.crypto.keys import PublicKey
from p2prss.net.address import Address

if TYPE_CHECKING:
    from random import Random

GRACE: Final = 1.0  # seconds that the side with the greater key waits for the other one
FIRST_RETRY: Final = 0.5  # seconds, doubled after each failure
LONGEST_RETRY: Final = 30.0  # seconds
STEADY_AFTER: Final = 10.0  # seconds a link must have lasted for its end not to count as a failure
MAX_FAILURES: Final = 5  # in a row, then the neighbour is forgotten
MAX_NEIGHBOURS: Final = 256  # that have our feeds; more are not heard


@dataclass(slots=True)
class Neighbour:
    """Another node that has a feed of ours."""

    key: PublicKey
    dial_at: float
    parts: dict[int, tuple[Address, ...]] = field(default_factory=dict)  # by number of the service
    failures: int = 0
    linked_at: float | None = None  # since when there is a link

    @property
    def addresses(self) -> tuple[Address, ...]:
        """Where it is, from the first of its services."""
        return self.parts[min(self.parts)]


class Neighbours:
    """The machine. ``own`` is our public key; ``random`` spreads retries."""

    def __init__(self, own: PublicKey, random: "Random") -> None:
        self._own = own
        self._random = random
        self._known: dict[PublicKey, Neighbour] = {}
        self._dialling: set[PublicKey] = set()
        self._linked: set[PublicKey] = set()

    def __len__(self) -> int:
        return len(self._known)

    def __contains__(self, key: PublicKey) -> bool:
        return key in self._known

    def heard(self, key: PublicKey, part: int, addresses: tuple[Address, ...], now: float) -> None:
        """A service of a node that has feeds of ours was announced, maybe not for the first time."""
        if key == self._own or not addresses:
            return
        neighbour = self._known.get(key)
        if neighbour is None:
            if len(self._known) >= MAX_NEIGHBOURS:
                return
            neighbour = self._known[key] = Neighbour(key, now + self._head_start(key))
            neighbour.linked_at = now if key in self._linked else None
        elif neighbour.parts.get(part, addresses) != addresses:
            neighbour.dial_at = min(neighbour.dial_at, now + FIRST_RETRY)  # it is somewhere else now
        neighbour.parts[part] = addresses

    def withdrawn(self, key: PublicKey, part: int) -> None:
        """A service is there no longer, or tells of no feed of ours any more; a link may stay."""
        neighbour = self._known.get(key)
        if neighbour is not None:
            neighbour.parts.pop(part, None)
            if not neighbour.parts:
                del self._known[key]

    def links(self, keys: Collection[PublicKey], now: float) -> None:
        """With these nodes there are links at present, whoever dialled."""
        for key in set(keys) - self._linked:
            if (neighbour := self._known.get(key)) is not None:
                neighbour.linked_at = now
        for key in self._linked - set(keys):
            if (neighbour := self._known.get(key)) is not None:
                self._lost(neighbour, now)
        self._linked = set(keys)

    def due(self, now: float) -> list[Neighbour]:
        """Whom to dial now; say ``ended`` of each."""
        ready = [one for one in self._idle() if one.dial_at <= now]
        self._dialling.update(one.key for one in ready)
        return ready

    def ended(self, key: PublicKey, now: float, *, failed: bool) -> None:
        """A dial, or the link that it gave, has ended; ``failed`` unless we gave it up ourselves."""
        self._dialling.discard(key)
        neighbour = self._known.get(key)
        if neighbour is None:
            return
        neighbour.dial_at = max(neighbour.dial_at, now + FIRST_RETRY)
        if not failed:
            return
        neighbour.failures += 1
        if neighbour.failures >= MAX_FAILURES:
            del self._known[key]
            return
        pause = min(FIRST_RETRY * 2 ** (neighbour.failures - 1), LONGEST_RETRY)
        neighbour.dial_at = now + pause * self._random.uniform(0.75, 1.25)

    @property
    def deadline(self) -> float:
        """When somebody is to be dialled next."""
        return min((one.dial_at for one in self._idle()), default=inf)

    def _idle(self) -> Iterable[Neighbour]:
        busy = self._dialling | self._linked
        return (one for one in self._known.values() if one.key not in busy)

    def _lost(self, neighbour: Neighbour, now: float) -> None:
        """The last link with it has ended."""
        if neighbour.linked_at is not None and now - neighbour.linked_at >= STEADY_AFTER:
            neighbour.failures = 0
        neighbour.linked_at = None
        neighbour.dial_at = (
            now + FIRST_RETRY * self._random.uniform(0.75, 1.25) + self._head_start(neighbour.key)
        )

    def _head_start(self, key: PublicKey) -> float:
        """What the other side gets, in seconds."""
        return 0.0 if self._own < key else GRACE
