"""A server keeps its relays: a dead one is replaced, and all are told at the end."""

from contextlib import AsyncExitStack

import trio
import trio.testing

from p2prss.net.connect.network import PeerNetwork
from p2prss.net.dht.client import DhtNode, open_dht
from p2prss.net.dht.endpoint import Endpoint
from tests.net.connect.our_net import HOST, key, our_dht, our_peer, serving
from tests.net.connect.talk import echo

FASTER = 20  # times, for what takes long


async def find(node: DhtNode) -> set[Endpoint]:
    return set(await node.find_peer(key(1).public_key))


def test_a_dead_relay_is_replaced() -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            nodes = await stack.enter_async_context(our_dht(1))
            bootstrap = f"{HOST}:{nodes[0].socket(0).address[1]}"
            scopes: dict[Endpoint, trio.CancelScope] = {}

            async def live(task_status: trio.TaskStatus[None]) -> None:
                """A node that can be ended."""
                with trio.CancelScope() as scope:
                    async with open_dht(host=HOST, port=0, bootstraps=[bootstrap], public_host=HOST) as node:
                        await node.wait_bootstrapped()
                        scopes[Endpoint(*node.socket(0).address)] = scope
                        task_status.started()
                        await trio.sleep_forever()

            nursery = await stack.enter_async_context(trio.open_nursery())
            for _ in range(15):
                await nursery.start(live)
            server = await stack.enter_async_context(our_peer(nodes, 1))
            client = await stack.enter_async_context(our_peer(nodes, 2))
            async with serving(server, echo):
                await settled(server)
                before = set(server.relays[1:])
                assert before <= await find(client.dht)
                dying = next(iter(before & scopes.keys()))
                scopes[dying].cancel()
                await trio.sleep(20)
                after = set(server.relays[1:])
                assert len(after) == len(before)
                assert dying not in after
                assert after <= await find(client.dht)
            assert await find(client.dht) == set()
            nursery.cancel_scope.cancel()

    trio.run(run, clock=trio.testing.MockClock(rate=FASTER))


async def settled(server: PeerNetwork) -> None:
    """Until it was announced as what it is: open, and so with its own address first."""
    await trio.sleep(2)
    assert server.relays[0] == server.dht.public_endpoint
    assert len(server.relays) == 3
