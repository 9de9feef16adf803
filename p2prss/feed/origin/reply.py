"""What an origin's reply says, apart from its body."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from p2prss.errors import FetchError
from p2prss.feed.origin.retries import Retry, retry_after
from p2prss.feed.origin.url import urlsplit_or_fail
from p2prss.units import KIB

MAX_URL_LENGTH: Final = 8 * KIB  # characters; of a redirect's target

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUSY: Final = frozenset({429, 503})


@dataclass(frozen=True, slots=True)
class Validators:
    """What to ask for a change with, from the last reply."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A whole body in a file; with ``not_modified`` there is none, as it would be the same as before."""

    path: Path
    url: str  # after redirects
    byte_length: int = 0
    sha256: str = ""
    mime_type: str = ""  # as the origin says, with parameters
    head: bytes = b""  # the first SNIFF_BYTES
    validators: Validators = Validators()
    redirects: tuple[tuple[int, str], ...] = ()  # status and target of each
    not_modified: bool = False

    @property
    def moved_to(self) -> str | None:
        """Where it has moved for good: the last of the permanent redirects at the start of the chain."""
        target = None
        for status, url in self.redirects:
            if status not in (301, 308):
                break
            target = url
        return target


def refusal(response: httpx.Response) -> Exception:
    """What a status means that is no body: an order to try again, or a FetchError."""
    status = response.status_code
    phrase = response.reason_phrase[:60]
    text = f"the origin answers {status} {phrase}".strip()
    if status in _RETRIED:
        wait = retry_after(response.headers.get("retry-after", ""))
        if wait is not None:
            text += f" and asks to wait {math.ceil(wait)} s"
        return Retry(text, wait_seconds=wait, busy=status in _BUSY)
    return FetchError(text)


def redirect_target(url: str, response: httpx.Response) -> str:
    """Where a redirect from ``url`` leads. Raises: FetchError for where we do not go."""
    location = str(response.headers.get("location", ""))
    if not location or len(location) > MAX_URL_LENGTH:
        raise FetchError("it redirects to nowhere")
    try:
        target = urljoin(url, location)
    except ValueError:
        raise FetchError("it redirects to an unreadable address") from None
    if urlsplit(target).scheme not in ("http", "https"):
        raise FetchError("it redirects to something that is neither http nor https")
    urlsplit_or_fail(target)
    return target


def coding_of(headers: httpx.Headers) -> str:
    """The content coding of a body; empty for none."""
    coding = str(headers.get("content-encoding", "")).strip().lower()
    return "" if coding == "identity" else coding


def strong_validator(headers: httpx.Headers) -> str:
    """What an If-Range may hold: a strong ETag, else a date; empty for neither."""
    etag, modified = str(headers.get("etag", "")), str(headers.get("last-modified", ""))
    return etag if etag.startswith('"') else modified


def number_of(text: str | None) -> int | None:
    """A header's number of bytes."""
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
