"""What changed when, by the history of a drive; and the feed as it was."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from p2prss.drive.bee import Bee
from p2prss.drive.core import Core
from p2prss.drive.drive import Drive
from p2prss.drive.reader import FILES
from p2prss.feed.archive.archive import INFO_PATH, FeedArchive
from p2prss.feed.archive.history import FeedChange, FeedHistory, Version, What
from p2prss.feed.archive.records import CapturePolicy
from p2prss.feed.document.item_diff import MARKUP, Difference, changed_part, differences
from p2prss.feed.model import item_id
from tests.fakes.memory_core import MemoryCore, as_core
from tests.fakes.studio import MANIFEST, Studio

FEEDS = Path(__file__).parents[2] / "feeds"
DAYS = [datetime(2025, 1, day, tzinfo=UTC) for day in range(1, 29)]
BOOK = "https://resilientwebdesign.com/"


@dataclass
class Show:
    """A feed file, mirrored again and again."""

    folder: Path
    studio: Studio
    day: int = -1

    async def update(self, feed: bytes, **options: Any) -> None:
        """Write the feed and mirror it, a day later than before."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "feed.xml").write_bytes(feed)
        self.day += 1
        options = {"policy": CapturePolicy(media=False), **options}
        await self.studio.update(str(self.folder / "feed.xml"), now=lambda: DAYS[self.day], **options)

    @property
    def history(self) -> FeedHistory:
        return FeedHistory(self.studio.drive)

    async def changes(self, path: str | None = None) -> list[FeedChange]:
        return [one async for one in self.history.changes(path=path)]


@pytest.fixture
def show(tmp_path: Path) -> Show:
    return Show(tmp_path / "o", Studio(tmp_path / "scratch"))


def rss(*items: str, title: str = "t") -> bytes:
    return f'<rss version="2.0"><channel><title>{title}</title>{"".join(items)}</channel></rss>'.encode()


def item(number: int, more: str = "") -> str:
    date = f"{datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number):%a, %d %b %Y} 00:00:00 GMT"
    return f"<item><title>{number}</title><guid>g{number}</guid><pubDate>{date}</pubDate>{more}</item>"


async def test_the_update_series_gives_these_versions(show: Show) -> None:
    """Each issue added two chapters, and corrected one thing or two in an older one."""
    for number in (1, 2, 3):
        await show.update((FEEDS / f"series-{number}.rss").read_bytes())
    by_day = {
        day: [
            (one.what, one.item.guid if one.item else "")
            for one in await show.changes()
            if one.at == DAYS[day]
        ]
        for day in range(3)
    }
    assert by_day[0] == [
        (What.ADDED, f"{BOOK}{name}/") for name in ("introduction", "chapter1", "chapter2", "chapter3")
    ]
    assert by_day[1] == [
        (What.EDITED, f"{BOOK}chapter3/"),
        (What.ADDED, f"{BOOK}chapter4/"),
        (What.ADDED, f"{BOOK}chapter5/"),
    ]
    assert by_day[2] == [
        (What.EDITED, f"{BOOK}chapter5/"),
        (What.ADDED, f"{BOOK}chapter6/"),
        (What.ADDED, f"{BOOK}chapter7/"),
    ]
    edits = [one for one in await show.changes() if one.what is What.EDITED]
    found = [await show.history.differences(one) for one in edits]
    assert found[0] is not None
    assert [one.field for one in found[0]] == ["enclosure"]
    assert 'length="12436733 "' in found[0][0].before
    assert found[1] is not None
    assert [one.field for one in found[1]] == ["description", "itunes:image"]
    assert changed_part(found[1][0]) == (
        "n his classic book  How Buildings Learn …",
        "In his classic book  How Buildings Learn …",
    )
    for one in await show.changes():
        archive = FeedArchive(show.studio.drive.checkout(one.version))
        assert one.item is None or one.item in await archive.items()
        assert (await archive.info()).updated == one.at


async def test_an_unchanged_feed_writes_nothing(show: Show) -> None:
    feed = (FEEDS / "series-3.rss").read_bytes()
    await show.update(feed)
    length = show.studio.db.length, show.studio.blobs.length
    await show.update(feed)
    assert (show.studio.db.length, show.studio.blobs.length) == length


