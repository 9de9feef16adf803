"""When a feed is looked at again, from made-up and from real dates."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import FeedError
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.origin.rhythm import (
    DAY,
    HOUR,
    MAX_RETRY_AFTER,
    MAX_SECONDS,
    MIN_SECONDS,
    MINUTE,
    UNKNOWN_SECONDS,
    Hints,
    next_look,
    next_try,
    read_hints,
    rule_seconds,
    usual_seconds,
)

NOW = datetime(2025, 6, 1, 12, tzinfo=UTC)
FEEDS = sorted((Path(__file__).parents[2] / "feeds").glob("*.*"))


def every(seconds: float, *, since: float, count: int = 10) -> list[datetime]:
    """Dates of a regular show whose last episode is that old."""
    return [NOW - timedelta(seconds=since + place * seconds) for place in range(count)]


@pytest.mark.parametrize(
    ("dates", "seconds"),
    [
        (every(DAY, since=6 * HOUR), HOUR),
        (every(DAY, since=DAY), 15 * MINUTE),  # due
        (every(DAY, since=22 * HOUR - 20 * MINUTE), 20 * MINUTE),  # nearly due: not past that moment
        (every(DAY, since=26 * HOUR), 15 * MINUTE),
        (every(DAY, since=27 * HOUR), HOUR),  # late
        (every(7 * DAY, since=DAY), 7 * HOUR),
        (every(7 * DAY, since=7 * DAY), 7 * DAY / 96),
        (every(30 * DAY, since=DAY), DAY),
        (every(DAY, since=400 * DAY), MAX_SECONDS),  # asleep
        (every(7 * DAY, since=17 * DAY), 10 * HOUR),  # falling asleep
        (every(5 * MINUTE, since=MINUTE), UNKNOWN_SECONDS),  # a burst shows no rhythm
        (every(2 * HOUR, since=HOUR), MIN_SECONDS),
        ([], UNKNOWN_SECONDS),
        ([NOW + timedelta(days=3)], UNKNOWN_SECONDS),
        ([NOW - timedelta(days=1)], UNKNOWN_SECONDS),
        ([NOW - timedelta(days=365)], MAX_SECONDS),
    ],
)
def test_looks_follow_the_rhythm_of_the_show(dates: list[datetime], seconds: float) -> None:
    assert next_look(dates, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("hints", "seconds"),
    [
        (Hints(floor_seconds=3 * HOUR), 3 * HOUR),
        (Hints(floor_seconds=365 * DAY), MAX_SECONDS),
        (Hints(period_seconds=14 * DAY), 14 * HOUR),
        (Hints(complete=True), MAX_SECONDS),
    ],
)
def test_what_the_feed_says_goes_before_its_dates(hints: Hints, seconds: float) -> None:
    assert next_look(every(DAY, since=6 * HOUR), NOW, hints) == pytest.approx(seconds)


CHANNEL = """<rss xmlns:sy="http://purl.org/rss/1.0/modules/syndication/"
 xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel>{}</channel></rss>"""


@pytest.mark.parametrize(
    ("inside", "hints"),
    [
        ("", Hints()),
        ("<ttl>60</ttl>", Hints(HOUR)),
        ("<ttl>soon</ttl><ttl>-5</ttl><ttl>٣</ttl>", Hints()),
        (
            "<sy:updatePeriod> hourly </sy:updatePeriod><sy:updateFrequency>2</sy:updateFrequency>",
            Hints(30 * 60),
        ),
        ("<sy:updateFrequency>0</sy:updateFrequency><sy:updatePeriod>daily</sy:updatePeriod>", Hints(DAY)),
        ("<sy:updatePeriod>always</sy:updatePeriod>", Hints()),
        ('<podcast:updateFrequency rrule="FREQ=WEEKLY">weekly</podcast:updateFrequency>', Hints(0, 7 * DAY)),
        ('<podcast:updateFrequency complete="true"/>', Hints(0, None, True)),
        ("<item><ttl>60</ttl></item>", Hints()),
    ],
)
def test_hints_of_a_channel(inside: str, hints: Hints) -> None:
    assert read_hints(CHANNEL.format(inside).encode()) == hints


def test_hints_of_what_is_no_channel() -> None:
    for text in (b"", b"<", b"<rss/>", b"\0", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"):
        assert read_hints(text, 90.0) == Hints(90.0)


@pytest.mark.parametrize(
    ("rule", "seconds"),
    [
        ("FREQ=DAILY", DAY),
        ("FREQ=WEEKLY;INTERVAL=2", 14 * DAY),
        ("freq=weekly;byday=MO,WE,FR", 7 * DAY / 3),
        ("FREQ=MONTHLY;BYDAY=1MO,3MO", 15 * DAY),
        ("FREQ=WEEKLY;INTERVAL=0", 7 * DAY),
        ("FREQ=SECONDLY", None),
        ("weekly", None),
        ("", None),
    ],
)
def test_recurrence_rules(rule: str, seconds: float | None) -> None:
    assert rule_seconds(rule) == seconds


@given(st.text(max_size=60), st.text(max_size=60))
def test_any_rule_is_read(rule: str, rest: str) -> None:
    assert (rule_seconds(f"FREQ=DAILY;{rule}") or 1) > 0
    rule_seconds(rest)


@given(
    st.lists(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)), max_size=30),
    st.floats(0, 1e12),
    st.floats(1, 1e12) | st.none(),
)
def test_a_look_is_never_too_soon_nor_too_late(
    dates: list[datetime], floor: float, period: float | None
) -> None:
    assert MIN_SECONDS <= next_look(dates, NOW, Hints(floor, period)) <= MAX_SECONDS


def test_failures_back_off() -> None:
    waits = [next_try(failures) for failures in range(1, 40)]
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (5 * MINUTE, 10 * MINUTE, MAX_SECONDS)
    assert next_try(1, 2 * HOUR) == 2 * HOUR
    assert next_try(3, 1.0) == 20 * MINUTE
    assert next_try(1, 1e12) == MAX_RETRY_AFTER


def test_real_feeds_have_a_rhythm() -> None:
    """Looked at the day after their last episode, real shows are looked at within bounds that fit them."""
    found = 0
    for path in FEEDS:
        try:
            feed = parse_feed(path.read_bytes(), url="https://a.example/feed", content_type="")
        except FeedError:
            continue
        dates = [item.published for item in feed.items if item.published is not None]
        now = max(dates, default=NOW) + timedelta(days=1)
        hints, usual = read_hints(feed.channel.xml), usual_seconds(dates, now)
        seconds = next_look(dates, now, hints)
        assert MIN_SECONDS <= seconds <= MAX_SECONDS, path.name
        if usual is not None and not hints.complete and hints.period_seconds is None:
            found += 1
            assert seconds <= max(usual / 4, hints.floor_seconds, MIN_SECONDS, DAY / 24), path.name
    assert found >= 10
