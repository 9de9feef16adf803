"""The commands that look after the network: a node of the DHT, and the doctor."""

from typing import TYPE_CHECKING, Annotated

import typer

from p2prss.cli.context import Context
from p2prss.cli.options import MapPort
from p2prss.cli.output import printable

if TYPE_CHECKING:
    from p2prss.node.dht_service import ServiceEvent
    from p2prss.node.doctor_checks import Check

DEFAULT_LISTEN = "0.0.0.0:49737"

NodeListen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT",
        help=f"UDP address; default {DEFAULT_LISTEN}, or one of the next ports. Port 0: any free one.",
    ),
]
NodeUdpPort = Annotated[
    int | None,
    typer.Option(
        "--udp-port", metavar="PORT", min=0, max=65535, help="The same on all interfaces, in short."
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
        help="Where all others reach this node, if not where it thinks: a name, or a forwarded port.",
    ),
]
Every = Annotated[
    float,
    typer.Option("--statistics", metavar="SECONDS", min=1, help="Time between reports of what it did."),
]
DoctorBootstrap = Annotated[
    list[str] | None,
    typer.Option("--bootstrap", metavar="HOST:PORT", help="Look at the network of this node; repeatable."),
]
DoctorNoDht = Annotated[bool, typer.Option("--no-dht", help="Send nothing; leave out NAT, port and DHT.")]
DoctorNoLan = Annotated[bool, typer.Option("--no-lan", help="Leave out the local network.")]
DoctorHttp = Annotated[
    str | None,
    typer.Option("--http", metavar="HOST:PORT", help="Address for podcast apps; default 127.0.0.1:7737."),
]
DoctorNoHttp = Annotated[bool, typer.Option("--no-http", help="Leave out the port for podcast apps.")]
UdpPort = Annotated[
    int | None,
    typer.Option(
        "--udp-port",
        "--port",
        metavar="PORT",
        min=0,
        max=65535,
        help="UDP port to look at; default 49737 or one of the next.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(node)
    app.command()(doctor)


def node(
    ctx: typer.Context,
    listen: NodeListen = None,
    udp_port: NodeUdpPort = None,
    bootstrap: NodeBootstrap = None,
    public: Public = None,
    map_port: MapPort = False,
    statistics: Every = 60.0,
) -> None:
    """Run a DHT node, so that a classroom, a ship or a camp has a network of its own.

    On start it prints the option with which all others find it: `--bootstrap HOST:PORT`. All have to use that
    very address; if it is the wrong one, give another as `--public`. The node keeps who has which feed, in
    memory; it holds no feeds and needs no home. Run two on different machines, the second with `--bootstrap`
    of the first, and either may fail.

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
            udp_port=udp_port,
            bootstrap=bootstrap or (),
            public=public,
            statistics_seconds=statistics,
            map_port=map_port,
        )
        await run_dht_service(settings, lambda event: _tell(context, event))

    context.run(main)


def doctor(
    ctx: typer.Context,
    bootstrap: DoctorBootstrap = None,
    no_dht: DoctorNoDht = False,
    no_lan: DoctorNoLan = False,
    http: DoctorHttp = None,
    no_http: DoctorNoHttp = False,
    port: UdpPort = None,
) -> None:
    """Find out what is amiss: home, disk, clock, ports, local network, NAT and DHT.

    For each it says ok, warning, problem or unknown, why, and what to do next. Nothing is made or changed. To
    look at the DHT it asks the nodes you name, else those of the public network; with `--no-dht` no packet
    leaves this machine.

    The exit code is 0 without a problem, else that of the first one: 1 home or clock, 3 network, 4 damage,
    5 disk.

    Example: `p2prss doctor`
    """
    context = Context.of(ctx)
    code = 0

    async def main() -> None:
        nonlocal code
        from p2prss.node.doctor import DoctorSettings, run_doctor

        settings = DoctorSettings.of(
            home=context.home_option,
            bootstrap=bootstrap or (),
            no_dht=no_dht,
            no_lan=no_lan,
            http=http,
            no_http=no_http,
            port=port,
        )
        found = await run_doctor(settings, lambda check: _tell_check(context, check))
        problems = [check for check in found if check.result == "problem"]
        if problems:
            code = problems[0].code
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            context.output.error(code, f"{problems[0].name}: {problems[0].cause}{more}")

    context.run(main)
    if code:
        raise typer.Exit(code)


def _tell_check(context: Context, check: "Check") -> None:
    """A line for each, and one for what to do."""
    text = f"{check.result:8} {check.name:9} {check.cause}"
    if check.next_step:
        text += f"\n{'':19}→ {check.next_step}"
    context.output.data(check, "\n".join(map(printable, text.splitlines())))


def _tell(context: Context, event: "ServiceEvent") -> None:
    from p2prss.node.dht_service import Listening, Statistics

    output = context.output
    match event:
        case Listening():
            output.data(event, f"--bootstrap {event.bootstrap}")
            begun = "a network of its own" if event.own_network else f"that of {', '.join(event.joined)}"
            output.talk(f"DHT node on UDP {event.listen}, in {printable(begun)}; others add the option above")
            if event.others:
                others = ", ".join(event.others)
                output.talk(f"this machine is {others}, too: if the others are there, give one as --public")
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
