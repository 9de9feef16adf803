"""Homes on machines of their own, on one cable without any route: they find each other by key alone."""

import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final, Protocol

import pytest
import trio

from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import P2prssError
from p2prss.feed.sources.demo_show import make_demo_show
from p2prss.net.lan.neighbours import MAX_NEIGHBOURS
from p2prss.node.control import NodeStatus, ask_status
from p2prss.node.home_paths import HomePaths
from p2prss.units import MIB
from tests.e2e.program import Program, run, running
from tests.fakes.namespaces import Cable, cable_or_skip

pytestmark = pytest.mark.netns

FOUND_SECONDS: Final = 3.0  # from the start of a node until it has a link to its neighbour
PATIENCE: Final = 40.0  # seconds, for what has no promise of its own
FLOOD: Final = Path(__file__).with_name("lan_flood.py")
EPISODES: Final = 3  # of the demo's show


class StartOn(Protocol):
    """Starts a program on a host of the cable; it is stopped when the test ends."""

    async def __call__(self, host: int, *arguments: str | Path, home: Path) -> Program: ...


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[Cable]:
    """A cable with three hosts; its parameter says which addresses they have."""
    with cable_or_skip(3, **getattr(request, "param", {})) as made:
        yield made


@pytest.fixture
async def start_on(hosts: Cable) -> AsyncIterator[StartOn]:
    async with trio.open_nursery() as nursery:
        done = trio.Event()

        async def hold(
            host: int, arguments: Sequence[str | Path], home: Path, task_status: trio.TaskStatus[Program]
        ) -> None:
            async with running(*arguments, home=home, prefix=hosts.prefix(host), lan=True) as program:
                task_status.started(program)
                await done.wait()

        async def start(host: int, *arguments: str | Path, home: Path) -> Program:
            program: Program = await nursery.start(hold, host, arguments, home)
            return program

        yield start
        done.set()


@pytest.fixture
def show(tmp_path: Path) -> Path:
    """The feed file of a show, its audio beside it."""
    folder = tmp_path / "show"
    folder.mkdir()
    return make_demo_show(folder)


async def until(home: Path, fits: Callable[[NodeStatus], bool], seconds: float = PATIENCE) -> NodeStatus:
    """The first status of a node that fits."""
    status = None
    with trio.move_on_after(seconds):
        while True:
            try:
                status = await ask_status(HomePaths(home))
            except P2prssError:
                pass  # it is starting
            else:
                if fits(status):
                    return status
            await trio.sleep(0.02)
    raise AssertionError(f"not within {seconds} s: {status}")


async def publish(start_on: StartOn, show: Path, home: Path, *options: str) -> str:
    """Publish the show on host 0. Returns: its key."""
    publisher = await start_on(0, "publish", show, "--no-http", *options, home=home)
    await publisher.event("published")
    key = publisher.events("ready")[0]["key"]
    assert isinstance(key, str)
    return key


def linked(status: NodeStatus) -> bool:
    return status.links > 0


FAMILIES: Final = pytest.mark.parametrize(
    "hosts", [{"ipv6": False}, {"ipv4": False}, {}], ids=["ipv4", "ipv6", "both"], indirect=True
)


@FAMILIES
async def test_two_homes_find_each_other_by_key_alone(
    hosts: Cable, start_on: StartOn, show: Path, tmp_path: Path
) -> None:
    home, other = tmp_path / "a", tmp_path / "b"
    key = await publish(start_on, show, home)
    follower = await start_on(1, "follow", key, "--all", "--no-http", home=other)
    found = await until(other, linked)
    print(f"found after {found.uptime_seconds} s")
    assert found.uptime_seconds < FOUND_SECONDS
    synced = await follower.event("synced", where=lambda line: line["episodes"] == EPISODES)
    assert synced["media_files"] >= EPISODES

    (peer,) = (await run("peers", key, home=other)).lines
    assert peer["address"].startswith("10.77.0.1:" if hosts.ipv4 else "[fe80::")
    assert peer["bytes_received"] >= synced["bytes"]
    assert peer["has_files"]["blocks"] == peer["has_files"]["length"] > 0
    roles = {peer["role"], *(one["role"] for one in (await run("peers", home=home)).lines)}
    assert roles == {"dialed", "accepted"}
    await trio.sleep(2.0)  # both have heard each other by now, and had time to dial
    for one in (home, other):
        status = await until(one, lambda _: True)
        assert status.links == 1
        assert status.lan is not None
        assert status.lan.neighbours == 1

    await follower.stop()  # it says goodbye
    await until(
        home, lambda status: status.links == 0 and status.lan is not None and status.lan.neighbours == 0
    )
    once = await run(
        "follow", key, "--once", "--all", "--no-http", home=tmp_path / "c", prefix=hosts.prefix(2), lan=True
    )
    assert once.event("synced")["bytes"] == synced["bytes"]


