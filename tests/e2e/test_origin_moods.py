"""Origins with moods and publishers with secrets, through the real program."""

import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.conftest import Serve
from tests.e2e.program import Start, fetch, run
from tests.e2e.show import SMALL, Show
from tests.fakes.quiet_origin import QuietOrigin

TOKEN = "geheim-token-4711"
FEED = """<rss version="2.0"><channel><title>Tiny</title>
<item><guid>1</guid><title>One</title>{}</item></channel></rss>"""
ENCLOSURE = '<enclosure url="{}/a.mp3" type="audio/mpeg" length="1"/>'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "origin"
    found.mkdir()
    (found / "feed.xml").write_text(FEED.format(""))
    (found / "a.mp3").write_bytes(b"ID3\x04" + bytes(3000))
    return found


def files_with(folder: Path, text: str) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and text.encode() in path.read_bytes())


async def test_a_feed_that_is_gone_is_asked_for_no_more_and_shared_on(
    serve: Serve, start: Start, folder: Path, tmp_path: Path
) -> None:
    origin = serve(folder, "/feed.xml status=410 after=1")
    home = tmp_path / "home"
    program = await start("publish", origin.feed_url, "--interval", "10s", "--http", "127.0.0.1:0", home=home)
    ready = await program.event("ready")
    first = await program.event("waiting")
    assert first["next_look"] is not None
    assert 8 < first["seconds"] < 12
    error = await program.event("error")
    assert "410 Gone: it is gone for good" in error["message"]
    assert error["message"].endswith("the next look is never")
    assert (await program.event("waiting"))["next_look"] is None
    assert (await fetch(ready["feed_url"])).status_code == 200
    (status,) = (await run("status", home=home)).lines
    assert status["source"]["gone"]
    assert status["source"]["next_look"] is None
    told = await run("status", home=home, as_json=False)
    assert "the source is gone for good" in told.stderr
    assert origin.count("/feed.xml") == 2


async def test_a_feed_that_moved_is_told_and_asked_for_there(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    origin = serve(folder, "/old.xml redirect=301 to=/feed.xml?token=x")
    home = tmp_path / "home"
    for times in (1, 0):
        done = await run("publish", f"{origin.url}/old.xml", "--once", home=home)
        assert sum("has moved for good to" in line["message"] for line in done.events("notice")) == times
    assert [hit.path for hit in origin.hits] == ["/old.xml", "/feed.xml", "/feed.xml"]
    (status,) = (await run("status", home=home)).lines
    assert status["source"]["moved_to"] == origin.feed_url  # without what may be a secret


def assert_private(home: Path) -> None:
    """The token is in the home's database, which is for the owner alone, and nowhere else."""
    kept = list(files_with(home, TOKEN))
    assert {path.name for path in kept} <= {"store.sqlite", "store.sqlite-wal"}
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in kept)


@pytest.mark.parametrize(
    ("rule", "code", "words"),
    [
        ("status=429 retry-after=3600", 75, "asks to wait 3600 s"),
        ("status=404", 3, "there is nothing at this address"),
        ("status=410", 3, "it is gone for good"),
        ("auth=ada:x", 3, "it wants credentials"),
        ("swap=a.mp3", 1, "it is an audio file"),
        ("redirect=302 to=http://127.0.0.1:9/", 3, "local network"),
    ],
)
async def test_how_a_publish_that_cannot_begin_ends(
    serve: Serve, folder: Path, tmp_path: Path, rule: str, code: int, words: str
) -> None:
    origin = serve(folder, f"/feed.xml {rule}")
    done = await run("publish", origin.feed_url, "--once", home=tmp_path / "home", code=code)
    assert words in done.error


async def test_credentials_are_for_the_owner_of_the_home(serve: Serve, folder: Path, tmp_path: Path) -> None:
    origin = serve(folder)
    home, file = tmp_path / "home", tmp_path / "credentials"
    home.mkdir(mode=0o755)
    file.write_text(f"Authorization: Bearer {TOKEN}\n")
    file.chmod(0o644)
    publish = ("publish", origin.feed_url, "--once", "--credentials", file)
    assert "chmod 600" in (await run(*publish, "--allow-private", home=home, code=2)).error
    file.chmod(0o600)
    assert "--allow-private" in (await run(*publish, home=home, code=2)).error
    done = await run("-v", *publish, "--allow-private", "--user-agent", "mine/1", home=home)
    assert TOKEN not in done.stdout + done.stderr
    assert_private(home)
    assert {hit.headers["authorization"] for hit in origin.hits} == {f"Bearer {TOKEN}"}
    assert {hit.headers["user-agent"] for hit in origin.hits} == {"mine/1"}


