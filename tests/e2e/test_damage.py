"""Bytes that went bad on the disk: found, named, healed from peers, and never served as if right."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from tests.e2e.program import Program, Start, fetch, run
from tests.e2e.show import LOCAL, Enclosure, Show, downloaded, served

SLUG = "the-copper-compass"


@pytest.fixture(scope="session")
def local_show(shared_show: Callable[..., Show]) -> Show:
    return shared_show(replace(LOCAL, episodes=3, megabytes=2.5, awkward_titles=False))


def damage(home: Path, show: Show, number: int, *, at: float) -> None:
    """Turn a bit over in the stored bytes of an episode, at a share of its length."""
    audio = (show.folder / show.episodes[number - 1]["path"]).read_bytes()
    offset = int(at * len(audio))
    for path in home.glob("cores/*/data"):
        content = bytearray(path.read_bytes())
        place = content.find(audio[offset : offset + 64])
        if place >= 0:
            content[place] ^= 1
            path.write_bytes(content)
            return
    raise AssertionError("the episode is not stored here")


async def followed(show: Show, start: Start, tmp_path: Path) -> tuple[Program, str, Path]:
    """A publisher that runs, the link to it, and a second home that has everything."""
    publisher = await start("publish", show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a")
    await publisher.event("published")
    link = publisher.lines[0]["link"]
    await run("follow", link, "--all", "--once", "--no-http", home=tmp_path / "b")
    return publisher, link, tmp_path / "b"


async def test_damage_is_found_named_and_healed(local_show: Show, start: Start, tmp_path: Path) -> None:
    _, link, home = await followed(local_show, start, tmp_path)
    damage(home, local_show, 1, at=0.5)
    damage(home, local_show, 3, at=0.0)
    found = await run("verify", home=home, code=4)
    assert found.error.startswith(SLUG)
    assert "2 blocks fail their hash" in found.error
    assert any(one["title"] in found.error for one in local_show.episodes)
    result = next(line for line in found.lines if "ok" in line)
    hashes = [local_show.episodes[place]["sha256"] for place in (0, 2)]
    assert (result["ok"], result["damaged_blocks"]) == (False, 2)
    assert sorted(Path(path).stem for path in result["damaged_files"]) == sorted(hashes)
    person = await run("verify", SLUG, home=home, code=4, as_json=False)
    assert "2 blocks fail" in person.stdout

    follower = await start("follow", link, "--all", "--http", "127.0.0.1:0", home=home)
    feed_url = (await follower.event("ready"))["feed_url"]
    assert await downloaded(feed_url) == local_show.hashes
    result = (await run("verify", home=home)).lines[-1]
    assert (result["ok"], result["damaged_files"]) == (True, [])


async def ask(episode: Enclosure) -> str | int:
    """GET an episode. Returns: the status, or that the answer was broken off."""
    try:
        reply = await fetch(episode.url)
    except httpx.RemoteProtocolError:
        return "broken off"
    return reply.status_code


async def test_a_damaged_episode_is_never_served_as_a_whole_one(
    local_show: Show, start: Start, tmp_path: Path
) -> None:
    publisher, link, home = await followed(local_show, start, tmp_path)
    await publisher.stop()
    for number, at in ((1, 0.0), (2, 0.5), (3, 0.99)):
        damage(home, local_show, number, at=at)
    follower = await start("follow", link, "--all", "--http", "127.0.0.1:0", home=home)
    episodes = await served((await follower.event("ready"))["feed_url"])
    assert [await ask(episode) for episode in reversed(episodes)] == [500, "broken off", "broken off"]
    # What was found to be damaged is gone now, and nobody is there to bring it again.
    assert await ask(episodes[-1]) == 503


async def test_a_publisher_gets_its_own_bytes_back_from_a_listener(
    local_show: Show, start: Start, tmp_path: Path
) -> None:
    options = ("--listen", "127.0.0.1:0", "--http", "127.0.0.1:0")
    publisher = await start("publish", local_show.feed, *options, home=tmp_path / "a")
    await publisher.event("published")
    ready = await publisher.event("ready")
    follower = await start("follow", ready["link"], "--all", "--no-http", home=tmp_path / "b")
    await follower.event("synced")
    damage(tmp_path / "a", local_show, 2, at=0.5)
    assert await downloaded(ready["feed_url"]) == local_show.hashes
    assert (await run("verify", home=tmp_path / "a")).lines[-1]["ok"]


async def test_damage_in_the_list_of_episodes(local_show: Show, start: Start, tmp_path: Path) -> None:
    """The db core lists everything; without a block of it nothing is listed, and a peer brings it back."""
    _, link, home = await followed(local_show, start, tmp_path)
    smallest = min(home.glob("cores/*/data"), key=lambda path: path.stat().st_size)
    content = bytearray(smallest.read_bytes())
    content[len(content) // 2] ^= 1
    smallest.write_bytes(content)
    assert SLUG in (await run("verify", home=home, code=4)).error
    (status,) = (await run("status", home=home)).lines
    assert status["key"] in link
    synced = (await run("follow", link, "--all", "--once", "--no-http", home=home)).event("synced")
    assert synced["episodes"] == 3
    assert (await run("verify", home=home)).lines[-1]["ok"]
