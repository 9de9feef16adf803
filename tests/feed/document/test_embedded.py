"""Pictures in show notes: found in any spelling, replaced without touching another byte."""

import re
import time
from collections.abc import Callable
from html import escape, unescape

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from lxml import etree

from p2prss.feed.document.embedded import is_data, replace_images, replace_in_list, rewrite_at
from p2prss.feed.document.names import resolve
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.render import ItemSource, Replacement, Serving, render_feed
from tests.spec.reading import SPEC, fenced

HEAD = (
    '<rss version="2.0" xmlns:content="http://purl.org/rss/1.0/modules/content/"'
    ' xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"'
    ' xmlns:podcast="https://podcastindex.org/namespace/1.0"><channel><title>T</title>'
)
BASE = "https://o.example/feeds/show.xml"


def feed(item: str) -> bytes:
    return f"{HEAD}<item><guid>1</guid>{item}</item></channel></rss>".encode()


def pictures(item: str) -> list[str]:
    """The addresses that reading finds."""
    return [one.url for one in parse_feed(feed(item), url=BASE).items[0].files]


def served(item: str, new: dict[str, str]) -> str:
    """The item as it is served when these addresses are captured."""
    parsed = parse_feed(feed(item), url=BASE)
    replacements = {old: Replacement(url) for old, url in new.items()}
    source = ItemSource(parsed.items[0].xml, replacements=replacements)
    document = render_feed(parsed.channel.xml, [source], Serving("u", base_url=BASE)).decode()
    return document.partition("<guid>1</guid>")[2].partition("</item>")[0]


@pytest.mark.parametrize(
    ("html", "found"),
    [
        ('<img src="https://a.example/1.png">', ["https://a.example/1.png"]),
        ("<IMG SRC='https://a.example/1.png'/>", ["https://a.example/1.png"]),
        ("<img width=3 src=https://a.example/1.png>", ["https://a.example/1.png"]),
        ('<img alt="x > y" src = "/1.png">', ["https://o.example/1.png"]),
        ('<img src="https://a.example/1.png?a=1&amp;b=2">', ["https://a.example/1.png?a=1&b=2"]),
        ('<img src="https://a.example/1.png?a=1&copy=2">', ["https://a.example/1.png?a=1&copy=2"]),
        ('<img src="a.png" src="b.png">', ["https://o.example/feeds/a.png"]),
        ('<img data-src="a.png" alt="src=b.png">', []),
        ('<img src="data:image/png;base64,AAAA">', []),
        ('<img src="">', []),
        ('<img src="unclosed', []),
        ('<imgs src="a.png">', []),
        (
            '<img src="a.png" srcset="b.png 1x, c,d.png 2x,\n e.png">',
            [f"https://o.example/feeds/{name}" for name in ("a.png", "b.png", "c,d.png", "e.png")],
        ),
    ],
)
@pytest.mark.parametrize("way", ["cdata", "entities"])
@pytest.mark.parametrize("element", ["description", "content:encoded", "itunes:summary"])
def test_pictures_of_notes_are_found(html: str, found: list[str], way: str, element: str) -> None:
    escaped = html.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    text = f"<![CDATA[{html}]]>" if way == "cdata" else escaped
    assert pictures(f"<{element}>{text}</{element}>") == found


NOTES = [
    "<description>\n  <![CDATA[<p>A &amp; B &nbsp;</p>{}<br>]]>\n</description>",
    "<description>é &amp;lt; &lt;b&gt;x&lt;/b&gt; &amp;nbsp; {} \"quoted\" 'too'</description>",
    "<content:encoded><![CDATA[one ]]]]><![CDATA[> two {} ]]> three</content:encoded>",
    '<itunes:summary xml:lang="en">&#13;\n\ttext {}</itunes:summary>',
]


@pytest.mark.parametrize("notes", NOTES)
def test_only_the_address_changes_and_every_other_byte_stays(notes: str) -> None:
    """Whatever the notes are written in: the rendering with a local address, and the origin's put back,
    is the rendering without."""
    old, new = "https://a.example/1.png", "http://127.0.0.1:7737/feeds/k/assets/1.png"
    tag = f'<img  alt=\'"\' src="{old}" >'
    if "CDATA" not in notes:
        tag = tag.replace("<", "&lt;").replace(">", "&gt;")
    item = notes.format(tag)
    plain, local = served(item, {}), served(item, {old: new})
    assert plain == item
    assert local == item.replace(old, new)


