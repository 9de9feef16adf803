"""The commands that look and care, for people and for programs, while a node runs and while none does."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, fetch, run, running
from tests.e2e.show import SMALL, Show, download, enclosures, hashes_of, served

SLUG = "the-copper-compass"
NEWEST, OLDEST = 0, -1

LISTED = {"key", "slug", "role", "title", "source", "created"}
STATUS = {"version", "episodes", "media_files", "local_media_files", "bytes", "local_bytes", "updated"}
SHOWN = {"item_id", "guid", "title", "published", "removed_at", "bytes", "local", "assets"}


async def kept(home: Path, feed: str = SLUG) -> list[bool]:
    """Which episodes are local, newest first."""
    return [line["local"] for line in (await run("show", feed, home=home)).lines]


@pytest.mark.parametrize("while_running", [False, True], ids=["at rest", "while a node runs"])
async def test_looking_at_a_home(local_show: Show, while_running: bool, tmp_path: Path) -> None:
    home = tmp_path / "home"
    told = (await run("publish", local_show.feed, "--once", home=home)).event("published")
    async with AsyncExitStack() as stack:
        if while_running:
            node = await stack.enter_async_context(
                running("publish", local_show.feed, "--listen", "127.0.0.1:0", "--no-http", home=home)
            )
            await node.event("published")

        async def both(*arguments: str | Path) -> tuple[list[dict[str, Any]], str]:
            """The lines of ``--json``, and what a person gets."""
            person = await run(*arguments, home=home, as_json=False)
            assert person.stderr == ""
            return (await run(*arguments, home=home)).lines, person.stdout

        (listed,), text = await both("list")
        assert listed.keys() >= LISTED
        assert (listed["key"], listed["slug"], listed["role"]) == (told["key"], SLUG, "publish")
        assert text.split() == [SLUG, "publish", *SMALL.title.split(), told["key"]]
        (status,), text = await both("status")
        assert status.keys() >= STATUS
        assert (status["episodes"], status["local_bytes"]) == (4, told["bytes"])
        assert f"{told['media_files']}/{told['media_files']} files" in text
        assert (await both("status", told["key"]))[0] == [status]
        shown, text = await both("show", SLUG)
        assert all(one.keys() >= SHOWN for one in shown)
        assert [one["title"] for one in shown] == [one["title"] for one in reversed(local_show.episodes)]
        assert [line.split()[:2] for line in text.splitlines()] == [
            [one["published"][:10], "yes"] for one in reversed(local_show.episodes)
        ]
        lines, text = await both("verify", SLUG)
        assert lines[-1]["ok"]
        assert lines[-1]["bytes"] >= told["bytes"]
        assert text.split()[-1] == "ok"
        (places,), text = await both("paths")
        assert places["home"] == str(home)
        assert {path.name for path in home.iterdir()} >= {Path(places[name]).name for name in places} - {
            home.name
        }
        assert all(str(place) in text for place in places.values())
        lines, text = await both("export", SLUG, tmp_path / "plain")
        assert (lines[-1]["episodes"], lines[-1]["missing"]) == (4, 0)
        assert str(tmp_path / "plain") in text
        assert await hashes_of((tmp_path / "plain").glob("*.mp3")) == local_show.hashes
    assert (tmp_path / "plain" / "feed.xml").is_file()


async def test_an_exported_show_is_a_show(local_show: Show, tmp_path: Path) -> None:
    """What was exported can be published from its folder: files beside a feed that names them."""
    told = (await run("publish", local_show.feed, "--once", home=tmp_path / "a")).event("published")
    await run("export", SLUG, tmp_path / "plain", home=tmp_path / "a")
    listed = enclosures((tmp_path / "plain/feed.xml").read_bytes())
    assert [one.byte_length for one in listed] == [200_000] * 4
    again = (await run("publish", tmp_path / "plain/feed.xml", "--once", home=tmp_path / "b")).event(
        "published"
    )
    assert (again["episodes"], again["failed"]) == (4, 0)
    assert again["bytes"] == told["bytes"]
    shown = [(await run("show", SLUG, home=tmp_path / name)).lines for name in "ab"]
    assert [one["guid"] for one in shown[0]] == [one["guid"] for one in shown[1]]


async def test_the_same_source_is_the_same_feed(
    show: Show, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = serve(show)
    home = tmp_path / "home"
    keys = {(await run("publish", origin.feed_url, "--once", home=home)).event("ready")["key"] for _ in "12"}
    assert len(keys) == 1
    monkeypatch.chdir(show.folder)
    for source in ("feed.xml", "./feed.xml", show.feed, show.feed.as_uri()):
        done = await run("publish", source, "--no-media", "--once", home=home)
        keys.add(done.event("ready")["key"])
    assert len(keys) == 2
    assert {line["key"] for line in (await run("list", home=home)).lines} == keys


@pytest.mark.parametrize(
    ("options", "local"),
    [
        (["--no-media"], [False, False, False, False]),
        (["--latest", "1"], [True, False, False, False]),
        (["--since", "2024-01-15"], [True, True, False, False]),
        ([], [True, True, True, True]),
    ],
    ids=str,
)
async def test_a_publisher_chooses_what_is_mirrored(
    options: list[str], local: list[bool], local_show: Show, tmp_path: Path
) -> None:
    done = await run("publish", local_show.feed, *options, "--once", home=tmp_path / "home")
    assert done.event("published")["episodes"] == 4
    assert await kept(tmp_path / "home") == local
    if not all(local):
        done = await run("publish", local_show.feed, "--all", "--once", home=tmp_path / "home")
        assert (done.event("published")["new"], done.event("published")["unchanged"]) == (0, False)
        assert await kept(tmp_path / "home") == [True] * 4


async def test_a_follower_chooses_what_is_kept(local_show: Show, start: Start, tmp_path: Path) -> None:
    publisher = await start(
        "publish", local_show.feed, "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    await publisher.event("published")
    link = (await publisher.event("ready"))["link"]
    for name, options, local in (
        ("new", [], [True, True, True, False]),
        ("b", ["--on-demand"], [False] * 4),
        ("b", ["--latest", "1"], [True, False, False, False]),
        ("b", [], [True, False, False, False]),  # it stays so
        ("b", ["--all"], [True] * 4),
    ):
        home = tmp_path / name
        synced = (await run("follow", link, *options, "--once", home=home)).event("synced")
        assert await kept(home) == local
        assert synced["episodes"] == 4
        assert synced["media_files"] == 1 + 4 * sum(local)  # the cover, and four files of each episode
        (status,) = (await run("status", home=home)).lines
        assert status["local_bytes"] == synced["bytes"]

    home = tmp_path / "c"
    follower = await start("follow", link, "--latest", "0", "--http", "127.0.0.1:0", home=home)
    await follower.event("synced")
    episodes = await served((await follower.event("ready"))["feed_url"])
    assert len(episodes) == 4
    assert await download(episodes[OLDEST]) == local_show.episodes[0]["sha256"]
    shown = (await run("show", SLUG, home=home)).lines
    enclosed = [next(one for one in line["assets"] if one["role"] == "enclosure") for line in shown]
    assert enclosed[OLDEST]["sha256"] == local_show.episodes[0]["sha256"]
    (status,) = (await run("status", home=home)).lines
    assert 200_000 <= status["local_bytes"] < 210_000


async def test_a_name_of_the_users_choice(local_show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = await run("publish", local_show.feed, "--name", "Grüße & Co", "--no-media", "--once", home=home)
    assert "name=Gr%C3%BC%C3%9Fe%20%26%20Co" in done.event("ready")["link"]
    (listed,) = (await run("list", home=home)).lines
    assert listed["title"] == "Grüße & Co"
    for name in (listed["slug"], listed["title"], listed["key"], f"p2prss://{listed['key']}"):
        assert len(await kept(home, name)) == 4


async def test_removing_a_feed_removes_its_bytes_and_nothing_else(
    local_show: Show, show: Show, serve: Serve, start: Start, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    first = (await run("publish", local_show.feed, "--once", home=home)).event("published")["key"]
    origin = serve(show)
    second = (await run("publish", origin.feed_url, "--once", home=home)).event("published")["key"]
    refused = await run("remove", first, home=home, code=2)
    assert "--yes" in refused.error
    node = await start("publish", origin.feed_url, "--http", "127.0.0.1:0", home=home)
    ready = await node.event("ready")
    assert (await run("remove", first, "--yes", home=home, code=6)).error
    assert (await fetch(ready["feed_url"])).status_code == 200
    await node.stop()
    folders = set((home / "cores").iterdir())
    (removed,) = (await run("remove", first, "--yes", home=home)).lines
    assert removed["key"] == first
    assert len(folders - set((home / "cores").iterdir())) == 2
    assert [line["key"] for line in (await run("list", home=home)).lines] == [second]
    assert (await run("verify", home=home)).lines[-1]["ok"]
    assert await kept(home, second) == [True] * 4
    assert (await run("show", first, home=home, code=2)).error


async def test_a_home_that_is_new_is_empty_and_stays_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    for command in ("list", "status", "verify"):
        assert (await run(command, home=home)).stdout == ""
    talk = await run("list", home=home, as_json=False)
    assert "p2prss publish" in talk.stderr
    assert (await run("show", "nothing", home=home, code=2)).error
    assert not home.exists()


async def test_where_a_home_is(tmp_path: Path) -> None:
    """The option comes before the variable, and that before the platform's place."""
    places = {"HOME": str(tmp_path / "user"), "P2PRSS_HOME": str(tmp_path / "named")}
    (option,) = (await run("paths", home=tmp_path / "option", environ=places)).lines
    (variable,) = (await run("paths", environ=places)).lines
    (platform,) = (await run("paths", environ=places | {"P2PRSS_HOME": ""})).lines
    assert [option["home"], variable["home"]] == [str(tmp_path / "option"), places["P2PRSS_HOME"]]
    assert Path(platform["home"]).is_relative_to(tmp_path / "user")
