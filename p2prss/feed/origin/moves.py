"""Feeds that say in their own text that they have moved: where one gets by following them."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar
from urllib.parse import urljoin, urlsplit

from p2prss.errors import FeedError, TryAgainError
from p2prss.feed.origin.url import redact

MAX_MOVES: Final = 5  # feeds one after the other, each of which names the next
MAX_REDIRECT_DOCUMENT: Final = 4096  # bytes

T = TypeVar("T")

_REDIRECT_DOCUMENT: Final = re.compile(
    rb"\s*(?:<\?xml[^>]{0,200}\?>)?\s*<redirect(?:\s[^>]{0,200})?>\s*<newLocation>\s*([^<>]{1,2000}?)\s*</newLocation>",
)


@dataclass(frozen=True, slots=True)
class Stop(Generic[T]):
    """A feed on the way: where it was asked for, where it says that it is now, and itself."""

    url: str
    new_url: str
    feed: T


@dataclass(frozen=True, slots=True)
class Journey(Generic[T]):
    """Where it ended; ``problem`` says why a move was not followed, in one line."""

    end: Stop[T]
    problem: str = ""


def redirect_document(data: bytes) -> str:
    """The address in an XML document ``<redirect><newLocation>``, which stands in place of a moved feed.

    Source: RSS 2.0 at Harvard Law, "How to redirect an RSS feed"; empty for any other document.
    """
    found = _REDIRECT_DOCUMENT.match(data[:MAX_REDIRECT_DOCUMENT])
    return found[1].decode("utf-8", "replace").replace("&amp;", "&") if found else ""


async def follow_moves(start: Stop[T], get: Callable[[str], Awaitable[Stop[T]]]) -> Journey[T]:
    """Go where a feed says that it is now, and on from there.

    A feed that cannot be had stops the journey at the one before. Feeds that name each other in a circle
    are not followed at all: any end would be as good as another, and the next update would choose another.
    """
    stop, seen = start, {start.url}
    while (target := _target(stop)) and target != stop.url:
        if target in seen:
            return Journey(start, f"it moves in a circle, by way of {redact(target)}")
        if len(seen) > MAX_MOVES:
            return Journey(start, f"it moves more than {MAX_MOVES} times")
        seen.add(target)
        try:
            stop = await get(target)
        except (FeedError, TryAgainError) as error:
            return Journey(stop, str(error))
    return Journey(stop)


def _target(stop: Stop[T]) -> str:
    try:
        target = urljoin(stop.url, stop.new_url.strip()) if stop.new_url.strip() else ""
        return target if urlsplit(target).scheme in ("http", "https") else ""
    except ValueError:
        return ""
