"""Atom and JSON Feed as RSS: each member that is known lands somewhere."""

import json
from typing import Any

import pytest
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.parse import parse_feed

URL = "https://origin.example/feed"
NAMES = {
    "atom": "http://www.w3.org/2005/Atom",
    "content": "http://purl.org/rss/1.0/modules/content/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "media": "http://search.yahoo.com/mrss/",
    "podcast": "https://podcastindex.org/namespace/1.0",
    "xml": "http://www.w3.org/XML/1998/namespace",
}

ATOM = """<?xml version="1.0"?><!-- made by hand -->
<feed xmlns="http://www.w3.org/2005/Atom" xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"
 xmlns:x="urn:x" xml:lang="de" xml:base="https://base.example/">
<title type="text">T &amp; T</title><subtitle type="html">&lt;b&gt;s&lt;/b&gt;</subtitle><id>urn:feed</id>
<link rel="self" href="self.atom"/><link rel="next" href="?page=2"/><link href="home" hreflang="de"/>
<link rel="hub" href="https://hub.example/"/><link rel="license" href="https://l.example/"/>
<updated>2024-02-03T04:05:06+01:00</updated><rights>R</rights><logo>logo.png</logo><icon>icon.png</icon>
<generator uri="https://g.example" version="1">G</generator><category term="c" scheme="https://s.example/"/>
<author><name>N</name><email>n@e.example</email><uri>https://n.example</uri></author>
<contributor><name>K</name></contributor><x:own a="1">o</x:own>
<entry xml:lang="en"><id> urn:1 </id><title type="html">A &amp;amp; &lt;i&gt;B&lt;/i&gt;</title>
<published>2024-01-02T03:04:05-08:00</published><updated>2024-01-03T00:00:00Z</updated>
<summary>1 &lt; 2</summary>
<content type="xhtml"><div xmlns="http://www.w3.org/1999/xhtml"><p>a &amp; <br/>b</p></div></content>
<link href="text.txt" type="text/plain"/><link href="page.html" type="text/html"/>
<link rel="enclosure" href="a.mp3" type="audio/mpeg" length="12" title="low" hreflang="en"/>
<link rel="enclosure" href="b.mp3" xml:base="https://cdn.example/"/>
<link rel="replies" href="r"/><category term="t" label="Label"/><rights>RR</rights>
<author><name>M</name></author><source><id>urn:src</id><title>S</title></source>
<itunes:duration>5</itunes:duration><!-- note --></entry></feed>"""


def found(root: etree._Element, path: str) -> list[Any]:
    result = root.xpath(path, namespaces=NAMES)
    assert isinstance(result, list)
    return [one if isinstance(one, etree._Element) else str(one) for one in result]


