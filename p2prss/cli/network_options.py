"""The options of a node's network side, for every command that runs one."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from p2prss.cli.options import (
    DEFAULT_LAN_PORT,
    Bootstrap,
    Http,
    HttpHost,
    LanHttp,
    LanHttpPort,
    Listen,
    MapPort,
    NoDht,
    NoHttp,
    NoLan,
    Peer,
    PublicUrl,
    ReadyOnly,
    TrustProxy,
    UdpPort,
)

if TYPE_CHECKING:
    from p2prss.node.settings import NodeSettings

PEERS: Final = ("listen", "peer", "bootstrap", "no_dht", "no_lan", "udp_port", "map_port")
APPS: Final = (
    *("http", "no_http", "public_url", "trust_proxy", "http_host", "ready_only", "lan_http", "lan_http_port"),
)


@dataclass(frozen=True, slots=True)
class NetworkOptions:
    """How a node is reached, as the user wrote it."""

    listen: Listen = None
    peer: Peer = None
    bootstrap: Bootstrap = None
    no_dht: NoDht = False
    no_lan: NoLan = False
    udp_port: UdpPort = None
    map_port: MapPort = False
    http: Http = None
    no_http: NoHttp = False
    public_url: PublicUrl = None
    trust_proxy: TrustProxy = None
    http_host: HttpHost = None
    ready_only: ReadyOnly = False
    lan_http: LanHttp = False
    lan_http_port: LanHttpPort = DEFAULT_LAN_PORT

    def settings(self, home: Path | None) -> "NodeSettings":
        """Checked. Raises: UsageError for an address, a host name or a URL that is none."""
        from p2prss.node.settings import NodeSettings

        return NodeSettings.of(
            home=home,
            listen=self.listen or (),
            peers=self.peer or (),
            bootstrap=self.bootstrap or (),
            dht=not self.no_dht,
            lan=not self.no_lan,
            udp_port=self.udp_port,
            map_port=self.map_port,
            http=self.http,
            no_http=self.no_http,
            http_hosts=self.http_host or (),
            public_url=self.public_url,
            trusted_proxies=self.trust_proxy or (),
            ready_only=self.ready_only,
            lan_http=self.lan_http_port if self.lan_http else None,
        )


def with_network(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command these options of ``NetworkOptions``, which it gets as its argument ``network``."""

    def wrap(command: Callable[..., None]) -> Callable[..., None]:
        def run(**given: Any) -> None:
            options = {name: given.pop(name) for name in names}
            command(network=NetworkOptions(**options), **given)

        known = {field.name: field for field in fields(NetworkOptions)}
        own = [one for one in inspect.signature(command).parameters.values() if one.name != "network"]
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=known[name].default,
                annotation=known[name].type,
            )
            for name in names
        ]
        own = [one.replace(kind=inspect.Parameter.KEYWORD_ONLY) for one in own]
        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]  # for typer
        run.__annotations__ = {one.name: one.annotation for one in [*own, *added]}
        return run

    return wrap
