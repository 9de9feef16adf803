"""One episode, many captures: what is pinned, what is captured again, and what an app finds where."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import httpx
import msgspec
import pytest

from p2prss.feed.archive.archive import read_item
from p2prss.feed.archive.pinning import MAX_RECAPTURES, audio_key, file_key, with_extras
from p2prss.feed.archive.records import Asset, Assets, CapturePolicy, ItemRecord
from p2prss.feed.mirroring.report import CapturesDiffer
from p2prss.feed.model import MAX_ASSETS
from p2prss.serve.app import create_app
from p2prss.serve.urls import capture_stem
from tests.fakes.memory_drive import MemoryLibrary
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio
from tests.serve.test_with_a_drive import DriveFeed
from tests.spec.reading import SPEC, fenced

ONE, TWO, THREE = (b"ID3\x04" + bytes([number]) * 100_000 for number in (1, 2, 3))
OLD, NEW = "Wed, 01 May 2024 06:00:00 +0000", "Fri, 03 May 2024 06:00:00 +0000"
ON_CHANGE, KEEP_BOTH = CapturePolicy(recapture="on-change"), CapturePolicy(recapture="keep-both")
PODCAST = {"podcast": "https://podcastindex.org/namespace/1.0"}


@dataclass
class Show:
    """One item, written anew at will."""

    folder: Path

    def write(self, url: str = "/1.mp3", *, length: int = 0, date: str = OLD, more: str = "") -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / "feed.xml").write_text(
            f"<rss><channel><title>T</title><item><guid>1</guid><pubDate>{date}</pubDate>{more}"
            f'<enclosure url="{url}" length="{length}" type="audio/mpeg"/></item></channel></rss>'
        )

    def put(self, name: str, data: bytes) -> None:
        self.folder.mkdir(exist_ok=True)
        (self.folder / name).write_bytes(data)


@pytest.fixture
def show(tmp_path: Path) -> Show:
    show = Show(tmp_path / "show")
    show.write()
    show.put("1.mp3", ONE)
    return show


def hash_of(data: bytes) -> str:
    return sha256(data).hexdigest()


def day(days: float) -> Callable[[], datetime]:
    return lambda: datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=days)


async def assets(studio: Studio) -> list[tuple[str, str | None, str | None, int | None]]:
    """Role, hash, note and number of the only item's files."""
    (item,) = await studio.archive.items()
    return [(one.role, one.sha256, one.note, one.number) for one in item.assets]


def first(data: bytes, note: str | None = None) -> tuple[str, str, str | None, None]:
    return "enclosure", hash_of(data), note, None


class App:
    """A podcast app at the served feed."""

    def __init__(self, studio: Studio) -> None:
        served = DriveFeed(studio.drive.key, studio.drive, studio.archive)
        transport = httpx.ASGITransport(create_app(MemoryLibrary([served])))
        self._client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:7737")

    async def get(self, url: str) -> bytes:
        """The bytes at an address, which are those that their ETag names."""
        reply = await self._client.get(url)
        assert reply.status_code == 200
        if "/episodes/" in url:
            assert reply.headers["etag"] == f'"{hash_of(reply.content)}"'
        return reply.content

    async def urls(self) -> tuple[str, list[str]]:
        """Of the enclosure, and of the sources of all alternates over HTTP."""
        root = ElementTree.fromstring(await self.get("/feeds/a-show/feed.xml"))
        (enclosure,) = root.iter("enclosure")
        found = root.iterfind("channel/item/podcast:alternateEnclosure/podcast:source", PODCAST)
        return enclosure.attrib["url"], [uri for one in found if (uri := one.attrib["uri"])[:4] == "http"]


@pytest.mark.parametrize(
    "url", ["/1.mp3?modified=2&utm_source=x", "/track/a.example/1.mp3", "/moved.example/1.mp3?token=3"]
)
@pytest.mark.parametrize("policy", [CapturePolicy(), ON_CHANGE])
async def test_noise_in_an_address_costs_nothing(
    show: Show, studio: Studio, url: str, policy: CapturePolicy
) -> None:
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=policy)
        origin.clear_hits()
        show.write(url)
        report = await studio.update(origin.feed_url, policy=policy)
        assert (report.changed, report.fetched_files) == (1, 0)
        assert origin.count("*.mp3*") == 0
    assert await assets(studio) == [first(ONE)]
    (item,) = await studio.archive.items()
    assert item.assets[0].url.startswith(origin.url)  # the address of now, or it would not be rewritten
    assert "1.mp3" in item.assets[0].url


async def test_by_default_the_first_capture_stays_whatever_the_feed_says(show: Show, studio: Studio) -> None:
    show.put("other.mp3", TWO)
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url)
        app = App(studio)
        url, _ = await app.urls()
        for length, date in ((0, OLD), (0, OLD.replace("06", "07")), (5, OLD)):
            show.write("/other.mp3", length=length, date=date)
            await studio.update(origin.feed_url, now=day(1000))
        assert origin.count("*.mp3") == 1
        assert await assets(studio) == [first(ONE)]
        assert await app.urls() == (url, [url])
        assert await app.get(url) == ONE


