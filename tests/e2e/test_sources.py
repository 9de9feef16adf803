"""Sources that are not feeds, through the real program: folders, sites, lists, downloads of others."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import feedparser
import pytest

from tests.e2e.program import Start, fetch, run
from tests.e2e.show import downloaded, hashes_of, served
from tests.e2e.test_clients import run_client
from tests.feed.sources.album import add, album, picture, tag
from tests.feed.sources.hugo_site import BASE, make_site
from tests.feed.sources.psp import check_required

HTTP: Sequence[str] = ("--http", "127.0.0.1:0")


@pytest.mark.client
async def test_a_folder_of_audio_is_a_podcast_for_every_reader(start: Start, tmp_path: Path) -> None:
    folder = album(tmp_path / "my #1 show, 100%")
    tag(folder / "one.mp3", cover=picture(tmp_path))
    tag(add(folder, "fünf & six?.mp3", 6), title="Fünf", track="5")
    (folder / "one.vtt").write_text("WEBVTT\n\n00:00.000 --> 00:01.000\nHi\n")
    publisher = await start("publish", folder, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a")
    ready = await publisher.event("ready")
    published = await publisher.event("published")
    assert (published["episodes"], published["failed"]) == (5, 0)

    follower = await start("follow", ready["link"], "--all", *HTTP, home=tmp_path / "b")
    feed_url = (await follower.event("ready"))["feed_url"]
    await follower.event("synced", episodes=5)
    check_required((await fetch(feed_url)).content)
    assert await downloaded(feed_url) == await hashes_of([*folder.glob("*.*[!t]")])
    read = feedparser.parse((await fetch(feed_url)).content)
    assert not read.bozo
    assert [entry.title for entry in read.entries] == ["Fünf", "Part 4", "Part 3", "Part 2", "Part 1"]
    cover = await fetch(read.feed.image.href)
    assert cover.headers["content-type"] == "image/png"

    own = tmp_path / "gpodder"
    environ = {"HOME": str(own), "GPODDER_HOME": str(own)}
    assert "Successfully added" in await run_client("gpo", "subscribe", feed_url, environ=environ)
    assert "5 episodes downloaded" in await run_client("gpo", "download", environ=environ)
    got = [path for path in own.rglob("*") if path.suffix in (".mp3", ".m4a", ".ogg", ".flac")]
    assert await hashes_of(got) == await downloaded(feed_url)

    guids = {one.title: one.guid for one in await served(feed_url)}
    await publisher.stop()
    (folder / "two.m4a").unlink()
    tag(folder / "one.mp3", title="Part 1 (new)")
    again = await start("publish", folder, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a")
    link = (await again.event("ready"))["link"]
    told = await again.event("published")
    assert (told["key"], told["new"], told["changed"]) == (ready["key"], 0, 1)
    await follower.stop()
    follower = await start("follow", link, "--all", *HTTP, home=tmp_path / "b")
    feed_url = (await follower.event("ready"))["feed_url"]
    await follower.event("synced", version=told["version"])
    now = {one.title: one for one in await served(feed_url)}
    assert now["Part 1 (new)"].guid == guids["Part 1"]
    new = sha256((folder / "one.mp3").read_bytes()).hexdigest()
    assert sha256((await fetch(now["Part 1 (new)"].url)).content).hexdigest() == new


async def test_a_folder_that_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    empty = await run("publish", folder, "--once", home=tmp_path / "home", code=1)
    assert "no audio or video files" in empty.error
    add(folder, "one.mp3")
    (folder / "show.toml").write_text("titel = 'x'")
    wrong = await run("publish", folder, "--once", home=tmp_path / "home", code=1)
    assert wrong.error == "show.toml: unknown key `titel`"


@pytest.mark.client
async def test_a_hugo_site_is_read_at_a_follower(start: Start, tmp_path: Path) -> None:
    site = make_site(tmp_path / "blog")
    (site / "odd name #1 ü.txt").write_text("odd\n")
    (site / "outside").symlink_to(tmp_path)
    publisher = await start("publish", site, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a")
    ready = await publisher.event("ready")
    told = await publisher.event("published")
    assert (told["episodes"], told["failed"]) == (2, 0)
    follower = await start("follow", ready["link"], *HTTP, home=tmp_path / "b")
    feed_url = (await follower.event("ready"))["feed_url"]
    await follower.event("synced")
    await publisher.stop()  # its pages are kept

    read = feedparser.parse((await fetch(feed_url)).content)
    assert [entry.title for entry in read.entries] == ["Grüße", "First light"]
    assert read.entries[0].link == f"{BASE}posts/second/"

    root = feed_url.removesuffix("feed.xml") + "site/"
    front = await fetch(root)
    assert front.status_code == 200
    assert front.headers["content-type"] == "text/html; charset=utf-8"
    assert f'href="{root}posts/first/"' in front.text
    assert BASE not in front.text
    page = await fetch(f"{root}posts/second/")
    assert "<h1>Grüße</h1>" in page.text
    assert f'src="{root}dot.png"' in page.text
    original = (site / "posts" / "second" / "index.html").read_bytes()
    assert page.content.replace(root.encode(), b"/journal/") == original
    for one in (front, page):
        policy = one.headers["content-security-policy"].split("; ")
        assert "sandbox" in policy
        assert "default-src 'none'" in policy
        assert not any("script" in part for part in policy)
        assert one.headers["x-content-type-options"] == "nosniff"
    style = await fetch(f"{root}style.css")
    assert style.headers["content-type"].startswith("text/css")
    assert f"url({root}dot.png)" in style.text
    dot = await fetch(f"{root}dot.png")
    assert (dot.content, dot.headers["content-type"]) == ((site / "dot.png").read_bytes(), "image/png")
    assert (await fetch(f"{root}odd%20name%20%231%20%C3%BC.txt")).text == "odd\n"
    assert (await fetch(f"{root}evil.js")).headers["content-type"].startswith("text/plain")
    assert (await fetch(f"{root}index.xml")).headers["content-type"].startswith("text/plain")
    moved = await fetch(f"{root}posts/second")
    assert (moved.status_code, moved.headers["location"]) == (307, "./second/")
    for path in (".secret", "outside/blog/config.toml", "nothing.html", "..%2f..%2ffeed.xml", "a//b", "%00"):
        assert (await fetch(f"{root}{path}")).status_code == 404, path
    again = await fetch(root, if_none_match=front.headers["etag"])
    assert again.status_code == 304
    assert "sandbox" in again.headers["content-security-policy"]
