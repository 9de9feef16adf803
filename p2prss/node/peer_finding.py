"""A node's part in the DHT: found by the keys of its feeds, and finding others that have them."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from random import SystemRandom

import trio

from p2prss.errors import NetworkError
from p2prss.net.connect.network import open_network
from p2prss.net.dht.bootstrap import PUBLIC_BOOTSTRAPS
from p2prss.net.exchange import Exchange
from p2prss.net.nat_pmp import Transport
from p2prss.net.swarm.swarm import Swarm
from p2prss.node.forwarded_port import forward_port
from p2prss.node.settings import NodeSettings


@asynccontextmanager
async def open_swarm(
    settings: NodeSettings, exchange: Exchange, tell: Callable[[str], None]
) -> AsyncIterator[Swarm | None]:
    """A swarm that runs until the block ends, and takes its leave then; None when the DHT is not wanted.

    ``tell`` hears of the forwarded port, if that is wanted.
    Raises: NetworkError when the system gives us no UDP sockets, or not the port that was asked for.
    """
    if not settings.dht:
        yield None
        return
    bootstraps = [str(address) for address in settings.bootstrap] or PUBLIC_BOOTSTRAPS
    async with AsyncExitStack() as stack:
        opening = open_network(exchange.key_pair, bootstraps=bootstraps, port=settings.udp_port or 0)
        try:
            network = await stack.enter_async_context(opening)
        except NetworkError as error:
            if not settings.udp_port:
                raise
            raise NetworkError(f"{error}; end what uses it, or give another --udp-port") from error
        swarm = Swarm(network, exchange, SystemRandom())
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(swarm.run)
                if settings.map_port:
                    nursery.start_soon(forward_port, Transport.UDP, network.port, tell)
                try:
                    yield swarm
                finally:
                    nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await swarm.close()
