"""The pages for people: what they show, and what no stranger's text can make of them."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
import trio
import trio.testing

import p2prss.serve
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError, NoPeersError
from p2prss.serve.actions import FeedState, Work
from p2prss.serve.live import MAX_LISTENERS, changes
from p2prss.serve.pages import PAGE_POLICY
from p2prss.serve.views import TINTS, display_host, display_text, format_bytes, sentence
from tests.fakes.memory_actions import MemoryActions
from tests.fakes.memory_drive import KEY, MemoryFeed, Trouble
from tests.serve.conftest import StartServer

AUDIO = b"x" * 1_500_000


class Page(HTMLParser):
    """What a page loads, leads to and says."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())

    def values(self, tag: str, attribute: str) -> list[str]:
        return [value for one, name, value in self.attributes if (one, name) == (tag, attribute)]


def hostile_feed() -> MemoryFeed:
    script = "<script>alert(1)</script>"
    svg = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    feed = MemoryFeed(title=f"{script}\u202egnp.exe" + "x" * 5000)
    cover = feed.asset("image", "https://example.org/c.svg", svg, "svg", mime_type="image/svg+xml")
    feed.put_info(title="short", channel_assets=[cover])
    notes = f'{script}<a href="javascript:alert(1)">a</a><img src=x onerror=alert(1)><b>bold</b>'
    for number in range(40):
        enclosure = feed.asset("enclosure", f"https://example.org/{number}.mp3", AUDIO)
        xml = f"<item><guid>{number}</guid><description><![CDATA[{notes}]]></description></item>"
        feed.add(str(number), enclosure, title=f'" onmouseover="alert({number}) {script}', xml=xml)
    return feed


async def test_the_first_page_lists_shows_and_episodes(start_server: StartServer) -> None:
    feed = MemoryFeed(title="Ü & <b>bold</b>", peers=3)
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", AUDIO), title="<img src=x>")
    feed.add("h", title='" onmouseover="alert(1)')
    client = await start_server(feed)
    reply = await client.request("/")
    page = Page(reply.text)
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    assert "Ü & <b>bold</b>" in page.text
    assert "3 peers" in page.text
    assert "1.5 MB" in page.text
    assert "here" in page.words
    assert not any(name.startswith("on") for _, name, _ in page.attributes)
    (path,) = (href for href in page.values("a", "href") if "/episodes/" in href)
    assert len((await client.request(f"/{path.removeprefix('./')}")).body) == len(AUDIO)


async def test_every_page_of_a_hostile_feed_is_harmless(start_server: StartServer) -> None:
    feed = hostile_feed()
    client = await start_server(feed, actions=MemoryActions())
    item_id = (await feed.archive.items())[0].item_id
    for path in ("/", "/shows/a-show", "/shows/a-show?page=2", f"/shows/a-show/{item_id}"):
        reply = await client.request(path)
        page = Page(reply.text)
        assert reply.status == 200, path
        assert reply.headers["content-security-policy"] == PAGE_POLICY
        assert page.tags.count("script") == 1, path
        assert not any(name.startswith("on") or name == "style" for _, name, _ in page.attributes), path
        addresses = [value for _, name, value in page.attributes if name in ("href", "src", "action")]
        assert all(
            re.match(r"(https?://example\.org/|\.{1,2}/|\?page|#|feeds/|shows/|static/|add$)", one)
            for one in addresses
            if not one.startswith(feed.key_text)
        ), addresses
        assert not [one for one in page.values("img", "src") if one.endswith(".svg") and "/assets/" in one]
        assert "\u202e" not in reply.text
        assert len(max(page.words, key=len)) < 1000


async def test_pages_of_a_show(start_server: StartServer) -> None:
    client = await start_server(hostile_feed())
    first, second = [Page((await client.request(f"/shows/a-show?page={n}")).text) for n in (1, 2)]
    assert (first.tags.count("h3"), second.tags.count("h3")) == (30, 10)
    assert "?page=2" in first.values("a", "href")
    assert "?page=1" in second.values("a", "href")
    for query in ("?page=3", "?page=0", "?page=-1", "?page=x", "?page=²", "?page=99999999999"):
        path = f"/shows/a-show{query}".replace("²", "%C2%B2")
        assert (await client.request(path)).status == 404, query
    for path in ("/shows/nothing", "/shows/a-show/0123456789abcdef", "/shows/a-show/..%2f..%2fetc"):
        assert (await client.request(path)).status == 404, path


async def test_an_episode_shows_its_notes_and_only_captured_pictures(start_server: StartServer) -> None:
    feed = MemoryFeed()
    picture = feed.asset("inline", "https://example.org/p.png", b"png", "png", mime_type="image/png")
    notes = '<p>Hi</p><img src="https://example.org/p.png"><img src="https://example.org/t.gif">'
    xml = f"<item><guid>g</guid><description><![CDATA[{notes}]]></description></item>"
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", AUDIO), picture, xml=xml)
    client = await start_server(feed)
    (item,) = await feed.archive.items()
    page = Page((await client.request(f"/shows/{feed.key_text}/{item.item_id}")).text)
    (source,) = (one for one in page.values("img", "src") if "/assets/" in one)
    assert (await client.request(source.replace("../../", "/"))).body == b"png"


