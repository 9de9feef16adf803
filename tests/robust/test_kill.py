"""``kill -9`` at any moment: nothing announced is lost, nothing is half true, and no work is done twice.

The real program, as publisher and as follower. ``P2PRSS_KILLS=50`` (over both) and ``P2PRSS_KILL_SEED`` make
it a longer hunt.
"""

import os
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import pytest
import trio

from p2prss.crypto.key_text import parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.drive.drive import Drive
from p2prss.errors import BlockUnavailableError, NetworkError
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest
from p2prss.log.merkle import Head
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.node.home_paths import HomePaths
from p2prss.node.inspection import feed_status, open_for_reading
from p2prss.units import KIB
from tests.e2e.program import Line, Program, run, running
from tests.e2e.show import Show
from tests.fakes.quiet_origin import QuietOrigin
from tests.robust.conftest import until
from tests.robust.moments import Moment
from tests.tools.podcast.origin import Origin
from tests.tools.podcast.request import Hit
from tests.tools.podcast.spec import Spec

KILLS = int(os.environ.get("P2PRSS_KILLS", "12"))  # of publishers and followers together
SEED = int(os.environ.get("P2PRSS_KILL_SEED", "1"))
SHOW = Spec(episodes=8, megabytes=0.4, cover_side=64)
ORIGIN_RATE = 1_500_000  # bytes a second and connection, so that there is time to be killed in
LINK_RATE = 4_000_000  # bytes a second
TEXT_BYTES = 256 * KIB  # of everything in the feed that is no media, entries included
ITEMS_IN_FLIGHT = 3  # two are fetched, one is stored: these a killed publisher may fetch again


@pytest.fixture(scope="session")
def show(tmp_path_factory: pytest.TempPathFactory) -> Show:
    return Show.make(tmp_path_factory.mktemp("show"), SHOW)


# Publishing