@pytest.fixture(scope="module")
def atom() -> tuple[etree._Element, etree._Element]:
    feed = parse_feed(ATOM.encode(), url=URL)
    assert (feed.source_format, feed.repairs, feed.degraded) == ("atom", (), False)
    return etree.fromstring(feed.channel.xml), etree.fromstring(feed.items[0].xml)


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("channel/title/text()", ["T & T"]),
        ("channel/description/text()", ["<b>s</b>"]),
        ("channel/link/text()", ["home"]),
        ("channel/language/text()", ["de"]),
        ("channel/lastBuildDate/text()", ["Sat, 03 Feb 2024 04:05:06 +0100"]),
        ("channel/copyright/text()", ["R"]),
        ("channel/image/url/text()", ["logo.png"]),
        ("channel/itunes:image/@href", ["logo.png"]),
        ("channel/atom:icon/text()", ["icon.png"]),
        ("channel/generator/text()", ["G"]),
        ("channel/atom:generator/@version", ["1"]),
        ("channel/category/@domain", ["https://s.example/"]),
        ("channel/itunes:author/text()", ["N"]),
        ("channel/managingEditor/text()", ["n@e.example (N)"]),
        ("channel/atom:author/atom:uri/text()", ["https://n.example"]),
        ("channel/atom:contributor/atom:name/text()", ["K"]),
        ("channel/atom:id/text()", ["urn:feed"]),
        ("channel/atom:link/@rel", ["self", "next", "hub", "license"]),
        ("channel/atom:link/@hreflang", ["de"]),
        ("channel/*[local-name()='own']/@a", ["1"]),
        ("@xml:base", ["https://base.example/"]),
    ],
)
def test_each_part_of_an_atom_feed(
    atom: tuple[etree._Element, etree._Element], path: str, values: list[str]
) -> None:
    assert found(atom[0], path) == values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("guid/text()", [" urn:1 "]),
        ("guid/@isPermaLink", ["false"]),
        ("title/text()", ["A &amp; <i>B</i>"]),
        ("pubDate/text()", ["Tue, 02 Jan 2024 03:04:05 -0800"]),
        ("atom:updated/text()", ["2024-01-03T00:00:00Z"]),
        ("description/text()", ["1 &lt; 2"]),
        ("content:encoded/text()", ["<p>a &amp; <br/>b</p>"]),
        ("link/text()", ["page.html"]),
        ("enclosure/@url", ["a.mp3", "b.mp3"]),
        ("enclosure[1]/@type", ["audio/mpeg"]),
        ("enclosure[1]/@length", ["12"]),
        ("enclosure[1]/@atom:title", ["low"]),
        ("enclosure[2]/@xml:base", ["https://cdn.example/"]),
        ("atom:link/@rel", ["replies"]),
        ("atom:link[@type='text/plain']/@href", ["text.txt"]),
        ("category/text()", ["t"]),
        ("atom:category/@label", ["Label"]),
        ("atom:rights/text()", ["RR"]),
        ("itunes:author/text()", ["M"]),
        ("atom:source/atom:title/text()", ["S"]),
        ("itunes:duration/text()", ["5"]),
        ("comment()", ["<!-- note -->"]),
        ("@xml:lang", ["en"]),
    ],
)
def test_each_part_of_an_atom_entry(
    atom: tuple[etree._Element, etree._Element], path: str, values: list[str]
) -> None:
    told = [
        etree.tostring(one, encoding="unicode", with_tail=False) if isinstance(one, etree._Element) else one
        for one in found(atom[1], path)
    ]
    assert told == values


def test_files_of_atom_start_where_they_are_written() -> None:
    item = parse_feed(ATOM.encode(), url=URL).items[0]
    assert [one.url for one in item.enclosures] == ["https://base.example/a.mp3", "https://cdn.example/b.mp3"]


def test_atom_03() -> None:
    text = (
        '<feed version="0.3" xmlns="http://purl.org/atom/ns#"><title>T</title><tagline>g</tagline>'
        "<entry><title>A</title><id>1</id><issued>2003-12-13T08:29:29-04:00</issued>"
        "<modified>2003-12-13T18:30:02Z</modified>"
        '<content type="text/html" mode="escaped">&lt;b&gt;</content></entry></feed>'
    )
    feed = parse_feed(text.encode(), url=URL)
    root, item = etree.fromstring(feed.channel.xml), etree.fromstring(feed.items[0].xml)
    assert found(root, "channel/description/text()") == ["g"]
    assert found(item, "pubDate/text()") == ["Sat, 13 Dec 2003 08:29:29 -0400"]
    assert found(item, "content:encoded/text()") == ["<b>"]
    assert found(item, "*[local-name()='modified']/text()") == ["2003-12-13T18:30:02Z"]


