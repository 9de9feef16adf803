"""A network in one process under churn; the large case is ``python -m tests.net.dht.simulation``."""

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.routing import MAX_PER_HOST, distance
from tests.net.dht.simulation import Simulation, churn

NODES = 60


def test_lookups_succeed_while_ten_percent_leave_every_minute() -> None:
    simulation = Simulation(seed=7, loss=0.02)
    for _ in range(NODES):
        simulation.add_node()
        simulation.run(0.05)
    clients = [simulation.add_node(ephemeral=True) for _ in range(4)]
    simulation.run(10)
    keys = [KeyPair.from_seed(blake2b(bytes([number]))) for number in range(8)]
    topics = [simulation.random.randbytes(32) for _ in keys]
    stored = [
        simulation.announce(clients[0], topic, key_pair) for topic, key_pair in zip(topics, keys, strict=True)
    ]
    simulation.run(10)
    assert all(count and count[0] >= 18 for count in stored)
    outcomes = []
    for minute in range(3):
        churn(simulation, 0.10)
        for place, topic in enumerate(topics):
            outcomes.append((keys[place], simulation.lookup(clients[1 + minute], topic)))
            simulation.run(1)
        simulation.run(60 - len(topics))
    assert all(lookup.finished for _, lookup in outcomes)
    assert all(key_pair.public_key in lookup.found for key_pair, lookup in outcomes)
    seconds = sorted(lookup.seconds for _, lookup in outcomes)
    assert seconds[len(seconds) // 2] < 1.5  # virtual; a round trip is 10 to 150 ms
    assert max(lookup.hops for _, lookup in outcomes) <= 6
    assert max(lookup.visits for _, lookup in outcomes) <= 80


def test_one_host_cannot_eclipse_a_topic() -> None:
    """An attacker takes the 30 ports of its host nearest to a topic; its nodes swallow announcements."""
    simulation = Simulation(seed=11)
    for _ in range(40):
        simulation.add_node()
        simulation.run(0.05)
    topic = simulation.random.randbytes(32)
    ports = sorted(range(1024, 30_000), key=lambda port: distance(node_id(Endpoint("66.6.6.6", port)), topic))
    for port in ports[:30]:
        sybil = simulation.add_node(endpoint=Endpoint("66.6.6.6", port))
        sybil.machine.state.store.announce = lambda *_, **__: None  # type: ignore[method-assign]  # hostile
    publisher, follower = simulation.add_node(ephemeral=True), simulation.add_node(ephemeral=True)
    simulation.run(60)
    nearest = simulation.truly_closest(topic)
    assert {endpoint.host for endpoint in nearest} == {"66.6.6.6"}
    key_pair = KeyPair.from_seed(bytes(32))
    simulation.announce(publisher, topic, key_pair)
    simulation.run(10)
    lookup = simulation.lookup(follower, topic)
    simulation.run(10)
    assert lookup.found == {key_pair.public_key}
    assert sum(endpoint.host == "66.6.6.6" for endpoint in lookup.closest) <= MAX_PER_HOST


def test_a_lost_network_comes_back() -> None:
    """All nodes a client knows vanish; the bootstrap nodes bring it back."""
    simulation = Simulation(seed=3)
    for _ in range(30):
        simulation.add_node()
        simulation.run(0.05)
    client = simulation.add_node(ephemeral=True)
    simulation.run(10)
    keep = set(client.machine.state.bootstraps)
    for node in list(simulation.persistent):
        if node.endpoint not in keep:
            simulation.kill(node)
    for _ in range(10):
        simulation.add_node()
        simulation.run(1)
    simulation.run(15 * 60)
    known = {contact.endpoint for contact in client.machine.state.table}
    assert known == {node.endpoint for node in simulation.persistent}
