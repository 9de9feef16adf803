"""HTTP as podcast apps need it, for feeds; see the table in spec/10-http."""

from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

import pytest

from p2prss.serve import windows
from tests.serve.conformance.conftest import AUDIO, EPISODES, Service
from tests.serve.conftest import Reply

ATOM = "{http://www.w3.org/2005/Atom}"
ITUNES = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"


def channel_of(reply: Reply) -> ElementTree.Element:
    assert reply.status == 200, reply.body
    channel = ElementTree.fromstring(reply.text).find("channel")
    assert channel is not None
    return channel


def guids(reply: Reply) -> list[str]:
    return [item.findtext("guid", "") for item in channel_of(reply).findall("item")]


@pytest.mark.parametrize("coding", ["identity", "gzip", "br"])
async def test_head_of_a_feed_says_what_get_says(service: Service, coding: str) -> None:
    head = await service.request(service.feed, "HEAD", Accept_Encoding=coding)
    get = await service.request(service.feed, Accept_Encoding=coding)
    del head.headers["date"], get.headers["date"]
    assert (head.status, head.headers, head.body) == (200, get.headers, b"")
    assert get.is_whole


async def test_a_feed_is_rss_in_utf_8(service: Service) -> None:
    reply = await service.request(service.feed)
    assert reply.headers["content-type"] == "application/rss+xml; charset=utf-8"
    assert channel_of(reply).findtext("title") == "Zwölf Ohren"
    assert "Zwölf Ohren".encode() in reply.body


async def test_a_feed_has_an_etag_and_no_date(service: Service) -> None:
    for path in (service.feed, "/everything.xml"):
        reply = await service.request(path)
        assert reply.headers["etag"].startswith('"')
        assert "last-modified" not in reply.headers
        known = f'"other", {reply.headers["etag"]}'
        for header in (reply.headers["etag"], f"W/{reply.headers['etag']}", known, "*"):
            for method in ("GET", "HEAD"):
                again = await service.request(path, method, If_None_Match=header)
                assert (again.status, again.body) == (304, b"")
                assert again.headers["etag"] == reply.headers["etag"]
                assert again.headers["vary"] == "Accept-Encoding"
        assert (await service.request(path, If_None_Match='"other"')).status == 200
        dated = await service.request(path, If_Modified_Since="Fri, 01 Jan 2100 00:00:00 GMT")
        assert dated.status == 200


async def test_a_feed_is_coded_only_for_those_who_ask(service: Service) -> None:
    for path in (service.feed, "/everything.xml", "/opml.xml"):
        plain = await service.request(path)
        assert "content-encoding" not in plain.headers
        etags = {plain.headers["etag"]}
        for asked, coding in (("gzip", "gzip"), ("br", "br"), ("gzip;q=0.5, br;q=0.4", "gzip")):
            coded = await service.request(path, Accept_Encoding=asked)
            assert coded.headers["content-encoding"] == coding
            assert coded.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
            assert coded.text == plain.text
            etags.add(coded.headers["etag"])
        assert len(etags) == 3
        refused = await service.request(path, Accept_Encoding="gzip;q=0, br;q=0")
        assert "content-encoding" not in refused.headers


async def test_a_feed_may_be_kept_for_a_short_time(service: Service) -> None:
    caching = (await service.request(service.feed)).headers["cache-control"]
    assert caching == "max-age=60"


async def test_pages_lead_to_all_episodes(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "PAGE_ITEMS", 2)
    path, found = service.feed, []
    while path:
        reply = await service.request(path)
        found += guids(reply)
        links = {link.get("rel"): link.get("href", "") for link in channel_of(reply).findall(f"{ATOM}link")}
        assert links["self"] == service.base + path
        path = links.get("next", "").removeprefix(service.base)
    assert found == [f"GUID/{number}" for number in reversed(range(EPISODES))]
    assert guids(await service.request(f"{service.feed}?all=1")) == found
    assert (await service.request(f"{service.feed}?page=99")).status == 404


async def test_nothing_sends_an_app_elsewhere(service: Service) -> None:
    channel = channel_of(await service.request(service.feed))
    links = {link.get("rel"): link.get("href") for link in channel.findall(f"{ATOM}link")}
    assert links == {"self": service.base + service.feed}
    assert channel.find(f"{ITUNES}new-feed-url") is None
    assert channel.find("cloud") is None
    assert channel.findtext(f"{ITUNES}block") == "Yes"


@pytest.mark.parametrize(
    "path", ["{feed}/", "/feeds/a-show", "/feeds/a-show/", "{upper}", "//{feed}", "/opml.xml/", "/./healthz"]
)
async def test_nothing_is_redirected(service: Service, path: str) -> None:
    asked = path.format(feed=service.feed, upper=service.feed.upper())
    reply = await service.request(asked)
    assert not 300 <= reply.status < 400
    assert "location" not in reply.headers


async def test_an_item_says_what_its_reply_says(service: Service) -> None:
    item = channel_of(await service.request(service.feed)).findall("item")[-1]
    (enclosure,) = item.findall("enclosure")
    assert item.findtext("guid") == "GUID/0"
    assert parsedate_to_datetime(item.findtext("pubDate", "")).tzinfo is not None
    assert enclosure.attrib["url"] == service.base + service.episode
    head = await service.request(service.episode, "HEAD")
    assert enclosure.attrib["length"] == head.headers["content-length"] == str(len(AUDIO))
    assert enclosure.attrib["type"] == head.headers["content-type"]


async def test_only_who_knows_the_key_may_read_from_a_web_page(service: Service) -> None:
    page = {"Origin": "https://player.example"}
    assert (await service.request(service.feed, **page)).headers["access-control-allow-origin"] == "*"
    for path in ("/feeds/a-show/feed.xml", "/everything.xml", "/opml.xml", "/"):
        reply = await service.request(path, **page)
        assert reply.status == 200
        assert "access-control-allow-origin" not in reply.headers
        assert reply.headers["cross-origin-resource-policy"] == "same-origin"
