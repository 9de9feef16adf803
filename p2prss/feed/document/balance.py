"""From markup that is no XML to markup that is: tags closed and dropped until they fit.

The last repair before the lenient reader, which would lose what it does not know. The frame of RSS
helps: an ``<item>`` stands in the channel and nowhere else, so whatever is still open before it ends there.
"""

import re
from dataclasses import dataclass, field
from typing import Final

MAX_GUESSES: Final = 2000  # tags that are none and texts that look like tags: each may cost a long look
MAX_OPEN: Final = 300  # elements inside of each other; the strict reader takes fewer

_NAME: Final = r"[A-Za-z_][\w.-]*(?::[A-Za-z_][\w.-]*)?"
_QUOTED: Final = r""""[^"<]{0,20000}+"|'[^'<]{0,20000}+'"""
_TOKEN: Final = re.compile(
    r"(?P<cdata><!\[CDATA\[(?P<text>.*?)(?P<cdata_end>\]\]>|\Z))"
    r"|(?P<comment><!--(?P<words>.*?)(?P<comment_end>-->|\Z))"
    r"|(?P<pi><\?(?P<target>[A-Za-z_][\w.-]*)(?P<pi_text>[^<]*?)\?>)"
    rf"|(?P<start><(?P<name>{_NAME})(?P<attributes>(?=[\s/>\"'])(?:[^<>\"']++|{_QUOTED})*+)>)"
    rf"|(?P<loose><(?P<loose_name>{_NAME})(?P<loose_attributes>\s[^<>]*+)>)"
    rf"|(?P<end></\s*(?P<end_name>{_NAME})\s*>)"
    r"|(?P<doctype><!DOCTYPE[^<>\[]*>)"
    r"|(?P<cut><[^<>]*\Z)"
    r"|(?P<stray><)"
    r"|(?P<cdata_stop>\]\]>)",
    re.DOTALL | re.IGNORECASE,
)
_ATTRIBUTE: Final = re.compile(
    rf"""(?P<name>{_NAME})(?:\s*=\s*(?:"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<bare>[^\s"'>]+)))?"""
)
_ROOT: Final = re.compile(r"<(?:rss|rdf:RDF|feed)[\s>]", re.IGNORECASE)
_ITEMS: Final = frozenset({"item", "entry"})
_FRAME: Final = frozenset({"rss", "channel", "rdf:rdf", "feed"})
_VOID: Final = frozenset({"br", "hr", "img", "input", "wbr", "meta"})
_TEXTS: Final = frozenset(
    {"title", "link", "guid", "pubdate", "author", "category", "comments", "language", "copyright", "ttl"}
    | {"generator", "lastbuilddate", "managingeditor", "webmaster", "docs"}
)  # hold text and nothing else
_WORDS: Final = _TEXTS | {"description", "enclosure", "image", "source", "content:encoded"}


@dataclass(slots=True)
class Balanced:
    """Text whose tags fit; ``is_cut`` says that its end is missing, and ``repairs`` what was done."""

    text: str
    is_cut: bool = False
    repairs: list[str] = field(default_factory=list)


def balance(text: str) -> Balanced | None:
    """Make the tags of a document fit; None where that would be mere guessing."""
    return _Balancer(text).run()


