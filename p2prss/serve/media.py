"""Bytes of episodes and assets over HTTP, fetched from peers while they are served.

A player believes the headers: once they have promised a length, only these bytes may follow. So the
first bytes are in hand before anything is sent (else 503, which clients retry). A later block is asked
for again and again while its peers are away, for clients seldom carry on with what broke off; when it
cannot be had the connection is broken off, so that no client takes the part for the whole.
A client that hangs up cancels the fetch: nothing is downloaded for nobody.

Source: RFC 9110 §13-15; podcast-app behaviour in spec/10-http, "Media".
"""

import logging
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

import trio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2prss.drive.core import BlockStream
from p2prss.drive.errors import DriveError
from p2prss.errors import BlockUnavailableError, DiskFullError, NetworkError, P2prssError, TryAgainError
from p2prss.serve.delivery import Delivery
from p2prss.serve.ranges import (
    ByteRange,
    RangeNotSatisfiableError,
    if_match_fails,
    if_none_match_hits,
    if_range_allows,
    parse_range,
)
from p2prss.serve.responses import CORS_HEADERS, IMMUTABLE, SANDBOX_POLICY, not_modified, plain, unavailable
from p2prss.units import KIB

NEXT_CHUNK_SECONDS: Final = 60.0
"""How long a running answer may stall; a break costs most clients the whole episode, so longer."""

AGAIN_SECONDS: Final = 1.0  # before bytes that cannot be had now are asked for once more

MIN_CHUNK_BYTES: Final = 64 * KIB  # smaller blocks are sent together: each send has a price
JOINED_BYTES: Final = 256 * KIB  # likewise blocks that come one right after the other: they were here
AT_ONCE_SECONDS: Final = 0.02  # for a block to come, so that the next one is waited for
MAX_CHUNK_BYTES: Final = 512 * KIB  # larger blocks are sent in parts: each part is copied once

NOT_NOW: Final = (NetworkError, BlockUnavailableError, TryAgainError, DiskFullError, trio.TooSlowError)
"""Errors that say nothing against the file: the same request may succeed later."""

Read = Callable[[int, int], BlockStream]
"""``(start, stop)`` -> exactly these bytes of a file, in chunks; closing it ends the fetch."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Media:
    """A file to be served: ``sha256`` (64 hex digits) names its bytes, ``read`` gets them."""

    sha256: str
    byte_length: int
    delivery: Delivery
    read: Read

    @property
    def etag(self) -> str:
        """The strong validator: the same tag, the same bytes."""
        return f'"{self.sha256}"'

    def headers(self) -> dict[str, str]:
        """What GET and HEAD say alike."""
        fixed = {
            "accept-ranges": "bytes",
            "cache-control": IMMUTABLE,
            "content-type": self.delivery.content_type,
            "etag": self.etag,
        }
        if not self.delivery.shown:
            fixed |= {"content-disposition": "attachment", "content-security-policy": SANDBOX_POLICY}
        return fixed | CORS_HEADERS


class MediaResponse:
    """The ASGI answer to a GET or HEAD of a ``Media``: 200, 206, 304, 412, 416, or 503."""

    def __init__(self, media: Media, deadline: float) -> None:
        """``deadline``, on trio's clock, is when the first bytes must be there."""
        self._media = media
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        media, asked = self._media, Headers(scope=scope)
        if if_match_fails(asked.get("if-match"), media.etag):
            await plain(412, "this file has other bytes", **CORS_HEADERS)(scope, receive, send)
            return
        if if_none_match_hits(asked.get("if-none-match"), media.etag):
            fresh = not_modified(media.etag, cache_control=IMMUTABLE)
            fresh.headers.update(CORS_HEADERS)
            await fresh(scope, receive, send)
            return
        part: ByteRange | None = None
        if scope["method"] == "GET" and if_range_allows(asked.get("if-range"), media.etag):
            try:
                part = parse_range(asked.get("range"), media.byte_length)
            except RangeNotSatisfiableError:
                refusal = plain(416, "range not satisfiable", content_range=f"bytes */{media.byte_length}")
                refusal.headers.update(CORS_HEADERS)
                await refusal(scope, receive, send)
                return
        head = media.headers() | {"content-length": str(part.byte_length if part else media.byte_length)}
        if part is not None:
            head["content-range"] = part.content_range
        start: Message = {
            "type": "http.response.start",
            "status": 200 if part is None else 206,
            "headers": [(name.encode("ascii"), value.encode("ascii")) for name, value in head.items()],
        }
        if scope["method"] == "HEAD" or media.byte_length == 0:
            await send(start)
            await send({"type": "http.response.body", "body": b""})
            return
        ending: ASGIApp | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
            whole = ByteRange(0, media.byte_length, media.byte_length)
            ending = await _stream(media, part or whole, self._deadline, start, send)
            nursery.cancel_scope.cancel()
        # Only here: the server says "disconnect" while it ends an answer, which must not be cancelled.
        if ending is not None:
            await ending(scope, receive, send)


