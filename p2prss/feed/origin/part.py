"""A part of what an origin has, to compare with what is here; nothing of it is kept."""

from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass

import trio

from p2prss.errors import FetchError
from p2prss.feed.origin.download import ANSWER_SECONDS, MAX_REDIRECTS
from p2prss.feed.origin.reply import REDIRECTS, coding_of, number_of, redirect_target
from p2prss.feed.origin.retries import Retry
from p2prss.feed.origin.session import Session
from p2prss.feed.origin.transport import decoded, network_errors
from p2prss.feed.origin.url import without_user


@dataclass(frozen=True, slots=True)
class Part:
    """Some bytes of a file; ``total`` is the size of the whole.

    ``is_asked_for`` is false when the origin knows no ranges: then these are the first bytes, whatever was
    asked for.
    """

    data: bytes
    total: int
    mime_type: str
    is_asked_for: bool


async def read_part(session: Session, url: str, start: int, stop: int) -> Part | None:
    """Bytes ``start`` up to ``stop`` of what is at ``url``, fewer where it ends before.

    Returns: None when the origin does not answer in a way that proves anything. It is asked once.
    """
    try:
        for _ in range(MAX_REDIRECTS + 1):
            async with AsyncExitStack() as stack:
                await stack.enter_async_context(session.limiter(url))
                with trio.fail_after(ANSWER_SECONDS):
                    found = await _ask(stack, session, url, start, stop)
            if not isinstance(found, str):
                return found
            url = found
    except (FetchError, Retry, trio.TooSlowError):
        pass  # whoever fetches it will find out, and tell
    return None


async def _ask(stack: AsyncExitStack, session: Session, url: str, start: int, stop: int) -> Part | str | None:
    """One request: the part, where to ask instead, or None."""
    url = without_user(url)
    headers = {"accept-encoding": "identity", "range": f"bytes={start}-{stop - 1}"}
    headers |= session.credentials_for(url)
    session.client.cookies.clear()
    with network_errors():
        response = await stack.enter_async_context(session.client.stream("GET", url, headers=headers))
        if response.status_code in REDIRECTS:
            return redirect_target(url, response)
        if response.status_code not in (200, 206) or coding_of(response.headers):
            return None
        is_asked_for = response.status_code == 206
        if is_asked_for:
            unit, _, rest = response.headers.get("content-range", "").partition(" ")
            span, _, whole = rest.partition("/")
            total = number_of(whole)
            if unit != "bytes" or number_of(span.partition("-")[0]) != start:
                return None
        else:
            total = number_of(response.headers.get("content-length"))
        if total is None:
            return None
        wanted = min(stop, total) - start if is_asked_for else min(stop - start, total)
        data = bytearray()
        async with aclosing(decoded(response, total)) as body:
            async for piece in body:
                data += piece
                if len(data) >= wanted:
                    break
        if len(data) < wanted:
            return None
        kind = response.headers.get("content-type", "")[:200]
        return Part(bytes(data[:wanted]), total, kind, is_asked_for)
