"""Options that several commands share, declared once."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_HTTP: Final = "127.0.0.1:7737"
DEFAULT_LAN_PORT: Final = 7739

_PEERS: Final = "Peers"
_APPS: Final = "Podcast apps"

Listen = Annotated[
    list[str] | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help="Accept peers on this TCP address; port 0: any free one.",
        rich_help_panel=_PEERS,
    ),
]
Peer = Annotated[
    list[str] | None,
    typer.Option(
        "--peer", metavar="HOST:PORT", help="Connect to this peer; repeatable.", rich_help_panel=_PEERS
    ),
]
Bootstrap = Annotated[
    list[str] | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Use the DHT that this node is part of, not the public one; repeatable.",
        rich_help_panel=_PEERS,
    ),
]
NoDht = Annotated[
    bool, typer.Option("--no-dht", help="Don't look for peers in the DHT.", rich_help_panel=_PEERS)
]
NoLan = Annotated[
    bool, typer.Option("--no-lan", help="Don't look for peers on the local network.", rich_help_panel=_PEERS)
]
UdpPort = Annotated[
    int | None,
    typer.Option(
        "--udp-port",
        metavar="PORT",
        min=0,
        max=65535,
        help="UDP port of the DHT and of the peers found there, to be opened in a firewall or forwarded by "
        "a router, as in --udp-port 49737; default: any free one.",
        rich_help_panel=_PEERS,
    ),
]
MapPort = Annotated[
    bool,
    typer.Option(
        "--map-port",
        help="Ask the router to forward the ports that peers come to (NAT-PMP; UPnP with p2prss[upnp]).",
        rich_help_panel=_PEERS,
    ),
]
Http = Annotated[
    str | None,
    typer.Option(
        "--http",
        metavar="HOST:PORT",
        help=f"Serve podcast apps here; default {DEFAULT_HTTP}.",
        rich_help_panel=_APPS,
    ),
]
NoHttp = Annotated[bool, typer.Option("--no-http", help="Don't serve podcast apps.", rich_help_panel=_APPS)]
PublicUrl = Annotated[
    str | None,
    typer.Option(
        "--public-url",
        metavar="URL",
        help="Base of all addresses in feeds, where a reverse proxy stands in front: https://example.org/pods.",
        rich_help_panel=_APPS,
    ),
]
TrustProxy = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-proxy",
        metavar="ADDR[/NET]",
        help="Believe X-Forwarded-Host, -Proto, -Prefix and Forwarded from this address; repeatable.",
        rich_help_panel=_APPS,
    ),
]
HttpHost = Annotated[
    list[str] | None,
    typer.Option(
        "--http-host",
        metavar="NAME",
        help="Answer apps that use this name or address for this machine, too; repeatable.",
        rich_help_panel=_APPS,
    ),
]
ReadyOnly = Annotated[
    bool,
    typer.Option(
        "--ready-only",
        help="List only episodes whose audio is here, for apps that don't wait.",
        rich_help_panel=_APPS,
    ),
]
LanHttp = Annotated[
    bool,
    typer.Option(
        "--lan-http",
        help="Serve phones on the local network, too, by addresses nobody guesses.",
        rich_help_panel=_APPS,
    ),
]
LanHttpPort = Annotated[
    int,
    typer.Option(
        "--lan-http-port", metavar="PORT", min=0, max=65535, help="The port for that.", rich_help_panel=_APPS
    ),
]
Once = Annotated[bool, typer.Option("--once", help="End when everything wanted is here.")]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=1,
        help="With --once: give up after so long without anything new; default 30 without a peer, else 120.",
    ),
]
Latest = Annotated[
    int | None, typer.Option("--latest", min=0, metavar="N", help="Media of the newest N only.")
]
All = Annotated[bool, typer.Option("--all", help="Media of every episode.")]
FeedArgument = Annotated[
    str, typer.Argument(metavar="FEED", help="A key, a link, or the feed's short name as in `p2prss list`.")
]
OptionalFeed = Annotated[
    str | None,
    typer.Argument(metavar="[FEED]", help="A key, a link, or the feed's short name; else all feeds."),
]


class RemovedChoice(StrEnum):
    """The values of --removed: those of ``feed.archive.records.RemovedPolicy``, which is slow to import."""

    KEEP = "keep"
    HIDE = "hide"
    PURGE = "purge"


Removed = Annotated[
    RemovedChoice | None,
    typer.Option(
        "--removed",
        metavar="keep|hide|purge",
        help="Episodes that left the origin's feed: keep serves them, hide keeps them unserved, purge deletes"
        " those that were taken out. It stays so until another is asked for.",
    ),
]
At = Annotated[
    str | None,
    typer.Option("--at", metavar="DATE", help="As it was then: a day as 2025-01-31, or a time of that day."),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder; made if it is not there.")]