class _Balancer:
    def __init__(self, text: str) -> None:
        self._source = text
        self._out: list[str] = []
        self._open: list[str] = []
        self._done: dict[str, None] = {}
        self._guesses = 0
        self._has_ended = False
        self._is_cut = False
        self._has_root = _ROOT.search(text) is not None

    def run(self) -> Balanced | None:
        place = 0
        for token in _TOKEN.finditer(self._source):
            self._text(self._source[place : token.start()])
            place = token.end()
            self._take(token)
            if self._guesses > MAX_GUESSES or len(self._open) > MAX_OPEN:
                return None
        self._text(self._source[place:])
        if not self._has_ended:
            self._is_cut = self._is_cut or bool({"rss", "rdf:RDF", "feed"} & set(self._open))
        if self._is_cut:
            self._note("the end was missing")
        while self._open:
            self._close()
        return Balanced("".join(self._out), self._is_cut, list(self._done))

    def _take(self, token: re.Match[str]) -> None:
        if token["cdata"] is not None:
            self._cdata(token)
        elif token["comment"] is not None:
            self._comment(token)
        elif token["pi"] is not None:
            if token["target"].lower() == "xml":
                self._note("an XML declaration in the middle dropped")
            else:
                self._out.append(token[0])
        elif token["start"] is not None:
            self._start(token["name"], token["attributes"])
        elif token["loose"] is not None:
            self._guess("attributes mended")
            self._start(token["loose_name"], token["loose_attributes"])
        elif token["end"] is not None:
            self._end(token["end_name"])
        elif token["doctype"] is not None:
            self._note("a document type in the middle dropped")
        elif token["cut"] is not None:
            self._is_cut = not self._has_ended
        elif token["cdata_stop"] is not None:
            self._note("a stray ]]> escaped")
            self._text("]]&gt;")
        else:
            self._guess("a stray < escaped")
            self._text("&lt;")

    def _text(self, text: str) -> None:
        if not self._open or self._has_ended:
            if text.strip():
                self._note("text outside of the document dropped")
            return
        self._out.append(text)

    def _cdata(self, token: re.Match[str]) -> None:
        if not token["cdata_end"]:
            self._is_cut = True
        if self._open and not self._has_ended:
            self._out.append(token[0] if token["cdata_end"] else f"{token[0]}]]>")

    def _comment(self, token: re.Match[str]) -> None:
        words = token["words"]
        if not token["comment_end"]:
            self._is_cut = True
        if "--" in words or words.endswith("-"):
            self._note("hyphens within a comment set apart")
            words = re.sub(r"-(?=-|$)", "- ", words)
        self._out.append(f"<!--{words}-->")

    def _start(self, name: str, attributes: str) -> None:
        low = name.lower()
        if not self._open and self._has_root and low not in _FRAME:
            self._note("what stood before the feed dropped")  # messages of the program that made it
            return
        if self._has_ended and low not in _ITEMS:
            return
        if self._has_ended or low in _ITEMS:
            self._close_down_to_frame()
        elif low in _WORDS and self._open and self._open[-1].lower() in _TEXTS:
            self._note("unclosed tags closed")
            self._close()
        is_empty = attributes.rstrip().endswith("/")
        attributes = attributes.rstrip().removesuffix("/")
        if low in _VOID and not is_empty:
            self._note("unclosed tags closed")
            is_empty = True
        self._out.append(f"<{name}{self._attributes(attributes)}{'/' if is_empty else ''}>")
        if not is_empty:
            self._open.append(name)

    def _attributes(self, text: str) -> str:
        found: dict[str, str] = {}
        for match in _ATTRIBUTE.finditer(text):
            value = next((one for one in (match["double"], match["single"], match["bare"]) if one), "")
            if match["bare"]:
                self._note("attributes mended")
            if match["name"] in found:
                self._note("attributes that stood twice dropped")
                continue
            found[match["name"]] = value.replace("<", "&lt;").replace('"', "&quot;")
        return "".join(f' {name}="{value}"' for name, value in found.items())

    def _end(self, name: str) -> None:
        low = name.lower()
        names = [one.lower() for one in self._open]
        fence = 0
        if low not in _FRAME and low not in _ITEMS:  # these reach no further than their item
            fence = next(
                (place for place in range(len(names) - 1, -1, -1) if names[place] in _ITEMS | _FRAME), 0
            )
        places = [place for place in range(len(names) - 1, fence - 1, -1) if names[place] == low]
        if not places or self._has_ended:
            if not self._has_ended and low not in _VOID:
                self._note("end tags without a start dropped")
            return
        if places[0] == 0:
            self._close_all_but_root()
            self._has_ended = True  # what follows may yet be an item
            return
        if places[0] != len(self._open) - 1 or self._open[-1] != name:
            self._note("unclosed tags closed")
        while len(self._open) > places[0]:
            self._close()

    def _close_down_to_frame(self) -> None:
        frame = next(
            (place for place in range(len(self._open) - 1, -1, -1) if self._open[place].lower() in _FRAME), 0
        )
        if len(self._open) > frame + 1:
            self._note("unclosed tags closed")
        while len(self._open) > frame + 1:
            self._close()
        self._has_ended = False

    def _close_all_but_root(self) -> None:
        if len(self._open) > 1:
            self._note("unclosed tags closed")
        while len(self._open) > 1:
            self._close()

    def _close(self) -> None:
        self._out.append(f"</{self._open.pop()}>")

    def _guess(self, what: str) -> None:
        self._guesses += 1
        self._note(what)

    def _note(self, what: str) -> None:
        self._done.setdefault(what)
