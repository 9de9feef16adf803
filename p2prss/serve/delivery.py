"""The Content-Type a mirrored file is served with, so that no browser runs it; pure.

Feeds and origins claim types freely. A claim is believed where it names audio, video or another
passive type; what a browser would execute under our address becomes plain text or a sandboxed
download, and an unknown type is a download. The feed announces the same type that the reply has.
"""

import re
from dataclasses import dataclass
from typing import Final

from p2prss.feed.media_types import guess_type, plain

_OCTETS: Final = "application/octet-stream"
_TYPE: Final = re.compile(r"[a-z]+/[a-z0-9][a-z0-9!#$&^_.+-]{0,80}")

_USUAL_NAMES: Final[dict[str, str]] = {
    "application/srt": "application/x-subrip",
    "audio/mp3": "audio/mpeg",
    "audio/x-mp3": "audio/mpeg",
    "audio/x-mpeg": "audio/mpeg",
    "audio/mpeg3": "audio/mpeg",
    "image/jpg": "image/jpeg",
    "image/pjpeg": "image/jpeg",
    "text/srt": "application/x-subrip",
}
_VAGUE: Final = frozenset({"", _OCTETS, "binary/octet-stream", "application/force-download", "text/plain"})
_SHOWN: Final = frozenset(  # besides all audio and video: data that no browser runs
    {
        "application/json",
        "application/json+chapters",
        "application/x-subrip",
        "image/avif",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/webp",
        "text/plain",
        "text/vtt",
    }
)
_SAVED: Final = frozenset({"application/epub+zip", "application/pdf", "image/svg+xml"})
_SAVED_AS_TEXT: Final = frozenset(
    {"application/xhtml+xml", "application/xml", "text/html", "text/markdown", "text/xml"}
)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a file is delivered.

    ``mime_type`` is bare, ``content_type`` has its charset. Unless ``shown``, a browser is told to
    save the file, and to run nothing of it should it open it all the same.
    """

    mime_type: str
    shown: bool

    @property
    def content_type(self) -> str:
        """The value of Content-Type."""
        return f"{self.mime_type}; charset=utf-8" if self.mime_type.startswith("text/") else self.mime_type


def delivery(claimed: str | None, extension: str) -> Delivery:
    """Decide from what a file's record claims and the extension it is stored under.

    A passive claim wins; where it says nothing (``application/octet-stream``, ``text/plain`` for an
    MP3) or is unheard of, the extension is the better witness.
    """
    by_extension = guess_type(f"/file.{extension}") or _OCTETS
    mime_type = plain(claimed)
    mime_type = _USUAL_NAMES.get(mime_type, mime_type) if _TYPE.fullmatch(mime_type) else ""
    for candidate in (by_extension if mime_type in _VAGUE else mime_type, by_extension, mime_type):
        if _is_timed(candidate) or candidate in _SHOWN:
            return Delivery(candidate, shown=True)
        if candidate in _SAVED:
            return Delivery(candidate, shown=False)
        if candidate in _SAVED_AS_TEXT:
            return Delivery("text/plain", shown=False)
    return Delivery(_OCTETS, shown=False)


def _is_timed(mime_type: str) -> bool:
    """Audio or video; any type that ends in ``+xml`` is a document to a browser, scripts and all."""
    return mime_type.startswith(("audio/", "video/")) and not mime_type.endswith("+xml")
