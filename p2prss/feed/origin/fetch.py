"""The one way p2prss gets anything from an origin: over http or https, or from a local source's folder.

Everything that comes back is hostile: sizes are limited while reading, redirects are followed one by
one and counted, addresses are vetted where they are connected to (``address``), waits are bounded.
A body goes straight to a file and through SHA-256; a broken one is resumed where the origin allows it.
No error text holds credentials: of a URL they show scheme, host and path.
"""

import math
import os
import ssl
import stat
import zlib
from base64 import b64encode
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Final, Self
from urllib.parse import unquote, urljoin, urlsplit

import httpcore
import httpx
import trio

from p2prss import __version__
from p2prss.errors import FetchError, TryAgainError
from p2prss.feed.media_types import plain, sniff
from p2prss.feed.origin.address import VettingBackend
from p2prss.feed.origin.body_file import BodyFile, os_reason
from p2prss.feed.origin.url import origin_of, path_of, redact, source_url, urlsplit_or_fail, without_user
from p2prss.units import KIB, MIB

MAX_REDIRECTS: Final = 10  # chains of analytics prefixes are normal
MAX_URL_LENGTH: Final = 8 * KIB  # characters; of a redirect's target
MAX_RESUMES: Final = 100  # of one body, each of which brought at least one byte
CONNECTIONS_PER_HOST: Final = 2
CONNECT_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 60.0  # without a byte, in the middle of a body as well
WRITE_BATCH: Final = 1 * MIB  # bytes collected for one trip to a worker thread

USER_AGENT: Final = f"p2prss/{__version__} (+peer-to-peer podcast mirror)"

_RETRIED: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_BUSY: Final = frozenset({429, 503})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Retries:
    """How often and how long to wait for an origin that fails.

    A Retry-After above ``max_wait_seconds`` is not waited for: the fetch fails at once.
    """

    attempts: int = 4
    first_wait_seconds: float = 1.0  # doubles with every attempt
    max_wait_seconds: float = 120.0
    random: Random = field(default_factory=Random, repr=False)

    def wait_seconds(self, attempt: int) -> float:
        """The wait after an attempt, counted from 1: half of it is chance, so that clients spread out."""
        longest = min(self.first_wait_seconds * 2.0 ** (attempt - 1), self.max_wait_seconds)
        return longest * (0.5 + self.random.random() / 2)


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


