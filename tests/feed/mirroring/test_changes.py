"""What an update has to write: how items leave a feed and come back, and guids of every kind."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

import pytest

from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.records import ArchivedItem, Asset, Removal
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.mirroring.changes import Changes, find_changes
from p2prss.feed.model import MAX_GUID_LENGTH

START = datetime(2024, 1, 1, tzinfo=UTC)
NOW = datetime(2025, 1, 1, tzinfo=UTC)
AGED, TAKEN = Removal.AGED_OUT, Removal.TAKEN_OUT


def item(number: int, more: str = "", *, dated: bool = True) -> str:
    date = f"{START + timedelta(days=number):%a, %d %b %Y} 00:00:00 GMT"
    written = f"<pubDate>{date}</pubDate>" if dated else ""
    return f"<item><title>{number}</title><guid>g{number}</guid>{written}{more}</item>"


@dataclass
class Archive:
    """Items over several updates, as a drive would list them."""

    known: dict[str, ArchivedItem] = field(default_factory=dict)
    captured: dict[str, Asset] = field(default_factory=dict)
    now: datetime = NOW

    def update(self, items: Iterable[str], *, is_whole: bool = True) -> Changes:
        podcast = 'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
        text = f'<rss version="2.0" {podcast}><channel><title>t</title>{"".join(items)}</channel></rss>'
        self.now += timedelta(days=1)
        changes = find_changes(
            parse_feed(text.encode()), self.known, self.captured, self.now, is_whole=is_whole
        )
        self.known |= {one.item_id: one for one, _ in changes.newest}
        return changes

    @property
    def removed(self) -> dict[str, str | None]:
        return {one.guid: one.removed_as for one in self.known.values() if one.removed_at is not None}


def items(*numbers: int) -> list[str]:
    return [item(number) for number in numbers]


def test_what_falls_off_the_end_has_aged_out() -> None:
    archive = Archive()
    archive.update(items(4, 3, 2, 1))
    changes = archive.update(items(6, 5, 4, 3))
    assert (changes.new, changes.aged_out, changes.taken_out, changes.removed) == (2, 2, 0, 2)
    assert archive.removed == {"g1": AGED, "g2": AGED}
    changes = archive.update(items(6, 5, 4, 3))
    assert (changes.newest, changes.removed) == ([], 0)


def test_what_vanishes_from_the_middle_or_the_top_is_taken_out() -> None:
    archive = Archive()
    archive.update(items(5, 4, 3, 2, 1))
    changes = archive.update(items(4, 2, 1))
    assert (changes.aged_out, changes.taken_out) == (0, 2)
    assert archive.removed == {"g5": TAKEN, "g3": TAKEN}
    archive.update(items(6, 4, 2))
    assert archive.removed == {"g5": TAKEN, "g3": TAKEN, "g1": AGED}  # what was found earlier stays


def test_a_feed_in_the_order_of_a_book_is_judged_by_date_as_well() -> None:
    archive = Archive()
    archive.update(items(1, 2, 3, 4))
    archive.update(items(3, 4, 5))
    assert archive.removed == {"g1": AGED, "g2": AGED}


def test_an_empty_feed_takes_nothing_out() -> None:
    archive = Archive()
    archive.update(items(2, 1))
    archive.update([])
    assert archive.removed == {"g1": AGED, "g2": AGED}


def test_a_trailer_that_stays_for_ever_does_not_make_others_taken_out() -> None:
    trailer = item(0, "<itunes:episodeType> Trailer </itunes:episodeType>")
    archive = Archive()
    archive.update([*items(3, 2, 1), trailer])
    archive.update([*items(4, 3, 2), trailer])
    archive.update([*items(4, 2), trailer])
    assert archive.removed == {"g1": AGED, "g3": TAKEN}
    archive.update([*items(4), trailer])  # nothing new has come: this is no window that moved on
    assert archive.removed == {"g1": AGED, "g3": TAKEN, "g2": TAKEN}
    archive.update([*items(7, 6, 5), trailer])  # one that grows has not reached its end
    assert archive.removed["g4"] == TAKEN


def test_items_without_dates_are_judged_by_when_they_were_first_seen() -> None:
    archive = Archive()
    archive.update([item(1, dated=False)])
    archive.update([item(number, dated=False) for number in (2, 1)])
    archive.update([item(number, dated=False) for number in (3, 2, 1)])
    archive.update([item(number, dated=False) for number in (3, 1)])
    assert archive.removed == {"g2": TAKEN}
    archive.update([item(3, dated=False)])
    assert archive.removed == {"g2": TAKEN, "g1": AGED}


def test_what_comes_back_is_not_removed_any_more() -> None:
    archive = Archive()
    archive.update(items(3, 2, 1))
    archive.update(items(3, 1))
    changes = archive.update(items(3, 2, 1))
    assert (changes.changed, archive.removed) == (1, {})
    back = changes.newest[0][0].record
    assert (back.removed_at, back.removed_as) == (None, None)


def test_of_a_part_of_a_feed_nothing_is_marked() -> None:
    archive = Archive()
    archive.update(items(3, 2, 1))
    assert archive.update(items(3, 1), is_whole=False).removed == 0


# ---- guids


@pytest.mark.parametrize(
    "guid",
    [
        "https://a.example/a/b/../c?d=e&f#g",
        "/",
        "../../etc/passwd",
        "a b\tc",
        " x ",
        "x",
        "X",
        "é",
        "e\u0301",
        "%2F",
        "g" * MAX_GUID_LENGTH,
        "<&>\"'",
    ],
)
def test_guids_are_kept_to_the_letter(guid: str) -> None:
    archive = Archive()
    others = [" ", "other", guid[:-1] + "!"]
    written = [
        f"<item><guid>{escape(one)}</guid><link>l{n}</link></item>" for n, one in enumerate([guid, *others])
    ]
    archive.update(written)
    assert guid in {one.guid for one in archive.known.values()}
    assert len(archive.known) == 4  # " " is none: the link stands for it
    assert all("/items/20" in one.path and ".." not in one.path for one in archive.known.values())
    assert archive.update(written).newest == []


def test_a_guid_that_is_too_long_is_none() -> None:
    archive = Archive()
    written = [f"<item><guid>{'g' * (MAX_GUID_LENGTH + 1)}</guid><link>https://a.example/1</link></item>"]
    archive.update(written)
    assert [one.guid for one in archive.known.values()] == ["https://a.example/1"]
    assert archive.update(written).newest == []


def test_a_guid_twice_is_one_item_with_its_older_versions_as_history() -> None:
    archive = Archive()
    twice = [item(3), item(1, "<title>old</title>").replace(">g1<", ">g3<"), item(2)]
    changes = archive.update([*twice, twice[0], twice[1]])
    assert (changes.new, [one.title for one, _ in changes.older]) == (2, ["1"])  # each version once
    assert {one.guid: one.title for one in archive.known.values()} == {"g3": "3", "g2": "2"}
    again = archive.update(twice)
    assert (again.older, again.newest, again.removed) == ([], [], 0)


def test_a_guid_that_the_publisher_changed_makes_another_item_of_the_same_file() -> None:
    """Both stay: nobody can know whether it is the same episode. Its bytes are there once."""
    enclosure = '<enclosure url="https://a.example/1.mp3" length="5" type="audio/mpeg"/>'
    archive = Archive()
    archive.update([item(2), item(1, enclosure)])
    sha = "ab" * 32
    archive.captured["https://a.example/1.mp3"] = Asset(
        role="enclosure", url="https://a.example/1.mp3", path=f"/media/ab/{sha}.mp3", sha256=sha
    )
    archive.update([item(2), item(1, enclosure).replace(">g1<", ">new<"), item(0)])
    assert {one.guid for one in archive.known.values()} == {"g2", "g1", "new", "g0"}
    assert archive.removed == {"g1": TAKEN}
    (new,) = [one for one in archive.known.values() if one.guid == "new"]
    assert new.assets == (archive.captured["https://a.example/1.mp3"],)


def test_of_items_with_one_guid_the_newest_stands_where_the_origin_has_it() -> None:
    archive = Archive()
    archive.update([item(1).replace(">g1<", ">g3<"), item(2), item(3), item(0)])
    listed = in_origin_order(archive.known.values())
    assert [one.title for one in listed] == ["2", "3", "0"]


def test_an_item_that_was_told_from_another_keeps_its_guid_when_that_is_gone() -> None:
    archive = Archive()
    file = '<enclosure url="http://e.example/a.mp3" length="1" type="audio/mpeg"/>'
    both = [item(number, file).replace(f"<guid>g{number}</guid>", "") for number in (2, 1)]
    assert archive.update(both).new == 2
    changes = archive.update(both[:1])
    assert (changes.new, changes.changed, changes.removed) == (0, 0, 1)
    assert archive.removed == {"http://e.example/a.mp3": AGED}
    changes = archive.update(both)
    assert (changes.new, changes.changed, changes.removed) == (0, 1, 0)


def test_items_without_a_guid_that_share_all_but_their_notes_change_nothing_when_read_again() -> None:
    archive = Archive()
    page = "<item><link>http://e.example/</link><description>{}</description></item>"
    both = [page.format(number) for number in (2, 1)]
    assert archive.update(both).new == 2
    assert not archive.update(both).newest
    assert archive.update([both[0], *both]).new == 1
