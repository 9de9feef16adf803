"""The HTTP application for phones on the local network: single feeds, by paths that nobody guesses."""

from collections.abc import Collection
from ipaddress import ip_address

from starlette.responses import Response
from starlette.types import ASGIApp, Scope

from p2prss.serve.app import make_starlette
from p2prss.serve.feed_routes import FeedRoutes
from p2prss.serve.guard import Guard, Place, host_of
from p2prss.serve.lan_access import LanAccess, is_local
from p2prss.serve.library import Library, ServeSettings
from p2prss.serve.responses import plain


def create_lan_app(
    library: Library, settings: ServeSettings, access: LanAccess, names: Collection[str]
) -> ASGIApp:
    """The application over ``library``.

    Args: names: host names in lower case that this machine has on the network, besides its addresses.
    """

    def find_place(scope: Scope) -> Place | Response:
        client = scope["client"][0] if scope.get("client") else ""
        if not is_local(client):
            return plain(403, "this server is for the local network", connection="close")
        host = host_of(scope) or ""
        if not _is_ours(host, names):
            return plain(421, "this server does not answer to that host name")
        opened = access.open(scope["path"])
        if opened is None:
            return plain(404, "not found")
        authority = host.lower().rstrip(":")
        return Place(f"{scope['scheme']}://{authority}{opened.prefix}", opened.inner)

    return Guard(make_starlette(FeedRoutes(library, settings).table()), find_place)


def _is_ours(authority: str, names: Collection[str]) -> bool:
    """Whether a Host is a name of ours or a local address; no page elsewhere has such a one."""
    host, colon, port = authority.rpartition(":")
    if not colon or (port and not port.isdecimal()):
        host = authority
    host = host.lower().rstrip(".").strip("[]")
    if host in names or host == "localhost":  # by a forwarded port, as of a phone on a cable
        return True
    try:
        return is_local(str(ip_address(host)))
    except ValueError:
        return False
