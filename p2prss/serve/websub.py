"""Where hubs call: ``/websub/<token>``, in front of the application and its guard.

Hubs are strangers and come by any host name; who knows the token of a subscription is believed to be one
as far as a look at the source goes, and no further. What has no such token is the application's.
"""

import re
from collections.abc import Mapping
from typing import Final, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from p2prss.serve.responses import plain
from p2prss.units import MIB

MAX_NOTIFICATION_BYTES: Final = 25 * MIB  # of a body, which is hashed and forgotten
_PATH: Final = re.compile(r"(?:/[^/]+)*/websub/([A-Za-z0-9_-]{20,64})")

_NO_PAGE: Final = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; sandbox",
}


class HubCalls(Protocol):
    """Takes the calls of one subscription."""

    def verify(self, query: str) -> str | None:
        """What to answer to a hub that checks who wanted this; None for 404."""

    def notify(self, headers: Mapping[str, str], body: bytes) -> None:
        """Hear that there is something new, if that is true."""


class HubDoor:
    """The application behind the doors for hubs; ``calls`` are by token, and may come and go."""

    def __init__(self, app: ASGIApp, calls: Mapping[str, HubCalls]) -> None:
        self._app = app
        self._calls = calls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = _PATH.fullmatch(scope["path"]) if scope["type"] == "http" else None
        calls = self._calls.get(found[1]) if found else None
        if calls is None:
            await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer: Response = plain(405, "method not allowed", allow="GET, POST")
        if request.method == "GET":
            challenge = calls.verify(request.url.query)
            if challenge is None:
                answer = plain(404, "not found")
            else:  # to the letter; whoever calls chooses it, so no browser may take it for a page
                answer = Response(challenge, media_type="text/plain", headers=_NO_PAGE)
        elif request.method == "POST":
            body = await _body(request)
            if body is None:
                answer = plain(413, "this body is too large", connection="close")
            else:
                calls.notify(request.headers, body)
                answer = plain(202, "heard")  # whatever it was: a forger learns nothing
        await answer(scope, receive, send)


async def _body(request: Request) -> bytes | None:
    found = bytearray()
    try:
        async for piece in request.stream():
            found += piece
            if len(found) > MAX_NOTIFICATION_BYTES:
                return None
    except ClientDisconnect:
        return None
    return bytes(found)
