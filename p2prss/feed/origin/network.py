"""Connections to origins, below HTTP.

Where they are made, the very address that is connected to is vetted, so neither a redirect nor a name
that resolves differently the second time gets around it. What the user typed may be anywhere, a feed may
only name public addresses.
"""

import ssl
from collections.abc import Iterable
from typing import Any, Final

import httpcore
import trio

from p2prss.errors import PrivateAddressError
from p2prss.feed.origin.access import PrivateHost
from p2prss.feed.origin.address import is_public
from p2prss.units import KIB

READ_SIZE: Final = (
    256 * KIB
)  # bytes asked of a socket at once; httpcore's own 64 KiB cost a fifth of the speed
_ATTEMPT_SECONDS: Final = 10.0  # for one of several addresses of a host


class VettingBackend(httpcore.AsyncNetworkBackend):
    """Makes TCP connections to public addresses, and to private ones of some hosts.

    Args: source: host and port of what the user typed; private_hosts: what else may be private;
    source_was_public: the source's host was on the internet before, so it cannot be at home: a name whose
    owner points it at our network later, to have the feed's files read there.
    """

    def __init__(
        self,
        source: tuple[str, int] | None = None,
        private_hosts: Iterable[PrivateHost] = (),
        *,
        source_was_public: bool = False,
    ) -> None:
        self._source = source
        self._private_hosts = tuple(private_hosts)
        self.source_was_public = source_was_public

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - the interface's; never given
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - as above
    ) -> httpcore.AsyncNetworkStream:
        """Resolve, vet, connect to what was vetted.

        Raises: PrivateAddressError for an address that is not public, httpcore's errors for the rest.
        """
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                raise httpcore.ConnectError("its name cannot be resolved") from error
            addresses = self._vetted(host, port, dict.fromkeys(str(one[4][0]) for one in found))
            return await _connect_to_one_of(addresses, port)
        raise httpcore.ConnectTimeout("it does not answer")

    def _vetted(self, host: str, port: int, addresses: Iterable[str]) -> list[str]:
        """Those of a host's addresses that may be connected to. Raises: PrivateAddressError for none."""
        addresses = list(addresses)
        if any(one.covers(host, port) for one in self._private_hosts):
            return addresses
        public = [one for one in addresses if is_public(one)]
        is_source = (host.lower(), port) == self._source
        if is_source and public:
            self.source_was_public = True
        if public or (is_source and not self.source_was_public):
            return public or addresses
        if is_source:
            raise PrivateAddressError(
                f"{host} was on the internet before and is now on the local network:"
                f" give --allow-private-host {host}:{port} if that is right"
            )
        raise PrivateAddressError(
            f"{host} is an address on the local network: no feed or list may lead there,"
            f" unless --allow-private-host {host}:{port} says so"
        )

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def _connect_to_one_of(addresses: list[str], port: int) -> httpcore.AsyncNetworkStream:
    for address in addresses:
        with trio.move_on_after(_ATTEMPT_SECONDS):
            try:
                return _Stream(await trio.open_tcp_stream(address, port))
            except OSError:
                continue
    raise httpcore.ConnectError("it refuses the connection or does not answer")


class _Stream(httpcore.AsyncNetworkStream):
    """A TCP or TLS stream that is read in large pieces."""

    def __init__(self, stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]) -> None:
        self._stream = stream

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                return bytes(await self._stream.receive_some(max(max_bytes, READ_SIZE)))
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise httpcore.ReadError("the connection broke") from error
        raise httpcore.ReadTimeout("it stopped sending")

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not buffer:
            return
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                await self._stream.send_all(buffer)
                return
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise httpcore.WriteError("the connection broke") from error
        raise httpcore.WriteTimeout("it stopped taking data")

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        assert isinstance(self._stream, trio.SocketStream)
        stream = trio.SSLStream(
            self._stream, ssl_context, server_hostname=server_hostname, https_compatible=True
        )
        with trio.move_on_after(timeout if timeout is not None else float("inf")):
            try:
                await stream.do_handshake()
            except trio.BrokenResourceError as error:
                await self.aclose()
                raise httpcore.ConnectError("no secure connection: " + _cause(error)) from error
            return _Stream(stream)
        await self.aclose()
        raise httpcore.ConnectTimeout("it does not answer")

    def get_extra_info(self, info: str) -> Any:
        socket_stream = (
            self._stream if isinstance(self._stream, trio.SocketStream) else self._stream.transport_stream
        )
        match info:
            case "ssl_object":
                return None  # asked for to find out about HTTP/2, which we do not speak
            case "socket":
                return socket_stream.socket
            case "is_readable":
                return socket_stream.socket.is_readable()
            case _:
                return None


def _cause(error: BaseException) -> str:
    inner = error.__cause__
    return getattr(inner, "verify_message", "") or type(inner or error).__name__
