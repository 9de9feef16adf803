"""Types of media: by the first bytes, by the name's ending, and which ending a type is stored under."""

import re
from pathlib import PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

_TYPES: Final[dict[str, str]] = {
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "m4b": "audio/mp4",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mov": "video/quicktime",
    "webm": "video/webm",
    "mkv": "video/x-matroska",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "aif": "audio/aiff",
    "wma": "audio/x-ms-wma",
    "amr": "audio/amr",
    "ogv": "video/ogg",
    "avi": "video/x-msvideo",
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "svg": "image/svg+xml",
    "avif": "image/avif",
    "vtt": "text/vtt",
    "srt": "application/x-subrip",
    "json": "application/json",
    "txt": "text/plain",
    "html": "text/html",
    "pdf": "application/pdf",
    "epub": "application/epub+zip",
}
_OTHER_NAMES: Final[dict[str, str]] = {
    "audio/mp3": "mp3",
    "audio/mpeg3": "mp3",
    "audio/x-mp3": "mp3",
    "audio/x-mpeg": "mp3",
    "audio/mp4": "m4a",
    "audio/x-m4a": "m4a",
    "audio/m4a": "m4a",
    "audio/aacp": "aac",
    "audio/x-aac": "aac",
    "audio/opus": "opus",
    "audio/ogg": "ogg",
    "audio/vorbis": "ogg",
    "application/ogg": "ogg",
    "audio/x-flac": "flac",
    "audio/x-wav": "wav",
    "audio/wave": "wav",
    "audio/vnd.wave": "wav",
    "audio/x-pn-wav": "wav",
    "audio/x-aiff": "aif",
    "audio/webm": "webm",
    "audio/x-m4b": "m4b",
    "audio/x-m4p": "m4a",
    "video/x-m4v": "m4v",
    "image/jpg": "jpg",
    "image/pjpeg": "jpg",
    "application/srt": "srt",
    "application/json+chapters": "json",
    "text/srt": "srt",
    "text/json": "json",
}
_EXTENSIONS: Final[dict[str, str]] = {mime: name for name, mime in reversed(_TYPES.items())} | _OTHER_NAMES
_VAGUE: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/force-download"}
)
_PASSIVE_TEXT: Final = frozenset({"application/json", "application/x-subrip", "application/xhtml+xml"})
STREAMS: Final = frozenset(
    {
        "application/x-mpegurl",
        "application/vnd.apple.mpegurl",
        "application/vnd.ms-sstr+xml",
        "application/dash+xml",
        "application/pls+xml",
        "application/x-bittorrent",
        "audio/x-mpegurl",
        "audio/mpegurl",
        "audio/x-scpls",
        "video/vnd.mpeg.dash.mpd",
    }
)
"""Types that only point to media: copied as a file they would be of no use."""
_STREAM_ENDINGS: Final = (".m3u8", ".m3u", ".mpd", ".pls", ".torrent", ".ism/manifest")

SNIFF_BYTES: Final = 512  # from the start of a file

_SUBTITLE: Final = re.compile(rb"\d{1,6}[ \t]*\r?\n\d{1,3}:\d\d:\d\d[,.]\d{1,3} *-->")
_JSON: Final = re.compile(rb'\{\s*(?:"|\}|$)|\[\s*[\[{"\]]')
_SVG: Final = re.compile(rb"<(?:svg:)?svg[\s>]")
_NOT_IN_TEXT: Final = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def sniff(head: bytes) -> str | None:
    """The type that the first ``SNIFF_BYTES`` of a file show, or None."""
    for magic, offset, mime in _MAGIC:
        if head.startswith(magic, offset):
            return _container(mime, head)
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return "audio/mpeg"  # a frame header of layer 3, 2 or 1
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    return _sniff_text(head.removeprefix(b"\xef\xbb\xbf").lstrip())


def _container(mime: str, head: bytes) -> str:
    """What is in a container that may hold several kinds, as far as its start tells."""
    if mime == "audio/ogg" and b"theora" in head:
        return "video/ogg"
    if mime == "video/webm" and b"matroska" in head[:64]:
        return "video/x-matroska"
    if mime == "video/mp4" and b"avif" in head[8:40]:
        return "image/avif"
    return mime


