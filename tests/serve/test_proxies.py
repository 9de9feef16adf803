"""Behind a reverse proxy: whose headers count, which hosts they may name, and the addresses that come out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import UsageError
from p2prss.serve.hosts import (
    Reached,
    base_url,
    inner_path,
    is_allowed,
    parse_host,
    parse_public_url,
    reached_by,
)
from p2prss.serve.library import ServeSettings
from p2prss.serve.proxies import Forwarded, clean_prefix, is_trusted, parse_network, read_forwarded
from tests.fakes.memory_drive import MemoryFeed
from tests.serve.conftest import StartServer

PROXIED = ServeSettings(
    allowed_hosts=frozenset({"pods.example.org"}), trusted_proxies=(parse_network("127.0.0.1"),)
)


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({}, Forwarded()),
        ({"x-forwarded-proto": "https"}, Forwarded(scheme="https")),
        ({"x-forwarded-proto": "HTTPS", "x-forwarded-host": "a.example"}, Forwarded("https", "a.example")),
        ({"x-forwarded-host": "evil.example, a.example"}, Forwarded(host="a.example")),
        ({"x-forwarded-proto": "gopher"}, Forwarded()),
        ({"x-forwarded-prefix": "/pods/"}, Forwarded(prefix="/pods")),
        ({"x-forwarded-prefix": "/../.."}, Forwarded()),
        ({"x-forwarded-prefix": "//evil.example"}, Forwarded()),
        ({"x-forwarded-prefix": "/<script>"}, Forwarded()),
        ({"forwarded": "for=192.0.2.1;host=a.example;proto=https"}, Forwarded("https", "a.example")),
        ({"forwarded": 'for="[2001:db8::1]:47011"; Host="a.example:8443"'}, Forwarded(host="a.example:8443")),
        ({"forwarded": "host=evil.example;proto=http, for=192.0.2.9"}, Forwarded()),
        ({"forwarded": "host=evil.example, host=a.example;proto=https"}, Forwarded("https", "a.example")),
        ({"forwarded": 'host="a.example'}, Forwarded()),
        ({"forwarded": "host=a.example;" * 1000}, Forwarded()),
        ({"forwarded": "host=evil.example", "x-forwarded-host": "a.example"}, Forwarded(host="a.example")),
        ({"forwarded": "host=evil.example", "x-forwarded-proto": "https"}, Forwarded("https")),
    ],
)
def test_what_a_proxy_tells(headers: dict[str, str], told: Forwarded) -> None:
    assert read_forwarded(headers) == told


@given(st.text(alphabet='for=host"\\;, a.:[]=x', max_size=60))
def test_any_header_is_read_or_left_out(header: str) -> None:
    told = read_forwarded({"forwarded": header})
    assert told.scheme in (None, "http", "https")


@pytest.mark.parametrize(
    ("peer", "networks", "trusted"),
    [
        ("127.0.0.1", ["127.0.0.1"], True),
        ("127.0.0.2", ["127.0.0.1"], False),
        ("10.1.2.3", ["192.0.2.1", "10.0.0.0/8"], True),
        ("::1", ["::1"], True),
        ("::ffff:10.0.0.1", ["10.0.0.0/8"], True),
        ("fe80::1%eth0", ["fe80::/10"], True),
        ("", ["0.0.0.0/0"], False),
        ("127.0.0.1", [], False),
    ],
)
def test_who_is_trusted(peer: str, networks: list[str], trusted: bool) -> None:
    assert is_trusted(peer, [parse_network(one) for one in networks]) is trusted


def test_only_a_trusted_proxy_is_believed() -> None:
    told = {"x-forwarded-host": "pods.example.org", "x-forwarded-proto": "https", "x-forwarded-prefix": "/p"}
    assert reached_by("http", "localhost", "127.0.0.1", told, PROXIED) == Reached(
        "https", "pods.example.org", "/p"
    )
    assert reached_by("http", "localhost", "192.0.2.1", told, PROXIED) == Reached("http", "localhost")
    assert reached_by("http", "localhost", "127.0.0.1", told, ServeSettings()) == Reached("http", "localhost")


def test_neither_host_may_be_foreign() -> None:
    """A page with a name of its own for 127.0.0.1 has a trusted address, and writes what headers it likes."""
    good, foreign = {"x-forwarded-host": "pods.example.org"}, {"x-forwarded-host": "evil.example"}
    assert reached_by("http", "evil.example", "127.0.0.1", good, PROXIED) is None
    assert reached_by("http", "localhost", "127.0.0.1", foreign, PROXIED) is None
    assert reached_by("http", None, "127.0.0.1", good, PROXIED) is None


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://pods.example.org", "https://pods.example.org"),
        ("https://Pods.example.org:8443/a/b/", "https://pods.example.org:8443/a/b"),
        ("http://[::1]/", "http://[::1]"),
    ],
)
def test_public_urls(text: str, url: str) -> None:
    assert parse_public_url(text) == url
    assert base_url(Reached("http", "localhost"), ServeSettings(public_url=url)) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pods.example.org",
        "ftp://pods.example.org",
        "https://",
        "https://user:password@pods.example.org",
        "https://pods.example.org/?a=b",
        "https://pods.example.org/?",
        "https://pods.example.org/#a",
        "https://pods.example.org/a b",
        "https://pods.example.org/../x",
        "https://pods.example.org:99999",
        "https://pods.example.org:0",
        "https://[::1",
        "https://pöds.example.org",
        "https://pods.example.org/" + "a" * 300,
    ],
)
def test_no_public_urls(text: str) -> None:
    with pytest.raises(UsageError, match="base URL"):
        parse_public_url(text)


def test_hosts_and_networks_as_the_user_writes_them() -> None:
    assert parse_host("Pods.Example.org:8080") == "pods.example.org"
    assert parse_host("[::1]") == "::1"
    for wrong in ("", "a b", "http://a.example", "a/b"):
        with pytest.raises(UsageError, match="host name"):
            parse_host(wrong)
    for wrong in ("", "localhost", "1.2.3.4/33"):
        with pytest.raises(UsageError, match="proxy"):
            parse_network(wrong)


def test_the_host_of_the_public_url_is_allowed() -> None:
    settings = ServeSettings(public_url="https://pods.example.org:8443/a")
    assert is_allowed("pods.example.org", settings)
    assert not is_allowed("example.org", settings)
    assert not is_allowed("", ServeSettings(public_url="https://"))


@pytest.mark.parametrize(
    ("public_url", "path", "inner"),
    [
        ("https://a.example/pods", "/pods/opml.xml", "/opml.xml"),
        ("https://a.example/pods", "/opml.xml", "/opml.xml"),
        ("https://a.example/pods", "/podsopml.xml", "/podsopml.xml"),
        ("https://a.example/pods", "/pods/pods/opml.xml", "/pods/opml.xml"),
        ("https://a.example", "/opml.xml", "/opml.xml"),
        ("https://a.example/feeds", "/feeds/x/feed.xml", "/feeds/x/feed.xml"),
    ],
)
def test_a_proxy_may_leave_the_sub_path_on(public_url: str, path: str, inner: str) -> None:
    assert inner_path(path, Reached("http", "localhost"), ServeSettings(public_url=public_url)) == inner


def test_prefixes() -> None:
    assert (clean_prefix("/a/b/"), clean_prefix("")) == ("/a/b", "")
    assert [clean_prefix(one) for one in ("a", "/a//b", "/..", "/a/./b", "/a%2f", "/" + "a" * 300)] == [
        None
    ] * 6


async def test_a_feed_behind_a_proxy_names_the_proxys_address(start_server: StartServer) -> None:
    feed = MemoryFeed()
    feed.add("g", feed.asset("enclosure", "https://example.org/1.mp3", b"audio"))
    client = await start_server(feed, settings=PROXIED)
    told = {"X_Forwarded_Host": "pods.example.org", "X_Forwarded_Proto": "https", "X_Forwarded_Prefix": "/p"}
    reply = await client.request("/p/feeds/a-show/feed.xml", **told)
    assert f'rel="self" href="https://pods.example.org/p/feeds/{feed.key_text}/feed.xml"' in reply.text
    assert f'<enclosure url="https://pods.example.org/p/feeds/{feed.key_text}/episodes/' in reply.text
    assert "127.0.0.1" not in reply.text
    direct = await client.request("/feeds/a-show/feed.xml")
    assert f'href="http://127.0.0.1:{client.port}/feeds/' in direct.text
    assert direct.headers["etag"] != reply.headers["etag"]
    assert (await client.request("/opml.xml", X_Forwarded_Host="evil.example")).status == 421
