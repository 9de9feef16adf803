"""What can go wrong in front of the program: one line names the cause, the exit code is the documented one,
and nothing is lost.
"""

import sqlite3
from pathlib import Path
from typing import Final

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, run
from tests.e2e.show import Show, hashes_of

KEY = "yuhj5d6dzxbqyiibpe1rcpc7iixgysinwk5kni1situchzhtyr4y"
NO_PEER = "127.0.0.1:9"  # nobody listens there
FEED = '<?xml version="1.0"?><rss version="2.0"><channel><title>A</title><item><title>B</title><guid>b</guid>'


async def test_no_home_is_made_for_what_makes_no_sense(tmp_path: Path) -> None:
    for arguments in (["follow", "nonsense"], ["publish", "http://"], ["seed", KEY, "x"]):
        await run(*arguments, home=tmp_path / "home", code=2)
    assert not (tmp_path / "home").exists()


NO_FEEDS: Final[dict[str, bytes | None]] = {
    "not XML": b"hello\n",
    "web page": b"<!DOCTYPE html><html><head><title>Login</title></head><body></body></html>",
    "empty": b"",
    "it is not XML": bytes(range(256)) * 20,
    "lists no feeds": b'<opml version="2.0"><head/><body/></opml>',
    "does not exist": None,
}


async def test_files_that_are_no_feeds(tmp_path: Path) -> None:
    source, home = tmp_path / "feed.xml", tmp_path / "home"
    for cause, content in NO_FEEDS.items():
        if content is None:
            source.unlink()
        else:
            source.write_bytes(content)
        done = await run("publish", source, "--once", home=home, code=1)
        assert cause in done.error
    assert (await run("list", home=home)).lines == []
    source.write_text(f"{FEED}</item></channel></rss>")
    told = (await run("publish", source, "--once", home=home)).event("published")
    assert told["new"] == 1
    source.write_bytes(b"")  # and what has been published stays when the file goes bad
    done = await run("publish", source, "--once", home=home, code=1)
    assert done.event("ready")["key"] == told["key"]
    (status,) = (await run("status", home=home)).lines
    assert (status["version"], status["episodes"]) == (told["version"], 1)


NO_ORIGINS: Final = [
    ("status=404", 3, "404 Not Found"),
    ("status=410", 3, "410 Gone"),
    ("auth=ada:secret", 3, "401"),
    ("swap=cover.png type=text/html", 1, "no feed"),
    ("redirect=302 to={path}", 3, "redirects in a circle"),
    ("redirect=302 to=file:///etc/passwd", 3, "neither http nor https"),
    ("status=503 retry-after=86400", 75, "503"),
]


async def test_origins_that_give_no_feed(show: Show, serve: Serve, tmp_path: Path) -> None:
    origin, home = serve(show), tmp_path / "home"
    for rule, code, cause in NO_ORIGINS:
        origin.set_rules([f"/feed.xml {rule}"])
        done = await run("publish", origin.feed_url, "--once", home=home, code=code)
        assert cause in done.error
    assert (await run("list", home=home)).lines == []
    origin.set_rules([])
    told = (await run("publish", origin.feed_url, "--once", home=home)).event("published")
    assert told["failed"] == 0
    for rule, code, _ in NO_ORIGINS[::3]:
        origin.set_rules([f"/feed.xml {rule}"])
        done = await run("publish", origin.feed_url, "--once", home=home, code=code)
        assert done.event("ready")["key"] == told["key"]
    (status,) = (await run("status", home=home)).lines
    assert (status["version"], status["local_bytes"]) == (told["version"], told["bytes"])


async def test_an_origin_that_nobody_can_reach(tmp_path: Path) -> None:
    done = await run("publish", f"http://{NO_PEER}/feed.xml", "--once", home=tmp_path / "home", code=3)
    assert f"http://{NO_PEER}/feed.xml" in done.error


async def test_nobody_who_has_the_feed(show: Show, start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    quick = ("--once", "--timeout", "1")
    done = await run("follow", KEY, *quick, "--no-http", home=home, code=3)
    assert "--peer" in done.error
    done = await run("follow", KEY, *quick, "--peer", NO_PEER, "--no-http", home=home, code=3)
    assert f"cannot connect to {NO_PEER}: connection refused" in done.error
    publisher = await start(
        "publish", show.feed, "--no-media", "--listen", "127.0.0.1:0", "--no-http", home=tmp_path / "a"
    )
    address = (await publisher.event("ready"))["listen"][0]
    done = await run("seed", KEY, *quick, "--peer", address, home=home, code=3)
    assert "no peer has this feed" in done.error


async def test_a_port_that_is_taken(show: Show, start: Start, tmp_path: Path) -> None:
    one = await start(
        "publish",
        show.feed,
        "--no-media",
        "--listen",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
        home=tmp_path / "a",
    )
    ready = await one.event("ready")
    for option, address in (("--listen", ready["listen"][0]), ("--http", ready["http"].partition("//")[2])):
        done = await run("follow", KEY, option, address, home=tmp_path / "b", code=3)
        assert address in done.error
        assert "in use" in done.error


async def test_a_second_process_on_the_same_home(show: Show, start: Start, tmp_path: Path) -> None:
    home = tmp_path / "home"
    node = await start("publish", show.feed, "--no-media", "--no-http", home=home)
    ready = await node.event("ready")
    for arguments in (
        ["publish", show.feed],
        ["follow", KEY],
        ["seed", KEY],
        ["remove", ready["key"], "--yes"],
    ):
        done = await run(*arguments, home=home, code=6)
        assert str(node.pid) in done.error
    assert len((await run("list", home=home)).lines) == 1


async def test_a_home_of_a_newer_version_is_left_alone(show: Show, tmp_path: Path) -> None:
    home = tmp_path / "home"
    await run("publish", show.feed, "--no-media", "--once", home=home)
    with sqlite3.connect(home / "store.sqlite") as database:
        version = database.execute("PRAGMA user_version").fetchone()[0]
        database.execute(f"PRAGMA user_version = {version + 1}")
    database.close()
    before = await hashes_of(path for path in home.rglob("*") if path.name == "data")
    for arguments in (["list"], ["publish", show.feed, "--once"], ["verify"], ["remove", "x", "--yes"]):
        done = await run(*arguments, home=home, code=1)
        assert f"schema {version + 1}" in done.error
    assert await hashes_of(path for path in home.rglob("*") if path.name == "data") == before


async def test_a_home_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    done = await run("follow", KEY, "--once", home=tmp_path / "home", code=5)
    assert str(tmp_path / "home") in done.error


async def test_a_reader_that_goes_away_ends_the_program_quietly(show: Show, tmp_path: Path) -> None:
    command = ["sh", "-c", '"$@" | true', "sh"]
    done = await run(
        "publish", show.feed, "--no-media", home=tmp_path / "home", prefix=command, as_json=False
    )
    assert "Traceback" not in done.stderr
    assert "rror" not in done.stderr
