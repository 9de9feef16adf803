"""Types of media: by the first bytes, by the name's ending, and which ending a type is stored under."""

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
    "video/x-m4v": "m4v",
    "image/jpg": "jpg",
    "image/pjpeg": "jpg",
    "application/srt": "srt",
    "application/json+chapters": "json",
    "text/srt": "srt",
}
_EXTENSIONS: Final[dict[str, str]] = {mime: name for name, mime in reversed(_TYPES.items())} | _OTHER_NAMES
_VAGUE: Final = frozenset(
    {"", "application/octet-stream", "binary/octet-stream", "application/force-download"}
)
SNIFF_BYTES: Final = 512  # from the start of a file


def sniff(head: bytes) -> str | None:
    """The type that the first ``SNIFF_BYTES`` of a file show, or None."""
    for magic, offset, mime in _MAGIC:
        if head.startswith(magic, offset):
            return mime
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 in (0xE2, 0xE4, 0xE6):
        return "audio/mpeg"  # a frame header of layer 3, 2 or 1
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "audio/aac"
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "text/html"
    return None


_MAGIC: Final[tuple[tuple[bytes, int, str], ...]] = (
    (b"ID3", 0, "audio/mpeg"),
    (b"OggS", 0, "audio/ogg"),
    (b"fLaC", 0, "audio/flac"),
    (b"WAVE", 8, "audio/wav"),
    (b"WEBP", 8, "image/webp"),
    (b"ftypM4A", 4, "audio/mp4"),
    (b"ftypM4B", 4, "audio/mp4"),
    (b"ftypavif", 4, "image/avif"),
    (b"ftypqt", 4, "video/quicktime"),
    (b"ftyp", 4, "video/mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "video/webm"),
    (b"\x89PNG\r\n", 0, "image/png"),
    (b"\xff\xd8\xff", 0, "image/jpeg"),
    (b"GIF8", 0, "image/gif"),
    (b"%PDF-", 0, "application/pdf"),
    (b"WEBVTT", 0, "text/vtt"),
)


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
    """Type and ending to store a file under.

    The bytes win over what anybody says, except that a claim of the same family may know better
    (audio in an MP4 or WebM file); then the claims in order (the feed's, the reply's), then the URL's ending.
    """
    named = [mime for claim in claims if (mime := plain(claim)) not in _VAGUE]
    seen = sniff(head)
    if seen is not None:
        better = next((mime for mime in named if _same_container(mime, seen)), None)
        mime = better or seen
    else:
        mime = (named and named[0]) or guess_type(url) or "application/octet-stream"
    ending = ending_of(url)
    if not ending or (_TYPES[ending] != mime and _EXTENSIONS.get(mime) != ending):
        ending = _EXTENSIONS.get(mime, ending or "bin")
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
    if seen == "video/webm":
        return claim in ("audio/webm", "video/webm", "video/x-matroska")
    return family.get(known, known) == family.get(seen, seen)
