"""The routing table, tokens and queries: against the reference's vectors, and against a lying network."""

import json
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.messages import Reply
from p2prss.net.dht.query import MAX_VISITS, Query
from p2prss.net.dht.routing import MAX_PER_HOST, MAX_PER_NETWORK, Contact, K, RoutingTable, distance
from p2prss.net.dht.tokens import TokenSource

VECTORS: dict[str, Any] = json.loads((Path(__file__).parents[2] / "vectors" / "dht.json").read_text("utf-8"))
ME = Endpoint("127.0.0.1", 1)


def test_rows_and_nearest_contacts() -> None:
    section = VECTORS["routing_table"]
    table = RoutingTable(bytes.fromhex(section["self"]["id"]))
    for add in section["adds"]:
        contact = Contact.new(Endpoint("127.0.0.1", add["port"]), 0.0)
        assert table.row_of(contact.id) == add["row"]
        assert table.add(contact) == add["added"]
    for lookup in section["lookups"]:
        target = bytes.fromhex(lookup["target"])
        assert [one.endpoint.port for one in table.closest(target)] == lookup["xor_sorted"]


def test_tokens() -> None:
    section = VECTORS["tokens"]
    for case in section["cases"]:
        source = TokenSource(bytes.fromhex(case["secret"]), 0.0)
        assert source.issue(case["host"], 0.0).hex() == case["token"]
    first = section["rotation"][0]
    source = TokenSource(bytes.fromhex(first["current"]), 0.0)
    source._previous = bytes.fromhex(first["previous"])
    for step in section["rotation"]:
        assert (source._previous.hex(), source._current.hex()) == (step["previous"], step["current"])
        source.rotate()


def test_a_token_lives_for_one_to_two_rotations_and_for_one_host() -> None:
    source = TokenSource(b"\1" * 32, 0.0)
    token = source.issue("1.2.3.4", 7.0)
    assert source.is_valid(token, "1.2.3.4", 14.9)
    assert not source.is_valid(token, "1.2.3.5", 14.9)
    assert not source.is_valid(token, "1.2.3.4", 15.1)
    late = source.issue("1.2.3.4", 100_000.0)
    assert source.is_valid(late, "1.2.3.4", 100_007.0)
    assert not source.is_valid(b"", "1.2.3.4", 100_007.0)


@given(st.lists(st.integers(2, 5000), unique=True, max_size=120), st.binary(min_size=32, max_size=32))
def test_closest_is_true_xor_order(ports: list[int], target: bytes) -> None:
    table = RoutingTable(node_id(ME))
    kept = [one for port in ports if table.add(one := Contact.new(Endpoint("127.0.0.1", port), 0.0))]
    wanted = sorted(kept, key=lambda one: distance(one.id, target))
    assert table.closest(target) == wanted[:K]
    for one in kept:
        assert table.remove(one.id) is one
    assert len(table) == 0
    assert table.closest(target) == []


def test_one_host_or_network_cannot_fill_a_row() -> None:
    table = RoutingTable(bytes(32))
    for port in range(1, 2000):
        table.add(Contact.new(Endpoint("20.0.0.1", port), 0.0))
    assert len(table.row(b"\xff" * 32)) == MAX_PER_HOST
    for last in range(2, 250):
        for port in range(1, 20):
            table.add(Contact.new(Endpoint(f"20.0.0.{last}", port), 0.0))
    assert len(table.row(b"\xff" * 32)) == MAX_PER_NETWORK


class Net:
    """Nodes that know everybody, some of them dead, some of them liars."""

    def __init__(self, size: int) -> None:
        self.nodes = [Endpoint(f"20.{number >> 8}.{number & 255}.1", 49737) for number in range(size)]

    def nearest(self, target: bytes) -> tuple[Endpoint, ...]:
        return tuple(sorted(self.nodes, key=lambda one: distance(node_id(one), target))[:K])


