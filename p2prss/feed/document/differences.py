"""What differs between the feed of an origin and the one that is served, and by which rule. Pure.

Elements are held against each other by what they are, not by where they stand: first those that are
equal, then those of one name in their order. What is left over was removed or added.
"""

import re
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from lxml import etree

from p2prss.feed.document.embedded import NOTES, addresses_at, replace_images
from p2prss.feed.document.names import plain_name, text_of
from p2prss.feed.document.parse import parse_xml
from p2prss.feed.document.rss_parts import find_marks

MAX_SHOWN: Final = 2000  # characters of a value
_FILE_ATTRIBUTES: Final = frozenset({"length", "type", "fileSize", "contentType"})
_ADDRESS_ATTRIBUTES: Final = ("url", "href", "uri")


class Rule(StrEnum):
    """Why something differs. Source: spec/08-feeds, "Rendering"."""

    FORMAT = "format"  # what came was no RSS 2.0, or was broken
    STYLESHEET = "stylesheet"
    LINKS = "links"  # self, hub, pages: those of the copy
    MOVED = "moved"  # itunes:new-feed-url
    CLOUD = "cloud"
    BLOCK = "block"
    GUID = "guid"  # of an item or the show that has none
    DATE = "date"
    CAPTURED = "captured"  # address, length and type of a file that is here
    ABSOLUTE = "absolute"
    TYPE = "type"  # and length, where the origin has none
    PICTURES = "pictures"  # in texts
    EDITION = "edition"  # the way to the same bytes, with their hash
    DROPPED = "dropped"  # by the origin, and still served
    DOUBLE = "double"  # a guid that stands several times
    ORDER = "order"
    CHANGED = "changed"  # by none of these rules: the origin is newer than the archive


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One difference. ``where`` is ``channel`` or the guid of an item; None: it does not stand there."""

    rule: Rule
    where: str
    element: str  # its plain name, with @ and the name of an attribute
    origin: str | None
    served: str | None


@dataclass(frozen=True, slots=True)
class Document:
    """One side: the channel's XML and the items with their guids, in their order."""

    channel: bytes
    items: Sequence[tuple[str, bytes]]


def find_differences(origin: Document, served: bytes, base_url: str) -> list[Difference]:
    """Hold what is served below ``base_url`` against what the origin says.

    Raises: FeedFormatError when one of them cannot be read.
    """
    return sorted(_Comparison(base_url).run(origin, served), key=lambda one: list(Rule).index(one.rule))


