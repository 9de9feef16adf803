"""Reading feeds: the real ones, the broken ones, and anything else."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from p2prss.errors import FeedFormatError
from p2prss.feed.document.dates import parse_date
from p2prss.feed.document.parse import MAX_ATTRIBUTES, MAX_DEPTH, parse_feed
from p2prss.feed.document.render import ItemSource, render_feed
from p2prss.feed.document.repair import MAX_FEED_BYTES
from p2prss.feed.document.rss_parts import ITEMS_MARK, MAX_NAMESPACES
from p2prss.feed.model import ParsedFeed, Role, item_id

FEEDS = Path(__file__).parents[2] / "feeds"
URL = "https://origin.example/show/feed.xml"
REFUSED = {"MANIFEST.md", "utf-16le-bom.xml", "utf-32be-bom.xml"}
REBUILT = {
    "atom-enclosures.atom",
    "craigslist-rdf.rss",
    "json-feed.json",
    "incomplete-cdata.xml",
}

feeds = pytest.mark.parametrize("path", sorted(FEEDS.iterdir()), ids=lambda path: path.name)


def rss(body: str, head: str = 'version="2.0"', before: str = "") -> bytes:
    return f"{before}<rss {head}><channel><title>T</title>{body}</channel></rss>".encode()


def parse(name: str) -> ParsedFeed:
    return parse_feed((FEEDS / name).read_bytes(), url=URL)


def assert_one_line(error: FeedFormatError) -> None:
    assert str(error)
    assert "\n" not in str(error)
    assert len(str(error)) < 300


@feeds
def test_every_real_feed_is_read_or_refused_in_one_line(path: Path) -> None:
    try:
        feed = parse_feed(path.read_bytes(), url=URL)
    except FeedFormatError as error:
        assert path.name in REFUSED
        assert_one_line(error)
        return
    assert path.name not in REFUSED
    assert all(item.guid and item.xml.startswith(b"<") for item in feed.items)
    assert feed.degraded is (path.name == "incomplete-cdata.xml")


@pytest.mark.parametrize(
    ("name", "items", "enclosures"),
    [
        ("giantbomb-730-episodes.rss", 730, 730),
        ("leading-newline-131-episodes.rss", 131, 131),
        ("no-agenda.xml", 29, 29),
        ("ampersands-iso-8859-1.xml", 20, 20),
        ("single-quoted.xml", 3, 3),
        ("windows-1251-no-guid.xml", 10, 10),
        ("gzip-bytes.xml", 10, 10),
        ("json-feed.json", 2, 2),
        ("atom-enclosures.atom", 5, 4),
        ("craigslist-rdf.rss", 25, 24),
        ("pc20-example.xml", 3, 3),
    ],
)
def test_all_episodes_are_found(name: str, items: int, enclosures: int) -> None:
    feed = parse(name)
    assert (len(feed.items), sum(len(item.enclosures) for item in feed.items)) == (items, enclosures)


def flat(root: etree._Element) -> Iterator[object]:
    """Everything an XML document says, in order, without blanks between elements."""
    for event, element in etree.iterwalk(root, events=("start", "end", "comment", "pi")):
        if event == "end":
            yield "end", str(element.tail or "").strip()
        elif event == "start":
            yield element.tag, sorted(element.attrib.items()), (element.text or "").strip()
        else:
            yield event, element.text, (element.tail or "").strip()


@feeds
def test_what_goes_in_comes_out(path: Path) -> None:
    """Reading and rendering a well-formed RSS feed loses no element, attribute, text, comment or order."""
    if path.name in REFUSED | REBUILT:
        return
    feed = parse_feed(path.read_bytes(), url=URL)
    rendered = render_feed(feed.channel.xml, [ItemSource(item.xml) for item in feed.items])
    try:
        original = etree.parse(path, etree.XMLParser(strip_cdata=False)).getroot()
    except etree.XMLSyntaxError:
        again = parse_feed(rendered, url=URL)  # it was mended: then once more must change nothing
        assert not again.repairs
        assert [item.digest for item in again.items] == [item.digest for item in feed.items]
        return
    assert list(flat(etree.fromstring(rendered, etree.XMLParser(strip_cdata=False)))) == list(flat(original))
    assert rendered.count(b"<![CDATA[") == etree.tostring(original).count(b"<![CDATA[")


def test_items_and_channel_are_told_apart() -> None:
    feed = parse_feed(rss("<a/><item><guid>1</guid></item><b/><item><guid>2</guid></item><c/>"))
    mark = f"<?{ITEMS_MARK} {item_id('2')}?>"
    assert f"<a/><?{ITEMS_MARK} ?><b/>{mark}<c/>".encode() in feed.channel.xml
    assert [item.xml for item in feed.items] == [
        b"<item><guid>1</guid></item>",
        b"<item><guid>2</guid></item>",
    ]


def test_an_item_brings_its_namespaces_along() -> None:
    feed = parse_feed(rss("<item><x:y/></item>", 'version="2.0" xmlns:x="urn:x"'))
    assert etree.fromstring(feed.items[0].xml)[0].tag == "{urn:x}y"


def test_a_mark_in_the_origins_own_feed_does_not_count() -> None:
    feed = parse_feed(rss(f"<?{ITEMS_MARK}?><a/><item/>"))
    assert f"<a/><?{ITEMS_MARK} ?>".encode() in feed.channel.xml
    assert feed.channel.xml.count(ITEMS_MARK.encode()) == 1


@pytest.mark.parametrize(
    ("item", "guid", "is_made"),
    [
        ("<guid> Ab/c </guid>", " Ab/c ", False),
        ("<guid><![CDATA[x&y]]></guid>", "x&y", False),
        ("<guid>1</guid><guid>2</guid>", "1", False),
        ('<guid> </guid><enclosure url="a.mp3"/>', "https://origin.example/show/a.mp3", True),
        (
            '<enclosure url="http://a.example/1.mp3"/><link>http://l.example/</link>',
            "http://a.example/1.mp3",
            True,
        ),
        ("<link>http://l.example/</link>", "http://l.example/", True),
    ],
)
def test_the_guid_is_verbatim_or_the_original_enclosure(item: str, guid: str, is_made: bool) -> None:
    found = parse_feed(rss(f"<item>{item}</item>"), url=URL).items[0]
    assert (found.guid, found.guid_is_made) == (guid, is_made)


def test_an_item_with_nothing_to_name_it_gets_the_same_guid_each_time() -> None:
    guids = {
        parse_feed(rss(f"<item><title>A</title></item>{more}")).items[0].guid for more in ("", "<item/>")
    }
    assert len(guids) == 1
    assert guids.pop().startswith("urn:p2prss:item:")


def test_files_are_resolved_against_xml_base_and_the_final_address() -> None:
    body = (
        '<item><enclosure url="/a.mp3" length=" 12 " type="audio/mpeg"/></item>'
        '<item xml:base="ep/"><enclosure url="b.mp3" length="0"/></item>'
        '<item><enclosure url="https://cdn.example/c.mp3" length="-1"/></item>'
    )
    feed = parse_feed(rss(body, 'version="2.0" xml:base="https://base.example/x/"'), url=URL)
    files = [item.files[0] for item in feed.items]
    assert [one.url for one in files] == [
        "https://base.example/a.mp3",
        "https://base.example/x/ep/b.mp3",
        "https://cdn.example/c.mp3",
    ]
    assert [one.byte_length for one in files] == [12, None, None]
    assert [item.base_url for item in feed.items] == [
        "https://base.example/x/",
        "https://base.example/x/",  # its own xml:base is in its XML
        "",
    ]


def test_every_kind_of_file_is_found() -> None:
    item = parse("pc20-example.xml").items[0]
    assert {one.role for one in item.files} == {
        Role.ENCLOSURE,
        Role.ALTERNATE,
        Role.IMAGE,
        Role.TRANSCRIPT,
        Role.CHAPTERS,
    }


def test_an_empty_address_is_no_file() -> None:
    item = parse_feed(rss('<item><enclosure url=" "/><enclosure/></item>'), url=URL).items[0]
    assert (item.files, item.guid.startswith("urn:")) == ((), True)


def test_live_items_are_left_to_the_channel() -> None:
    feed = parse("homegrown-hits.xml")
    assert b"liveItem" in feed.channel.xml
    assert not any("live" in one.url for one in feed.channel.files if one.role is Role.ENCLOSURE)


@pytest.mark.parametrize(
    "uri", ["http://www.itunes.com/DTDs/Podcast-1.0.dtd", "http://www.itunes.com/dtds/podcast-1.0.dtd"]
)
def test_namespaces_are_known_in_any_spelling(uri: str) -> None:
    feed = parse_feed(rss('<i:image href="http://a.example/c.png"/>', f'xmlns:i="{uri}"'))
    assert feed.channel.files[0].role is Role.IMAGE


@pytest.mark.parametrize(
    ("charset", "declared"),
    [
        ("utf-8", ""),
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8"),
        ("utf-16", "utf-16"),
        ("utf-16-le", ""),
        ("utf-32", "utf-32"),
        ("cp1252", "iso-8859-1"),
        ("cp1252", "utf-8"),
        ("cp1252", ""),
        ("iso-8859-15", "iso-8859-15"),
    ],
)
def test_the_charset_is_found(charset: str, declared: str) -> None:
    before = f"<?xml version='1.0' encoding='{declared}'?>" if declared else ""
    data = rss("<description>naïve – 50 €</description>", before=before).decode()
    if charset == "iso-8859-15":
        data = data.replace("–", "-")
    feed = parse_feed(data.encode(charset))
    assert "50 €".encode() in feed.channel.xml
    assert "naïve".encode() in feed.channel.xml


@pytest.mark.parametrize(
    ("body", "expected", "repair"),
    [
        ("<x>V&iacute;d &ouml; AT&T &amp; &bogus;</x>", "Víd ö AT&T & &bogus;", "ampersands"),
        ("<x>a\x01b</x>", "ab", "control"),
        ("<x>&#150;&#0;</x>", "–", "ampersands"),
        ('<x><itunes:y foo:z="1 a:b=2"/>t</x>', "t", "itunes, foo"),
        ("<x><![CDATA[A&B]]>&nbsp;</x>", "A&B\xa0", "ampersands"),
    ],
)
def test_common_damage_is_mended_without_losing_text(body: str, expected: str, repair: str) -> None:
    feed = parse_feed(b"\n \n" + rss(body, before="<?xml version='1.0'?>"))
    assert etree.fromstring(feed.channel.xml).xpath("string(//x)") == expected
    assert any(repair in one for one in feed.repairs)
    assert not feed.degraded


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"", "empty"),
        (b" \n\0", "empty"),
        (b"ID3\x04", "MP3"),
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"<!DOCTYPE html><html><body>Sign in", "web page"),
        (b"<html><head><title>x</title></head></html>", "web page"),
        (b"<opml version='2.0'><body/></opml>", "<opml>"),
        (b"{}", "JSON"),
        (b"[1]", "JSON"),
        (b"hello", "not XML"),
        (b"\x1f\x8bxxxxxxxxxx", "gzip"),
        (b"<rss/>", "channel"),
        (b"<!DOCTYPE rss [<!ENTITY a '&b;'>]><rss><channel/></rss>", "document type"),
        (b"<!-- x --><!DOCTYPE rss\n[<!ENTITY % a SYSTEM 'file:///etc/passwd'> %a;]><rss/>", "document type"),
        (rss("<a>" * 3000 + "</a>" * 3000), "inside of each other"),
        (rss("<a>" * (MAX_DEPTH + 5) + "</a>" * (MAX_DEPTH + 5)), "inside of each other"),
        (b"a" * (MAX_FEED_BYTES + 1), "larger than"),
        (
            rss("<a " + " ".join(f'a{number}="1"' for number in range(MAX_ATTRIBUTES + 1)) + "/>"),
            "attributes",
        ),
        (
            rss("<item/>", " ".join(f'xmlns:n{one}="urn:{one}"' for one in range(MAX_NAMESPACES + 1))),
            "namespaces",
        ),
        (rss("<item/>" * 700, f'xmlns:n="urn:{"x" * 150_000}"'), "items of this feed are larger"),
        (rss("<a><b" * 900_000), "no feed we can read"),
    ],
)
def test_what_is_no_feed_is_named_in_one_line(data: bytes, named: str) -> None:
    with pytest.raises(FeedFormatError) as caught:
        parse_feed(data, url=URL)
    assert named in str(caught.value)
    assert_one_line(caught.value)


def test_a_gzip_bomb_is_refused_without_being_unpacked() -> None:
    import gzip

    with pytest.raises(FeedFormatError, match="larger than"):
        parse_feed(gzip.compress(b" " * (2 * MAX_FEED_BYTES)))


def test_an_old_document_type_is_dropped_and_its_entities_are_known() -> None:
    doctype = '<!DOCTYPE rss PUBLIC "-//Netscape Communications//DTD RSS 0.91//EN" "http://my.example/rss-0.91.dtd">'
    feed = parse_feed(rss("<item><title>&eacute;</title></item>", before=doctype))
    assert feed.items[0].title == "é"


def test_only_content_changes_a_digest() -> None:
    one = parse_feed(rss("<item><guid>1</guid><a b='1' c=\"2\"/></item>")).items[0]
    other = parse_feed(rss('<item><guid>1</guid><a c="2" b="1"></a></item>', 'xmlns:new="urn:new"')).items[0]
    assert one.digest == other.digest
    assert one.digest != parse_feed(rss("<item><guid>1</guid><a b='1' c='3'/></item>")).items[0].digest


def test_a_new_build_date_alone_does_not_change_the_channel() -> None:
    assert parse("pair-a.xml").channel.digest == parse("pair-b.xml").channel.digest
    assert parse("series-1.rss").channel.digest != parse("pair-a.xml").channel.digest


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Mon, 01 Jan 2024 06:00:00 GMT", datetime(2024, 1, 1, 6, tzinfo=UTC)),
        ("Mo, 1 Jan 2024 06:00:00 +0200", datetime(2024, 1, 1, 4, tzinfo=UTC)),
        ("1 Jan 2024 06:00:00 EST", datetime(2024, 1, 1, 11, tzinfo=UTC)),
        ("2024-01-01T06:00:00.5Z", datetime(2024, 1, 1, 6, microsecond=500000, tzinfo=UTC)),
        ("Sat Sep 3 09:19:24 2016 GMT", datetime(2016, 9, 3, 9, 19, 24, tzinfo=UTC)),
        ("Sunday, June 30, 2013 - 00:00", datetime(2013, 6, 30, tzinfo=UTC)),
        ("soon", None),
        ("", None),
        ("Mon, 01 Jan 9999 06:00:00 GMT", None),
        ("1" * 5000, None),
    ],
)
def test_dates(text: str, expected: datetime | None) -> None:
    assert parse_date(text) == expected


@given(st.text())
def test_any_text_is_a_date_or_none(text: str) -> None:
    parse_date(text)


FRAGMENTS = st.sampled_from(
    [
        *(
            [
                "<rss>",
                "</rss>",
                "<channel>",
                "</channel>",
                "<item>",
                "</item>",
                "<guid>",
                "</guid>",
                "<a:b/>",
                "&amp;",
                "&x;",
                "&",
            ]
        ),
        *(
            [
                "<entry>",
                "</entry>",
                "</feed>",
                "<![CDATA[",
                "]]>",
                "<!--",
                "-->",
                "<?xml?>",
                "<?p2prss-items?>",
                "<!DOCTYPE",
                "{",
                "}",
            ]
        ),
        *(["\x00", "\x85", "ÿ", '"', "'", "//["]),
        "<feed xmlns='http://www.w3.org/2005/Atom'>",
        "<title>x</title>",
        "<enclosure url='a'/>",
        "<a:b c:d='1'/>",
    ]
)


@given(st.binary() | st.lists(FRAGMENTS, max_size=30).map(lambda parts: "".join(parts).encode("latin-1")))
@example(b"<rss xml:base='http://['><channel><item><enclosure url='a'/></item></channel></rss>")
@example(b"<rss><channel><item xmlns='a b'/></channel></rss>")
@example(b"<feed xmlns='http://www.w3.org/2005/Atom'><title>\x85</title></feed>")
def test_any_bytes_are_a_feed_or_a_format_error(data: bytes) -> None:
    try:
        feed = parse_feed(data, url=URL)
    except FeedFormatError as error:
        assert_one_line(error)
    else:
        render_feed(feed.channel.xml, [ItemSource(item.xml) for item in feed.items])


@given(st.text(alphabet="abé<>&;'\"[]! \n"))
def test_any_text_in_a_feed_survives_or_is_refused(text: str) -> None:
    try:
        feed = parse_feed(rss(f"<item><guid>1</guid><x>{text}</x></item>"))
    except FeedFormatError as error:
        assert_one_line(error)
    else:
        assert feed.degraded or feed.items
