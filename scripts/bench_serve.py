"""Benchmarks of the HTTP side: the program serves a show of its own home, curl and urllib ask for it."""

import json
import os
import re
import statistics
import subprocess
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import trio

from p2prss.units import MB
from scripts.bench_p2prss import PROGRAM, QUIET_NETWORK, Lines, running

_ITEMS: Final = 5000
_FETCHES: Final = 3  # of one episode; the median counts
_ASKS: Final = 21  # for a feed that has not changed


async def stream(directory: Path, size: int) -> float:
    """Seconds in which curl gets a local episode of ``size`` bytes and throws it away."""
    write_show(directory / "show", items=1, episode_bytes=size)
    async with serving(directory, "--all") as (feed_url, _):
        url = await trio.to_thread.run_sync(first_enclosure, feed_url)
        samples = []
        for _ in range(_FETCHES):
            started = time.perf_counter()
            command = ["curl", "-q", "-sS", "--fail", "--noproxy", "*", "-o", os.devnull, url]
            await trio.run_process(command, stdin=subprocess.DEVNULL)
            samples.append(time.perf_counter() - started)
        return statistics.median(samples)


async def feed_cold(directory: Path) -> float:
    """Seconds from asking a program that has just started for all of 5,000 items to their last byte."""
    write_show(directory / "show", items=_ITEMS)
    async with serving(directory, "--no-media"):
        pass
    async with serving(directory, "--no-media") as (feed_url, _):

        def ask() -> float:
            started = time.perf_counter()
            with urlopen(f"{feed_url}?all=1") as answer:
                body = answer.read()
            seconds = time.perf_counter() - started
            assert body.count(b"<item") == _ITEMS
            return seconds

        return await trio.to_thread.run_sync(ask)


async def feed_unchanged(directory: Path) -> float:
    """Median seconds of a 304 for all of 5,000 items."""
    write_show(directory / "show", items=_ITEMS)
    async with serving(directory, "--no-media") as (feed_url, _):

        def ask() -> float:
            with urlopen(f"{feed_url}?all=1") as answer:
                etag = answer.headers["ETag"]
            samples = []
            for _ in range(_ASKS):
                started = time.perf_counter()
                try:
                    urlopen(Request(f"{feed_url}?all=1", headers={"If-None-Match": etag})).close()
                    raise AssertionError("the feed changed")
                except HTTPError as error:
                    samples.append(time.perf_counter() - started)
                    if error.code != 304:
                        raise
            return statistics.median(samples)

        return await trio.to_thread.run_sync(ask)


@asynccontextmanager
async def serving(directory: Path, wanted: str) -> AsyncIterator[tuple[str, Lines]]:
    """The show, published and served; its feed's URL, and the program."""
    command: list[str | Path] = [
        "publish",
        directory / "show" / "feed.xml",
        wanted,
        "--yes",
        "--http",
        "127.0.0.1:0",
    ]
    async with running(PROGRAM, "--json", "--home", directory / "home", *command, *QUIET_NETWORK) as program:
        ready, _ = await program.events("ready", "published")
        yield str(ready["feed_url"]), program


def first_enclosure(feed_url: str) -> str:
    """The URL of the newest episode, for a thread."""
    with urlopen(feed_url) as answer:
        found = re.search(r'<enclosure[^>]* url="([^"]+)"', answer.read().decode())
    assert found is not None
    return found[1]


def write_show(directory: Path, *, items: int, episode_bytes: int = 0, episodes: int = 1) -> None:
    """A feed file of that many items of some 2 kB; the first ``episodes`` exist if they have bytes."""
    directory.mkdir()
    for number in range(episodes if episode_bytes else 0):
        noise = os.urandom(MB)
        with (directory / f"{number}.mp3").open("wb") as file:
            file.write(b"ID3\x04\0\0\0\0\0\0\xff\xfb\x90\0")  # enough of an MP3 for whoever sniffs
            while (missing := episode_bytes - file.tell()) > 0:
                file.write(noise[:missing])
    notes = "Guests, links and notes of this episode, as long as notes are. " * 28
    text = "".join(
        f"<item><title>Episode {n}</title><guid isPermaLink='false'>{n}</guid>"
        f"<pubDate>Mon, {1 + n % 28:02d} Jan {2000 + n // 250} 10:00:00 +0000</pubDate>"
        f"<description>{notes}{json.dumps(n)}</description>"
        f"<enclosure url='{n}.mp3' length='{episode_bytes}' type='audio/mpeg'/></item>"
        for n in range(items)
    )
    document = f"<rss version='2.0'><channel><title>Bench</title><link>https://example.org/</link>{text}"
    (directory / "feed.xml").write_text(f"{document}</channel></rss>", "utf-8")
