"""A site's pages in the drive: all of them, once, and no more than is meant for the world."""

import os
import shutil
from pathlib import Path

import pytest

from p2prss.errors import FeedFormatError
from p2prss.feed.document.render import ItemSource, Serving, render_feed
from p2prss.feed.sources import site as site_module
from p2prss.feed.sources.site import SiteSource, find_site
from tests.fakes.studio import MemoryState, Studio
from tests.feed.sources.album import SILENCE

FEED = """<rss version="2.0"><channel><title>A Site</title><link>https://site.example/blog/</link>
<item><title>Post</title><guid>post</guid>{enclosure}</item></channel></rss>"""
ENCLOSURE = '<enclosure url="https://site.example/blog/audio/one%20two.mp3" length="1" type="audio/mpeg"/>'


def make(folder: Path, enclosure: str = ENCLOSURE, head: str = "") -> Path:
    (folder / "audio").mkdir(parents=True)
    shutil.copyfile(SILENCE / "silence.mp3", folder / "audio" / "one two.mp3")
    (folder / "index.html").write_text(f"<html><head>{head}</head><body>Hello</body></html>")
    (folder / "index.xml").write_text(FEED.format(enclosure=enclosure))
    (folder / "about").mkdir()
    (folder / "about" / "index.html").write_text("<p>About</p>")
    return folder


async def look(studio: Studio, made: SiteSource) -> dict[str, bytes | None]:
    """Mirror once. Returns: the pages in the drive, by path."""
    report = await studio.update("unused", made=made)
    assert report.failures == []
    return {entry.path: await studio.drive.get(entry.path) async for entry in studio.drive.list("/site")}


def found(folder: Path, state: MemoryState | None = None) -> SiteSource:
    made = find_site(folder, state or MemoryState())
    assert made is not None
    return made


async def test_pages_media_and_feed_are_in_the_drive(tmp_path: Path, studio: Studio) -> None:
    folder, state = make(tmp_path / "site"), MemoryState()
    (folder / ".htpasswd").write_text("secret")
    (folder / "link.html").symlink_to(tmp_path)
    (folder / "back\\slash.html").write_text("x")
    pages = await look(studio, found(folder, state))
    assert pages == {
        "/site/about/index.html": b"<p>About</p>",
        "/site/audio/one two.mp3": (folder / "audio" / "one two.mp3").read_bytes(),
        "/site/index.html": (folder / "index.html").read_bytes(),
        "/site/index.xml": (folder / "index.xml").read_bytes(),
    }
    info = await studio.archive.info()
    assert info.site is not None
    assert (info.site.base_url, info.site.files) == ("https://site.example/blog/", 4)
    (item,) = await studio.archive.items()
    media = item.assets[0].path  # taken from the folder, though the feed has its address in the web
    assert media is not None
    entries = [await studio.drive.entry(path) for path in (media, "/site/audio/one two.mp3")]
    assert len({entry and entry.blob for entry in entries}) == 1  # stored once
    before = studio.drive.version, studio.blobs.length
    os.utime(folder / "index.html")
    await look(studio, found(folder, state))
    assert (studio.drive.version, studio.blobs.length) == before
    await studio.drive.clear(media)  # as when its episode is purged: the page has its bytes again
    assert await look(studio, found(folder, state)) == pages
    held = await studio.drive.held("/site/audio/one two.mp3")
    assert held.blocks == held.total


async def test_pages_that_change_or_go_do_so_in_the_drive(tmp_path: Path, studio: Studio) -> None:
    folder, state = make(tmp_path / "site"), MemoryState()
    before = await look(studio, found(folder, state))
    (folder / "about" / "index.html").write_text("<p>More about</p>")
    (folder / "audio" / "one two.mp3").unlink()
    (folder / "new.html").write_text("new")
    after = await look(studio, found(folder, state))
    assert after["/site/about/index.html"] == b"<p>More about</p>"
    assert after["/site/new.html"] == b"new"
    assert set(before) - set(after) == {"/site/audio/one two.mp3"}
    (item,) = await studio.archive.items()
    path = item.assets[0].path
    assert path is not None
    assert await studio.drive.get(path) == (SILENCE / "silence.mp3").read_bytes()  # the episode stays


