"""When to look at a feed again: by the show's own rhythm, within what its publisher asks for.

A look every 24th part of the usual time between episodes, four times as often around the time when the
next is due, and ever less when a show falls asleep. What the feed says (``podcast:updateFrequency``) goes
before what its dates show; ``ttl``, ``sy:updatePeriod`` and Cache-Control may ask for fewer looks.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import Final

from lxml import etree

from p2prss.feed.document.names import name_of

MINUTE: Final = 60.0
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
MIN_SECONDS: Final = 10 * MINUTE  # between looks
MAX_SECONDS: Final = 24 * HOUR
UNKNOWN_SECONDS: Final = HOUR  # where nothing shows a rhythm
FIRST_RETRY_SECONDS: Final = 5 * MINUTE  # after a failure; it doubles with every other
MAX_RETRY_AFTER: Final = 7 * DAY  # the longest that an origin may ask us to stay away
HISTORY: Final = 20  # newest dates that show a rhythm

_LOOKS: Final = 24  # in the usual time between two episodes
_DUE_LOOKS: Final = 96  # likewise, while an episode is due
_DUE: Final = 1 / 12  # of the usual time, before and after the next is due
_BURST_SECONDS: Final = HOUR  # episodes that come together are one to the rhythm

_PERIODS: Final = {"hourly": HOUR, "daily": DAY, "weekly": 7 * DAY, "monthly": 30 * DAY, "yearly": 365 * DAY}
_FREQUENCIES: Final = {name.upper(): seconds for name, seconds in _PERIODS.items()}


@dataclass(frozen=True, slots=True)
class Hints:
    """What a feed says about its looks.

    ``floor_seconds``: how long it wants to be left alone; ``period_seconds``: between its episodes, None
    where it does not say; ``complete``: no more will come.
    """

    floor_seconds: float = 0.0
    period_seconds: float | None = None
    complete: bool = False


def read_hints(channel_xml: bytes, max_age_seconds: float | None = None) -> Hints:
    """The hints of a channel's XML and of the reply it came in; what is no XML gives none.

    Source: RSS 2.0 ``ttl`` (minutes); RSS 1.0 module syndication; podcast namespace ``updateFrequency``.
    """
    floor, sy_period, period, complete = max_age_seconds or 0.0, 0.0, None, False
    parser = etree.XMLParser(resolve_entities=False, no_network=True, huge_tree=False, collect_ids=False)
    try:
        root = etree.fromstring(channel_xml, parser)
    except (etree.XMLSyntaxError, ValueError):
        return Hints(floor)
    channel = root.find("channel")
    times = 1.0
    for one in channel if channel is not None else ():
        name = name_of(one)
        if not name:
            continue
        text = (one.text or "").strip()[:100]
        number = float(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
        match name:
            case "ttl" if number is not None:
                floor = max(floor, number * MINUTE)
            case "sy:updatePeriod":
                sy_period = _PERIODS.get(text.lower(), 0.0)
            case "sy:updateFrequency" if number:
                times = number
            case "podcast:updateFrequency":
                complete = one.get("complete", "").strip().lower() == "true"
                period = rule_seconds(one.get("rrule", ""))
    floor = max(floor, sy_period / times)
    return Hints(floor, period, complete)


def rule_seconds(rule: str) -> float | None:
    """The usual seconds between two dates of a recurrence rule; None for one that is not understood.

    Source: RFC 5545, section 3.3.10.
    """
    parts = dict(part.split("=", 1) for part in rule.strip().upper().split(";")[:20] if "=" in part)
    seconds = _FREQUENCIES.get(parts.get("FREQ", ""))
    if seconds is None:
        return None
    every = parts.get("INTERVAL", "1")
    seconds *= int(every) if re.fullmatch(r"[1-9][0-9]{0,3}", every) else 1
    for name in ("BYMONTH", "BYMONTHDAY", "BYDAY", "BYHOUR"):
        seconds /= len(parts.get(name, "").split(","))
    return seconds


def usual_seconds(dates: Iterable[datetime], now: datetime) -> float | None:
    """The usual time between a show's episodes, the median of the newest; None without two of them."""
    newest = sorted({one for one in dates if one <= now}, reverse=True)[:HISTORY]
    gaps = [(later - earlier).total_seconds() for later, earlier in pairwise(newest)]
    return median(found) if (found := [gap for gap in gaps if gap >= _BURST_SECONDS]) else None


def next_look(dates: Sequence[datetime], now: datetime, hints: Hints | None = None) -> float:
    """Seconds until the next look, from ``MIN_SECONDS`` to ``MAX_SECONDS``.

    Args: dates: of the episodes, with their zones, in any order; those to come do not count.
    """
    hints = hints or Hints()
    usual = hints.period_seconds or usual_seconds(dates, now)
    past = [one for one in dates if one <= now]
    since = (now - max(past)).total_seconds() if past else None
    if hints.complete:
        seconds = MAX_SECONDS
    elif usual is None:
        seconds = UNKNOWN_SECONDS if since is None else max(UNKNOWN_SECONDS, since / _LOOKS)
    elif since is None:
        seconds = usual / _LOOKS
    else:
        seconds = _in_rhythm(usual, since)
    seconds = min(max(seconds, MIN_SECONDS), MAX_SECONDS)
    return max(seconds, min(hints.floor_seconds, MAX_SECONDS))


def _in_rhythm(usual: float, since: float) -> float:
    begin, end = usual * (1 - _DUE), usual * (1 + _DUE)
    if since < begin:  # but not past the time when the next may come
        return min(usual / _LOOKS, begin - since)
    if since <= end:
        return usual / _DUE_LOOKS
    return max(usual, since - usual) / _LOOKS


def next_try(failures: int, wait_seconds: float | None = None) -> float:
    """Seconds until the next look after so many failures in a row, of which the last asked for a wait."""
    backoff = min(FIRST_RETRY_SECONDS * 2.0 ** min(failures - 1, 20), MAX_SECONDS)
    return max(backoff, min(wait_seconds or 0.0, MAX_RETRY_AFTER))


def until(now: datetime, seconds: float) -> datetime:
    """That many seconds later, in whole ones."""
    return now.replace(microsecond=0) + timedelta(seconds=round(seconds))
