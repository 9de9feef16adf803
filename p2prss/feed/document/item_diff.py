"""What differs between two versions of an item's XML, by the names a person knows. Pure."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

from lxml import etree

from p2prss.feed.document.names import plain_name, text_of
from p2prss.feed.document.parse import parse_xml

MARKUP: Final = "markup"
"""The field of a change that touches no element's content: comments, order, blanks between elements."""

CONTEXT: Final = 40  # characters shown on either side of what differs
MAX_SHOWN: Final = 400  # characters of what differs


@dataclass(frozen=True, slots=True)
class Difference:
    """One field, such as ``title`` or ``itunes:image``, before and after; empty where it was not there."""

    field: str
    before: str
    after: str


def differences(before: bytes, after: bytes) -> list[Difference]:
    """Compare two versions of an item that are not the same, element by element.

    Of elements that stand several times only those that differ are told.
    Raises: FeedFormatError when one of them is no XML.
    """
    old, new = _fields(parse_xml(before)), _fields(parse_xml(after))
    found = []
    for name in dict.fromkeys([*new, *old]):
        here, there = old.get(name, []), new.get(name, [])
        gone, come = Counter(here) - Counter(there), Counter(there) - Counter(here)
        if gone or come:
            found.append(Difference(name, "\n".join(gone.elements()), "\n".join(come.elements())))
    return found or [Difference(MARKUP, "", "")]


def changed_part(difference: Difference) -> tuple[str, str]:
    """The parts of a long text that differ, before and after, with a little of what is around them."""
    before, after = difference.before, difference.after
    start = _common(before, after)
    end = _common(before[start:][::-1], after[start:][::-1])
    return _cut(before, start, len(before) - end), _cut(after, start, len(after) - end)


def _common(one: str, other: str) -> int:
    """How many characters two texts begin with in common; found by halving, as texts may be long."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _cut(text: str, start: int, stop: int) -> str:
    start, stop = max(0, start - CONTEXT), min(len(text), stop + CONTEXT)
    part = text[start:stop]
    if len(part) > MAX_SHOWN:
        part = f"{part[: MAX_SHOWN // 2]} … {part[-MAX_SHOWN // 2 :]}"
    return ("…" if start else "") + part + ("…" if stop < len(text) else "")


def _fields(item: etree._Element) -> dict[str, list[str]]:
    """The content of each element by name, as text."""
    fields: dict[str, list[str]] = {}
    if item.attrib:
        fields["item"] = [_attributes(item)]
    for child in item:
        if isinstance(child.tag, str):
            fields.setdefault(_name(child), []).append(_content(child))
    return fields


def _name(element: etree._Element) -> str:
    name = plain_name(element.tag)
    if not name.startswith("{"):
        return name
    local = etree.QName(element).localname
    return f"{element.prefix}:{local}" if element.prefix else local


def _content(element: etree._Element) -> str:
    if any(isinstance(child.tag, str) for child in element):
        text = etree.tostring(element, encoding="unicode", with_tail=False)
        return text[text.find(">") + 1 :] if not element.attrib else text
    return " ".join(part for part in (_attributes(element), text_of(element)) if part)


def _attributes(element: etree._Element) -> str:
    return " ".join(f'{plain_name(str(name))}="{value!s}"' for name, value in sorted(element.items()))