async def test_the_password_of_an_address_is_for_the_owner_of_the_home(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    origin = serve(folder, f"* auth=ada:{TOKEN}")
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    source = origin.feed_url.replace("//", f"//ada:{TOKEN}@")
    done = await run("-v", "publish", source, "--once", "--allow-private", home=home)
    assert TOKEN not in done.stdout + done.stderr
    assert_private(home)
    listed = await run("list", home=home)
    assert TOKEN not in listed.stdout


async def test_hosts_of_the_local_network_are_allowed_by_name(
    serve: Serve, folder: Path, tmp_path: Path
) -> None:
    media = tmp_path / "media"
    media.mkdir()
    (media / "a.mp3").write_bytes(b"ID3\x04" + bytes(3000))
    other = serve(media)
    (folder / "feed.xml").write_text(FEED.format(ENCLOSURE.format(other.url)))
    origin = serve(folder)
    address = other.url.removeprefix("http://")
    publish = ("publish", origin.feed_url, "--once")
    done = await run(*publish, home=tmp_path / "a")
    assert done.event("published")["failed"] == 1
    assert not other.hits
    done = await run(*publish, "--allow-private-host", address, home=tmp_path / "c")
    assert done.event("published")["media_files"] == 1
    allowed = {"P2PRSS_FETCH_ALLOW_PRIVATE": f"nas.local, {address}"}
    done = await run(*publish, home=tmp_path / "b", environ=allowed)
    assert done.event("published")["media_files"] == 1
    assert (
        "is no host"
        in (await run(*publish, "--allow-private-host", "a b", home=tmp_path / "c", code=2)).error
    )


async def test_an_unchanged_show_costs_one_request_and_writes_nothing(serve: Serve, tmp_path: Path) -> None:
    show = Show.make(tmp_path / "show", replace(SMALL, episodes=2))
    origin, home = serve(show), tmp_path / "home"
    first = (await run("publish", origin.feed_url, "--once", home=home)).event("published")
    origin.clear_hits()
    again = (await run("publish", origin.feed_url, "--once", home=home)).event("published")
    assert [(hit.path, hit.status) for hit in origin.hits] == [("/feed.xml", 304)]
    assert (again["version"], again["unchanged"]) == (first["version"], True)


async def test_the_two_kinds_of_private_are_told_apart() -> None:
    text = " ".join((await run("publish", "--help", as_json=False)).stdout.replace("│", " ").split())
    assert (
        "--allow-private <bool> Publish a source that only some may read, with a password or a token." in text
    )
    assert "though it is on the local network" in text


def identities(origin: QuietOrigin) -> set[tuple[str | None, str | None]]:
    return {(hit.headers.get("authorization"), hit.headers.get("user-agent")) for hit in origin.hits}


async def test_what_was_asked_for_is_done_again(
    serve: Serve, start: Start, folder: Path, tmp_path: Path
) -> None:
    origin = serve(folder)
    text = FEED.format(ENCLOSURE.format(origin.url.rstrip("/")))
    (folder / "feed.xml").write_text(text)
    home, file = tmp_path / "home", tmp_path / "credentials"
    file.write_text(f"Authorization: Bearer {TOKEN}\n")
    file.chmod(0o600)
    publish = ("publish", origin.feed_url, "--allow-private")
    options = ("--credentials", file, "--user-agent", "mine/1", "--interval", "1h", "--no-media")
    done = await run(*publish, "--once", *options, home=home)
    assert done.events("published")[-1]["media_files"] == 0
    file.unlink()
    origin.clear_hits()

    seen = await run("-v", "status", home=home, as_json=False)
    assert "when its node runs next" in seen.stdout + seen.stderr

    node = await start("up", "--http", "127.0.0.1:0", home=home)
    ready = await node.event("ready")
    published = await node.event("published")
    assert published["media_files"] == 0
    assert 3000 < (await node.event("waiting"))["seconds"] < 4500
    assert identities(origin) == {(f"Bearer {TOKEN}", "mine/1")}
    token = str((await run("page", home=home)).lines[0]["page"]).partition("token=")[2]
    status = await fetch(f"{ready['http']}/api/v1/status", authorization=f"Bearer {token}")
    assert status.status_code == 200
    assert TOKEN not in status.text
    for command in ("status", "list"):
        told = await run("-v", command, home=home)
        assert TOKEN not in told.stdout + told.stderr
    await node.stop()
    assert TOKEN not in node.stderr + str(node.lines)

    origin.clear_hits()
    done = await run(*publish, "--once", "--all", "--user-agent", "mine/2", home=home)
    assert done.events("published")[-1]["media_files"] == 1
    assert identities(origin) == {(f"Bearer {TOKEN}", "mine/2")}

    origin.clear_hits()
    await run(*publish, "--once", "--forget-options", home=home)
    [(authorization, agent)] = identities(origin)
    assert authorization is None
    assert str(agent).startswith("p2prss/")
