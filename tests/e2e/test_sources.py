"""Sources that are not feeds, through the real program: folders, sites, lists, downloads of others."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import feedparser
import httpx
import pytest

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, fetch, run
from tests.e2e.show import SMALL, Show, downloaded, hashes_of, served
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
    assert wrong.error == "show.toml: unknown key `titel` (line 1)"


async def test_a_folder_that_was_moved_stays_the_same_feed_when_told_so(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", album(tmp_path / "old")
    first = (await run("publish", folder, "--once", home=home)).event("published")
    folder = folder.rename(tmp_path / "new")
    (folder / "one.mp3").rename(folder / "eins.mp3")
    words = ("publish", folder, "--once", "--feed", "the-album")
    told = (await run(*words, home=home)).event("published")
    assert (told["key"], told["new"], told["removed"], told["changed"]) == (first["key"], 0, 0, 1)
    assert (await run(*words, home=home)).event("published")["unchanged"]
    assert (await run(*words[:3], home=home)).event("published")["key"] == first["key"]

    folder = folder.rename(tmp_path / "third")
    done = await run("publish", folder, "--once", home=home)
    assert done.event("published")["key"] != first["key"]
    assert any("--feed the-album" in line["message"] for line in done.events("notice"))
    taken = await run("publish", folder, "--once", "--feed", "the-album", home=home, code=2)
    assert "this source is published already" in taken.error
    (tmp_path / "list.opml").write_text(opml("https://example.org/feed.xml"))
    several = await run("publish", tmp_path / "list.opml", "--feed", "the-album", home=home, code=2)
    assert "a list of several" in several.error


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
    part = await fetch(f"{root}dot.png", range="bytes=1-3")
    assert (part.status_code, part.content) == (206, b"PNG")
    async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
        for path in ("", "dot.png"):
            head, got = await client.head(root + path), await fetch(root + path)
            assert (head.status_code, head.content) == (200, b"")
            for name in ("content-length", "content-type", "etag", "content-security-policy"):
                assert head.headers[name] == got.headers[name], name
    again = await fetch(root, if_none_match=front.headers["etag"])
    assert again.status_code == 304
    assert "sandbox" in again.headers["content-security-policy"]


def opml(*addresses: str) -> str:
    lines = [f'<outline text="Folder"><outline text="Feed" xmlUrl="{one}"/></outline>' for one in addresses]
    return f'<opml version="2.0"><body>{"".join(lines)}</body></opml>'


async def test_a_list_publishes_a_library_and_comes_back_as_one(
    shared_show: Callable[..., Show], serve: Serve, start: Start, tmp_path: Path
) -> None:
    shows = [shared_show(replace(SMALL, title=f"Show {number}", episodes=2)) for number in range(3)]
    origins = [serve(show) for show in shows]
    gone = f"{origins[0].url}/nothing.xml"
    secret = tmp_path / "secret"
    secret.mkdir()
    listed = [origins[0].feed_url, gone, secret.as_uri(), *(one.feed_url for one in (*origins, origins[1]))]
    (tmp_path / "subscriptions.opml").write_text(opml(*listed))
    refused = await run("publish", tmp_path / "subscriptions.opml", "--once", home=tmp_path / "c", code=1)
    messages = [event["message"] for event in refused.events("error")]
    assert sum("--allow-private-host 127.0.0.1" in message for message in messages) == 4
    assert not any(hit for origin in origins for hit in origin.hits)
    own = ("--allow-private-host", "127.0.0.1")
    done = await run("publish", tmp_path / "subscriptions.opml", "--once", *own, home=tmp_path / "a", code=1)
    assert len({event["key"] for event in done.events("published")}) == len(done.events("ready")) == 3
    assert {event["failed"] for event in done.events("published")} == {0}
    messages = [event["message"] for event in done.events("error")]
    assert any("404" in message for message in messages)
    assert any("only http and https addresses" in message for message in messages)
    assert done.stderr.splitlines()[-1].endswith("2 of 5 feeds could not be published")

    (tmp_path / "subscriptions.opml").write_text(opml(*(one.feed_url for one in origins)))
    words = ("--listen", "127.0.0.1:0", *own, *HTTP)
    publisher = await start("publish", tmp_path / "subscriptions.opml", *words, home=tmp_path / "a")
    ready = [await publisher.event("ready") for _ in shows]
    assert {event["key"] for event in ready} == {event["key"] for event in done.events("published")}
    for _ in shows:
        assert (await publisher.event("published"))["unchanged"]

    exported = await run("opml", "export", tmp_path / "mine.opml", home=tmp_path / "a")
    assert exported.lines == [{"feeds": 3, "file": str(tmp_path / "mine.opml")}]
    text = (tmp_path / "mine.opml").read_text()
    for event in ready:
        assert f'xmlUrl="{event["feed_url"]}"' in text  # the address of the node that runs
        assert (await fetch(event["feed_url"])).status_code == 200

    (tmp_path / "mine.opml").write_text(
        text.replace("</body>", f'<outline text="Web" xmlUrl="{gone}"/></body>')
    )
    peer = ready[0]["listen"][0]
    options = ("--once", "--peer", peer, "--no-dht", "--no-lan")
    imported = await run("opml", "import", tmp_path / "mine.opml", *options, home=tmp_path / "b")
    assert {event["key"] for event in imported.events("synced")} == {event["key"] for event in ready}
    (web,) = [line for line in imported.lines if line.get("action") == "ordinary"]
    assert "p2prss publish URL" in web["note"]
    there = (await run("opml", "export", home=tmp_path / "b")).lines[0]
    assert there["feeds"] == 3
    assert "http://127.0.0.1:7737/feeds/" in there["opml"]  # nothing runs there: the usual address
    own = await run("opml", "import", tmp_path / "mine.opml", home=tmp_path / "a")
    assert [line["action"] for line in own.lines] == ["own", "own", "own", "ordinary"]


async def test_a_list_that_makes_no_sense_is_one_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.opml"
    bad.write_text("<opml><body><outline")
    assert "cannot be read" in (await run("publish", bad, "--once", home=tmp_path / "a", code=1)).error
    assert "cannot be read" in (await run("opml", "import", bad, home=tmp_path / "a", code=1)).error
    bad.write_text(opml())
    assert "lists no feeds" in (await run("publish", bad, "--once", home=tmp_path / "a", code=1)).error
    gone = await run("opml", "import", tmp_path / "gone.opml", home=tmp_path / "a", code=1)
    assert "no such file" in gone.error


@pytest.mark.client
async def test_what_gpodder_downloaded_is_not_fetched_again(
    shared_show: Callable[..., Show], serve: Serve, tmp_path: Path
) -> None:
    show = shared_show(replace(SMALL, title="On gPodder", episodes=3, megabytes=0.4, lengths="zero"))
    origin = serve(show)
    own = tmp_path / "gpodder"
    environ = {"HOME": str(own), "GPODDER_HOME": str(own)}
    await run_client("gpo", "subscribe", origin.feed_url, environ=environ)
    assert "3 episodes downloaded" in await run_client("gpo", "download", environ=environ)
    origin.clear_hits()
    words = ("publish", origin.feed_url, "--once", "--adopt", own / "Downloads")
    done = await run(*words, home=tmp_path / "home")
    told = done.event("published")
    assert (told["adopted"], told["failed"]) == (3, 0)
    assert told["adopted_bytes"] == sum(one["bytes"] for one in show.episodes)
    assert sum(hit.sent for hit in origin.hits if hit.path.endswith(".mp3")) < told["adopted_bytes"] / 2
    assert (await run(*words, home=tmp_path / "home")).event("published")["unchanged"]
    talk = await run(*words[:3], "--adopt", own, home=tmp_path / "other", as_json=False)
    assert "3 files were taken over, 1.2 MB not fetched again" in talk.stderr
    gone = await run(*words[:3], "--adopt", tmp_path / "gone", home=tmp_path / "home", code=2)
    assert "does not exist" in gone.error


async def test_a_secret_address_is_read_from_stdin_so_that_nobody_else_sees_it(
    show: Show, serve: Serve, tmp_path: Path
) -> None:
    source, home = f"{serve(show).feed_url}?token=geheim", tmp_path / "home"
    options = ("--once", "--no-media", "--allow-private")
    done = await run("publish", source, *options, home=home)
    key = done.event("published")["key"]
    (message,) = [one["message"] for one in done.events("notice") if "command line" in one["message"]]
    assert "p2prss publish - < FILE" in message
    assert "geheim" not in done.stdout + done.stderr
    done = await run("publish", "-", *options, home=home, stdin=f"{source}\n".encode())
    assert done.event("published")["key"] == key
    assert not any("command line" in one["message"] for one in done.events("notice"))
    assert "stdin" in (await run("publish", "-", *options, home=home, code=2)).error
