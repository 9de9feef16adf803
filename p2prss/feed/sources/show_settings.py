"""``show.toml``: what a folder of media cannot say about itself.

It is the user's own file, so it is read strictly: a key that is not known, or a value of the wrong
kind, is an error that names the key.
"""

import os
import re
import tomllib
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from p2prss.errors import FeedFormatError
from p2prss.feed.sources.folder import read_file
from p2prss.feed.sources.tags import MAX_TAG_TEXT, clean
from p2prss.units import MB

SETTINGS_NAME: Final = "show.toml"
MAX_SETTINGS_BYTES: Final = 4 * MB

Line = Annotated[str, Meta(max_length=1000)]
LongText = Annotated[str, Meta(max_length=MAX_TAG_TEXT)]
Address = Annotated[str, Meta(max_length=4096, pattern=r"^https?://\S+\Z")]
Counted = Annotated[int, Meta(ge=0, le=1_000_000)]

_PLACE: Final = re.compile(r"^(?P<what>.*?)(?: - at `(?P<key>[^`]*)`)?$", re.DOTALL)
_EXPECTED: Final = {
    "link": "an http or https address is expected",
    "language": 'a code such as "en" or "de-AT" is expected',
    "email": "an e-mail address is expected",
    "guid": "a UUID is expected",
    "type": '"episodic" or "serial" is expected',
}

T = TypeVar("T")


class EpisodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of ``episodes``; its name is the file's path in the folder."""

    title: Line | None = None
    description: LongText | None = None
    date: datetime | None = None
    season: Counted | None = None
    number: Counted | None = None
    guid: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    explicit: bool | None = None
    image: Line | None = None  # a file of the folder
    skip: bool = False  # not an episode


class ShowSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; everything in it may be left out."""

    title: Line | None = None
    description: LongText | None = None
    link: Address | None = None
    language: Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")] | None = None
    author: Line | None = None
    email: Annotated[str, Meta(max_length=320, pattern=r"^[^@\s]+@[^@\s]+\Z")] | None = None
    category: Line | list[Line] | None = None  # "Arts", or "Arts > Books"
    explicit: bool = False
    image: Line | None = None  # a file of the folder
    guid: UUID | None = None
    type: Annotated[str, Meta(pattern=r"^(episodic|serial)\Z")] | None = None
    copyright: Line | None = None
    episodes: dict[str, EpisodeSettings] = {}

    @property
    def categories(self) -> list[tuple[str, ...]]:
        """Each category with its part, if it has one."""
        given = [self.category] if isinstance(self.category, str) else self.category or []
        return [tuple(part.strip() for part in one.split(">", 1) if part.strip()) for one in given]


def read_settings(root: Path) -> ShowSettings:
    """The folder's ``show.toml``; one without any settings where there is none.

    Raises: FeedFormatError, in one line that names the key; FetchError when it cannot be read.
    """
    if not os.path.lexists(root / SETTINGS_NAME):
        return ShowSettings()
    return parse_settings(read_file(root, SETTINGS_NAME, MAX_SETTINGS_BYTES))


def parse_settings(data: bytes) -> ShowSettings:
    """The settings in these bytes. Raises: FeedFormatError."""
    try:
        found = tomllib.loads(clean(data.decode("utf-8")))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FeedFormatError(f"{SETTINGS_NAME} cannot be read: {reason}") from None
    tables = found.pop("episodes", {})
    if not isinstance(tables, dict):
        raise FeedFormatError(f"{SETTINGS_NAME}: episodes: a table for each file name is expected")
    settings = _convert(found, ShowSettings, "")
    episodes = {
        name: _convert(_with_moment(table), EpisodeSettings, f'episodes."{name[:200]}"')
        for name, table in tables.items()
    }
    return msgspec.structs.replace(settings, episodes=episodes)


def _convert(value: object, kind: type[T], place: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        match = _PLACE.match(str(error))
        assert match is not None
        key = (match["key"] or "$").removeprefix("$").removeprefix(".")
        what = _EXPECTED.get(
            "" if place else key, match["what"].replace("Object contains unknown field", "unknown key")
        )
        where = ".".join(filter(None, (place, key)))
        raise FeedFormatError(f"{SETTINGS_NAME}: {where + ': ' if where else ''}{what}") from None
    except RecursionError:
        raise FeedFormatError(f"{SETTINGS_NAME}: {place or 'it'} is nested too deeply") from None


def _with_moment(table: object) -> object:
    """TOML tells days and moments apart; a day is its first moment."""
    if isinstance(table, dict) and type(table.get("date")) is date:
        return table | {"date": datetime.combine(table["date"], time())}
    return table


def moment(when: datetime) -> datetime:
    """A date of the settings in UTC; without a zone it is UTC."""
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
