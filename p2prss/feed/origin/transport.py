"""HTTP over our own connections: what httpx is told, and what comes of what it raises."""

import ssl
import zlib
from collections.abc import AsyncGenerator
from contextlib import suppress
from functools import lru_cache
from typing import Final

import httpcore
import httpx

from p2prss.errors import FetchError
from p2prss.feed.origin.reply import coding_of
from p2prss.feed.origin.retries import Retry
from p2prss.units import KIB, MIB

PACKED_SLACK: Final = 64 * KIB  # bytes by which packing may make a body larger
UNPACK_SIZE: Final = 1 * MIB  # bytes that one piece of a packed body may become at once


@lru_cache(maxsize=1)
def _ssl_context() -> ssl.SSLContext:
    """Reading all the root certificates takes a while: once is enough."""
    return httpx.create_ssl_context(trust_env=False)


class Transport(httpx.AsyncHTTPTransport):
    """httpx over our own way to connect."""

    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        context = _ssl_context()
        super().__init__(verify=context, trust_env=False)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=context, max_connections=None, max_keepalive_connections=20, network_backend=backend
        )


async def decoded(response: httpx.Response, max_bytes: int) -> AsyncGenerator[bytes, None]:
    """The body without its content coding, in pieces of bounded size whatever it unpacks to.

    A piece is empty where what came unpacks to nothing, so that the caller can watch the time.

    Raises: FetchError for another coding, and above ``max_bytes``, packed or not; Retry for an early end.
    """
    coding = coding_of(response.headers)
    if coding not in ("", "gzip", "x-gzip"):
        raise FetchError(f"it is encoded as {coding[:40]!r}, which we did not ask for")
    unzip = zlib.decompressobj(wbits=31)
    packed = unpacked = 0
    raw = response.aiter_raw()
    try:
        async for data in raw:
            if not coding:
                yield data
                continue
            packed += len(data)
            if packed > max_bytes + PACKED_SLACK:
                raise FetchError(f"it is larger than the limit of {max_bytes} bytes")
            before = unpacked
            while data:
                if unzip.eof:  # another member may follow (RFC 1952, section 2.2), or what means nothing
                    if not data.startswith(b"\x1f"):
                        break
                    unzip = zlib.decompressobj(wbits=31)
                try:
                    piece = unzip.decompress(data, UNPACK_SIZE)
                except zlib.error:
                    raise FetchError("its gzip data is broken") from None
                unpacked += len(piece)
                if unpacked > max_bytes:
                    raise FetchError(f"it is larger than the limit of {max_bytes} bytes")
                if piece:
                    yield piece
                data = unzip.unused_data if unzip.eof else unzip.unconsumed_tail
            if unpacked == before:
                yield b""
    finally:
        await response.aclose()
        # httpx leaves its nested generators to the garbage collector when reading stops early; with the
        # connection closed, reading on ends them all.
        with suppress(httpx.HTTPError, httpx.StreamError):
            async for _ in raw:
                pass
    if coding and not unzip.eof:
        raise Retry("its gzip data ends too early")


class network_errors:  # noqa: N801 - used like a function
    """Turn what httpx raises into our own orders and errors, in one place."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        match error:
            case httpx.TimeoutException():
                raise Retry("it does not answer in time") from None
            case httpx.ConnectError():
                raise Retry(f"no connection: {str(error)[:150] or 'it does not answer'}") from None
            case httpx.RemoteProtocolError() if "too long" in str(error).lower():
                raise FetchError("the headers of its answer are too long") from None
            case httpx.RemoteProtocolError() | httpx.ReadError() | httpx.WriteError() | httpx.CloseError():
                raise Retry("the connection broke off") from None
            case UnicodeError():  # httpx looks at where a redirect leads, though it is not to follow it
                raise FetchError("an address on the way is unreadable") from None
            case httpx.HTTPError() | httpx.InvalidURL() | httpx.StreamError():
                raise FetchError(f"it cannot be fetched ({type(error).__name__})") from None
            case _:
                return
