"""Files of an item of every kind: which are captured, under which type, and what is left alone."""

import base64
import zlib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from p2prss.feed.archive.records import Asset, CapturePolicy
from p2prss.feed.mirroring.report import ItemsWritten
from tests.fakes.quiet_origin import QuietOrigin as Origin
from tests.fakes.studio import Studio

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>\n'
WEBP = b"RIFF\x1a\x00\x00\x00WEBPVP8L" + bytes(14)
MP3 = b"ID3\x04" + bytes(2000)
M4A = b"\x00\x00\x00\x20ftypM4A " + bytes(2000)
OPUS = b"OggS\x00\x02" + bytes(22) + b"OpusHead" + bytes(2000)
VTT = b"WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n"
SRT = b"1\n00:00:00,000 --> 00:00:01,000\nHello\n"
JSON = b'{"version": "1.2.0", "chapters": []}\n'

HEAD = (
    '<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    ' xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd" xmlns:media="http://search.yahoo.com/mrss/"'
    ' xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel><title>T</title>'
)


@dataclass
class Show:
    """A folder with one feed, written by hand."""

    folder: Path

    def write(self, items: str, channel: str = "", **files: bytes) -> None:
        """``files``: name with ``__`` for the dot."""
        self.folder.mkdir(exist_ok=True)
        for name, data in files.items():
            (self.folder / name.replace("__", ".")).write_bytes(data)
        (self.folder / "feed.xml").write_text(f"{HEAD}{channel}{items}</channel></rss>")


@pytest.fixture
def show(tmp_path: Path) -> Show:
    return Show(tmp_path / "show")


async def assets_of(studio: Studio, place: int = 0) -> dict[str, Asset]:
    """By the last part of their addresses."""
    item = (await studio.archive.items())[place]
    return {one.url.rpartition("/")[2]: one for one in item.assets}


async def bytes_of(studio: Studio, asset: Asset) -> bytes:
    assert asset.path is not None
    data = await studio.drive.get(asset.path)
    assert data is not None
    assert (len(data), sha256(data).hexdigest()) == (asset.byte_length, asset.sha256)
    return data


ITEM = """<item><guid>1</guid>
<content:encoded><![CDATA[<p><img src="/note.png"> and <img src="/gone.png"></p>]]></content:encoded>
<enclosure url="/one.mp3" length="-1" type="audio/mpeg"/>
<media:group><media:content url="/one.opus" type="audio/opus"/><media:thumbnail url="/t.webp"/></media:group>
<itunes:image href="/art.jpg"/>
<podcast:images srcset="/big.svg 3000w, /small.png 100w"/>
<podcast:transcript url="/t.vtt" type="text/vtt"/><podcast:transcript url="/t.srt" type="application/srt"/>
<podcast:chapters url="/c.json" type="application/json+chapters"/>
<podcast:alternateEnclosure type="audio/mp4" length="99999999999999"><podcast:source uri="/alt.m4a"/>
<podcast:source uri="https://tracker.invalid/alt.torrent" contentType="application/x-bittorrent"/>
<podcast:source uri="ipfs://Qm123"/></podcast:alternateEnclosure>
<podcast:alternateEnclosure type="application/x-mpegURL"><podcast:source uri="/live.m3u8"/>
</podcast:alternateEnclosure></item>"""
FILES = {
    "note__png": PNG,
    "one__mp3": MP3,
    "one__opus": OPUS,
    "t__webp": WEBP,
    "art__jpg": PNG + b"2",
    "big__svg": SVG,
    "small__png": PNG,
    "t__vtt": VTT,
    "t__srt": SRT,
    "c__json": JSON,
    "alt__m4a": M4A,
    "live__m3u8": b"#EXTM3U\n",
}


async def test_files_of_every_kind_are_captured_and_streams_are_not(show: Show, studio: Studio) -> None:
    show.write(ITEM, channel='<itunes:image href="/art.jpg"/>', **FILES)
    with Origin(show.folder) as origin:
        report = await studio.update(origin.feed_url)
        assert [one.error for one in report.failures] == [
            f"{origin.url}/gone.png: the origin answers 404 Not Found: there is nothing at this address"
        ]
        assert origin.count("*.m3u8") == 0
    found = await assets_of(studio)
    captured = {
        name: (one.role, one.mime_type, one.path.rpartition(".")[2])
        for name, one in found.items()
        if one.path
    }
    assert captured == {
        "note.png": ("inline", "image/png", "png"),
        "one.mp3": ("enclosure", "audio/mpeg", "mp3"),
        "one.opus": ("enclosure", "audio/opus", "opus"),
        "t.webp": ("image", "image/webp", "webp"),
        "art.jpg": ("image", "image/png", "png"),  # whatever its name says
        "big.svg": ("image", "image/svg+xml", "svg"),
        "small.png": ("image", "image/png", "png"),
        "t.vtt": ("transcript", "text/vtt", "vtt"),
        "t.srt": ("transcript", "application/srt", "srt"),
        "c.json": ("chapters", "application/json+chapters", "json"),
        "alt.m4a": ("alternate", "audio/mp4", "m4a"),
    }
    for name in captured:
        assert await bytes_of(studio, found[name]) == FILES[name.replace(".", "__")]
    assert found["note.png"].path == found["small.png"].path  # equal bytes, one file
    assert set(found) - set(captured) == {"gone.png", "live.m3u8", "alt.torrent", "Qm123"}
    assert (await studio.archive.info()).channel_assets[0].path == found["art.jpg"].path


