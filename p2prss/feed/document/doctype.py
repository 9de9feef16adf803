"""Document types in front of a feed: taken off, none followed.

What feeds declare there is harmless as a rule: the DTD of RSS 0.91, the letters of HTML, a few names for
characters. So a name for a short text is written out where it stands; anything that could lead elsewhere
or grow (external entities, entities made of others) is refused.
Source: XML 1.0 §2.8, §4; RSS 0.91 (Netscape); the DTD subsets of RDF feeds of the time.
"""

import re
from typing import Final

from p2prss.errors import FeedFormatError
from p2prss.units import KIB, MIB

MAX_SUBSET_LENGTH: Final = 64 * KIB  # characters that a document type declares; HTML's letters need 20
MAX_ENTITY_LENGTH: Final = 1000  # characters that one name stands for
MAX_EXPANSION: Final = 1 * MIB  # characters that names are written out as, all together

_SPACE: Final = r"[ \t\r\n]"
_QUOTED: Final = r""""[^"]{0,2000}"|'[^']{0,2000}'"""
_DOCTYPE: Final = re.compile(
    rf"""<!DOCTYPE{_SPACE}+([^\s>\[]{{1,200}})(?:[^>\["']|{_QUOTED}){{0,1000}}?(>|\[)""", re.IGNORECASE
)
_DECLARATION: Final = re.compile(
    rf"""(?:{_SPACE}++|<!--.*?-->|<\?.*?\?>|%[\w.:-]+;
        |<!ENTITY{_SPACE}+%{_SPACE}+[\w.:-]+{_SPACE}+PUBLIC{_SPACE}+(?:{_QUOTED}){_SPACE}+(?:{_QUOTED}){_SPACE}*>
        |<!ENTITY{_SPACE}+(?P<name>[\w.:-]+){_SPACE}+(?P<value>{_QUOTED}){_SPACE}*>
        |<!(?:ELEMENT|ATTLIST|NOTATION){_SPACE}(?:[^<>"']|{_QUOTED})*+>)""",
    re.DOTALL | re.VERBOSE,
)
_END: Final = re.compile(rf"\]{_SPACE}*>")
_NUMBER: Final = re.compile(r"&#(?:x(?P<hex>[0-9a-fA-F]{1,6})|(?P<decimal>[0-9]{1,7}));")
_REFERENCE: Final = re.compile(
    r"<!\[CDATA\[.*?\]\]>|<!--.*?-->|<\?.*?\?>|&(?P<name>[A-Za-z_][\w.:-]*);", re.DOTALL
)
_PREDEFINED: Final = frozenset({"amp", "lt", "gt", "quot", "apos"})
_REFUSED: Final = "this feed declares a document type of its own, which is not allowed"


def without_doctype(text: str, start: int) -> str:
    """A document without the document type that stands at ``start``, its entities written out.

    Raises: FeedFormatError for a web page, and where more is declared than short texts.
    """
    match = _DOCTYPE.match(text, start)
    if match is None:
        return text
    if match[1].lower() == "html":
        raise FeedFormatError("this is no feed: it is a web page (HTML)")
    end, entities = match.end(), dict[str, str]()
    if match[2] == "[":
        end, entities = _read_subset(text, end)
    return text[:start] + _written_out(text[end:].lstrip(), entities)


def _read_subset(text: str, place: int) -> tuple[int, dict[str, str]]:
    """Where a document type ends that declares something from ``place`` on, and the texts it names."""
    entities: dict[str, str] = {}
    limit = place + MAX_SUBSET_LENGTH
    while (end := _END.match(text, place, limit)) is None:
        found = _DECLARATION.match(text, place, limit)
        if found is None:
            raise FeedFormatError(f"{_REFUSED}: only names for short texts are")
        place = found.end()
        if (name := found["name"]) and name not in _PREDEFINED:
            entities.setdefault(name, _replacement(found["value"][1:-1]))  # the first one counts
    return end.end(), entities


def _replacement(value: str) -> str:
    """What an entity of this value stands for."""
    made = _NUMBER.sub(_letter, value)
    names = re.findall(r"&([^#;\s]*);", made)
    if len(made) > MAX_ENTITY_LENGTH or "%" in value or not _PREDEFINED.issuperset(names):
        raise FeedFormatError(f"{_REFUSED}: an entity is made of others, or longer than {MAX_ENTITY_LENGTH}")
    return made


def _letter(number: re.Match[str]) -> str:
    code = int(number["hex"], 16) if number["hex"] else int(number["decimal"])
    return chr(code) if code < 0x110000 and not 0xD800 <= code < 0xE000 else ""


def _written_out(text: str, entities: dict[str, str]) -> str:
    if not entities:
        return text
    size = 0

    def write(match: re.Match[str]) -> str:
        nonlocal size
        made = entities.get(match["name"] or "")
        if made is None:
            return match[0]
        size += len(made)
        if size > MAX_EXPANSION:
            raise FeedFormatError(f"{_REFUSED}: its entities make more than {MAX_EXPANSION // MIB} MiB")
        return made if "<" in made else made.replace('"', "&#34;").replace("'", "&#39;")

    return _REFERENCE.sub(write, text)