PERSON = {"name": "P", "url": "https://p.example/", "avatar": "https://p.example/a.png"}
JSON_FEED: dict[str, Any] = {
    "version": "https://jsonfeed.org/version/1.1",
    "title": "T",
    "home_page_url": "https://h.example/",
    "feed_url": "https://h.example/f.json",
    "description": "D",
    "user_comment": "see -- here",
    "next_url": "https://h.example/2.json",
    "icon": "https://h.example/i.png",
    "favicon": "https://h.example/f.ico",
    "authors": [PERSON],
    "language": "en",
    "expired": True,
    "hubs": [{"type": "WebSub", "url": "https://hub.example/"}],
    "items": [
        {
            "id": 7,
            "url": "https://h.example/7",
            "external_url": "https://x.example/",
            "title": "A",
            "content_html": "<p>h</p>",
            "content_text": "t",
            "summary": "s & s",
            "image": "https://h.example/7.png",
            "banner_image": "https://h.example/7b.png",
            "date_published": "2024-01-02T03:04:05-08:00",
            "date_modified": "2024-01-03T00:00:00Z",
            "authors": [PERSON],
            "tags": ["x", "y"],
            "language": "fr",
            "attachments": [
                {
                    "url": "https://h.example/7.mp3",
                    "mime_type": "audio/mpeg",
                    "title": "low",
                    "size_in_bytes": 12.0,
                    "duration_in_seconds": 34.5,
                }
            ],
        },
        {"id": "8", "content_text": "a < b"},
        "no object",
    ],
}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("channel/title/text()", ["T"]),
        ("channel/link/text()", ["https://h.example/"]),
        ("channel/description/text()", ["D"]),
        ("channel/language/text()", ["en"]),
        ("channel/atom:link/@rel", ["self", "next", "hub"]),
        ("channel/atom:link[@rel='hub']/@title", ["WebSub"]),
        ("channel/image/url/text()", ["https://h.example/i.png"]),
        ("channel/itunes:image/@href", ["https://h.example/i.png"]),
        ("channel/atom:icon/text()", ["https://h.example/f.ico"]),
        ("channel/itunes:author/text()", ["P"]),
        ("channel/podcast:person/@img", ["https://p.example/a.png"]),
        ("channel/itunes:complete/text()", ["Yes"]),
        ("channel/comment()", [" see - - here "]),
    ],
)
def test_each_member_of_a_json_feed(path: str, values: list[str]) -> None:
    root = etree.fromstring(parse_feed(json.dumps(JSON_FEED).encode(), url=URL).channel.xml)
    assert [one.text if isinstance(one, etree._Element) else one for one in found(root, path)] == values


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("guid/text()", ["7"]),
        ("title/text()", ["A"]),
        ("link/text()", ["https://h.example/7"]),
        ("atom:link[@rel='related']/@href", ["https://x.example/"]),
        ("pubDate/text()", ["Tue, 02 Jan 2024 03:04:05 -0800"]),
        ("atom:updated/text()", ["2024-01-03T00:00:00Z"]),
        ("description/text()", ["s &amp; s"]),
        ("content:encoded/text()", ["<p>h</p>"]),
        ("itunes:summary/text()", ["t"]),
        ("itunes:image/@href", ["https://h.example/7.png"]),
        ("media:thumbnail/@url", ["https://h.example/7b.png"]),
        ("podcast:person/text()", ["P"]),
        ("category/text()", ["x", "y"]),
        ("dc:language/text()", ["fr"]),
        ("enclosure/@length", ["12"]),
        ("enclosure/@type", ["audio/mpeg"]),
        ("itunes:duration/text()", ["34"]),
        ("media:content/media:title/text()", ["low"]),
        ("media:content/@duration", ["34"]),
    ],
)
def test_each_member_of_a_json_item(path: str, values: list[str]) -> None:
    feed = parse_feed(json.dumps(JSON_FEED).encode(), url=URL)
    assert [one.guid for one in feed.items] == ["7", "8"]
    assert [one.url for one in feed.items[0].enclosures] == ["https://h.example/7.mp3"]
    assert found(etree.fromstring(feed.items[0].xml), path) == values


def test_a_json_item_without_title_and_summary_has_a_description() -> None:
    feed = JSON_FEED | {"items": [{"id": "9", "content_html": "<p>h</p>"}]}
    item = etree.fromstring(parse_feed(json.dumps(feed).encode(), url=URL).items[0].xml)
    assert found(item, "description/text()") == ["<p>h</p>"]
    assert not found(item, "content:encoded")


def test_plain_text_of_json_is_written_as_html() -> None:
    item = etree.fromstring(parse_feed(json.dumps(JSON_FEED).encode(), url=URL).items[1].xml)
    assert found(item, "description/text()") == ["a &lt; b"]


@pytest.mark.parametrize("member", ["title", "authors", "items", "icon", "hubs", "language", "expired"])
@pytest.mark.parametrize("value", [None, 1, True, "x", [1], {"a": {}}])
def test_a_member_of_the_wrong_type_is_passed_over(member: str, value: object) -> None:
    assert parse_feed(json.dumps(JSON_FEED | {member: value}).encode(), url=URL).source_format == "json"


