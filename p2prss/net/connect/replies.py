"""What a server remembers of handshakes: the replies it gave, and the ephemeral keys it saw.

The same message 1 comes several times, over other relays or because a reply was lost: it gets the same
reply, for as long as the attempt lasts and ten seconds more. After that whoever sends it again is not the
client, which makes a fresh one for each attempt, and is not answered.

Memory: at most ``MAX_ATTEMPTS`` attempts of some kB, and ``MAX_EPHEMERALS`` keys of about 150 bytes.
Source: hyperdht 6.34.0 lib/server.js (keeps replies likewise, but forgets the keys); spec/07-net.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Final

KEEP_REPLY_SECONDS: Final = 10.0  # after the attempt is over
EPHEMERAL_SECONDS: Final = 600.0  # how long an ephemeral key is known to be used up
MAX_EPHEMERALS: Final = 16_384  # keys
MAX_HALF_OPEN: Final = 128  # attempts that are answered and not proven alive yet
MAX_HALF_OPEN_PER_CLIENT: Final = 32  # from one client's host
MAX_HALF_OPEN_PER_RELAY: Final = 96  # through one relay's host
MAX_ATTEMPTS: Final = 1024  # remembered with their replies
MAX_FAILURES: Final = 400  # messages a second that mean nothing; each costs a Diffie-Hellman to find that out
MAX_FAILURES_PER_SOURCE: Final = 50  # of those, from one relay's or client's host


class Attempt:
    """One message 1 and what was answered to it."""

    __slots__ = ("client_host", "half_open", "noise", "relay_host", "reply", "reply_socket")

    def __init__(self, noise: bytes, client_host: str, relay_host: str | None) -> None:
        self.noise = noise
        self.client_host = client_host
        self.relay_host = relay_host  # None: it came straight from the client
        self.reply: bytes | None = None  # None: there is none yet
        self.reply_socket: Callable[[], int] | None = None  # None: where the message came in
        self.half_open = True


class ReplyCache:
    """The attempts of one server. Times are seconds of one clock."""

    def __init__(self) -> None:
        self.refused = 0  # attempts for which there was no room
        self.replayed = 0  # messages that were old
        self._attempts: dict[bytes, Attempt] = {}
        self._ephemerals: OrderedDict[bytes, float] = OrderedDict()  # until when
        self._half_open = 0
        self._second = 0  # of the clock, in which the failures were
        self._failures: Counter[str] = Counter()  # by host
        self._per_client: dict[str, int] = {}
        self._per_relay: dict[str, int] = {}

    @property
    def half_open(self) -> int:
        """Attempts that are answered and not proven alive yet."""
        return self._half_open

    def get(self, noise: bytes) -> Attempt | None:
        """The attempt this message belongs to, if it is remembered."""
        return self._attempts.get(noise)

    def has_room(self, client_host: str, relay_host: str | None, now: float) -> bool:
        """Whether one more attempt may begin. It costs less to ask than to read the message."""
        self._turn(now)
        source = client_host if relay_host is None else relay_host
        room = (
            self._failures[source] < MAX_FAILURES_PER_SOURCE
            and self._failures.total() < MAX_FAILURES
            and self._half_open < MAX_HALF_OPEN
            and len(self._attempts) < MAX_ATTEMPTS
            and self._per_client.get(client_host, 0) < MAX_HALF_OPEN_PER_CLIENT
            and (relay_host is None or self._per_relay.get(relay_host, 0) < MAX_HALF_OPEN_PER_RELAY)
        )
        self.refused += not room
        return room

    def fail(self, source_host: str, now: float) -> None:
        """A message from there meant nothing."""
        self._turn(now)
        self._failures[source_host] += 1

    def is_used(self, ephemeral: bytes, now: float) -> bool:
        """Whether the ephemeral key served before."""
        used = self._ephemerals.get(ephemeral, now) > now
        self.replayed += used
        return used

    def begin(
        self, noise: bytes, ephemeral: bytes, client_host: str, relay_host: str | None, now: float
    ) -> Attempt:
        """Note an attempt whose message was read; ``end`` and ``forget`` it in time."""
        ephemerals = self._ephemerals
        while ephemerals and (len(ephemerals) >= MAX_EPHEMERALS or next(iter(ephemerals.values())) <= now):
            ephemerals.popitem(last=False)
        ephemerals[ephemeral] = now + EPHEMERAL_SECONDS
        attempt = self._attempts[noise] = Attempt(noise, client_host, relay_host)
        self._half_open += 1
        self._count(attempt, 1)
        return attempt

    def end(self, attempt: Attempt) -> None:
        """It is no longer half open: the client is there, or did not come."""
        if attempt.half_open:
            attempt.half_open = False
            self._half_open -= 1
            self._count(attempt, -1)

    def forget(self, attempt: Attempt) -> None:
        """Its reply is not given any more."""
        self.end(attempt)
        self._attempts.pop(attempt.noise, None)

    def _turn(self, now: float) -> None:
        if int(now) != self._second:
            self._second = int(now)
            self._failures.clear()

    def _count(self, attempt: Attempt, step: int) -> None:
        counted = [(self._per_client, attempt.client_host)]
        if attempt.relay_host is not None:
            counted.append((self._per_relay, attempt.relay_host))
        for counts, host in counted:
            counts[host] = counts.get(host, 0) + step
            if not counts[host]:
                del counts[host]
