"""Feeds in several documents: read to the end, and not more often than there is need."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import FetchError
from p2prss.feed.archive.records import ArchivedItem, CapturePolicy, Removal
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.mirroring.changes import find_changes
from p2prss.feed.mirroring.paging import MAX_PAGES, Page, Walk, WalkState, walk_pages
from p2prss.feed.mirroring.report import PagesFailed
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio

FEEDS = Path(__file__).parents[2] / "feeds"
NOW = datetime(2025, 6, 1, tzinfo=UTC)
BASE = "https://pages.example/"
TEXT = CapturePolicy(media=False)
ATOM = 'xmlns:atom="http://www.w3.org/2005/Atom"'


def item(number: int, text: str = "") -> str:
    date = datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=number)
    return (
        f"<item><title>{number}{text}</title><guid>g{number}</guid>"
        f"<pubDate>{date:%a, %d %b %Y} 00:00:00 GMT</pubDate></item>"
    )


def document(numbers: Sequence[int], **links: str) -> str:
    written = "".join(
        f'<atom:link rel="{rel.replace("_", "-")}" href="{url}"/>' for rel, url in links.items()
    )
    items = "".join(map(item, numbers))
    return f'<rss version="2.0" {ATOM}><channel><title>Paged</title>{written}{items}</channel></rss>'


def paged(newest: int, size: int = 10, rel: str = "next") -> dict[str, str]:
    """Items ``newest`` to 1, newest first, over as many documents as it takes."""
    pages = [range(top, max(0, top - size), -1) for top in range(newest, 0, -size)]
    return {
        ("feed.xml" if place == 0 else f"page-{place}.xml"): document(
            numbers, **({rel.replace("-", "_"): f"page-{place + 1}.xml"} if place + 1 < len(pages) else {})
        )
        for place, numbers in enumerate(pages)
    }


@dataclass
class Source:
    """Documents by name; ``asked`` are those that were fetched after the first."""

    documents: dict[str, str]
    state: WalkState = field(default_factory=WalkState)
    known: dict[str, ArchivedItem] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def page(self, name: str) -> Page:
        url = BASE + name
        return Page(parse_feed(self.documents[name].encode(), url=url), url)

    async def get_page(self, url: str) -> Page:
        name = url.removeprefix(BASE)
        self.asked.append(name)
        if name not in self.documents:
            raise FetchError("the origin answers 404")
        return self.page(name)

    async def walk(self, now: datetime = NOW) -> Walk:
        """One update: walk, and take what came into the archive."""
        self.asked.clear()
        walk = await walk_pages(self.page("feed.xml"), self.get_page, self.state, self.known, now)
        self.state = walk.state
        changes = find_changes(walk.feed, self.known, {}, now, is_whole=walk.is_whole)
        self.known |= {one.item_id: one for one, _ in changes.newest}
        return walk

    @property
    def guids(self) -> set[str]:
        return {one.guid for one in self.known.values() if one.removed_at is None}


def named(newest: int) -> set[str]:
    return {f"g{number}" for number in range(1, newest + 1)}


@pytest.mark.parametrize("rel", ["next", "prev-archive"])
async def test_pages_and_archives_are_followed_to_the_end(rel: str) -> None:
    source = Source(paged(35, rel=rel))
    walk = await source.walk()
    assert (walk.pages, walk.is_whole, walk.problem) == (4, True, "")
    assert source.guids == named(35)
    assert source.asked == ["page-1.xml", "page-2.xml", "page-3.xml"]
    assert source.state == WalkState(NOW)


async def test_a_feed_in_one_document_keeps_no_state() -> None:
    source = Source(paged(5))
    walk = await source.walk()
    assert (walk.pages, walk.is_whole, source.state) == (1, True, WalkState())


async def test_a_changed_first_page_is_followed_only_until_it_joins_the_archive() -> None:
    source = Source(paged(35))
    await source.walk()
    source.documents = paged(38)
    walk = await source.walk()
    assert source.asked == ["page-1.xml"]  # it has nothing new
    assert (walk.is_whole, source.guids) == (False, named(38))
    source.documents = paged(55)
    await source.walk()
    assert source.asked == ["page-1.xml", "page-2.xml"]
    assert source.guids == named(55)
    source.documents["page-3.xml"] = source.documents["page-3.xml"].replace(">g20<", ">other<")
    await source.walk()
    assert source.asked == []  # nobody looks that far behind without a reason
    await source.walk(NOW + timedelta(days=7))
    assert source.asked == [f"page-{number}.xml" for number in range(1, 6)]
    assert source.guids == named(55) - {"g20"} | {"other"}


async def test_an_item_that_is_missing_is_looked_for_on_all_pages() -> None:
    source = Source(paged(30))
    await source.walk()
    source.documents["feed.xml"] = source.documents["feed.xml"].replace(item(25), "")
    walk = await source.walk()
    assert source.asked == ["page-1.xml", "page-2.xml"]
    assert walk.is_whole
    (gone,) = [one for one in source.known.values() if one.removed_at]
    assert (gone.guid, gone.removed_as) == ("g25", Removal.TAKEN_OUT)


async def test_a_page_that_fails_removes_nothing_and_is_tried_again() -> None:
    source = Source(paged(40))
    missing = source.documents.pop("page-2.xml")
    walk = await source.walk()
    assert (walk.pages, walk.is_whole) == (2, False)
    assert "404" in walk.problem
    assert source.guids == named(40) - named(20)
    assert source.state == WalkState(None, BASE + "page-2.xml")
    walk = await source.walk()
    assert source.asked == ["page-2.xml"]  # it goes on there
    source.documents["page-2.xml"] = missing
    walk = await source.walk()
    assert source.asked == ["page-2.xml", "page-3.xml"]
    assert (source.guids, source.state) == (named(40), WalkState(NOW))
    del source.documents["page-1.xml"]
    source.documents["feed.xml"] = source.documents["feed.xml"].replace(item(39), "")
    walk = await source.walk()
    assert source.guids == named(40)
    source.documents["page-1.xml"] = document(range(29, 18, -1), next="page-2.xml")
    walk = await source.walk(NOW + timedelta(days=8))
    assert (walk.is_whole, source.guids) == (True, named(40) - {"g39", "g30"})


@pytest.mark.parametrize(
    ("links", "pages"),
    [
        ({"next": "page-1.xml"}, 2),  # to itself
        ({"next": "feed.xml#again"}, 2),
        ({"next": "page-2.xml", "last": "page-1.xml"}, 2),
        ({"next": "http://["}, 2),
    ],
)
async def test_loops_end(links: dict[str, str], pages: int) -> None:
    source = Source({"feed.xml": document([3, 2], next="page-1.xml"), "page-1.xml": document([1], **links)})
    walk = await source.walk()
    assert walk.pages == pages
    assert source.guids == named(3)


async def test_pages_that_repeat_themselves_for_ever_are_left() -> None:
    source = Source({})
    for number in range(20):
        source.documents[f"page-{number}.xml"] = document([3, 2, 1], next=f"page-{number + 1}.xml")
    source.documents["feed.xml"] = document([3, 2, 1], next="page-1.xml")
    walk = await source.walk()
    assert (walk.pages, walk.is_whole) == (2, False)


async def test_endless_pages_are_read_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_PAGES >= 500  # ten to a page: 5,000 episodes
    monkeypatch.setattr("p2prss.feed.mirroring.paging.MAX_PAGES", 5)
    source = Source(paged(80))
    walk = await source.walk()
    assert (walk.pages, walk.is_whole, walk.problem) == (5, False, "it has more than 5 pages")
    assert source.guids == named(80) - named(30)
    await source.walk()
    assert source.guids == named(80)  # the next update goes on where that ended


async def test_a_degraded_page_removes_nothing() -> None:
    source = Source(paged(20))
    await source.walk()
    source.documents["feed.xml"] = source.documents["feed.xml"].replace(item(15), "")
    source.documents["page-1.xml"] = source.documents["page-1.xml"].replace("</channel></rss>", "<b><i></b>")
    await source.walk()
    assert source.guids == named(20)


def test_real_feeds_say_where_they_go_on() -> None:
    podlove = parse_feed((FEEDS / "cre-podlove.xml").read_bytes(), url="http://cre.fm/feed/m4a/").channel
    assert podlove.next_page_url == "http://cre.fm/feed/m4a/?paged=2"
    assert podlove.last_page_url == "http://cre.fm/feed/m4a/?paged=7"
    middle = parse_feed((FEEDS / "paged.rss").read_bytes()).channel
    assert middle.next_page_url == "http://example.org/index.atom?page=4"


@pytest.mark.parametrize(
    "text",
    [
        '{"version":"https://jsonfeed.org/version/1.1","title":"t","next_url":"https://a.example/2","items":[]}',
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title><link rel="self" href="https://a.example/"/>'
        '<link rel="next" href="https://a.example/2"/></feed>',
        '<feed xmlns="http://www.w3.org/2005/Atom"><title>t</title>'
        '<link rel="prev-archive" href="https://a.example/2"/></feed>',
        f'<rss version="2.0" {ATOM}><channel><title>t</title>'
        '<atom:link rel="prev-archive" href="https://a.example/old"/><atom:link rel="next" href="2"/>'
        "</channel></rss>",
    ],
)
def test_every_kind_of_feed_can_go_on(text: str) -> None:
    assert parse_feed(text.encode(), url="https://a.example/").channel.next_page_url == "https://a.example/2"


@given(st.lists(st.tuples(st.sampled_from("apfrw"), st.integers(0, 40)), max_size=12), st.integers(1, 7))
def test_no_item_is_ever_lost(steps: list[tuple[str, int]], size: int) -> None:
    """Whatever is added, changed, taken out and fails: at the end the archive has what the origin has."""
    listed, ever = list(range(20, 0, -1)), set(range(1, 21))
    source = Source({})
    failing = -1

    async def update(days: int) -> None:
        nonlocal now
        now += timedelta(days=days)
        pages = [listed[start : start + size] for start in range(0, len(listed), size)] or [[]]
        source.documents = {
            f"page-{place}.xml" if place else "feed.xml": document(
                numbers, **({"next": f"page-{place + 1}.xml"} if place + 1 < len(pages) else {})
            )
            for place, numbers in enumerate(pages)
            if not place or place != failing
        }
        await source.walk(now)

    async def run() -> None:
        nonlocal failing
        await update(0)
        for what, number in steps:
            match what:
                case "a":  # new ones on top
                    new = range(max(ever) + 1 + number % 3, max(ever), -1)
                    listed[:0] = new
                    ever.update(new)
                case "p":  # an older one comes up again, or was never there
                    if number and number not in listed:
                        listed.append(number)
                        listed.sort(reverse=True)
                        ever.add(number)
                case "f":
                    failing = number % 6 or -1
                case "r":
                    listed[number : number + 1] = []
                case "w":
                    failing = -1
            await update(1)
            if what == "a" and failing < 0:
                assert {f"g{number}" for number in new} <= source.guids  # what is new is seen at once
        failing = -1
        await update(8)  # long enough for a reason to look at all of it
        await update(8)

    now = NOW
    trio.run(run)
    assert source.guids == {f"g{number}" for number in listed}
    assert {one.guid for one in source.known.values()} <= {f"g{number}" for number in ever}


# ---- with an origin


def write(folder: Path, documents: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in documents.items():
        (folder / name).write_text(text)


async def guids(studio: Studio) -> set[str]:
    return {one.guid for one in await studio.archive.items() if one.removed_at is None}


async def test_an_unchanged_paged_feed_costs_one_request_and_writes_nothing(
    tmp_path: Path, studio: Studio
) -> None:
    write(tmp_path / "o", paged(25))
    with Origin(tmp_path / "o") as origin:
        report = await studio.update(origin.feed_url, policy=TEXT)
        assert (report.new, report.failures, await guids(studio)) == (25, [], named(25))
        origin.clear_hits()
        length = studio.db.length, studio.blobs.length
        report = await studio.update(origin.feed_url, policy=TEXT)
        assert [(hit.path, hit.status) for hit in origin.hits] == [("/feed.xml", 304)]
        assert (report.wrote, (studio.db.length, studio.blobs.length)) == (False, length)
        origin.clear_hits()
        write(tmp_path / "o", paged(27))
        report = await studio.update(origin.feed_url, policy=TEXT)
        assert [hit.path for hit in origin.hits] == ["/feed.xml", "/page-1.xml"]
        assert (report.new, report.removed, await guids(studio)) == (2, 0, named(27))


async def test_a_failing_page_is_told_and_fetched_by_the_next_update(tmp_path: Path, studio: Studio) -> None:
    write(tmp_path / "o", paged(30))
    with Origin(tmp_path / "o", rules=["/page-2.xml status=404"]) as origin:
        report = await studio.update(origin.feed_url, policy=TEXT)
        (failure,) = report.failures
        assert isinstance(failure, PagesFailed)
        assert (failure.pages, "404" in failure.error) == (2, True)
        assert await guids(studio) == named(30) - named(10)
        origin.set_rules([])
        origin.clear_hits()
        report = await studio.update(origin.feed_url, policy=TEXT)
        assert [hit.path for hit in origin.hits] == ["/feed.xml", "/page-2.xml"]
        assert (report.new, report.removed, await guids(studio)) == (10, 0, named(30))
        origin.clear_hits()
        await studio.update(origin.feed_url, policy=TEXT)
        assert [hit.status for hit in origin.hits] == [304]


@pytest.mark.parametrize(
    "make_link",
    [lambda url: "http://127.0.0.1:1/2.xml", lambda url: "file:///etc/hostname", lambda url: "ftp:x"],
)
async def test_a_page_at_a_forbidden_place_is_not_fetched(
    tmp_path: Path, studio: Studio, make_link: Callable[[str], str]
) -> None:
    write(tmp_path / "o", {"feed.xml": document([2, 1], next=make_link(""))})
    with Origin(tmp_path / "o") as origin:
        report = await studio.update(origin.feed_url, policy=TEXT)
    assert [type(one) for one in report.failures] == [PagesFailed]
    assert await guids(studio) == named(2)


async def test_the_pages_of_a_local_source_lie_beside_it(tmp_path: Path, studio: Studio) -> None:
    write(tmp_path / "o", paged(25))
    report = await studio.update(str(tmp_path / "o" / "feed.xml"), policy=TEXT)
    assert (report.failures, await guids(studio)) == ([], named(25))
