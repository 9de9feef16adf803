"""A port that the router forwards to us, because the user asked for it, told in a sentence."""

from collections.abc import Callable
from functools import partial

import trio

from p2prss.net.address import Address
from p2prss.net.nat_pmp import PortMapping, Transport
from p2prss.net.port_mapping import keep_port_mapped


class ForwardedPort:
    """What the router does for us at this moment."""

    def __init__(self) -> None:
        self.outcome: PortMapping | str | None = None  # a mapping, or why there is none
        self.changed = trio.Event()

    def change(self, outcome: PortMapping | str) -> None:
        """Take the newest outcome."""
        self.outcome = outcome
        self.changed.set()
        self.changed = trio.Event()

    @property
    def public(self) -> Address | None:
        """Where the internet reaches us by it."""
        found = self.outcome
        return Address(found.host, found.port) if isinstance(found, PortMapping) and found.public else None

    def __str__(self) -> str:
        match self.outcome:
            case PortMapping(public=True):
                return f"the router forwards {self.outcome} to this node"
            case PortMapping():
                return (
                    f"the router forwards {self.outcome}, but is behind another NAT itself: that is no help"
                )
            case reason:
                return f"no port is forwarded: {reason}"


async def forward_port(
    transport: Transport,
    port: int,
    tell: Callable[[str], None],
    *,
    gateway: tuple[str, int] | None = None,
) -> None:
    """Have a port forwarded until cancelled; ``tell`` hears what comes of it, whenever that changes.

    Args: gateway: to be asked instead of the router of the default route.
    """
    forwarded, told = ForwardedPort(), ""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(keep_port_mapped, transport, port, forwarded.change, gateway=gateway))
        while True:
            changed = forwarded.changed
            said = f"{transport.name} port {port}: {forwarded}" if forwarded.outcome is not None else told
            if said != told:
                told = said
                tell(said)
            await changed.wait()
