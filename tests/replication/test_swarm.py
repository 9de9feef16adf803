"""Swarms of any shape: whoever is connected to somebody who has it gets everything, in the end."""

from random import Random

import pytest

from tests.fakes.replication_network import (
    SimulatedNetwork,
    SimulatedNode,
    blocks_of,
    copy_of,
    reader_of,
    written,
)


def complete(writer: SimulatedNode, nodes: list[SimulatedNode]) -> bool:
    return all(
        node.log.head == writer.log.head and node.log.contiguous_length == node.log.length for node in nodes
    )


@pytest.mark.parametrize("seed", range(25))
def test_a_swarm_completes_through_appends_cuts_and_lost_links(seed: int) -> None:
    random = Random(seed)
    network = SimulatedNetwork(seed)
    size = random.choice([10, 100, 5_000])
    log = written(random.choice([1, 50, 333]), size)
    writer = network.node("writer", log, disk_seconds=random.choice([0.0001, 0.01]))
    nodes = [writer]
    for number in range(random.randrange(2, 6)):
        held = random.sample(range(log.length), random.randrange(log.length + 1))
        start = copy_of(log, held) if random.random() < 0.5 else reader_of(log)
        node = network.node(f"node {number}", start, disk_seconds=random.choice([0.0001, 0.01, 0.1]))
        node.replicator.want(0, None)
        for other in random.sample(nodes, random.randrange(1, len(nodes) + 1)):
            delay, bandwidth = random.choice([0.001, 0.05, 0.3]), random.choice([2e5, 1e6, 1e8])
            network.connect(node, other, delay=delay, bandwidth=bandwidth)
        nodes.append(node)
    for _ in range(random.randrange(6)):
        network.run(random.random() * 2)
        match random.randrange(5):
            case 0:
                writer.append(blocks_of(random.randrange(1, 40), size))
            case 1:
                writer.log.truncate(random.randrange(log.length + 1))
                writer.append(blocks_of(random.randrange(1, 40), size))
            case 2:
                node = random.choice(nodes[1:])
                link = random.choice(list(node.links.values()))
                ends = list(link.ends)
                link.close()
                network.connect(*ends)
            case 3:
                node = random.choice(nodes[1:])
                node.log.clear(0, random.randrange(1, 60))
                node.changed()
            case 4:
                node = random.choice(nodes[1:])
                node.replicator.cancel(node.replicator.want(3, 30))
                node.drain()
    network.run(240, lambda: complete(writer, nodes))
    for node in nodes[1:]:
        assert node.log.head == writer.log.head, node.name
        assert node.log.contiguous_length == node.log.length, node.name
        assert not node.dropped
    assert not writer.dropped
    network.run(5)
    for node in nodes:  # nothing is left lying about
        downloads = node.replicator._downloads
        assert not downloads.blocks
        assert not downloads.coming
        assert not downloads._ready
        assert not downloads._pen
        assert downloads.in_flight == downloads.in_flight_bytes == 0
        assert downloads._handed_bytes == downloads._waiting_bytes == 0
