"""Logs over streams that were connected by key: with a Hyperswarm of the reference, in both roles."""

from functools import partial
from pathlib import Path as FsPath

import pytest
import trio

from p2prss.net.connect.network import open_network
from p2prss.net.connect.peer_stream import Path, PeerStream
from tests.interop.js_peer import JsPeer
from tests.interop.python_peer import PythonPeer

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
PATIENCE = 40  # seconds, for what takes two
BLOCKS = [bytes([number]) * 1000 for number in range(200)]


@pytest.mark.parametrize("firewalled", [False, True], ids=["open", "punching"])
async def test_a_log_of_the_reference_comes_to_us(firewalled: bool, tmp_path: FsPath) -> None:
    with trio.fail_after(PATIENCE):
        async with JsPeer.open(tmp_path) as js, PythonPeer.open() as ours, trio.open_nursery() as nursery:
            port = await js.testnet()
            core = await js.open_core(name="theirs")
            await js.append(core.key, BLOCKS)
            swarm_key = await js.join(core.key, port, client=False, firewalled=firewalled)
            bootstraps = [f"{HOST}:{port}"]
            async with open_network(ours.exchange.key_pair, bootstraps=bootstraps, host=HOST) as network:
                await network.dht.wait_bootstrapped()
                log = ours.core(core.key)
                found = await network.dht.lookup(log.log.discovery_key)
                [record] = [peer for peer in found.peers if peer.public_key.hex() == swarm_key]
                peer = await network.connect(record.public_key, record.relay_addresses)
                nursery.start_soon(partial(ours.exchange.use_peer_stream, peer))
                for index, block in enumerate(BLOCKS):
                    assert await log.get(index) == block
                nursery.cancel_scope.cancel()


async def test_our_log_goes_to_the_reference(tmp_path: FsPath) -> None:
    with trio.fail_after(PATIENCE):
        async with JsPeer.open(tmp_path) as js, PythonPeer.open() as ours, trio.open_nursery() as nursery:
            port = await js.testnet()
            log = ours.own_core()
            await log.append(BLOCKS)
            paths: list[Path] = []

            async def use(peer: PeerStream) -> None:
                paths.append(peer.path)
                await ours.exchange.use_peer_stream(peer)

            bootstraps = [f"{HOST}:{port}"]
            async with open_network(ours.exchange.key_pair, bootstraps=bootstraps, host=HOST) as network:
                nursery.start_soon(partial(network.serve, use, admit=lambda _: True))
                await network.wait_announced()
                await network.dht.announce(log.log.discovery_key, network.key_pair, network.relays)
                core = await js.open_core(key=log.key.hex())
                await js.join(core.key, port, server=False)
                assert await js.get(core.key, len(BLOCKS) - 1) == BLOCKS[-1]
                assert (await js.download(core.key, 0, len(BLOCKS))).length == len(BLOCKS)
                assert paths == [Path.DIRECT]
                nursery.cancel_scope.cancel()
