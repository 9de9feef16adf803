"""``feed.xml`` over sockets: windows, URLs, validators, and what is remembered."""

import random
from datetime import UTC, datetime
from xml.etree import ElementTree

import pytest

from p2prss.errors import BlockUnavailableError, NoPeersError
from p2prss.serve import rss, windows
from p2prss.serve.codings import choose_coding
from p2prss.serve.windows import Window
from tests.fakes.memory_drive import MemoryFeed, Trouble
from tests.serve.conftest import Client, Reply, StartServer

ATOM = "{http://www.w3.org/2005/Atom}"
PODCAST = "{https://podcastindex.org/namespace/1.0}"


def url_of(feed: MemoryFeed, query: str = "") -> str:
    return f"/feeds/{feed.key_text}/feed.xml{query}"


def items_of(reply: Reply) -> list[ElementTree.Element]:
    assert reply.status == 200, reply.body
    return ElementTree.fromstring(reply.text).findall("channel/item")


def guids(reply: Reply) -> list[str]:
    return [item.findtext("guid", "") for item in items_of(reply)]


def links(reply: Reply) -> dict[str, str]:
    root = ElementTree.fromstring(reply.text)
    return {link.get("rel", ""): link.get("href", "") for link in root.findall(f"channel/{ATOM}link")}


def path_of(url: str, client: Client) -> str:
    base = f"http://127.0.0.1:{client.port}"
    assert url.startswith(base + "/feeds/"), url
    return url.removeprefix(base)


def show(count: int) -> MemoryFeed:
    feed = MemoryFeed()
    for number in range(count):
        feed.add(f"guid-{number}")
    return feed


async def test_headers_of_a_feed(start_server: StartServer) -> None:
    feed = show(2)
    client = await start_server(feed)
    reply = await client.request(url_of(feed))
    assert reply.headers["content-type"] == "application/rss+xml; charset=utf-8"
    assert reply.is_whole
    assert reply.headers["vary"] == "Accept-Encoding"
    assert "max-age" in reply.headers["cache-control"]
    assert "last-modified" not in reply.headers
    assert reply.headers["etag"].startswith('"')
    head = await client.request(url_of(feed), "HEAD")
    del head.headers["date"], reply.headers["date"]
    assert (head.status, head.headers, head.body) == (200, reply.headers, b"")


@pytest.mark.parametrize(
    ("asked", "coding"), [("gzip", "gzip"), ("br, gzip", "br"), ("br;q=0.1, gzip", "gzip")]
)
async def test_coded_only_for_those_who_ask(start_server: StartServer, asked: str, coding: str) -> None:
    feed = show(50)
    client = await start_server(feed)
    plain = await client.request(url_of(feed))
    assert "content-encoding" not in plain.headers
    for _ in range(2):
        packed = await client.request(url_of(feed), Accept_Encoding=asked)
        assert packed.headers["content-encoding"] == coding
        assert packed.headers["vary"] == "Accept-Encoding"
        assert packed.text == plain.text
        assert packed.is_whole
        assert len(packed.body) < len(plain.body)
        assert packed.headers["etag"] != plain.headers["etag"]
    again = await client.request(url_of(feed), Accept_Encoding=asked, If_None_Match=packed.headers["etag"])
    assert (again.status, again.headers["etag"]) == (304, packed.headers["etag"])


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (None, "identity"),
        ("", "identity"),
        ("identity", "identity"),
        ("gzip", "gzip"),
        ("br", "br"),
        ("br, gzip", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("br;q=0.8, GZIP;q=1.0", "gzip"),
        ("br;q=1.0, GZIP;q=0.8", "br"),
        ("gzip;q=0.5, identity", "identity"),
        ("gzip;q=0.5, identity;q=0.5", "gzip"),
        ("*", "gzip"),
        ("br;q=0, *", "gzip"),
        ("gzip;q=0", "identity"),
        ("gzip;q=0.000", "identity"),
        ("gzip;q=nonsense", "identity"),
        ("gzip;q=2", "identity"),
        ("identity;q=0", "identity"),
        ("x-gzip", "gzip"),
        ("gzipped", "identity"),
        ("*;q=0", "identity"),
        ("*;q=0, gzip", "gzip"),
        ("gzip;q=0, *", "identity"),
    ],
)
def test_accept_encoding(header: str | None, wanted: str) -> None:
    assert choose_coding(header) == wanted


# URLs


