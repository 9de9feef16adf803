"""Direct TCP links: listening, dialling and dialling again.

Compatible with a JavaScript ``net.Socket`` piped into ``store.replicate()``. The side that dials is
the initiator of the Noise handshake.
"""

import errno
import os
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Final

import trio

from p2prss.errors import NetworkError, P2prssError
from p2prss.net.address import Address

CONNECT_TIMEOUT: Final = 10.0  # seconds
FIRST_RETRY: Final = 0.5  # seconds, doubled after each failure
LONGEST_RETRY: Final = 10.0  # seconds; a listener may wait for this peer, and a try costs one packet
STEADY_AFTER: Final = 10.0  # seconds a link must have lasted for the next retry to be quick again
MAX_LINKS: Final = 256  # accepted connections of a listener at once; the exchange bounds their memory
LISTEN_BACKLOG: Final = 128
ACCEPT_PAUSE: Final = 0.1  # seconds to wait when the process is out of file descriptors

UseStream = Callable[[trio.SocketStream, bool, str], Awaitable[None]]
"""Runs a connected stream to its end: (stream, we are the initiator, label)."""


async def open_listeners(address: Address) -> list[trio.SocketListener]:
    """Bind the address.

    Raises: NetworkError naming the address and the system's reason.
    """
    try:
        return await trio.open_tcp_listeners(address.port, host=address.host, backlog=LISTEN_BACKLOG)
    except OSError as error:
        raise NetworkError(f"cannot listen on {address}: {error.strerror or error}") from error


def bound_address(listener: trio.SocketListener) -> Address:
    """The address a listener really has, with the port the system chose."""
    host, port, *_ = listener.socket.getsockname()
    return Address(host, port)


async def serve_listener(listener: trio.SocketListener, use: UseStream, nursery: trio.Nursery) -> None:
    """Accept peers for ever; beyond ``MAX_LINKS`` a newcomer is turned away at once."""
    limit = trio.CapacityLimiter(MAX_LINKS)

    async def run(stream: trio.SocketStream) -> None:
        try:
            host, port, *_ = stream.socket.getpeername()
            await use(stream, False, str(Address(host, port)))
        except OSError:
            pass  # the peer was gone before it could be greeted
        finally:
            await trio.aclose_forcefully(stream)
            limit.release_on_behalf_of(stream)

    async with listener:
        while True:
            try:
                stream = await listener.accept()
            except OSError as error:
                if error.errno not in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    raise
                await trio.sleep(ACCEPT_PAUSE)
                continue
            try:
                limit.acquire_on_behalf_of_nowait(stream)
            except trio.WouldBlock:
                await trio.aclose_forcefully(stream)
                continue
            nursery.start_soon(run, stream)


@dataclass
class Dialer:
    """Keeps a link to one address: dials, and dials again with growing pauses when it ends."""

    address: Address
    use: UseStream
    random: Random
    failure: str | None = None  # why there is no link at present; None while there is one

    async def run(self) -> None:
        """Never returns; errors of the link are kept in ``failure``."""
        pause = FIRST_RETRY
        while True:
            started = trio.current_time()
            try:
                stream = await connect(self.address)
                self.failure = None
                await self.use(stream, True, str(self.address))
                self.failure = "the peer ended the connection"
            except P2prssError as error:
                self.failure = str(error)
            if trio.current_time() - started > STEADY_AFTER:
                pause = FIRST_RETRY
            await trio.sleep(pause * self.random.uniform(0.75, 1.25))
            pause = min(2 * pause, LONGEST_RETRY)


async def connect(address: Address) -> trio.SocketStream:
    """One attempt. Raises: NetworkError naming the address and the system's reason."""
    try:
        with trio.fail_after(CONNECT_TIMEOUT):
            stream = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, trio.TooSlowError) as error:
        reason = "no answer" if isinstance(error, trio.TooSlowError) else _words(error)
        raise NetworkError(f"cannot connect to {address}: {reason}") from error
    stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return stream


def _words(error: OSError) -> str:
    """The system's reason; trio sums up what became of each address of a name."""
    cause = error.__cause__
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    known = cause if isinstance(cause, OSError) else error
    if isinstance(known, socket.gaierror) or not known.errno:
        return (known.strerror or str(error).split("\n", 1)[0]).lower()
    return os.strerror(known.errno).lower()
