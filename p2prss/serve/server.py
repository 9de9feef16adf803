"""Running the application: Hypercorn's connections on trio, inside limits of ours.

Hypercorn speaks HTTP; the sockets stay in our hands. It shields every send from cancellation, so a
player that pauses, and reads no further, could hold up the end of the program for ever. Each
connection therefore runs over a ``_GuardedStream``, which gives up on a stalled client and can be
broken off at any time.

Shutting down: no new connections; idle ones end at once, answers that are on their way get
``GRACE_SECONDS``, then the rest is broken off.
"""

import logging
import math
import socket
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from http import HTTPStatus
from typing import Any, Final, cast

import h11
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import wrap_app
from starlette.types import ASGIApp

from p2prss.units import KIB, MIB

MAX_CONNECTIONS: Final = 512  # at the same time; each costs a file descriptor and up to 1 MiB
MAX_HEADER_BYTES: Final = 16 * KIB  # of a request line and its headers
MAX_BODY_BYTES: Final = 1 * MIB  # of a request, as it comes; kept until the application reads it
MAX_REQUESTS_PER_CONNECTION: Final = 1000
KEEP_ALIVE_SECONDS: Final = 15.0  # between requests, and for the headers of one to arrive
SEND_STALL_SECONDS: Final = 300.0  # without a piece read by the client; a paused player reconnects
STALLED_SECONDS: Final = 30.0  # likewise, while there are too many connections
GRACE_SECONDS: Final = 3.0  # for running answers when the server ends
BACKLOG: Final = 128  # connections waiting to be accepted

_HEADER_NAMES: Final = {b"etag": b"ETag"}  # where it is not as ``title`` makes it

logger = logging.getLogger(__name__)


def bind_tcp(host: str, port: int) -> list[socket.socket]:
    """Sockets bound to every address of ``host``, all with the same port; 0 picks a free one.

    Raises: OSError when the host is unknown, or an address in use or not ours.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            one = socket.socket(family, kind, protocol)
            bound.append(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            one.bind((address[0], bound[0].getsockname()[1] or port, *address[2:]))
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


async def serve_http(
    app: ASGIApp,
    sockets: Sequence[socket.socket],
    *,
    shutdown: trio.Event | None = None,
    shield: bool = False,
    task_status: trio.TaskStatus[list[tuple[str, int]]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until ``shutdown`` is set, gracefully, or until cancelled, at once.

    Args: sockets: bound, and closed on return; shield: only ``shutdown`` ends it, no cancellation;
        task_status: is told the real addresses once connections are accepted.
    """
    with ExitStack() as closing, trio.CancelScope(shield=shield):
        for one in sockets:
            closing.callback(one.close)
            one.setblocking(False)
            one.listen(BACKLOG)
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(one)) for one in sockets]
        connections = _Connections(app)
        async with trio.open_nursery() as all_of_it:
            all_of_it.start_soon(connections.break_off_when_cancelled)
            async with trio.open_nursery() as answering:
                async with trio.open_nursery() as accepting:
                    accepting.start_soon(
                        partial(trio.serve_listeners, connections.serve, listeners, handler_nursery=answering)
                    )
                    task_status.started([one.getsockname()[:2] for one in sockets])
                    await (trio.Event() if shutdown is None else shutdown).wait()
                    accepting.cancel_scope.cancel()
                await connections.end_idle()
                all_of_it.cancel_scope.deadline = trio.current_time() + GRACE_SECONDS
            all_of_it.cancel_scope.cancel()


class _Connections:
    """All connections of one server.

    When there are too many, one of no use gives way to the new one: the oldest that has sent no request
    yet, else the oldest between two requests, else one whose client has not read for ``STALLED_SECONDS``.
    So nobody can shut out the players by opening connections and holding them.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = wrap_app(cast(Any, app), 0, "asgi")
        self._config = _config()
        self._context = WorkerContext(None)
        self._open: dict[_GuardedStream, _Http1Server] = {}  # the oldest first

    async def serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one client."""
        if len(self._open) >= MAX_CONNECTIONS and not self._make_room():
            logger.warning("more than %d connections: turned one away", MAX_CONNECTIONS)
            await trio.aclose_forcefully(stream)
            return
        guarded = _GuardedStream(stream)
        server = _Http1Server(self._app, self._config, self._context, ConnectionState({}), cast(Any, guarded))
        self._open[guarded] = server
        try:
            await server
        except Exception:  # whatever one client provokes is no reason to end the program
            logger.exception("a connection failed")
        finally:
            self._open.pop(guarded, None)
            guarded.break_off()

    def _make_room(self) -> bool:
        """Break off a connection of no use; whether there was one."""
        idle = [one for one, server in self._open.items() if server.is_idle]
        newcomers = [one for one in idle if not self._open[one].has_answered]
        stalled = [one for one in self._open if one.is_stalled]
        useless = next(iter([*newcomers, *idle, *stalled]), None)
        if useless is None:
            return False
        del self._open[useless]
        useless.break_off()
        return True

    async def end_idle(self) -> None:
        """End connections between two requests now, the others after the answer they are at."""
        await self._context.terminated.set()

    async def break_off_when_cancelled(self) -> None:
        """Break off all connections when cancelled: a cancellation alone does not reach their sends."""
        try:
            await trio.sleep_forever()
        finally:
            for one in tuple(self._open):
                one.break_off()


