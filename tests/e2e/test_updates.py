"""What happens at the origin arrives at the listeners, and what does not happen costs nothing."""

import shutil
import time
from dataclasses import replace
from pathlib import Path

import trio

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, run, running
from tests.e2e.show import SMALL, Show, downloaded, downloaded_twice, served

FEEDS = Path(__file__).parents[1] / "feeds"
COUNTS = ("version", "episodes", "media_files", "bytes")


async def test_a_new_episode_reaches_a_running_follower(serve: Serve, start: Start, tmp_path: Path) -> None:
    show = Show.make(tmp_path / "show")
    origin = serve(show)
    listen = ("--listen", "127.0.0.1:0", "--interval", "10s", "--no-http")
    publisher = await start("publish", origin.feed_url, *listen, home=tmp_path / "a")
    await publisher.event("published")
    link = (await publisher.event("ready"))["link"]
    follower = await start("follow", link, "--all", "--http", "127.0.0.1:0", home=tmp_path / "b")
    first = await follower.event("synced", episodes=4)
    feed_url = (await follower.event("ready"))["feed_url"]
    assert await downloaded(feed_url) == show.hashes

    show = Show.make(tmp_path / "show", replace(SMALL, episodes=5))
    told = await publisher.event("published", where=lambda line: not line["unchanged"])
    assert (told["episodes"], told["new"], told["changed"]) == (5, 1, 0)
    synced = await follower.event("synced", version=told["version"])
    assert [synced[name] for name in COUNTS] == [told[name] for name in COUNTS]
    assert synced["version"] > first["version"]
    assert synced["episodes"] == 5
    assert (await served(feed_url))[0].guid == show.episodes[-1]["guid"]
    assert await downloaded(feed_url) == show.hashes
    assert downloaded_twice([hit for hit in origin.hits if hit.path != "/feed.xml"]) == {}