class Fetcher:
    """Fetches what a source and its feed name. Use it as an async context manager.

    Args: source: what the user typed, a URL or a local path. Its host and port may be private and get
    its credentials; when it is a file, files in its folder can be fetched by ``file:`` URLs.
    """

    def __init__(self, source: str, *, user_agent: str = USER_AGENT) -> None:
        self._folder: Path | None = None
        self._origin: tuple[str, str, int] | None = None
        self._authorization = ""
        self.source_url = source_url(source)
        parts = urlsplit(self.source_url)
        if parts.scheme == "file":
            self._folder = path_of(parts).parent.resolve()
        else:
            self._origin = origin_of(self.source_url)
            if parts.username or parts.password:
                pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
                self._authorization = "Basic " + b64encode(pair.encode()).decode()
        self._user_agent = user_agent
        self._hosts: dict[str, trio.CapacityLimiter] = {}
        self._client: httpx.AsyncClient | None = None

    @property
    def is_local(self) -> bool:
        """Whether the source is a file of this machine."""
        return self._folder is not None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def fetch(
        self,
        url: str,
        into: Path,
        *,
        max_bytes: int,
        validators: Validators | None = None,
        retries: Retries | None = None,
        compressed: bool = False,
        refuse_html: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Fetched:
        """Get one body into the file ``into``, which is overwritten.

        The file belongs to the caller, also after an error.

        Args: validators: ask only for a change; compressed: accept gzip (never for media, whose exact
        bytes count); refuse_html: a web page is an error; progress: called with bytes on the way.
        Raises: FetchError, or TryAgainError when the origin is busy, both naming the cause in one line;
        StorageError when the file cannot be written.
        """
        if urlsplit_or_fail(url).scheme == "file":
            return await trio.to_thread.run_sync(self._copy, url, into, max_bytes, abandon_on_cancel=False)
        download = _Download(self, url, into, max_bytes, retries or Retries(), refuse_html, progress)
        headers = {"accept-encoding": "gzip" if compressed else "identity"}
        if validators and validators.etag:
            headers["if-none-match"] = validators.etag
        if validators and validators.last_modified:
            headers["if-modified-since"] = validators.last_modified
        return await download.run(headers)

    def authorization_for(self, url: str) -> str:
        """The credentials of the source, for its own origin only."""
        return self._authorization if self._authorization and origin_of(url) == self._origin else ""

    def limiter(self, url: str) -> trio.CapacityLimiter:
        """What keeps us at ``CONNECTIONS_PER_HOST``."""
        return self._hosts.setdefault(
            (urlsplit(url).hostname or "").lower(), trio.CapacityLimiter(CONNECTIONS_PER_HOST)
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """The HTTP client, made when it is first needed."""
        if self._client is None:
            trusted = [self._origin[1:]] if self._origin else []
            self._client = httpx.AsyncClient(
                transport=_Transport(VettingBackend(trusted)),
                headers={"user-agent": self._user_agent, "accept": "*/*"},
                timeout=httpx.Timeout(SILENCE_SECONDS, connect=CONNECT_SECONDS, pool=None),
                follow_redirects=False,
                trust_env=False,
            )
        return self._client

    def _copy(self, url: str, into: Path, max_bytes: int) -> Fetched:
        """Copy a file that lies in the folder of a local source."""
        path = path_of(urlsplit(url))
        if self._folder is None:
            raise FetchError("a feed from elsewhere may not name local files")
        try:
            path = path.resolve(strict=True)
            if not path.is_relative_to(self._folder):
                raise FetchError(f"{path.name} lies outside of the source's folder")
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            raise FetchError(f"{path} does not exist") from None
        except (OSError, RuntimeError, ValueError) as error:
            raise FetchError(f"{path} cannot be read: {os_reason(error)}") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FetchError(f"{path} is no regular file")
            with BodyFile(into, max_bytes) as body:
                while data := os.read(descriptor, WRITE_BATCH):
                    body.write([data])
        finally:
            os.close(descriptor)
        return Fetched(into, url, body.byte_length, body.digest, head=body.head)


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """Reading all the root certificates takes a while: once is enough."""
    return httpx.create_ssl_context(trust_env=False)


class _Transport(httpx.AsyncHTTPTransport):
    """httpx over our own way to connect."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        context = _ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, max_connections=None, max_keepalive_connections=20, network_backend=backend
        )


class _Retry(Exception):
    """An order of a download to itself: this attempt failed in a way that another may not."""

    def __init__(self, cause: str, *, wait_seconds: float | None = None, busy: bool = False) -> None:
        super().__init__(cause)
        self.wait_seconds = wait_seconds
        self.busy = busy


class _Download:
    """One body on its way, over as many requests as it takes."""

    def __init__(
        self,
        fetcher: Fetcher,
        url: str,
        into: Path,
        max_bytes: int,
        retries: Retries,
        refuse_html: bool,
        progress: Callable[[int], None] | None,
    ) -> None:
        self._fetcher = fetcher
        self._url = url
        self._body = BodyFile(into, max_bytes)
        self._into = into
        self._max_bytes = max_bytes
        self._retries = retries
        self._refuse_html = refuse_html
        self._progress = progress
        self._resume_with = ""  # a strong validator of what is in the file
        self._total: int | None = None  # bytes the whole body should have

    async def run(self, headers: Mapping[str, str]) -> Fetched:
        attempt = resumes = 0
        with self._body:
            while True:
                before = self._body.byte_length
                try:
                    return await self._attempt(headers)
                except _Retry as error:
                    if self._body.byte_length > before > 0 and resumes < MAX_RESUMES:
                        resumes += 1
                        attempt = 0
                    attempt += 1
                    wait = (
                        self._retries.wait_seconds(attempt)
                        if error.wait_seconds is None
                        else error.wait_seconds
                    )
                    if attempt >= self._retries.attempts or wait > self._retries.max_wait_seconds:
                        kind = TryAgainError if error.busy else FetchError
                        raise kind(f"{redact(self._url)}: {error}") from None
                except FetchError as error:
                    raise type(error)(f"{redact(self._url)}: {error}") from None
                await trio.sleep(wait)

    async def _attempt(self, headers: Mapping[str, str]) -> Fetched:
        headers = dict(headers)
        if self._body.byte_length and self._resume_with:
            headers |= {"range": f"bytes={self._body.byte_length}-", "if-range": self._resume_with}
        elif self._body.byte_length:
            await trio.to_thread.run_sync(self._body.rewind)
        url = self._url
        hops: list[tuple[int, str]] = []
        while True:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._fetcher.limiter(url))
                response = await self._send(stack, url, headers)
                if response.status_code not in _REDIRECTS:
                    return await self._take(response, url, tuple(hops), "range" in headers)
                url = _target(url, response)
            hops.append((response.status_code, url))
            if len(hops) > MAX_REDIRECTS:
                raise FetchError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _send(self, stack: AsyncExitStack, url: str, headers: Mapping[str, str]) -> httpx.Response:
        headers = dict(headers)
        if authorization := self._fetcher.authorization_for(url):
            headers["authorization"] = authorization
        client = self._fetcher.client
        client.cookies.clear()
        with _network_errors():
            return await stack.enter_async_context(client.stream("GET", without_user(url), headers=headers))

    async def _take(
        self, response: httpx.Response, url: str, hops: tuple[tuple[int, str], ...], ranged: bool
    ) -> Fetched:
        status, headers = response.status_code, response.headers
        if status == 304 and not ranged:
            return Fetched(self._into, url, redirects=hops, not_modified=True)
        if status == 416 and ranged and headers.get("content-range") == f"bytes */{self._body.byte_length}":
            return self._done(response, url, hops)  # the length announced before was wrong, we have it all
        if status not in (200, 206):
            raise _refusal(response)
        if status == 206 and not self._continues(headers, ranged):
            self._resume_with = ""
            raise _Retry("it answers a request for a range with another range")
        mime_type = headers.get("content-type", "")
        if self._refuse_html and plain(mime_type) in ("text/html", "application/xhtml+xml"):
            raise FetchError("it is a web page in place of the file")
        if status == 200:
            if self._body.byte_length:
                await trio.to_thread.run_sync(self._body.rewind)
            self._total = None if _coding(headers) else _number(headers.get("content-length"))
            if self._total is not None and self._total > self._max_bytes:
                raise FetchError(f"it is larger than the limit of {self._max_bytes} bytes")
            self._resume_with = "" if _coding(headers) else _strong_validator(headers)
        await self._receive(response)
        return self._done(response, url, hops)

    def _continues(self, headers: httpx.Headers, ranged: bool) -> bool:
        unit, _, rest = headers.get("content-range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = _number(span.partition("-")[0])
        if not ranged or unit != "bytes" or start != self._body.byte_length or _coding(headers):
            return False
        return self._total is None or total == "*" or _number(total) is not None

    async def _receive(self, response: httpx.Response) -> None:
        """Write the body as it comes; what came before a break is kept."""
        pieces: list[bytes] = []
        size = 0
        broken: _Retry | None = None
        try:
            with _network_errors():
                async with aclosing(_decoded(response, self._max_bytes)) as body:
                    async for data in body:
                        pieces.append(data)
                        size += len(data)
                        if size >= WRITE_BATCH:
                            full, pieces, size = pieces, [], 0
                            await self._write(full)
        except _Retry as error:
            broken = error
        if pieces:
            await self._write(pieces)
        if broken is not None:
            raise broken

    async def _write(self, pieces: list[bytes]) -> None:
        await trio.to_thread.run_sync(self._body.write, pieces)
        if self._progress is not None:
            self._progress(sum(map(len, pieces)))
        if self._refuse_html and sniff(self._body.head) == "text/html":
            raise FetchError("it is a web page in place of the file")

    def _done(self, response: httpx.Response, url: str, hops: tuple[tuple[int, str], ...]) -> Fetched:
        headers = response.headers
        return Fetched(
            self._into,
            url,
            self._body.byte_length,
            self._body.digest,
            headers.get("content-type", "")[:200],
            self._body.head,
            Validators(headers.get("etag", "")[:500], headers.get("last-modified", "")[:100]),
            hops,
        )


async def _decoded(response: httpx.Response, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body without its content coding, in pieces of bounded size whatever it unpacks to."""
    coding = _coding(response.headers)
    if coding not in ("", "gzip", "x-gzip"):
        raise FetchError(f"it is encoded as {coding[:40]!r}, which we did not ask for")
    unzip = zlib.decompressobj(wbits=31)
    unpacked = 0
    raw = response.aiter_raw()
    try:
        async for data in raw:
            if not coding:
                yield data
                continue
            while data:
                try:
                    piece = unzip.decompress(data, WRITE_BATCH)
                except zlib.error:
                    raise FetchError("its gzip data is broken") from None
                unpacked += len(piece)
                if unpacked > max_bytes:
                    raise FetchError(f"it is larger than the limit of {max_bytes} bytes")
                if piece:
                    yield piece
                data = unzip.unconsumed_tail
    finally:
        await response.aclose()
        # httpx leaves its nested generators to the garbage collector when reading stops early; with the
        # connection closed, reading on ends them all.
        with suppress(httpx.HTTPError, httpx.StreamError):
            async for _ in raw:
                pass
    if coding and not unzip.eof:
        raise _Retry("its gzip data ends too early")


class _network_errors:  # noqa: N801 - used like a function
    """Turn what httpx raises into our own orders and errors, in one place."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case httpx.TimeoutException():
                raise _Retry("it does not answer in time") from None
            case httpx.ConnectError():
                raise _Retry(f"no connection: {str(error)[:150] or 'it does not answer'}") from None
            case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
                raise _Retry("the connection broke off") from None
            case httpx.HTTPError() | httpx.InvalidURL() | httpx.StreamError():
                raise FetchError(f"it cannot be fetched ({type(error).__name__})") from None
            case _:
                return


def _refusal(response: httpx.Response) -> Exception:
    status = response.status_code
    phrase = response.reason_phrase[:60]
    text = f"the origin answers {status} {phrase}".strip()
    if status in _RETRIED:
        wait = _retry_after(response.headers.get("retry-after", ""))
        if wait is not None:
            text += f" and asks to wait {math.ceil(wait)} s"
        return _Retry(text, wait_seconds=wait, busy=status in _BUSY)
    return FetchError(text)


def _retry_after(value: str) -> float | None:
    value = value.strip()[:100]
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        when = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    when = when.replace(tzinfo=UTC) if when.tzinfo is None else when
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _target(url: str, response: httpx.Response) -> str:
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


def _coding(headers: httpx.Headers) -> str:
    coding = str(headers.get("content-encoding", "")).strip().lower()
    return "" if coding == "identity" else coding


def _strong_validator(headers: httpx.Headers) -> str:
    etag, modified = str(headers.get("etag", "")), str(headers.get("last-modified", ""))
    return etag if etag.startswith('"') else modified


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() and len(text) <= 18 else None
