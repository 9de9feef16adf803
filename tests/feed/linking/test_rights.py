"""What a feed says about who may publish it, and the feed that names its key."""

import pytest
from lxml import etree

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import FeedFormatError
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import Alternate
from p2prss.feed.linking.emission import EmittedChannel, EmittedItem, emit_feed
from p2prss.feed.linking.rights import MAX_KEYS, Rights, read_rights

PODCAST = "https://podcastindex.org/namespace/1.0"
KEY, OTHER = CoreKey(bytes(range(32))), CoreKey(bytes(32))
TEXT = format_key(KEY)


def rights(inside: str) -> Rights:
    feed = f'<rss version="2.0" xmlns:podcast="{PODCAST}"><channel><title>T</title>{inside}</channel></rss>'
    return read_rights(parse_feed(feed.encode()).channel.xml)


@pytest.mark.parametrize(
    ("inside", "expected"),
    [
        ("", Rights()),
        ("<podcast:locked>no</podcast:locked>", Rights()),
        (
            '<podcast:locked owner=" a@b.example ">Yes </podcast:locked>',
            Rights(locked=True, owner="a@b.example"),
        ),
        ("<podcast:block>yes</podcast:block>", Rights(blocked=True)),
        ('<podcast:block id="other">yes</podcast:block>', Rights()),
        ('<podcast:block id="p2prss">yes</podcast:block>', Rights(blocked=True)),
        ('<podcast:block>yes</podcast:block><podcast:block id="p2prss">no</podcast:block>', Rights()),
        (f'<podcast:txt purpose="p2prss">{TEXT}</podcast:txt>', Rights(keys=(KEY,))),
        (f'<podcast:txt purpose="p2prss"> p2prss://{TEXT}?name=x </podcast:txt>', Rights(keys=(KEY,))),
        (f'<podcast:txt purpose="p2prss">{KEY.hex()}</podcast:txt>', Rights(keys=(KEY,))),
        (f'<podcast:txt purpose="verify">{TEXT}</podcast:txt>', Rights()),
        ('<podcast:txt purpose="p2prss">not a key</podcast:txt>', Rights()),
        (f'<item><podcast:txt purpose="p2prss">{TEXT}</podcast:txt></item>', Rights()),
    ],
)
def test_what_a_feed_says(inside: str, expected: Rights) -> None:
    assert rights(inside) == expected
    assert bool(expected.reserved) == (expected.locked or expected.blocked)


def test_only_so_many_keys_are_taken() -> None:
    many = "".join(f'<podcast:txt purpose="p2prss">{bytes([n] * 32).hex()}</podcast:txt>' for n in range(50))
    assert len(rights(many).keys) == MAX_KEYS


FEED = f"""<?xml version="1.0"?>
<rss version="2.0" xmlns:podcast="{PODCAST}">
  <channel>
    <title>A &amp; B</title>
    <!-- kept -->
    <item><guid>1</guid><description><![CDATA[<b>x</b>]]></description>
      <enclosure url="https://a.example/1.mp3" length="3" type="audio/mpeg"/></item>
    <item><guid>2</guid></item>
  </channel>
</rss>"""


def test_the_feed_to_put_where_the_origins_is() -> None:
    parsed = parse_feed(FEED.encode())
    alternate = Alternate(
        (f"hyper://{TEXT}/media/aa/x.mp3", "https://gate.example/x.mp3"), 3, "audio/mpeg", "ab" * 32
    )
    items = [EmittedItem(parsed.items[0].xml, (alternate,)), EmittedItem(parsed.items[1].xml)]
    emitted = emit_feed(EmittedChannel(parsed.channel.xml), items, KEY)
    root = etree.fromstring(emitted)
    names = {"podcast": PODCAST}
    assert root.xpath("string(channel/podcast:txt[@purpose='p2prss'])", namespaces=names) == TEXT
    assert root.xpath(
        "channel/item[1]/podcast:alternateEnclosure/podcast:source/@uri", namespaces=names
    ) == list(alternate.uris)
    assert root.xpath("string(channel/item[1]/enclosure/@url)") == "https://a.example/1.mp3"
    assert b"<!-- kept -->" in emitted
    assert b"<![CDATA[<b>x</b>]]>" in emitted
    # Whoever publishes that feed, and asks for it again, gets the same one.
    again = parse_feed(emitted)
    assert read_rights(again.channel.xml).keys == (KEY,)
    items = [EmittedItem(again.items[0].xml, (alternate,)), EmittedItem(again.items[1].xml)]
    assert emit_feed(EmittedChannel(again.channel.xml), items, KEY) == emit_feed(
        EmittedChannel(again.channel.xml), [EmittedItem(one.xml) for one in again.items], KEY
    )
    assert (
        len(
            etree.fromstring(emit_feed(EmittedChannel(again.channel.xml), [], OTHER)).xpath(
                "channel/podcast:txt", namespaces=names
            )
        )
        == 2
    )


def test_a_feed_says_where_it_will_stand() -> None:
    url = "https://new.example/feed.xml"
    for link in (
        "",
        '<atom:link xmlns:atom="http://www.w3.org/2005/Atom" rel="SELF" href="https://old.example/"/>',
    ):
        channel = parse_feed(FEED.replace("<!-- kept -->", link).encode()).channel.xml
        emitted = etree.fromstring(emit_feed(EmittedChannel(channel, feed_url=url), [], KEY))
        links = emitted.findall("channel/{http://www.w3.org/2005/Atom}link")
        assert [one.get("href") for one in links] == [url]


def test_an_archive_of_a_stranger_may_hold_anything() -> None:
    with pytest.raises(FeedFormatError):
        emit_feed(EmittedChannel(b"<rss/>"), [], KEY)
    with pytest.raises(FeedFormatError):
        emit_feed(
            EmittedChannel(b"<rss><channel/></rss>"),
            [EmittedItem(b"<item", (Alternate(("x",), 1, "a/b", "00" * 32),))],
            KEY,
        )
    with pytest.raises(FeedFormatError):
        read_rights(b"\xff")
