"""``show.toml``: what a folder of media cannot say about itself.

It is the user's own file, so it is read strictly: a key that is not known, or a value of the wrong
kind, is an error that names the key and its line.
"""

import os
import re
import tomllib
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from p2prss.errors import FeedFormatError, FetchError
from p2prss.feed.sources.categories import is_known
from p2prss.feed.sources.folder import read_file
from p2prss.feed.sources.tags import MAX_TAG_LINE, MAX_TAG_TEXT, clean
from p2prss.units import MB

SETTINGS_NAME: Final = "show.toml"
MAX_SETTINGS_BYTES: Final = 4 * MB

MAX_STATEMENT_LINES: Final = 500  # of a text; the line of a mistake behind a longer one is not told

Line = Annotated[str, Meta(max_length=1000)]
Words = Annotated[str, Meta(max_length=MAX_TAG_LINE)]
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
_KINDS: Final = {
    "str": "a text",
    "bool": "true or false",
    "int": "a whole number",
    "datetime": "a date",
    "array": "a list",
    "object": "a table",
}
_KIND: Final = re.compile(r"Expected `([a-z| ]+)`, got `(\w+)`")
_TEXTS: Final = frozenset({"title", "description", "author", "copyright"})  # without blanks at their ends
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)

T = TypeVar("T")


class SettingsError(FeedFormatError):
    """A setting that makes no sense, and the keys that lead to it.

    Args: keys: shown before the message; unknown: a key in there that should not be.
    """

    def __init__(self, what: str, *keys: str, unknown: str | None = None) -> None:
        names = [f'"{key[:200]}"' if keys[:place] == ("episodes",) else key for place, key in enumerate(keys)]
        where = "".join(f"{name}." for name in names[:-1]) + "".join(names[-1:])
        super().__init__(f"{SETTINGS_NAME}: {where + ': ' if where else ''}{what}")
        self.path = (*keys, *([] if unknown is None else [unknown]))


class EpisodeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of ``episodes``; its name is the file's path in the folder."""

    title: Words | None = None
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

    title: Words | None = None
    description: LongText | None = None
    link: Address | None = None
    language: Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*\Z")] | None = None
    author: Words | None = None
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

    Raises: FeedFormatError, in one line that names key and line; FetchError when it cannot be read.
    """
    if not os.path.lexists(root / SETTINGS_NAME):
        return ShowSettings()
    return parse_settings(read_file(root, SETTINGS_NAME, MAX_SETTINGS_BYTES))


def with_line(root: Path, error: SettingsError) -> FeedFormatError:
    """The error with the line of the folder's ``show.toml`` that it is about."""
    with suppress(FetchError, UnicodeDecodeError):
        text = clean(read_file(root, SETTINGS_NAME, MAX_SETTINGS_BYTES).decode("utf-8-sig"))
        return _with_line(text, error)
    return error


def parse_settings(data: bytes) -> ShowSettings:
    """The settings in these bytes. Raises: FeedFormatError."""
    try:
        text = clean(data.decode("utf-8-sig"))
        found = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise FeedFormatError(f"{SETTINGS_NAME} cannot be read: {reason}") from None
    try:
        return _settings(found)
    except SettingsError as error:
        raise _with_line(text, error) from None


def _settings(found: dict[str, Any]) -> ShowSettings:
    tables = found.pop("episodes", {})
    if not isinstance(tables, dict):
        raise SettingsError("a table for each file name is expected", "episodes")
    settings = _convert(found, ShowSettings)
    episodes = {
        name: _convert(_with_moment(table), EpisodeSettings, "episodes", name)
        for name, table in tables.items()
    }
    return msgspec.structs.replace(settings, episodes=episodes)


def _convert(value: object, kind: type[T], *keys: str) -> T:
    if isinstance(value, dict):
        value = {
            key: one.strip() if key in _TEXTS and isinstance(one, str) else one for key, one in value.items()
        }
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        match = _PLACE.match(str(error))
        assert match is not None
        key = (match["key"] or "$").removeprefix("$").removeprefix(".")
        what = match["what"]
        if unknown := _UNKNOWN.fullmatch(what):
            raise SettingsError(f"unknown key `{unknown[1]}`", *keys, unknown=unknown[1]) from None
        what = _KIND.sub(_in_words, what)
        key = re.split(r"[.\[]", key)[0]
        what = _EXPECTED.get("" if keys else key, what)
        raise SettingsError(what, *keys, *([key] if key else [])) from None
    except RecursionError:
        raise SettingsError("it is nested too deeply", *keys) from None


def _in_words(match: re.Match[str]) -> str:
    """What msgspec says of types, in the words of people who write TOML."""
    kinds = [_KINDS.get(one.strip(), one.strip()) for one in match[1].split("|") if one.strip() != "null"]
    return f"{' or '.join(kinds)} is expected, not {_KINDS.get(match[2], match[2])}"


def _with_line(text: str, error: SettingsError) -> FeedFormatError:
    line = find_line(text, error.path)
    return FeedFormatError(f"{error} (line {line})") if line else error


def find_line(text: str, keys: Sequence[str]) -> int | None:
    """The number of the line, from 1, of the statement that gives these keys a value; None without one.

    ``text`` is read one statement after the other, so it must be what tomllib takes.
    """
    lines = text.split("\n")
    table: tuple[str, ...] = ()
    start = 0
    while keys and start < len(lines):
        end = start + 1
        while (found := _statement(lines[start:end])) is None:
            if end == len(lines) or end - start > MAX_STATEMENT_LINES:
                return None
            end += 1
        if lines[start].lstrip().startswith("["):
            table = tuple(_only_path(found))
            if table[: len(keys)] == tuple(keys):
                return start + 1
        elif tuple(keys[: len(table)]) == table and _has(found, keys[len(table) :]):
            return start + 1
        start = end
    return None


def doubts(settings: ShowSettings, paths: Collection[str]) -> list[str]:
    """What is no mistake for certain: tables of files that are not there, categories nobody knows."""
    missing = [path for path in settings.episodes if path not in paths]
    unknown = [" > ".join(one) for one in settings.categories if not is_known(one)]
    return [
        *(f'{SETTINGS_NAME}: episodes."{path[:200]}": the folder has no such file' for path in missing),
        *(f"{SETTINGS_NAME}: category: directories know none called {one[:200]!r}" for one in unknown),
    ]


def _statement(lines: Sequence[str]) -> dict[str, Any] | None:
    """What some lines say; None when they end in the middle of a statement."""
    try:
        return tomllib.loads("\n".join(lines))
    except (ValueError, RecursionError):
        return None


def _only_path(found: object) -> Iterator[str]:
    """The keys of a table's head."""
    while found:
        if isinstance(found, list):
            found = found[0]
        elif isinstance(found, dict):
            key, found = next(iter(found.items()))
            yield key


def _has(found: object, keys: Sequence[str]) -> bool:
    for key in keys:
        if not isinstance(found, dict) or key not in found:
            return False
        found = found[key]
    return True


def _with_moment(table: object) -> object:
    """TOML tells days and moments apart; a day is its first moment."""
    if isinstance(table, dict) and type(table.get("date")) is date:
        return table | {"date": datetime.combine(table["date"], time())}
    return table


def moment(when: datetime) -> datetime:
    """A date of the settings in UTC; without a zone it is UTC."""
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)
