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

from p2prss.feed.archive.pinning import Named

RETRY_HOURS: Final = (1, 6, 24, 7 * 24)  # after each failure of a file; the last for all further ones
ASK_DAYS: Final = 7  # between two questions whether an enclosure has changed that nothing says has
CAPTURES_KIND: Final = "captures"  # under which a home keeps these records, one for each feed
FORGIVEN: Final = 2  # failures of the network until a file has to wait


class Failure(msgspec.Struct, frozen=True):
    """A file that could not be had ``count`` times in a row."""

    count: int
    next_at: datetime  # aware; not asked for before


class Known(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an origin said of an enclosure when it was captured or asked for last."""

    asked_at: datetime  # aware
    byte_length: int | None = None  # announced in the feed
    etag: str = ""
    is_due: bool = False  # it has changed since, and is to be captured again


class CaptureState(msgspec.Struct, frozen=True, omit_defaults=True):
    """The record, by digests of addresses: they are short, and hold no secrets."""

    failures: dict[str, Failure] = {}
    enclosures: dict[str, Known] = {}  # by item id and number, while they may be captured again


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
        self._enclosures = dict(state.enclosures)

    @property
    def state(self) -> CaptureState:
        """What is to be kept now."""
        return CaptureState(self._failures, self._enclosures)

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

    def keep_only(self, urls: Collection[str], item_ids: Collection[str]) -> None:
        """Forget files and items that are no more."""
        known = self._enclosures.items()
        self._enclosures = {name: one for name, one in known if name.partition("/")[0] in item_ids}
        if self._failures:
            names = {digest_of(url) for url in urls}
            self._failures = {name: one for name, one in self._failures.items() if name in names}

    def named(self, one: Named, now: datetime) -> None:
        """Note how the feed names a captured enclosure now: whether it is to be captured again."""
        name = f"{one.item_id}/{one.number}"
        known = self._enclosures.get(name, Known(now))
        is_other_length = None not in (one.byte_length, known.byte_length) and (
            one.byte_length != known.byte_length
        )
        self._enclosures[name] = msgspec.structs.replace(
            known,
            byte_length=one.byte_length or known.byte_length,
            is_due=known.is_due or one.is_revised or is_other_length,
        )

    def captured(self, item_id: str, number: int, now: datetime, etag: str, byte_length: int | None) -> None:
        """Note that an enclosure was captured, or is the same as before; ``byte_length`` as announced."""
        name = f"{item_id}/{number}"
        known = self._enclosures.get(name, Known(now))
        self._enclosures[name] = Known(now, byte_length or known.byte_length, etag)

    def is_due(self, item_id: str, number: int) -> bool:
        """Whether an enclosure has changed since it was captured."""
        known = self._enclosures.get(f"{item_id}/{number}")
        return known is not None and known.is_due

    def etag_to_ask_with(self, item_id: str, number: int, now: datetime) -> str:
        """The ETag of an enclosure about which the origin was not asked for long; empty for none."""
        known = self._enclosures.get(f"{item_id}/{number}")
        if known is None or now < known.asked_at + timedelta(days=ASK_DAYS):
            return ""
        return known.etag


def digest_of(url: str) -> str:
    """32 hex digits that stand for an address."""
    return blake2b(url.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