def test_text_without_pictures_and_foreign_pictures_stay() -> None:
    item = (
        '<description>&lt;img src="https://a.example/1.png"&gt;</description>'
        '<podcast:liveItem><description>&lt;img src="https://a.example/2.png"&gt;</description>'
        "</podcast:liveItem>"
    )
    assert pictures(item) == ["https://a.example/1.png"]
    assert served(item, {"https://a.example/2.png": "http://l/2"}) == item


def test_a_list_of_artwork_is_rewritten_where_it_is_captured() -> None:
    item = '<podcast:images srcset="https://a.example/1.png 600w, /2.png 300w"/>'
    assert pictures(item) == ["https://a.example/1.png", "https://o.example/2.png"]
    assert served(item, {"https://a.example/1.png": "http://l/1.png"}) == item.replace(
        "https://a.example/1.png", "http://l/1.png"
    ).replace(" /2.png", " https://o.example/2.png")


def test_an_address_that_would_end_its_section_is_not_written() -> None:
    item = '<description><![CDATA[<img src="https://a.example/1.png">]]></description>'
    local = served(item, {"https://a.example/1.png": "http://l/]]></description>&<\"'"})
    root = etree.fromstring(f"<item>{local}</item>".encode())
    assert len(root) == 1
    assert "<img" in (root[0].text or "")


@pytest.mark.parametrize("text", ["<img " * 100_000, '<img a="' * 50_000, "<img " + "a=1 " * 200_000 + ">"])
def test_hostile_notes_take_no_time(text: str) -> None:
    begun = time.process_time()
    assert replace_images(text, str.upper) == text
    replace_in_list(text, str.upper)
    assert time.process_time() - begun < 20  # what grows with the square would take hours


def test_the_example_of_the_specification() -> None:
    blocks = {name: text for _, name, text in fenced(SPEC / "08-feeds.md", "text") if name}
    local = served(blocks["notes"], {"https://two-ears.example/map.png": "http://127.0.0.1:7737/map.png"})
    assert local == blocks["notes served"]


TAGS = ('<img src="https://a.example/1.png">', """<IMG alt='"' src=2.png srcset='3.png 2x, &amp;4.png'/>""")
MARKS = ("<img ", " src=", " srcset=", '"', "'", ">", "<", "]]", "]]>", "&amp;", "&", "&#13;", "=", "/")
TEXTS = ("é☃", "\U0001f399", "5.png 2x, ", "<b>", "</p>", "alt", "\r", "\n", "data:,x")
SCRAPS = st.sampled_from([*TAGS, *MARKS, *TEXTS])


@given(scraps=st.lists(SCRAPS, max_size=25), as_cdata=st.booleans())
def test_any_notes_are_served_as_written_but_for_addresses(scraps: list[str], as_cdata: bool) -> None:
    text = "".join(scraps)
    assert replace_images(text, lambda address: address) == text
    assert replace_in_list(text, lambda address: address) == text
    element = etree.Element("description")
    element.text = etree.CDATA(text) if as_cdata and "]]>" not in text else text
    item = etree.tostring(element, encoding="unicode")
    parsed = parse_feed(feed(item), url=BASE)
    if parsed.degraded or not parsed.items:
        return
    (archived,) = parsed.items
    new = {one.url: f"http://l/{place}" for place, one in enumerate(archived.files)}
    written = etree.fromstring(archived.xml, etree.XMLParser(strip_cdata=False)).findtext("description") or ""

    def expected(address: str) -> str:
        absolute = resolve(BASE, address)
        return new.get(absolute, address if is_data(address) else absolute)

    shown = f"<item>{served(item, new)}</item>".encode()
    local = etree.fromstring(shown).findtext("description") or ""
    assert local == replace_images(written, expected)


