"""Feeds as the wild has them: each small damage and oddity, and what is made of it.

The measure is a lenient parser: what it sees in what the origin sent, it sees in what is served.
"""

import gzip
import io

import feedparser
import pytest
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import ItemSource, Serving, render_feed

URL = "https://origin.example/show/feed.xml"
ITUNES = 'xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
ONE = (
    "<item><title>A</title><guid>1</guid>"
    '<enclosure url="http://e.example/1.mp3" length="1" type="audio/mpeg"/></item>'
)
TWO = ONE.replace(">A<", ">B<").replace(">1<", ">2<").replace("1.mp3", "2.mp3")
BOTH = [("A", ["http://e.example/1.mp3"]), ("B", ["http://e.example/2.mp3"])]
Seen = list[tuple[str, list[str]]]


def rss(body: str, head: str = 'version="2.0"', declaration: str = "") -> str:
    return f'<?xml version="1.0"{declaration}?><rss {head}><channel><title>T</title>{body}</channel></rss>'


def served(data: bytes | str) -> bytes:
    feed = parse_feed(data if isinstance(data, bytes) else data.encode("utf-8", "surrogatepass"), url=URL)
    sources = [ItemSource(one.xml, one.guid, None, one.base_url) for one in feed.items]
    document = render_feed(
        feed.channel.xml, sources, Serving("http://h.example/f", origin_url=URL, base_url=feed.base_url)
    )
    etree.fromstring(document)
    return document


def seen(data: bytes) -> Seen:
    found = feedparser.parse(io.BytesIO(data), response_headers={"content-type": "application/xml"})
    return [
        (one.get("title", ""), [file.get("href") for file in one.get("enclosures", [])])
        for one in found.entries
    ]


@pytest.mark.parametrize(
    "text",
    {
        "a prefix declared twice": rss(ONE + TWO, f"{ITUNES} {ITUNES}"),
        "odd case of a namespace": rss(ONE + TWO, ITUNES.replace("dtds/podcast", "DTDs/PodCast")),
        "default namespace of another": rss(ONE + TWO, 'xmlns="http://www.w3.org/2005/Atom"'),
        "unknown default namespace": rss(ONE + TWO, 'xmlns="urn:x"'),
        "capital letters": "<RSS><CHANNEL><TITLE>T</TITLE>"
        + (ONE + TWO).replace("item", "ITEM").replace("title", "TITLE")
        + "</CHANNEL></RSS>",
        "no channel": f"<rss><title>T</title>{ONE}{TWO}</rss>",
        "items beside the channel": f"<rss><channel><title>T</title></channel>{ONE}{TWO}</rss>",
        "two channels": f"<rss><channel>{ONE}</channel><channel>{TWO}</channel></rss>",
        "RSS 0.91": rss(ONE + TWO, 'version="0.91"'),
        "CDATA in CDATA": rss(ONE + TWO + "<x><![CDATA[a <![CDATA[b]]> c]]></x>"),
        "text behind the end": rss(ONE + TWO) + "\n<!-- x -->\nhello <b>there</b>",
        "messages before the start": "<br />\n<b>Warning</b>: no\n" + rss(ONE + TWO),
        "headers before the start": "HTTP/1.1 200 OK\r\nServer: x\r\n\r\n" + rss(ONE + TWO),
        "a byte order mark that was read as letters": "ï»¿" + rss(ONE + TWO),
        "blanks around a namespace": rss(ONE + TWO, ITUNES.replace('="', '=" ')),
        "an empty namespace": rss(ONE.replace("<item>", '<item xmlns:x="">') + TWO + "<x:y/>"),
        "a reserved prefix": rss(ONE + TWO, 'xmlns:xml="urn:x" xmlns:xmlns="urn:y"'),
        "blanks in a namespace": rss(ONE + TWO, 'xmlns:a="my own"'),
        "a page in the notes of a broken feed": rss(
            ONE.replace(
                "<title>", "<description><![CDATA[<html><body>x</body></html>]]></description><b><title>"
            )
            + TWO
        ),
        "two documents": rss(ONE) + rss(TWO),
        "an item never closed": rss(ONE.replace("</item>", "") + TWO),
        "a category never closed": rss('<itunes:category text="a">' + ONE + TWO, ITUNES),
        "the end cut off": rss(ONE + TWO)[:-20],
        "an attribute twice": rss(ONE.replace('length="1"', 'length="1" length="2"') + TWO),
        "an attribute without quotes": rss(ONE.replace('length="1"', "length=1") + TWO),
        "a comment with hyphens": rss("<!-- a -- b --->" + ONE + TWO),
        "raw HTML": rss(ONE + TWO + "<description><p>x<br>y<img src=a.png></p><p>z</description>"),
        "an old document type": '<!DOCTYPE rss PUBLIC "-//x//DTD" "http://x.example/rss.dtd">\n'
        + rss(ONE + TWO + "<copyright>&copy;</copyright>")[21:],
        "a declaration after blanks": " \n" + rss(ONE + TWO),
        "stylesheets and instructions": "<?xml-stylesheet href='x'?><?y z?>" + rss(ONE + TWO)[21:],
    }.items(),
    ids=lambda case: case[0],
)
def test_what_a_lenient_parser_sees_is_served(text: tuple[str, str]) -> None:
    assert seen(text[1].encode()) == BOTH
    assert seen(served(text[1])) == BOTH


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("A < B & C", "A < B & C"),
        ("\U0001f600&#128512;&#xD83D;&#xDE00;&#55357;&#56832;", "\U0001f600" * 4),
        ("a\x01\x0bb", "ab"),
        ("&nbsp;&#150;&bogus;", "\xa0–&bogus;"),
        ("<![CDATA[&amp;]]>", "&amp;"),
        ("a]]>b", "a]]>b"),
    ],
)
def test_titles_keep_their_letters(title: str, expected: str) -> None:
    root = etree.fromstring(served(rss(f"<item><title>{title}</title><guid>1</guid></item>" + TWO)))
    assert [one.text for one in root.iterfind("channel/item/title")] == [expected, "B"]


