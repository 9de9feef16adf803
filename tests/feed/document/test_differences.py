"""Every difference between an origin's feed and the served one has its rule."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from p2prss.errors import FeedFormatError
from p2prss.feed.document.differences import Document, Rule, find_differences
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import Alternate, ItemSource, Replacement, Serving, render_feed

FEEDS = Path(__file__).parents[2] / "feeds"
URL = "https://origin.example/show/feed.xml"
HERE = "http://127.0.0.1:7737"
DATE = datetime(2024, 5, 6, tzinfo=UTC)
HEAD = (
    'version="2.0" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
    ' xmlns:atom="http://www.w3.org/2005/Atom" xmlns:podcast="https://podcastindex.org/namespace/1.0"'
)


def differences(
    channel: str = "", item: str = "", *, origin: str | None = None, before: str = "", **source: object
) -> dict[tuple[str, str], tuple[str | None, str | None]]:
    """What is told of a feed of one item that is served: rule and element -> both values.

    ``origin`` is what the origin says instead, where it has changed.
    """

    def document(words: str) -> bytes:
        text = f"{before}<rss {HEAD}><channel><title>T</title>{channel}<item>{words}</item></channel></rss>"
        return text.encode()

    archived = parse_feed(document(item), url=URL)
    now = parse_feed(document(item if origin is None else origin), url=URL)
    sources = [
        ItemSource(one.xml, one.guid, DATE, one.base_url, **source)  # type: ignore[arg-type]
        for one in archived.items
    ]
    serving = Serving(f"{HERE}/feeds/k/feed.xml", origin_url=URL, base_url=URL)
    served = render_feed(archived.channel.xml, sources, serving)
    found = find_differences(
        Document(now.channel.xml, [(one.guid, one.xml) for one in now.items]), served, HERE
    )
    always = {Rule.LINKS, Rule.BLOCK, Rule.GUID}
    ours = [one for one in found if one.where == "channel" and one.rule in always and one.origin is None]
    assert {one.element for one in ours} >= {"atom:link", "podcast:block"}
    return {(str(one.rule), one.element): (one.origin, one.served) for one in found if one not in ours}


FULL = "<guid>g</guid><pubDate>Mon, 01 Jan 2024 06:00:00 GMT</pubDate><title>One</title>"


def test_a_feed_with_nothing_to_rewrite_only_gets_the_additions() -> None:
    assert differences(item=FULL) == {}


@pytest.mark.parametrize(
    ("channel", "rule", "element", "values"),
    [
        ("<itunes:new-feed-url>x</itunes:new-feed-url>", "moved", "itunes:new-feed-url", ("x", None)),
        ('<cloud domain="c"/>', "cloud", "cloud", ("domain=c", None)),
        ("<itunes:block>no</itunes:block>", "block", "itunes:block", ("no", "Yes")),
        ('<atom:link rel="hub" href="h"/>', "links", "atom:link", ("rel=hub href=h", None)),
        ("<link>/a</link>", "absolute", "link", ("/a", "https://origin.example/a")),
    ],
)
def test_what_differs_in_the_channel(
    channel: str, rule: str, element: str, values: tuple[str | None, str | None]
) -> None:
    assert differences(channel, FULL) == {(rule, element): values}


def test_a_style_sheet_is_told() -> None:
    told = differences(item=FULL, before='<?xml-stylesheet href="x.xsl"?>')
    assert told == {("stylesheet", "xml-stylesheet"): ('href="x.xsl"', None)}


def test_what_differs_in_a_captured_item() -> None:
    url, local = "https://cdn.example/a.mp3", f"{HERE}/feeds/k/episodes/1/1/a.mp3"
    told = differences(
        item=f'<title>One</title><enclosure url="{url}" length="0"/>'
        '<description>&lt;img src="p.png"></description>',
        replacements={url: Replacement(local, 5, "audio/mpeg")},
        alternates=(Alternate((local,), 5, "audio/mpeg", "00" * 32),),
    )
    assert told.pop(("edition", "podcast:alternateEnclosure"))[0] is None
    assert told == {
        ("captured", "enclosure@url"): (url, local),
        ("captured", "enclosure@length"): ("0", "5"),
        ("captured", "enclosure@type"): (None, "audio/mpeg"),
        ("pictures", "description img"): ("p.png", "https://origin.example/show/p.png"),
        ("guid", "guid"): (None, f"isPermaLink=false {url}"),
        ("date", "pubDate"): (None, "Mon, 06 May 2024 00:00:00 GMT"),
    }


def test_what_the_origin_changed_since_is_told_as_such() -> None:
    told = differences(item=FULL, origin=FULL.replace("One", "Two") + "<x/>")
    assert told == {("changed", "title"): ("Two", "One"), ("changed", "x"): ("", None)}


def test_items_that_come_go_and_stand_twice_are_told() -> None:
    def document(*guids: str) -> bytes:
        items = "".join(f"<item><guid>{one}</guid><title>t{one}</title></item>" for one in guids)
        return f"<rss><channel>{items}</channel></rss>".encode()

    old, new = parse_feed(document("1", "2", "3")), parse_feed(document("3", "2", "2", "4"))
    served = render_feed(
        old.channel.xml, [ItemSource(one.xml, one.guid) for one in old.items], Serving(f"{HERE}/f")
    )
    origin = Document(new.channel.xml, [(one.guid, one.xml) for one in new.items])
    found = find_differences(origin, served, HERE)
    assert {(str(one.rule), one.where, one.origin, one.served) for one in found if one.element == "item"} == {
        ("double", "2", "t2", None),
        ("changed", "4", "t4", None),
        ("dropped", "1", None, "t1"),
        ("order", "channel", "3, 2", "1, 2, 3"),
    }


def test_of_a_guid_that_stands_twice_the_served_one_is_compared() -> None:
    old, new = (
        "<item><guid>1</guid><title>old</title></item>",
        "<item><guid>1</guid><title>new</title></item>",
    )
    feed = parse_feed(f"<rss><channel>{old}<item><guid>2</guid></item>{new}</channel></rss>".encode())
    sources = [ItemSource(feed.items[place].xml, feed.items[place].guid) for place in (1, 2)]
    served = render_feed(feed.channel.xml, sources, Serving(f"{HERE}/f"))
    origin = Document(feed.channel.xml, [(one.guid, one.xml) for one in feed.items])
    found = [one for one in find_differences(origin, served, HERE) if one.where != "channel"]
    assert [(str(one.rule), one.where, one.origin) for one in found] == [("double", "1", "old")]


def test_a_comment_that_came_is_told() -> None:
    told = differences(item=FULL, origin=FULL + "<!-- new words -->")
    assert [values for (rule, _), values in told.items() if rule == "changed"] == [("new words", None)]


def test_rules_stand_together() -> None:
    feed = parse_feed((FEEDS / "pc20-example.xml").read_bytes(), url=URL)
    sources = [ItemSource(one.xml, one.guid, DATE) for one in feed.items]
    served = render_feed(feed.channel.xml, sources, Serving(f"{HERE}/feeds/k/feed.xml", origin_url=URL))
    origin = Document(feed.channel.xml, [(one.guid, one.xml) for one in feed.items])
    rules = [one.rule for one in find_differences(origin, served, HERE)]
    assert rules == sorted(rules, key=list(Rule).index)
    assert Rule.CHANGED not in rules


def test_what_is_no_feed_is_an_error() -> None:
    with pytest.raises(FeedFormatError):
        find_differences(Document(b"<", []), b"<rss/>", HERE)
