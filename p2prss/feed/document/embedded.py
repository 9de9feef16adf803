"""Addresses of pictures inside of texts: ``<img>`` in show notes, and lists in ``srcset``.

Show notes are HTML in a text, as CDATA or with entities. Of them only the addresses are ever
touched: a tag is found, its attribute is replaced where it stands, and every other character stays
as the publisher wrote it. Broken HTML is no error, there is just nothing found in it.
"""

import html
import re
from collections.abc import Callable, Iterator
from typing import Final

from lxml import etree

from p2prss.feed.document.names import is_ours, plain_name

NOTES: Final = frozenset({"description", "content:encoded", "itunes:summary"})
"""Elements whose text is show notes."""
LISTS: Final = {"podcast:images": "srcset"}
"""Elements with an attribute that lists several pictures."""

_LOCAL_NAMES: Final = tuple({f"{{*}}{name.rpartition(':')[2]}" for name in (*NOTES, *LISTS)})
_IMAGE_TAG: Final = re.compile(r"""<[iI][mM][gG]\b[^<>"']*+(?:"[^"<]*"[^<>"']*+|'[^'<]*'[^<>"']*+)*+>""")
_NAME: Final = r"""[^\s"'<>/=]++"""
_VALUE: Final = r"""\s*=\s*(?:"[^"]*"|'[^']*'|[^\s"'<>]+)"""
_SOURCE_NAME: Final = r"""[sS][rR][cC](?:[sS][eE][tT])?(?![^\s"'<>/=])"""
_NEXT_SOURCE: Final = re.compile(  # behind whatever else stands there
    rf"""(?:[\s"'<>/=]++|(?!{_SOURCE_NAME}){_NAME}(?:{_VALUE})?)*+"""
    rf"""({_SOURCE_NAME})(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"'<>]+))?"""
)
_REFERENCE: Final = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});")
_CANDIDATE: Final = re.compile(r"([^\s,](?:\S*[^\s,])?)(?:\s[^,]*)?(?:,|$)")
_SECTION: Final = re.compile(r"<!\[CDATA\[(.*?)\]\]>|([^<]+)", re.DOTALL)

Replace = Callable[[str], str]
"""An address as written -> what to write for it; the same to leave it alone."""


def texts_in(root: etree._Element) -> Iterator[tuple[etree._Element, str]]:
    """The elements below ``root`` with pictures in them, and the attribute or, empty, the text they are in.

    What stands inside live items and the like is left alone, as are notes with elements of their own.
    """
    for element in root.iter(*_LOCAL_NAMES):
        name = plain_name(element.tag)
        if name in NOTES and len(element) == 0 and "<" in (element.text or "") and is_ours(element):
            yield element, ""
        elif name in LISTS and element.get(LISTS[name]) and is_ours(element):
            yield element, LISTS[name]


def is_data(written: str) -> bool:
    """Whether an address holds or means something in the text itself, so that there is no file."""
    return written[:5].lower().startswith(("data:", "cid:", "blob:"))


def addresses_at(element: etree._Element, attribute: str) -> list[str]:
    """The addresses of pictures that are written there, in their order; each may come several times."""
    found: list[str] = []

    def note(address: str) -> str:
        found.append(address)
        return address

    if attribute:
        replace_in_list(element.get(attribute, ""), note)
    else:
        replace_images(element.text or "", note)
    return found


def rewrite_at(element: etree._Element, attribute: str, replace: Replace) -> None:
    """Write other addresses, and nothing else."""
    if attribute:
        value = element.get(attribute, "")
        if (new := replace_in_list(value, replace)) != value:
            element.set(attribute, new)
        return
    text = element.text or ""
    if (new := replace_images(text, replace)) == text:
        return
    # Whether a text is CDATA, or made of sections with and without, the tree does not tell.
    written = etree.tostring(element, encoding="UTF-8", with_tail=False)
    start, end = written.index(b">") + 1, written.rindex(b"</")
    if written.find(b"<", start) == end:
        element.text = new
        return
    if written.startswith(b"<![CDATA[", start) and written.index(b"]]>", start) + len("]]>") == end:
        if "]]>" in new:
            return
        if "\r" not in new:  # in CDATA it cannot be written
            element.text = etree.CDATA(new)
            return
    _rewrite_sections(element, written, start, end, replace)


def _rewrite_sections(
    element: etree._Element, written: bytes, start: int, end: int, replace: Replace
) -> None:
    """The long way: an element in the place of the old one, whose text from ``start`` to ``end`` is new."""
    inner = _SECTION.sub(lambda found: _section(found, replace), written[start:end].decode())
    parser = etree.XMLParser(
        encoding="utf-8", resolve_entities=False, no_network=True, strip_cdata=False, huge_tree=True
    )
    changed = etree.fromstring(written[:start] + inner.encode() + written[end:], parser)
    changed.tail = element.tail
    parent = element.getparent()
    if parent is not None:
        parent.replace(element, changed)


def _section(found: re.Match[str], replace: Replace) -> str:
    if found[1] is not None:
        new = replace_images(found[1], replace)
        return f"<![CDATA[{new}]]>" if new != found[1] and "]]>" not in new else found[0]
    return _escape(replace_images(_unescape(found[2]), replace))


def _unescape(text: str) -> str:
    """What libxml2 escaped in a text."""
    for name, letter in (("&lt;", "<"), ("&gt;", ">"), ("&#13;", "\r"), ("&amp;", "&")):
        text = text.replace(name, letter)
    return text


def _escape(text: str) -> str:
    for letter, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\r", "&#13;")):
        text = text.replace(letter, name)
    return text


def replace_images(text: str, replace: Replace) -> str:
    """Replace ``src`` and the addresses in ``srcset`` of the ``<img>`` tags of some HTML."""
    return _IMAGE_TAG.sub(lambda tag: _replace_in_tag(tag[0], replace), text)


def _replace_in_tag(tag: str, replace: Replace) -> str:
    pieces: list[str] = []
    done = 0
    seen: set[str] = set()
    place = len("<img")
    while (found := _NEXT_SOURCE.match(tag, place)) is not None:
        place = found.end()
        name, value = found[1].lower(), found[2]
        if value is None or name in seen:
            continue
        seen.add(name)  # of several the first counts
        quote = value[0] if value[0] in "\"'" else ""
        plain = value[1:-1] if quote else value
        if "&" in plain:
            plain = _REFERENCE.sub(_unreferenced, plain)
        new = replace_in_list(plain, replace) if name == "srcset" else _replace_one(plain, replace)
        if new != plain:
            quote = quote or '"'
            pieces += [tag[done : found.start(2)], quote, html.escape(new, quote=True), quote]
            done = found.end(2)
    return "".join(pieces) + tag[done:]


def _unreferenced(found: re.Match[str]) -> str:
    return html.unescape(found[0])


def _replace_one(written: str, replace: Replace) -> str:
    address = written.strip()
    return replace(address) if address else written


def replace_in_list(text: str, replace: Replace) -> str:
    """Replace the addresses of a ``srcset``: ``one.jpg 320w, two.jpg 2x``."""
    return _CANDIDATE.sub(lambda found: replace(found[1]) + found[0][len(found[1]) :], text)