@pytest.mark.parametrize("change", ["path", "length", "date"])
async def test_on_change_replaces_and_the_old_url_keeps_its_bytes(
    show: Show, studio: Studio, change: str
) -> None:
    show.write(length=len(ONE))
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=ON_CHANGE)
        app = App(studio)
        old_url, _ = await app.urls()
        show.put("1.mp3", TWO)
        show.put("2.mp3", TWO)
        match change:
            case "path":
                show.write("/2.mp3", length=len(ONE))
            case "length":
                show.write(length=len(ONE) + 1)
            case _:
                show.write(length=len(ONE), date="Wed, 01 May 2024 07:00:00 +0000")
        report = await studio.update(origin.feed_url, policy=ON_CHANGE)
        assert (report.failures, report.fetched_files) == ([], 1)
        assert await assets(studio) == [first(TWO), ("superseded", hash_of(ONE), None, 1)]
        new_url, alternates = await app.urls()
        assert new_url == old_url.replace(".mp3", f"-{hash_of(TWO)[:8]}.mp3")
        assert alternates == [new_url]
        assert (await app.get(old_url), await app.get(new_url)) == (ONE, TWO)
        origin.clear_hits()
        assert (await studio.update(origin.feed_url, policy=ON_CHANGE)).wrote is False
        assert origin.count("*.mp3") == 0

        show.put("1.mp3", THREE)
        show.put("2.mp3", THREE)
        show.write("/2.mp3" if change == "path" else "/1.mp3", length=7)
        await studio.update(origin.feed_url, policy=ON_CHANGE)
        newest, _ = await app.urls()
        assert [await app.get(url) for url in (old_url, new_url, newest)] == [ONE, TWO, THREE]


async def test_keep_both_keeps_the_first_as_the_enclosure(show: Show, studio: Studio) -> None:
    show.put("2.mp3", TWO)
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=KEEP_BOTH)
        app = App(studio)
        url, _ = await app.urls()
        show.write("/2.mp3")
        await studio.update(origin.feed_url, policy=KEEP_BOTH)
        assert await assets(studio) == [first(ONE), ("alternate", hash_of(TWO), "recapture", 1)]
        assert (await app.urls())[0] == url
        _, (same, newer) = await app.urls()
        assert (same, await app.get(url), await app.get(newer)) == (url, ONE, TWO)
        show.write("/2.mp3", more="<title>Renamed</title>")
        await studio.update(origin.feed_url, policy=KEEP_BOTH)
        assert await assets(studio) == [first(ONE), ("alternate", hash_of(TWO), "recapture", 1)]


async def test_what_is_announced_but_the_same_is_fetched_once_and_not_kept(
    show: Show, studio: Studio
) -> None:
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=ON_CHANGE)
        show.write(date="Wed, 01 May 2024 08:00:00 +0000")
        for _ in range(3):
            await studio.update(origin.feed_url, policy=ON_CHANGE)
        assert origin.count("*.mp3") == 2
    assert await assets(studio) == [first(ONE)]


async def test_a_recapture_that_fails_is_tried_again_later(show: Show, studio: Studio) -> None:
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=ON_CHANGE)
        show.write("/2.mp3")
        for _ in range(3):
            await studio.update(origin.feed_url, policy=ON_CHANGE)
        assert origin.count("/2.mp3") == 1
        assert await assets(studio) == [first(ONE)]
        show.put("2.mp3", TWO)
        await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(1))
    assert await assets(studio) == [first(TWO), ("superseded", hash_of(ONE), None, 1)]


async def test_a_guid_that_is_used_again_for_another_episode_brings_its_audio(
    show: Show, studio: Studio
) -> None:
    show.put("2.mp3", TWO)
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url)
        app = App(studio)
        url, _ = await app.urls()
        show.write("/2.mp3", date=NEW)
        await studio.update(origin.feed_url)
    assert await assets(studio) == [first(TWO), ("superseded", hash_of(ONE), None, 1)]
    assert (await app.get(url), await app.get((await app.urls())[0])) == (ONE, TWO)


async def test_an_etag_is_asked_with_once_a_week(show: Show, studio: Studio) -> None:
    with Origin(show.folder) as origin:
        for hours in range(0, 24 * 22, 12):
            await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(hours / 24))
        assert [hit.status for hit in origin.hits if hit.path == "/1.mp3"] == [200, 304, 304, 304]
        show.put("1.mp3", TWO)
        await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(30))
        assert [hit.status for hit in origin.hits if hit.path == "/1.mp3"][4:] == [200, 304]
    assert await assets(studio) == [first(TWO), ("superseded", hash_of(ONE), None, 1)]


async def test_a_host_that_inserts_advertisements_is_flagged_and_left_alone(
    show: Show, studio: Studio
) -> None:
    with Origin(show.folder, rules=["/1.mp3 dai=100000"]) as origin:
        await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(0))
        (before,) = await assets(studio)
        await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(8))
        assert [one for one in studio.events if isinstance(one, CapturesDiffer)] == [CapturesDiffer("")]
        assert await assets(studio) == [(*before[:2], "dynamic", None)]
        origin.clear_hits()
        await studio.update(origin.feed_url, policy=ON_CHANGE, now=day(80))
        assert origin.count("/1.mp3") == 0


