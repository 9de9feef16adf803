"""Fetching from origins that behave, and from those that do not."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
import trio

from p2prss.errors import FetchError, TryAgainError
from p2prss.feed.origin.address import is_public
from p2prss.feed.origin.fetch import USER_AGENT, Fetched, Fetcher, Retries, Validators
from p2prss.feed.origin.url import public_url, redact
from p2prss.units import MIB
from tests.fakes.quiet_origin import QuietOrigin as Origin

SIZE = 300_000
BODY = b"ID3\x04" + Random(1).randbytes(SIZE - 4)
QUICK = Retries(attempts=3, first_wait_seconds=0.01, max_wait_seconds=2, random=Random(1))


@pytest.fixture
def origin(tmp_path: Path) -> Iterator[Origin]:
    root = tmp_path / "origin"
    root.mkdir()
    (root / "a.mp3").write_bytes(BODY)
    (root / "page.html").write_bytes(b"<!doctype html><html><body>Sign in")
    with Origin(root) as server:
        yield server


async def fetch(
    origin: Origin,
    tmp_path: Path,
    path: str = "/a.mp3",
    *,
    source: str = "",
    max_bytes: int = MIB,
    **options: object,
) -> Fetched:
    async with Fetcher(source or origin.feed_url) as fetcher:
        return await fetcher.fetch(
            path if "://" in path else origin.url + path,
            tmp_path / "body",
            max_bytes=max_bytes,
            **{"retries": QUICK, **options},  # type: ignore[arg-type]
        )


def assert_whole(found: Fetched) -> None:
    assert found.path.read_bytes() == BODY
    assert (found.byte_length, found.sha256) == (SIZE, hashlib.sha256(BODY).hexdigest())
    assert found.head == BODY[:512]


async def test_a_body_goes_to_a_file_with_its_hash(origin: Origin, tmp_path: Path) -> None:
    found = await fetch(origin, tmp_path)
    assert_whole(found)
    assert found.mime_type == "audio/mpeg"
    assert origin.hits[0].headers["user-agent"] == USER_AGENT
    assert origin.hits[0].headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("rule", "requests"),
    [
        ("*.mp3 cut=40% times=1", 2),
        ("*.mp3 cut=40% times=2 no-etag", 3),
        ("*.mp3 cut=40% times=2 no-range", 3),
        ("*.mp3 cut=40% times=2 no-etag no-modified", 3),
        ("*.mp3 cut=40% times=2 weak-etag", 3),
        ("*.mp3 cut=100 every=1 ranged=no", 2),
        ("*.mp3 reset times=2", 3),
        ("*.mp3 status=503 retry-after=0 times=2", 3),
        ("*.mp3 status=503 retry-after=date:0 times=1", 2),
        ("*.mp3 status=429 times=1", 2),
        ("*.mp3 status=500 times=1", 2),
        ("*.mp3 length=chunked", 1),
        ("*.mp3 length=none", 1),
        ("*.mp3 length=+1000 times=1", 2),
        ("*.mp3 gzip=force", 1),
        ("*.mp3 delay=0.01", 1),
    ],
)
async def test_moods_of_an_origin_do_not_change_the_file(
    origin: Origin, tmp_path: Path, rule: str, requests: int
) -> None:
    origin.set_rules([rule])
    assert_whole(await fetch(origin, tmp_path))
    assert origin.count("/a.mp3") == requests


async def test_a_broken_body_is_resumed_not_fetched_again(origin: Origin, tmp_path: Path) -> None:
    origin.set_rules(["*.mp3 cut=100000"])  # every time: four requests, each of which brings something
    assert_whole(await fetch(origin, tmp_path))
    assert sum(hit.sent for hit in origin.hits) == SIZE
    assert [hit.headers.get("range") for hit in origin.hits] == [None, "bytes=100000-", "bytes=200000-"]


async def test_a_resumed_file_that_changed_is_fetched_anew(origin: Origin, tmp_path: Path) -> None:
    origin.set_rules(["*.mp3 cut=40% times=1", "*.mp3 dai=5000"])
    (origin.root / "a.mp3").write_bytes(b"\xff\xfb\x90\x00" + bytes(413) * 700)
    found = await fetch(origin, tmp_path)
    assert hashlib.sha256(found.path.read_bytes()).hexdigest() == found.sha256
    assert origin.hits[-1].status == 200


@pytest.mark.parametrize(
    ("rule", "error", "text"),
    [
        ("*.mp3 status=404", FetchError, "404"),
        ("*.mp3 status=410", FetchError, "410"),
        ("*.mp3 auth=ada:secret", FetchError, "401"),
        ("*.mp3 status=500", FetchError, "500"),
        ("*.mp3 status=503", TryAgainError, "503"),
        ("*.mp3 status=429 retry-after=3600", TryAgainError, "wait 3600 s"),
        ("*.mp3 redirect=302 to={path}?n={n}", FetchError, "more than 10"),
        ("*.mp3 redirect=302 to={path}?{query}", FetchError, "in a circle"),
        ("*.mp3 redirect=302 to=ftp://a.example/", FetchError, "neither http nor https"),
        ("*.mp3 redirect=302 to=http://127.0.0.1:9/", FetchError, "local network"),
        ("*.mp3 swap=page.html type=text/html", FetchError, "web page"),
        ("*.mp3 swap=page.html type=audio/mpeg", FetchError, "web page"),
        ("*.mp3 cut=40% no-range", FetchError, "broke off"),
        ("*.mp3 reset", FetchError, "broke off"),
        ("*.mp3 header=Content-Encoding:br", FetchError, "encoded as 'br'"),
        ("*.mp3 length=chunked header=Content-Encoding:gzip", FetchError, "gzip"),
    ],
)
async def test_what_cannot_be_had_is_an_error_of_one_line(
    origin: Origin, tmp_path: Path, rule: str, error: type[Exception], text: str
) -> None:
    origin.set_rules([rule])
    with pytest.raises(error) as caught:
        await fetch(origin, tmp_path, "/a.mp3?token=geheim", refuse_html=True)
    assert text in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("rule", ["", "*.mp3 length=chunked", "*.mp3 gzip=force"])
async def test_the_size_limit_holds_while_reading(origin: Origin, tmp_path: Path, rule: str) -> None:
    origin.set_rules([rule] if rule else [])
    with pytest.raises(FetchError, match="larger than"):
        await fetch(origin, tmp_path, max_bytes=SIZE - 1)
    assert_whole(await fetch(origin, tmp_path, max_bytes=SIZE))


async def test_redirects_are_recorded_and_permanent_ones_told(origin: Origin, tmp_path: Path) -> None:
    origin.set_rules(["/1 redirect=301 to=/2", "/2 redirect=308 to=/3", "/3 redirect=302 to=/a.mp3"])
    found = await fetch(origin, tmp_path, "/1")
    assert_whole(found)
    assert found.url == origin.url + "/a.mp3"
    assert [status for status, _ in found.redirects] == [301, 308, 302]
    assert found.moved_to == origin.url + "/3"


async def test_trackers_are_followed(origin: Origin, tmp_path: Path) -> None:
    assert_whole(await fetch(origin, tmp_path, "/track/1/track/2/a.mp3"))


async def test_a_feed_is_asked_for_only_if_it_changed(origin: Origin, tmp_path: Path) -> None:
    first = await fetch(origin, tmp_path, compressed=True)
    again = await fetch(origin, tmp_path, validators=first.validators)
    assert again.not_modified
    assert (await fetch(origin, tmp_path, validators=Validators('"other"'))).byte_length == SIZE


async def test_credentials_go_to_the_source_only(origin: Origin, tmp_path: Path) -> None:
    origin.set_rules(["*.mp3 auth=ada:s@cret"])
    source = origin.feed_url.replace("//", "//ada:s%40cret@")
    assert_whole(await fetch(origin, tmp_path, source=source))
    with Origin(origin.root) as other:
        origin.set_rules([f"/away redirect=302 to={other.url}/a.mp3"])
        with pytest.raises(FetchError, match="local network"):
            await fetch(origin, tmp_path, "/away", source=source)
        assert not other.hits


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/a",
        "http://127.0.0.1:1/a",
        "http://[::1]/a",
        "http://[::ffff:127.0.0.1]/",
        "http://2130706433/",
        "http://0x7f.1/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[fe80::1]/",
        "http://[64:ff9b::7f00:1]/",
    ],
)
async def test_a_feed_cannot_lead_to_the_local_network(origin: Origin, tmp_path: Path, url: str) -> None:
    with pytest.raises(FetchError, match=r"local network|no connection"):
        await fetch(origin, tmp_path, url, retries=Retries(attempts=1))
    assert not origin.hits


@pytest.mark.parametrize(
    "url",
    ["javascript:1", "ftp://a/b", "http://", "magnet:?x", "/etc/passwd", "http://[", "http://a:99999/", ""],
)
async def test_other_addresses_are_not_fetched(origin: Origin, tmp_path: Path, url: str) -> None:
    async with Fetcher(origin.feed_url) as fetcher:
        with pytest.raises(FetchError):
            await fetcher.fetch(url, tmp_path / "body", max_bytes=MIB, retries=QUICK)


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("ff0e::1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("2001:0:1::", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("fe80::1%eth0", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


async def test_at_most_two_connections_to_a_host(origin: Origin, tmp_path: Path) -> None:
    origin.set_rules(["* delay=0.1"])
    async with Fetcher(origin.feed_url) as fetcher, trio.open_nursery() as nursery:
        for number in range(4):

            async def one(path: Path = tmp_path / f"body{number}") -> None:
                await fetcher.fetch(origin.url + "/a.mp3", path, max_bytes=MIB)

            nursery.start_soon(one)
    begun = sorted(hit.begun for hit in origin.hits)
    assert begun[2] - begun[1] > 0.05


async def test_a_silent_origin_is_left(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2prss.feed.origin.session.SILENCE_SECONDS", 0.2)
    origin.set_rules(["*.mp3 stall=50% hold=1"])
    with pytest.raises(FetchError, match="in time"):
        await fetch(origin, tmp_path, retries=Retries(attempts=1))


async def test_local_files_next_to_a_local_source(tmp_path: Path) -> None:
    show = tmp_path / "show"
    (show / "media").mkdir(parents=True)
    (show / "media/a.mp3").write_bytes(BODY)
    (tmp_path / "secret").write_text("x")
    (show / "link").symlink_to(tmp_path / "secret")
    (show / "inner").symlink_to(show / "media/a.mp3")
    async with Fetcher(str(show / "feed.xml")) as fetcher:
        base = fetcher.source_url
        assert base.startswith("file:///")
        base = base.removesuffix("feed.xml")
        for name in ("media/a.mp3", "inner"):
            assert_whole(await fetcher.fetch(base + name, tmp_path / "body", max_bytes=MIB))
        for name in ("../secret", "%2e%2e/secret", "link", "media", "none", "media%00", "/etc/passwd"):
            with pytest.raises(FetchError):
                await fetcher.fetch(base + name, tmp_path / "body", max_bytes=MIB)
        with pytest.raises(FetchError, match="larger than"):
            await fetcher.fetch(base + "media/a.mp3", tmp_path / "body", max_bytes=10)


async def test_a_remote_feed_names_no_local_files(origin: Origin, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="local files"):
        await fetch(origin, tmp_path, "file:///etc/passwd")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@a.example:8443/x/feed.xml?token=1#f", "https://a.example:8443/x/feed.xml"),
        ("http://[::1]:80/", "http://[::1]:80/"),
        ("http://[", "an unreadable address"),
    ],
)
def test_no_secrets_are_shown(url: str, shown: str) -> None:
    assert redact(url) == shown


@pytest.mark.parametrize(
    ("url", "public"),
    [
        ("https://u:p@a.example/feed?id=7&access_token=1#f", "https://a.example/feed?id=7"),
        ("https://a.example/?feed=podcast&page=2", "https://a.example/?feed=podcast&page=2"),
        ("http://[", ""),
    ],
)
def test_what_strangers_may_see_of_an_address(url: str, public: str) -> None:
    assert public_url(url) == public