ATTRIBUTE = re.compile(r"""([^\s"'<>/=]++)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]+))?""")
TAG = re.compile(r"""<img\b(?:[^<>"']|"[^"<]*"|'[^'<]*')*+>""", re.IGNORECASE)
REFERENCE = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")


def images_one_by_one(text: str, replace: Callable[[str], str]) -> str:
    """``replace_images`` in the plain way, attribute by attribute."""

    def in_tag(tag: str) -> str:
        pieces, done, seen = [], 0, set()
        for found in ATTRIBUTE.finditer(tag, len("<img")):
            name, value = found[1].lower(), found[2]
            if value is None or name not in ("src", "srcset") or name in seen:
                continue
            seen.add(name)
            quote = value[0] if value[0] in "\"'" else ""
            inner = value.removeprefix(quote).removesuffix(quote) if quote else value
            plain = REFERENCE.sub(lambda one: unescape(one[0]), inner)
            if name == "srcset":
                new = replace_in_list(plain, replace)
            else:
                new = replace(plain.strip()) if plain.strip() else plain
            if new != plain:
                quote = quote or '"'
                pieces += [tag[done : found.start(2)], quote, escape(new), quote]
                done = found.end(2)
        return "".join(pieces) + tag[done:]

    return TAG.sub(lambda found: in_tag(found[0]), text)


def rewritten_by_sections(element: etree._Element, replace: Callable[[str], str]) -> bytes:
    """``rewrite_at`` in the plain way: each section of the serialised text by itself, and read again."""
    text = element.text or ""
    if images_one_by_one(text, replace) == text:
        return etree.tostring(element)
    written = etree.tostring(element, encoding="unicode")
    start, end = written.index(">") + 1, written.rindex("</")

    def section(found: re.Match[str]) -> str:
        if found[1] is None:
            text = etree.fromstring(f"<x>{found[2]}</x>").text or ""
            plain = etree.Element("x")
            plain.text = images_one_by_one(text, replace)
            return etree.tostring(plain, encoding="unicode")[len("<x>") : -len("</x>")]
        new = images_one_by_one(found[1], replace)
        return found[0] if "]]>" in new else f"<![CDATA[{new}]]>"

    inner = re.sub(r"(?s)<!\[CDATA\[(.*?)\]\]>|([^<]+)", section, written[start:end])
    parser = etree.XMLParser(strip_cdata=False)
    return etree.tostring(etree.fromstring(written[:start] + inner + written[end:], parser))


NAMES = ("src", "SRCset", "srcx", "data-src", "\u017frc", "alt=", "a.png", " src = ", "'x y'", '"q"', "&#13;")
ADDRESSES = st.sampled_from(["", "http://l/1.png", "http://l/é&\"'<>", "http://l/]]>", "\rhttp://l/\r\n"])


@given(scraps=st.lists(st.sampled_from(("<img ", "<img", *NAMES, *MARKS, *TEXTS, *TAGS)), max_size=25))
def test_attributes_are_found_as_one_by_one(scraps: list[str]) -> None:
    text = "".join(scraps)
    assert replace_images(text, new_address) == images_one_by_one(text, new_address)


def new_address(address: str) -> str:
    return f"http://l/{address}"


@given(
    sections=st.lists(st.tuples(st.lists(SCRAPS, max_size=8), st.booleans()), min_size=1, max_size=3),
    prefix=ADDRESSES,
)
@example(sections=[(['<img src=" https://a.example/&#13;1.png">'], True)], prefix="\r")
def test_texts_of_any_sections_are_rewritten_as_section_by_section(
    sections: list[tuple[list[str], bool]], prefix: str
) -> None:
    """What can be set in the tree, and what takes another way, comes out the same."""
    inner = "".join(
        f"<![CDATA[{''.join(scraps).replace(']]>', '')}]]>"
        if as_cdata
        else escape("".join(scraps), quote=False)
        for scraps, as_cdata in sections
    )
    parser = etree.XMLParser(strip_cdata=False)
    root = etree.fromstring(f'<item><description a=">">{inner}</description></item>', parser)

    def replace(address: str) -> str:
        return prefix + address

    expected = rewritten_by_sections(root[0], replace)
    rewrite_at(root[0], "", replace)
    assert etree.tostring(root[0]) == expected