def anybody(_: Endpoint) -> bool:
    return True


def drive(query: Query, answer: Any) -> int:
    """Answer every visit by ``answer(endpoint)``: a Reply, or None for the dead. Returns the visits."""
    asked = 0
    while not query.finished:
        visits = query.next_visits()
        if not visits:
            break
        for endpoint in visits:
            asked += 1
            reply = answer(endpoint)
            if reply is None:
                query.failed(endpoint)
            else:
                query.replied(endpoint, reply)
    assert query.finished
    return asked


def test_a_query_finds_the_nearest_around_the_dead() -> None:
    net, random = Net(300), Random(3)
    dead = set(random.sample(net.nodes, 90))
    living = Net(0)
    living.nodes = [node for node in net.nodes if node not in dead]
    target = random.randbytes(32)
    start = random.sample(living.nodes, 3)

    def answer(endpoint: Endpoint) -> Reply | None:
        if endpoint in dead:
            return None
        near = sorted(random.sample(net.nodes, 120), key=lambda one: distance(node_id(one), target))[:K]
        return Reply(0, ME, node_id(endpoint), closer_nodes=tuple(near))

    query = Query(target, start, accept=anybody)
    drive(query, answer)
    found = {one.endpoint for one in query.closest}
    assert found == set(living.nearest(target))
    assert query.closest == sorted(query.closest, key=lambda one: distance(node_id(one.endpoint), target))


def test_who_named_a_dead_node_is_told() -> None:
    net = Net(2)
    alive, dead = net.nodes
    query = Query(bytes(32), [alive], accept=anybody)
    assert query.next_visits() == [alive]
    assert query.replied(alive, Reply(0, ME, node_id(alive), closer_nodes=(dead,))) == []
    assert query.next_visits() == [dead]
    assert query.failed(dead) == [(alive, dead)]
    assert query.next_visits() == []
    assert query.finished


def test_slow_nodes_do_not_hold_a_query_up() -> None:
    net = Net(60)
    query = Query(bytes(32), net.nodes, accept=anybody)
    slow = query.next_visits()
    assert len(slow) == 10
    for endpoint in slow:
        query.slow(endpoint)
    while visits := query.next_visits():
        for endpoint in visits:
            query.replied(endpoint, Reply(0, ME, node_id(endpoint)))
    assert query.finished
    assert len(query.closest) == 20
    assert query.replied(slow[0], Reply(0, ME, node_id(slow[0]))) == []  # too late, and harmless


def test_old_nodes_that_are_gone_give_way_to_the_table() -> None:
    net = Net(30)
    gone, known = net.nodes[:10], net.nodes[10:]
    query = Query(bytes(32), gone, accept=anybody, fallback=lambda: known)
    drive(query, lambda endpoint: None if endpoint in gone else Reply(0, ME, node_id(endpoint)))
    assert {one.endpoint for one in query.closest} == set(known)


def test_liars_cannot_make_a_query_endless_nor_fill_its_result() -> None:
    """Each answer names 300 fresh addresses, all on one host, each nearer than anything honest."""
    net, random = Net(50), Random(5)
    target = node_id(Endpoint("66.6.6.6", 1))
    refused = 0

    def accept(endpoint: Endpoint) -> bool:
        nonlocal refused
        refused += endpoint.port == 0
        return endpoint.port != 0

    def answer(endpoint: Endpoint) -> Reply:
        lies = tuple(Endpoint("66.6.6.6", random.randrange(65536)) for _ in range(300))
        return Reply(0, ME, node_id(endpoint), closer_nodes=(Endpoint("66.6.6.6", 0), *lies))

    query = Query(target, net.nodes, accept=accept)
    assert drive(query, answer) <= MAX_VISITS
    liars = [one for one in query.closest if one.endpoint.host == "66.6.6.6"]
    assert len(liars) <= MAX_PER_HOST
    assert len(query.closest) == K
    assert refused
