"""Playing what is not here yet: shared by listeners, dropped by a seek, taken from whoever is fast."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import trio

from p2prss.units import KIB, MB, MIB
from tests.e2e.program import Program, fetch, run, running
from tests.e2e.show import Enclosure, Show, served
from tests.fakes.narrow_way import NarrowWay, narrow_way

LISTENERS = 6
NARROW = 60 * KIB  # bytes a second; the whole episode would take minutes
STEADY = 2 * MIB  # bytes a second


@asynccontextmanager
async def publishing(show: Show, home: Path) -> AsyncIterator[tuple[str, int]]:
    """The show's key, and the port its publisher is reached at."""
    node = running("publish", show.feed, "--no-http", "--listen", "127.0.0.1:0", home=home)
    async with node as program:
        await program.event("published")
        ready = await program.event("ready")
        yield ready["key"], int(ready["listen"][0].rpartition(":")[2])


@asynccontextmanager
async def listening(key: str, home: Path, *ways: NarrowWay) -> AsyncIterator[tuple[Program, Enclosure]]:
    """A follower that keeps nothing, and the oldest episode it serves."""
    peers = [word for way in ways for word in ("--peer", f"127.0.0.1:{way.port}")]
    async with running("follow", key, "--on-demand", "--http", "127.0.0.1:0", *peers, home=home) as program:
        feed_url = (await program.event("ready"))["feed_url"]
        await program.event("synced")
        yield program, (await served(feed_url))[-1]


async def hang_up_after(url: str, count: int) -> None:
    """Begin to play, and leave."""
    parts = urlsplit(url)
    async with await trio.open_tcp_stream(parts.hostname or "", parts.port or 80) as stream:
        await stream.send_all(f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode())
        while count > 0:
            count -= len(await stream.receive_some())


async def test_listeners_share_what_comes(long_show: Show, tmp_path: Path) -> None:
    async with (
        publishing(long_show, tmp_path / "a") as (key, port),
        narrow_way(port) as way,
        listening(key, tmp_path / "b", way) as (_, episode),
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        before = way.carried
        hashes: list[str] = []

        async def listen() -> None:
            hashes.append(sha256((await client.get(episode.url)).content).hexdigest())

        async with trio.open_nursery() as nursery:
            for _ in range(LISTENERS):
                nursery.start_soon(listen)
        assert set(hashes) == {long_show.episodes[0]["sha256"]}
        assert way.carried - before < 1.2 * episode.byte_length


async def test_a_seek_drops_what_is_no_longer_wanted(long_show: Show, tmp_path: Path) -> None:
    async with (
        publishing(long_show, tmp_path / "a") as (key, port),
        narrow_way(port, STEADY) as way,
        listening(key, tmp_path / "b", way) as (_, episode),
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        before = way.carried
        await hang_up_after(episode.url, 65_536)
        start = episode.byte_length - 200_000
        tail = await client.get(episode.url, headers={"range": f"bytes={start}-{start + 65_535}"})
        assert tail.status_code == 206
        assert len(tail.content) == 65_536
        assert way.carried - before < 4 * MB  # of 16
        settled = way.carried
        await trio.sleep(1)
        assert way.carried - settled < 2 * MB  # nothing goes on for nobody


async def test_a_slow_peer_is_overtaken(long_show: Show, tmp_path: Path) -> None:
    async with (
        publishing(long_show, tmp_path / "a") as (key, port),
        narrow_way(port, NARROW) as slow,
        narrow_way(port) as fast,
    ):
        await run("seed", key, "--once", "--peer", f"127.0.0.1:{fast.port}", home=tmp_path / "c")
        async with AsyncExitStack() as stack:
            second = await stack.enter_async_context(
                running("seed", key, "--listen", "127.0.0.1:0", home=tmp_path / "c")
            )
            theirs = int((await second.event("ready"))["listen"][0].rpartition(":")[2])
            other = await stack.enter_async_context(narrow_way(theirs))
            _, episode = await stack.enter_async_context(listening(key, tmp_path / "b", slow, other))
            client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
            with trio.fail_after(60):  # from the slow one alone it would take four minutes
                body = (await client.get(episode.url)).content
            assert sha256(body).hexdigest() == long_show.episodes[0]["sha256"]
            assert slow.carried < other.carried / 3


async def test_an_answer_waits_for_a_peer_that_is_away(long_show: Show, tmp_path: Path) -> None:
    """Who begins to listen meanwhile is told to come back later."""
    async with (
        publishing(long_show, tmp_path / "a") as (key, port),
        narrow_way(port, STEADY) as way,
        listening(key, tmp_path / "b", way) as (_, episode),
        httpx.AsyncClient(trust_env=False, timeout=60) as client,
    ):
        body = bytearray()
        async with client.stream("GET", episode.url) as reply:
            assert reply.status_code == 200
            pieces = reply.aiter_raw()
            while len(body) < 500_000:
                body += await anext(pieces)
            await way.break_off()
            with trio.fail_after(40):  # the limit is 10, and the machine may be busy
                tail = await client.get(episode.url, headers={"range": "bytes=-1000"})
            assert tail.status_code == 503
            assert int(tail.headers["retry-after"]) > 0
            way.mend()
            async for data in pieces:
                body += data
        assert sha256(body).hexdigest() == long_show.episodes[0]["sha256"]


async def test_a_listener_goes_before_what_is_fetched_for_later(long_show: Show, tmp_path: Path) -> None:
    """While the newest episode is on its way, another one is played at once."""
    async with publishing(long_show, tmp_path / "a") as (key, port), narrow_way(port, STEADY) as way:
        arguments = ("--all", "--http", "127.0.0.1:0", "--peer", f"127.0.0.1:{way.port}")
        async with running("follow", key, *arguments, home=tmp_path / "b") as program:
            feed_url = (await program.event("ready"))["feed_url"]
            oldest = (await served(feed_url))[-1]
            await way.wait_carried(1 * MB)
            before = way.carried
            head = await fetch(oldest.url, range="bytes=0-65535")
            assert len(head.content) == 65_536
            assert way.carried - before < 4 * MB  # of the 30 that were on their way before it