def test_version_1_has_one_author() -> None:
    feed = {"version": "https://jsonfeed.org/version/1", "title": "T", "author": {"name": "Old"}}
    root = etree.fromstring(parse_feed(json.dumps(feed).encode(), url=URL).channel.xml)
    assert found(root, "channel/itunes:author/text()") == ["Old"]


def test_too_many_items_of_any_kind_are_refused() -> None:
    many = 60_000
    feed = '{"version": "https://jsonfeed.org/version/1", "items": [' + ",".join(["{}"] * many) + "]}"
    entries = "<feed xmlns='http://www.w3.org/2005/Atom'>" + "<entry/>" * many + "</feed>"
    for text in (feed, entries, "<rss><channel>" + "<item/>" * many + "</channel></rss>"):
        with pytest.raises(FeedFormatError, match="more than 50000 items"):
            parse_feed(text.encode(), url=URL)


XHTML = 'xmlns="http://www.w3.org/1999/xhtml"'


def test_comments_in_markup_of_atom_are_kept() -> None:
    content = '<div xmlns="http://www.w3.org/1999/xhtml"><!-- a --><p>b</p><?c d?></div>'
    entry = f"<entry><id>1</id><title>x</title><content type='xhtml'>{content}</content></entry>"
    text = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title>{entry}</feed>'
    item = etree.fromstring(parse_feed(text.encode()).items[0].xml)
    assert item.findtext("{http://purl.org/rss/1.0/modules/content/}encoded") == "<!-- a --><p>b</p><?c d?>"


@pytest.mark.parametrize(
    ("attributes", "content", "expected"),
    [
        ("type='xhtml'", f"<div {XHTML}><b><![CDATA[a<b]]></b><![CDATA[&]]></div>", "<b>a&lt;b</b>&amp;"),
        ("type='text/html' mode='base64'", " PGI+\n eDwvYj4=", "<b>x</b>"),
        ("mode='base64'", "no base64", "no base64"),
        ("mode='base64'", "AA==", ""),
    ],
)
def test_markup_of_atom_in_odd_clothes(attributes: str, content: str, expected: str) -> None:
    entry = f"<entry><id>1</id><title>x</title><content {attributes}>{content}</content></entry>"
    text = f'<feed xmlns="http://www.w3.org/2005/Atom"><title>T</title>{entry}</feed>'
    item = etree.fromstring(parse_feed(text.encode()).items[0].xml)
    assert item.findtext("{http://purl.org/rss/1.0/modules/content/}encoded", "") == expected


def test_a_date_of_the_older_dublin_core_counts() -> None:
    item = "<item rdf:about='a'><title>x</title><dc:date>2009-03-07T08:03:50Z</dc:date></item>"
    spaces = (
        'xmlns="http://purl.org/rss/1.0/" xmlns:dc="http://purl.org/dc/elements/1.0/"'
        ' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    )
    feed = parse_feed(f"<rdf:RDF {spaces}><channel><title>T</title></channel>{item}</rdf:RDF>".encode())
    assert feed.items[0].published is not None


def test_comments_and_instructions_of_rdf_are_kept() -> None:
    spaces = 'xmlns="http://purl.org/rss/1.0/" xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"'
    channel = '<channel rdf:about="http://e.example/a"><!-- a --><?b c?><title>T</title><!-- d --></channel>'
    feed = parse_feed(f"<rdf:RDF {spaces}><!-- e -->{channel}<item rdf:about='i'/></rdf:RDF>".encode())
    for one in (b"<!-- a -->", b"<?b c?>", b"<!-- d -->", b"<!-- e -->"):
        assert one in feed.channel.xml


def test_half_a_letter_in_json_goes_and_nothing_else() -> None:
    version = '"version":"https://jsonfeed.org/version/1.1"'
    members = r'"title":"a\ud83d","items":[{"id":"1","title":"\ud83d\ude00"}]'
    text = f"{{{version},{members}}}"
    feed = parse_feed(text.encode())
    assert (feed.channel.title, feed.items[0].title) == ("a", "\U0001f600")
