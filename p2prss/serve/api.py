"""``/api/v1``: the same that the page can do, in JSON, for programs that show the home's token.

Every answer, an error as well, is one JSON object. Reading needs the token too: what a home follows
is nobody else's business.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from p2prss.crypto.key_text import format_key
from p2prss.errors import (
    NetworkError,
    P2prssError,
    StorageError,
    TryAgainError,
    UnnamedFeedError,
    UsageError,
)
from p2prss.serve.actions import AddRequest, DiskUse, HomeActions
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.live import Live
from p2prss.serve.page_routes import is_own_request, read_body
from p2prss.serve.token import Gate
from p2prss.serve.urls import feed_path

PREFIX: Final = "/api/v1"

Handler = Callable[[Request, HomeActions], Awaitable[ASGIApp]]


class ApiFeed(msgspec.Struct, frozen=True, kw_only=True):
    """A feed as ``GET /api/v1/feeds`` tells of it."""

    key: str
    slug: str
    title: str
    role: str
    link: str
    feed_url: str
    peers: int
    version: int
    stored_bytes: int
    done: int | None
    total: int | None
    unit: str | None
    problem: str | None


class Api:
    """The API of one home."""

    def __init__(
        self,
        library: Library,
        actions: HomeActions | None,
        live: Live,
        base_url: Callable[[Request], str],
    ) -> None:
        self._library = library
        self._actions = actions
        self._live = live
        self._base_url = base_url

    def table(self) -> list[Route]:
        """All routes."""
        return [
            self._route("/status", self.status, "GET"),
            self._route("/feeds", self.feeds, "GET"),
            self._route("/events", self.events, "GET"),
            self._route("/feeds", self.add, "POST"),
            self._route("/feeds/{feed}/remove", self.remove, "POST"),
        ]

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        async def endpoint(request: Request) -> ASGIApp:
            if self._actions is None:
                return _failed(404, "there is no API here", 1)
            if not is_own_request(request, self._base_url(request)):
                return _failed(403, "sent by another site", 1)
            if not Gate(self._actions.token).is_bearer(request.headers.get("authorization")):
                refusal = _failed(401, "show the home's token: Authorization: Bearer TOKEN", 1)
                refusal.headers["www-authenticate"] = 'Bearer realm="p2prss"'
                return refusal
            try:
                return await handler(request, self._actions)
            except UnnamedFeedError as error:
                told = {"publish": error.feed_url} if error.feed_url is not None else {}
                return _failed(_status(error), str(error), error.exit_code, **told)
            except P2prssError as error:
                return _failed(_status(error), str(error), error.exit_code)

        return Route(PREFIX + path, endpoint, methods=[method])

    async def status(self, _: Request, actions: HomeActions) -> Response:
        """What the node does, as ``p2prss peers`` learns it, and what the home takes."""
        disk: DiskUse = await actions.disk()
        return _json({"node": await actions.status(), "disk": disk, "problems": list(actions.problems)})

    async def feeds(self, request: Request, actions: HomeActions) -> Response:
        """The feeds that are served."""
        base_url = self._base_url(request)
        return _json({"feeds": [_feed(feed, actions, base_url) for feed in self._library.feeds()]})

    async def events(self, _: Request, __: HomeActions) -> ASGIApp:
        """The same events as at ``/events``."""
        return self._live.answer

    async def add(self, request: Request, actions: HomeActions) -> Response:
        """Add a feed; 201 with its key."""
        body = await read_body(request)
        if body is None:
            return _failed(413, "too much was sent", 2)
        try:
            wanted = msgspec.json.decode(body, type=AddRequest)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            return _failed(400, f"not understood: {str(error)[:200]}", 2)
        key = await actions.add(wanted)
        state = actions.state(key)
        told = {"key": format_key(key)}
        if state is not None:
            told["role"] = state.role
        if state is not None and state.named_by is not None:
            told["named_by"] = state.named_by.site
        return _json(told, 201)

    async def remove(self, request: Request, actions: HomeActions) -> Response:
        """Remove a feed."""
        feed = self._library.find(request.path_params["feed"])
        if feed is None:
            return _failed(404, "this feed is not served here", 2)
        await actions.remove(feed.key)
        return _json({"removed": format_key(feed.key)})


def _feed(feed: ServedFeed, actions: HomeActions, base_url: str) -> ApiFeed:
    state = actions.state(feed.key)
    work = state.work if state else None
    return ApiFeed(
        key=format_key(feed.key),
        slug=feed.slug,
        title=feed.title,
        role=state.role if state else "",
        link=state.link if state else "",
        feed_url=f"{base_url}{feed_path(feed.key)}feed.xml",
        peers=feed.peers,
        version=feed.archive.version,
        stored_bytes=state.stored_bytes if state else 0,
        done=work.done if work else None,
        total=work.total if work else None,
        unit=work.unit if work else None,
        problem=state.problem if state else None,
    )


def _status(error: P2prssError) -> int:
    if isinstance(error, UsageError):
        return 400
    if isinstance(error, UnnamedFeedError) and error.feed_url is not None:
        return 409  # it can be published
    if error.exit_code in (NetworkError.exit_code, TryAgainError.exit_code):  # FetchError is one of the first
        return 503
    return 507 if isinstance(error, StorageError) else 422


def _failed(status: int, message: str, code: int, **more: str) -> Response:
    return _json({"error": message, "code": code} | more, status)


def _json(value: Any, status: int = 200) -> Response:
    return Response(
        msgspec.json.encode(value),
        status,
        headers={"cache-control": "no-store"},
        media_type="application/json",
    )
