"""Three homes: what the first has signed lives on without it."""

from dataclasses import replace
from pathlib import Path

import pytest

from p2prss.crypto.key_text import parse_key
from tests.e2e.program import Start, run
from tests.e2e.show import LOCAL, Show, downloaded

LISTEN = ("--listen", "127.0.0.1:0")


def relative(folder: Path, episodes: int = 4) -> Show:
    """A show whose feed file names the audio beside it."""
    return Show.make(folder, replace(LOCAL, episodes=episodes))


async def publish(show: Show, home: Path) -> str:
    """Mirror it. Returns: the key."""
    told = (await run("publish", show.feed, "--once", "--no-http", home=home)).event("published")
    assert told["failed"] == 0
    return str(told["key"])


@pytest.mark.parametrize("keeper", [("follow", "--all"), ("seed",)], ids=["follower", "seedbox"])
async def test_a_third_home_gets_a_show_whose_publisher_is_gone(
    keeper: tuple[str, ...], start: Start, tmp_path: Path
) -> None:
    show = relative(tmp_path / "show")
    publisher = await start("publish", show.feed, *LISTEN, "--no-http", home=tmp_path / "a")
    link = (await publisher.event("ready"))["link"]
    told = await publisher.event("published")
    command, *options = keeper
    http = ["--no-http"] if command == "follow" else []
    second = await start(command, link, *options, *LISTEN, *http, home=tmp_path / "b")
    synced = await second.event("synced", version=told["version"])
    assert (synced["episodes"], synced["media_files"]) == (told["episodes"], told["media_files"])
    assert synced["bytes"] == told["bytes"]
    await publisher.stop()

    address = (await second.event("ready"))["listen"][0]
    third = await start(
        "follow", told["key"], "--all", "--peer", address, "--http", "127.0.0.1:0", home=tmp_path / "c"
    )
    assert (await third.event("synced"))["version"] == told["version"]
    assert await downloaded((await third.event("ready"))["feed_url"]) == show.hashes
    (result,) = (await run("verify", home=tmp_path / "c")).lines[-1:]
    assert result["ok"]


async def test_a_link_leads_by_itself_and_news_goes_through_a_seedbox(start: Start, tmp_path: Path) -> None:
    """A link of the seedbox is enough, and what the publisher adds later arrives through it."""
    key = await publish(relative(tmp_path / "show"), tmp_path / "a")
    seedbox = await start("seed", key, *LISTEN, home=tmp_path / "b")
    ready = await seedbox.event("ready")
    assert ready["feed_url"] is None
    follower = await start("follow", ready["link"], "--all", "--no-http", home=tmp_path / "c")
    publisher = await start(
        "publish",
        tmp_path / "show" / "feed.xml",
        "--peer",
        ready["listen"][0],
        "--interval",
        "10s",
        "--no-http",
        home=tmp_path / "a",
    )
    first = await follower.event("synced", episodes=4)
    relative(tmp_path / "show", episodes=5)
    told = await publisher.event("published", episodes=5, new=1)
    for program in (follower, seedbox):
        later = await program.event("synced", version=told["version"])
        assert [later[name] for name in ("episodes", "bytes")] == [
            told[name] for name in ("episodes", "bytes")
        ]
    assert told["version"] > first["version"]


async def test_keys_and_links_in_every_form_mean_the_same_feed(start: Start, tmp_path: Path) -> None:
    key = await publish(relative(tmp_path / "show", episodes=1), tmp_path / "a")
    publisher = await start(
        "publish", tmp_path / "show" / "feed.xml", *LISTEN, "--no-http", home=tmp_path / "a"
    )
    ready = await publisher.event("ready")
    address = ready["listen"][0]
    in_hex = parse_key(key).hex()
    forms = [
        (key, "--peer", address),
        (in_hex, "--peer", address),
        (f"p2prss://{key}?name=Another%20name&peer={address}",),
        (f"hyper://{in_hex}/feed.xml", "--peer", address),
        (ready["link"],),
    ]
    for number, form in enumerate(forms):
        home = tmp_path / f"home{number}"
        done = await run("follow", *form, "--on-demand", "--once", "--no-http", home=home)
        assert done.event("synced")["key"] == key
        (listed,) = (await run("list", home=home)).lines
        assert listed["title"] == ("Another name" if "name=Another" in form[0] else LOCAL.title)


async def test_a_list_of_keys_is_seeded(start: Start, tmp_path: Path) -> None:
    shows = [relative(tmp_path / name, episodes) for name, episodes in (("one", 1), ("two", 2))]
    keys = [await publish(show, tmp_path / "a") for show in shows]
    publisher = await start("publish", shows[0].feed, *LISTEN, "--no-http", home=tmp_path / "a")
    address = (await publisher.event("ready"))["listen"][0]
    (tmp_path / "keys.txt").write_text(f"# my shows\n\n{keys[0]}\n  hyper://{keys[1]}  # another one\n")
    done = await run(
        "seed", "--file", tmp_path / "keys.txt", "--once", "--peer", address, home=tmp_path / "b"
    )
    assert {one["key"]: one["episodes"] for one in done.events("synced")} == {keys[0]: 1, keys[1]: 2}
    status = {one["key"]: one for one in (await run("status", home=tmp_path / "b")).lines}
    for key in keys:
        assert status[key]["role"] == "seed"
        assert status[key]["local_blocks"] == status[key]["blocks"]


async def test_a_bad_line_in_a_list_of_keys_is_told_and_the_others_are_seeded(
    start: Start, tmp_path: Path
) -> None:
    show = relative(tmp_path / "one", 1)
    publisher = await start("publish", show.feed, *LISTEN, "--no-http", home=tmp_path / "a")
    ready = await publisher.event("ready")
    await publisher.event("published")
    listed = tmp_path / "keys.txt"
    listed.write_bytes(b"\xff\xfe nonsense\n" + ready["key"].encode() + b"\np2prss://short\n")
    command = ("seed", "--file", listed, "--once", "--peer", ready["listen"][0])
    done = await run(*command, home=tmp_path / "b", code=2)
    assert done.event("synced")["key"] == ready["key"]
    told = [line["message"] for line in done.events("error")]
    assert [message.partition(": ")[0] for message in told] == [f"{listed}, line 1", f"{listed}, line 3"]
