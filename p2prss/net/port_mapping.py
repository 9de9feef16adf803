"""Have the router forward a port to us, while the program runs, and only if the user asked for it.

The shell around ``nat_pmp``, and ``upnp`` where that fails. Mappings are renewed at half their lease, asked
for anew when they are lost, and given back at the end.
"""

import errno
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import trio

from p2prss.errors import NetworkError
from p2prss.net.nat_pmp import GATEWAY_PORT, Event, Failed, Mapped, PortMapper, PortMapping, Transport
from p2prss.net.upnp import UpnpGateway, is_installed
from p2prss.units import KIB

RETRY_SECONDS: Final = 600.0  # seconds until routers that refused or were silent are asked again
RELEASE_SECONDS: Final = 1.0  # for giving a port back at the end
RECEIVE_SIZE: Final = 1100  # bytes; no answer may be longer
ROUTES: Final = Path("/proc/net/route")
MAX_ROUTES: Final = 256 * KIB  # of the table that are read

_UP, _GATEWAY = 1, 2  # flags of a route

OnChange = Callable[[PortMapping | str], None]
"""Gets the mapping that is there now, or why there is none."""


def parse_default_gateway(routes: str) -> str | None:
    """The IPv4 gateway of the default route with the lowest metric, from the text of ``/proc/net/route``.

    Lines that make no sense are passed over. Addresses are in the byte order of little-endian machines.
    """
    best: tuple[int, str] | None = None
    for line in routes.splitlines()[1:]:
        try:
            _, destination, gateway, flags, _, _, metric, mask, *_ = line.split()
            if int(destination, 16) or int(mask, 16) or int(flags, 16) & (_UP | _GATEWAY) != _UP | _GATEWAY:
                continue
            octets = int(gateway, 16).to_bytes(4, "little")
            found = int(metric), ".".join(map(str, octets))
        except (ValueError, OverflowError):
            continue
        best = min(best or found, found)
    return best[1] if best is not None else None


def default_gateway() -> str | None:
    """The router of this machine's network; None where the system does not tell."""
    try:
        with ROUTES.open(encoding="ascii", errors="replace") as file:
            return parse_default_gateway(file.read(MAX_ROUTES))
    except OSError:
        return None


async def keep_port_mapped(
    transport: Transport,
    port: int,
    on_change: OnChange,
    *,
    gateway: tuple[str, int] | None = None,
    upnp: bool = True,
    task_status: trio.TaskStatus[PortMapping | str] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Keep a port mapped until cancelled; what keeps that from working is told, and tried again later.

    Args: gateway: to be asked by NAT-PMP, instead of that of the default route; upnp: to be tried when that
    fails. ``task_status`` is told the first outcome.
    """
    started = False

    def tell(outcome: PortMapping | str) -> None:
        nonlocal started
        if not started:
            started = True
            task_status.started(outcome)
        on_change(outcome)

    while True:
        router = gateway or _with_port(default_gateway())
        reason = "this machine has no default route, so there is no router to ask"
        if router is not None:
            reason = f"the router {router[0]} {await _keep_nat_pmp(transport, port, router, tell)}"
            if upnp and is_installed():
                reason = f"{reason}; {await _keep_upnp(transport, port, tell)}"
            elif upnp:
                reason = f"{reason}; UPnP was not tried: p2prss[upnp] is not installed"
        tell(reason)
        await trio.sleep(RETRY_SECONDS)


def _with_port(host: str | None) -> tuple[str, int] | None:
    return None if host is None else (host, GATEWAY_PORT)


async def _keep_nat_pmp(
    transport: Transport, port: int, gateway: tuple[str, int], tell: Callable[[PortMapping], None]
) -> str:
    """Map and renew for as long as that works; returns why it does no longer."""
    mapper = PortMapper(transport, port, gateway, trio.current_time())
    told: PortMapping | None = None
    with trio.socket.socket(trio.socket.AF_INET, trio.socket.SOCK_DGRAM) as socket:
        try:
            await socket.connect(gateway)  # nobody else's datagrams reach us then
            while True:
                for event in await _step(mapper, socket):
                    match event:
                        case Mapped(mapping):
                            if mapping != told:
                                told = mapping
                                tell(mapping)
                        case Failed(reason):
                            return reason
        except OSError as error:
            if error.errno == errno.ECONNREFUSED:
                return "speaks no NAT-PMP"
            return f"cannot be asked: {error.strerror or error}"
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_SECONDS):
                mapper.release(trio.current_time())
                with suppress(OSError):
                    while not mapper.closed:
                        await _step(mapper, socket)


async def _step(mapper: PortMapper, socket: trio.socket.SocketType) -> list[Event]:
    """Send what is to be sent, then wait for a datagram or the deadline. Raises: OSError."""
    for data in mapper.data_to_send():
        await socket.send(data)
    events: list[Event] = []
    with trio.move_on_at(mapper.deadline):
        data, source = await socket.recvfrom(RECEIVE_SIZE)
        events = mapper.receive(data, source[:2], trio.current_time())
    return events + mapper.handle_timer(trio.current_time())  # however much nonsense comes in


async def _keep_upnp(transport: Transport, port: int, tell: Callable[[PortMapping], None]) -> str:
    """Likewise by UPnP, in threads that are left behind when we are cancelled."""
    run = partial(trio.to_thread.run_sync, abandon_on_cancel=True)
    mapping: PortMapping | None = None
    try:
        gateway: UpnpGateway = await run(UpnpGateway)
        try:
            while True:
                renewed: PortMapping = await run(gateway.add, transport, port)
                if renewed != mapping:
                    mapping = renewed
                    tell(renewed)
                await trio.sleep(renewed.seconds / 2)
        finally:
            if mapping is not None:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_SECONDS):
                    await run(gateway.remove, mapping)
    except NetworkError as error:
        return str(error)
