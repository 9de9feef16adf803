"""Benchmarks of playing, with the real program: many listeners at once, and episodes only a peer has."""

import re
import statistics
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit
from urllib.request import urlopen

import trio

from p2prss.units import KIB, MB, MIB
from scripts.bench_p2prss import PROGRAM, QUIET_NETWORK, running
from scripts.bench_serve import first_enclosure, serving, write_show

_LISTENERS: Final = 50
_PAUSED: Final = 10  # more of them, who read no further than the beginning
_PAUSED_BUFFER_BYTES: Final = 16 * KIB  # of the system, for each of these
_RECEIVE_BYTES: Final = 1 * MIB
_EPISODES: Final = 7  # each gives one sample; the median counts
_EPISODE_BYTES: Final = 32 * MB
_HEAD_START_SECONDS: Final = 0.02  # in which a playback has begun when somebody seeks
_START_SECONDS: Final = 60

FirstByte = Callable[[str], Awaitable[float]]
"""The URL of an episode -> seconds until a first byte."""


async def listeners(directory: Path, size: int) -> float:
    """Seconds in which 50 listeners have got ``size`` bytes together, each the same local episode.

    Besides, ten more have paused: they must neither hold up the others nor take much memory.
    """
    write_show(directory / "show", items=1, episode_bytes=size // _LISTENERS)
    async with serving(directory, "--all") as (feed_url, program):
        url = await trio.to_thread.run_sync(first_enclosure, feed_url)
        seconds: list[float] = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(program.watch_memory)
            await play(url)
            before = program.peak_bytes
            for _ in range(_PAUSED):
                await nursery.start(_pause, url)
            started = time.perf_counter()

            async def listen() -> None:
                assert await play(url) == size // _LISTENERS
                seconds.append(time.perf_counter() - started)

            async with trio.open_nursery() as listening:
                for _ in range(_LISTENERS):
                    listening.start_soon(listen)
            await trio.sleep(1)  # a look at the memory is taken now and then
            nursery.cancel_scope.cancel()
    spread = f"the first was done after {min(seconds):.2f} s, the last after {max(seconds):.2f} s"
    print(f"  {spread}; memory grew by {(program.peak_bytes - before) / MB:.0f} MB", file=sys.stderr)
    return max(seconds)


async def first_byte(directory: Path) -> float:
    """Median seconds from asking for an episode to its first byte, none of it local."""
    return await _median_of_remote(directory, partial(_first_byte, start=0))


async def seek(directory: Path) -> float:
    """Likewise for a byte in its middle."""
    return await _median_of_remote(directory, partial(_first_byte, start=_EPISODE_BYTES // 2))


async def seek_while_playing(directory: Path) -> float:
    """Likewise while another listener gets the episode from its start, as fast as it comes."""

    async def sample(url: str) -> float:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play, url)
            await trio.sleep(_HEAD_START_SECONDS)
            seconds = await _first_byte(url, start=_EPISODE_BYTES * 7 // 8)
            nursery.cancel_scope.cancel()
        return seconds

    return await _median_of_remote(directory, sample)


async def _median_of_remote(directory: Path, sample: FirstByte) -> float:
    """Ask a follower that keeps nothing for each of some episodes that only its one peer has."""
    write_show(directory / "show", items=_EPISODES, episode_bytes=_EPISODE_BYTES, episodes=_EPISODES)
    async with _following(directory) as feed_url:
        deadline = time.monotonic() + _START_SECONDS
        while len(urls := await trio.to_thread.run_sync(_enclosures, feed_url)) < _EPISODES:
            if time.monotonic() > deadline:
                raise RuntimeError(f"{feed_url} lists {len(urls)} of {_EPISODES} episodes")
            await trio.sleep(0.1)
        samples = [await sample(url) for url in urls]
    print(f"  from {min(samples) * 1000:.0f} to {max(samples) * 1000:.0f} ms", file=sys.stderr)
    return statistics.median(samples)


@asynccontextmanager
async def _following(directory: Path) -> AsyncIterator[str]:
    """A publisher and a follower of the show; the follower's URL of the feed."""
    publish = ("publish", directory / "show" / "feed.xml", "--all", "--yes", "--no-http")
    follow = ("follow", "--on-demand", "--http", "127.0.0.1:0", *QUIET_NETWORK)
    async with running(
        PROGRAM, "--json", "--home", directory / "a", *publish, "--listen", "127.0.0.1:0", *QUIET_NETWORK
    ) as publisher:
        ready, _ = await publisher.events("ready", "published")
        peer = ("--peer", ready["listen"][0], ready["key"])
        async with running(PROGRAM, "--json", "--home", directory / "b", *follow, *peer) as follower:
            (following_ready,) = await follower.events("ready")
            yield str(following_ready["feed_url"])


def _enclosures(feed_url: str) -> list[str]:
    with urlopen(feed_url) as answer:
        return re.findall(r'<enclosure[^>]* url="([^"]+)"', answer.read().decode())


async def play(url: str) -> int:
    """Get a whole file and throw it away; returns its bytes."""
    async with await _ask(url) as stream:
        body = len(await _after_head(stream))
        while got := await stream.receive_some(_RECEIVE_BYTES):
            body += len(got)
        return body


async def _first_byte(url: str, start: int) -> float:
    started = time.perf_counter()
    async with await _ask(url, f"Range: bytes={start}-\r\n") as stream:
        if not await _after_head(stream):
            assert await stream.receive_some(1)
        return time.perf_counter() - started


async def _pause(url: str, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    async with await _ask(url, buffer_bytes=_PAUSED_BUFFER_BYTES) as stream:
        await _after_head(stream)
        task_status.started()
        await trio.sleep_forever()


async def _ask(url: str, more: str = "", buffer_bytes: int = 0) -> trio.SocketStream:
    parts = urlsplit(url)
    sock = trio.socket.socket()
    if buffer_bytes:
        sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, buffer_bytes)
    await sock.connect((parts.hostname, parts.port))
    stream = trio.SocketStream(sock)
    request = f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n{more}\r\n"
    await stream.send_all(request.encode())
    return stream


async def _after_head(stream: trio.SocketStream) -> bytes:
    """Read the head of an answer, which must be a good one, and what has come of the body with it."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = await stream.receive_some(64 * KIB)
        if not more:
            raise RuntimeError("the answer ended too early")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    if not re.match(rb"HTTP/1\.1 20[06] ", head):
        raise RuntimeError(head.partition(b"\r\n")[0].decode("latin-1"))
    return rest