class _Comparison:
    def __init__(self, base_url: str) -> None:
        self._local = f"{base_url}/feeds/"
        self._where = "channel"

    def run(self, origin: Document, served: bytes) -> Iterator[Difference]:
        before, after = parse_xml(origin.channel), parse_xml(served)
        for mark in find_marks(before):
            if (parent := mark.getparent()) is not None:
                parent.remove(mark)
        copies: dict[str, etree._Element] = {}
        for item in [one for one in after.iter(etree.Element) if _is_item(one)]:
            guid = next((text_of(one) for one in item if _name(one) == "guid"), "")
            copies.setdefault(guid, item)
            if (parent := item.getparent()) is not None:
                parent.remove(item)
        for style in before.itersiblings(etree.PI, preceding=True):
            if getattr(style, "target", "") == "xml-stylesheet":
                yield self._difference(Rule.STYLESHEET, "xml-stylesheet", style.text, None)
        yield from self._elements(before, after)
        yield from self._items(origin, copies)

    def _items(self, origin: Document, copies: dict[str, etree._Element]) -> Iterator[Difference]:
        listed: dict[str, None] = {}
        counting = self._counting(origin, copies)
        for place, (guid, xml) in enumerate(origin.items):
            self._where = guid
            copy = copies.get(guid)
            if copy is None:
                yield self._difference(Rule.CHANGED, "item", _title(parse_xml(xml)), None)
            elif counting[guid] != place:
                yield self._difference(Rule.DOUBLE, "item", _title(parse_xml(xml)), None)
            else:
                listed[guid] = None
                yield from self._elements(parse_xml(xml), copy)
        for guid, copy in copies.items():
            if guid not in listed:
                self._where = guid
                yield self._difference(Rule.DROPPED, "item", None, _title(copy))
        if [guid for guid in copies if guid in listed] != list(listed):
            self._where = "channel"
            yield self._difference(Rule.ORDER, "item", _some(listed), _some(copies))

    def _counting(self, origin: Document, copies: dict[str, etree._Element]) -> dict[str, int]:
        """Which item of each guid is the one that is served: of several the one most like it."""
        places: dict[str, list[int]] = {}
        for place, (guid, _) in enumerate(origin.items):
            places.setdefault(guid, []).append(place)

        def unlike(place: int) -> int:
            guid, xml = origin.items[place]
            return sum(1 for _ in self._elements(parse_xml(xml), copies[guid]))

        return {
            guid: several[0] if len(several) == 1 else min(several, key=unlike)
            for guid, several in places.items()
            if guid in copies
        }

    def _elements(self, one: etree._Element, other: etree._Element) -> Iterator[Difference]:
        """What differs in two elements of one name."""
        name = _name(one)
        for key in dict.fromkeys([*map(str, one.keys()), *map(str, other.keys())]):
            old, new = one.get(key), other.get(key)
            if old != new:
                rule = self._attribute_rule(name, key, old, new, other)
                yield self._difference(rule, f"{name}@{plain_name(key)}", old, new)
        if (one.text or "").strip() != (other.text or "").strip():
            old, new = one.text or "", other.text or ""
            rule = self._text_rule(name, old, new)
            if rule is Rule.PICTURES:
                pairs = zip(addresses_at(one, ""), addresses_at(other, ""), strict=False)
                for written, served in dict.fromkeys(pairs):
                    if written != served:
                        yield self._difference(rule, f"{name} img", written, served)
            else:
                yield self._difference(rule, name, old or None, new or None)
        for old_child, new_child in _paired(list(one), list(other)):
            if old_child is None or new_child is None:
                child = new_child if old_child is None else old_child
                if child is not None:
                    text = _shown(child)
                    rule = self._child_rule(child, is_added=old_child is None)
                    values = (None, text) if old_child is None else (text, None)
                    yield self._difference(rule, _name(child), *values)
            elif isinstance(old_child.tag, str):
                yield from self._elements(old_child, new_child)

    def _attribute_rule(
        self, name: str, key: str, old: str | None, new: str | None, element: etree._Element
    ) -> Rule:
        if new is not None and new.startswith(self._local):
            return Rule.LINKS if name == "atom:link" else Rule.CAPTURED
        if name == "atom:link" and element.get("rel") in ("self", "via"):
            return Rule.LINKS
        if key == "isPermaLink":
            return Rule.GUID
        if key in _FILE_ATTRIBUTES and self._is_captured(element):
            return Rule.CAPTURED
        if key in ("type", "length") and not old:
            return Rule.TYPE
        return Rule.ABSOLUTE if _made_absolute(old, new) else Rule.CHANGED

    def _is_captured(self, element: etree._Element) -> bool:
        named = [element, *element] if _name(element) == "podcast:alternateEnclosure" else [element]
        return any(one.get(key, "").startswith(self._local) for one in named for key in _ADDRESS_ATTRIBUTES)

    def _text_rule(self, name: str, old: str, new: str) -> Rule:
        if new.startswith(self._local):
            return Rule.CAPTURED
        if name in ("guid", "podcast:guid") and not old.strip():
            return Rule.GUID
        if name == "link" and old.startswith("hyper://"):
            return Rule.LINKS
        if name == "pubDate" and not old.strip():
            return Rule.DATE
        if name.endswith(":block"):
            return Rule.BLOCK
        if name in NOTES and replace_images(old, _nothing) == replace_images(new, _nothing):
            return Rule.PICTURES
        return Rule.ABSOLUTE if _made_absolute(old, new) else Rule.CHANGED

    def _child_rule(self, child: etree._Element, *, is_added: bool) -> Rule:
        name = _name(child)
        if name == "atom:link" and (not is_added or child.get("rel") != "alternate"):
            return Rule.LINKS
        if not is_added:
            return {"itunes:new-feed-url": Rule.MOVED, "cloud": Rule.CLOUD}.get(
                name, Rule.BLOCK if name.endswith(":block") else Rule.CHANGED
            )
        if name == "podcast:alternateEnclosure" and any(_name(one) == "podcast:integrity" for one in child):
            return Rule.EDITION
        known = {"guid": Rule.GUID, "podcast:guid": Rule.GUID, "pubDate": Rule.DATE}
        return known.get(name, Rule.BLOCK if name.endswith(":block") else Rule.CHANGED)

    def _difference(self, rule: Rule, element: str, origin: str | None, served: str | None) -> Difference:
        return Difference(
            rule=rule,
            where=self._where[:MAX_SHOWN],
            element=element[:200],
            origin=None if origin is None else origin[:MAX_SHOWN],
            served=None if served is None else served[:MAX_SHOWN],
        )


