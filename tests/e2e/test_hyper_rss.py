"""Feeds of hyper-rss, written by the JavaScript reference, followed by the program over TCP."""

import shutil
from pathlib import Path
from random import Random
from urllib.parse import unquote, urlsplit

import feedparser
import httpx
import pytest
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from tests.conftest import StartJsPeer
from tests.e2e.program import Start, run
from tests.e2e.test_clients import run_client
from tests.interop.hyper_rss import HyperRss, base64url
from tests.interop.js_peer import JsPeer

pytestmark = pytest.mark.interop

AUDIO = Random(1).randbytes(300_000)
PICTURE = b"\x89PNG\r\n" + Random(2).randbytes(5_000)


async def write_show(peer: JsPeer, episode: bytes = AUDIO) -> HyperRss:
    """Three items: an episode with a picture, one whose audio is only at its origin, a text."""
    feed = await HyperRss.open(peer)
    await feed.name_cores()
    audio, picture = await feed.add_file(episode, "mp3?source=feed"), await feed.add_file(PICTURE, "png")
    await feed.add_item(
        "urn:x:1",
        title="First & foremost",
        link="https://example.org/1",
        pubDate="Mon, 01 Jan 2024 00:00:00 GMT",
        isoDate="2024-01-01T00:00:00.000Z",
        creator="Somebody",
        content=f'<p>Look: <img src="{picture}" alt="x"></p>',
        enclosure={"url": audio, "length": "17", "type": "audio/mpeg"},
        itunes={"duration": "10", "image": "https://example.org/1.jpg"},
        categories=["a", {"_": "b", "$": {}}],
    )
    await feed.add_item(
        "urn:x:2", title="Second", enclosure={"url": "https://example.org/2.mp3", "type": "audio/mpeg"}
    )
    await feed.add_item("urn:x:3", title="Caf\u00e9 \U0001f399", content="a text")
    await feed.set_metadata(title="An old show", description="Of hyper-rss")
    return feed


async def get(url: str, **headers: str) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.get(url, headers=headers)


def key_of(feed: HyperRss) -> str:
    return format_key(CoreKey(bytes.fromhex(feed.cores["keys"])))


async def test_follow_serves_its_rss_and_plays_its_episodes(
    js_peer: StartJsPeer,
    start: Start,
    tmp_path: Path,
) -> None:
    with trio.fail_after(120):
        peer = await js_peer()
        feed = await write_show(peer)
        address = f"127.0.0.1:{await peer.listen()}"
        home = tmp_path / "home"
        program = await start(
            "follow", feed.key, "--all", "--peer", address, "--http", "127.0.0.1:0", home=home
        )
        ready = await program.event("ready")
        assert ready["key"] == key_of(feed)
        synced = await program.event("synced", where=lambda line: line["media_files"] == 2)
        assert (synced["episodes"], synced["bytes"]) == (3, len(AUDIO) + len(PICTURE))

        rss = (await get(ready["feed_url"])).text
        assert "hyper://" not in rss  # it is no drive
        found = feedparser.parse(rss)
        assert not found.bozo
        assert (found.feed.title, found.feed.subtitle) == ("An old show", "Of hyper-rss")
        assert [one.title for one in found.entries] == ["Caf\u00e9 \U0001f399", "Second", "First & foremost"]
        assert [one.id for one in found.entries] == ["urn:x:3", "urn:x:2", "urn:x:1"]
        assert found.entries[1].enclosures[0].href == "https://example.org/2.mp3"
        first = found.entries[2]
        assert (first.link, first.author, first.itunes_duration) == (
            "https://example.org/1",
            "Somebody",
            "10",
        )
        assert [tag.term for tag in first.tags] == ["a", "b"]
        (enclosure,) = first.enclosures
        assert (enclosure.length, enclosure.type) == (str(len(AUDIO)), "audio/mpeg")
        assert urlsplit(enclosure.href).path.endswith(".mp3")
        episode = await get(enclosure.href)
        assert (episode.status_code, episode.content) == (200, AUDIO)
        assert episode.headers["content-type"] == "audio/mpeg"
        part = await get(enclosure.href, range="bytes=65530-65545")
        assert (part.status_code, part.content) == (206, AUDIO[65530:65546])
        assert part.headers["content-range"] == f"bytes 65530-65545/{len(AUDIO)}"
        picture = first.summary.partition('src="')[2].partition('"')[0]
        assert (await get(str(httpx.URL(ready["feed_url"]).join(picture)))).content == PICTURE

        more = Random(3).randbytes(70_000)
        name = await feed.add_file(more, "ogg")
        await feed.add_item("urn:x:4", title="Fourth", enclosure={"url": name, "type": "audio/ogg"})
        await program.event("synced", where=lambda line: line["media_files"] == 3)
        found = feedparser.parse((await get(ready["feed_url"])).text)
        assert [one.title for one in found.entries][:2] == ["Fourth", "Caf\u00e9 \U0001f399"]
        assert (await get(found.entries[0].enclosures[0].href)).content == more

        (shown,) = [line for line in (await run("list", home=home)).lines if line["title"] == "An old show"]
        assert shown["slug"] == "an-old-show"
        await program.stop()
        assert "Traceback" not in program.stderr


