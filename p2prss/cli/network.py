"""The commands that look after the network: a node of the DHT, and the doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.output import printable

if TYPE_CHECKING:
    from p2prss.node.dht_service import ServiceEvent

DEFAULT_LISTEN = "0.0.0.0:49737"

NodeListen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help=f"UDP address; default {DEFAULT_LISTEN}, or one of the next ports. Port 0: any free one.",
    ),
]
NodeBootstrap = Annotated[
    list[str] | None,
    typer.Option(
        "--bootstrap",
        metavar="HOST:PORT",
        help="Join the network of this node; repeatable. Without it a network of its own begins.",
    ),
]
Public = Annotated[
    str | None,
    typer.Option(
        "--public",
        metavar="HOST:PORT",
        help="Where others reach this node, if its router forwards a port or it has a name.",
    ),
]
MapPort = Annotated[
    bool,
    typer.Option(
        "--map-port",
        help="Ask the router to forward the port while this runs (NAT-PMP; UPnP with p2prss[upnp]).",
    ),
]
Every = Annotated[
    float,
    typer.Option("--statistics", metavar="SECONDS", min=1, help="Time between reports of what it did."),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(node)


def node(
    ctx: typer.Context,
    listen: NodeListen = None,
    bootstrap: NodeBootstrap = None,
    public: Public = None,
    map_port: MapPort = False,
    statistics: Every = 60.0,
) -> None:
    """Run a DHT node, so that a classroom, a ship or a camp has a network of its own.

    On start it prints the option with which all others find it: `--bootstrap HOST:PORT`. It keeps who has
    which feed, in memory; it holds no feeds and needs no home. Run two on different machines, the second
    with `--bootstrap` of the first, and either may fail.

    Without `--bootstrap` it begins a network of its own and **never contacts any public node**. Nodes of the
    public network are asked only if you name them with `--bootstrap`.

    Runs until Ctrl-C or SIGTERM.

    Example: `p2prss node --listen 0.0.0.0:49737`
    """
    context = Context.of(ctx)

    async def main() -> None:
        from p2prss.node.dht_service import DhtServiceSettings, run_dht_service

        settings = DhtServiceSettings.of(
            listen=listen,
            bootstrap=bootstrap or (),
            public=public,
            statistics_seconds=statistics,
            map_port=map_port,
        )
        await run_dht_service(settings, lambda event: _tell(context, event))

    context.run(main)


def _tell(context: Context, event: "ServiceEvent") -> None:
    from p2prss.node.dht_service import Listening, Statistics

    output = context.output
    match event:
        case Listening():
            output.data(event, f"--bootstrap {event.bootstrap}")
            begun = "a network of its own" if event.own_network else f"that of {', '.join(event.joined)}"
            output.talk(f"DHT node on UDP {event.listen}, in {printable(begun)}; others add the option above")
            for other in event.others:
                output.talk(f"or, from another network of this machine: --bootstrap {other}")
            if not event.reachable:
                output.talk("until a node has proved that others reach it, this address is a guess")
        case Statistics():
            if output.json:
                output.data(event)
            else:
                kept = sum(
                    event.stored.get(f"{kind}s", 0) for kind in ("record", "mutable_value", "immutable_value")
                )
                output.talk(
                    f"{event.nodes} nodes known, {event.requests_answered} requests answered, {kept} records"
                    f" kept, {event.forwarded} handshakes passed on",
                    level=1,
                )
        case _:
            output.event(event)
