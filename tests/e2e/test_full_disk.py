"""A disk that fills up: exit code 5 and one line; with room again everything goes on where it was."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from p2prss.units import GIB, MIB
from tests.e2e.conftest import Serve
from tests.e2e.program import Start, run
from tests.e2e.show import LOCAL, SMALL, Show, downloaded_twice, hashes_of
from tests.e2e.small_disk import SmallDisk, small_disk

FULL: Final = re.compile("disk is full|no space left on device", re.IGNORECASE)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4 * MIB) as mounted:
        yield mounted


@pytest.fixture(scope="session")
def large_show(shared_show: Callable[..., Show]) -> Show:
    return shared_show(replace(LOCAL, episodes=6, megabytes=1.5))


async def test_a_follower_goes_on_when_there_is_room_again(
    large_show: Show, disk: SmallDisk, start: Start, tmp_path: Path
) -> None:
    publisher = await start(
        "publish", large_show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    told = await publisher.event("published")
    link = publisher.lines[0]["link"]
    home, there = disk.path / "home", {"prefix": disk.prefix}

    for command in (
        ["follow", link, "--all", "--no-http"],
        ["seed", link],
        ["follow", link, "--once", "--no-http"],
    ):
        done = await run(*command, home=home, code=5, **there)
        assert re.search(FULL, done.error)
    (status,) = (await run("status", home=home, **there)).lines
    assert MIB < status["local_bytes"] < 4 * MIB  # what had arrived is here, and it is right
    assert status["episodes"] == 6
    assert (await run("verify", home=home, **there)).lines[-1]["ok"]

    disk.remount(f"size={32 * MIB}")
    synced = (await run("follow", link, "--all", "--once", "--no-http", home=home, **there)).event("synced")
    assert (synced["version"], synced["bytes"]) == (told["version"], told["bytes"])
    assert (await run("verify", home=home, **there)).lines[-1]["ok"]
    await run("export", told["key"], tmp_path / "plain", home=home, **there)
    assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == large_show.hashes


async def test_a_publisher_goes_on_when_there_is_room_again(
    large_show: Show, disk: SmallDisk, serve: Serve, tmp_path: Path
) -> None:
    """It stops before the disk is full, as the last 2 GB are not for it."""
    show = Show.make(tmp_path / "show", replace(SMALL, episodes=6, megabytes=1.5))
    origin = serve(show)
    disk.remount(f"size={2 * 10**9 + 6 * MIB}")  # of which nothing is used
    home, there = disk.path / "home", {"prefix": disk.prefix}
    done = await run("publish", origin.feed_url, "--once", home=home, code=5, **there)
    assert "the disk is too full" in done.error
    key = done.event("ready")["key"]
    lines = (await run("show", key, home=home, **there)).lines
    assert len(lines) == 6
    local = [line["local"] for line in lines]
    assert True in local
    assert False in local
    assert (await run("verify", home=home, **there)).lines[-1]["ok"]
    disk.remount(f"size={3 * GIB}")
    told = (await run("publish", origin.feed_url, "--once", home=home, **there)).event("published")
    assert (told["key"], told["episodes"], told["failed"]) == (key, 6, 0)
    assert downloaded_twice([hit for hit in origin.hits if hit.path != "/feed.xml"]) == {}
    await run("export", key, tmp_path / "plain", home=home, **there)
    assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == show.hashes


async def test_a_disk_without_room_for_a_home(show: Show, disk: SmallDisk) -> None:
    """Down to the last byte: nothing that was said to be stored is lost, and nothing half true stays."""
    home, there = disk.path / "home", {"prefix": disk.prefix}
    arguments = ("publish", show.feed, "--no-media", "--once")
    for kibibytes in (8, 64, 128, 160):
        disk.remount(f"size={kibibytes}k")
        done = await run(*arguments, home=home, code=5, **there)
        assert re.search(FULL, done.error)
    disk.remount("size=16m")
    told = (await run(*arguments, home=home, **there)).event("published")
    assert told["episodes"] == SMALL.episodes
    assert (await run("verify", home=home, **there)).lines[-1]["ok"]
    assert len((await run("list", home=home, **there)).lines) == 1


async def test_a_home_that_can_only_be_read(show: Show, disk: SmallDisk) -> None:
    home, there = disk.path / "home", {"prefix": disk.prefix}
    arguments = ("publish", show.feed, "--no-media", "--once")
    told = (await run(*arguments, home=home, **there)).event("published")
    disk.remount("ro")
    done = await run(*arguments, home=home, code=5, **there)
    assert "ead-only" in done.error
    assert len((await run("show", told["key"], home=home, **there)).lines) == SMALL.episodes
    assert (await run("verify", home=home, **there)).lines[-1]["ok"]
    disk.remount("rw")
    assert (await run(*arguments, home=home, **there)).event("published")["unchanged"]


async def test_a_limit_on_the_size_of_files_is_a_full_disk(
    large_show: Show, start: Start, tmp_path: Path
) -> None:
    """As an operator sets with ``ulimit -f``."""
    publisher = await start(
        "publish", large_show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    await publisher.event("published")
    link = publisher.lines[0]["link"]
    home, limit = tmp_path / "b", ("prlimit", f"--fsize={3 * MIB}")
    follow = ("follow", link, "--all", "--once", "--no-http")
    assert "too large" in (await run(*follow, home=home, code=5, prefix=limit)).error
    assert (await run("verify", home=home)).lines[-1]["ok"]
    assert (await run(*follow, home=home)).event("synced")["episodes"] == 6
    done = await run("publish", large_show.feed, "--once", home=tmp_path / "c", code=5, prefix=limit)
    assert "too large" in done.error
    assert (await run("publish", large_show.feed, "--once", home=tmp_path / "c")).event("published")[
        "failed"
    ] == 0
