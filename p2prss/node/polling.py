"""When a source is looked at, and what came of the last look: kept in the home, told by ``status``."""

from collections.abc import Sequence
from datetime import datetime
from math import inf
from random import Random
from typing import Final

import msgspec

from p2prss.errors import GoneError, OriginBusyError, P2prssError
from p2prss.feed.origin.rhythm import HISTORY, Hints, next_look, next_try, until
from p2prss.feed.origin.url import redact
from p2prss.log.store import Store
from p2prss.node.saved_feeds import POLL_KIND

JITTER: Final = 0.1  # share of the time between looks by which they are spread


class PollState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of the looks at one source."""

    looked_at: datetime | None = None
    next_at: datetime | None = None  # None before the first look, and when there will be none
    failures: int = 0  # in a row
    problem: str = ""  # of the last look, in one line
    gone: bool = False  # the origin says that it will never be there again
    moved_to: str = ""  # may hold secrets: it never leaves the home
    dates: tuple[datetime, ...] = ()  # of the newest episodes

    @classmethod
    def load(cls, store: Store, key: str) -> "PollState":
        """That of a feed; an unreadable one is as good as none."""
        try:
            return msgspec.json.decode(store.get_record(POLL_KIND, key) or b"{}", type=cls)
        except msgspec.MsgspecError:
            return cls()


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The looks at a source for people; ``moved_to`` is shown without secrets.

    ``gone``: the origin says that it will never be back, so there are no more looks.
    """

    looked_at: datetime
    next_look: datetime | None
    failures: int
    problem: str | None
    gone: bool
    moved_to: str | None

    @classmethod
    def load(cls, store: Store, key: str) -> "SourceStatus | None":
        """That of a feed that is published from here; None before the first look."""
        state = PollState.load(store, key)
        if state.looked_at is None:
            return None
        return cls(
            looked_at=state.looked_at,
            next_look=state.next_at,
            failures=state.failures,
            problem=state.problem or None,
            gone=state.gone,
            moved_to=redact(state.moved_to) if state.moved_to else None,
        )

    @property
    def words(self) -> str:
        """What is unusual about it, in one line; empty for nothing."""
        if self.gone:
            return "the source is gone for good and not looked at any more; what is here is shared on"
        told = [f"the source has moved to {self.moved_to}"] if self.moved_to else []
        if self.failures:
            told.append(f"the last {self.failures} looks at the source failed: {self.problem}")
        if self.failures and self.next_look:
            told.append(f"while a node runs, the next is planned for {self.next_look:%Y-%m-%d %H:%M} UTC")
        return "; ".join(told)


class Polling:
    """Decides when to look again. ``fixed_seconds``: what the user wants, None for the show's own rhythm."""

    def __init__(
        self, store: Store, key: str, *, fixed_seconds: float | None = None, random: Random | None = None
    ) -> None:
        self._store = store
        self._key = key
        self._fixed_seconds = fixed_seconds
        self._random = random or Random()
        self.state = PollState.load(store, key)

    def succeeded(
        self, now: datetime, hints: Hints, dates: Sequence[datetime] | None = None, moved_to: str = ""
    ) -> float:
        """After a look that went well. Args: dates: of all episodes, None for as before.

        Returns: seconds until the next.
        """
        newest = self.state.dates if dates is None else tuple(sorted(dates, reverse=True)[:HISTORY])
        seconds = self._fixed_seconds if self._fixed_seconds is not None else next_look(newest, now, hints)
        return self._wait(now, seconds, PollState(moved_to=moved_to, dates=newest))

    def failed(self, now: datetime, error: P2prssError) -> float:
        """After a look that failed. Returns: seconds until the next; ``inf`` when there is to be none."""
        failures = self.state.failures + 1
        asked = error.wait_seconds if isinstance(error, OriginBusyError) else None
        seconds = next_try(failures, asked)
        if self._fixed_seconds is not None:
            seconds = max(self._fixed_seconds, asked or 0.0)
        gone = isinstance(error, GoneError)
        state = msgspec.structs.replace(self.state, failures=failures, problem=str(error), gone=gone)
        return self._wait(now, inf if gone else seconds, state)

    def _wait(self, now: datetime, seconds: float, state: PollState) -> float:
        """Spread the looks, never to before what was asked for by the origin; and note it."""
        seconds *= self._random.uniform(1, 1 + 2 * JITTER) if state.failures else self._spread()
        next_at = None if seconds == inf else until(now, seconds)
        self.state = msgspec.structs.replace(state, looked_at=now, next_at=next_at)
        self._store.put_record(POLL_KIND, self._key, msgspec.json.encode(self.state))
        return seconds

    def _spread(self) -> float:
        return self._random.uniform(1 - JITTER, 1 + JITTER)


def in_words(seconds: float) -> str:
    """``4000`` → ``in 67 min``."""
    if seconds == inf:
        return "never"
    for unit, size, most in (("s", 1, 120), ("min", 60, 120 * 60), ("h", 3600, 72 * 3600)):
        if seconds < most:
            return f"in {seconds / size:.0f} {unit}"
    return f"in {seconds / 86400:.0f} days"
