"""How a node is reached and where it keeps its data, checked before anything is opened."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from p2prss.errors import UsageError
from p2prss.net.address import Address
from p2prss.node.home_paths import HomePaths
from p2prss.serve.hosts import parse_host, parse_public_url
from p2prss.serve.library import ServeSettings
from p2prss.serve.proxies import parse_network

DEFAULT_HTTP: Final = Address("127.0.0.1", 7737)


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """``lan`` finds peers by key on the local network, ``dht`` everywhere, beginning at ``bootstrap``.

    The command line asks for both; who imports us says so, for they reach beyond this machine.

    ``udp_port`` is the one of the DHT and of the peers found there; None: any free one.

    ``map_port`` has the router forward the ports that peers come to.

    ``http`` None means that podcast apps are not served.

    With ``http_may_move`` (nobody asked for the port by name) a busy port is replaced by a free one.

    ``serving`` is how podcast apps are served; the host of ``http`` is allowed in any case. ``lan_http`` is
    the port for phones on the local network; None: they are not served.
    """

    home: HomePaths
    listen: tuple[Address, ...] = ()
    peers: tuple[Address, ...] = ()
    bootstrap: tuple[Address, ...] = ()  # of the DHT; empty means the public ones
    dht: bool = False
    lan: bool = False
    udp_port: int | None = None
    map_port: bool = False
    http: Address | None = DEFAULT_HTTP
    http_may_move: bool = True
    serving: ServeSettings = field(default_factory=ServeSettings)
    lan_http: int | None = None

    @classmethod
    def of(
        cls,
        *,
        home: Path | None,
        listen: Iterable[str] = (),
        peers: Iterable[str] = (),
        bootstrap: Iterable[str] = (),
        dht: bool = False,
        lan: bool = False,
        udp_port: int | None = None,
        map_port: bool = False,
        http: str | None = None,
        no_http: bool = False,
        http_hosts: Iterable[str] = (),
        public_url: str | None = None,
        trusted_proxies: Iterable[str] = (),
        ready_only: bool = False,
        lan_http: int | None = None,
    ) -> "NodeSettings":
        """Settings from texts.

        Raises: UsageError for an address, a host name or a URL that is none, or a UDP port without the DHT.
        """
        if udp_port is not None and not dht:
            raise UsageError("--udp-port is the port of the DHT, which --no-dht leaves out: drop one of them")
        return cls(
            home=HomePaths.find(home),
            listen=tuple(Address.parse(text, default_host="0.0.0.0") for text in listen),
            peers=tuple(Address.parse(text) for text in peers),
            bootstrap=tuple(Address.parse(text) for text in bootstrap),
            dht=dht,
            lan=lan,
            udp_port=udp_port,
            map_port=map_port,
            http=None if no_http else Address.parse(http) if http else DEFAULT_HTTP,
            http_may_move=http is None,
            serving=ServeSettings(
                allowed_hosts=frozenset(map(parse_host, http_hosts)),
                public_url=parse_public_url(public_url) if public_url is not None else None,
                trusted_proxies=tuple(map(parse_network, trusted_proxies)),
                ready_only=ready_only,
            ),
            lan_http=lan_http,
        )
