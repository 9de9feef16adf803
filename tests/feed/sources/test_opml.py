"""Lists of feeds: what apps write, and what nobody should."""

import pytest
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.sources import opml
from p2prss.feed.sources.opml import Subscription, is_opml, local_feed_key, parse_opml, render_opml

KEY = "71fodkg9tkakrz5ebx3znqh9fihhrak41qrp3joqc8fqnqd8y3jo"


def outlines(body: str) -> bytes:
    return f'<?xml version="1.0"?><opml version="2.0"><head/><body>{body}</body></opml>'.encode()


def test_nested_lists_in_every_spelling_are_read_once_and_in_order() -> None:
    data = outlines(
        """
        <outline text="News"><outline text="Deep"><outline type="rss" text="A" xmlUrl="https://a.example/f"/>
        </outline></outline>
        <outline title="B &amp; C" text="x" xmlurl=" https://b.example/f?x=1&amp;y=2 "/>
        <outline text="Again" XMLURL="https://a.example/f"/>
        <outline text="Itunes" xmlUrl="itpc://c.example/f"/>
        <outline text="Feed" xmlUrl="feed:https://d.example/f"/>
        <outline text="Feed" xmlUrl="feed://https://e.example/f"/>
        <outline text="No address"/><outline xmlUrl=""/>
        """
    )
    assert parse_opml(data) == [
        Subscription("A", "https://a.example/f"),
        Subscription("B & C", "https://b.example/f?x=1&y=2"),
        Subscription("Itunes", "http://c.example/f"),
        Subscription("Feed", "https://d.example/f"),
        Subscription("Feed", "https://e.example/f"),
    ]


def test_common_mistakes_are_mended() -> None:
    data = outlines('<outline text="R & B" xmlUrl="https://a.example/?a=1&b=2"/>')
    assert parse_opml(data) == [Subscription("R & B", "https://a.example/?a=1&b=2")]
    latin = outlines('<outline text="Grüße" xmlUrl="http://a/"/>').decode()
    latin = latin.replace("?>", ' encoding="iso-8859-1"?>', 1)
    assert parse_opml(latin.encode("latin-1"))[0].title == "Grüße"
    assert parse_opml(outlines('<outline text="x" xmlUrl="http://a/"/>').decode().encode("utf-16"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "."),
        (b"<opml><body>", "cannot be read"),
        (b"<rss version='2.0'><channel/></rss>", "this is no OPML: its first element is <rss>"),
        (b'<!DOCTYPE opml [<!ENTITY x "y"><!ENTITY z "&x;&x;">]><opml><body/>&z;</opml>', "."),
        (b'<!DOCTYPE opml [<!ENTITY x SYSTEM "file:///etc/passwd">]><opml>&x;</opml>', "."),
        (b"<opml>" + b"<outline>" * 200 + b"</outline>" * 200 + b"</opml>", "inside of each other"),
        (b"<opml>" + b"<outline>" * 9000 + b"</outline>" * 9000 + b"</opml>", "."),
    ],
)
def test_what_is_no_list_is_refused_in_one_line(data: bytes, message: str) -> None:
    with pytest.raises(FeedFormatError, match=message) as raised:
        parse_opml(data)
    assert "\n" not in str(raised.value)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = outlines("".join(f'<outline xmlUrl="http://a/{number}"/>' for number in range(4)))
    monkeypatch.setattr(opml, "MAX_OPML_FEEDS", 3)
    with pytest.raises(FeedFormatError, match="more than 3 feeds"):
        parse_opml(data)
    monkeypatch.setattr(opml, "MAX_OPML_BYTES", 100)
    with pytest.raises(FeedFormatError, match="more than 100 bytes"):
        parse_opml(data)


@pytest.mark.parametrize(
    ("head", "answer"),
    [
        (b"<opml version='1.0'>", True),
        (b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- by an app -->\n<opml>', True),
        (b"<\0o\0p\0m\0l\0>\0", True),
        (b"<rss><channel><title>opml</title>", False),
        (b"ID3", False),
        (b"", False),
    ],
)
def test_a_list_is_told_by_its_beginning(head: bytes, answer: bool) -> None:
    assert is_opml(head) is answer


def test_what_is_written_is_read_again() -> None:
    feeds = [Subscription('A <b> & "c"', "http://a/?x=1&y=2"), Subscription("\x07", "http://b/")]
    data = render_opml("Mine", feeds)
    assert parse_opml(data) == [feeds[0], Subscription("http://b/", "http://b/")]
    assert etree.fromstring(data).findtext("head/title") == "Mine"
    assert render_opml("Mine", feeds) == data


@pytest.mark.parametrize(
    ("url", "key"),
    [
        (f"http://127.0.0.1:7737/feeds/{KEY}/feed.xml", KEY),
        (f"https://pods.example/sub/feeds/{'0a' * 32}/feed.xml?all=1", "0a" * 32),
        ("http://127.0.0.1:7737/feeds/my-show/feed.xml", None),
        (f"http://127.0.0.1:7737/feeds/{KEY}/episodes/1", None),
        ("http://[", None),
    ],
)
def test_local_addresses_hold_the_key(url: str, key: str | None) -> None:
    assert local_feed_key(url) == key