async def test_alternates_can_be_left_out_and_count_as_announced(show: Show, studio: Studio) -> None:
    show.write(ITEM.replace("99999999999999", "5000"), **FILES)
    without = CapturePolicy(alternates=False)
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url, policy=without)
        assert origin.count("*.m4a") == 0
        told = [one.announced for one in studio.events if isinstance(one, ItemsWritten)]
        assert (told[0].byte_length, (await studio.archive.info()).policy) == (0, without)
        assert (await assets_of(studio))["alt.m4a"].path is None
        await studio.update(origin.feed_url)
        assert (await assets_of(studio))["alt.m4a"].sha256 == sha256(M4A).hexdigest()
    other = Studio(studio.scratch)
    with Origin(show.folder) as origin:
        await other.update(origin.feed_url)
        told = [one.announced for one in other.events if isinstance(one, ItemsWritten)]
        assert told[0].byte_length == 5000


@pytest.mark.parametrize(
    ("rule", "body", "stored"),
    [
        ("*.mp3 type=text/html", MP3, "audio/mpeg"),
        ("*.mp3 type=application/octet-stream", M4A, "audio/mp4"),
        ("*.mp3 type=text/plain", zlib.compress(bytes(5000)), "audio/mpeg"),
        ("*.mp3 type=none", OPUS, "audio/ogg"),
    ],
)
async def test_a_lying_content_type_does_not_matter(
    show: Show, studio: Studio, rule: str, body: bytes, stored: str
) -> None:
    show.write('<item><guid>1</guid><enclosure url="/one.mp3" length="0"/></item>', one__mp3=body)
    with Origin(show.folder, rules=[rule]) as origin:
        report = await studio.update(origin.feed_url)
    assert report.failures == []
    asset = (await assets_of(studio))["one.mp3"]
    assert (asset.mime_type, await bytes_of(studio, asset)) == (stored, body)


@pytest.mark.parametrize(
    ("rule", "body", "reason"),
    [
        ("*.mp3 type=audio/mpeg", b"<!DOCTYPE html><title>Log in</title>", "a web page"),
        ("*.mp3 type=text/html", b"Please log in", "a web page"),
        ("*.mp3 type=audio/mpeg", b"#EXTM3U\nhttps://a.invalid/1.ts\n", "leads to a stream"),
        ("*.mp3 type=audio/mpeg", b"d8:announce3:abce", "leads to a stream"),
        ("*.mp3 type=audio/mpeg", b"", "is empty"),
    ],
)
async def test_what_is_no_file_is_not_taken_for_one(
    show: Show, studio: Studio, rule: str, body: bytes, reason: str
) -> None:
    show.write('<item><guid>1</guid><enclosure url="/one.mp3" type="audio/mpeg"/></item>', one__mp3=body)
    with Origin(show.folder, rules=[rule]) as origin:
        report = await studio.update(origin.feed_url)
    assert [reason in one.error for one in report.failures] == [True]
    assert (await assets_of(studio))["one.mp3"].path is None


async def test_an_address_in_several_spellings_is_fetched_once(show: Show, studio: Studio) -> None:
    with Origin(show.folder.parent) as origin:
        item = (
            '<item><guid>{}</guid><itunes:image href="/show/art.png#a"/>'
            '<media:thumbnail url="{}/show/art.png"/><enclosure url="/show/one.mp3?token={}"/></item>'
        )
        show.write(
            "".join(item.format(one, origin.url.upper(), one) for one in "ab"), art__png=PNG, one__mp3=MP3
        )
        report = await studio.update(f"{origin.url}/show/feed.xml")
        assert (report.failures, report.media_files) == ([], 2)
        assert 1 <= origin.count("*.png") <= 2  # two items at a time
        assert origin.count("*.mp3") == 2  # a token may name a file
    for place in (0, 1):
        item_assets = (await studio.archive.items())[place].assets
        assert all(one.path for one in item_assets)
        assert len({one.url for one in item_assets}) == 3


async def test_a_transcript_may_be_a_page(show: Show, studio: Studio) -> None:
    item = '<item><guid>1</guid><podcast:transcript url="/t.html" type="text/html"/></item>'
    show.write(item, t__html=b"<html><p>Hello</p></html>")
    with Origin(show.folder) as origin:
        await studio.update(origin.feed_url)
    asset = (await assets_of(studio))["t.html"]
    assert (asset.mime_type, str(asset.path)[-5:]) == ("text/html", ".html")


async def test_a_picture_of_show_notes_is_not_worth_many_attempts(show: Show, studio: Studio) -> None:
    show.write(ITEM, **FILES)
    with Origin(show.folder, rules=["/note.png reset", "/art.jpg reset"]) as origin:
        report = await studio.update(origin.feed_url)
        assert len(report.failures) == 3  # with the one that is gone
        assert (origin.count("/note.png"), origin.count("/art.jpg")) == (2, 3)