@pytest.mark.parametrize(
    ("charset", "declared", "text"),
    [
        ("utf-16-le", "", "é"),
        ("utf-16-be", "utf-16", "é"),
        ("utf-16", "utf-8", "é"),
        ("utf-32-le", "utf-32", "é"),
        ("utf-8", "utf-16", "é"),
        ("latin-1", "", "é"),
        ("gb18030", "gb2312", "中文镕"),
        ("cp932", "shift_jis", "①日本"),
        ("cp932", "x-sjis", "①日本"),
        ("cp949", "euc-kr", "뷁"),
        ("big5", "big5", "中文"),
        ("cp1254", "iso-8859-9", "“ş”"),
        ("utf-8", "iso-8859-1", "中文é"),
        ("cp1252", "iso-8859-1", "“é”"),
        ("koi8-r", "koi8-r", "Подкаст"),
    ],
)
def test_charsets_that_browsers_know(charset: str, declared: str, text: str) -> None:
    declaration = f' encoding="{declared}"' if declared else ""
    document = rss(ONE.replace(">A<", f">{text}<"), declaration=declaration).encode(charset)
    for data in (document, gzip.compress(document)):
        assert f"<title>{text}</title>".encode() in served(data)


def test_bytes_of_two_charsets_are_each_read_as_what_they_are() -> None:
    data = rss(ONE.replace(">A<", ">é–?<")).encode().replace(b"?<", b"\x93\xe9<")
    assert "<title>é–“é</title>".encode() in served(data)


def test_one_wrong_byte_does_not_spoil_the_rest_of_a_text() -> None:
    declared = ' encoding="shift_jis"'
    data = rss(ONE.replace(">A<", ">日本?<"), declaration=declared).encode("cp932").replace(b"?<", b"\xff<")
    assert "日本".encode() in served(data)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("  \n http://e.example/1.mp3 ", "http://e.example/1.mp3"),
        ("//e.example/1.mp3", "https://e.example/1.mp3"),
        ("/1.mp3", "https://origin.example/1.mp3"),
        ("1.mp3?a=1&b=2", "https://origin.example/show/1.mp3?a=1&b=2"),
        ("HTTP://E.example/1.mp3?", "HTTP://E.example/1.mp3?"),
    ],
)
def test_addresses_of_enclosures(written: str, address: str) -> None:
    item = f'<item><guid>\n 1 </guid><enclosure url="{written}" type="audio/mpeg"/></item>'
    root = etree.fromstring(served(rss(item)))
    assert [one.get("url") for one in root.iterfind("channel/item/enclosure")] == [address]
    assert root.findtext("channel/item/guid") == "\n 1 "


def test_links_are_absolute_from_the_nearest_base_and_other_texts_are_left() -> None:
    item = (
        '<item xml:base="sub/"><guid>a/b</guid><link>p.html</link><comments>17</comments>'
        '<source url="../s.xml">S</source><x>y/z</x></item>'
    )
    root = etree.fromstring(served(rss("<link>/home</link>" + item, 'xml:base="https://base.example/x/"')))
    assert root.findtext("channel/link") == "https://base.example/home"
    found = root.find("channel/item")
    assert found is not None
    assert found.findtext("link") == "https://base.example/x/sub/p.html"
    assert [one.get("url") for one in found.iterfind("source")] == ["https://base.example/x/s.xml"]
    assert [found.findtext(name) for name in ("guid", "comments", "x")] == ["a/b", "17", "y/z"]


