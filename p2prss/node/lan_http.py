"""The second HTTP server of a node: for phones on the local network."""

import errno
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from p2prss.crypto.keys import CoreKey
from p2prss.errors import NetworkError
from p2prss.net.lan.host_name import host_label, keep_host_name, local_addresses
from p2prss.net.lan.interfaces import local_interfaces
from p2prss.node.page_token import read_token
from p2prss.serve.lan_access import LanAccess
from p2prss.serve.qr import qr_terminal
from p2prss.serve.subscribe_links import HONEST_LINE, subscribe_links

if TYPE_CHECKING:
    from p2prss.node.node import Node

DEFAULT_LAN_PORT: Final = 7739
ONE_TAP_LINKS: Final = 2  # of the links that open an app, shown in a terminal


@dataclass(frozen=True, slots=True)
class LanHttp:
    """Where phones reach this node. ``host`` is a name that stays, ``address`` works without multicast."""

    access: LanAccess
    host: str
    address: str | None
    port: int

    def feed_url(self, key: CoreKey) -> str:
        """A feed's address by the name that stays."""
        return f"http://{self.host}:{self.port}{self.access.feed_path(key)}"

    def plain_feed_url(self, key: CoreKey) -> str | None:
        """The same by this machine's present address, for phones that look no names up; None without one."""
        return f"http://{self.address}:{self.port}{self.access.feed_path(key)}" if self.address else None


async def start_lan_http(node: "Node", port: int, nursery: trio.Nursery, shutdown: trio.Event) -> LanHttp:
    """Serve phones from now on. Raises: NetworkError when the port is taken; StorageError."""
    from p2prss.serve.lan_app import create_lan_app
    from p2prss.serve.server import bind_tcp, serve_http

    secret = await trio.to_thread.run_sync(read_token, node.settings.home.lan_secret)
    sockets = await trio.to_thread.run_sync(_bind, port, bind_tcp)
    port = sockets[0].getsockname()[1]
    label = host_label()
    access = LanAccess(secret.encode())
    app = create_lan_app(node.library, node.settings.serving, access, {f"{label}.local"})
    await nursery.start(partial(serve_http, shutdown=shutdown, shield=True), app, sockets)
    nursery.start_soon(keep_host_name, label, port)
    addresses = local_addresses(await trio.to_thread.run_sync(local_interfaces))
    four = next((one for one in addresses if ":" not in one), None)
    return LanHttp(access, f"{label}.local", four, port)


def phone_lines(lan_url: str, plain_url: str | None, *, with_qr: bool) -> list[str]:
    """What to tell a person at a terminal about reaching a feed from a phone."""
    lines = [f"for a phone on this network: {lan_url}"]
    if plain_url is not None:
        lines.append(f"if the phone does not find that name: {plain_url}")
    lines += [f"one tap, {link.app}: {link.url}" for link in subscribe_links(lan_url)[:ONE_TAP_LINKS]]
    lines.append(HONEST_LINE)
    if with_qr:
        lines.append(qr_terminal(lan_url))
    return lines


def _bind(port: int, bind: Callable[[str, int], list[socket.socket]]) -> list[socket.socket]:
    """Every address of this machine: who may use it is looked at for each connection."""
    try:
        bound = bind("0.0.0.0", port)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NetworkError(
                f"port {port} is taken; give another with --lan-http-port, and keep it: apps remember it"
            ) from error
        raise NetworkError(f"phones cannot be served on port {port}: {error.strerror or error}") from error
    with suppress(OSError):  # a machine without IPv6
        bound += bind("::", bound[0].getsockname()[1])
    return bound
