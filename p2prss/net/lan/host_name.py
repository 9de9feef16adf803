"""A name of our own on the local network, ``p2prss-<name>.local``, that stays when addresses change."""

import re
import socket
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import trio

from p2prss.errors import NetworkError
from p2prss.net.lan.interfaces import MAX_ADDRESSES, Interfaces, local_interfaces, on_link

if TYPE_CHECKING:
    from p2prss.net.lan.publication import Publication

LOOK_SECONDS: Final = 15.0  # between looks at our addresses
CLOSE_SECONDS: Final = 2.0  # for saying goodbye
MAX_NAME_LENGTH: Final = 40  # characters; a DNS label has 63


def host_label(name: str | None = None) -> str:
    """``p2prss-<name>``, from this machine's name unless another one is given; a DNS label."""
    text = unicodedata.normalize("NFKD", name or socket.gethostname().partition(".")[0])
    label = re.sub(r"[^a-z0-9]+", "-", text.encode("ascii", "ignore").decode().lower())
    return f"p2prss-{label[:MAX_NAME_LENGTH].strip('-') or 'node'}"


def local_addresses(interfaces: Interfaces) -> list[str]:
    """Our addresses on local networks, IPv4 first."""
    ips = [
        str(one.ip).partition("%")[0]
        for one in interfaces
        if not (one.ip.version == 6 and one.ip.is_link_local)
    ]
    return sorted((ip for ip in ips if on_link(ip, interfaces)), key=lambda ip: ":" in ip)[:MAX_ADDRESSES]


async def keep_host_name(label: str, port: int) -> None:
    """Answer for ``label``.local with our present addresses; never returns.

    A network that does not let us is tried again and again: the name is a convenience.
    """
    while True:
        addresses = await trio.to_thread.run_sync(_addresses)
        publication = None
        if addresses:
            with suppress(NetworkError):
                publication = await trio.to_thread.run_sync(_publish, label, port, addresses)
        try:
            await _wait_changed(addresses if publication is not None else None)
        finally:
            if publication is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CLOSE_SECONDS):
                    await trio.to_thread.run_sync(publication.close, abandon_on_cancel=True)


async def _wait_changed(addresses: list[str] | None) -> None:
    """Wait for a while, and for as long as we have these addresses."""
    while True:
        await trio.sleep(LOOK_SECONDS)
        if await trio.to_thread.run_sync(_addresses) != addresses:
            return


def _addresses() -> list[str]:
    return local_addresses(local_interfaces())


def _publish(label: str, port: int, addresses: list[str]) -> "Publication":
    from p2prss.net.lan.publication import Publication  # zeroconf loads slowly

    return Publication(label, port, addresses)