class Witness:
    """A peer that copies whatever a publisher lets out, and so knows what must not be lost."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.store = Store.in_memory()
        self.exchange = Exchange(self.store, nursery, random=Random(0), patience=600.0)
        self._nursery = nursery
        self._watched: set[str] = set()

    def visit(self, ready: Line) -> None:
        """Connect to a publisher that has just said where it is."""
        self._nursery.start_soon(self._visit, ready["listen"][0])
        if ready["key"] not in self._watched:
            self._watched.add(ready["key"])
            self._nursery.start_soon(self._watch, parse_key(ready["key"]))

    async def _visit(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        with suppress(OSError, NetworkError):  # it may be dead by now
            stream = await trio.open_tcp_stream(host, int(port))
            await self.exchange.use_stream(stream, True, address)

    async def _watch(self, key: CoreKey) -> None:
        async def open_core(key: CoreKey, manifest: Manifest | None) -> PeerCore:
            return self.core(key, manifest)

        with suppress(BlockUnavailableError, NetworkError):
            blobs = (await Drive(self.core(key, None), open_core).blobs()).core
            assert isinstance(blobs, PeerCore)
            blobs.follow_tip()

    def core(self, key: CoreKey, manifest: Manifest | None) -> PeerCore:
        core = PeerCore(self.exchange.session(self.store.open_log(key, manifest=manifest), eager=True))
        core.follow_tip()
        return core

    @property
    def logs(self) -> Sequence[Log]:
        keys = self.store.keys()
        return [self.store.open_log(key) for key in keys]


@dataclass
class PublisherHome:
    """One home that is killed again and again, and what was seen of it."""

    home: Path
    source: str
    kills: int = 0
    held: int = 0  # bytes of all blocks, at the last look
    captured: set[str] = field(default_factory=set)  # addresses of the files in the feed, at the last look
    downloads: Counter[str] = field(default_factory=Counter)  # whole media files the origin sent

    @property
    def command(self) -> tuple[str, ...]:
        return "publish", self.source, "--listen", "127.0.0.1:0", "--no-http"

    async def check(self, witness: Witness, lines: Sequence[Line]) -> None:
        """After a kill or an end: all is sound, and what was told or let out is there."""
        self.held = await verified(self.home)
        if not HomePaths(self.home).exists:
            assert not witness.logs
            return
        async with open_for_reading(HomePaths(self.home)) as (saved, opener, store):
            for copy in witness.logs:
                log = store.open_log(copy.key)
                assert log.fork == copy.fork == 0
                assert log.length >= copy.length
                shared = Head.at(copy.length, 0, log.node)
                assert shared is not None
                assert shared.tree_hash == copy.head.tree_hash
            for one in saved.all():
                feed = await opener.open(one, eager=False)
                if feed.db.length > 1:
                    info, items = await feed.archive.info(), await feed.archive.items()
                    assets = [*info.channel_assets, *(asset for item in items for asset in item.assets)]
                    self.captured = {asset.url for asset in assets if asset.path is not None}
        told = max((line["done"] for line in lines if line["event"] == "progress"), default=0)
        published = [line for line in lines if line["event"] == "published"]
        for status in await feed_status(HomePaths(self.home), None):
            assert status.bytes >= told
            for line in published:
                assert (status.version, status.episodes) >= (line["version"], line["episodes"])
                assert status.media_files == status.local_media_files == line["media_files"]

    def note_hits(self, hits: Sequence[Hit]) -> None:
        """After a run: what was in the feed before it was not asked for again."""
        asked = {hit.path for hit in hits if hit.method == "GET"}
        assert not asked & {urlsplit(url).path for url in self.captured}
        self.downloads.update(
            hit.path for hit in hits if hit.complete and hit.status == 200 and hit.path.endswith(".mp3")
        )


async def test_a_publisher_that_is_killed_loses_nothing_it_has_let_out(tmp_path: Path, show: Show) -> None:
    random = Random(SEED)
    kills = number = 0
    while kills < KILLS // 2:
        number += 1
        with QuietOrigin(show.folder, rules=[f"*.mp3 rate={ORIGIN_RATE}"]) as origin:
            async with trio.open_nursery() as nursery:
                home = PublisherHome(tmp_path / f"publisher{number}", origin.feed_url)
                witness = Witness(nursery)
                while kills + home.kills < KILLS // 2 and await killed_publisher(
                    home, witness, origin, random
                ):
                    pass
                kills += home.kills
                await finish_publisher(home, witness, origin, show)
                nursery.cancel_scope.cancel()


async def killed_publisher(home: PublisherHome, witness: Witness, origin: Origin, random: Random) -> bool:
    """Run until some moment, kill, check. Returns: False when it was done before that."""
    origin.clear_hits()
    moment = Moment.pick(random)
    async with running(*home.command, "--once", home=home.home) as program, trio.open_nursery() as watching:
        watching.start_soon(visit_when_ready, witness, program)
        alive = await moment.wait(program, home.home, total_bytes(origin))
        await program.kill()
        watching.cancel_scope.cancel()
    print(f"publisher killed at {moment}: {len(program.lines)} lines, {alive}")
    home.note_hits(origin.hits)
    await home.check(witness, program.lines)
    if alive:
        home.kills += 1
    else:
        assert program.process.returncode == 0, program
    return alive


async def finish_publisher(home: PublisherHome, witness: Witness, origin: Origin, show: Show) -> None:
    """Let it finish and share: the feed is whole, and the witness has copied one unbroken history."""
    origin.set_rules([])
    origin.clear_hits()
    async with running(*home.command, home=home.home) as program:
        witness.visit(await program.event("ready"))
        published = await program.event("published")
        assert published["episodes"] == SHOW.episodes
        assert not published["failed"]
        home.note_hits(origin.hits)
        (status,) = await feed_status(HomePaths(home.home), None)
        assert status.local_media_files == status.media_files == published["media_files"]
        await until(lambda: sum(log.length for log in witness.logs) == status.blocks, 120)
        for log in witness.logs:
            with trio.fail_after(120):
                await witness.core(log.key, None).wait_exhausted()
    async with open_for_reading(HomePaths(home.home)) as (_, _, store):
        for copy in witness.logs:
            log = store.open_log(copy.key)
            assert copy.head == log.head
            assert all(copy.bitfield.all_set(run.start, run.stop) for run in log.bitfield.runs(0, log.length))
    await home.check(witness, program.lines)
    assert set(witness.exchange.drops) <= {"timeout"}
    assert home.downloads.keys() >= {f"/{one['path']}" for one in show.episodes}
    again = sum(count - 1 for count in home.downloads.values())
    assert again <= ITEMS_IN_FLIGHT * home.kills
    # What killed runs had begun is gone: their downloads, and bytes that no entry names.
    assert not list((home.home / "incoming").glob("*"))
    assert home.held <= status.bytes + TEXT_BYTES


async def visit_when_ready(witness: Witness, program: Program) -> None:
    with suppress(AssertionError):  # it may die before
        witness.visit(await program.event("ready"))


# Following


class SlowRoad:
    """A TCP proxy that counts what goes through it, and takes its time."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self.target = host, int(port)
        self.address = ""
        self.rate = LINK_RATE
        self.received = 0  # bytes that went to the follower

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = f"127.0.0.1:{listener.socket.getsockname()[1]}"
        task_status.started()
        await trio.serve_listeners(self._carry, [listener])

    async def _carry(self, near: trio.SocketStream) -> None:
        with suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            async with near, await trio.open_tcp_stream(*self.target) as far, trio.open_nursery() as both:
                both.start_soon(self._pump, near, far, None)
                await self._pump(far, near, self.rate)
                both.cancel_scope.cancel()

    async def _pump(self, source: trio.SocketStream, sink: trio.SocketStream, rate: int | None) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(16 * KIB):
                if rate is not None:
                    self.received += len(data)
                    await trio.sleep(len(data) / rate)
                await sink.send_all(data)