async def test_a_home_that_has_it_looks_exports_seeds_and_forgets(
    js_peer: StartJsPeer,
    start: Start,
    tmp_path: Path,
) -> None:
    with trio.fail_after(180):
        peer = await js_peer()
        feed = await write_show(peer)
        address = f"127.0.0.1:{await peer.listen()}"
        home = tmp_path / "seedbox"
        seeded = await run("seed", key_of(feed), "--once", "--peer", address, home=home)
        told = seeded.event("synced")
        assert (told["episodes"], told["media_files"], told["bytes"]) == (3, 2, len(AUDIO) + len(PICTURE))

        (status,) = (await run("status", key_of(feed), home=home)).lines
        assert (status["episodes"], status["media_files"], status["local_media_files"]) == (3, 2, 2)
        assert (status["local_bytes"], status["problem"]) == (len(AUDIO) + len(PICTURE), None)
        assert status["blocks"] == status["local_blocks"] == 1 + 9 + 3 + 6
        episodes = (await run("show", key_of(feed), home=home)).lines
        assert [one["title"] for one in episodes] == ["Caf\u00e9 \U0001f399", "Second", "First & foremost"]
        assert [one["local"] for one in episodes] == [False, False, True]
        verified = (await run("verify", home=home)).lines[-1]
        assert (verified["ok"], verified["blocks"]) == (True, 19)

        await run("export", key_of(feed), tmp_path / "plain", home=home)
        assert AUDIO in [one.read_bytes() for one in (tmp_path / "plain").iterdir()]
        plain = feedparser.parse((tmp_path / "plain" / "feed.xml").read_bytes())
        assert len(plain.entries) == 3
        picture = unquote(plain.entries[2].summary.partition('src="')[2].partition('"')[0])
        assert (tmp_path / "plain" / picture).read_bytes() == PICTURE

        await peer.disconnect()
        seedbox = await start("seed", key_of(feed), "--listen", "127.0.0.1:0", home=home)
        ready = await seedbox.event("ready")
        other = tmp_path / "other"
        followed = await run("follow", feed.key, "--all", "--once", "--peer", ready["listen"][0], home=other)
        assert followed.event("synced")["bytes"] == len(AUDIO) + len(PICTURE)
        reader = await js_peer("reader")
        for core in feed.cores.values():
            await reader.open_core(key=core)
        await reader.connect(int(ready["listen"][0].rpartition(":")[2]))
        for name, core in feed.cores.items():
            info = await feed.peer.core_info(core)
            await reader.wait_length(core, info.length)
            await reader.download(core)
            assert (await reader.core_info(core)).tree_hash == info.tree_hash, name
        await seedbox.stop()

        await run("remove", key_of(feed), "--yes", home=home)
        assert (await run("list", home=home)).lines == []
        kept = [one for one in (home / "cores").rglob("*") if one.is_file()]
        assert kept == [], kept
        shutil.rmtree(home)


async def test_what_is_not_here_is_fetched_when_it_is_played(
    js_peer: StartJsPeer, start: Start, tmp_path: Path
) -> None:
    """And what has been fetched is served without anybody."""
    with trio.fail_after(120):
        peer = await js_peer()
        feed = await write_show(peer)
        address = f"127.0.0.1:{await peer.listen()}"
        home, http = tmp_path / "home", ("--http", "127.0.0.1:0")
        program = await start("follow", feed.key, "--on-demand", "--peer", address, *http, home=home)
        ready = await program.event("ready")
        assert (await program.event("synced"))["media_files"] == 0
        url = feedparser.parse((await get(ready["feed_url"])).text).entries[2].enclosures[0].href
        assert (await get(url, range="bytes=-1000")).content == AUDIO[-1000:]
        assert (await get(url)).content == AUDIO
        await program.stop()
        await peer.disconnect()

        alone = await start("follow", feed.key, "--on-demand", *http, home=home)
        there = httpx.URL((await alone.event("ready"))["feed_url"])
        again = feedparser.parse((await get(str(there))).text).entries[2].enclosures[0].href
        assert httpx.URL(again).path == httpx.URL(url).path
        assert (await get(again)).content == AUDIO
        await alone.stop()