async def test_no_page_loads_anything_from_elsewhere_or_has_style_in_it(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    html = (await client.request("/")).text
    assert "style=" not in html
    for name, kind in (
        ("page.css", "text/css"),
        ("page.js", "text/javascript"),
        ("icon.svg", "image/svg+xml"),
    ):
        found = await client.request(f"/static/{name}")
        assert found.headers["content-type"].startswith(kind)
        assert not re.search(rb"https?:(?!//www\.w3\.org/2000/svg\b)|@import|url\(", found.body)
        again = await client.request(f"/static/{name}", If_None_Match=found.headers["etag"])
        assert (again.status, again.body) == (304, b"")


def test_the_script_makes_no_element_from_text() -> None:
    script = (Path(p2prss.serve.__file__).parent / "static" / "page.js").read_text()
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|new Function|srcdoc", script
    )


async def test_a_show_that_is_not_here_yet_is_listed_all_the_same(start_server: StartServer) -> None:
    feed = MemoryFeed()
    feed.drive.troubles["/p2prss.json"] = Trouble(error=NoPeersError("nobody"))
    client = await start_server(feed)
    assert "Looking for somebody" in (await client.request("/")).text
    reply = await client.request("/shows/a-show")
    assert (reply.status, "not here yet" in reply.text) == (200, True)


async def test_a_show_that_hangs_does_not_hold_the_others(
    start_server: StartServer, autojump_clock: trio.testing.MockClock
) -> None:
    slow, other = MemoryFeed(title="Slow"), MemoryFeed(key=CoreKey(b"o" * 32), slug="o", title="Other")
    slow.drive.troubles["/p2prss.json"] = Trouble(wait=True)
    reply = await (await start_server(slow, other)).request("/")
    assert reply.status == 200
    assert "Slow" in reply.text
    assert "0 episodes" in reply.text


async def test_an_empty_library(start_server: StartServer) -> None:
    assert "Nothing to listen to yet" in (await (await start_server()).request("/")).text


async def test_a_show_that_was_taken_back_or_cannot_be_read_says_so(start_server: StartServer) -> None:
    gone, broken = MemoryFeed(title="Gone"), MemoryFeed(key=CoreKey(bytes(32)), slug="b", title="Broken")
    gone.put_info(withdrawn="2026-10-03T00:00:00Z")
    broken.drive.troubles["/p2prss.json"] = Trouble(error=FeedFormatError("this feed has format 9"))
    quiet = FeedState("publish", "p2prss://k", quiet="its publisher has locked it")
    client = await start_server(gone, broken, actions=MemoryActions(states={KEY: quiet}))
    first = Page((await client.request("/")).text).text
    assert "Taken back by its publisher" in first
    assert "It cannot be read: this feed has format 9" in first
    assert (
        "Its publisher has taken this show back on 3 Oct 2026" in (await client.request("/shows/a-show")).text
    )
    assert "Its publisher has locked it." in (await client.request("/shows/a-show")).text
    page = Page((await client.request("/shows/b")).text).text
    assert "It cannot be read: this feed has format 9" in page
    assert "looking for somebody" not in page


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("e.org", "e.org"),
        ("\u0430pple.com", "xn--pple-43d.com"),
        ("m\u00fcnchen.example", "xn--mnchen-3ya.example"),
        ("a\u202eb.org", r"a b.org"),
        ("", ""),
    ],
)
def test_a_host_that_looks_like_another_one_is_told_apart(host: str, shown: str) -> None:
    assert display_host(host) == shown


async def test_static_files_are_kept_for_good_under_the_address_of_their_version(
    start_server: StartServer,
) -> None:
    client = await start_server(MemoryFeed())
    page = (await client.request("/")).text
    for name in ("page.css", "page.js", "icon.svg"):
        (path,) = set(re.findall(rf"\./(static/{re.escape(name)}\?v=[0-9a-f]{{8}})", page))
        assert "immutable" in (await client.request(f"/{path}")).headers["cache-control"]
        for other in (f"/static/{name}", f"/static/{name}?v=00000000"):
            assert (await client.request(other)).headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("the disk is full", "The disk is full"),
        ("no: nothing", "No: nothing"),
        ("example.org does not answer", "example.org does not answer"),
        ("https://example.org: no", "https://example.org: no"),
        ("p2prss is too old", "p2prss is too old"),
        ("--latest is too much", "--latest is too much"),
    ],
)
def test_a_message_begins_as_a_sentence_does(message: str, shown: str) -> None:
    assert sentence(message) == shown


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949_999, "9.9 MB"),
        (9_950_000, "10 MB"),
        (34 * 10**9, "34 GB"),
    ],
)
def test_sizes_have_as_many_digits_as_people_read(size: int, text: str) -> None:
    assert format_bytes(size) == text


