"""The key of a feed, from what its origin says."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.linking.discovery import MAX_FEED_LINKS, feed_links, is_of_site, key_in_feed, link_in_note

URL = "https://a.example/show/"
KEYS = [CoreKey(bytes([number]) * 32) for number in range(3)]
PODCAST = "https://podcastindex.org/namespace/1.0"


def source(key: CoreKey) -> str:
    one = f'<podcast:source uri="hyper://{format_key(key)}/media/aa/x.mp3"/>'
    return f'<podcast:alternateEnclosure type="audio/mpeg">{one}</podcast:alternateEnclosure>'


def read(channel: str = "", *items: str) -> CoreKey | None:
    inside = channel + "".join(f"<item><guid>{n}</guid>{item}</item>" for n, item in enumerate(items))
    feed = f'<rss version="2.0" xmlns:podcast="{PODCAST}"><channel><title>T</title>{inside}</channel></rss>'
    return key_in_feed(parse_feed(feed.encode(), url=URL))


def test_the_key_a_feed_names_as_its_own_comes_before_its_sources() -> None:
    txt = f'<podcast:txt purpose="p2prss">{format_key(KEYS[0])}</podcast:txt>'
    assert read() is None
    assert read("", source(KEYS[1]), source(KEYS[2]), source(KEYS[2])) == KEYS[2]
    assert read(txt, source(KEYS[1])) == KEYS[0]
    assert read("", '<enclosure url="hyper://nonsense/x.mp3" type="audio/mpeg" length="1"/>') is None


@pytest.mark.parametrize(
    ("page", "links"),
    [
        (b"", []),
        (b"no page", []),
        (b'<link rel="stylesheet" href="x.css">', []),
        (
            b'<LINK REL="Alternate" TYPE="application/RSS+XML; charset=utf-8" HREF=" feed.xml ">',
            [URL + "feed.xml"],
        ),
        (
            b'<link rel="alternate nofollow" type="application/atom+xml" href="//b.example/f">',
            ["https://b.example/f"],
        ),
        (b'<link rel="alternate" type="application/rss+xml" href="file:///etc/passwd">', []),
        (b'<link rel="alternate" type="application/rss+xml" href="http://[">', []),
        (b'<link rel="alternate" type="text/html" href="x">', []),
    ],
)
def test_the_feeds_a_page_names(page: bytes, links: list[str]) -> None:
    assert feed_links(page, URL) == links


def test_a_page_may_name_only_so_many_feeds() -> None:
    page = b"".join(
        b'<link rel="alternate" type="application/rss+xml" href="%d">' % (number % 20)
        for number in range(100)
    )
    assert len(feed_links(page, URL)) == MAX_FEED_LINKS


def test_what_a_host_says() -> None:
    one, two = (format_key(key) for key in KEYS[:2])
    assert link_in_note(b"", URL) is None
    assert link_in_note(b"\xff not a key\n", URL) is None
    note = f"# ours\n{one}  # a show\np2prss://{two}?name=x {URL}feed.xml\n".encode()
    assert link_in_note(note, URL) == one
    assert link_in_note(note, f"{URL}feed.xml") == f"p2prss://{two}?name=x"


@pytest.mark.parametrize(
    ("origin", "is_theirs"),
    [
        ("https://a.example/feed.xml", True),
        ("http://www.A.example:8080/other", True),
        ("https://b.example/feed.xml", True),
        ("https://evil.example/?a.example", False),
        ("https://a.example.evil.example/", False),
        ("https://a.example@evil.example/", False),
        ("http://[", False),
        ("", False),
        (None, False),
    ],
)
def test_a_feed_must_name_the_site_that_named_it(origin: str | None, is_theirs: bool) -> None:
    assert is_of_site(origin, (URL, "https://b.example/moved")) is is_theirs


@given(st.binary(max_size=300), st.text(max_size=50))
def test_anything_may_be_there(data: bytes, url: str) -> None:
    feed_links(data, URL)
    link_in_note(data, url)
    is_of_site(url, (URL,))
