"""Mirroring a whole show: what is written, what is not, and what survives an origin's moods."""

import json
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
import trio
from lxml import etree

from p2prss.crypto.key_text import format_key
from p2prss.errors import FeedFormatError, FetchError, TryAgainError
from p2prss.feed.archive.archive import INFO_PATH, MAX_INFO_BYTES, decode_info
from p2prss.feed.archive.records import Asset, CapturePolicy, FeedInfo
from p2prss.feed.archive.writer import encode_info
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import ItemSource, render_feed
from p2prss.feed.mirroring.changes import find_changes
from p2prss.feed.mirroring.policy import Announced, announced, needs_yes
from p2prss.feed.mirroring.report import FilesLeftOut, ItemFailed, MediaFailed, MediaStored, MirrorEvent
from p2prss.feed.model import Role
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

FEEDS = Path(__file__).parents[2] / "feeds"
SPEC = Spec(episodes=4, megabytes=0.15, cover_side=32)


@pytest.fixture
def show(tmp_path: Path) -> Path:
    make_podcast(tmp_path / "show", SPEC)
    return tmp_path / "show"


async def media_of(studio: Studio) -> set[str]:
    """The hashes of what is really in the drive, checked against the names."""
    found = set()
    async for entry in studio.drive.list("/media"):
        data = await studio.drive.get(entry.path)
        assert data is not None
        digest = sha256(data).hexdigest()
        assert entry.path.startswith(f"/media/{digest[:2]}/{digest}.")
        found.add(digest)
    return found


def hashes(show: Path, numbers: set[int] | None = None) -> set[str]:
    episodes = json.loads((show / "manifest.json").read_text())["episodes"]
    return {one["sha256"] for one in episodes if numbers is None or one["number"] in numbers}


async def test_a_show_is_mirrored_to_the_byte_and_a_second_update_writes_nothing(
    show: Path, studio: Studio
) -> None:
    with Origin(show) as origin:
        report = await studio.update(origin.feed_url)
        assert (report.new, report.failures, report.episodes) == (4, [], 4)
        assert hashes(show) <= await media_of(studio)
        version, origin_hits = studio.drive.version, len(origin.hits)
        assert origin_hits == 1 + report.fetched_files
        again = await studio.update(origin.feed_url)
        assert (again.wrote, studio.drive.version) == (False, version)
        assert (again.episodes, again.media_files) == (4, report.media_files)
        assert [hit.status for hit in origin.hits[origin_hits:]] == [304]