async def test_a_feed_whose_channel_has_another_date_only_writes_nothing(show: Show) -> None:
    await show.update((FEEDS / "pair-a.xml").read_bytes())
    length = show.studio.db.length, show.studio.blobs.length
    await show.update((FEEDS / "pair-b.xml").read_bytes())
    assert (show.studio.db.length, show.studio.blobs.length) == length
    assert b"2021 12:03" not in await show.studio.archive.channel()
    later = (FEEDS / "pair-b.xml").read_bytes().replace(b"</title>", b"!</title>", 1)
    await show.update(later)
    assert b"2021 12:03" in await show.studio.archive.channel()  # it comes with the next change


async def test_everything_that_happens_to_an_item_is_told(show: Show) -> None:
    await show.update(rss(item(3), item(2), item(1)))
    await show.update(rss(item(3), item(1)))
    await show.update(rss(item(3), item(2), item(1), title="new"))
    await show.update(rss(item(4), item(3), item(2, "<link>l</link>")))
    told = [(one.at, one.what, one.item.guid if one.item else "") for one in await show.changes()]
    assert told == [
        (DAYS[0], What.ADDED, "g1"),
        (DAYS[0], What.ADDED, "g2"),
        (DAYS[0], What.ADDED, "g3"),
        (DAYS[1], What.REMOVED, "g2"),
        (DAYS[2], What.CHANNEL, ""),
        (DAYS[2], What.CAME_BACK, "g2"),
        (DAYS[3], What.EDITED, "g2"),
        (DAYS[3], What.ADDED, "g4"),
        (DAYS[3], What.CHANNEL, ""),
        (DAYS[3], What.REMOVED, "g1"),
    ]
    (one,) = [one for one in await show.studio.archive.items() if one.guid == "g2"]
    whats = [change.what for change in await show.changes(one.path)]
    assert whats == [What.ADDED, What.REMOVED, What.CAME_BACK, What.EDITED]
    newest, has_more = await show.history.newest(2)
    assert ([change.what for change in newest], has_more) == ([What.REMOVED, What.CHANNEL], True)
    newest, has_more = await show.history.newest(100, since=DAYS[2])
    assert ({change.at for change in newest}, has_more) == ({DAYS[2], DAYS[3]}, False)


async def test_captured_files_are_told_with_their_date(show: Show) -> None:
    show.folder.mkdir()
    (show.folder / "1.mp3").write_bytes(b"ID3 not really audio")
    enclosure = '<enclosure url="1.mp3" length="20" type="audio/mpeg"/>'
    await show.update(rss(item(1, enclosure)))
    show.day = 7
    await show.update(rss(item(1, enclosure)), policy=CapturePolicy())
    added, captured = await show.changes()
    assert (added.what, captured.what, captured.at) == (What.ADDED, What.CAPTURED, DAYS[8])
    assert [one.byte_length for one in captured.files] == [20]
    archive = FeedArchive(show.studio.drive.checkout(captured.version))
    assert all(one.path for one in (await archive.items())[0].assets)


async def test_the_feed_as_it_was_is_found_by_date(show: Show) -> None:
    for number in range(1, 21):
        await show.update(rss(*(item(one) for one in range(number, 0, -1))))
    for day in range(20):
        for when in (DAYS[day], DAYS[day] + timedelta(hours=23)):
            version = await show.history.at(when)
            assert version is not None
            assert version.at == DAYS[day]
            assert len(await FeedArchive(show.studio.drive.checkout(version.version)).items()) == day + 1
    assert await show.history.at(DAYS[0] - timedelta(seconds=1)) is None
    first = await show.history.first()
    assert first is not None
    assert first.at == DAYS[0]
    newest = await show.history.at(datetime(2099, 1, 1, tzinfo=UTC))
    assert newest == Version(show.studio.drive.version, DAYS[19])


async def test_a_date_is_looked_up_in_few_blocks(show: Show, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 25):
        await show.update(rss(*(item(one) for one in range(number, 0, -1))))
    read: set[int] = set()
    db = show.studio.db
    get = db.get

    async def counted(index: int) -> bytes:
        read.add(index)
        return await get(index)

    monkeypatch.setattr(db, "get", counted)

    async def open_core(key: object, manifest: object) -> Core:
        return as_core(show.studio.blobs)

    drive = Drive(as_core(db), open_core)
    assert await FeedHistory(drive).at(DAYS[11]) is not None
    assert len(read) < db.length // 3


async def test_what_an_older_writer_left_undated_is_dated_by_its_file(show: Show) -> None:
    await show.update(rss(item(1)))
    await show.update(rss(item(2), item(1)))
    text = await show.studio.drive.get(INFO_PATH)
    assert text is not None
    async with show.studio.drive.batch() as batch:
        await batch.put(INFO_PATH, text.replace(b"2025-01-02", b"2025-01-05"))
    version = await show.history.at(datetime(2025, 1, 5, tzinfo=UTC))
    assert version == Version(show.studio.drive.version, datetime(2025, 1, 5, tzinfo=UTC))


