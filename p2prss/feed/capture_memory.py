"""What a mirror remembers of an origin's files between updates; pure, kept in this home only.

A file that cannot be had is asked for again after an hour, then after six, a day, and from then on
once a week: an old feed may name hundreds that are gone, and looks are frequent. Failures of the
network, which say nothing about the file, are forgiven twice.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Final

import msgspec

RETRY_HOURS: Final = (1, 6, 24, 7 * 24)  # after each failure of a file; the last for all further ones
CAPTURES_KIND: Final = "captures"  # under which a home keeps these records, one for each feed
FORGIVEN: Final = 2  # failures of the network until a file has to wait


class Failure(msgspec.Struct, frozen=True):
    """A file that could not be had ``count`` times in a row."""

    count: int
    next_at: datetime  # aware; not asked for before


class CaptureState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record, by digests of addresses: they are short, and hold no secrets."""

    failures: dict[str, Failure] = {}


def read_state(data: bytes | None) -> CaptureState:
    """A record as it was kept; a new one where there is none, or one that cannot be read."""
    try:
        return msgspec.json.decode(data or b"{}", type=CaptureState)
    except msgspec.MsgspecError:
        return CaptureState()


class CaptureMemory:
    """The record while an update runs."""

    def __init__(self, state: CaptureState) -> None:
        self._old = state
        self._failures = dict(state.failures)

    @property
    def state(self) -> CaptureState:
        """What is to be kept now."""
        return CaptureState(self._failures)

    @property
    def is_changed(self) -> bool:
        """Whether something is to be kept."""
        return self.state != self._old

    def must_wait(self, url: str, now: datetime) -> bool:
        """Whether it is too early to ask for this file again."""
        failure = self._failures.get(digest_of(url)) if self._failures else None
        return failure is not None and now < failure.next_at

    def failed(self, url: str, now: datetime, *, is_refused: bool) -> None:
        """Note that a file could not be had; ``is_refused``: the origin answered, but not with it."""
        name = digest_of(url)
        old = self._failures.get(name)
        count = (old.count if old else 0) + 1
        place = count - 1 - (0 if is_refused else FORGIVEN)
        hours = RETRY_HOURS[min(place, len(RETRY_HOURS) - 1)] if place >= 0 else 0
        self._failures[name] = Failure(count, now + timedelta(hours=hours))

    def succeeded(self, url: str) -> None:
        """Note that a file was had."""
        self._failures.pop(digest_of(url), None)

    def keep_only(self, urls: Collection[str]) -> None:
        """Forget files that nothing names any more."""
        if self._failures:
            names = {digest_of(url) for url in urls}
            self._failures = {name: one for name, one in self._failures.items() if name in names}


def digest_of(url: str) -> str:
    """32 hex digits that stand for an address."""
    return blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