def _sniff_text(start: bytes) -> str | None:
    lower = start.lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        return "text/html"
    if start.startswith(b"WEBVTT"):
        return "text/vtt"
    if start.startswith(b"#EXTM3U"):
        return "application/vnd.apple.mpegurl"
    if lower.startswith(b"[playlist]"):
        return "audio/x-scpls"
    if re.match(rb"d\d{1,2}:(?:announce|created by|creation date|comment|info|nodes|url-list)", start):
        return "application/x-bittorrent"
    if _SUBTITLE.match(start):
        return "application/x-subrip"
    if _JSON.match(start):
        return "application/json"
    if start.startswith(b"<"):
        if b"<html" in lower:
            return "text/html"
        if _SVG.search(start):
            return "image/svg+xml"
        if b"<MPD" in start:
            return "application/dash+xml"
    return None


_MAGIC: Final[tuple[tuple[bytes, int, str], ...]] = (
    (b"ID3", 0, "audio/mpeg"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"WAVE", 8, "audio/wav"),
    (b"AIFF", 8, "audio/aiff"),
    (b"AIFC", 8, "audio/aiff"),
    (b"AVI ", 8, "video/x-msvideo"),
    (b"WEBP", 8, "image/webp"),
    (b"ftypM4A", 4, "audio/mp4"),
    (b"ftypM4B", 4, "audio/mp4"),
    (b"ftypM4P", 4, "audio/mp4"),
    (b"ftypavif", 4, "image/avif"),
    (b"ftypavis", 4, "image/avif"),
    (b"ftypqt", 4, "video/quicktime"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, "audio/x-ms-wma"),
    (b"#!AMR", 0, "audio/amr"),
    (b"\x89PNG\r\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"%PDF-", 0, "application/pdf"),
)


def is_stream(url: str, mime_type: str | None) -> bool:
    """Whether an address leads to a live or segmented stream, a playlist or a torrent, not to a file."""
    if plain(mime_type) in STREAMS:
        return True
    try:
        return urlsplit(url).path.lower().endswith(_STREAM_ENDINGS)
    except ValueError:
        return False


def ending_of(url: str) -> str:
    """The known ending of a URL's path, in small letters without the dot; empty when it has none."""
    try:
        path = unquote(urlsplit(url).path)
    except ValueError:
        return ""
    ending = PurePosixPath(path).suffix.lower().lstrip(".")
    return (
        {"jpeg": "jpg", "htm": "html"}.get(ending, ending)
        if ending in _TYPES or ending in ("jpeg", "htm")
        else ""
    )


def guess_type(url: str) -> str | None:
    """The type that a URL's ending promises, or None."""
    return _TYPES.get(ending_of(url))


def settle(url: str, *claims: str | None, head: bytes = b"") -> tuple[str, str]:
    """Type and ending to store a file under; the ending always is one of that type.

    The bytes win over what anybody says, except that a claim of the same family may know better
    (audio in an MP4 or WebM file). Where they show nothing: the claims in order (the feed's, the
    reply's), then the URL's ending; no claim of text is believed of bytes that are none.
    """
    by_name = guess_type(url)
    named = [mime for claim in (*claims, by_name) if (mime := plain(claim)) not in _VAGUE]
    seen = sniff(head)
    if seen is not None:
        better = next((mime for mime in named if _same_container(mime, seen)), None)
        if better is None and seen in ("video/mp4", "video/webm") and "".join(named[:1]).startswith("audio/"):
            better = seen.replace("video", "audio")  # whoever says MP3 means audio at least
        mime = better or seen
    else:
        if _NOT_IN_TEXT.search(head):
            named = [one for one in named if not one.startswith("text/") and one not in _PASSIVE_TEXT]
        known = [one for one in named if one in _EXTENSIONS]
        mime = next(iter(known or named), "application/octet-stream")
    ending = ending_of(url)
    if not ending or (_TYPES[ending] != mime and _EXTENSIONS.get(mime) != ending):
        ending = _EXTENSIONS.get(mime, "bin")
    return mime, ending


def plain(mime_type: str | None) -> str:
    """A type without its parameters, in small letters."""
    return (mime_type or "").partition(";")[0].strip().lower()


def _same_container(claim: str, seen: str) -> bool:
    family = {
        "audio/mpeg": "mpeg",
        "audio/mp4": "mp4",
        "video/mp4": "mp4",
        "audio/ogg": "ogg",
        "video/webm": "webm",
    }
    known = _TYPES.get(_EXTENSIONS.get(claim, ""), claim)
    if seen in ("video/webm", "video/x-matroska"):
        return claim in ("audio/webm", "video/webm", "video/x-matroska", "audio/x-matroska")
    if seen == "video/quicktime":
        return claim in ("audio/mp4", "audio/x-m4a", "video/quicktime")
    return family.get(known, known) == family.get(seen, seen)
