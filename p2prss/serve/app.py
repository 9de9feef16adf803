"""The HTTP application: its routes, and the guard that every request passes first.

Routes to come have their place in ``_Routes.table``, such as metrics. Whatever changes something does not
belong behind this guard alone: ``page_routes`` and ``api`` ask for more.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final
from urllib.parse import quote

import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2prss.errors import P2prssError, WithdrawnFeedError
from p2prss.serve.actions import HomeActions
from p2prss.serve.api import Api
from p2prss.serve.files import find_asset, find_episode
from p2prss.serve.hosts import Reached, base_url, inner_path, reached_by
from p2prss.serve.library import Library, ServedFeed, ServeSettings
from p2prss.serve.listings import AllShows, Listing, OneShow
from p2prss.serve.media import NOT_NOW, Media, MediaResponse
from p2prss.serve.opml import render_opml
from p2prss.serve.page_routes import PageRoutes
from p2prss.serve.responses import (
    CORS_HEADERS,
    PREFLIGHT_HEADERS,
    coded,
    guarded_headers,
    plain,
    unavailable,
)
from p2prss.serve.rss import FeedAnswers
from p2prss.serve.server import MAX_BODY_BYTES
from p2prss.serve.site import find_page
from p2prss.serve.urls import feed_path
from p2prss.serve.windows import Window

ANSWER_SECONDS: Final = 10.0
"""How long an answer may wait for peers, to its first byte, before it is 503: clients give up after 20."""

METHODS: Final = "GET, HEAD, OPTIONS"

BASE_URL: Final = "p2prss.base_url"
"""Where in the scope the guard leaves what all absolute URLs of the answer start with."""

Answer = Response | MediaResponse | ASGIApp

_POST_PATHS: Final = re.compile(r"/add|/shows/[^/]+/remove|/api/v1/feeds(/[^/]+/remove)?")
_KEY_TEXT: Final = re.compile(r"[a-z0-9]{52}|[0-9a-f]{64}")


def create_app(
    library: Library, settings: ServeSettings | None = None, actions: HomeActions | None = None
) -> ASGIApp:
    """The application over ``library``, for any ASGI server on trio; without ``actions`` for reading only."""
    settings = settings or ServeSettings()
    routes = _Routes(library, settings, actions)
    inner = Starlette(routes=routes.table(), exception_handlers={HTTPException: _refused})
    inner.router.redirect_slashes = False
    return _Guard(inner, settings)


class _Guard:
    """Turns away what no route may see, and puts the security headers on every answer."""

    def __init__(self, app: ASGIApp, settings: ServeSettings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = guarded_headers(message["headers"])
            await send(message)

        scope = _origin_form(scope)
        reached = _reached(scope, self._settings)
        asked = Headers(scope=scope)
        if scope["http_version"] not in ("1.0", "1.1"):
            answer: ASGIApp = plain(505, "this server speaks HTTP/1.1", connection="close")
        elif "content-length" in asked and "transfer-encoding" in asked:
            answer = plain(400, "two lengths of one body", connection="close")
        elif int(asked.get("content-length", "0")) > MAX_BODY_BYTES:
            answer = plain(413, "this body is too large", connection="close")
        elif reached is None:
            answer = plain(421, "this server does not answer to that host name")
        else:
            answer = self._app
            path = inner_path(scope["path"], reached, self._settings)
            scope = {**scope, "path": path, BASE_URL: base_url(reached, self._settings)}
            if scope["method"] not in METHODS.split(", ") and not accepts_post(scope):
                answer = plain(405, "method not allowed", allow=METHODS)
        await answer(scope, receive, send_guarded)


def _origin_form(scope: Scope) -> Scope:
    """A request for ``http://host/path`` as one for ``/path`` of that host (RFC 9112 §3.2.2)."""
    scheme, separator, rest = scope["path"].partition("://")
    if scheme.lower() not in ("http", "https") or not separator:
        return scope
    authority, slash, path = rest.partition("/")
    others = [(name, value) for name, value in scope["headers"] if name.lower() != b"host"]
    headers = [*others, (b"host", authority.encode("latin-1", "replace"))]
    return {**scope, "path": slash + path or "/", "headers": headers}