@pytest.mark.client
async def test_mpv_plays_an_episode_that_is_not_here(
    js_peer: StartJsPeer, start: Start, tmp_path: Path
) -> None:
    """It hears what it hears from the file."""
    file = tmp_path / "episode.mp3"
    tone = ("-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-t", "20")
    await run_client("ffmpeg", "-nostdin", "-v", "error", *tone, "-b:a", "64k", file)
    with trio.fail_after(120):
        peer = await js_peer()
        feed = await write_show(peer, file.read_bytes())
        address = f"127.0.0.1:{await peer.listen()}"
        options = ("--on-demand", "--peer", address, "--http", "127.0.0.1:0")
        program = await start("follow", feed.key, *options, home=tmp_path / "home")
        assert (await program.event("synced"))["media_files"] == 0
        rss = await get((await program.event("ready"))["feed_url"])
        url = feedparser.parse(rss.text).entries[2].enclosures[0].href
        for name, source in (("file.wav", file), ("played.wav", url)):
            sound = ("--ao=pcm", f"--ao-pcm-file={tmp_path / name}")
            await run_client("mpv", "--no-config", "--no-video", *sound, source)
        assert (tmp_path / "played.wav").stat().st_size > 20 * 44100 * 2
        assert (tmp_path / "played.wav").read_bytes() == (tmp_path / "file.wav").read_bytes()


async def test_it_is_found_by_its_key_alone(js_peer: StartJsPeer, tmp_path: Path) -> None:
    """In a DHT of its own; the writer announces its first log only."""
    with trio.fail_after(120):
        network, peer = await js_peer("network"), await js_peer()
        bootstrap = await network.testnet(6)
        feed = await write_show(peer)
        await peer.join(feed.cores["keys"], bootstrap)
        found = await run(
            "follow",
            feed.key,
            *("--all", "--once", "--no-http", "--bootstrap", f"127.0.0.1:{bootstrap}"),
            home=tmp_path / "home",
        )
        assert found.event("synced")["bytes"] == len(AUDIO) + len(PICTURE)


async def test_logs_that_are_no_feed_end_with_one_line(js_peer: StartJsPeer, tmp_path: Path) -> None:
    with trio.fail_after(120):
        peer = await js_peer()
        twice, nonsense = await HyperRss.open(peer, seed=2), await HyperRss.open(peer, seed=3)
        await twice.name_cores(blobs=twice.key)
        await nonsense.name_cores()
        await peer.append(nonsense.cores["feed"], [b"no bee"] * 3)
        address = f"127.0.0.1:{await peer.listen()}"
        for feed, words in ((twice, "names one log twice"), (nonsense, "block 0 does not parse")):
            home = tmp_path / feed.key
            ended = await run("follow", feed.key, "--once", "--peer", address, "--no-http", home=home, code=4)
            assert words in ended.error
            (removed,) = (await run("remove", key_of(feed), "--yes", home=home)).lines
            assert removed["key"] == key_of(feed)


async def test_removing_a_feed_leaves_the_logs_of_others(js_peer: StartJsPeer, tmp_path: Path) -> None:
    """Any writer may name the logs of a feed that is kept here."""
    with trio.fail_after(120):
        peer = await js_peer()
        feed, thief = await write_show(peer), await HyperRss.open(peer, seed=4)
        others = {name: base64url(bytes.fromhex(feed.cores[name])) for name in ("feed", "blobKeys", "blobs")}
        await thief.name_cores(**others)
        options = ("--all", "--once", "--no-http", "--peer", f"127.0.0.1:{await peer.listen()}")
        home = tmp_path / "home"
        for one in (feed, thief):
            await run("follow", one.key, *options, home=home)
        await run("remove", key_of(thief), "--yes", home=home)
        (status,) = (await run("status", home=home)).lines
        assert (status["key"], status["local_media_files"]) == (key_of(feed), 2)
        verified = (await run("verify", home=home)).lines[-1]
        assert verified["ok"]