async def test_a_show_that_is_being_published_is_waited_for(
    show: Show, serve: Serve, start: Start, tmp_path: Path
) -> None:
    """With ``--once`` a follower does not end with half a show because its publisher is not done yet."""
    origin = serve(show, "/media/ep0002.mp3 pause=50% hold=4 times=1")
    publisher = await start(
        "publish", origin.feed_url, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    link = (await publisher.event("ready"))["link"]
    followed = await run("follow", link, "--all", "--once", "--no-http", home=tmp_path / "b")
    told, (synced,) = await publisher.event("published"), followed.events("synced")
    assert [synced[name] for name in COUNTS] == [told[name] for name in COUNTS]
    assert synced["bytes"] >= sum(one["bytes"] for one in show.episodes)


async def test_updates_by_separate_runs(serve: Serve, tmp_path: Path) -> None:
    """Each run continues the one before; one that finds nothing new writes nothing."""
    Show.make(tmp_path / "show")
    origin = serve(tmp_path / "show", "* no-conditional")  # every look at the feed gets all of it
    home = tmp_path / "home"

    async def publish() -> dict[str, object]:
        return (await run("publish", origin.feed_url, "--once", home=home)).event("published")

    first = await publish()
    assert (first["new"], first["episodes"], first["unchanged"]) == (4, 4, False)
    Show.make(tmp_path / "show", replace(SMALL, revision=1))  # another lastBuildDate
    again = await publish()
    assert (again["new"], again["changed"], again["unchanged"]) == (0, 0, True)
    assert [again[name] for name in COUNTS] == [first[name] for name in COUNTS]

    changed = replace(SMALL, episodes=6, revision=2, retitle=frozenset({2}), drop=frozenset({1}))
    show = Show.make(tmp_path / "show", changed)
    later = await publish()
    assert (later["new"], later["changed"], later["unchanged"]) == (2, 1, False)
    assert later["episodes"] == 6
    (status,) = (await run("status", home=home)).lines
    assert status["removed_episodes"] == 1
    shown = (await run("show", str(first["key"]), home=home)).lines
    assert [one["title"] for one in shown] == [one["title"] for one in reversed(show.episodes)]
    assert [one["removed_at"] is None for one in shown] == [True] * 5 + [False]
    assert downloaded_twice([hit for hit in origin.hits if hit.path != "/feed.xml"]) == {}


def paged(episodes: int, media: str, size: int = 3) -> dict[str, str]:
    """A feed over several documents, newest first, each episode with a file."""
    pages = [range(top, max(0, top - size), -1) for top in range(episodes, 0, -size)]
    names = ["feed.xml", *(f"page-{number}.xml" for number in range(2, len(pages) + 1)), ""]
    documents = {}
    for place, numbers in enumerate(pages):
        link = f'<a:link rel="next" href="{names[place + 1]}"/>' if names[place + 1] else ""
        items = "".join(
            f"<item><title>{number}</title><guid>g{number}</guid>"
            f"<pubDate>{number:02} Jan 2024 00:00:00 GMT</pubDate>"
            f'<enclosure url="{media}?{number}" length="9" type="audio/mpeg"/></item>'
            for number in numbers
        )
        documents[names[place]] = (
            '<rss version="2.0" xmlns:a="http://www.w3.org/2005/Atom"><channel><title>Paged</title>'
            f"{link}{items}</channel></rss>"
        )
    return documents


def write(folder: Path, documents: dict[str, str]) -> None:
    folder.mkdir(exist_ok=True)
    for name, text in documents.items():
        (folder / name).write_text(text)


async def test_a_kill_while_pages_are_read_loses_nothing_and_repeats_nothing(
    serve: Serve, start: Start, tmp_path: Path
) -> None:
    """Killed while a page is on its way, and again while a file is: both times the next run carries on."""
    home, folder = tmp_path / "home", tmp_path / "show"
    write(folder, paged(9, "one.mp3"))
    await trio.Path(folder / "one.mp3").write_bytes(b"ID3" + bytes(100_000))
    page, media = "/page-2.xml stall=50% hold=5", "/one.mp3 stall=50% hold=5 after=3"
    origin = serve(folder, page)
    order = ("publish", origin.feed_url, "--once")

    async def killed(path: str, answered: int) -> None:
        """Run, and die a moment after so many requests were answered, when the next one is not."""
        async with running(*order, home=home) as program:
            with trio.fail_after(40):
                while origin.count(path) < answered:  # noqa: ASYNC110 - the origin is a thread
                    await trio.sleep(0.05)
            await trio.sleep(0.5)
            await program.kill()

    await killed("/feed.xml", 1)
    origin.set_rules([media])
    origin.clear_hits()
    await killed("/one.mp3", 3)
    assert origin.count("/page-3.xml") == 1
    before = {line["guid"] for line in (await run("log", "paged", home=home)).lines if line["files"]}
    origin.set_rules([])
    begun = time.time()
    told = (await run(*order, home=home)).event("published")
    asked = [hit.path for hit in origin.hits if hit.begun >= begun]
    assert (told["episodes"], told["new"], told["changed"], told["failed"]) == (9, 0, 0, 0)
    assert asked[0] == "/feed.xml"
    assert asked[1:] == ["/one.mp3"] * (9 - len(before))  # text and what was finished is not fetched again
    lines = (await run("log", "paged", home=home)).lines
    for change, guids in (
        ("added", {f"g{n}" for n in range(1, 10)}),
        ("captured", {f"g{n}" for n in range(1, 10)}),
    ):
        found = [line["guid"] for line in lines if line["change"] == change]
        assert (len(found), set(found)) == (9, guids), change
    assert {line["change"] for line in lines} == {"added", "captured"}
    origin.clear_hits()
    again = (await run(*order, home=home)).event("published")
    assert [(hit.path, hit.status) for hit in origin.hits] == [("/feed.xml", 304)]
    assert (again["unchanged"], again["version"]) == (True, told["version"])


async def test_a_real_feed_over_three_updates(serve: Serve, tmp_path: Path) -> None:
    show, home = tmp_path / "show", tmp_path / "home"
    show.mkdir()
    shutil.copy2(FEEDS / "series-1.rss", show / "feed.xml")
    origin = serve(show)
    versions = []
    for number, new in ((1, 4), (1, 0), (2, 2), (3, 2), (3, 0)):
        shutil.copy2(FEEDS / f"series-{number}.rss", show / "feed.xml")
        told = (await run("publish", origin.feed_url, "--no-media", "--once", home=home)).event("published")
        assert (told["new"], told["unchanged"]) == (new, new == 0)
        (status,) = (await run("status", home=home)).lines
        versions.append((told["version"], status["blocks"]))
    assert versions[0] == versions[1] < versions[2] < versions[3] == versions[4]
    assert told["episodes"] == 8
    assert origin.count("/feed.xml", status=304) == 2
