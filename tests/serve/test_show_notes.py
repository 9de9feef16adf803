"""Show notes of strangers: what they may say, and that they do nothing."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.feed.document.notes import Texts, texts_of
from p2prss.serve.show_notes import EXCERPT_LENGTH, MAX_NOTES_LENGTH, clean_notes, excerpt

PICTURE = "https://example.org/p.png"
PICTURES = {PICTURE: "../feeds/k/assets/p.png"}
LINK = ' rel="noopener nofollow noreferrer"'

ALLOWED = frozenset(
    [
        "a",
        "b",
        "blockquote",
        "br",
        "code",
        "dd",
        "dl",
        "dt",
        "em",
        "h4",
        "i",
        "img",
        "li",
        "ol",
        "p",
        "pre",
        "small",
        "strong",
        "sub",
        "sup",
        "u",
        "ul",
    ]
)
ATTRIBUTES = {"a": {"href", "rel"}, "img": {"src", "alt"}}


class Checker(HTMLParser):
    """Fails on anything that is not among the few things that notes may be made of."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED
        for name, value in attrs:
            assert name in ATTRIBUTES.get(tag, ())
            if name == "href":
                assert re.match("(https?|mailto):", value or "", re.IGNORECASE)
            if name == "src":
                assert value in PICTURES.values()

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    def handle_decl(self, decl: str) -> None:
        raise AssertionError("a declaration")


def check(html: str) -> str:
    checker = Checker()
    checker.feed(html)
    checker.close()
    return html


@pytest.mark.parametrize(
    ("notes", "shown"),
    [
        ("<p>Hello <b>you</b></p>", "<p>Hello <b>you</b></p>"),
        ("one & two\n\nthree < four\nfive", "<p>one &amp; two</p><p>three &lt; four<br>five</p>"),
        ("<h1>Title</h1><div>text</div>", "<h4>Title</h4><p>text</p>"),
        ('<a href="https://e.org/?a=1&amp;b">x</a>', f'<a href="https://e.org/?a=1&amp;b"{LINK}>x</a>'),
        ('<a href="mailto:a@e.org">x</a>', f'<a href="mailto:a@e.org"{LINK}>x</a>'),
        (f'<img src="{PICTURE}" alt="a">', '<img src="../feeds/k/assets/p.png" alt="a">'),
        ('<p><img src="https://example.org/tracker.gif">x</p>', "<p>x</p>"),
        ("<p>a<script>alert(1)</script>b</p>", "<p>ab</p>"),
        ("<style>p{color:red}</style><p style='x' onclick='y' class='z'>a</p>", "<p>a</p>"),
        ("<svg><a href='https://e.org'>x</a></svg><p>y</p>", "<p>y</p>"),
        ('<a href="javascript:alert(1)">x</a><br>', "x<br>"),
        ('<a href=" JaVa\tScript:alert(1)">x</a><br>', "x<br>"),
        ('<a href="data:text/html,x">x</a><br>', "x<br>"),
        ('<a href="//e.org/">x</a><a href="/shows/k/remove">y</a><br>', "xy<br>"),
        ("<p>x<!-- <script>alert(1)</script> -->y</p>", "<p>xy</p>"),
        ("<form action='/add' method=post><input name=source><button>Go</button></form><p>", "Go<p></p>"),
        ("<b>not closed <i>at all", "<b>not closed <i>at all</i></b>"),
    ],
)
def test_what_becomes_of_notes(notes: str, shown: str) -> None:
    assert check(clean_notes(notes, PICTURES)) == shown


EVIL = [
    *("<script>", "</script>", "<svg onload=alert(1)>", "<math><mtext>", "<noscript>", "<style>", "<title>"),
    *("<img src=x onerror=alert(1)>", f"<img src={PICTURE} onload=x>", "<iframe srcdoc='<b>'>", "<template>"),
    *('<a href="java&#115;cript:x">', "<a href=https://e.org onclick=x>", "<!--", "-->", "<![CDATA[", "]]>"),
    *(
        "<p title='<img src=x>'>",
        "<xmp>",
        "<plaintext>",
        "<table><tr><td>",
        "</p>",
        "&lt;script&gt;",
        '"',
        "'>",
    ),
    *("<base href=//e.org>", "<meta http-equiv=refresh content=0>", "<form>", "<input autofocus onfocus=x>"),
]


@given(st.lists(st.sampled_from(EVIL) | st.text(max_size=6), max_size=12))
def test_any_mixture_does_nothing(parts: list[str]) -> None:
    check(clean_notes("<p>" + "".join(parts), PICTURES))
    assert len(excerpt("".join(parts))) <= EXCERPT_LENGTH + 1


@pytest.mark.parametrize(
    "piece",
    ["<b>", "<p>", "<b><p>", "<font color=1>", "<!--", "<", "</", "<a ", "<ul><li>", "&lt;", "<![CDATA["],
)
def test_notes_made_to_be_large_stay_bounded(piece: str) -> None:
    notes = piece * (2 * MAX_NOTES_LENGTH // len(piece))
    assert len(check(clean_notes(notes, PICTURES))) <= 8 * MAX_NOTES_LENGTH


def test_the_excerpt_is_plain_text() -> None:
    assert excerpt("<p>One</p><p>two &amp; <b>three</b><script>x</script></p>") == "One two & three"
    assert excerpt("<p>at <b>night</b>, and H<sub>2</sub>O<br>too</p>") == "at night, and H2O too"
    assert excerpt("word " * 200).endswith("word…")


def test_texts_of_an_item_and_of_a_channel() -> None:
    item = (
        b'<item xmlns:itunes="http://www.itunes.com/dtds/podcast-1.0.dtd"><description>short</description>'
        b"<itunes:summary>much longer</itunes:summary><itunes:duration>1:02:03</itunes:duration></item>"
    )
    assert texts_of(item) == Texts("much longer", "", 3723)
    channel = b'<rss version="2.0"><channel><description>About</description></channel></rss>'
    assert texts_of(channel) == Texts("About", "", None)
