"""The pages of a published site, for reading in a browser.

They are a stranger's: whatever they hold, a browser gives them no power here. Every answer is sandboxed,
so it has no origin and runs no script; it may load pictures, styles, fonts and media of its own site and
nothing else from anywhere. Links to where the site stood in the web lead to the copy instead; all other
bytes are as they were published.
"""

import re
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

import trio
from starlette.responses import Response

from p2prss.errors import UsageError
from p2prss.feed.media_types import guess_type
from p2prss.serve.delivery import Delivery, delivery
from p2prss.serve.library import ServedFeed
from p2prss.serve.media import Media
from p2prss.serve.ranges import if_none_match_hits
from p2prss.serve.responses import CORS_HEADERS, not_modified
from p2prss.units import MIB

MAX_REWRITTEN_BYTES: Final = 4 * MIB  # a larger page or style sheet is served with its links as they are
MAX_PATH_LENGTH: Final = 2048  # characters
INDEX: Final = "index.html"

_TYPES: Final = {
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "svg": "image/svg+xml",
    "ico": "image/vnd.microsoft.icon",
    "woff": "font/woff",
    "woff2": "font/woff2",
    "ttf": "font/ttf",
    "otf": "font/otf",
}
_TEXTS: Final = frozenset(
    {"js", "mjs", "json", "xml", "rss", "atom", "xsl", "xslt", "xhtml", "txt", "md", "map"}
)
_ADDRESS: Final = r"""(\s(?:href|src|poster|action)\s*=\s*["']?|url\(\s*["']?|@import\s+["'])"""
_SRCSET: Final = re.compile(r"""\ssrcset\s*=\s*(?:"[^"]*"|'[^']*')""", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _SiteFile(Media):
    """A file of a site; its address may get other bytes with the next version."""

    policy: str = ""

    def headers(self) -> dict[str, str]:
        return super(_SiteFile, self).headers() | _headers(self.policy)


def site_policy(site_url: str) -> str:
    """The Content-Security-Policy of everything below ``site_url``, which ends with a slash."""
    own = "; ".join(f"{kind}-src {site_url} data:" for kind in ("img", "media", "font"))
    style = f"style-src {site_url} 'unsafe-inline'"
    return f"default-src 'none'; {own}; {style}; base-uri 'none'; form-action 'none'; sandbox"


async def find_page(
    feed: ServedFeed, path: str, site_url: str, if_none_match: str | None
) -> Media | Response | None:
    """What to answer for a path below ``/site/``; None where there is nothing.

    Args: site_url: the address of the site's root here, with a slash at the end.
    Raises: P2prssError of the drive.
    """
    if path and not _is_sound(path):
        return None
    name = path + INDEX if path.endswith("/") or not path else path
    size = await _size(feed, name)
    if size is None:
        if name == path and await _size(feed, f"{path}/{INDEX}") is not None:
            location = quote(f"{path.rpartition('/')[2]}/")
            return Response(status_code=307, headers={"location": f"./{location}", **CORS_HEADERS})
        return None
    ending = name.rpartition(".")[2].lower()
    tag = sha256(f"{feed.key.hex()} {feed.archive.version} {site_url} {name}".encode()).hexdigest()
    policy = site_policy(site_url)
    if if_none_match_hits(if_none_match, f'"{tag}"'):
        fresh = not_modified(f'"{tag}"')
        fresh.headers.update(_headers(policy))
        return fresh
    read = partial(feed.drive.read, f"/site/{name}")
    kind = site_delivery(ending)
    if kind.mime_type not in ("text/html", "text/css") or size > MAX_REWRITTEN_BYTES:
        return _SiteFile(tag, size, kind, read, policy)
    body = b"".join([piece async for piece in read(0, size)])
    info = await feed.archive.info()
    stood_at = info.site.base_url if info.site else ""
    body = await trio.to_thread.run_sync(rewrite_links, body, stood_at, site_url)
    headers = {"etag": f'"{tag}"', "content-type": _with_charset(kind.mime_type, body), **_headers(policy)}
    return Response(body, headers=headers)


async def _size(feed: ServedFeed, name: str) -> int | None:
    try:
        return await feed.drive.size(f"/site/{name}")
    except UsageError:
        return None


def _is_sound(path: str) -> bool:
    """Whether a path can be that of a page: no hidden parts, no tricks."""
    parts = path.removesuffix("/").split("/")
    return (
        len(path) <= MAX_PATH_LENGTH
        and path.isprintable()
        and "\\" not in path
        and not any(not part or part.startswith(".") or part.endswith(":") for part in parts)
    )


def _headers(policy: str) -> dict[str, str]:
    return {"cache-control": "no-cache", "content-security-policy": policy, **CORS_HEADERS}


def site_delivery(ending: str) -> Delivery:
    """How a file of a site is served, by the ending of its name alone.

    Pages, styles, fonts and drawings are shown, in their sandbox; scripts and feeds are plain text.
    """
    if ending in _TEXTS:
        return Delivery("text/plain", shown=True)
    if ending in _TYPES:
        return Delivery(_TYPES[ending], shown=True)
    return delivery(guess_type(f"/file.{ending}") if ending.isalnum() else None, ending)


def _with_charset(mime_type: str, body: bytes) -> str:
    """The type with its charset where that is plain to see; else a page says it itself."""
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return mime_type
    return f"{mime_type}; charset=utf-8"


def rewrite_links(body: bytes, base_url: str, site_url: str) -> bytes:
    """Lead the links of a page or a style sheet that go to where the site stood to ``site_url``.

    What starts with the site's address, or with its path alone, gets another start; nothing else changes.
    """
    try:
        parts = urlsplit(base_url)
    except ValueError:  # a stranger's
        parts = urlsplit("")
    root = parts.path if parts.path.startswith("/") else "/"
    starts = [rf"{re.escape(root)}(?!/)"]
    if parts.netloc:
        starts.append(rf"(?:https?:)?//{re.escape(parts.netloc)}{re.escape(root)}")
    start = f"(?:{'|'.join(starts)})"
    address = re.compile(_ADDRESS + start, re.IGNORECASE)
    candidate = re.compile(rf"""([\s"',])({start})(?=\S)""", re.IGNORECASE)
    text = body.decode("latin-1")  # each byte one character, so that all others stay as they are
    text = address.sub(lambda match: match[1] + site_url, text)
    text = _SRCSET.sub(lambda match: candidate.sub(lambda one: one[1] + site_url, match[0]), text)
    return text.encode("latin-1")