def test_comments_between_items_stay_with_what_they_stand_before() -> None:
    text = rss(f"<!-- all --><!-- first -->{ONE}<!-- second --><?y z?>{TWO}<!-- end -->")
    document = served(text).decode()
    places = [
        document.index(one)
        for one in (
            "<!-- all -->",
            "<!-- first -->",
            ">A<",
            "<!-- second -->",
            "<?y z?>",
            ">B<",
            "<!-- end -->",
        )
    ]
    assert places == sorted(places)


def test_nested_podcast_elements_groups_and_chapters_are_kept() -> None:
    head = (
        'xmlns:podcast="https://podcastindex.org/namespace/1.0" xmlns:media="http://search.yahoo.com/mrss/"'
        ' xmlns:psc="http://podlove.org/simple-chapters"'
    )
    inner = (
        '<media:group><media:content url="http://e.example/a" type="audio/mpeg"><media:title>x</media:title>'
        "</media:content></media:group>"
        '<psc:chapters version="1.2"><psc:chapter start="0" title="a&lt;b"/></psc:chapters>'
        '<podcast:value type="t"><podcast:valueTimeSplit startTime="1"><podcast:remoteItem feedGuid="g"/>'
        "</podcast:valueTimeSplit></podcast:value>"
        '<podcast:person role="host">A</podcast:person><podcast:person role="guest">B</podcast:person>'
    )
    root = etree.fromstring(served(rss(f"<item><guid>1</guid>{inner}</item>", head)))
    found = root.find("channel/item")
    assert found is not None
    wanted = etree.fromstring(f"<item {head}><guid>1</guid>{inner}</item>")
    found.tail = None
    assert etree.tostring(found, method="c14n", exclusive=True) == etree.tostring(
        wanted, method="c14n", exclusive=True
    )


def test_rdf_keeps_its_elements_in_another_frame() -> None:
    text = (
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns="http://purl.org/rss/1.0/"'
        ' xmlns:enc="http://purl.oclc.org/net/rss_2.0/enc#" xmlns:dc="http://purl.org/dc/elements/1.1/">'
        '<channel rdf:about="c"><title>T</title><image rdf:resource="i"/><items><rdf:Seq/></items></channel>'
        '<image rdf:about="i"><url>http://e.example/i.png</url></image>'
        '<item rdf:about="x:1"><title>A</title><dc:date>2020-01-02T03:04:05Z</dc:date>'
        "<dc:creator>W</dc:creator>"
        '<enc:enclosure rdf:resource="http://e.example/1.mp3" enc:type="audio/mpeg" enc:length="5"/>'
        "</item></rdf:RDF>"
    )
    feed = parse_feed(text.encode(), url=URL)
    assert (feed.source_format, feed.repairs, feed.items[0].guid) == ("rdf", (), "x:1")
    assert feed.items[0].published is not None
    assert [one.url for one in feed.channel.files] == ["http://e.example/i.png"]
    assert [(one.url, one.byte_length, one.mime_type) for one in feed.items[0].enclosures] == [
        ("http://e.example/1.mp3", 5, "audio/mpeg")
    ]
    for kept in (b"dc:creator", b"dc:date", b"enc:enclosure"):
        assert kept in feed.items[0].xml
    assert b"rdf:about" not in feed.items[0].xml  # the guid says it
    assert b"<items" not in feed.channel.xml
    assert b"<dc:identifier>c</dc:identifier>" in feed.channel.xml
    assert b"rdf:about" not in feed.channel.xml.partition(b"<image")[0]


def test_an_end_that_is_missing_makes_a_feed_degraded() -> None:
    feed = parse_feed(rss(ONE + TWO)[:-30].encode(), url=URL)
    assert feed.degraded
    assert "the end was missing" in feed.repairs


@pytest.mark.parametrize(
    "data",
    [b"<rss/>", b"lorem <rss", b"<html><head/></html>", b"<opml/>", b"<feed/>", b"<" * 5000, b"<a" * 50_000],
)
def test_what_is_nothing_is_refused_in_one_line(data: bytes) -> None:
    with pytest.raises(FeedFormatError) as caught:
        parse_feed(data, url=URL)
    assert "\n" not in str(caught.value)


def test_an_xml_id_that_stands_twice_is_no_damage() -> None:
    feed = parse_feed(rss(f'<x xml:id="a"/><y xml:id="a"/>{ONE}').encode())
    assert not feed.repairs
    assert b'<x xml:id="a"/><y xml:id="a"/>' in feed.channel.xml


def test_a_warning_does_not_hide_an_error_before_it() -> None:
    feed = parse_feed(rss(f'<x:y/>{ONE}<z xmlns="relative"/>').encode())
    assert feed.repairs == ("namespace prefixes declared: x",)
    without_channel = '<rss><x:y/><item><guid>1</guid></item><z xmlns="relative"/></rss>'
    assert [one.guid for one in parse_feed(without_channel.encode()).items] == ["1"]
