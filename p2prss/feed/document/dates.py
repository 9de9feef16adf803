"""Dates as feeds write them."""

import re
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
_MAX_LENGTH: Final = 100  # characters

_DAY_NAME: Final = re.compile(
    r"^[^\W\d]+\.?,?\s+(?=\d)"
)  # in any language: the number that follows says it all
_FORMATS: Final = (
    "%a %b %d %H:%M:%S %Y %Z",  # Sat Sep 3 09:19:24 2016 GMT
    "%a %b %d %H:%M:%S %Y",
    "%A, %B %d, %Y - %H:%M",  # Sunday, June 30, 2013 - 00:00
    "%B %d, %Y",
    "%d %B %Y",
    "%d %b %Y",
    "%Y/%m/%d",
    "%Y-%m-%d %H:%M:%S %z",
)


def parse_date(text: str) -> datetime | None:
    """Read a date: RFC 2822 first, then ISO 8601, then some shapes seen in the wild.

    Returns: an aware time in UTC (undeclared zones are taken for UTC), or None for what is no date
    or lies outside of 1900-2200.
    """
    text = " ".join(text[: _MAX_LENGTH + 1].split())
    if not text or len(text) > _MAX_LENGTH:
        return None
    for read in (_rfc2822, _iso8601, _wild):
        # Foreign parsers answer hostile text with many kinds of errors; all mean "not a date".
        with suppress(ValueError, TypeError, IndexError, OverflowError, AttributeError):
            when = read(text)
            when = when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
            if _EARLIEST <= when < _LATEST:
                return when
    return None


def as_rfc2822(text: str) -> str:
    """A date as RSS writes it, in the zone it was written in; as it was where it is no date."""
    words = " ".join(text[: _MAX_LENGTH + 1].split())
    with suppress(ValueError, OverflowError):
        when = datetime.fromisoformat(words)
        if when.tzinfo is not None and parse_date(words) is not None:
            return format_datetime(when.replace(microsecond=0))
    known = parse_date(words)
    return text.strip() if known is None else format_datetime(known.replace(microsecond=0))


def _rfc2822(text: str) -> datetime:
    return parsedate_to_datetime(_DAY_NAME.sub("", text))


def _iso8601(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _wild(text: str) -> datetime:
    for form in _FORMATS:
        with suppress(ValueError):
            return datetime.strptime(text, form)
    raise ValueError
