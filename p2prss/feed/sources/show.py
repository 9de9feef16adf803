"""A folder of media as a show: what it is called, its episodes, their guids and dates.

Pure: files, tags and settings come in as values, and what an earlier look decided as a ``Memory``.
The same folder always gives the same show.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Final, Self
from uuid import UUID, uuid5

import msgspec

from p2prss.feed.document.dates import parse_date
from p2prss.feed.media_types import guess_type
from p2prss.feed.sources.folder import FoundFile, address_of
from p2prss.feed.sources.show_settings import EpisodeSettings, SettingsError, ShowSettings, moment
from p2prss.feed.sources.tags import Tags, clean

EPISODE_ENDINGS: Final = frozenset(
    {"mp3", "m4a", "m4b", "aac", "ogg", "oga", "opus", "flac", "wav", "mp4", "m4v", "mov", "webm", "mkv"}
)
PICTURE_ENDINGS: Final = ("jpg", "jpeg", "png")
COVER_NAMES: Final = ("cover", "folder", "front", "artwork", "poster", "albumart")  # the first there is
TRANSCRIPT_TYPES: Final = {"vtt": "text/vtt", "srt": "application/x-subrip"}
CHAPTERS_TYPE: Final = "application/json+chapters"
MADE_FOLDER: Final = ".p2prss"  # of addresses of pictures that are no files; no file is ever hidden
GUID_NAMESPACE: Final = UUID("0c3c2b5e-8f0a-5d8b-9a35-2f6f1f1b7a64")  # for shows without a guid of their own

_DATE: Final = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:[T ](\d\d):(\d\d)(?::(\d\d))?(?:\.\d+)?\s*(Z|[+-]\d\d:?\d\d)?)?)?)?"
)
_OTHER_DATES: Final = (  # of a day, as programs and people write it into tags
    re.compile(r"(?P<year>\d{4})(?P<month>\d\d)(?P<day>\d\d)"),  # yt-dlp
    re.compile(r"(?P<year>\d{4})(?P<mark>[-/.])(?P<month>\d\d?)(?P=mark)(?P<day>\d\d?)"),
    re.compile(r"(?P<day>\d\d?)\.\s?(?P<month>\d\d?)\.\s?(?P<year>\d{4})"),
)


NO_TAGS: Final = Tags()


class KnownFile(msgspec.Struct, frozen=True, array_like=True):
    """A file whose bytes have been read: as long as size and times stay, so does the hash."""

    byte_length: int
    modified_ns: int
    changed_ns: int
    sha256: str

    @classmethod
    def of(cls, file: FoundFile, sha256: str) -> Self:
        """What to remember of a file."""
        return cls(file.byte_length, file.modified_ns, file.changed_ns, sha256)


class KnownEpisode(msgspec.Struct, frozen=True, array_like=True):
    """What was decided of an episode when it was first seen; ``claim`` is what its date was made of."""

    guid: str
    sha256: str
    published: datetime
    claim: str


class Memory(msgspec.Struct, frozen=True):
    """What a home keeps about a folder between looks, by the files' addresses."""

    files: dict[str, KnownFile] = {}
    episodes: dict[str, KnownEpisode] = {}


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A file with the hash of its bytes; ``tags`` only of media."""

    file: FoundFile
    sha256: str  # 64 hex digits
    tags: Tags = NO_TAGS
    cover: str = ""  # the address of its embedded picture

    @property
    def address(self) -> str:
        """The relative address of these very bytes: other bytes under the same name have another one."""
        return f"{address_of(self.file.path)}?v={self.sha256[:16]}"


@dataclass(frozen=True, slots=True)
class Episode:
    """One item to be; addresses are relative."""

    guid: str
    title: str
    published: datetime
    address: str
    byte_length: int
    mime_type: str
    description: str = ""
    author: str = ""
    seconds: int | None = None
    season: int | None = None
    number: int | None = None
    explicit: bool | None = None
    image: str = ""
    transcripts: tuple[tuple[str, str], ...] = ()  # address and type
    chapters: str = ""


@dataclass(frozen=True, slots=True)
class Show:
    """A feed to be; episodes are newest first."""

    title: str
    description: str
    link: str
    language: str
    author: str
    email: str
    categories: tuple[tuple[str, ...], ...]
    explicit: bool
    image: str
    guid: str
    type: str
    copyright: str
    episodes: tuple[Episode, ...] = field(repr=False)


def is_episode(file: FoundFile, settings: ShowSettings) -> bool:
    """Whether a file is to be an episode."""
    wanted = settings.episodes.get(file.path)
    return file.ending in EPISODE_ENDINGS and not (wanted is not None and wanted.skip)


def make_show(
    files: Sequence[SeenFile], settings: ShowSettings, memory: Memory, *, name: str, link: str, guid: str
) -> tuple[Show, Memory]:
    """The show that a folder is.

    Args: files: all of the folder's that matter; name, link, guid: of the show, where neither tags nor
        settings have one.
    Returns: the show, and what to remember of it.
    Raises: SettingsError when the settings speak of what is not there, or two episodes have one guid.
    """
    by_path = {seen.file.path: seen for seen in files}
    media = [seen for seen in files if is_episode(seen.file, settings)]
    _check(settings, by_path)
    guids = _guids(media, settings, memory)
    dates = _dates(media, settings, memory, guids)
    cover = _show_cover(settings, by_path, media)
    several_discs = any((seen.tags.disc or 0) > 1 for seen in media)
    author = settings.author or _common(seen.tags.artist for seen in media)
    title = (
        settings.title or _common(seen.tags.album for seen in media) or clean(name).strip() or "Recordings"
    )
    cover = cover or drawn_cover_address(title)
    episodes = [
        _episode(
            seen,
            settings.episodes.get(seen.file.path, EpisodeSettings()),
            by_path,
            guid=guids[seen.file.path],
            published=dates[seen.file.path][0],
            cover=cover,
            author=author,
            with_season=several_discs,
        )
        for seen in media
    ]
    episodes.sort(key=lambda one: (one.published, one.guid), reverse=True)
    is_serial = bool(media) and all(seen.tags.track for seen in media)
    show = Show(
        title=title,
        description=settings.description or title,
        link=settings.link or link,
        language=settings.language or "en",
        author=author,
        email=settings.email or "",
        categories=tuple(filter(None, settings.categories)) or (("Society & Culture",),),
        explicit=settings.explicit,
        image=cover,
        guid=str(settings.guid or guid),
        type=settings.type or ("serial" if is_serial else "episodic"),
        copyright=settings.copyright or "",
        episodes=tuple(episodes),
    )
    known = {
        address_of(seen.file.path): KnownEpisode(guids[seen.file.path], seen.sha256, *dates[seen.file.path])
        for seen in media
    }
    others = set(guids.values())
    gone = {name: one for name, one in memory.episodes.items() if one.guid not in others}
    return show, Memory(_known_files(files), gone | known)


def _known_files(files: Iterable[SeenFile]) -> dict[str, KnownFile]:
    return {address_of(seen.file.path): KnownFile.of(seen.file, seen.sha256) for seen in files}


def _check(settings: ShowSettings, by_path: Mapping[str, SeenFile]) -> None:
    for path, wanted in settings.episodes.items():
        if wanted.image is not None and wanted.image not in by_path:
            text = f"the folder has no picture {wanted.image!r}"
            raise SettingsError(text, "episodes", path, "image")
    if settings.image is not None and settings.image not in by_path:
        raise SettingsError(f"the folder has no picture {settings.image!r}", "image")


def _guids(media: Sequence[SeenFile], settings: ShowSettings, memory: Memory) -> dict[str, str]:
    """The guid of each episode, by path: the settings' word, else the one it had, else one from its path.

    A file that is new under its name, but has the bytes of one that is gone, is that one, renamed.
    """
    namespace = settings.guid or GUID_NAMESPACE
    here = {address_of(seen.file.path) for seen in media}
    gone = {
        known.sha256: known.guid
        for address, known in sorted(memory.episodes.items(), reverse=True)
        if address not in here
    }
    found: dict[str, str] = {}
    for seen in media:
        wanted = settings.episodes.get(seen.file.path)
        if wanted is not None and wanted.guid:
            found[seen.file.path] = wanted.guid
        elif (known := memory.episodes.get(address_of(seen.file.path))) is not None:
            found[seen.file.path] = known.guid
        elif seen.sha256 in gone:
            found[seen.file.path] = gone.pop(seen.sha256)
    taken = set(found.values()) | {known.guid for known in memory.episodes.values()}
    for seen in media:
        if seen.file.path not in found:
            name = address_of(unicodedata.normalize("NFC", seen.file.path))
            guid = str(uuid5(namespace, name))
            found[seen.file.path] = (
                str(uuid5(namespace, f"{name}?v={seen.sha256}")) if guid in taken else guid
            )
    paths: dict[str, str] = {}
    for path, guid in found.items():
        if guid in paths:
            named = path if path in settings.episodes else paths[guid]
            text = f"{paths[guid]!r} and {path!r} have the same guid {guid!r}"
            raise SettingsError(text, "episodes", named, "guid")
        paths[guid] = path
    return found


def new_guid(path: str, namespace: UUID = GUID_NAMESPACE, sha256: str = "") -> str:
    """The guid of a file that has none yet; with the hash of its bytes where another file has that one.

    Source: spec/08-feeds, "Folder of media".
    """
    name = address_of(unicodedata.normalize("NFC", path))
    return str(uuid5(namespace, f"{name}?v={sha256}" if sha256 else name))


def _dates(
    media: Sequence[SeenFile], settings: ShowSettings, memory: Memory, guids: Mapping[str, str]
) -> dict[str, tuple[datetime, str]]:
    """The date of each episode and what it was made of, by path; a date once given stays while that does.

    Episodes of one day are put in the order of disc, track and name, a second apart.
    """
    known = {one.guid: one for one in memory.episodes.values()}
    found: dict[str, tuple[datetime, str]] = {}
    rough: list[tuple[datetime, tuple[object, ...], str, str]] = []
    for seen in media:
        path = seen.file.path
        wanted = settings.episodes.get(path)
        exact: datetime | None = None
        if wanted is not None and wanted.date is not None:
            when, claim = moment(wanted.date), f"settings {wanted.date.isoformat()}"
            exact = when
        elif (tagged := parse_tag_date(seen.tags.date)) is not None:
            when, claim = tagged[0], f"tag {seen.tags.date}"
            exact = when if tagged[1] else None
        else:
            when, claim = _modified(seen.file), "file"
        before = known.get(guids[path])
        if before is not None and before.claim == claim:
            found[path] = before.published, claim
        elif exact is not None:
            found[path] = exact, claim
        else:
            order = (seen.tags.disc or 0, seen.tags.track or 0, natural(path))
            rough.append((when, order, path, claim))
    taken = {when for when, _ in found.values()}
    for when, _, path, claim in sorted(rough):
        while when in taken:
            when += timedelta(seconds=1)
        taken.add(when)
        found[path] = when, claim
    return found


def _modified(file: FoundFile) -> datetime:
    seconds = min(max(file.modified_ns // 1_000_000_000, 0), 4_000_000_000)
    return datetime.fromtimestamp(seconds, UTC)


def parse_tag_date(text: str) -> tuple[datetime, bool] | None:
    """The moment a tag means, and whether it says so to the minute; None when it means none.

    >>> parse_tag_date("2024-05")
    (datetime.datetime(2024, 5, 1, 0, 0, tzinfo=datetime.timezone.utc), False)
    """
    text = text.strip()
    for form in _OTHER_DATES:
        if (other := form.fullmatch(text)) is not None:
            text = f"{other['year']}-{int(other['month']):02}-{int(other['day']):02}"
    match = _DATE.fullmatch(text) or (_DATE.match(text) if not re.match(r"\d{4}[-/.]?\d", text) else None)
    if match is None:
        when = parse_date(text) if re.search(r"[^\W\d_]{3}.*\d{4}", text) else None
        return None if when is None else (when, ":" in text)
    year, month, day, hour, minute, second, zone = match.groups()
    try:
        when = datetime(int(year), int(month or 1), int(day or 1), tzinfo=UTC)
        if hour is not None:
            when = when.replace(hour=int(hour), minute=int(minute), second=int(second or 0))
            if zone and zone != "Z":
                offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[-2:]))
                when += -offset if zone[0] == "+" else offset
    except (ValueError, OverflowError):
        return None
    return (when, hour is not None) if 1900 <= when.year <= 2200 else None


def natural(path: str) -> tuple[object, ...]:
    """Sorts names as people do: 2 before 10."""
    parts = re.split(r"(\d+)", unicodedata.normalize("NFC", path).casefold())
    return tuple((int(part[:18]), part) if place % 2 else part for place, part in enumerate(parts))


def _show_cover(settings: ShowSettings, by_path: Mapping[str, SeenFile], media: Sequence[SeenFile]) -> str:
    """The picture of the show: the settings' word, a file of the usual name, what most files hold."""
    if settings.image is not None:
        return by_path[settings.image].address
    pictures = {
        seen.file.path.lower(): seen for seen in by_path.values() if seen.file.ending in PICTURE_ENDINGS
    }
    for name in COVER_NAMES:
        for ending in PICTURE_ENDINGS:
            if (seen := pictures.get(f"{name}.{ending}")) is not None:
                return seen.address
    return _common((seen.cover for seen in media), share=0)


