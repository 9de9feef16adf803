"""What changed and when, as a person and a program get to see it, at the publisher and at a follower."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.program import Start, run, running
from tests.e2e.show import LOCAL, Show, enclosures, served

FEEDS = Path(__file__).parents[1] / "feeds"
BOOK = "https://resilientwebdesign.com/"
SLUG = "resilient-web-design"


def chapters(*numbers: int) -> set[str]:
    return {f"{BOOK}chapter{number}/" for number in numbers}


async def publish_series(folder: Path, home: Path) -> None:
    """The three issues of a real feed, each in a second of its own."""
    await trio.Path(folder).mkdir()
    for number in (1, 2, 3):
        shutil.copy2(FEEDS / f"series-{number}.rss", folder / "feed.xml")
        await run("publish", folder / "feed.xml", "--no-media", "--once", home=home)
        await trio.sleep(1.1)


def of(lines: Sequence[dict[str, Any]], change: str) -> list[dict[str, Any]]:
    return [line for line in lines if line["change"] == change]


async def test_log_show_and_export_tell_of_the_past(tmp_path: Path) -> None:
    home = tmp_path / "home"
    await publish_series(tmp_path / "o", home)
    lines = (await run("log", SLUG, home=home)).lines
    times = [line["at"] for line in lines]
    assert times == sorted(times, reverse=True)
    first, second, third = sorted(set(times))
    assert {line["guid"] for line in lines if line["at"] == first} == chapters(1, 2, 3) | {
        f"{BOOK}introduction/"
    }
    assert {line["guid"] for line in of(lines, "added") if line["at"] == second} == chapters(4, 5)
    assert {line["guid"] for line in of(lines, "added") if line["at"] == third} == chapters(6, 7)
    edits = {line["guid"]: (line["at"], line["fields"], line["fields_known"]) for line in of(lines, "edited")}
    assert edits == {
        f"{BOOK}chapter3/": (second, ["enclosure"], True),
        f"{BOOK}chapter5/": (third, ["description", "itunes:image"], True),
    }
    assert (await run("log", SLUG, "--limit", "2", home=home)).lines == lines[:2]
    assert (await run("log", SLUG, "--since", second, home=home)).lines == [
        line for line in lines if line["at"] >= second
    ]
    person = await run("log", SLUG, "--limit", "3", home=home, as_json=False)
    assert "edited: description, itunes:image  Chapter 5: Layers" in person.stdout
    assert "--limit" in person.stderr

    for when, count in ((first, 4), (second, 6), (third, 8)):
        shown = (await run("show", SLUG, "--at", when, home=home)).lines
        assert len(shown) == count
        await run("export", SLUG, tmp_path / f"at-{count}", "--at", when, home=home)
        text = (tmp_path / f"at-{count}" / "feed.xml").read_bytes()
        assert len(enclosures(text)) == count
        assert (b">n his classic book" in text, b">In his classic book" in text) == (count == 6, count == 8)
    assert len((await run("show", SLUG, "--at", third[:10], home=home)).lines) == 8  # the end of that day
    early = await run("show", SLUG, "--at", "2001-01-01", home=home, code=2)
    assert "no version of 2001-01-01" in early.stderr
    assert "its first version is of" in early.stderr

    edited, added = (await run("show", SLUG, "chapter 5", "--history", home=home)).lines
    assert (added["change"], edited["change"]) == ("added", "edited")
    assert edited["differences"][0]["field"] == "description"
    person = await run("show", SLUG, edited["item_id"], "--history", home=home, as_json=False)
    assert "    - description: n his classic book" in person.stdout
    assert "    + description: In his classic book" in person.stdout
    (one,) = (await run("show", SLUG, f"{BOOK}chapter5/", home=home)).lines
    assert one["item_id"] == edited["item_id"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("show", SLUG, "--history"), "give ITEM"),
        (("show", SLUG, "Chapter", "--history"), "7 episodes match"),
        (("show", SLUG, "nothing of that name"), "no episode matches"),
        (("show", SLUG, "--at", "yesterday"), "2025-01-31"),
        (("log", SLUG, "--since", "2025-99-99"), "2025-01-31"),
        (("log", SLUG, "--limit", "0"), "--limit"),
        (("log", "unknown"), "unknown"),
    ],
)
async def test_what_makes_no_sense_is_said_in_one_line(
    arguments: tuple[str, ...], text: str, tmp_path: Path
) -> None:
    await run("publish", FEEDS / "series-3.rss", "--no-media", "--once", home=tmp_path / "h")
    failed = await run(*arguments, home=tmp_path / "h", code=2, as_json=False)
    assert text in failed.stderr
    assert len(failed.stderr.splitlines()) == 1


async def test_a_follower_tells_the_history_as_far_as_it_has_it(start: Start, tmp_path: Path) -> None:
    """One who came late has all entries, but of the texts only those of today."""
    await publish_series(tmp_path / "o", tmp_path / "a")
    arguments = ("publish", tmp_path / "o" / "feed.xml", "--no-media", "--listen", "127.0.0.1:0", "--no-http")
    publisher = await start(*arguments, home=tmp_path / "a")
    link = (await publisher.event("ready"))["link"]
    await run("follow", link, "--once", "--no-http", home=tmp_path / "b")
    ours, theirs = [(await run("log", SLUG, home=tmp_path / home)).lines for home in ("a", "b")]
    for line in of(ours, "edited"):
        line.update(fields=[name for name in line["fields"] if name == "itunes:image"], fields_known=False)
    for line in of(theirs, "edited"):
        line["fields"] = ["itunes:image" if name == "image" else name for name in line["fields"]]
    assert theirs == ours
    person = await run("log", SLUG, home=tmp_path / "b", as_json=False)
    assert "which is not here as it was before" in person.stdout
    second = sorted({line["at"] for line in theirs})[1]
    assert len((await run("show", SLUG, "--at", second, home=tmp_path / "b")).lines) == 6
    failed = await run("export", SLUG, tmp_path / "then", "--at", second, home=tmp_path / "b", code=3)
    assert f"as it was {second[:10]}" in failed.error


async def test_how_an_episode_left_is_told(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "show"

    async def publish(first: int, last: int, *drop: int) -> dict[str, Any]:
        spec = replace(LOCAL, episodes=last, drop=frozenset({*drop, *range(1, first)}))
        show = Show.make(folder, spec)
        return (await run("publish", show.feed, "--no-media", "--once", home=home)).event("published")

    await publish(1, 5)
    told = await publish(2, 6, 4)
    assert (told["removed"], told["aged_out"], told["taken_out"]) == (2, 1, 1)
    slug = (await run("list", home=home)).lines[0]["slug"]
    shown = (await run("show", slug, home=home)).lines
    assert [one["removed_as"] for one in shown] == [None, None, "taken-out", None, None, "aged-out"]
    (status,) = (await run("status", home=home)).lines
    assert (status["removed_episodes"], status["taken_out_episodes"]) == (2, 1)
    lines = (await run("log", slug, home=home)).lines
    assert {line["removed_as"] for line in of(lines, "removed")} == {"taken-out", "aged-out"}
    person = (await run("show", slug, home=home, as_json=False)).stdout
    assert (person.count("(taken out 20"), person.count("(aged out 20")) == (1, 1)
    told = await publish(2, 6)
    assert (told["changed"], told["removed"]) == (1, 0)
    assert (await run("log", slug, home=home)).lines[0]["change"] == "came-back"


async def test_removed_episodes_are_kept_hidden_or_purged_as_asked(start: Start, tmp_path: Path) -> None:
    folder, listen = tmp_path / "show", ("--listen", "127.0.0.1:0", "--no-http")
    show = Show.make(folder, replace(LOCAL, episodes=5))
    await run("publish", show.feed, "--once", home=tmp_path / "a")
    show = Show.make(folder, replace(LOCAL, episodes=5, drop=frozenset({1, 3})))
    await run("publish", show.feed, "--once", home=tmp_path / "a")
    publisher = await start("publish", show.feed, *listen, home=tmp_path / "a")
    link = (await publisher.event("ready"))["link"]
    http = ("--http", "127.0.0.1:0")

    async def guids(*options: str) -> list[str]:
        async with running("follow", link, *http, *options, home=tmp_path / "b") as follower:
            await follower.event("synced")
            return [one.guid for one in await served((await follower.event("ready"))["feed_url"])]

    named = [str(one["guid"]) for one in show.episodes]
    assert sorted(await guids()) == sorted(named)
    hidden = [named[4], named[3], named[1]]
    assert await guids("--removed", "hide") == hidden
    assert await guids() == hidden  # it stays so
    assert await guids("--removed", "purge") == [*hidden, named[0]]
    shown = (await run("show", publisher.events("ready")[0]["key"], home=tmp_path / "b")).lines
    assert [one["removed_as"] for one in shown] == [None, None, "taken-out", None, "aged-out"]
    await run("follow", link, "--removed", "burn", home=tmp_path / "b", code=2)
    await publisher.stop()

    purged = await run("publish", show.feed, "--once", "--removed", "purge", home=tmp_path / "a")
    assert purged.event("published")["episodes"] == 4
    assert any("1 episode" in line["message"] for line in purged.events("notice"))
    again = await run("publish", show.feed, "--once", home=tmp_path / "a")
    assert again.event("published")["unchanged"]
