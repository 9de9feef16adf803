"""What becomes of an origin's every mood: the table of spec/08-feeds, "Fetching from origins".

Each case mirrors a whole small show from an origin that follows rules, and reads the origin's log of hits:
what was asked for, how, how often, and by how many connections at a time.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
import trio

from p2prss.errors import FeedFormatError, GoneError, OriginBusyError, P2prssError, RefusedError
from p2prss.feed.mirroring.report import FeedMoved, MirrorReport
from p2prss.feed.origin.access import Access
from p2prss.feed.origin.fetch import Fetcher, Retries
from p2prss.feed.origin.session import CONNECTIONS_PER_HOST
from p2prss.units import MB, MIB
from tests.fakes.quiet_origin import QuietOrigin
from tests.fakes.studio import QUICK, Studio
from tests.tools.podcast.request import Hit
from tests.tools.podcast.show import make_podcast
from tests.tools.podcast.spec import Spec

EPISODES = 4
DELAY = 0.1  # seconds
SPEC = Spec(episodes=EPISODES, megabytes=0.15, cover_side=32)


@pytest.fixture
def show(tmp_path: Path) -> Path:
    make_podcast(tmp_path / "show", SPEC)
    return tmp_path / "show"


@pytest.fixture
def origin(show: Path) -> Iterator[QuietOrigin]:
    with QuietOrigin(show) as server:
        yield server


def feed_hits(origin: QuietOrigin, path: str = "*.xml") -> list[Hit]:
    suffix = path.removeprefix("*")
    return [hit for hit in origin.hits if hit.path.endswith(suffix)]


async def held(studio: Studio) -> set[str]:
    """The SHA-256 of the media that is in the drive, from its bytes."""
    found = set()
    async for entry in studio.drive.list("/media"):
        found.add(hashlib.sha256(await studio.drive.get(entry.path) or b"").hexdigest())
    return found


def audio(show: Path) -> set[str]:
    return {one["sha256"] for one in json.loads((show / "manifest.json").read_text())["episodes"]}


def most_at_once(hits: list[Hit], delay: float) -> int:
    """How many requests were under way at the same time, when each waits that long for its answer.

    The time after that does not count: a client may have its answer before the server has noted the end.
    """
    moments = [(hit.begun, 1) for hit in hits] + [(hit.begun + delay, -1) for hit in hits]
    now = most = 0
    for _, step in sorted(moments):
        now += step
        most = max(most, now)
    return most


# ---- the feed


@dataclass(frozen=True)
class FeedCase:
    """An error's kind and words, or none; and how many requests for feeds that took."""

    rules: tuple[str, ...]
    requests: int
    error: type[P2prssError] | None = None
    text: str = ""
    moved: str = ""


