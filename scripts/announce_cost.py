#!/usr/bin/env python3
"""What it costs a seedbox to be found for many feeds: datagrams, bytes, processor and memory.

    PYTHONPATH=. .venv/bin/python scripts/announce_cost.py [--feeds 1000] [--nodes 40]

Joins that many topics on a private network of the reference's DHT nodes on loopback, and waits until all
are announced for the first time, then once more as after a change of address, when what is stored has to be
revoked first. An hour has about 5.45 rounds like the first.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from types import SimpleNamespace
from typing import Any, cast

import trio

_ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(_ROOT))

from p2prss.crypto.keys import DiscoveryKey, KeyPair  # noqa: E402  (runs without an installation)
from p2prss.net.connect.network import PeerNetwork, open_network  # noqa: E402
from p2prss.net.swarm.swarm import Links, Swarm  # noqa: E402
from tests.interop.js_peer import JsPeer  # noqa: E402

ROUNDS_PER_HOUR = 3600 / 660
LOOK_SECONDS = 0.2


class Count:
    """Datagrams and bytes that leave the sockets of a network, and processor time."""

    def __init__(self, network: PeerNetwork) -> None:
        self.datagrams = self.bytes = 0
        self.began, self.processor = trio.current_time(), time.process_time()
        for socket in network.udx.sockets:
            self._watch(socket)

    def _watch(self, socket: Any) -> None:
        send = socket.send_datagram

        def counted(datagram: bytes, address: tuple[str, int], **options: Any) -> None:
            self.datagrams += 1
            self.bytes += len(datagram) + 28  # headers of IP and UDP
            send(datagram, address, **options)

        socket.send_datagram = counted

    def tell(self, what: str, feeds: int) -> None:
        """Print, and start anew."""
        seconds, processor = trio.current_time() - self.began, time.process_time() - self.processor
        hour = ROUNDS_PER_HOUR
        print(
            f"{what}: {seconds:.0f} s, {self.datagrams / feeds:.1f} datagrams"
            f" and {self.bytes / feeds:.0f} bytes sent per feed, {1000 * processor / feeds:.2f} ms of"
            f" processor; in an hour of such rounds {self.datagrams * hour / 3600:.0f} datagrams/s,"
            f" {self.bytes * hour / 3600 / 1000:.1f} KB/s, {100 * processor * hour / 3600:.1f} %"
        )
        self.datagrams = self.bytes = 0
        self.began, self.processor = trio.current_time(), time.process_time()


async def announced(swarm: Swarm) -> None:
    """Until nodes know all topics."""
    while any(not topic.current for topic in swarm.topics):  # noqa: ASYNC110  (nobody tells)
        await trio.sleep(LOOK_SECONDS)


async def main(feeds: int, nodes: int) -> None:
    with tempfile.TemporaryDirectory(prefix="p2prss-announce-") as folder:
        async with JsPeer.open(Path(folder)) as peer:
            bootstrap = await peer.testnet(nodes)
            key_pair = KeyPair.from_seed(bytes(32))
            async with open_network(
                key_pair, bootstraps=[f"127.0.0.1:{bootstrap}"], host="127.0.0.1"
            ) as network:
                await network.dht.wait_bootstrapped()
                links = SimpleNamespace(links=[], links_changed=trio.Event(), logs_by_peer=dict)
                swarm = Swarm(network, cast(Links, links), Random(1))
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(swarm.run)
                    await network.wait_announced()
                    memory = getrusage(RUSAGE_SELF).ru_maxrss
                    count = Count(network)
                    for number in range(feeds):
                        swarm.join(DiscoveryKey(Random(number).randbytes(32)), client=False)
                    for what in ("announced", "announced anew from another address"):
                        await announced(swarm)
                        count.tell(what, feeds)
                        swarm.topics.network_changed(trio.current_time())
                        swarm._wake.set()
                    grown = (getrusage(RUSAGE_SELF).ru_maxrss - memory) * 1024
                    print(f"{feeds} topics take {grown / feeds:.0f} bytes each, at most")
                    nursery.cancel_scope.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--feeds", type=int, default=1000)
    parser.add_argument("--nodes", type=int, default=40)
    given = parser.parse_args()
    trio.run(main, given.feeds, given.nodes)
