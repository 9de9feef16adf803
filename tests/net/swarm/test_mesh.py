"""Real nodes on loopback: several that join at the same moment end up with one connection each pair."""

from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import trio

from p2prss.log.store import Store
from p2prss.net.connect.network import open_network
from p2prss.net.dht.client import open_dht
from p2prss.net.exchange import Exchange
from p2prss.net.swarm.swarm import Swarm
from tests.interop.python_peer import until

HOST = "127.0.0.1"
NODES = 5
PATIENCE = 30  # seconds; it takes about three


async def test_all_who_join_at_once_find_somebody_and_nobody_twice() -> None:
    writer = Store.in_memory()
    log = writer.create("show")
    log.append([b"one", b"two"])
    exchanges: list[Exchange] = []

    async def run(store: Store, bootstrap: str, seed: int) -> None:
        async with trio.open_nursery() as nursery:
            exchange = Exchange(store, nursery, random=Random(seed))
            exchanges.append(exchange)
            exchange.session(store.open_log(log.key), eager=True)
            async with open_network(exchange.key_pair, bootstraps=[bootstrap]) as network:
                swarm = Swarm(network, exchange, Random(seed))
                swarm.join(log.discovery_key)
                await swarm.run()

    with trio.fail_after(PATIENCE):
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(
                open_dht(host=HOST, port=0, bootstraps=[], public_host=HOST)
            )
            bootstrap = f"{HOST}:{first.socket(0).address[1]}"
            for _ in range(3):
                node = await stack.enter_async_context(
                    open_dht(host=HOST, port=0, bootstraps=[bootstrap], public_host=HOST)
                )
                await node.wait_bootstrapped()
            nursery = await stack.enter_async_context(trio.open_nursery())
            for number in range(NODES):
                nursery.start_soon(run, writer if number == 0 else Store.in_memory(), bootstrap, number)
            await until(
                lambda: len(exchanges) == NODES and all(exchange.logs_by_peer() for exchange in exchanges)
            )
            await trio.sleep(1.0)  # for doubles to be settled
            for exchange in exchanges:
                remotes = Counter(
                    handshake.remote_public_key
                    for link in exchange.links
                    if (handshake := link.connection.handshake) is not None
                )
                assert remotes
                assert set(remotes.values()) == {1}
                assert not exchange.drops
            nursery.cancel_scope.cancel()