LOOP = tuple(f"/{name}.xml redirect=302 to=/{there}.xml" for name, there in (("feed", "a"), ("a", "feed")))
FEED_CASES = {
    "301": FeedCase(("/feed.xml redirect=301 to=/b.xml", "/b.xml swap=feed.xml"), 2, moved="/b.xml"),
    "308": FeedCase(("/feed.xml redirect=308 to=/b.xml", "/b.xml swap=feed.xml"), 2, moved="/b.xml"),
    "302": FeedCase(("/feed.xml redirect=302 to=/b.xml", "/b.xml swap=feed.xml"), 2),
    "303": FeedCase(("/feed.xml redirect=303 to=/b.xml", "/b.xml swap=feed.xml"), 2),
    "307": FeedCase(("/feed.xml redirect=307 to=/b.xml", "/b.xml swap=feed.xml"), 2),
    "302 then 301": FeedCase(
        ("/feed.xml redirect=302 to=/a.xml", "/a.xml redirect=301 to=/b.xml", "/b.xml swap=feed.xml"), 3
    ),
    "redirect loop": FeedCase(LOOP, 2, RefusedError, "in a circle"),
    "redirect to itself": FeedCase(("/feed.xml redirect=301 to={path}",), 1, RefusedError, "in a circle"),
    "endless redirects": FeedCase(
        ("*.xml redirect=302 to=/feed.xml?{n}",), 11, RefusedError, "more than 10 times"
    ),
    "401": FeedCase(("*.xml auth=ada:x",), 1, RefusedError, "401 Unauthorized: it wants credentials"),
    "403": FeedCase(("*.xml status=403",), 1, RefusedError, "403 Forbidden: it does not let us in"),
    "404": FeedCase(
        ("*.xml status=404",), 1, RefusedError, "404 Not Found: there is nothing at this address"
    ),
    "410": FeedCase(("*.xml status=410",), 1, GoneError, "410 Gone: it is gone for good"),
    "429": FeedCase(("*.xml status=429 retry-after=3600",), 1, OriginBusyError, "asks to wait 3600 s"),
    "429 once": FeedCase(("*.xml status=429 retry-after=0 times=1",), 2),
    "429 until a date": FeedCase(("*.xml status=429 retry-after=date:3600",), 1, OriginBusyError, "to wait"),
    "503": FeedCase(("*.xml status=503",), 3, OriginBusyError, "503"),
    "500": FeedCase(("*.xml status=500",), 3, P2prssError, "500 Internal Server Error"),
    "500 once": FeedCase(("*.xml status=500 times=1",), 2),
    "reset": FeedCase(("*.xml reset",), 3, P2prssError, "broke off"),
    "cut body": FeedCase(("*.xml cut=40% times=1",), 2),
    "cut body always": FeedCase(("*.xml cut=40% no-range",), 3, P2prssError, "broke off"),
    "longer than said": FeedCase(("*.xml length=-100",), 1),  # its end is missing, and mended
    "shorter than said": FeedCase(("*.xml length=+100 times=1",), 2),
    "html": FeedCase(("*.xml swap=page.html type=text/html",), 1, FeedFormatError, "web page"),
    "audio": FeedCase(("*.xml swap=media/ep0001.mp3 type=text/xml",), 1, FeedFormatError, "audio file"),
    "endless body": FeedCase(("*.xml endless",), 1, RefusedError, "larger than the limit of 25000000 bytes"),
    "gzip bomb": FeedCase(("*.xml bomb=60000000",), 1, RefusedError, "larger than the limit"),
    "announced too large": FeedCase(("*.xml length=+30000000",), 1, RefusedError, "larger than the limit"),
    "endless headers": FeedCase(
        (f"*.xml header=X-Long:{'x' * 600000}",),
        1,
        RefusedError,
        "headers",
    ),
    "no feed at a redirect": FeedCase(("*.xml redirect=302 to=/nothing",), 1, RefusedError, "404"),
}


@pytest.mark.parametrize("case", FEED_CASES.values(), ids=FEED_CASES)
async def test_what_becomes_of_a_feed(
    origin: QuietOrigin, studio: Studio, show: Path, case: FeedCase
) -> None:
    (show / "page.html").write_text("<!doctype html><html><body>Sign in</body></html>")
    origin.set_rules(case.rules)
    update = partial(studio.update, origin.feed_url)
    if case.error is None:
        report = await update()
        assert report.episodes == EPISODES
        assert report.moved_to == (origin.url + case.moved if case.moved else "")
        assert len(feed_hits(origin)) == case.requests
        origin.clear_hits()
        await update()  # asks where the feed is now, and no more
        (hit, *rest) = feed_hits(origin)
        assert hit.path == (case.moved or "/feed.xml")
        assert not case.moved or not rest
    else:
        with pytest.raises(case.error) as caught:
            await update()
        assert case.text in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(feed_hits(origin)) == case.requests
        assert studio.drive.version <= 1


@pytest.mark.parametrize(
    ("rule", "asked"), [("* delay=0", "if-none-match"), ("* no-etag", "if-modified-since")]
)
async def test_an_unchanged_feed_costs_one_conditional_request_and_writes_nothing(
    origin: QuietOrigin, studio: Studio, rule: str, asked: str
) -> None:
    origin.set_rules([rule])
    await studio.update(origin.feed_url)
    lengths = studio.db.length, studio.blobs.length
    origin.clear_hits()
    report = await studio.update(origin.feed_url)
    (hit,) = origin.hits
    assert (hit.status, hit.path) == (304, "/feed.xml")
    assert asked in hit.headers
    assert not report.wrote
    assert (studio.db.length, studio.blobs.length) == lengths


