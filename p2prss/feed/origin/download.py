"""One body from an origin to a file, over as many requests as it takes."""

from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Final

import httpx
import trio

from p2prss.errors import FetchError, GoneError, OriginBusyError, PrivateAddressError, RefusedError
from p2prss.feed.media_types import plain, sniff
from p2prss.feed.origin.body_file import BodyFile
from p2prss.feed.origin.reply import (
    REDIRECTS,
    Fetched,
    Validators,
    coding_of,
    links_of,
    max_age_of,
    number_of,
    redirect_target,
    refusal,
    strong_validator,
)
from p2prss.feed.origin.retries import Retries, Retry
from p2prss.feed.origin.session import Session
from p2prss.feed.origin.transport import decoded, network_errors
from p2prss.feed.origin.url import redact, without_user
from p2prss.units import KIB, MIB

MAX_REDIRECTS: Final = 10  # chains of analytics prefixes are normal
MAX_RESUMES: Final = 100  # of one body, each of which brought at least one byte
WRITE_BATCH: Final = 1 * MIB  # bytes collected for one trip to a worker thread
ANSWER_SECONDS: Final = 120.0  # from connecting to the last of the headers
SLOW_SECONDS: Final = 300.0  # in which at least SLOW_BYTES of a body must come
SLOW_BYTES: Final = 256 * KIB


