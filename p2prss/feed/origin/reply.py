"""What an origin's reply says, apart from its body."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import httpx

from p2prss.errors import FetchError, GoneError
from p2prss.feed.origin.retries import Retry, retry_after
from p2prss.feed.origin.url import urlsplit_or_fail
from p2prss.units import KIB

MAX_URL_LENGTH: Final = 8 * KIB  # characters; of a redirect's target

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUSY: Final = frozenset({429, 503})
_ADVICE: Final = {
    401: "it wants credentials, or others than it was given (see --credentials)",
    403: "it does not let us in",
    404: "there is nothing at this address",
    410: "it is gone for good",
}
_MAX_AGE: Final = re.compile(r"(?:^|[\s,])max-age\s*=\s*\"?(\d{1,9})", re.IGNORECASE)
_LINK: Final = re.compile(r"<([^<>]{1,2000})>\s*((?:;[^,<]{0,500})?)")
_REL: Final = re.compile(r";\s*rel\s*=\s*\"?([^\";]{1,100})", re.IGNORECASE)


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
    max_age_seconds: float | None = None  # how long the origin wants it to be kept
    links: tuple[tuple[str, str], ...] = ()  # relation and absolute address of its Link headers
    differed: bool = False  # it had to be begun anew, and then began with other bytes

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
    if advice := _ADVICE.get(status):
        text += f": {advice}"
    return GoneError(text) if status == 410 else FetchError(text)


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


def max_age_of(headers: httpx.Headers) -> float | None:
    """The seconds that Cache-Control lets a reply be kept, less its age; None where it does not say."""
    found = _MAX_AGE.search(str(headers.get("cache-control", ""))[:1000])
    if found is None:
        return None
    return max(0.0, float(found[1]) - (number_of(headers.get("age")) or 0))


def links_of(headers: httpx.Headers, url: str) -> tuple[tuple[str, str], ...]:
    """Relation (in lower case) and absolute address of each Link header, at most 20.

    Source: RFC 8288, section 3; ``url`` is where relative addresses start.
    """
    found: list[tuple[str, str]] = []
    for target, parameters in _LINK.findall(", ".join(headers.get_list("link"))[:MAX_URL_LENGTH]):
        relation = _REL.search(parameters)
        try:
            address = urljoin(url, target.strip())
        except ValueError:
            continue
        found += [(name.lower(), address) for name in (relation[1].split() if relation else [])]
    return tuple(found[:20])