async def test_without_validators_an_unchanged_feed_is_read_but_writes_nothing(
    origin: QuietOrigin, studio: Studio
) -> None:
    origin.set_rules(["*.xml no-etag no-modified"])
    await studio.update(origin.feed_url)
    lengths = studio.db.length, studio.blobs.length
    origin.clear_hits()
    assert not (await studio.update(origin.feed_url)).wrote
    assert [hit.status for hit in origin.hits] == [200]
    assert (studio.db.length, studio.blobs.length) == lengths


async def test_a_feed_that_trickles_is_given_up(
    origin: QuietOrigin, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2prss.feed.mirroring.origin_feed.FEED_SECONDS", 0.3)
    origin.set_rules(["*.xml rate=2000"])
    with pytest.raises(RefusedError, match=r"takes longer than 0 s"):
        await studio.update(origin.feed_url)


# ---- moves that the feed itself tells of


def announce(show: Path, name: str, target: str) -> None:
    text = (show / "feed.xml").read_text()
    text = text.replace("<item>", f"<itunes:new-feed-url>{target}</itunes:new-feed-url><item>", 1)
    (show / name).write_text(text)


async def test_a_move_that_the_feed_tells_of_is_followed_and_kept(
    origin: QuietOrigin, studio: Studio, show: Path
) -> None:
    announce(show, "feed.xml", f"{origin.url}/b.xml")
    announce(show, "b.xml", f"{origin.url}/b.xml")
    origin.set_rules(["/feed.xml status=410 after=1"])
    report = await studio.update(origin.feed_url)
    assert report.moved_to == f"{origin.url}/b.xml"
    assert FeedMoved(f"{origin.url}/b.xml") in studio.events
    origin.clear_hits()
    assert not (await studio.update(origin.feed_url)).wrote
    assert [(hit.path, hit.status) for hit in origin.hits] == [("/b.xml", 304)]


@pytest.mark.parametrize(
    ("target", "problem"),
    [("/b.xml", "in a circle"), ("/none.xml", "404"), ("/page.html", "web page"), ("http://[::1]/", "local")],
)
async def test_a_move_that_leads_nowhere_is_not_followed(
    origin: QuietOrigin, studio: Studio, show: Path, target: str, problem: str
) -> None:
    (show / "page.html").write_text("<!doctype html><html><body>For sale</body></html>")
    announce(show, "b.xml", origin.feed_url)
    announce(show, "feed.xml", target if "://" in target else origin.url + target)
    report = await studio.update(origin.feed_url)
    assert (report.episodes, report.moved_to) == (EPISODES, "")
    (told,) = (event for event in studio.events if isinstance(event, FeedMoved))
    assert not told.url
    assert problem in told.problem
    origin.clear_hits()
    await studio.update(origin.feed_url)
    assert [hit.status for hit in feed_hits(origin)] == [304]


async def test_a_document_that_stands_for_a_moved_feed(
    origin: QuietOrigin, studio: Studio, show: Path
) -> None:
    (show / "old.xml").write_text(f"<redirect><newLocation>{origin.feed_url}</newLocation></redirect>")
    (show / "lost.xml").write_text(f"<redirect><newLocation>{origin.url}/none.xml</newLocation></redirect>")
    assert (await studio.update(f"{origin.url}/old.xml")).moved_to == origin.feed_url
    with pytest.raises(FeedFormatError, match="it says that it has moved"):
        await Studio(studio.scratch).update(f"{origin.url}/lost.xml")


# ---- media


@dataclass(frozen=True)
class MediaCase:
    """What a file's failure says, or nothing; and how many requests went to each episode."""

    rules: tuple[str, ...]
    requests: int
    problem: str = ""
    check: Callable[[list[Hit]], bool] = lambda _: True


def resumed(hits: list[Hit]) -> bool:
    """Each later request went on where the one before ended, only if the file was still the same."""
    return all("if-range" in hit.headers and hit.status == 206 for hit in hits[1:])


HOP = "/media/*.mp3 redirect={} to=/track/x{{path}}?{{n}} times=1"
MEDIA_CASES = {
    **{str(code): MediaCase((HOP.format(code),), 2) for code in (301, 302, 303, 307, 308)},
    "401": MediaCase(("*.mp3 auth=ada:x",), 1, "401 Unauthorized"),
    "404": MediaCase(("*.mp3 status=404",), 1, "404 Not Found"),
    "410": MediaCase(("*.mp3 status=410",), 1, "410 Gone"),
    "429": MediaCase(("*.mp3 status=429 retry-after=0 times=1",), 2),
    "429 for long": MediaCase(("*.mp3 status=429 retry-after=9999",), 1, "asks to wait 9999 s"),
    "500": MediaCase(("*.mp3 status=500 times=2",), 3),
    "500 always": MediaCase(("*.mp3 status=500",), 3, "500 Internal Server Error"),
    "slow body": MediaCase(("*.mp3 rate=400000",), 1),
    "cut body": MediaCase(("*.mp3 cut=40% times=1",), 2, check=resumed),
    "cut body, often": MediaCase(("*.mp3 cut=40000",), 4, check=resumed),
    "cut body, no range": MediaCase(
        ("*.mp3 cut=40% times=1", "*.mp3 no-range"), 2, check=lambda hits: hits[1].status == 200
    ),
    "cut body, always and no range": MediaCase(("*.mp3 cut=40% no-range",), 3, "broke off"),
    "cut body, weak etag": MediaCase(
        ("*.mp3 cut=40% times=1", "*.mp3 weak-etag"),
        2,
        check=lambda hits: "," in hits[1].headers["if-range"],  # the date
    ),
    "shorter than said": MediaCase(("*.mp3 length=+1000 times=1",), 2),
    "shorter than said, always": MediaCase(("*.mp3 length=+1000",), 2),
    "no length": MediaCase(("*.mp3 length=none",), 1),
    "html": MediaCase(("*.mp3 swap=page.html type=text/html",), 1, "web page in place of the file"),
    "html that says it is audio": MediaCase(("*.mp3 swap=page.html type=audio/mpeg",), 1, "web page"),
    "empty": MediaCase(("*.mp3 swap=empty",), 1, "empty"),
    "redirect loop": MediaCase(("*.mp3 redirect=302 to={path}",), 1, "in a circle"),
    "gzip unasked": MediaCase(("*.mp3 gzip=force",), 1),
}


@pytest.mark.parametrize("case", MEDIA_CASES.values(), ids=MEDIA_CASES)
async def test_what_becomes_of_media(
    origin: QuietOrigin, studio: Studio, show: Path, case: MediaCase
) -> None:
    (show / "page.html").write_text("<!doctype html><html><body>Sign in</body></html>")
    (show / "empty").write_bytes(b"")
    origin.set_rules(case.rules)
    report = await studio.update(origin.feed_url)
    assert report.episodes == EPISODES
    problems = [one.error for one in report.failures]
    assert len(problems) == (EPISODES if case.problem else 0)
    assert all(case.problem in text and "\n" not in text for text in problems)
    assert bool(audio(show) <= await held(studio)) is not bool(case.problem)
    paths = {hit.path for hit in origin.hits if hit.path.startswith("/media/") and hit.path.endswith(".mp3")}
    assert len(paths) == EPISODES
    for path in paths:
        hits = [hit for hit in origin.hits if hit.path == path]
        assert len(hits) == case.requests, path
        assert case.check(hits), path


async def test_media_with_changing_advertisements_is_whole(
    origin: QuietOrigin, studio: Studio, show: Path
) -> None:
    """A body that breaks off is not completed from another one."""
    origin.set_rules(["*.mp3 dai=9000", "*.mp3 cut=40% times=1"])
    report = await studio.update(origin.feed_url)
    assert not report.failures
    for path in {hit.path for hit in origin.hits if hit.path.endswith(".mp3")}:
        first, second = (hit for hit in origin.hits if hit.path == path)
        assert "if-range" in second.headers
        assert (first.status, second.status) == (200, 200)


@pytest.mark.parametrize(
    ("rule", "text"), [("*.mp3 endless", "larger than"), ("*.mp3 bomb=60000000", "larger than")]
)
async def test_bodies_without_end_stop_at_the_limit(
    origin: QuietOrigin, tmp_path: Path, rule: str, text: str
) -> None:
    origin.set_rules([rule])
    async with Fetcher(origin.feed_url) as fetcher:
        with pytest.raises(RefusedError, match=text):
            await fetcher.fetch(
                f"{origin.url}/media/ep0001.mp3", tmp_path / "body", max_bytes=10 * MB, retries=QUICK
            )
    assert (tmp_path / "body").stat().st_size <= 10 * MB
    assert origin.hits[0].sent < 10 * MB + 20 * MIB  # what lies in buffers on the way


async def test_a_body_that_trickles_is_given_up(
    origin: QuietOrigin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2prss.feed.origin.download.SLOW_SECONDS", 0.2)
    origin.set_rules(["*.mp3 rate=20000"])
    async with Fetcher(origin.feed_url) as fetcher:
        with pytest.raises(RefusedError, match="too slowly"):
            await fetcher.fetch(
                f"{origin.url}/media/ep0001.mp3",
                tmp_path / "body",
                max_bytes=MIB,
                retries=Retries(attempts=1),
            )


async def test_many_downloads_of_several_feeds_share_two_connections(
    origin: QuietOrigin, tmp_path: Path
) -> None:
    origin.set_rules([f"* delay={DELAY}"])
    async with (
        Fetcher(origin.feed_url) as one,
        Fetcher(f"{origin.url}/b.xml") as other,
        trio.open_nursery() as nursery,
    ):
        for number in range(6):
            nursery.start_soon(
                partial((one, other)[number % 2].fetch, max_bytes=MIB, retries=QUICK),
                f"{origin.url}/media/ep{number % EPISODES + 1:04d}.mp3?{number}",
                tmp_path / f"body{number}",
            )
    assert len(origin.hits) == 6
    assert most_at_once(origin.hits, DELAY) <= CONNECTIONS_PER_HOST


async def test_a_mirror_uses_two_connections(origin: QuietOrigin, studio: Studio) -> None:
    origin.set_rules([f"* delay={DELAY}"])
    report = await studio.update(origin.feed_url)
    assert not report.failures
    assert most_at_once(origin.hits, DELAY) <= CONNECTIONS_PER_HOST


# ---- who asks, and with what


async def test_credentials_go_to_the_origin_of_the_source_only(
    origin: QuietOrigin, studio: Studio, show: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other/a.mp3").write_bytes(b"ID3 other")
    with QuietOrigin(tmp_path / "other") as other:
        origin.set_rules([f"/media/ep0001.mp3 redirect=302 to={other.url}/a.mp3"])
        access = Access.of(
            credentials="Authorization: Bearer geheim\nCookie: sid=auch",
            private_hosts=[other.url.removeprefix("http://")],
            user_agent="my-mirror/1",
        )
        report: MirrorReport = await studio.update(origin.feed_url, access=access)
        assert not report.failures
        assert {hit.headers.get("authorization") for hit in origin.hits} == {"Bearer geheim"}
        assert {hit.headers.get("cookie") for hit in origin.hits} == {"sid=auch"}
        assert {hit.headers["user-agent"] for hit in [*origin.hits, *other.hits]} == {"my-mirror/1"}
        (hit,) = other.hits
        assert not {"authorization", "cookie"} & hit.headers.keys()


async def test_credentials_are_for_the_scheme_and_port_as_well(origin: QuietOrigin) -> None:
    fetcher = Fetcher("https://a.example/feed", replace(Access(), credentials=(("cookie", "x=1"),)))
    given = fetcher._session.credentials_for
    assert given("https://A.example:443/other") == {"cookie": "x=1"}
    for url in ("http://a.example/", "https://a.example:444/", "https://b.a.example/", "https://a.example./"):
        assert not given(url)