async def test_captured_files_get_our_urls_and_others_keep_theirs(start_server: StartServer) -> None:
    feed = MemoryFeed()
    feed.add(
        "both",
        feed.asset("enclosure", "https://example.org/1.mp3", b"captured" * 9, mime_type="audio/mpeg"),
        feed.asset("enclosure", "https://example.org/2.mp3", None),
    )
    client = await start_server(feed)
    (item,) = items_of(await client.request(url_of(feed)))
    ours, theirs = item.findall("enclosure")
    assert theirs.get("url") == "https://example.org/2.mp3"
    assert (ours.get("length"), ours.get("type")) == ("72", "audio/mpeg")
    reply = await client.request(path_of(ours.get("url", ""), client))
    assert (reply.status, reply.body) == (200, b"captured" * 9)
    assert reply.headers["content-length"] == ours.get("length")
    assert reply.headers["content-type"] == ours.get("type")
    alternate = item.find(f"{PODCAST}alternateEnclosure")
    assert alternate is not None
    uris = [source.get("uri", "") for source in alternate.findall(f"{PODCAST}source")]
    assert uris[0] == ours.get("url")
    assert uris[1].startswith(f"hyper://{feed.key_text}/media/")


async def test_pictures_transcripts_and_chapters_get_our_urls(start_server: StartServer) -> None:
    feed = MemoryFeed()
    assets = [
        feed.asset("image", "https://example.org/a.jpg", b"jpeg", "jpg", mime_type="image/jpeg"),
        feed.asset("transcript", "https://example.org/t.vtt", b"WEBVTT", "vtt", mime_type="text/vtt"),
        feed.asset(
            "chapters", "https://example.org/c.json", b"{}", "json", mime_type="application/json+chapters"
        ),
    ]
    xml = (
        '<item xmlns:podcast="https://podcastindex.org/namespace/1.0" '
        'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><title>x</title><guid>g</guid>'
        '<itunes:image href="https://example.org/a.jpg"/>'
        '<podcast:transcript url="https://example.org/t.vtt" type="text/vtt"/>'
        '<podcast:chapters url="https://example.org/c.json" type="application/json+chapters"/></item>'
    )
    feed.add("g", *assets, xml=xml)
    client = await start_server(feed)
    text = (await client.request(url_of(feed))).text
    assert "example.org/a.jpg" not in text
    (item,) = ElementTree.fromstring(text).findall("channel/item")
    for tag, attribute, body in (
        ("{http://www.itunes.com/dtds/podcast-1.0.dtd}image", "href", b"jpeg"),
        (f"{PODCAST}transcript", "url", b"WEBVTT"),
        (f"{PODCAST}chapters", "url", b"{}"),
    ):
        element = item.find(tag)
        assert element is not None
        reply = await client.request(path_of(element.get(attribute, ""), client))
        assert reply.body == body
        assert element.get("type", reply.headers["content-type"]) in reply.headers["content-type"]


async def test_episode_urls_are_ascii_unique_and_stay_through_updates(start_server: StartServer) -> None:
    feed = MemoryFeed()
    seen = datetime(2024, 2, 29, tzinfo=UTC)

    def add(guid: str, title: str) -> None:
        files = [
            feed.asset("enclosure", f"https://example.org/{guid}/{n}.mp3", guid.encode() * n) for n in (1, 2)
        ]
        feed.add(guid, *files, title=title, seen=seen)

    def enclosure_urls(reply: Reply) -> dict[tuple[str, int], str]:
        return {
            (item.findtext("guid", ""), number): enclosure.get("url", "")
            for item in items_of(reply)
            for number, enclosure in enumerate(item.findall("enclosure"))
        }

    for guid in ("/a/b", "ümläut", "same title"):
        add(guid, "Same title")
    client = await start_server(feed)
    before = enclosure_urls(await client.request(url_of(feed)))
    names = {url.rpartition("/")[2] for url in before.values()}
    assert len(names) == len(set(before.values())) == 6
    assert all(url.isascii() and url.endswith(".mp3") for url in before.values())
    add("/a/b", "A corrected title")
    feed.add("one more")
    after = enclosure_urls(await client.request(url_of(feed)))
    assert before.items() <= after.items()


async def test_urls_follow_the_host_of_the_request(start_server: StartServer) -> None:
    feed = show(1)
    client = await start_server(feed)
    one = await client.request(url_of(feed), Host="localhost:1234")
    two = await client.request(url_of(feed), Host="127.0.0.1")
    assert links(one)["self"] == f"http://localhost:1234/feeds/{feed.key_text}/feed.xml"
    assert links(two)["self"] == f"http://127.0.0.1/feeds/{feed.key_text}/feed.xml"
    assert one.headers["etag"] != two.headers["etag"]