async def test_a_follower_that_is_killed_fetches_nothing_twice(tmp_path: Path, show: Show) -> None:
    random = Random(SEED + 1)
    kills = number = 0
    with QuietOrigin(show.folder) as origin:
        async with sharing(origin, tmp_path / "publisher") as (key, road):
            await verified(tmp_path / "publisher")
            while kills < KILLS - KILLS // 2:
                number += 1
                home = tmp_path / f"follower{number}"
                command = ("follow", key, "--all", "--once", "--no-http", "--peer", road.address)
                held = 0
                while kills < KILLS - KILLS // 2:
                    moment = Moment.pick(random)
                    async with running(*command, home=home) as program:
                        alive = await moment.wait(program, home, total_bytes(origin))
                        await program.kill()
                    print(f"follower killed at {moment}: {len(program.lines)} lines, {alive}")
                    before, held = held, await check_follower(home, tmp_path / "publisher", program.lines)
                    assert held >= before
                    if not alive:
                        assert program.process.returncode == 0, program
                        break
                    kills += 1
                road.received = 0
                done = await run(*command, home=home)
                assert done.event("synced")["episodes"] == SHOW.episodes
                whole = await check_follower(home, tmp_path / "publisher", done.lines)
                assert road.received <= 1.05 * (whole - held) + 64 * KIB
                (status,) = await feed_status(HomePaths(home), None)
                assert status.local_media_files == status.media_files
            road.received = 0
            await run(*command, home=home)
            assert road.received <= 64 * KIB  # there was nothing left to fetch


@asynccontextmanager
async def sharing(origin: Origin, home: Path) -> AsyncIterator[tuple[str, SlowRoad]]:
    """A publisher that has everything, behind a slow road. Gives: its key, the road."""
    command = ("publish", origin.feed_url, "--listen", "127.0.0.1:0", "--no-http")
    async with running(*command, home=home) as program:
        ready = await program.event("ready")
        await program.event("published")
        road = SlowRoad(ready["listen"][0])
        async with trio.open_nursery() as nursery:
            await nursery.start(road.run)
            yield ready["key"], road
            nursery.cancel_scope.cancel()


async def check_follower(home: Path, publisher: Path, lines: Sequence[Line]) -> int:
    """After a kill or an end. Returns: bytes of all blocks that are held."""
    size = await verified(home)
    told = max((line["done"] for line in lines if line["event"] == "progress"), default=0)
    assert size >= told
    if not HomePaths(home).exists:
        return 0
    with Store.open_read_only(publisher) as origin, Store.open_read_only(home) as store:
        keys = store.keys()
        for key in keys:
            copy, log = store.open_log(key), origin.open_log(key)
            assert copy.fork == log.fork == 0
            assert copy.length <= log.length
            shared = Head.at(copy.length, 0, log.node)
            assert shared is not None
            assert shared.tree_hash == copy.head.tree_hash
    return size


# Both


async def verified(home: Path) -> int:
    """``p2prss verify`` finds no fault. Returns: bytes of the blocks that are held."""
    done = await run("verify", home=home)
    results = [line for line in done.lines if "event" not in line]
    assert all(line["ok"] for line in results)
    return sum(line["bytes"] for line in results)


def total_bytes(origin: Origin) -> int:
    """Bytes of all media of a show."""
    return sum(path.stat().st_size for path in origin.root.rglob("*.mp3"))
