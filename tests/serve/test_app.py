"""The guard in front of everything, and the small answers."""

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.serve.app import create_app
from p2prss.serve.delivery import delivery
from p2prss.serve.hosts import is_allowed
from p2prss.serve.library import ServeSettings
from p2prss.serve.pages import PAGE_POLICY
from tests.fakes.memory_drive import MemoryFeed
from tests.serve.conftest import StartServer

SETTINGS = ServeSettings(allowed_hosts=frozenset({"pods.example.org", "192.168.1.5", "fe80::1"}))


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LOCALHOST:80",
        "localhost.",
        "localhost:",
        "127.0.0.1:7737",
        "127.8.9.1",
        "[::1]",
        "[::1]:7737",
        "pods.example.org",
        "Pods.Example.Org:443",
        "192.168.1.5:80",
        "[fe80::1]:80",
    ],
)
def test_hosts_that_are_us(host: str) -> None:
    assert is_allowed(host, SETTINGS)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "evil.example:7737",
        "localhost:99999",
        "localhost:80:80",
        "user@localhost",
        "localhost/",
        "localhost evil.example",
        "local\u0131host",
        "::1",
        "[::1",
        "[127.0.0.1]x",
        "[fe80::2]",
        "0.0.0.0",
        "192.168.1.6",
        "2130706433",
        "0x7f.1",
        "a" * 300,
        ".",
        "-",
    ],
)
def test_hosts_that_are_not(host: str) -> None:
    assert not is_allowed(host, SETTINGS)


@given(st.text(alphabet="localhst127.:[]@%/ \n\0é0-", max_size=20))
def test_any_text_is_a_host_or_not(host: str) -> None:
    if is_allowed(host, ServeSettings()):
        assert host.lower().startswith(("localhost", "127.", "[::"))
        assert not set(host) & set("@%/ \n\0")


TYPES = ["text/html", "image/svg+xml", "text/xml", "audio/x+xml", "VIDEO/svg+XML; a=b", "text/plain; x=y"]


@given(st.none() | st.text() | st.sampled_from(TYPES), st.text(max_size=8))
def test_whatever_a_feed_claims_no_browser_runs_it(claimed: str | None, extension: str) -> None:
    decided = delivery(claimed, extension)
    assert decided.content_type.isascii()
    assert decided.content_type.isprintable()
    assert not (decided.shown and re.search("html|xml|svg|script|pdf", decided.mime_type))


@pytest.mark.parametrize("path", ["/", "/healthz", "/opml.xml", "/feeds/a-show/feed.xml", "/nothing"])
async def test_a_foreign_host_sees_nothing(start_server: StartServer, path: str) -> None:
    reply = await (await start_server(MemoryFeed())).request(path, Host="rebound.example")
    assert reply.status == 421
    assert b"A show" not in reply.body
    assert "access-control-allow-origin" not in reply.headers


async def test_without_a_host_the_address_itself_is_the_host(start_server: StartServer) -> None:
    feed = MemoryFeed()
    client = await start_server(feed)
    reply = await client.send(b"GET /feeds/a-show/feed.xml HTTP/1.0\r\n\r\n")
    assert reply.status == 200
    assert f"http://127.0.0.1:{client.port}/feeds/{feed.key_text}/feed.xml" in reply.text


async def test_a_public_url_wins_over_the_host(start_server: StartServer) -> None:
    settings = ServeSettings(frozenset({"inner"}), public_url="https://pods.example.org/p2p/")
    client = await start_server(MemoryFeed(), settings=settings)
    reply = await client.request("/feeds/a-show/feed.xml", Host="inner")
    assert 'href="https://pods.example.org/p2p/feeds/' in reply.text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND"])
@pytest.mark.parametrize("path", ["/", "/feeds/a-show/feed.xml"])
async def test_only_reading_is_allowed(start_server: StartServer, method: str, path: str) -> None:
    reply = await (await start_server(MemoryFeed())).request(path, method, Content_Length="0")
    assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD, OPTIONS")
    assert reply.headers["content-type"].startswith("text/plain")


async def test_a_preflight_is_answered_where_others_may_read(start_server: StartServer) -> None:
    feed = MemoryFeed()
    client = await start_server(feed)
    path = f"/feeds/{feed.key_text}/episodes/0123456789abcdef/1/x.mp3"
    asked = {"Origin": "https://player.example", "Access_Control_Request_Headers": "range"}
    reply = await client.request(path, "OPTIONS", **asked)
    assert (reply.status, reply.headers["access-control-allow-origin"]) == (204, "*")
    assert "Range" in reply.headers["access-control-allow-headers"]
    for private in ("/", "/opml.xml", "/feeds/a-show/feed.xml"):
        reply = await client.request(private, "OPTIONS", **asked)
        assert (reply.status, reply.headers.get("access-control-allow-origin")) == (204, None)


async def test_a_browser_is_told_on_a_page_that_nothing_is_there(start_server: StartServer) -> None:
    client = await start_server(MemoryFeed())
    asks = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    for path in ("/x", "/shows/nothing", "/shows/a-show/0000000000000000", "/shows/a-show/x/y"):
        reply = await client.request(path, **asks)
        assert (reply.status, "There is nothing here" in reply.text) == (404, True), path
        assert reply.headers["content-security-policy"] == PAGE_POLICY
    for path in ("/feeds/nothing/feed.xml", "/api/v1/x", "/static/x"):
        assert (await client.request(path, **asks)).text == "not found\n", path
    client.library.ready = False
    reply = await client.request("/shows/nothing", **asks)
    assert (reply.status, "still opening its shows" in reply.text) == (503, True)


async def test_errors_are_plain_text_with_the_security_headers(start_server: StartServer) -> None:
    reply = await (await start_server()).request("/<script>")
    assert (reply.status, reply.text) == (404, "not found\n")
    assert reply.headers["content-type"] == "text/plain; charset=utf-8"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert reply.is_whole


@pytest.mark.parametrize("feed", ["unknown", "y" * 52, "0" * 64, "%00", "a%20show", "é"])
async def test_an_unknown_feed_is_404(start_server: StartServer, feed: str) -> None:
    client = await start_server(MemoryFeed())
    assert (await client.request(f"/feeds/{feed}/feed.xml".replace("é", "%C3%A9"))).status == 404


async def test_health_and_readiness(start_server: StartServer) -> None:
    client = await start_server()
    assert (await client.request("/healthz")).text == "ok\n"
    assert (await client.request("/readyz")).status == 200
    client.library.ready = False
    assert (await client.request("/readyz")).status == 503
    assert (await client.request("/healthz")).status == 200


async def test_opml_lists_the_feed_urls(start_server: StartServer) -> None:
    feed = MemoryFeed(title='Q & "A" <3')
    client = await start_server(feed)
    reply = await client.request("/opml.xml")
    assert reply.headers["content-type"].startswith("text/x-opml")
    (outline,) = ElementTree.fromstring(reply.text).findall("body/outline")
    assert outline.get("text") == 'Q & "A" <3'
    assert outline.get("xmlUrl") == f"http://127.0.0.1:{client.port}/feeds/{feed.key_text}/feed.xml"


def test_the_application_can_be_made_without_a_loop() -> None:
    assert callable(create_app(None))
