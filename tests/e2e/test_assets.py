"""Files of every kind, from the origin over a peer to an app: what is captured is local and the same to the
byte, what is not stays as the publisher wrote it."""

import re
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, fetch, run
from tests.e2e.show import SMALL, Show
from tests.tools.podcast.spec import Spec

BASE = "http://127.0.0.1:8000"  # in feeds of make_podcast; its origin puts its own address there
PODCAST = "{https://podcastindex.org/namespace/1.0}"
EXTRAS = f"""
<itunes:summary>A &amp;amp;B &lt;img alt="1 &amp;gt; 0" src="{BASE}/note.png" /&gt;&lt;br&gt;</itunes:summary>
<podcast:alternateEnclosure type="audio/ogg" length="1"><podcast:source uri="{BASE}/alt-{{}}.ogg"/>
<podcast:source uri="{BASE}/alt.torrent" contentType="application/x-bittorrent"/></podcast:alternateEnclosure>
<podcast:alternateEnclosure type="application/x-mpegURL"  default='true' ><podcast:source
 uri="{BASE}/hls/master.m3u8"/></podcast:alternateEnclosure>
<podcast:liveItem status="live" start="2024-01-01T00:00:00Z"><title>Live</title>
<enclosure url="{BASE}/live.mp3" type="audio/mpeg" length="0"/><itunes:image href="{BASE}/live.png"/>
</podcast:liveItem>
"""
LIES = (
    "/media/*.mp3 type=text/html",
    "/images/*.png type=text/plain",
    "/transcripts/* type=application/octet-stream",
    "/chapters/* type=text/html",
    "/alt-*.ogg type=audio/mpeg",
    "/note.png type=none",
)


@pytest.fixture
def rich_show(tmp_path: Path) -> Show:
    """A show whose items have files of every kind."""
    show = Show.make(tmp_path / "show", Spec(episodes=2, megabytes=0.1, cover_side=32))
    text = show.feed.read_text()
    for number in (2, 1):
        (show.folder / f"alt-{number}.ogg").write_bytes(b"OggS\0\2" + bytes(5000 + number))
        text = text.replace("</item>", EXTRAS.format(number) + "</ITEM>", 1)
    show.feed.write_text(text.replace("</ITEM>", "</item>"))
    (show.folder / "note.png").write_bytes((show.folder / "cover.png").read_bytes() + b"note")
    return show


async def test_captured_files_are_local_and_streams_stay(
    rich_show: Show, serve: Serve, start: Start, tmp_path: Path
) -> None:
    assert BASE in rich_show.feed.read_text()
    origin = serve(rich_show, *LIES)
    listen = ("--listen", "127.0.0.1:0", "--no-http")
    publisher = await start("publish", origin.feed_url, *listen, home=tmp_path / "a")
    assert (await publisher.event("published"))["failed"] == 0
    link = (await publisher.event("ready"))["link"]
    follower = await start("follow", link, "--all", "--http", "127.0.0.1:0", home=tmp_path / "b")
    await follower.event("synced", episodes=2)
    feed_url = (await follower.event("ready"))["feed_url"]
    served = (await fetch(feed_url)).text
    base = feed_url.partition("/feeds/")[0]

    written = (await fetch(origin.feed_url)).text
    kinds = {"enclosure": "url", f"{PODCAST}transcript": "url", f"{PODCAST}chapters": "url"}
    kinds |= {"{http://www.itunes.com/dtds/podcast-1.0.dtd}image": "href"}
    old_items, new_items = (ElementTree.fromstring(one).findall("channel/item") for one in (written, served))
    compared = 0
    for old, new in zip(old_items, new_items, strict=True):
        for tag, attribute in kinds.items():
            for before, after in zip(old.findall(tag), new.findall(tag), strict=True):
                was, now = before.attrib[attribute], after.attrib[attribute]
                assert now.startswith(f"{base}/feeds/")
                assert Path(now).suffix == Path(was).suffix
                assert (await fetch(now)).content == (await fetch(was)).content
                compared += 1
        alternate = new.find(f"{PODCAST}alternateEnclosure")
        assert alternate is not None
        local, torrent = (one.attrib["uri"] for one in alternate)
        body = await fetch(local)
        assert (local.startswith(base), torrent) == (True, f"{origin.url}/alt.torrent")
        assert len(body.content) == int(alternate.attrib["length"]) > 5000
        assert body.headers["content-type"] == alternate.attrib["type"] == "audio/ogg"
    assert compared == 8

    notes = re.findall(r'&lt;img alt="1 &amp;gt; 0" src="([^"]*)" /&gt;&lt;br&gt;', served)
    assert len(notes) == 2
    assert notes[0].endswith(f"{sha256((rich_show.folder / 'note.png').read_bytes()).hexdigest()}.png")
    assert (await fetch(notes[0])).content == (rich_show.folder / "note.png").read_bytes()
    for untouched in (
        f'<podcast:source uri="{origin.url}/hls/master.m3u8"/>',
        f'<enclosure url="{origin.url}/live.mp3" type="audio/mpeg" length="0"/>'
        f'<itunes:image href="{origin.url}/live.png"/>',
    ):
        assert served.count(untouched) == 2
    for stream in ("*.torrent", "*.m3u8", "/live.*"):
        assert origin.count(stream) == 0


async def test_status_counts_what_is_asked_for_later_and_what_is_dynamic(
    serve: Serve, tmp_path: Path
) -> None:
    show = Show.make(tmp_path / "show", SMALL)
    dynamic = ("/media/ep0002.mp3 dai=9000 cut=150000 times=1", "/media/ep0002.mp3 dai=9000")
    origin = serve(show, "/media/ep0001.mp3 status=404", *dynamic)
    home = tmp_path / "home"
    published = await run("publish", origin.feed_url, "--once", home=home)
    assert published.event("published")["failed"] == 1
    (status,) = (await run("status", home=home)).lines
    assert status["dynamic_hosts"] == ["127.0.0.1"]
    assert (status["uncaptured_files"], status["waiting_files"], status["dynamic_files"]) == (1, 1, 1)
    origin.clear_hits()
    await run("publish", origin.feed_url, "--once", home=home)
    assert origin.count("*.mp3") == 0
    plain = await run("status", home=home, as_json=False)
    assert "1 asked for later, 1 dynamic" in " ".join(plain.stdout.split())
    assert "other bytes at each download from 127.0.0.1" in plain.stderr


async def test_recapture_and_alternates_by_option(rich_show: Show, serve: Serve, tmp_path: Path) -> None:
    origin = serve(rich_show)
    home, options = tmp_path / "home", ("--once", "--no-alternates", "--recapture", "on-change")
    first = (await run("publish", origin.feed_url, *options, home=home)).event("published")
    assert origin.count("*.ogg") == 0
    audio = rich_show.folder / "media" / "ep0002.mp3"
    audio.write_bytes(audio.read_bytes()[:-1000])
    text = rich_show.feed.read_text()
    size = rich_show.episodes[1]["bytes"]
    rich_show.feed.write_text(text.replace(f'length="{size}"', f'length="{size - 1000}"'))
    second = (await run("publish", origin.feed_url, *options, home=home)).event("published")
    assert second["media_files"] == first["media_files"] + 1
    refused = await run("publish", origin.feed_url, "--recapture", "always", home=home, code=2)
    assert "never" in refused.error