async def test_the_archive_is_feed_format_1(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        original = parse_feed(
            (show / "feed.xml").read_bytes().replace(b"http://127.0.0.1:8000", origin.url.encode())
        )
    info, items = await studio.archive.info(), await studio.archive.items()
    assert (info.format, info.title, info.origin_url) == (1, SPEC.title, origin.feed_url)
    assert [item.guid for item in items] == [item.guid for item in original.items]
    assert [item.path for item in items] == sorted((item.path for item in items), reverse=True)
    assert {asset.role for asset in items[0].assets} == {
        Role.ENCLOSURE,
        Role.IMAGE,
        Role.CHAPTERS,
        Role.TRANSCRIPT,
    }
    assert all(asset.path for item in items for asset in item.assets)
    assert all(asset.path for asset in info.channel_assets)
    xml = [await studio.archive.item_xml(item) for item in items]
    rendered = render_feed(await studio.archive.channel(), [ItemSource(one) for one in xml])
    again = parse_feed(rendered)
    assert again.channel.digest == original.channel.digest
    assert [item.digest for item in again.items] == [item.digest for item in original.items]


async def test_blobs_hold_the_text_first_then_media_newest_first(
    show: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2prss.feed.mirroring.capture.DOWNLOADS", 1)  # of two, either may be done first
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
    entries = [entry async for entry in studio.drive.entries() if entry.blob is not None]
    places = {entry.path: entry.blob.block_offset for entry in entries if entry.blob is not None}
    items = await studio.archive.items()
    assert max(places[item.path] for item in items) < min(
        place for path, place in places.items() if path.startswith("/media")
    )
    enclosures = [
        places[str(asset.path)] for item in items for asset in item.assets if asset.role == "enclosure"
    ]
    assert enclosures == sorted(enclosures)


async def test_the_plain_feed_leads_to_origin_and_drive(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
    root = etree.fromstring(await studio.drive.get("/feed.xml") or b"")
    assert len(root.findall("channel/item")) == 4
    item = root.find("channel/item")
    assert item is not None
    enclosure = item.find("enclosure")
    assert enclosure is not None
    assert str(enclosure.get("url")).startswith(origin.url)
    podcast = {"podcast": "https://podcastindex.org/namespace/1.0"}
    source = item.find("podcast:alternateEnclosure/podcast:source", podcast)
    assert source is not None
    drive = f"hyper://{format_key(studio.drive.key)}"
    assert await studio.drive.entry(str(source.get("uri")).removeprefix(drive))
    links = {str(link.get("rel")): str(link.get("href")) for link in root.iterfind("channel/{*}link[@rel]")}
    assert links["self"] == f"{drive}/feed.xml"


async def test_new_episodes_alone_are_fetched_and_old_paths_stay(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        before = {item.guid: item.path for item in await studio.archive.items()}
        origin.clear_hits()
        make_podcast(show, replace(SPEC, episodes=6, revision=1))
        report = await studio.update(origin.feed_url)
        assert (report.new, report.changed, report.removed) == (2, 0, 0)
        assert origin.count("*.mp3") == 2
        after = {item.guid: item.path for item in await studio.archive.items()}
        assert before.items() <= after.items()
        assert len(after) == 6


async def test_a_changed_title_is_a_new_version_of_the_same_item(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        origin.clear_hits()
        old = (await studio.archive.items())[1]
        make_podcast(show, replace(SPEC, retitle=frozenset({3}), revision=1))
        report = await studio.update(origin.feed_url)
        new = (await studio.archive.items())[1]
        assert (report.new, report.changed) == (0, 1)
        assert (new.path, new.first_seen, new.assets) == (old.path, old.first_seen, old.assets)
        assert new.title.endswith("(corrected)")
        assert len(origin.hits) == 1


async def test_a_removed_episode_stays_and_is_marked(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        make_podcast(show, replace(SPEC, drop=frozenset({2}), revision=1))
        report = await studio.update(origin.feed_url)
        removed = [item for item in await studio.archive.items() if item.removed_at]
        assert (report.removed, len(removed)) == (1, 1)
        assert hashes(show, {2}) <= await media_of(studio)
        make_podcast(show, replace(SPEC, revision=2))
        report = await studio.update(origin.feed_url)
        assert (report.changed, [item for item in await studio.archive.items() if item.removed_at]) == (1, [])


async def test_only_a_new_build_date_writes_nothing(show: Path, studio: Studio) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url)
        version = studio.drive.version
        make_podcast(show, replace(SPEC, revision=5))
        report = await studio.update(origin.feed_url)
        assert (report.wrote, studio.drive.version) == (False, version)


async def test_a_real_feed_over_three_updates(tmp_path: Path, studio: Studio) -> None:
    (tmp_path / "o").mkdir()
    new = []
    for number in (1, 2, 3):
        shutil.copy(FEEDS / f"series-{number}.rss", tmp_path / "o" / "feed.xml")
        with Origin(tmp_path / "o", rules=["* no-conditional"]) as origin:
            report = await studio.update(origin.feed_url, policy=CapturePolicy(media=False))
            new.append((report.new, report.changed, report.removed))
    assert new == [(4, 0, 0), (2, 1, 0), (2, 1, 0)]  # each time one older episode was corrected
    assert len(await studio.archive.items()) == 8


@pytest.mark.parametrize(
    ("policy", "numbers"),
    [
        (CapturePolicy(latest=2), {3, 4}),
        (CapturePolicy(latest=0), set()),
        (CapturePolicy(media=False), set()),
    ],
)
async def test_a_policy_limits_media_but_not_text(
    show: Path, studio: Studio, policy: CapturePolicy, numbers: set[int]
) -> None:
    with Origin(show) as origin:
        await studio.update(origin.feed_url, policy=policy)
        assert len(await studio.archive.items()) == 4
        assert await media_of(studio) & hashes(show) == hashes(show, numbers)
        await studio.update(origin.feed_url)  # a wider policy fetches the rest although the feed is the same
        assert hashes(show) <= await media_of(studio)


async def test_one_failing_enclosure_does_not_stop_the_others(show: Path, studio: Studio) -> None:
    with Origin(show, rules=["/media/ep0003.mp3 status=404"]) as origin:
        report = await studio.update(origin.feed_url)
        assert len(report.failures) == 1
        assert "404" in report.failures[0].error
        assert [event for event in studio.events if isinstance(event, MediaFailed)] == report.failures
        assert await media_of(studio) & hashes(show) == hashes(show, {1, 2, 4})
        origin.set_rules([])
        origin.clear_hits()
        report = await studio.update(origin.feed_url)
        assert (report.failures, origin.count("*.mp3")) == ([], 0)  # it was refused, so it has to wait
        report = await studio.update(origin.feed_url, now=lambda: datetime(2025, 1, 1, 1, tzinfo=UTC))
        assert report.failures == []
        assert origin.count("*.mp3") == 1
        assert hashes(show) <= await media_of(studio)


async def test_a_feed_that_moved_is_followed_and_found_again(show: Path, studio: Studio) -> None:
    moved, back = ["/feed.xml redirect=301 to=/new.xml", "/new.xml swap=feed.xml"], []
    with Origin(show, rules=moved) as origin:
        await studio.update(origin.feed_url)
        origin.clear_hits()
        await studio.update(origin.feed_url)
        assert [hit.path for hit in origin.hits] == ["/new.xml"]
        for rules in (back, moved, ["/feed.xml redirect=301 to=/newer.xml", "/newer.xml swap=feed.xml"]):
            origin.set_rules(rules)
            assert (await studio.update(origin.feed_url)).episodes == 4
        origin.set_rules(["*.xml status=404"])
        with pytest.raises(FetchError, match=r"newer\.xml: the origin answers 404"):
            await studio.update(origin.feed_url)


@pytest.mark.parametrize(
    "rules",
    [
        ["* status=503 retry-after=0 times=1"],
        ["*.mp3 cut=40% times=1"],
        ["*.mp3 cut=50000"],
        ["* length=chunked"],
        ["*.mp3 length=+500 times=1"],
        ["* reset times=1"],
        ["/feed.xml gzip"],
        ["/feed.xml gzip=force"],
        ["/feed.xml type=text/plain"],
        ["*.mp3 type=none"],
        ["*.mp3 redirect=302 to=/media/{name}?sig={n} ranged=no times=1"],
    ],
)
async def test_an_origins_moods_do_not_change_the_archive(
    show: Path, studio: Studio, rules: list[str]
) -> None:
    with Origin(show, rules=rules) as origin:
        report = await studio.update(origin.feed_url)
    assert report.failures == []
    assert hashes(show) <= await media_of(studio)


@pytest.mark.parametrize(
    "spec",
    [
        replace(
            SPEC,
            omit=frozenset(
                {"guid", "length", "pubdate", "type", "description", "itunes", "podcast", "cover"}
            ),
        ),
        replace(SPEC, lengths="wrong"),
        replace(SPEC, lengths="zero", media="mixed"),
        replace(SPEC, encoding="utf-16"),
        replace(SPEC, encoding="iso-8859-1"),
        replace(SPEC, relative=True),
        replace(SPEC, trackers=3),
    ],
)
async def test_odd_feeds_are_mirrored_whole(tmp_path: Path, studio: Studio, spec: Spec) -> None:
    make_podcast(tmp_path / "odd", spec)
    with Origin(tmp_path / "odd") as origin:
        report = await studio.update(origin.feed_url)
        assert (report.new, report.failures) == (4, [])
        version = studio.drive.version
        assert (await studio.update(origin.feed_url)).wrote is False
    assert studio.drive.version == version
    assert hashes(tmp_path / "odd") <= await media_of(studio)
    assert len({item.item_id for item in await studio.archive.items()}) == 4


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ("/feed.xml status=404", FetchError),
        ("/feed.xml status=503", TryAgainError),
        ("/feed.xml swap=cover.png", FeedFormatError),
        ("/feed.xml redirect=302 to={path}", FetchError),
    ],
)
async def test_a_failing_feed_leaves_the_drive_as_it_was(
    show: Path, studio: Studio, rule: str, error: type[Exception]
) -> None:
    with Origin(show, rules=[rule]) as origin:
        with pytest.raises(error):
            await studio.update(origin.feed_url)
        assert studio.db.length == 0
        origin.set_rules([])
        await studio.update(origin.feed_url)
        version = studio.drive.version
        origin.set_rules([rule, "* no-conditional"])
        with pytest.raises(error):
            await studio.update(origin.feed_url)
        assert studio.drive.version == version


async def test_an_interrupted_update_keeps_finished_episodes(show: Path, studio: Studio) -> None:
    with Origin(
        show, rules=["/media/ep0001.mp3 stall=50% hold=0.5", "/media/ep0002.mp3 stall=50% hold=0.5"]
    ) as origin:
        stored: list[MirrorEvent] = []

        def stop_after_two(event: MirrorEvent) -> None:
            if isinstance(event, MediaStored) and event.role == "enclosure":
                stored.append(event)
            if len(stored) == 2:
                scope.cancel()

        with trio.CancelScope() as scope:
            await studio.update(origin.feed_url, tell=stop_after_two)
        assert await media_of(studio) & hashes(show) == hashes(show, {3, 4})
        origin.set_rules([])
        again_from = time.time()
        await studio.update(origin.feed_url)
        again = [hit for hit in origin.hits if hit.begun >= again_from and hit.path.endswith(".mp3")]
        assert len(again) == 2
        assert hashes(show) <= await media_of(studio)


async def test_equal_files_are_stored_once(show: Path, studio: Studio) -> None:
    for number in (1, 2, 3):
        shutil.copy(show / "media/ep0004.mp3", show / f"media/ep000{number}.mp3")
    with Origin(show) as origin:
        report = await studio.update(origin.feed_url)
    paths = [
        asset.path
        for item in await studio.archive.items()
        for asset in item.assets
        if asset.role == "enclosure"
    ]
    assert len(paths) == 4
    assert len(set(paths)) == 1
    assert report.media_files == len(await media_of(studio))


async def test_a_local_source_is_mirrored_without_its_folder_being_named(
    tmp_path: Path, studio: Studio
) -> None:
    show = tmp_path / "local show"
    make_podcast(show, replace(SPEC, relative=True, base_url="."))
    text = (show / "feed.xml").read_text().replace(' xml:base="./"', "")
    (show / "feed.xml").write_text(text)
    report = await studio.update(str(show / "feed.xml"))
    assert (report.new, report.failures) == (4, [])
    assert hashes(show) <= await media_of(studio)
    for block in [*studio.db.blocks, *studio.blobs.blocks]:
        assert b"local show" not in block
        assert b"local%20show" not in block
    info = await studio.archive.info()
    assert (info.origin_url, info.base_url) == (None, "")


async def test_credentials_are_never_written(show: Path, studio: Studio) -> None:
    with Origin(show, rules=["* auth=ada:secret"]) as origin:
        source = origin.feed_url.replace("//", "//ada:secret@") + "?token=geheim"
        report = await studio.update(source)
    assert report.failures == []
    assert hashes(show) <= await media_of(studio)
    for block in [*studio.db.blocks, *studio.blobs.blocks]:
        assert b"ada:secret" not in block
        assert b"geheim" not in block


async def test_hostile_enclosures_are_not_fetched(tmp_path: Path, studio: Studio) -> None:
    (tmp_path / "o").mkdir()
    text = (FEEDS / "unsafe-enclosures.xml").read_text()
    (tmp_path / "o" / "feed.xml").write_text(text.replace("https://", "http://127.0.0.2:1/"))
    with Origin(tmp_path / "o") as origin:
        report = await studio.update(origin.feed_url)
        assert len(origin.hits) == 1
    assert report.media_files == 0
    assert len(report.failures) == 5
    for failure in report.failures:
        assert any(text in failure.error for text in ("local network", "local files"))


async def test_a_large_announcement_asks_first(
    show: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2prss.feed.mirroring.policy.ASK_ABOVE_BYTES", 100_000)
    asked: list[Announced] = []

    async def yes(what: Announced) -> bool:
        asked.append(what)
        return True

    with Origin(show) as origin:
        report = await studio.update(origin.feed_url)
        assert report.declined is not None
        assert report.declined.byte_length == 4 * 150_000
        assert origin.count("*.mp3") == 0
        report = await studio.update(origin.feed_url, may_fetch=yes)
        assert asked == [Announced(files=17, byte_length=600_000, unknown=13)]
        assert hashes(show) <= await media_of(studio)


def test_what_is_announced_is_added_up_once_per_address() -> None:
    feed = parse_feed((FEEDS / "giantbomb-730-episodes.rss").read_bytes())
    from p2prss.feed.archive.records import Asset

    assets = [
        Asset(role=one.role.value, url=one.url, byte_length=one.byte_length)
        for item in [*feed.items, *feed.items]
        for one in item.enclosures
    ]
    assert announced(assets).files == len({one.url for one in assets})
    assert needs_yes(announced(assets), 10**15)
    assert not needs_yes(Announced(1, 100, 0), 10**6)


async def test_the_same_guid_twice_is_one_item_with_a_history(tmp_path: Path, studio: Studio) -> None:
    (tmp_path / "o").mkdir()
    items = "".join(
        f"<item><guid>same</guid><title>{day}</title><pubDate>0{day} Jan 2024 00:00:00 GMT</pubDate></item>"
        for day in (1, 3, 2)
    )
    (tmp_path / "o/feed.xml").write_text(f"<rss><channel><title>T</title>{items}</channel></rss>")
    with Origin(tmp_path / "o") as origin:
        report = await studio.update(origin.feed_url)
    found = await studio.archive.items()
    assert (report.new, [item.title for item in found]) == (1, ["3"])
    titles = [
        change.entry.metadata["title"]
        async for change in studio.drive.history()
        if change.path == found[0].path and change.entry is not None
    ]
    assert titles == ["1", "2", "3"]


LONG = "\N{GRINNING FACE}" * 4000  # an address may have so many characters; it has four times the bytes


def feed_of(*items: str, channel: str = "", root: str = "") -> str:
    podcast = 'xmlns:podcast="https://podcastindex.org/namespace/1.0"'
    return f"<rss {podcast} {root}><channel><title>T</title>{channel}{''.join(items)}</channel></rss>"


def images(count: int) -> str:
    return "".join(f'<podcast:image href="ftp://a.example/{LONG}{number}"/>' for number in range(count))


async def test_a_channel_of_long_addresses_does_not_lock_the_publisher_out(
    tmp_path: Path, studio: Studio
) -> None:
    source = tmp_path / "feed.xml"
    source.write_text(feed_of("<item><guid>1</guid></item>", channel=images(64)))
    await studio.update(str(source))
    assert len(await studio.drive.get(INFO_PATH) or b"") <= MAX_INFO_BYTES
    assert 0 < len((await studio.archive.info()).channel_assets) < 64
    assert LONG.encode() + b"63" in await studio.archive.channel()  # the XML has them all
    source.write_text(
        feed_of("<item><guid>1</guid></item>", "<item><guid>2</guid></item>", channel=images(64))
    )
    assert (await studio.update(str(source))).new == 1


def test_the_largest_information_a_mirror_can_write_is_read_back() -> None:
    root = "https://a.example/" + "\N{GRINNING FACE}" * 4078
    kinds = "".join(
        f'<podcast:transcript url="ftp://a.example/{LONG[:500]}{number}"/>' for number in range(70)
    )
    feed = parse_feed(feed_of(channel=kinds).encode(), url=root)
    captured = [
        Asset(
            role=one.role,
            url=one.url,
            path=f"/media/ab/{'ab' * 32}.abcdefgh",
            mime_type="\xe4" * 200,  # of a reply, which has Latin letters at most
            byte_length=2**53 - 1,
            sha256="ab" * 32,
            captured_at=datetime(2025, 1, 1, 1, 1, 1, 999999, UTC),
            note="dynamic",
        )
        for one in feed.channel.files
    ]
    assert len(captured) == 64
    info = FeedInfo(
        format=1,
        title="\N{GRINNING FACE}" * 1000,
        origin_url=root,
        base_url=feed.base_url,
        podcast_guid="\N{GRINNING FACE}" * 100,
        created=datetime(2025, 1, 1, tzinfo=UTC),
        updated=datetime(2025, 1, 1, tzinfo=UTC),
        channel_assets=tuple(captured),
    )
    assert len(data := encode_info(info)) <= MAX_INFO_BYTES
    assert decode_info(data) == info


async def test_a_long_base_address_does_not_make_an_item_new_for_ever(tmp_path: Path, studio: Studio) -> None:
    source = tmp_path / "feed.xml"
    base = "https://a.example/" + "b" * 5000
    item = f'<item xml:base="{base}/"><guid>1</guid><podcast:image href="../1.png"/></item>'
    source.write_text(feed_of(item))
    assert (await studio.update(str(source), policy=CapturePolicy(media=False))).new == 1
    assert [one.guid for one in await studio.archive.items()] == ["1"]
    again = await studio.update(str(source), policy=CapturePolicy(media=False))
    assert (again.new, again.wrote) == (0, False)


async def test_every_item_of_the_archive_counts(tmp_path: Path, studio: Studio) -> None:
    source = tmp_path / "feed.xml"
    article, episode = (
        "<item><guid>1</guid></item>",
        '<item><guid>2</guid><enclosure url="ftp://a/1"/></item>',
    )
    source.write_text(feed_of(article, episode))
    assert (await studio.update(str(source))).episodes == 2
    source.write_text(feed_of(episode))
    report = await studio.update(str(source))
    assert (report.removed, report.episodes, (await studio.archive.info()).items) == (1, 2, 2)


async def test_one_item_of_long_addresses_does_not_stop_the_others(tmp_path: Path, studio: Studio) -> None:
    source = tmp_path / "feed.xml"
    source.write_text(feed_of(f"<item><guid>1</guid>{images(64)}</item>", "<item><guid>2</guid></item>"))
    assert (await studio.update(str(source))).new == 2
    items = await studio.archive.items()
    assert {item.guid for item in items} == {"1", "2"}
    assert 0 < max(len(item.assets) for item in items) < 64
    assert any(isinstance(event, FilesLeftOut) for event in studio.events)
    assert (await studio.update(str(source))).wrote is False


async def test_an_item_that_is_too_large_is_reported_and_does_not_stop_the_others(
    tmp_path: Path, studio: Studio
) -> None:
    source = tmp_path / "feed.xml"
    small = "<item><guid>1</guid><title>small</title></item>"
    source.write_text(feed_of(small, "<item><guid>2</guid><title>fine</title></item>"))
    await studio.update(str(source))
    large = f"<item><guid>2</guid><title>large</title><description>{'x' * 2_000_000}</description></item>"
    source.write_text(feed_of(small, large, "<item><guid>3</guid></item>"))
    report = await studio.update(str(source))
    assert (report.new, report.removed) == (1, 0)
    assert report.failures == [ItemFailed("large", "the item is larger than 2 MB")]
    assert report.failures[0] in studio.events
    assert {item.title for item in await studio.archive.items()} == {"small", "fine", ""}


def test_an_item_that_no_reader_would_take_is_not_written() -> None:
    feed = parse_feed(feed_of("<item><guid>1</guid></item>").encode())
    bad = replace(feed.items[0], guid="2", base_url="x" * 5000)
    changes = find_changes(replace(feed, items=(bad, *feed.items)), {}, {}, datetime(2025, 1, 1, tzinfo=UTC))
    assert ([item.guid for item, _ in changes.newest], changes.new) == (["1"], 1)
    assert [one.guid for one in changes.refused] == ["2"]
