"""Document types: what harmless ones declare is written out, and nothing else comes of any."""

import pytest

from p2prss.errors import FeedFormatError
from p2prss.feed.document.doctype import MAX_ENTITY_LENGTH, MAX_SUBSET_LENGTH
from p2prss.feed.document.parse import parse_feed

LATIN = '"-//W3C//ENTITIES Latin 1 for XHTML//EN" "http://www.w3.org/TR/xhtml1/DTD/xhtml-lat1.ent"'


def title_of(document_type: str, title: str) -> str:
    feed = f"<rss><channel><title>{title}</title></channel></rss>"
    return parse_feed(f'<?xml version="1.0"?>\n<!-- x -->{document_type}\n{feed}'.encode()).channel.title


@pytest.mark.parametrize(
    ("document_type", "title", "read"),
    [
        ('<!DOCTYPE rss PUBLIC "-//N//DTD RSS 0.91//EN" "http://my.example/a>b.dtd">', "T&eacute;", "Té"),
        ('<!DOCTYPE rss [<!ENTITY nbsp "&#160;"><!ENTITY oops "ö">]>', "a&nbsp;&oops;&copy;", "a ö©"),
        ("<!DOCTYPE rss [ <!-- ]> --><?p ]>?><!ELEMENT rss ANY><!ATTLIST rss a CDATA '>'>\n] >", "T", "T"),
        (f"<!DOCTYPE rss [<!ENTITY % HTMLlat1 PUBLIC\n {LATIN}>\n%HTMLlat1;]>", "&uuml;ber", "über"),
        ("<!DOCTYPE rss [<!ENTITY a 'first'><!ENTITY a 'second'>]>", "&a;", "first"),
        ("<!DOCTYPE rss [<!ENTITY and '&#38;amp;'><!ENTITY less '&lt;'>]>", "&and;&less;", "&<"),
        ("<!DOCTYPE rss [<!ENTITY amp 'no'>]>", "a &amp; b", "a & b"),
        ("<!DOCTYPE rss [<!ENTITY percent '&#37;'>]>", "100&percent;", "100%"),
        ("<!DOCTYPE rss [<!ENTITY b '<b>bold</b>'>]>", "&b;", "bold"),
        ("<!DOCTYPE rss [<!ENTITY a 'x'>]>", "<![CDATA[&a;]]>", "&a;"),
    ],
)
def test_harmless_ones_are_read(document_type: str, title: str, read: str) -> None:
    assert title_of(document_type, title) == read


def test_quotes_in_an_entity_do_not_end_an_attribute() -> None:
    text = """<!DOCTYPE rss [<!ENTITY q 'a"b'>]><rss><channel><title x="&q;">&q;</title></channel></rss>"""
    assert b'<title x="a&quot;b">a"b</title>' in parse_feed(text.encode()).channel.xml


@pytest.mark.parametrize(
    "declarations",
    [
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY a PUBLIC "x" "http://elsewhere.example/">',
        '<!ENTITY % a SYSTEM "http://elsewhere.example/x.dtd"> %a;',
        '<!ENTITY a "ha"><!ENTITY b "&a;&a;">',
        '<!ENTITY b "&#38;a;">',
        '<!ENTITY % a "x"><!ENTITY b "%a;">',
        f'<!ENTITY a "{"x" * (MAX_ENTITY_LENGTH + 1)}">',
        " " * (MAX_SUBSET_LENGTH + 1),
        '<!ENTITY a "x"',
        "<![INCLUDE[<!ENTITY a 'x'>]]>",
    ],
)
def test_what_could_lead_elsewhere_or_grow_is_refused(declarations: str) -> None:
    with pytest.raises(FeedFormatError, match="document type of its own, which is not allowed"):
        title_of(f"<!DOCTYPE rss [{declarations}]>", "T")


def test_a_text_that_entities_would_blow_up_is_refused() -> None:
    with pytest.raises(FeedFormatError, match="its entities make more than 1 MiB"):
        title_of(f"<!DOCTYPE rss [<!ENTITY a '{'x' * MAX_ENTITY_LENGTH}'>]>", "&a;" * 2000)
