"""What a page shows of an item's XML or a channel's besides its title: show notes, and how long it is."""

import re
from dataclasses import dataclass
from typing import Final

from p2prss.feed.document.names import name_of, text_of
from p2prss.feed.document.parse import parse_xml

_NOTES: Final = frozenset({"content:encoded", "description", "itunes:summary", "summary"})
_AUTHORS: Final = frozenset({"itunes:author", "dc:creator", "author", "managingEditor"})
_CLOCK: Final = re.compile(r"(?:(?P<hours>\d{1,3}):)?(?P<minutes>\d{1,4}):(?P<seconds>\d{1,2})", re.ASCII)
_SECONDS: Final = re.compile(r"\d{1,6}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Texts:
    """``notes``: HTML or plain text, the longest of the places where feeds put them; empty when none."""

    notes: str = ""
    author: str = ""
    seconds: int | None = None  # how long the episode says it is


def texts_of(xml: bytes) -> Texts:
    """The texts of an archived item or channel. Raises: FeedFormatError."""
    root = parse_xml(xml)
    if name_of(root) != "item":
        root = next((child for child in root if name_of(child) == "channel"), root)
    notes, author, seconds = "", "", None
    for child in root:
        name = name_of(child)
        if name in _NOTES:
            notes = max(notes, text_of(child).strip(), key=len)
        elif name in _AUTHORS:
            author = author or text_of(child).strip()
        elif name == "itunes:duration":
            seconds = _read_duration(text_of(child).strip())
    return Texts(notes, author, seconds)


def _read_duration(text: str) -> int | None:
    """``1:02:03``, ``62:03`` or ``3723`` -> 3723."""
    if _SECONDS.fullmatch(text):
        return int(text)
    found = _CLOCK.fullmatch(text)
    if found is None:
        return None
    return int(found["hours"] or 0) * 3600 + int(found["minutes"]) * 60 + int(found["seconds"])
