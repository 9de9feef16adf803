"""Items stand as the origin has them, for as few written records as possible."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from p2prss.feed.archive.order import in_origin_order, order_numbers
from p2prss.feed.archive.records import ArchivedItem, ItemRecord, item_path
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.mirroring.changes import find_changes

NOW = datetime(2025, 1, 1, tzinfo=UTC)
FIRST = datetime(2020, 1, 1, tzinfo=UTC)


def feed(*guids: str, dated: bool = True) -> bytes:
    """Items named by the day of their date."""
    items = "".join(
        f"<item><guid>{one}</guid>"
        + (f"<pubDate>{FIRST + timedelta(days=int(one))}</pubDate>" if dated else "")
        + "</item>"
        for one in guids
    )
    return f"<rss><channel><title>T</title>{items}</channel></rss>".encode()


class Archived:
    """An archive of records only, updated as a mirror does it."""

    def __init__(self) -> None:
        self.items: dict[str, ArchivedItem] = {}

    def update(self, data: bytes) -> int:
        """Returns: how many records were written."""
        changes = find_changes(parse_feed(data), self.items, {}, NOW)
        self.items |= {item.item_id: item for item, _ in changes.newest}
        return len(changes.newest)

    @property
    def guids(self) -> list[str]:
        return [item.guid for item in in_origin_order(self.items.values())]


def test_newest_first_needs_no_numbers() -> None:
    archived = Archived()
    assert archived.update(feed("3", "2", "1")) == 3
    assert archived.update(feed("4", "3", "2", "1")) == 1
    assert archived.guids == ["4", "3", "2", "1"]
    assert all(item.record.order is None for item in archived.items.values())


def test_oldest_first_stays_oldest_first_and_a_new_one_costs_one_record() -> None:
    archived = Archived()
    archived.update(feed("1", "2", "3"))
    assert archived.update(feed("1", "2", "3", "4")) == 1
    assert archived.guids == ["1", "2", "3", "4"]
    assert archived.update(feed("1", "2", "3", "4")) == 0


def test_items_without_dates_stand_as_they_were_written() -> None:
    archived = Archived()
    names = [str(one) for one in (5, 3, 9, 1, 7)]
    archived.update(feed(*names, dated=False))
    assert archived.guids == names
    assert archived.update(feed("4", *names, dated=False)) == 1
    assert archived.guids == ["4", *names]


def test_a_pinned_episode_moves_alone() -> None:
    archived = Archived()
    archived.update(feed("4", "3", "2", "1"))
    assert archived.update(feed("1", "4", "3", "2")) == 1
    assert archived.guids == ["1", "4", "3", "2"]


def test_what_was_dropped_stands_behind_newest_first_and_returns_to_its_place() -> None:
    archived = Archived()
    archived.update(feed("1", "2", "3", "4"))
    archived.update(feed("2", "4"))
    assert archived.guids == ["2", "4", "3", "1"]
    archived.update(feed("1", "2", "3", "4"))
    assert archived.guids == ["1", "2", "3", "4"]


def test_a_changed_item_keeps_its_place() -> None:
    archived = Archived()
    archived.update(feed("1", "2", "3"))
    archived.update(feed("1", "2", "3").replace(b"<guid>2", b"<x/><guid>2"))
    assert archived.guids == ["1", "2", "3"]


@given(st.lists(st.permutations([str(one) for one in range(8)]), min_size=1, max_size=4), st.booleans())
def test_any_order_is_kept(orders: list[list[str]], dated: bool) -> None:
    archived = Archived()
    for order in orders:
        archived.update(feed(*order, dated=dated))
        assert archived.guids == order


@given(st.data())
def test_room_that_runs_out_is_made_anew(data: st.DataObject) -> None:
    """Always between the same two, until there is no number left there."""
    known: dict[str, int | None] = {"b": 10, "a": 5}
    order = ["b", "a"]
    for number in range(12):
        place = data.draw(st.integers(1, len(order) - 1))
        order.insert(place, f"c{number}")
        known |= order_numbers(order, known)
        assert sorted(order, key=lambda one: (known.get(one) or 0, one), reverse=True) == order


def test_a_hostile_number_is_only_a_number() -> None:
    path = item_path("x", NOW)
    record = ItemRecord(guid="x", first_seen=NOW, order=2**53 - 1)
    assert order_numbers([item_path("y", NOW), path], {path: record.order})
