"""Live progress as server-sent events: what has changed between two looks at the library.

There is no queue that could run over: each listener is sent what differs from what it was sent last, and
one that reads slowly is looked after less often. A new connection is told of every show, so that
whoever comes back is up to date. The events say nothing that the page does not show.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import trio
from starlette.types import Message, Receive, Scope, Send

from p2prss.crypto.key_text import format_key
from p2prss.serve.actions import HomeActions
from p2prss.serve.library import Library, ServedFeed
from p2prss.serve.media import cancel_on_disconnect
from p2prss.serve.responses import unavailable
from p2prss.serve.views import count, display_text, format_bytes, sentence, work_text

MAX_LISTENERS: Final = 32  # pages and programs that listen at the same time
LOOK_SECONDS: Final = 0.5  # between looks at the library
PING_SECONDS: Final = 15.0  # without news before a sign of life, so that a dead connection is noticed
RETRY_MILLISECONDS: Final = 2000  # before a browser connects again


class ShowEvent(msgspec.Struct, frozen=True):
    """The state of a show. ``text`` and ``peers_text`` are as they stand on the page."""

    key: str
    title: str
    peers: int
    peers_text: str
    version: int  # changes when episodes do
    text: str = ""
    done: int | None = None  # of the present work, in ``unit``
    total: int | None = None
    unit: str | None = None
    stored_bytes: int = 0
    stored_text: str = ""
    problem: str | None = None


class Live:
    """All listeners of one server."""

    def __init__(self, library: Library, actions: HomeActions | None) -> None:
        self._library = library
        self._actions = actions
        self._listeners = 0
        self._seen: tuple[float, Mapping[str, ShowEvent]] | None = None

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events for as long as the client listens; 503 when too many do."""
        if self._listeners >= MAX_LISTENERS:
            await unavailable("too many pages are open")(scope, receive, send)
            return
        self._listeners += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel_on_disconnect, receive, nursery.cancel_scope)
                await self._tell(scope, send)
                nursery.cancel_scope.cancel()
            # Only here, as the server says "disconnect" while it ends an answer.
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._listeners -= 1

    async def _tell(self, scope: Scope, send: Send) -> None:
        start: Message = {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream"),
                (b"cache-control", b"no-store"),
                (b"x-accel-buffering", b"no"),  # nginx: pass each event on as it comes
            ],
        }
        await send(start)
        if scope["method"] == "HEAD":
            return
        told: Mapping[str, ShowEvent] = {}
        data = f"retry: {RETRY_MILLISECONDS}\n\n".encode()
        told_at = trio.current_time()
        while self._actions is None or not self._actions.ending:
            now = self._look()
            data += changes(told, now)
            told = now
            if not data and trio.current_time() - told_at >= PING_SECONDS:
                data = b": here\n\n"
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
                told_at, data = trio.current_time(), b""
            await trio.sleep(LOOK_SECONDS)

    def _look(self) -> Mapping[str, ShowEvent]:
        """The state of all shows; listeners share a look."""
        now = trio.current_time()
        if self._seen is None or now - self._seen[0] >= LOOK_SECONDS / 2:
            shows = [self._show(feed) for feed in self._library.feeds()]
            self._seen = now, {show.key: show for show in shows}
        return self._seen[1]

    def _show(self, feed: ServedFeed) -> ShowEvent:
        state = self._actions.state(feed.key) if self._actions is not None else None
        work = state.work if state else None
        stored = state.stored_bytes if state else 0
        return ShowEvent(
            key=format_key(feed.key),
            title=display_text(feed.title),
            peers=feed.peers,
            peers_text=count(feed.peers, "peer"),
            version=feed.archive.version,
            text=work_text(work),
            done=work.done if work else None,
            total=work.total if work else None,
            unit=work.unit if work else None,
            stored_bytes=stored,
            stored_text=format_bytes(stored),
            problem=sentence(state.problem) if state and state.problem else None,
        )


def changes(before: Mapping[str, ShowEvent], now: Mapping[str, ShowEvent]) -> bytes:
    """The events that lead from one look to the next: ``show`` with its state, ``removed`` with its key."""
    parts = [_event("show", show) for key, show in now.items() if before.get(key) != show]
    parts += [_event("removed", {"key": key}) for key in before if key not in now]
    return b"".join(parts)


def _event(name: str, data: object) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode(data))