async def cancel_on_disconnect(receive: Receive, scope: trio.CancelScope) -> None:
    """Cancel an answer when its client hangs up."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _stream(
    media: Media, part: ByteRange, deadline: float, start: Message, send: Send
) -> ASGIApp | None:
    """Send ``start`` and the bytes of ``part``.

    Returns: what ends the answer, or is the whole of it; None when the bytes ended too early. Without
        an end the server closes the connection, and the promised length shows that something is missing.
    """
    async with aclosing(_Chunks(media.read, part)) as chunks:
        try:
            chunk = await chunks.next(deadline)
        except NOT_NOW as error:
            logger.info("cannot serve %s now: %s", media.sha256[:16], str(error) or "no answer in time")
            return unavailable("nobody who has this file answers; try again later")
        except P2prssError as error:
            logger.warning("cannot serve %s: %s", media.sha256[:16], error)
            return plain(500, "this file cannot be read", **CORS_HEADERS)
        await send(start)
        while True:
            for piece in _pieces(chunk):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if chunks.missing_bytes == 0:
                return _end
            try:
                chunk = await chunks.next_patiently(trio.current_time() + NEXT_CHUNK_SECONDS)
            except (P2prssError, trio.TooSlowError) as error:
                logger.warning("broke off %s: %s", media.sha256[:16], str(error) or "no answer in time")
                return None


async def _end(_scope: Scope, _receive: Receive, send: Send) -> None:
    await send({"type": "http.response.body", "body": b""})


def _pieces(chunk: bytes) -> Sequence[bytes]:
    if len(chunk) <= MAX_CHUNK_BYTES:
        return (chunk,)
    return [chunk[offset : offset + MAX_CHUNK_BYTES] for offset in range(0, len(chunk), MAX_CHUNK_BYTES)]


class _Chunks:
    """The chunks of a part of a file: none empty, small ones joined, never more bytes than were promised."""

    def __init__(self, read: Read, part: ByteRange) -> None:
        self._read = read
        self._stop = part.stop
        self._source = read(part.start, part.stop)
        self._enough_bytes = 1  # the first chunk goes out as it comes, for a quick start
        self.missing_bytes = part.byte_length

    async def aclose(self) -> None:
        """End the fetch."""
        await self._source.aclose()

    async def next_patiently(self, deadline: float) -> bytes:
        """As ``next``, but what cannot be had now is asked for again until the ``deadline``."""
        while True:
            try:
                return await self.next(deadline)
            except NOT_NOW as error:
                if trio.current_time() + AGAIN_SECONDS >= deadline:
                    raise
                logger.info("waiting for more: %s", error)
            await self.aclose()
            await trio.sleep(AGAIN_SECONDS)
            self._source = self._read(self._stop - self.missing_bytes, self._stop)

    async def next(self, deadline: float) -> bytes:
        """The next bytes, not empty; called while ``missing_bytes``.

        Raises: trio.TooSlowError, BlockUnavailableError when the source ends early, DriveError when it
            has too much, and whatever P2prssError the source raises.
        """
        parts: list[bytes] = []
        size = 0
        with trio.fail_at(deadline):
            while size < min(self._enough_bytes, self.missing_bytes):
                asked_at = trio.current_time()
                try:
                    part = await anext(self._source)
                except StopAsyncIteration:
                    raise BlockUnavailableError("the file ended too early") from None
                parts.append(part)
                size += len(part)
                if size >= MIN_CHUNK_BYTES and trio.current_time() - asked_at > AT_ONCE_SECONDS:
                    break
        if size > self.missing_bytes:
            raise DriveError("the file is longer than its entry says")
        self._enough_bytes = JOINED_BYTES
        self.missing_bytes -= size
        return parts[0] if len(parts) == 1 else b"".join(parts)