def _reached(scope: Scope, settings: ServeSettings) -> Reached | None:
    peer = scope["client"][0] if scope.get("client") else ""
    return reached_by(scope["scheme"], host_of(scope), peer, Headers(scope=scope), settings)


def accepts_post(scope: Scope) -> bool:
    """Whether this is a request to change something, at one of the few places for that."""
    return scope["method"] == "POST" and _POST_PATHS.fullmatch(scope["path"]) is not None


def host_of(scope: Scope) -> str | None:
    """The Host of a request; without one (HTTP/1.0, so no browser) the address it came in by."""
    host = Headers(scope=scope).get("host")
    if host is not None or not scope.get("server"):
        return host
    address, port = scope["server"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


async def _refused(_: Request, error: Exception) -> Response:
    """Starlette's own 404 and 405, in our words."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    return plain(status, "not found" if status == 404 else "method not allowed", **_allow(status))


def _allow(status: int) -> dict[str, str]:
    return {"allow": METHODS} if status == 405 else {}


class _Routes:
    """What each URL answers."""

    def __init__(self, library: Library, settings: ServeSettings, actions: HomeActions | None) -> None:
        self._library = library
        self._ready_only = settings.ready_only
        self._feeds = FeedAnswers()
        self._page = PageRoutes(library, actions, self._base_url)
        self._api = Api(library, actions, self._page.live, self._base_url)

    def table(self) -> list[Route]:
        """All routes."""
        return [
            self._route("/feeds/{feed}/feed.xml", self.feed_xml),
            self._route("/feeds/{feed}/episodes/{item_id}/{number}/{name}", self.episode),
            self._route("/feeds/{feed}/assets/{name}", self.asset),
            self._route("/everything.xml", self.everything),
            self._route("/feeds/{feed}/site", self.site),
            self._route("/feeds/{feed}/site/{path:path}", self.site),
            self._route("/opml.xml", self.opml),
            self._route("/healthz", self.healthz),
            self._route("/readyz", self.readyz),
            self._route("/static/{name}", self.static),
            *self._page.table(self._route),
            *self._api.table(),
        ]

    def _route(self, path: str, answer: Callable[[Request], Awaitable[Answer]]) -> Route:
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

    def _feed(self, request: Request) -> ServedFeed:
        feed = self._library.find(request.path_params["feed"])
        if feed is None:
            raise HTTPException(404)
        return feed

    def _base_url(self, request: Request) -> str:
        return str(request.scope[BASE_URL])

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
        found = await self._feeds.answer(listing, window, self._base_url(request), request.headers)
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
        root = f"{self._base_url(request)}{feed_path(feed.key)}site/"
        if path is None or not _is_shared(request):
            return Response(status_code=307, headers={"location": root + quote(path or "")})
        deadline = trio.current_time() + ANSWER_SECONDS
        found = await find_page(feed, path, root, request.headers.get("if-none-match"))
        if found is None:
            raise HTTPException(404)
        return MediaResponse(found, deadline) if isinstance(found, Media) else found

    async def opml(self, request: Request) -> Answer:
        """The list of feeds, for apps that import one."""
        return coded(
            render_opml(self._library.feeds(), self._base_url(request)),
            request.headers,
            content_type="text/x-opml; charset=utf-8",
            content_disposition='attachment; filename="p2prss.opml"',
            cache_control="no-cache",
        )

    async def static(self, request: Request) -> Answer:
        """The style sheet and the script of the page."""
        found = self._page.pages.static(request.path_params["name"], request.headers.get("if-none-match"))
        if found is None:
            raise HTTPException(404)
        return found

    async def healthz(self, _: Request) -> Answer:
        """The process answers."""
        return plain(200, "ok")

    async def readyz(self, _: Request) -> Answer:
        """The saved feeds are open."""
        return plain(200, "ready") if self._library.ready else unavailable("starting")


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
