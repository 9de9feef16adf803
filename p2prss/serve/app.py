"""The HTTP application: all its routes behind the guard.

Whatever changes something does not belong behind the guard alone: ``page_routes`` and ``api`` ask for more.
"""

import re
from collections.abc import Awaitable, Callable
from typing import Final

from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Scope

from p2prss.serve.actions import HomeActions
from p2prss.serve.api import Api
from p2prss.serve.feed_routes import ANSWER_SECONDS, Answer, FeedRoutes, base_url_of, reading
from p2prss.serve.guard import METHODS, Guard, Place, host_of
from p2prss.serve.hosts import base_url, inner_path, reached_by
from p2prss.serve.library import Library, ServeSettings
from p2prss.serve.opml import render_opml
from p2prss.serve.page_routes import PageRoutes
from p2prss.serve.responses import coded, plain, unavailable

Refused = Callable[[Request, Exception], Awaitable[Response]]

__all__ = ["ANSWER_SECONDS", "create_app", "make_starlette"]

_PAGE_PATHS: Final = re.compile(r"/[^/]*|/shows(/.*)?")  # where people may have come to by mistake
_POST_PATHS: Final = re.compile(r"/add|/shows/[^/]+/remove|/api/v1/feeds(/[^/]+/remove)?")


def create_app(
    library: Library, settings: ServeSettings | None = None, actions: HomeActions | None = None
) -> ASGIApp:
    """The application over ``library``, for any ASGI server on trio; without ``actions`` for reading only."""
    settings = settings or ServeSettings()
    routes = _Routes(library, settings, actions)

    def find_place(scope: Scope) -> Place | Response:
        peer = scope["client"][0] if scope.get("client") else ""
        reached = reached_by(scope["scheme"], host_of(scope), peer, Headers(scope=scope), settings)
        if reached is None:
            return plain(421, "this server does not answer to that host name")
        return Place(base_url(reached, settings), inner_path(scope["path"], reached, settings))

    return Guard(make_starlette(routes.table(), routes.refused), find_place, accepts_post)


def make_starlette(routes: list[Route], refused: Refused | None = None) -> ASGIApp:
    """These routes, and our own words, or those of ``refused``, where there is none."""
    app = Starlette(routes=routes, exception_handlers={HTTPException: refused or _refused})
    app.router.redirect_slashes = False
    return app


def accepts_post(scope: Scope) -> bool:
    """Whether this is a request to change something, at one of the few places for that."""
    return scope["method"] == "POST" and _POST_PATHS.fullmatch(scope["path"]) is not None


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
        self._feeds = FeedRoutes(library, settings)
        self._page = PageRoutes(library, actions, base_url_of)
        self._api = Api(library, actions, self._page.live, base_url_of)

    def table(self) -> list[Route]:
        """All routes."""
        return [
            *self._feeds.table(),
            reading("/everything.xml", self._feeds.everything),
            reading("/opml.xml", self.opml),
            reading("/healthz", self.healthz),
            reading("/readyz", self.readyz),
            reading("/static/{name}", self.static),
            *self._page.table(reading),
            *self._api.table(),
        ]

    async def refused(self, request: Request, error: Exception) -> Response:
        """A page where a browser looks for one, else one line."""
        answer = await _refused(request, error)
        wants_page = "text/html" in request.headers.get("accept", "")
        if wants_page and answer.status_code == 404 and _PAGE_PATHS.fullmatch(request.url.path):
            return self._page.missing(request, starting=not self._library.ready)
        return answer

    async def opml(self, request: Request) -> Answer:
        """The list of feeds, for apps that import one."""
        return coded(
            render_opml(self._library.feeds(), base_url_of(request)),
            request.headers,
            content_type="text/x-opml; charset=utf-8",
            content_disposition='attachment; filename="p2prss.opml"',
            cache_control="no-cache",
        )

    async def static(self, request: Request) -> Answer:
        """The style sheet and the script of the page."""
        version = request.query_params.get("v", "")
        if_none_match = request.headers.get("if-none-match")
        found = self._page.pages.static(request.path_params["name"], version, if_none_match)
        if found is None:
            raise HTTPException(404)
        return found

    async def healthz(self, _: Request) -> Answer:
        """The process answers."""
        return plain(200, "ok")

    async def readyz(self, _: Request) -> Answer:
        """The saved feeds are open."""
        return plain(200, "ready") if self._library.ready else unavailable("starting")