def _paired(
    ones: Sequence[etree._Element], others: Sequence[etree._Element]
) -> Iterator[tuple[etree._Element | None, etree._Element | None]]:
    """Elements that belong together: equal ones, which are passed over, then those of one name in order."""
    equal = Counter(map(_canonical, ones)) & Counter(map(_canonical, others))
    queues: dict[str, deque[etree._Element]] = {}
    for other in _without(others, equal):
        queues.setdefault(_kind(other), deque()).append(other)
    for one in _without(ones, equal):
        queue = queues.get(_kind(one))
        yield one, queue.popleft() if queue else None
    for queue in queues.values():
        for other in queue:
            yield None, other


def _without(nodes: Sequence[etree._Element], equal: Counter[bytes]) -> list[etree._Element]:
    """The nodes that are not among so many equal ones."""
    left = Counter(equal)
    rest = []
    for node in nodes:
        digest = _canonical(node)
        if left[digest]:
            left[digest] -= 1
        else:
            rest.append(node)
    return rest


def _canonical(node: etree._Element) -> bytes:
    with suppress(etree.C14NError):
        if isinstance(node.tag, str):
            return etree.tostring(node, method="c14n", exclusive=True, with_comments=True, with_tail=False)
    return etree.tostring(node, encoding="utf-8", with_tail=False)


def _kind(node: etree._Element) -> str:
    """What two nodes must have in common to be one that changed."""
    name = _name(node)
    return f"{name} {node.get('rel', '').strip().lower()}" if name == "atom:link" else name


def _name(node: etree._Element) -> str:
    target = getattr(node, "target", "")
    return plain_name(node.tag) if isinstance(node.tag, str) else f"?{target}" if target else "comment"


def _is_item(node: etree._Element) -> bool:
    return _name(node) == "item"


def _title(item: etree._Element) -> str:
    return next((" ".join(text_of(one).split()) for one in item if _name(one) == "title"), "")


def _shown(node: etree._Element) -> str:
    """A node in one line: its attributes and all its text."""
    attributes = [f"{plain_name(str(key))}={value!s}" for key, value in node.items()]
    return " ".join([*attributes, *(text_of(node) or node.text or "").split()])


def _some(guids: Sequence[str] | dict[str, etree._Element] | dict[str, None]) -> str:
    return ", ".join(list(guids)[:5])


def _made_absolute(old: str | None, new: str | None) -> bool:
    """Whether an address only got its beginning, or lost the blanks around it."""
    if old is None or new is None:
        return False
    words = old.strip()
    return new == words or (re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", words) is None and "://" in new)


def _nothing(_: str) -> str:
    return ""
