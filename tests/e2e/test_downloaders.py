"""Podcast programs and downloaders that must bring every byte, from a follower that has only a part."""

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest
import trio

from tests.e2e.program import Start, fetch
from tests.e2e.show import LOCAL, Show, hashes_of, served
from tests.e2e.test_clients import CLIENT_SECONDS, follow_partly, run_client

pytestmark = pytest.mark.client

EPISODES: Final = 4


@pytest.fixture
def small_show(shared_show: Callable[..., Show]) -> Show:
    """Four episodes of 2 MB: more than a client takes in one read."""
    return shared_show(replace(LOCAL, episodes=EPISODES, megabytes=2))


async def test_aria2_downloads_in_eight_segments(long_show: Show, start: Start, tmp_path: Path) -> None:
    feed_url = await follow_partly(long_show, start, tmp_path)
    folder = tmp_path / "aria2"
    urls = [one.url for one in await served(feed_url)]
    segments = ("--split=8", "--max-connection-per-server=8", "--min-split-size=1M", "--force-sequential")
    quiet = ("--no-conf", "--console-log-level=warn", "--file-allocation=none", "--auto-file-renaming=false")
    await run_client("aria2c", *quiet, *segments, f"--dir={folder}", *urls, environ={"HOME": str(tmp_path)})
    assert await hashes_of(folder.glob("*.mp3")) == long_show.hashes


async def test_axel_downloads_in_eight_parts(small_show: Show, start: Start, tmp_path: Path) -> None:
    feed_url = await follow_partly(small_show, start, tmp_path)
    folder = tmp_path / "axel"
    folder.mkdir()
    for one in await served(feed_url):
        path = folder / one.url.rpartition("/")[2]
        await run_client("axel", "--quiet", "-n", "8", "-o", path, one.url, environ={"HOME": str(tmp_path)})
    assert await hashes_of(folder.glob("*.mp3")) == small_show.hashes


@pytest.mark.parametrize(
    "command",
    [
        ["curl", "--disable", "--silent", "--show-error", "--fail", "--continue-at", "-", "--output"],
        ["wget", "--no-config", "--no-verbose", "--continue", "--output-document"],
    ],
    ids=lambda command: command[0],
)
async def test_a_download_that_broke_off_is_resumed(
    command: list[str], long_show: Show, start: Start, tmp_path: Path
) -> None:
    feed_url = await follow_partly(long_show, start, tmp_path)
    files = []
    for number, episode in enumerate(await served(feed_url)):
        path = trio.Path(tmp_path / f"{number}.mp3")
        await path.write_bytes((await fetch(episode.url, range="bytes=0-4999999")).content)
        await run_client(*command, str(path), episode.url, environ={"HOME": str(tmp_path)})
        files.append(Path(path))
    assert await hashes_of(files) == long_show.hashes


async def test_wget_and_curl_bring_the_feed_as_it_is(small_show: Show, start: Start, tmp_path: Path) -> None:
    feed_url = await follow_partly(small_show, start, tmp_path)
    plain = (await fetch(feed_url, accept_encoding="identity")).content
    await run_client("curl", "-q", "-sSf", "--compressed", "-o", tmp_path / "curl.xml", feed_url)
    await run_client(
        "wget", "--no-config", "-nv", "--compression=auto", "-O", tmp_path / "wget.xml", feed_url
    )
    assert (tmp_path / "curl.xml").read_bytes() == (tmp_path / "wget.xml").read_bytes() == plain


async def test_podget_downloads_every_episode(small_show: Show, start: Start, tmp_path: Path) -> None:
    feed_url = await follow_partly(small_show, start, tmp_path)
    home = tmp_path / "podget"
    own = home / ".podget"
    own.mkdir(parents=True)
    environ = {"HOME": str(home)}
    await run_client("podget", "--dir_config", own, "--create-config", "podgetrc", environ=environ)
    (own / "serverlist").write_text(f"{feed_url} Shows A_Show\n", encoding="utf-8")
    library = home / "library"
    said = await run_client(
        "podget",
        "-v",
        "--dir_config",
        own,
        "--dir_session",
        home / "session",
        "--library",
        library,
        environ=environ,
    )
    files = [path for path in library.rglob("*") if path.suffix == ".mp3"]
    assert await hashes_of(files) == small_show.hashes, said


async def test_newsboat_lists_and_podboat_downloads(small_show: Show, start: Start, tmp_path: Path) -> None:
    """Both want a terminal: they get one from tmux, with a server and a socket of their own."""
    feed_url = await follow_partly(small_show, start, tmp_path)
    home = tmp_path / "newsboat"
    own = home / ".newsboat"
    own.mkdir(parents=True)
    (own / "urls").write_text(f"{feed_url}\n", encoding="utf-8")
    (own / "config").write_text(
        f'auto-reload no\ndownload-path "{home}/files/"\npodcast-auto-enqueue yes\nmax-downloads 2\n',
        encoding="utf-8",
    )
    environ = {"HOME": str(home), "TERM": "xterm", "LC_ALL": "C.UTF-8"}
    tmux = ["tmux", "-f", "/dev/null", "-S", str(home / "tmux")]

    async def screen_until(enough: Callable[[str], bool]) -> None:
        said = ""
        with trio.move_on_after(CLIENT_SECONDS):
            while True:
                said = await run_client(*tmux, "capture-pane", "-p", environ=environ)
                if enough(said):
                    return
                await trio.sleep(0.2)
        raise AssertionError(f"waited in vain; the screen is\n{said}")

    def is_downloaded(_: str) -> bool:
        files = sorted((home / "files").rglob("*.mp3"))
        found = [sha256(path.read_bytes()).hexdigest() for path in files]
        return sorted(found) == sorted(small_show.hashes.elements())

    await run_client(*tmux, "new-session", "-d", "-x", "120", "-y", "40", "newsboat", "-r", environ=environ)
    try:
        await screen_until(lambda said: f"({EPISODES}/{EPISODES})" in said)
        await run_client(*tmux, "respawn-pane", "-k", "podboat", "-a", environ=environ)
        await screen_until(is_downloaded)
    finally:
        with trio.CancelScope(shield=True):
            await run_client(*tmux, "kill-server", environ=environ)