class Download:
    """One body on its way, over as many requests as it takes."""

    def __init__(
        self,
        session: Session,
        url: str,
        into: Path,
        max_bytes: int,
        retries: Retries,
        refuse_html: bool,
        progress: Callable[[int], None] | None,
        total_seconds: float,
    ) -> None:
        self._session = session
        self._url = url
        self._body = BodyFile(into, max_bytes)
        self._into = into
        self._max_bytes = max_bytes
        self._retries = retries
        self._refuse_html = refuse_html
        self._progress = progress
        self._total_seconds = total_seconds
        self._resume_with = ""  # a strong validator of what is in the file
        self._says_page = False  # the origin's word, which bytes of another type disprove
        self._total: int | None = None  # bytes the whole body should have

    async def run(self, headers: Mapping[str, str]) -> Fetched:
        """Get it, with these headers in every request. Raises: FetchError, OriginBusyError, StorageError."""
        attempt = resumes = 0
        with self._body:
            while True:
                before = self._body.byte_length
                try:
                    with trio.move_on_after(self._total_seconds):
                        return await self._attempt(headers)
                    raise FetchError(f"it takes longer than {self._total_seconds:.0f} s")
                except Retry as error:
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
                        text = f"{redact(self._url)}: {error}"
                        if error.busy:
                            raise OriginBusyError(text, wait_seconds=error.wait_seconds) from None
                        raise FetchError(text) from None
                except FetchError as error:
                    kind = type(error) if isinstance(error, GoneError | PrivateAddressError) else RefusedError
                    raise kind(f"{redact(self._url)}: {error}") from None
                await trio.sleep(wait)

    async def _attempt(self, headers: Mapping[str, str]) -> Fetched:
        headers = dict(headers)
        if self._body.byte_length and self._resume_with:
            headers |= {"range": f"bytes={self._body.byte_length}-", "if-range": self._resume_with}
        elif self._body.byte_length:
            await trio.to_thread.run_sync(self._body.rewind)
        url = self._url
        hops: list[tuple[int, str]] = []
        seen = {url}
        while True:
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(self._session.limiter(url))
                with trio.move_on_after(ANSWER_SECONDS) as waiting:
                    response = await self._send(stack, url, headers)
                if waiting.cancelled_caught:
                    raise Retry("it does not answer in time")
                if response.status_code not in REDIRECTS:
                    return await self._take(response, url, tuple(hops), headers)
                url = redirect_target(url, response)
            hops.append((response.status_code, url))
            if url in seen:
                raise FetchError("it redirects in a circle")
            seen.add(url)
            if len(hops) > MAX_REDIRECTS:
                raise FetchError(f"it redirects more than {MAX_REDIRECTS} times")

    async def _send(self, stack: AsyncExitStack, url: str, headers: Mapping[str, str]) -> httpx.Response:
        url = without_user(url)
        headers = dict(headers) | self._session.credentials_for(url)
        client = self._session.client
        client.cookies.clear()
        with network_errors():
            return await stack.enter_async_context(client.stream("GET", url, headers=headers))

    async def _take(
        self,
        response: httpx.Response,
        url: str,
        hops: tuple[tuple[int, str], ...],
        asked: Mapping[str, str],
    ) -> Fetched:
        status, headers = response.status_code, response.headers
        ranged = "range" in asked
        if status == 304 and not ranged and ("if-none-match" in asked or "if-modified-since" in asked):
            return Fetched(
                self._into,
                url,
                redirects=hops,
                not_modified=True,
                max_age_seconds=max_age_of(headers),
                links=links_of(headers, url),
            )
        if status == 416 and ranged and headers.get("content-range") == f"bytes */{self._body.byte_length}":
            # The length announced before was wrong, we have it all.
            return await self._done(response, url, hops)
        if status not in (200, 206):
            raise refusal(response)
        if status == 206 and not self._continues(headers, ranged):
            self._resume_with = ""
            raise Retry("it answers a request for a range with another range")
        mime_type = headers.get("content-type", "")
        self._says_page = plain(mime_type) in ("text/html", "application/xhtml+xml")
        if status == 200:
            if self._body.byte_length:
                await trio.to_thread.run_sync(self._body.rewind)
            self._total = None if coding_of(headers) else number_of(headers.get("content-length"))
            if self._total is not None and self._total > self._max_bytes:
                raise FetchError(f"it is larger than the limit of {self._max_bytes} bytes")
            self._resume_with = "" if coding_of(headers) else strong_validator(headers)
        await self._receive(response)
        return await self._done(response, url, hops)

    def _continues(self, headers: httpx.Headers, ranged: bool) -> bool:
        unit, _, rest = headers.get("content-range", "").partition(" ")
        span, _, total = rest.partition("/")
        start = number_of(span.partition("-")[0])
        if not ranged or unit != "bytes" or start != self._body.byte_length or coding_of(headers):
            return False
        if self._resume_with and not self._is_of_same_file(headers):
            return False
        return self._total is None or total == "*" or number_of(total) is not None

    def _is_of_same_file(self, headers: httpx.Headers) -> bool:
        """Whether a part has the validator that was asked with, as far as it has one at all: some servers
        pass over If-Range. Source: RFC 9110, section 15.3.7."""
        name = "etag" if self._resume_with.startswith('"') else "last-modified"
        return str(headers.get(name, self._resume_with)) == self._resume_with

    async def _receive(self, response: httpx.Response) -> None:
        """Write the body as it comes; what came before a break is kept."""
        pieces: list[bytes] = []
        size = 0
        broken: Retry | None = None
        window_end, window_bytes = trio.current_time() + SLOW_SECONDS, 0
        try:
            with network_errors():
                async with aclosing(decoded(response, self._max_bytes)) as body:
                    async for data in body:
                        if data:
                            pieces.append(data)
                        size += len(data)
                        window_bytes += len(data)
                        if (now := trio.current_time()) >= window_end:
                            if window_bytes < SLOW_BYTES:
                                raise FetchError("it sends too slowly")
                            window_end, window_bytes = now + SLOW_SECONDS, 0
                        if size >= WRITE_BATCH:
                            full, pieces, size = pieces, [], 0
                            await self._write(full)
        except Retry as error:
            broken = error
        if pieces:
            await self._write(pieces)
        if broken is not None:
            raise broken

    async def _write(self, pieces: list[bytes]) -> None:
        await trio.to_thread.run_sync(self._body.write, pieces)
        if self._progress is not None:
            self._progress(sum(map(len, pieces)))
        if self._refuse_html:
            seen = sniff(self._body.head)
            if seen == "text/html" or (self._says_page and seen is None):
                raise FetchError("it is a web page in place of the file")

    async def _done(self, response: httpx.Response, url: str, hops: tuple[tuple[int, str], ...]) -> Fetched:
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
            max_age_seconds=max_age_of(headers),
            links=links_of(headers, url),
            differed=await trio.to_thread.run_sync(self._body.starts_otherwise),
        )
