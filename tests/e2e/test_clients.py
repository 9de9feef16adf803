"""Ordinary podcast programs against a running follower: they need not know that there are peers."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
import trio

from p2prss.units import MB
from tests.e2e.conftest import Serve
from tests.e2e.program import Program, Start, environment, fetch, run
from tests.e2e.show import LOCAL, Show, download, hashes_of, served

CLIENT_SECONDS: Final = 60.0
MIDDLE: Final = 500  # seconds into an episode of 1000
SEEK: Final = ("-fflags", "+fastseek")  # by bytes, as podcast apps do, instead of reading up to the place
MPV: Final = ("--no-config", "--no-video", "--ao=null", "--cache=no", "--demuxer-lavf-o=fflags=+fastseek")

pytestmark = pytest.mark.client


async def run_client(*command: str | Path, environ: dict[str, str] | None = None) -> str:
    """Run a program of somebody else's. Returns: what it said on both streams."""
    with trio.fail_after(CLIENT_SECONDS):
        done = await trio.run_process(
            [str(word) for word in command],
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
            env=environment(environ),
        )
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}: exit code {done.returncode}\n{said}"
    return said


async def follow(show: Show, start: Start, tmp_path: Path, *wanted: str | Path) -> tuple[Program, str]:
    """A follower that has what is ``wanted``, by the options of the command, and fetches the rest when it
    is played. Returns: it, and the address of its feed."""
    publisher = await start("publish", show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a")
    await publisher.event("published")
    link = publisher.lines[0]["link"]
    follower = await start("follow", link, *wanted, "--http", "127.0.0.1:0", home=tmp_path / "b")
    await follower.event("synced")
    return follower, (await follower.event("ready"))["feed_url"]


async def follow_on_demand(show: Show, start: Start, tmp_path: Path) -> tuple[Program, str]:
    """A follower that fetches nothing before it is played."""
    return await follow(show, start, tmp_path, "--on-demand")


async def follow_partly(show: Show, start: Start, tmp_path: Path) -> str:
    """A follower that has the newest episode, and nothing of the others. Returns: its feed's URL."""
    _, feed_url = await follow(show, start, tmp_path, "--latest", "1")
    here = [line["local"] for line in (await run("show", feed_url.split("/")[-2], home=tmp_path / "b")).lines]
    assert here.count(True) == 1 < len(here)
    return feed_url


async def local_bytes(home: Path) -> int:
    (status,) = (await run("status", home=home)).lines
    return int(status["local_bytes"])


async def test_gpodder_subscribes_and_downloads_every_episode(
    shared_show: Callable[..., Show], start: Start, tmp_path: Path
) -> None:
    show = shared_show(replace(LOCAL, episodes=10, media="mixed"))
    _, feed_url = await follow_on_demand(show, start, tmp_path)
    own = tmp_path / "gpodder"
    own.mkdir()

    async def gpo(*arguments: str) -> str:
        return await run_client("gpo", *arguments, environ={"HOME": str(own), "GPODDER_HOME": str(own)})

    assert "Successfully added" in await gpo("subscribe", feed_url)
    await gpo("update")
    pending = await gpo("pending")
    assert "10 new episodes" in pending
    assert all(" ".join(one["title"].split()) in pending for one in show.episodes)
    assert "10 episodes downloaded" in await gpo("download")
    files = [path for path in (own / "Downloads").rglob("*") if path.suffix in (".mp3", ".wav")]
    assert await hashes_of(files) == show.hashes
    assert "0 new episodes" in await gpo("update") + await gpo("pending")


@pytest.mark.parametrize(
    "command",
    [
        [
            "ffprobe",
            "-v",
            "error",
            *SEEK,
            "-read_intervals",
            f"{MIDDLE}%+1",
            "-show_packets",
            "-of",
            "csv",
            "URL",
        ],
        [
            "ffmpeg",
            "-v",
            "error",
            "-nostdin",
            *SEEK,
            "-ss",
            str(MIDDLE),
            "-i",
            "URL",
            "-t",
            "1",
            "-f",
            "null",
            "-",
        ],
        ["mpv", *MPV, f"--start={MIDDLE}", "--length=1", "URL"],
    ],
    ids=lambda command: command[0],
)
async def test_a_player_starts_in_the_middle_of_an_episode_that_is_not_here(
    command: list[str], long_show: Show, start: Start, tmp_path: Path
) -> None:
    _, feed_url = await follow_on_demand(long_show, start, tmp_path)
    episode = (await served(feed_url))[-1]
    before = await local_bytes(tmp_path / "b")
    assert before < 100_000  # the cover
    said = await run_client(*(episode.url if word == "URL" else word for word in command))
    if command[0] == "ffmpeg":
        assert not said
    if command[0] == "ffprobe":
        assert 20 < said.count("packet,") < 100  # frames of 24 ms
    fetched = await local_bytes(tmp_path / "b") - before
    assert 16_000 < fetched < 4 * MB
    assert await download(episode) == long_show.episodes[0]["sha256"]  # and the rest comes when it is wanted


async def test_a_broken_download_is_resumed_where_it_broke_off(
    long_show: Show, start: Start, tmp_path: Path
) -> None:
    _, feed_url = await follow_on_demand(long_show, start, tmp_path)
    episode = (await served(feed_url))[-1]
    whole = long_show.episodes[0]["bytes"]
    head = await fetch(episode.url, range=f"bytes=0-{whole // 3}")
    assert head.status_code == 206
    assert len(head.content) == whole // 3 + 1
    at = len(head.content)
    tail = await fetch(episode.url, range=f"bytes={at}-", if_range=head.headers["etag"])
    assert tail.status_code == 206
    assert tail.headers["content-range"] == f"bytes {at}-{whole - 1}/{whole}"
    assert sha256(head.content + tail.content).hexdigest() == long_show.episodes[0]["sha256"]
    last = await fetch(episode.url, range="bytes=-1000")
    assert last.content == tail.content[-1000:]
    assert (await fetch(episode.url, range=f"bytes={whole}-")).status_code == 416
    changed = await fetch(episode.url, range=f"bytes={at}-", if_range='"another"')
    assert changed.status_code == 200
    assert len(changed.content) == whole


async def test_what_a_follower_serves_can_be_published_again(
    show: Show, serve: Serve, start: Start, tmp_path: Path
) -> None:
    """Our own fetcher is a podcast client too, and a strict one."""
    origin = serve(show)
    publisher = await start("publish", origin.feed_url, "--http", "127.0.0.1:0", home=tmp_path / "a")
    await publisher.event("published")
    feed_url = publisher.lines[0]["feed_url"]
    again = await run("publish", feed_url, "--once", home=tmp_path / "c")
    notices = [line["message"] for line in again.events("notice")]
    assert any("podcast:block" in one for one in notices)  # a copy is not to be copied for all to see
    told = again.event("published")
    assert (told["episodes"], told["failed"]) == (len(show.episodes), 0)
    await run("export", told["key"], tmp_path / "plain", home=tmp_path / "c")
    assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == show.hashes
