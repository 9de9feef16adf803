"""What a media file says about itself, whatever its format; mutagen does the reading.

A file's tags are a stranger's: they are read from an open file, cut to bounds, and cleaned of what XML
cannot hold. A file whose tags cannot be read has none.
"""

import base64
import io
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import mutagen
from mutagen.flac import Picture

from p2prss.feed.media_types import sniff
from p2prss.units import KIB, MIB

MAX_TAG_TEXT: Final = 256 * KIB  # characters of a description or lyrics
MAX_TAG_LINE: Final = 255  # characters of a title or a name: the most that PSP-1 allows
MAX_TAG_COVER_BYTES: Final = 10 * MIB  # an embedded picture
MAX_TAG_SECONDS: Final = 10_000_000  # a file that claims to be longer does not know

_NOT_IN_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NUMBER: Final = re.compile(r"\s*(\d{1,6})\b")

# For each field the names it has in the formats: ID3 frames, MP4 atoms, Vorbis comments, APE and ASF keys.
_NAMES: Final[dict[str, tuple[str, ...]]] = {
    "title": ("TIT2", "\xa9nam", "title", "Title", "WM/Title"),
    "artist": ("TPE1", "\xa9ART", "artist", "Artist", "Author", "TPE2", "aART", "albumartist"),
    "album": ("TALB", "\xa9alb", "album", "Album", "WM/AlbumTitle"),
    "date": ("TDRL", "TDRC", "TDOR", "TYER", "\xa9day", "releasedate", "date", "year", "Year", "WM/Year"),
    "track": ("TRCK", "trkn", "tracknumber", "track", "Track", "WM/TrackNumber"),
    "disc": ("TPOS", "disk", "discnumber", "disc", "Disc", "WM/PartOfSet"),
    "description": (
        *("TDES", "ldes", "desc", "description", "COMM", "\xa9cmt", "comment", "Comment", "WM/Text"),
        *("USLT", "\xa9lyr", "lyrics", "unsyncedlyrics", "Lyrics", "WM/Lyrics"),
    ),
}
_PICTURE: Final[Any] = Picture  # it has no types
_MACHINE_COMMENTS: Final = ("COMM:iTun", "COMM:ID3v1", "COMM:Songs-DB", "COMM:MusicMatch")


@dataclass(frozen=True, slots=True)
class Tags:
    """What is known of one file; what it does not say is empty or None."""

    title: str = ""
    artist: str = ""
    album: str = ""
    date: str = ""  # as written: a year, a day, a moment
    track: int | None = None
    disc: int | None = None
    description: str = ""
    seconds: int | None = None
    cover: bytes = field(default=b"", repr=False)


def read_tags(descriptor: int, name: str) -> Tags:
    """Read the tags of an open file; ``name`` only helps to tell its format."""
    with io.FileIO(descriptor, closefd=False) as raw, _Reader(raw, name) as reader:
        try:
            found = mutagen.File(reader)
            return Tags() if found is None else _tags(found)
        except Exception:  # noqa: BLE001 - of hostile bytes mutagen raises anything, and gives anything
            return Tags()


class _Reader(io.BufferedReader):
    """An open file that mutagen is told the name of."""

    def __init__(self, raw: io.FileIO, name: str) -> None:
        super().__init__(raw)
        self._name = name

    @property
    def name(self) -> str:
        return self._name


def _tags(found: Any) -> Tags:
    values = dict(_values(found.tags or {}))

    def lines(field_name: str) -> list[str]:
        """All texts of the first tag that has any."""
        for name in _NAMES[field_name]:
            given = (" ".join(text.split()) for text in values.get(name, ()))
            if found := [text[:MAX_TAG_LINE].strip() for text in given if text]:
                return found
        return []

    def line(field_name: str) -> str:
        return next(iter(lines(field_name)), "")

    descriptions = [text.strip()[:MAX_TAG_TEXT] for text in _named(values, "description")]
    return Tags(
        title=line("title"),
        artist=", ".join(dict.fromkeys(lines("artist")))[:MAX_TAG_LINE],
        album=line("album"),
        date=line("date")[:40],
        track=_number(line("track")),
        disc=_number(line("disc")),
        description=next((text for text in descriptions if text), ""),
        seconds=_seconds(getattr(found, "info", None)),
        cover=_cover(found),
    )


def _values(tags: Any) -> Iterable[tuple[str, list[str]]]:
    """Every tag as texts, under its plain name; of several ID3 comments the first that a person wrote."""
    seen: set[str] = set()
    for key, value in sorted(tags.items()) if isinstance(tags, Mapping) else tags.items():
        name = str(key).partition(":")[0] if re.match(r"[A-Z0-9]{4}(:|$)", str(key)) else str(key)
        if name in seen or str(key).startswith(_MACHINE_COMMENTS):
            continue
        texts = [clean(text) for text in _texts(value)]
        if any(texts):
            seen.add(name)
            yield name, texts


def _texts(value: Any) -> list[str]:
    value = getattr(value, "text", value)  # of an ID3 frame
    value = getattr(value, "value", value)  # of APE and ASF
    found = []
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, tuple) and one:  # track and number of tracks, in MP4
            found.append(str(one[0]))
        elif (
            isinstance(one, str)
            or type(one).__name__ in ("ID3TimeStamp", "ASFUnicodeAttribute")
            or isinstance(one, int)
        ):
            found.append(str(one))
    return found


def _named(values: Mapping[str, list[str]], field_name: str) -> Iterable[str]:
    return (text for name in _NAMES[field_name] for text in values.get(name, ()))


def _number(text: str) -> int | None:
    match = _NUMBER.match(text)
    return int(match[1]) or None if match else None


def _seconds(info: Any) -> int | None:
    length = getattr(info, "length", None)
    if not isinstance(length, int | float) or not 0 < length < MAX_TAG_SECONDS:
        return None
    return max(1, round(length))


def _cover(found: Any) -> bytes:
    """The embedded picture, the front cover where there are several; empty when it is none we can serve."""
    tags = found.tags or {}
    candidates: list[tuple[bool, bytes]] = []  # front cover?
    if hasattr(tags, "getall"):
        candidates += [(one.type == 3, bytes(one.data)) for one in tags.getall("APIC")]
    candidates += [(one.type == 3, bytes(one.data)) for one in getattr(found, "pictures", ())]
    if isinstance(tags, Mapping) or hasattr(tags, "get"):
        with suppress(Exception):
            candidates += [(True, bytes(one)) for one in tags.get("covr") or ()]
        with suppress(Exception):
            pictures = [_PICTURE(base64.b64decode(text)) for text in tags.get("metadata_block_picture") or ()]
            candidates += [(one.type == 3, bytes(one.data)) for one in pictures]
    candidates.sort(key=lambda one: not one[0])
    return next(
        (
            data
            for _, data in candidates
            if len(data) <= MAX_TAG_COVER_BYTES and sniff(data[:512]) in ("image/jpeg", "image/png")
        ),
        b"",
    )


def clean(text: str) -> str:
    """A text without the characters that no XML may hold."""
    return _NOT_IN_XML.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
