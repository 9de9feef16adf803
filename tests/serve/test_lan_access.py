"""What a phone on the local network may read, and how it gets there."""

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.serve.lan_access import LanAccess, is_local
from p2prss.serve.subscribe_links import subscribe_links

KEY, OTHER = CoreKey(bytes(range(32))), CoreKey(bytes(32))
ACCESS = LanAccess(b"s" * 32)


def test_a_feeds_address_opens_that_feed_and_no_other() -> None:
    path = ACCESS.feed_path(KEY)
    opened = ACCESS.open(path)
    assert opened is not None
    assert opened.inner == f"/feeds/{format_key(KEY)}/feed.xml"
    assert opened.prefix + opened.inner == path
    by_hex = f"/lan/{ACCESS.token(KEY)}/feeds/{KEY.hex()}/assets/x.png"
    assert ACCESS.open(by_hex) is not None
    assert ACCESS.open(path.replace(format_key(KEY), format_key(OTHER))) is None
    assert ACCESS.open(path.replace(ACCESS.token(KEY), ACCESS.token(OTHER))) is None
    assert ACCESS.token(KEY) == LanAccess(b"s" * 32).token(KEY)  # apps keep it
    assert LanAccess(b"t" * 32).open(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/feeds/{key}/feed.xml",
        "/lan/{token}/",
        "/lan/{token}/opml.xml",
        "/lan/{token}/feeds/my-show/feed.xml",
        "//lan/{token}/feeds/{key}/feed.xml",
        "/lan/{token}/../feeds/{key}/feed.xml",
        "/lan/{token}/feeds/{key}",
    ],
)
def test_nothing_else_is_there(path: str) -> None:
    assert ACCESS.open(path.format(token=ACCESS.token(KEY), key=format_key(KEY))) is None


@given(st.text(max_size=200))
def test_whatever_is_asked(path: str) -> None:
    assert ACCESS.open(path) is None
    is_local(path)


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        ("192.168.1.9", True),
        ("10.1.2.3", True),
        ("169.254.1.1", True),
        ("fe80::1%eth0", True),
        ("fd00::1", True),
        ("::ffff:192.168.1.9", True),
        ("127.0.0.1", True),
        ("8.8.8.8", False),
        ("2001:4860::1", False),
        ("::ffff:8.8.8.8", False),
        ("0.0.0.0", False),
        ("", False),
    ],
)
def test_who_is_on_the_local_network(client: str, expected: bool) -> None:
    assert is_local(client) is expected


def test_one_tap_links_name_the_same_address() -> None:
    url = "http://p2prss-desk.local:7739/lan/abc/feeds/key/feed.xml"
    links = subscribe_links(url)
    assert {urlsplit(link.url).scheme for link in links} == {
        "antennapod-subscribe",
        "podcast",
        "itpc",
        "gpodder",
        "pcast",
        "feed",
    }
    assert all("p2prss-desk.local:7739/lan/abc/feeds/key/feed.xml" in link.url for link in links)
    assert len({link.app for link in links}) == len(links)
