"""The guard that every request passes first: what makes no sense, or uses a wrong name, goes no further."""

import re
from collections.abc import Callable
from typing import Final, NamedTuple
from urllib.parse import unquote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from p2prss.serve.responses import guarded_headers, plain
from p2prss.serve.server import MAX_BODY_BYTES

METHODS: Final = "GET, HEAD, OPTIONS"

BASE_URL: Final = "p2prss.base_url"
"""Where in the scope the guard leaves what all absolute URLs of the answer start with."""


_SLASHES: Final = re.compile(r"/{2,}")
_FILE_AND_SLASH: Final = re.compile(
    r"(.*/feeds/[^/]+/(?:feed\.xml|episodes/.+|assets/.+)|.*/(?:everything|opml)\.xml)/", re.DOTALL
)


class Place(NamedTuple):
    """What a request is for: ``path`` is the path inside of the application."""

    base_url: str  # of all URLs of the answer, without a slash at the end
    path: str


FindPlace = Callable[[Scope], Place | Response]
"""Where a request belongs, or the answer that turns it away."""


class Guard:
    """Turns away what no route may see, and puts the security headers on every answer.

    Args: accepts: whether a request with another method than ``METHODS`` may pass.
    """

    def __init__(
        self, app: ASGIApp, find_place: FindPlace, accepts: Callable[[Scope], bool] = lambda _: False
    ) -> None:
        self._app = app
        self._find_place = find_place
        self._accepts = accepts

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

        scope = _plain_path(_origin_form(_without_fragment(scope)))
        asked = Headers(scope=scope)
        place = self._find_place(scope)
        if scope["http_version"] not in ("1.0", "1.1"):
            answer: ASGIApp = plain(505, "this server speaks HTTP/1.1", connection="close")
        elif "content-length" in asked and "transfer-encoding" in asked:
            answer = plain(400, "two lengths of one body", connection="close")
        elif int(asked.get("content-length", "0")) > MAX_BODY_BYTES:
            answer = plain(413, "this body is too large", connection="close")
        elif isinstance(place, Response):
            answer = place
        else:
            answer = self._app
            scope = {**scope, "path": place.path, BASE_URL: place.base_url}
            if scope["method"] not in METHODS.split(", ") and not self._accepts(scope):
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


def _without_fragment(scope: Scope) -> Scope:
    """A request as it should have been sent: what follows a ``#`` is for the client alone."""
    path, sign, _ = scope.get("raw_path", b"").partition(b"#")
    return {**scope, "path": unquote(path.decode("latin-1"))} if sign else scope


def _plain_path(scope: Scope) -> Scope:
    """The path as it was meant by who put it together carelessly: with single slashes, and none behind
    a file of a feed."""
    path = _SLASHES.sub("/", scope["path"])
    found = _FILE_AND_SLASH.fullmatch(path)
    return {**scope, "path": found[1] if found else path}


def host_of(scope: Scope) -> str | None:
    """The Host of a request; without one (HTTP/1.0, so no browser) the address it came in by."""
    host = Headers(scope=scope).get("host")
    if host is not None or not scope.get("server"):
        return host
    address, port = scope["server"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
