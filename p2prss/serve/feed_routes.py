"""The URLs of the feeds themselves: what podcast apps read."""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

import trio
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from p2prss.errors import P2prssError, WithdrawnFeedError
from p2prss.serve.files import find_asset, find_episode
from p2prss.serve.guard import BASE_URL, METHODS
from p2prss.serve.library import Library, ServedFeed, ServeSettings
from p2prss.serve.listings import AllShows, Listing, OneShow
from p2prss.serve.media import NOT_NOW, Media, MediaResponse
from p2prss.serve.responses import CORS_HEADERS, PREFLIGHT_HEADERS, plain, unavailable
from p2prss.serve.rss import FeedAnswers
from p2prss.serve.site import find_page
from p2prss.serve.urls import feed_path
from p2prss.serve.windows import Window

ANSWER_SECONDS: Final = 10.0
"""How long an answer may wait for peers, to its first byte, before it is 503: clients give up after 20."""

Answer = Response | MediaResponse | ASGIApp

_KEY_TEXT: Final = re.compile(r"[a-z0-9]{52}|[0-9a-f]{64}")


class FeedRoutes:
    """What is answered for one feed, and for all of them together."""

    def __init__(self, library: Library, settings: ServeSettings) -> None:
        self._library = library
        self._ready_only = settings.ready_only
        self._feeds = FeedAnswers()

    def table(self) -> list[Route]:
        """The routes of single feeds."""
        return [
            reading("/feeds/{feed}/feed.xml", self.feed_xml),
            reading("/feeds/{feed}/episodes/{item_id}/{number}/{name}", self.episode),
            reading("/feeds/{feed}/assets/{name}", self.asset),
            reading("/feeds/{feed}/site", self.site),
            reading("/feeds/{feed}/site/{path:path}", self.site),
        ]

    def _feed(self, request: Request) -> ServedFeed:
        feed = self._library.find(request.path_params["feed"])
        if feed is None:
            raise HTTPException(404)
        return feed

    async def feed_xml(self, request: Request) -> Answer:
        """The RSS."""
        return await self._rss(request, OneShow(self._feed(request), ready_only=self._ready_only))

    async def everything(self, request: Request) -> Answer:
        """The RSS of all feeds together."""
        return await self._rss(request, AllShows(self._library, ready_only=self._ready_only))

    async def _rss(self, request: Request, listing: Listing) -> Answer:
        window = Window.parse(request.query_params)
        if window is None:
            raise HTTPException(404)
        found = await self._feeds.answer(listing, window, base_url_of(request), request.headers)
        if found is None:
            raise HTTPException(404)
        return found

    async def episode(self, request: Request) -> Answer:
        """The bytes of an episode."""
        given = request.path_params
        return await _media(
            find_episode(self._feed(request), given["item_id"], given["number"], given["name"])
        )

    async def asset(self, request: Request) -> Answer:
        """The bytes of a picture, a transcript, chapters."""
        return await _media(find_asset(self._feed(request), request.path_params["name"]))

    async def site(self, request: Request) -> Answer:
        """A page of a site that was published with its feed."""
        feed, path = self._feed(request), request.path_params.get("path")
        root = f"{base_url_of(request)}{feed_path(feed.key)}site/"
        if path is None or not _is_shared(request):
            return Response(status_code=307, headers={"location": root + quote(path or "")})
        deadline = trio.current_time() + ANSWER_SECONDS
        found = await find_page(feed, path, root, request.headers.get("if-none-match"))
        if found is None:
            raise HTTPException(404)
        return MediaResponse(found, deadline) if isinstance(found, Media) else found


def reading(path: str, answer: Callable[[Request], Awaitable[Answer]]) -> Route:
    """A route for GET, HEAD and OPTIONS, with what every answer has to have."""

    async def endpoint(request: Request) -> Answer:
        if request.method == "OPTIONS":
            shared = CORS_HEADERS | PREFLIGHT_HEADERS if _is_shared(request) else {}
            return Response(status_code=204, headers={"allow": METHODS} | shared)
        try:
            with trio.fail_after(ANSWER_SECONDS):
                found = await answer(request)
        except NOT_NOW:
            found = unavailable("nobody who has this answers; try again later")
        except WithdrawnFeedError as error:
            found = plain(410, str(error))
        except P2prssError as error:
            found = plain(500, f"this feed cannot be read: {error}")
        if _is_shared(request) and isinstance(found, Response):
            found.headers.update(CORS_HEADERS)
        return found

    return Route(path, endpoint, methods=["GET", "HEAD", "OPTIONS"])


def base_url_of(request: Request) -> str:
    """What all absolute URLs of the answer start with."""
    return str(request.scope[BASE_URL])


async def _media(search: Awaitable[Media | None]) -> Answer:
    deadline = trio.current_time() + ANSWER_SECONDS
    found = await search
    if found is None:
        raise HTTPException(404)
    return MediaResponse(found, deadline)


def _is_shared(request: Request) -> bool:
    """Whether other web pages may read the answer: only they who know the feed's key.

    A slug can be guessed, and with it any page could find out what its visitor listens to.
    """
    return _KEY_TEXT.fullmatch(request.path_params.get("feed", "")) is not None