async def test_a_stranger_with_another_feed_is_not_dialled(
    start_on: StartOn, show: Path, tmp_path: Path
) -> None:
    key = await publish(start_on, show, tmp_path / "a")
    await start_on(2, "seed", format_key(CoreKey(Random(1).randbytes(32))), home=tmp_path / "stranger")
    await until(tmp_path / "stranger", lambda _: True)
    follower = await start_on(1, "follow", key, "--all", "--no-http", home=tmp_path / "b")
    await follower.event("synced")
    await trio.sleep(2.0)
    stranger = await ask_status(HomePaths(tmp_path / "stranger"))
    assert stranger.links == 0
    assert stranger.lan is not None
    assert stranger.lan.neighbours == 0
    for home in ("a", "b"):
        status = await ask_status(HomePaths(tmp_path / home))
        assert (status.links, status.links_dropped) == (1, {})
        assert status.lan is not None
        assert status.lan.neighbours == 1


async def test_a_port_that_the_user_chose_is_announced(start_on: StartOn, show: Path, tmp_path: Path) -> None:
    key = await publish(start_on, show, tmp_path / "a", "--listen", "0.0.0.0:7738")
    await start_on(1, "follow", key, "--no-http", "--listen", "127.0.0.1:0", home=tmp_path / "b")
    status = await until(tmp_path / "b", lambda status: bool(status.feeds and status.feeds[0].peers))
    (peer,) = status.feeds[0].peers  # nobody can dial the follower, so it dials, whatever its key
    assert (peer.address, peer.role) == ("10.77.0.1:7738", "dialed")
    for home in ("a", "b"):
        status = await until(tmp_path / home, lambda _: True)
        assert status.lan is not None
        assert status.lan.port is None


@pytest.mark.slow
async def test_who_vanishes_is_forgotten_and_who_comes_back_is_found(
    start_on: StartOn, show: Path, tmp_path: Path
) -> None:
    key = await publish(start_on, show, tmp_path / "a")
    follower = await start_on(1, "follow", key, "--no-http", home=tmp_path / "b")
    await until(tmp_path / "a", linked)
    await follower.kill()
    await until(tmp_path / "a", lambda status: status.lan is not None and status.lan.neighbours == 0)
    await start_on(1, "follow", key, "--no-http", home=tmp_path / "b")
    found = await until(tmp_path / "b", linked)
    print(f"found after {found.uptime_seconds} s")
    assert found.uptime_seconds < FOUND_SECONDS


async def test_a_cable_that_is_plugged_in_later_is_noticed(
    hosts: Cable, start_on: StartOn, show: Path, tmp_path: Path
) -> None:
    key = await publish(start_on, show, tmp_path / "a")
    hosts.unplug(1)
    await start_on(1, "follow", key, "--no-http", home=tmp_path / "b")
    status = await until(tmp_path / "b", lambda _: True)
    assert status.links == 0
    hosts.plug(1)
    plugged_at = trio.current_time()
    await until(tmp_path / "b", linked)
    print(f"found {trio.current_time() - plugged_at:.1f} s after it was plugged in")


async def flood(hosts: Cable, kind: str, count: int, key: str) -> None:
    words = [str(FLOOD), kind, str(count), discovery_key(parse_key(key)).hex()]
    with trio.fail_after(PATIENCE):
        await trio.run_process([*hosts.prefix(2), sys.executable, *words])


async def memory_of(pid: int) -> int:
    """Resident bytes of a process."""
    text = await trio.Path(f"/proc/{pid}/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS:"))


@pytest.mark.slow
async def test_hostile_announcements_cost_little_and_hide_nobody(
    hosts: Cable, start_on: StartOn, show: Path, tmp_path: Path
) -> None:
    key = await publish(start_on, show, tmp_path / "a")
    before = await until(tmp_path / "a", lambda status: status.lan is not None)
    memory = await memory_of(before.pid)
    await flood(hosts, "strangers", 1000, format_key(CoreKey(bytes(32))))
    await flood(hosts, "garbage", 1000, key)
    await flood(hosts, "bogus", 1000, key)
    status = await until(tmp_path / "a", lambda _: True)
    assert status.links == 0
    assert status.lan is not None
    assert status.lan.neighbours == 0
    grown = await memory_of(before.pid) - memory
    print(f"grew by {grown / MIB:.1f} MiB")
    assert grown < 64 * MIB

    await start_on(1, "follow", key, "--no-http", home=tmp_path / "b")
    found = await until(tmp_path / "b", linked)
    print(f"found after {found.uptime_seconds} s")
    assert found.uptime_seconds < FOUND_SECONDS

    await flood(hosts, "nowhere", 1000, key)  # from somebody who knows the feed
    status = await until(tmp_path / "a", lambda _: True)
    assert status.lan is not None
    assert 0 < status.lan.neighbours <= MAX_NEIGHBOURS
    assert status.links == 1
    await until(tmp_path / "a", lambda status: status.lan is not None and status.lan.neighbours <= 1)
