"""Show notes, which strangers write, as HTML that does nothing; pure.

Two passes. The first reads tags in one go and writes down the few that notes need, with the few
attributes they need: so the second, which builds the tree a browser would build, never meets input
that makes such a tree grow beyond its source. The second (nh3) is the one that is trusted: it knows
all that browsers do with broken HTML.

Links lead to http, https and mailto only, and say nothing of where they were. Pictures are those that
were captured; others would tell their hosts who reads what, and are left out.
"""

from collections.abc import Mapping
from html import escape
from html.parser import HTMLParser
from typing import Final
from urllib.parse import urlsplit

import nh3

from p2prss.units import KIB

MAX_NOTES_LENGTH: Final = 64 * KIB  # characters; the rest is left out
MAX_NOTES_TAGS: Final = 5000  # likewise; comments are left out before
EXCERPT_LENGTH: Final = 280  # characters

_SIMPLE_TAGS: Final = frozenset(
    {"b", "blockquote", "br", "code", "dd", "dl", "dt", "em", "i", "li", "ol", "p", "pre", "small", "strong"}
) | {"sub", "sup", "u", "ul"}
_WITHIN_WORDS: Final = frozenset({"b", "code", "em", "i", "small", "strong", "sub", "sup", "u"})
_HEADINGS: Final = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_BLOCKS: Final = frozenset({"article", "center", "div", "figure", "header", "footer", "section", "td", "tr"})
_SILENT: Final = frozenset(
    {"iframe", "math", "noscript", "object", "script", "style", "svg", "template", "textarea", "title"}
)
_LINK_SCHEMES: Final = frozenset({"http", "https", "mailto"})


def clean_notes(notes: str, pictures: Mapping[str, str]) -> str:
    """Notes in HTML or plain text -> HTML that is safe to stand in our page.

    Args: pictures: original address of a captured picture -> our own URL for it.
    """
    if not nh3.is_html(notes):
        paragraphs = escape(notes[:MAX_NOTES_LENGTH]).replace("\r", "").strip().split("\n\n")
        return "".join(f"<p>{text.replace(chr(10), '<br>')}</p>" for text in paragraphs if text.strip())
    reader = _Reader(pictures)
    reader.feed(_bounded(notes))
    reader.close()
    own = frozenset(pictures.values())

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if tag == "img" and attribute == "src":
            return value if value in own else None
        return value

    return nh3.clean(
        "".join(reader.parts),
        tags=set(_SIMPLE_TAGS | {"a", "img", "h4"}),
        attributes={"a": {"href"}, "img": {"src", "alt"}},
        url_schemes=set(_LINK_SCHEMES),
        link_rel="noopener nofollow noreferrer",
        attribute_filter=keep,
    )


def excerpt(notes: str) -> str:
    """The first words of notes, as plain text."""
    reader = _Reader({})
    reader.feed(notes[: 8 * EXCERPT_LENGTH])
    text = " ".join("".join(reader.words).split())
    return text if len(text) <= EXCERPT_LENGTH else text[:EXCERPT_LENGTH].rpartition(" ")[0] + "…"


class _Reader(HTMLParser):
    """Tags to the simplest ones that say the same; what is not known leaves its text behind."""

    def __init__(self, pictures: Mapping[str, str]) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.words: list[str] = []
        self._pictures = pictures
        self._tags = 0
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._tags += 1
        if tag in _SILENT:
            self._silent.append(tag)
        if self._silent or self._tags > MAX_NOTES_TAGS:
            return
        given = {name: value or "" for name, value in reversed(attrs)}
        if tag == "a" and (address := _web_address(given.get("href", ""))):
            self.parts.append(f'<a href="{escape(address)}">')
        elif tag == "img" and (address := self._pictures.get(given.get("src", "").strip())):
            alt = escape(given.get("alt", "")[:300])
            self.parts.append(f'<img src="{escape(address)}" alt="{alt}">')
        elif name := _plain_tag(tag):
            self.parts.append(f"<{name}>")
            self._part_words(name)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _SILENT:  # <svg/> ends at once
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._silent:
            if tag == self._silent[-1]:
                self._silent.pop()
        elif tag == "a":
            self.parts.append("</a>")
        elif name := _plain_tag(tag):
            self.parts.append(f"</{name}>")
            self._part_words(name)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(escape(data))
            self.words.append(data)

    def _part_words(self, tag: str) -> None:
        if tag not in _WITHIN_WORDS:
            self.words.append(" ")


def _bounded(notes: str) -> str:
    """The beginning, without comments: the reader takes quadratic time for tags that do not end."""
    parts: list[str] = []
    rest = notes[:MAX_NOTES_LENGTH]
    while rest:
        text, opened, rest = rest.partition("<!--")
        parts.append(text)
        rest = rest.partition("-->")[2] if opened else ""
    pieces = "".join(parts).split("<", 2 * MAX_NOTES_TAGS + 1)
    return "<".join(pieces[: 2 * MAX_NOTES_TAGS + 1])


def _plain_tag(tag: str) -> str | None:
    if tag in _SIMPLE_TAGS:
        return tag
    return "h4" if tag in _HEADINGS else "p" if tag in _BLOCKS else None


def _web_address(text: str) -> str | None:
    try:
        return text.strip() if urlsplit(text.strip()).scheme.lower() in _LINK_SCHEMES else None
    except ValueError:
        return None
