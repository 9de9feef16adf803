"""Looks at a source: what is kept of them, and when the next is."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path
from random import Random

import pytest

from p2prss.errors import FetchError, GoneError, OriginBusyError
from p2prss.feed.origin.rhythm import Hints
from p2prss.log.store import Store
from p2prss.node.polling import Polling, PollState, in_words
from p2prss.node.saved_feeds import POLL_KIND

NOW = datetime(2025, 6, 1, tzinfo=UTC)
DAILY = [NOW - timedelta(days=days) for days in range(1, 30)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    found = Store.open(tmp_path / "home")
    yield found
    found.close()


def polling(store: Store, fixed: float | None = None) -> Polling:
    return Polling(store, "key", fixed_seconds=fixed, random=Random(1))


def test_a_look_that_went_well_is_kept_with_its_dates(store: Store) -> None:
    first = polling(store)
    seconds = first.succeeded(NOW, Hints(), DAILY, "https://b.example/")
    assert seconds == pytest.approx(900, rel=0.11)
    again = polling(store)
    assert again.state == first.state == PollState.load(store, "key")
    assert again.state.next_at == NOW + timedelta(seconds=round(seconds))
    assert again.state.moved_to == "https://b.example/"
    assert len(again.state.dates) == 20
    assert again.succeeded(NOW, Hints()) == pytest.approx(900, rel=0.11)  # by the dates that are kept


def test_failures_back_off_until_a_look_goes_well(store: Store) -> None:
    one = polling(store)
    waits = [one.failed(NOW, FetchError("the origin answers 500")) for _ in range(4)]
    assert waits == sorted(waits)
    assert all(300 * 2**place <= wait <= 360 * 2**place for place, wait in enumerate(waits))
    assert (one.state.failures, one.state.problem) == (4, "the origin answers 500")
    one.succeeded(NOW, Hints(), DAILY)
    assert (one.state.failures, one.state.problem) == (0, "")


def test_an_origin_is_left_alone_for_as_long_as_it_asks(store: Store) -> None:
    busy = OriginBusyError("busy", wait_seconds=7200)
    assert 7200 <= polling(store).failed(NOW, busy) <= 7200 * 1.2
    assert 7200 <= polling(store, fixed=60).failed(NOW, busy) <= 7200 * 1.2
    assert polling(store, fixed=60).failed(NOW, OriginBusyError("busy")) <= 72


def test_a_fixed_interval_is_kept(store: Store) -> None:
    one = polling(store, fixed=60)
    assert one.succeeded(NOW, Hints(floor_seconds=9999), DAILY) == pytest.approx(60, rel=0.1)
    assert one.failed(NOW, FetchError("no")) == pytest.approx(60, rel=0.2)


def test_what_is_gone_is_not_looked_at_again(store: Store) -> None:
    one = polling(store)
    assert one.failed(NOW, GoneError("410")) == inf
    assert one.state.gone
    assert one.state.next_at is None
    one.succeeded(NOW, Hints(), DAILY)  # somebody published it again
    assert not one.state.gone


def test_an_unreadable_record_is_none(store: Store) -> None:
    store.put_record(POLL_KIND, "key", b"{")
    assert PollState.load(store, "key") == PollState()


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(5, "in 5 s"), (600, "in 10 min"), (7200, "in 2 h"), (6e5, "in 7 days"), (inf, "never")],
)
def test_waits_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