def _common(texts: Iterable[str], *, share: float = 0.5) -> str:
    """What most of them are, the empty ones left aside; nothing when that is less than their share."""
    given = [text for text in texts if text]
    counted = sorted(Counter(given).items(), key=lambda one: (-one[1], one[0]))
    return counted[0][0] if counted and counted[0][1] >= share * len(given) else ""


def _episode(
    seen: SeenFile,
    wanted: EpisodeSettings,
    by_path: Mapping[str, SeenFile],
    *,
    guid: str,
    published: datetime,
    cover: str,
    author: str,
    with_season: bool,
) -> Episode:
    file, tags = seen.file, seen.tags

    def beside(ending: str) -> str:
        found = by_path.get(f"{file.stem}.{ending}")
        return found.address if found is not None else ""

    pictures = [beside(ending) for ending in PICTURE_ENDINGS]
    image = by_path[wanted.image].address if wanted.image else next(filter(None, [*pictures, seen.cover]), "")
    stem = name_as_title(file.stem.rpartition("/")[2])
    return Episode(
        guid=guid,
        title=wanted.title or tags.title or stem,
        published=published,
        address=seen.address,
        byte_length=file.byte_length,
        mime_type=guess_type(f"/file.{file.ending}") or "application/octet-stream",
        description=wanted.description or tags.description,
        author=tags.artist if tags.artist != author else "",
        seconds=tags.seconds,
        season=wanted.season if wanted.season is not None else tags.disc if with_season else None,
        number=wanted.number if wanted.number is not None else tags.track,
        explicit=wanted.explicit,
        image=image if image != cover else "",
        transcripts=tuple((beside(name), kind) for name, kind in TRANSCRIPT_TYPES.items() if beside(name)),
        chapters=beside("chapters.json"),
    )


def drawn_cover_address(title: str) -> str:
    """The address of the picture that is drawn for a show without one."""
    return f"{MADE_FOLDER}/{blake2b(title.encode(), digest_size=8).hexdigest()}.png"


def name_as_title(stem: str) -> str:
    """A file's name as a title."""
    text = stem
    if not text.isascii():
        data = stem.encode("utf-8", "surrogateescape")
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError:  # of an old disk: most probably Windows' letters
            text = data.decode("cp1252", "replace").replace("\ufffd", "")
    return " ".join(clean(text).replace("_", " ").split()) or "Untitled"