@pytest.mark.parametrize(
    ("link", "base"),
    [
        ("https://site.example/blog/index.xml", "https://site.example/blog/"),
        ("https://elsewhere.example/index.xml", "https://elsewhere.example/"),
        ("/blog/index.xml", "https://site.example/blog/"),
        ("index.xml", "https://site.example/blog/"),
        ("javascript:alert(1)", "https://site.example/blog/"),
        ("http://[", "https://site.example/blog/"),
    ],
)
async def test_the_page_says_where_its_feed_is(tmp_path: Path, studio: Studio, link: str, base: str) -> None:
    head = f'<link rel="alternate" type="application/rss+xml" href="{link}">'
    folder = make(tmp_path / "site", enclosure="", head=head)
    made = found(folder)
    assert made.feed_path == "index.xml"
    await look(studio, made)
    assert made.base_url == base


def test_a_feed_of_another_name_is_found_by_its_link(tmp_path: Path) -> None:
    head = '<link type="application/atom+xml" rel="feed alternate" href="/feeds/all.atom">'
    folder = make(tmp_path / "site", head=head)
    (folder / "index.xml").unlink()
    assert find_site(folder, MemoryState()) is None
    (folder / "feeds").mkdir()
    (folder / "feeds" / "all.atom").write_text('<feed xmlns="http://www.w3.org/2005/Atom"></feed>')
    assert found(folder).feed_path == "feeds/all.atom"


def test_of_several_feeds_the_podcast_is_published(tmp_path: Path) -> None:
    head = (
        '<link rel="alternate" type="application/atom+xml" href="/blog/atom.xml">'
        '<link rel="alternate" type="application/rss+xml" href="https://site.example/blog/feeds/pod.rss">'
    )
    folder = make(tmp_path / "site", enclosure="", head=head)
    (folder / "atom.xml").write_text('<feed xmlns="http://www.w3.org/2005/Atom"><title>Blog</title></feed>')
    assert found(folder).feed_path == "atom.xml"
    (folder / "feeds").mkdir()
    (folder / "feeds" / "pod.rss").write_text(FEED.format(enclosure=ENCLOSURE))
    made = found(folder)
    assert made.feed_path == "feeds/pod.rss"
    assert made.notices == ("published is feeds/pod.rss, not the site's other feeds (atom.xml, index.xml)",)


async def test_relative_links_of_a_site_lead_to_where_it_stands(tmp_path: Path, studio: Studio) -> None:
    folder = make(
        tmp_path / "site", enclosure='<link>../posts/1.html</link><enclosure url="../audio/one%20two.mp3"/>'
    )
    (folder / "feeds").mkdir()
    (folder / "index.xml").rename(folder / "feeds" / "all.rss")
    page = '<link rel="alternate" type="application/rss+xml" href="https://site.example/blog/feeds/all.rss">'
    (folder / "index.html").write_text(page)
    await look(studio, found(folder))
    info = await studio.archive.info()
    assert info.site is not None
    assert (info.site.base_url, info.site.feed) == ("https://site.example/blog/", "feeds/all.rss")
    (item,) = await studio.archive.items()
    assert item.assets[0].path is not None
    source = ItemSource(await studio.archive.item_xml(item))
    serving = Serving("http://here/feed.xml", links_base=info.site.base_url + info.site.feed)
    served = render_feed(await studio.archive.channel(), [source], serving)
    assert b"<link>https://site.example/blog/posts/1.html</link>" in served
    assert b'url="../audio/one%20two.mp3"' in served  # until it is captured; of files the folder is the place


async def test_files_too_large_for_pages_are_told_once(
    tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_module, "MAX_SITE_FILE_BYTES", 20_000)
    folder = make(tmp_path / "site")
    (folder / "disk.iso").write_bytes(b"x" * 20_001)
    made = found(folder)
    assert "/site/disk.iso" not in await look(studio, made)
    assert made.notices == ("left out of the pages: 'disk.iso' is larger than 20000 bytes",)
    await look(studio, made)
    assert made.notices == ()


async def test_a_folder_with_a_feed_but_no_page_is_that_feed(tmp_path: Path, studio: Studio) -> None:
    folder = make(tmp_path / "site", enclosure='<enclosure url="audio/one%20two.mp3" length="1" type="a/b"/>')
    (folder / "index.html").unlink()
    assert await look(studio, found(folder)) == {}
    (item,) = await studio.archive.items()
    assert item.assets[0].path is not None


async def test_a_site_that_is_too_large_is_refused(
    tmp_path: Path, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(site_module, "MAX_SITE_FILES", 2)
    with pytest.raises(FeedFormatError, match="the site has 4 files"):
        await studio.update("unused", made=found(make(tmp_path / "site")))