async def test_work_and_problems_are_shown(start_server: StartServer) -> None:
    state = FeedState("follow", "p2prss://k", 1_000_000, Work(3_200_000, 12_000_000), "the disk is full")
    client = await start_server(
        MemoryFeed(), actions=MemoryActions(states={KEY: state}, problems=["a <b> c"])
    )
    page = Page((await client.request("/")).text)
    for words in (
        "Fetching 3.2 MB of 12 MB",
        "The disk is full",
        "12 MB used",
        "34 GB free",
        "A <b> c",
    ):
        assert words in page.text
    assert ("progress", "max", "12000000") in page.attributes


@pytest.mark.parametrize("of", ["link", "feed"])
async def test_a_qr_code_is_a_picture_that_runs_nothing(start_server: StartServer, of: str) -> None:
    reply = await (await start_server(MemoryFeed())).request(f"/feeds/a-show/qr.svg?of={of}")
    assert reply.headers["content-type"] == "image/svg+xml"
    assert "sandbox" in reply.headers["content-security-policy"]
    assert {one.tag.partition("}")[2] for one in ElementTree.fromstring(reply.text).iter()} == {"svg", "path"}


async def test_no_other_qr_code(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    assert (await client.request("/feeds/a-show/qr.svg?of=https://e.org")).status == 404


def test_titles_are_one_line_in_their_own_direction() -> None:
    assert display_text(" a\n\tb\u202e c\u2066\x00 ") == "a b c"
    assert len(display_text("x" * 5000)) == 200
    assert display_text(None) == ""


# Colours

TEXT_ON = [
    *(("--ink", "--paper"), ("--soft", "--paper"), ("--accent", "--paper"), ("--danger", "--paper")),
    *(("--ink", "--card"), ("--soft", "--card"), ("--accent", "--card"), ("--accent-ink", "--accent")),
    *(
        ("--danger", "--danger-tinge"),
        ("--soft", "--tinge"),
        ("--accent", "--tinge"),
        ("--paper", "--danger"),
    ),
]


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.2 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
        red, green, blue = [
            part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
        ]
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    light, dark = sorted([luminance(one), luminance(other)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_every_text_stands_out_in_both_schemes() -> None:
    css = (Path(p2prss.serve.__file__).parent / "static" / "page.css").read_text()
    light, dark, *_ = [
        dict(re.findall(r"(--[a-z-]+): (#[0-9a-f]{6});", part)) for part in css.split(":root {")[1:]
    ]
    for scheme in (light, dark):
        for text, ground in TEXT_ON:
            assert contrast(scheme[text], scheme[ground]) >= 4.5, (text, ground, scheme is dark)
    tints = re.findall(r"\.tint-\d \{ background: (#[0-9a-f]{6}); \}", css)
    assert len(tints) == TINTS
    assert all(contrast("#ffffff", tint) >= 4.5 for tint in tints)


# Live


async def read_events(stream: trio.SocketStream, enough: int) -> list[tuple[str, Mapping[str, object]]]:
    data = b""
    with trio.fail_after(10):
        while len(re.findall(rb"^data: .*\n\r?\n", data, re.MULTILINE)) < enough:
            data += await stream.receive_some(65536)
    pattern = re.compile(r"^event: (\w+)\ndata: (.*)$", re.MULTILINE)
    return [(name, json.loads(text)) for name, text in pattern.findall(data.decode())]


async def test_events_tell_what_changed_since_the_last_look(start_server: StartServer) -> None:
    feed, actions = MemoryFeed(peers=1), MemoryActions()
    client = await start_server(feed, actions=actions)
    async with await client.connect() as stream:
        await stream.send_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        ((name, state),) = await read_events(stream, 1)
        assert (name, state["key"], state["peers"], state["done"]) == ("show", feed.key_text, 1, None)
        actions.states[KEY] = FeedState("follow", "", work=Work(1, 2), problem="p")
        ((name, state),) = await read_events(stream, 1)
        assert (name, state["done"], state["total"], state["problem"]) == ("show", 1, 2, "p")
        client.library.shows.clear()
        assert await read_events(stream, 1) == [("removed", {"key": feed.key_text})]
        actions.ending = True
        with trio.fail_after(5):
            while await stream.receive_some(100):
                pass


async def test_only_so_many_listen_and_others_still_get_the_page(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    ask = b"GET /events HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    streams = [await client.connect() for _ in range(MAX_LISTENERS)]
    for stream in streams:
        await stream.send_all(ask)
        await read_events(stream, 1)
    assert (await client.request("/events")).status == 503
    assert (await client.request("/")).status == 200
    for stream in streams:
        await stream.aclose()
    with trio.fail_after(5):
        while (await client.request("/events", "HEAD")).status == 503:
            await trio.testing.wait_all_tasks_blocked(0.05)


def test_nothing_changed_nothing_is_told() -> None:
    assert changes({}, {}) == b""
