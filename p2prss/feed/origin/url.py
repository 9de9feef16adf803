"""The addresses a mirror works with: taken apart, shown to people, shown to strangers."""

import re
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, unquote, unquote_plus, urlsplit

import httpx

from p2prss.errors import FetchError

_SECRET: Final = re.compile(r"token|secret|passw|auth|sign|sig$|key|session|user|email", re.IGNORECASE)

_WORDS: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+")
_PRIVATE_WORDS: Final = frozenset({"sig", "sid", "jwt", "pass", "pwd", "session", "credential"})
_PRIVATE_ENDS: Final = ("token", "secret", "key", "auth", "signature", "password", "passwd")


def redact(url: str) -> str:
    """A URL for people: without user, password, query and fragment, which may be secrets."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        if ":" in host:
            host = f"[{host}]"
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "an unreadable address"
    shown = f"{parts.scheme}://{host}{port}{parts.path}"
    return shown if len(shown) <= 200 else shown[:199] + "…"


def host_of(url: str) -> str:
    """The host of an address in small letters; empty where there is none."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def public_url(url: str) -> str:
    """A URL that strangers may see.

    It has no user, password or fragment, and nothing in its query that looks like a secret.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    query = "&".join(
        part for part in parts.query.split("&") if part and not _SECRET.search(part.partition("=")[0])
    )
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query=query, fragment="").geturl()


def secrets_of(url: str) -> list[tuple[str, str]]:
    """What lets only some read an address, as far as one can see: user and password, tokens in the query.

    Returns: what each is, in words without its value, and the value.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return []
    found: list[tuple[str, str]] = []
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    if user or password:
        found.append(("a password" if password else "a user name", unquote(password or user)))
    for part in parts.query.split("&"):
        name, _, value = part.partition("=")
        if value and _is_private(unquote_plus(name)):
            found.append((f"the parameter {name[:40]!r}", unquote_plus(value)))
    return found


def _is_private(name: str) -> bool:
    """Whether a parameter of this name is one that only some are given: ``accessToken``, not ``author``."""
    words = [word.lower() for word in _WORDS.findall(name)]
    return any(word in _PRIVATE_WORDS or word.endswith(_PRIVATE_ENDS) for word in words)


def urlsplit_or_fail(url: str) -> SplitResult:
    """Take a URL apart. Raises: FetchError for what is none, or of no kind we fetch."""
    try:
        parts = urlsplit(url)
        _ = parts.port, parts.hostname
    except ValueError:
        raise FetchError("the address is unreadable") from None
    if parts.scheme not in ("http", "https", "file"):
        raise FetchError(
            f"only http and https addresses are fetched, not {parts.scheme[:20] or 'relative ones'}"
        )
    if parts.scheme != "file" and not parts.hostname:
        raise FetchError("the address names no host")
    return parts


def source_url(source: str) -> str:
    """What the user typed as a URL: http, https or file."""
    if "://" in source:
        urlsplit_or_fail(source)
        return source
    return Path(source).expanduser().absolute().as_uri()


def path_of(parts: SplitResult) -> Path:
    if parts.netloc not in ("", "localhost") or "\0" in unquote(parts.path):
        raise FetchError("the address of a local file is unreadable")
    return Path(unquote(parts.path))


def origin_of(url: str) -> tuple[str, str, int]:
    """Scheme, host and port, as the one reads them who connects.

    Raises: FetchError for what is unreadable to either of the two readers.
    """
    urlsplit_or_fail(url)
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        raise FetchError("the address is unreadable") from None
    host = found.raw_host.decode("ascii").lower()
    if not host:
        raise FetchError("the address names no host")
    return found.scheme, host, found.port or (443 if found.scheme == "https" else 80)


def without_user(url: str) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()
