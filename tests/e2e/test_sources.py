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