async def test_by_its_slug_a_feed_is_the_same(start_server: StartServer) -> None:
    feed = show(1)
    client = await start_server(feed)
    by_slug = await client.request("/feeds/a-show/feed.xml")
    by_key = await client.request(url_of(feed))
    by_hex = await client.request(f"/feeds/{feed.key.hex()}/feed.xml")
    assert by_slug.body == by_key.body == by_hex.body
    assert "access-control-allow-origin" not in by_slug.headers
    assert by_key.headers["access-control-allow-origin"] == "*"


# Windows


async def test_the_newest_items_first_and_pages_for_the_rest(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PAGE_ITEMS", 4)
    feed = show(10)
    client = await start_server(feed)
    first = await client.request(url_of(feed))
    assert guids(first) == ["guid-9", "guid-8", "guid-7", "guid-6"]
    assert "previous" not in links(first)
    seen, reply = guids(first), first
    while "next" in links(reply):
        before = links(reply)["self"]
        reply = await client.request(path_of(links(reply)["next"], client))
        assert links(reply)["previous"] == before
        assert links(reply)["first"] == links(first)["self"]
        seen += guids(reply)
    assert seen == [f"guid-{number}" for number in reversed(range(10))]
    assert (await client.request(url_of(feed, "?page=4"))).status == 404
    everything = await client.request(url_of(feed, "?all=1"))
    assert guids(everything) == seen
    assert "next" not in links(everything)


async def test_any_page_can_be_the_first_one_asked_for(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PAGE_ITEMS", 4)
    feed = show(10)
    client = await start_server(feed)
    assert guids(await client.request(url_of(feed, "?page=3"))) == ["guid-1", "guid-0"]
    assert (await client.request(url_of(feed, "?page=400"))).status == 404


async def test_a_page_ends_before_it_is_too_large_for_directories(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(windows, "PAGE_GZIP_BYTES", 20_000)
    feed, noise = MemoryFeed(), random.Random(3)
    for number in range(12):
        notes = noise.randbytes(4000 if number else 50_000).hex()
        feed.add(
            f"guid-{number}", xml=f"<item><guid>guid-{number}</guid><description>{notes}</description></item>"
        )
    client = await start_server(feed)
    seen, query = [], ""
    while True:
        reply = await client.request(url_of(feed, query), Accept_Encoding="gzip")
        assert len(reply.body) < 22_000 or guids(reply) == ["guid-0"]
        seen += guids(reply)
        if "next" not in links(reply):
            break
        query = "?" + links(reply)["next"].rpartition("?")[2]
    assert seen == [f"guid-{number}" for number in reversed(range(12))]


@pytest.mark.parametrize("query", ["?page=0", "?page=-1", "?page=x", "?page=1e3", "?page=99999", "?page="])
async def test_no_such_page(start_server: StartServer, query: str) -> None:
    feed = show(1)
    assert (await (await start_server(feed)).request(url_of(feed, query))).status == 404


def test_queries_that_others_append_make_no_difference() -> None:
    assert Window.parse({"utm_source": "x"}) == Window.parse({"all": "0"}) == Window(1)


async def test_a_feed_without_items(start_server: StartServer) -> None:
    feed = MemoryFeed()
    assert items_of(await (await start_server(feed)).request(url_of(feed))) == []


# Validators and memory


async def test_an_unchanged_feed_is_304_without_a_look_at_its_items(start_server: StartServer) -> None:
    feed = show(3)
    client = await start_server(feed)
    for coding in ({}, {"Accept_Encoding": "gzip"}):
        known = (await client.request(url_of(feed), **coding)).headers["etag"]
        feed.drive.gets = 0
        reply = await client.request(url_of(feed), If_None_Match=f"W/{known}", **coding)
        assert (reply.status, reply.body, reply.headers["etag"]) == (304, b"", known)
        assert reply.headers["vary"] == "Accept-Encoding"
        assert feed.drive.gets == 0
    feed.add("new")
    assert guids(await client.request(url_of(feed), If_None_Match=known))[0] == "new"


async def test_a_rendering_is_remembered(start_server: StartServer) -> None:
    feed = show(3)
    client = await start_server(feed)
    first = await client.request(url_of(feed))
    feed.drive.gets = 0
    assert (await client.request(url_of(feed))).body == first.body
    assert feed.drive.gets == 0


async def test_what_is_remembered_is_bounded(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rss, "CACHE_BYTES", 0)
    feed = show(3)
    client = await start_server(feed)
    await client.request(url_of(feed))
    feed.drive.gets = 0
    assert len(guids(await client.request(url_of(feed)))) == 3
    assert feed.drive.gets > 0


async def test_a_captured_file_changes_the_feed(start_server: StartServer) -> None:
    feed = MemoryFeed()
    seen = datetime(2024, 1, 1, tzinfo=UTC)
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", None), seen=seen)
    client = await start_server(feed)
    old = await client.request(url_of(feed))
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", b"here"), seen=seen)
    new = await client.request(url_of(feed), If_None_Match=old.headers["etag"])
    assert "/episodes/" in new.text
    assert "/episodes/" not in old.text


# Trouble


async def test_503_while_an_item_is_at_nobody(start_server: StartServer) -> None:
    feed = show(2)
    path = feed.add("late")
    feed.drive.troubles[path] = Trouble(error=BlockUnavailableError("nobody"))
    client = await start_server(feed)
    reply = await client.request(url_of(feed))
    assert (reply.status, "retry-after" in reply.headers, "etag" in reply.headers) == (503, True, False)
    del feed.drive.troubles[path]
    assert len(guids(await client.request(url_of(feed)))) == 3


@pytest.mark.parametrize("trouble", [Trouble(error=NoPeersError("nobody")), Trouble(wait=True)])
async def test_the_feed_as_it_was_stands_in_for_one_that_cannot_be_had(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch, trouble: Trouble
) -> None:
    monkeypatch.setattr(rss, "RENEW_SECONDS", 0.05)
    feed = show(2)
    client = await start_server(feed)
    old = await client.request(url_of(feed))
    feed.drive.troubles[feed.add("late")] = trouble
    reply = await client.request(url_of(feed))
    assert (reply.body, reply.headers["etag"]) == (old.body, old.headers["etag"])
    assert (await client.request(url_of(feed), If_None_Match=old.headers["etag"])).status == 304


async def test_503_when_the_feed_does_not_come_in_time(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rss, "RENDER_SECONDS", 0.05)
    feed = MemoryFeed()
    feed.drive.troubles["/channel.xml"] = Trouble(wait=True)
    assert (await (await start_server(feed)).request(url_of(feed))).status == 503


async def test_a_drive_that_is_no_feed_is_an_error_of_one_line(start_server: StartServer) -> None:
    feed = MemoryFeed()
    del feed.drive.files["/p2prss.json"]
    feed.drive.version += 1
    reply = await (await start_server(feed)).request(url_of(feed))
    assert reply.status == 500
    assert b"no podcast feed" in reply.body


HOSTILE_ITEMS = [
    "<item><guid>broken</guid",
    "<channel><title>x</title></channel>",
    "not XML",
    "",
    "<!DOCTYPE x [<!ENTITY a 'b'>]><item><title>&a;</title></item>",
]


@pytest.mark.parametrize("xml", HOSTILE_ITEMS)
async def test_an_item_that_cannot_be_read_is_left_out(start_server: StartServer, xml: str) -> None:
    feed = show(2)
    feed.drive.files[feed.add("bad")] = xml.encode()
    seen = guids(await (await start_server(feed)).request(url_of(feed)))
    assert {"guid-0", "guid-1"} <= set(seen)


async def test_texts_no_xml_may_hold_do_not_break_the_feed(start_server: StartServer) -> None:
    feed = MemoryFeed(title="a\x00b")
    feed.put_info(origin_url="https://example.org/\x01", base_url="https://example.org/\x02\ufffe")
    feed.add("a\x03guid", xml="<item><title>x</title><enclosure url='1.mp3'/></item>")
    client = await start_server(feed)
    assert guids(await client.request(url_of(feed))) == ["aguid"]
    assert (await client.request("/")).status == (await client.request("/opml.xml")).status == 200


async def test_an_item_without_a_date_gets_the_day_it_was_first_seen(start_server: StartServer) -> None:
    feed = MemoryFeed()
    feed.add("g", seen=datetime(2024, 2, 29, 12, tzinfo=UTC))
    (item,) = items_of(await (await start_server(feed)).request(url_of(feed)))
    assert item.findtext("pubDate") == "Thu, 29 Feb 2024 12:00:00 GMT"