async def test_what_is_not_here_is_counted_and_the_rest_told(show: Show) -> None:
    for number in range(1, 6):
        await show.update(rss(*(item(one) for one in range(number, 0, -1))))
    await show.update(rss(item(5, "<link>l</link>"), *(item(one) for one in (4, 3, 2, 1))))
    await show.studio.blobs.clear(0, show.studio.blobs.length)
    edit = (await show.changes())[-1]
    assert edit.what is What.EDITED
    assert await show.history.differences(edit) is not None  # a peer has the texts still
    show.studio.blobs.remote = False
    await show.studio.blobs.clear(0, show.studio.blobs.length)
    assert await show.history.differences(edit) is None
    (gone,) = [seq for seq in range(1, show.studio.db.length) if await _is_first_put_of(show, seq, "g2")]
    show.studio.db.missing = {gone}
    show.studio.db.remote = False
    history = FeedHistory(Drive(as_core(show.studio.db), _no_core))
    changes = [one async for one in history.changes()]
    assert history.missing == 1
    guids = {one.item.guid for one in changes if one.item is not None}
    assert guids == {"g1", "g3", "g4", "g5"}


async def _no_core(key: object, manifest: object) -> Core:
    return as_core(MemoryCore())


async def _is_first_put_of(show: Show, seq: int, guid: str) -> bool:
    steps = [one async for one in show.studio.drive.history(seq, seq + 1)]
    return bool(steps) and item_id(guid) in steps[0].path


async def test_entries_that_make_no_sense_are_passed_over() -> None:
    db = MemoryCore(key=MANIFEST_KEY, manifest=MANIFEST)
    bee = Bee(as_core(db))
    await bee.put(FILES.key(b"/items/\xff"), b"null")
    await bee.put(FILES.key(b"/p2prss.json"), b"[")
    await bee.put(FILES.key(b"/items/x"), b'{"metadata":{"guid":1}}')
    await db.write_lock.acquire()
    await db.append([b"\xff\xff"])
    db.write_lock.release()
    history = FeedHistory(Drive(as_core(db), _no_core))
    assert [one async for one in history.changes()] == []
    assert history.broken == 3
    assert await history.first() is None


MANIFEST_KEY = bytes(32)


# ---- what differs


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ("<title>a</title>", "<title>b</title>", [Difference("title", "a", "b")]),
        ("", "<link>x</link>", [Difference("link", "", "x")]),
        (
            '<enclosure url="a" length="1"/>',
            '<enclosure length="2" url="a"/>',
            [Difference("enclosure", 'length="1" url="a"', 'length="2" url="a"')],
        ),
        (
            "<category>a</category><category>b</category>",
            "<category>c</category><category>b</category>",
            [Difference("category", "a", "c")],
        ),
        (
            '<i:image xmlns:i="http://www.itunes.com/DTDs/Podcast-1.0.dtd" href="a"/>',
            "",
            [Difference("itunes:image", 'href="a"', "")],
        ),
        ("<title>a</title><!-- 1 -->", "<title>a</title>", [Difference(MARKUP, "", "")]),
        ("<title>a</title> <link>b</link>", "<link>b</link><title>a</title>", [Difference(MARKUP, "", "")]),
        (
            "<description>a&amp;b</description>",
            "<description><![CDATA[a&b!]]></description>",
            [Difference("description", "a&b", "a&b!")],
        ),
        ("<a><b>1</b></a>", "<a><b>2</b></a>", [Difference("a", "<b>1</b></a>", "<b>2</b></a>")]),
    ],
)
def test_differences_have_names_a_person_knows(before: str, after: str, found: list[Difference]) -> None:
    assert differences(f"<item>{before}</item>".encode(), f"<item>{after}</item>".encode()) == found


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ("a", "b", ("a", "b")),
        ("", "b", ("", "b")),
        ("x" * 100 + "a", "x" * 100 + "b", ("…" + "x" * 40 + "a", "…" + "x" * 40 + "b")),
        ("aa", "aaa", ("aa", "aaa")),
    ],
)
def test_of_long_texts_the_part_that_differs_is_shown(
    before: str, after: str, shown: tuple[str, str]
) -> None:
    assert changed_part(Difference("f", before, after)) == shown


def test_what_is_shown_has_a_largest_size() -> None:
    before, after = changed_part(Difference("f", "a" * 100_000, "b" * 100_000))
    assert len(before) < 500
    assert len(after) < 500