class _Http1Protocol(H11Protocol):
    """HTTP/1.1, without upgrades, and with a bound on what comes while a request is answered.

    Hypercorn hands a body to the application through a queue. With a full one whoever fills it waits,
    and when the application has ended without reading, for ever: so the queue is unbounded, and the
    bytes are bounded here.

    The head of an answer is written as the usual servers do it. Names of headers may come in any case,
    and a status without its phrase, but mpg321 for one knows no other than ``Content-Type``.
    """

    _body_bytes = 0  # since the last request began

    async def handle(self, event: Event) -> None:
        """Take bytes of the client, or the end of the connection."""
        if isinstance(event, RawData):
            self._body_bytes = 0 if self.stream is None else self._body_bytes + len(event.data)
            if self._body_bytes > MAX_BODY_BYTES:
                await self.send(Closed())
                return
        await super().handle(event)

    async def _send_h11_event(self, event: Any) -> None:
        if isinstance(event, h11.Response):
            named = [(_HEADER_NAMES.get(name, name.title()), value) for name, value in event.headers]
            phrase = HTTPStatus(event.status_code).phrase.encode("ascii")
            event = h11.Response(headers=named, status_code=event.status_code, reason=phrase)
        await super()._send_h11_event(event)

    async def _check_protocol(self, event: object) -> None:
        """Stay with HTTP/1.1: an offered upgrade may be ignored (RFC 9110 §7.8)."""


class _Http1Server(TCPServer):
    """A Hypercorn connection that speaks HTTP/1.1 only.

    Over HTTP/2 an answer cannot be broken off: Hypercorn leaves the stream open, and the client waits.
    """

    _http1: H11Protocol | None = None

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, or for the rest of its headers."""
        return self._http1 is None or self._http1.stream is None

    @property
    def has_answered(self) -> bool:
        """Whether there was a request already."""
        return self._http1 is not None and self._http1.keep_alive_requests > 0

    async def _read_data(self) -> None:
        made = self.protocol
        made.protocol = self._http1 = _Http1Protocol(
            made.app,
            made.config,
            made.context,
            made.task_group,
            made.state,
            made.ssl,
            made.client,
            made.server,
            made.send,
        )
        await super()._read_data()


class _GuardedStream:
    """A client's TCP stream with the members Hypercorn uses, and limits to what a client may do."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._sending_since = math.inf
        self.socket = stream.socket

    @property
    def is_stalled(self) -> bool:
        """Whether the client has not read for a while."""
        return trio.current_time() - self._sending_since > STALLED_SECONDS

    async def send_all(self, data: bytes) -> None:
        self._sending_since = trio.current_time()
        with trio.move_on_after(SEND_STALL_SECONDS) as waiting:
            try:
                await self._stream.send_all(data)
            except trio.BusyResourceError:  # the connection is being closed already
                raise trio.BrokenResourceError("the client ended the connection") from None
        self._sending_since = math.inf
        if waiting.cancelled_caught:
            raise trio.BrokenResourceError("the client stopped reading")

    async def receive_some(self, max_bytes: int) -> bytes:
        return bytes(await self._stream.receive_some(max_bytes))

    async def send_eof(self) -> None:
        await self._stream.send_eof()

    async def aclose(self) -> None:
        await self._stream.aclose()

    def break_off(self) -> None:
        """Close it now; whoever waits for it is woken with ClosedResourceError."""
        self.socket.close()


def _config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = logger  # errors of the application, with their traceback: bugs
    config.include_server_header = False
    config.h11_max_incomplete_size = MAX_HEADER_BYTES
    config.max_app_queue_size = cast(int, math.inf)
    config.keep_alive_timeout = KEEP_ALIVE_SECONDS
    config.keep_alive_max_requests = MAX_REQUESTS_PER_CONNECTION
    return config