async def test_a_resume_that_brings_other_bytes_is_flagged_by_any_policy(show: Show, studio: Studio) -> None:
    with Origin(
        show.folder, rules=["/1.mp3 cut=105000 dai=9000 times=1", "/1.mp3 dai=9001 after=1"]
    ) as origin:
        report = await studio.update(origin.feed_url)
    assert report.failures == []
    ((role, _, note, _),) = await assets(studio)
    assert (role, note) == ("enclosure", "dynamic")
    (item,) = await studio.archive.items()
    data = await studio.drive.get(str(item.assets[0].path))
    assert hash_of(data or b"") == item.assets[0].sha256  # one whole answer, not parts of two


async def test_a_download_that_begins_anew_with_the_same_bytes_is_not(show: Show, studio: Studio) -> None:
    with Origin(show.folder, rules=["/1.mp3 cut=60% times=1", "/1.mp3 no-range"]) as origin:
        await studio.update(origin.feed_url)
    assert await assets(studio) == [first(ONE)]


async def test_two_addresses_of_one_file_that_differ_are_flagged(show: Show, studio: Studio) -> None:
    show.write("/track/1/1.mp3", more='<enclosure url="/track/2/1.mp3" type="audio/mpeg"/>')
    with Origin(show.folder, rules=["/1.mp3 dai=5000"]) as origin:
        await studio.update(origin.feed_url)
    assert [note for _, _, note, _ in await assets(studio)] == ["dynamic", "dynamic"]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("https://a.example/1.mp3", "http://www.a.example:80/1.mp3#x", True),
        ("https://a.example/1.mp3?utm_x=1&id=3&Signature=7", "https://a.example/1.mp3?id=3", True),
        ("https://a.example/1.mp3?X-Amz-Date=1&access_token=3", "https://a.example/1.mp3?", True),
        ("https://a.example/get?id=3", "https://a.example/get?id=4", False),
        ("https://a.example/1.mp3", "https://b.example/1.mp3", False),
        ("https://a.example:8080/1.mp3", "https://a.example/1.mp3", False),
        ("http://[", "http://[", True),
    ],
)
def test_noise_is_not_part_of_a_file(one: str, other: str, is_same: bool) -> None:
    assert (file_key(one) == file_key(other)) is is_same


def test_an_enclosure_is_the_same_behind_trackers_and_on_another_host() -> None:
    plain = audio_key("https://media.example/SHOW1.mp3?updated=7")
    assert plain == audio_key("https://t.example/redirect.mp3/chrt.fm/track/X/media.example/SHOW1.mp3")
    assert plain == audio_key("http://cdn2.example/SHOW1.mp3")
    assert plain != audio_key("https://media.example/SHOW2.mp3")
    assert audio_key("https://a.example/play?id=1") != audio_key("https://a.example/play?id=2")


def test_of_many_captures_the_first_and_the_latest_stay() -> None:
    extras = [
        Asset(role="superseded", url=f"https://a.example/{place}", number=1 + place % 2)
        for place in range(20)
    ]
    kept = with_extras([Asset(role="image", url=str(place)) for place in range(MAX_ASSETS)], extras)
    assert len(kept) == MAX_ASSETS
    assert list(kept[-MAX_RECAPTURES:]) == [extras[0], extras[1], *extras[14:]]


def test_the_example_of_the_specification() -> None:
    blocks = {
        name: content
        for kind in ("json", "text")
        for _, name, content in fenced(SPEC / "08-feeds.md", kind)
        if name == "recaptured"
        for name in (kind,)
    }
    record = ItemRecord(
        guid="two-ears-1", first_seen=day(0)(), assets=msgspec.json.decode(blocks["json"], type=Assets)
    )
    item = read_item("/items/20240501T040000Z-88e2da593e2d5769.xml", msgspec.to_builtins(record))
    assert item is not None
    names = [f"{capture_stem(item, 1, one)}.mp3" for one in item.assets]
    assert names == blocks["text"].split()


async def test_another_file_of_a_local_source_is_captured_and_a_renamed_one_is_the_same(
    show: Show, studio: Studio
) -> None:
    source = str(show.folder / "feed.xml")
    show.write("1.mp3")
    await studio.update(source)
    app = App(studio)
    url, _ = await app.urls()
    show.put("renamed.mp3", ONE)
    show.write("renamed.mp3")
    await studio.update(source)
    assert await assets(studio) == [first(ONE)]
    assert (await app.urls())[0] == url
    show.put("corrected.mp3", TWO)
    show.write("corrected.mp3")
    await studio.update(source)
    assert await assets(studio) == [first(TWO), ("superseded", hash_of(ONE), None, 1)]
    assert (await app.get(url), await app.get((await app.urls())[0])) == (ONE, TWO)
