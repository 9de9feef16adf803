"""DHT nodes of ours and of the JavaScript reference in one network, on loopback."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
import trio

from p2prss.crypto.hashes import blake2b
from p2prss.crypto.keys import KeyPair
from p2prss.net.dht.client import DhtNode, open_dht
from p2prss.net.dht.endpoint import Endpoint, node_id
from p2prss.net.dht.records import PeerRecord, peer_target
from tests.net.dht.js_dht import JsDht, open_js_dht

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
PATIENCE = 25  # seconds, for what takes two
RELAYS = (Endpoint("10.1.2.3", 4567), Endpoint("10.9.8.7", 6543))
PERSISTENT = {"ephemeral": False, "firewalled": False}


def key(number: int) -> KeyPair:
    return KeyPair.from_seed(bytes([number]) * 32)


def seed(number: int) -> str:
    return (bytes([number]) * 32).hex()


def topic(name: str) -> bytes:
    return blake2b(name.encode())


@asynccontextmanager
async def our_node(bootstrap: int, **options: Any) -> AsyncIterator[DhtNode]:
    async with open_dht(host=HOST, port=0, bootstraps=[f"{HOST}:{bootstrap}"], **options) as node:
        await node.wait_bootstrapped()
        yield node


@asynccontextmanager
async def our_network(size: int) -> AsyncIterator[tuple[int, list[DhtNode]]]:
    """Persistent nodes of ours only; the first is the bootstrap."""
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(open_dht(host=HOST, port=0, bootstraps=[], public_host=HOST))
        port = first.socket(0).address[1]
        others = [await stack.enter_async_context(our_node(port, public_host=HOST)) for _ in range(size - 1)]
        yield port, [first, *others]


async def test_we_join_a_network_of_the_reference() -> None:
    """Announce, look up, revoke, find peers and keep values, each in both directions."""
    with trio.fail_after(PATIENCE):
        async with open_js_dht() as js:
            port = await js.call("testnet", size=12)
            theirs = await js.call("node", bootstrap=port, options={"ephemeral": True})
            async with our_node(port) as ours, our_node(port) as another:
                assert ours.statistics().nodes >= 11
                await _announcements(js, theirs, ours, another)
                await _servers(js, theirs, ours)
                await _values(js, theirs, ours)
                assert not ours.firewalled  # proven: nodes reached our server socket
                assert not ours.persistent  # not before 20 minutes


async def _announcements(js: JsDht, theirs: int, ours: DhtNode, another: DhtNode) -> None:
    here, there = topic("ours"), topic("theirs")
    announced = await ours.announce(here, key(1), RELAYS)
    assert announced.stored >= 11
    record = PeerRecord(key(1).public_key, RELAYS)
    assert (await another.lookup(here)).peers == (record,)
    found = await js.call("lookup", node=theirs, topic=here.hex())
    assert found == {key(1).public_key.hex(): [{"host": r.host, "port": r.port} for r in RELAYS]}

    assert await js.call("announce", node=theirs, topic=there.hex(), seed=seed(2)) >= 11
    assert (await ours.lookup(there)).peers == (PeerRecord(key(2).public_key),)
    seen: list[PeerRecord] = []
    both = await ours.announce(there, key(1), on_peer=seen.append)
    assert PeerRecord(key(2).public_key) in seen
    found_again = (await another.lookup(there, start=both.closest)).peers
    assert set(found_again) == {*both.peers, PeerRecord(key(1).public_key)}
    # what is stored with other relays is replaced only when asked for
    await ours.announce(here, key(1), RELAYS[:1], replace=True)
    assert (await another.lookup(here)).peers == (PeerRecord(key(1).public_key, RELAYS[:1]),)

    assert await ours.unannounce(here, key(1)) >= 11
    assert await js.call("lookup", node=theirs, topic=here.hex()) == {}
    await js.call("unannounce", node=theirs, topic=there.hex(), seed=seed(2))
    assert (await ours.lookup(there)).peers == (PeerRecord(key(1).public_key),)


async def _servers(js: JsDht, theirs: int, ours: DhtNode) -> None:
    relays = await ours.announce_self(key(3))
    assert len(relays) == 3
    assert all(relay.peer_address.host == HOST for relay in relays)
    ports = await js.call("findPeer", node=theirs, key=key(3).public_key.hex())
    assert set(ports) == {relay.relay_address.port for relay in relays}
    assert await ours.unannounce_self(key(3), [relay.relay_address for relay in relays]) == 3
    assert await js.call("findPeer", node=theirs, key=key(3).public_key.hex()) == []

    await js.call("listen", node=theirs, seed=seed(4))
    assert len(await ours.find_peer(key(4).public_key)) == 3


async def _values(js: JsDht, theirs: int, ours: DhtNode) -> None:
    ours_hash = await ours.put_immutable(b"from python")
    assert await js.call("immutableGet", node=theirs, target=ours_hash.hex()) == b"from python".hex()
    theirs_hash = bytes.fromhex(await js.call("immutablePut", node=theirs, value=b"from js".hex()))
    assert await ours.get_immutable(theirs_hash) == b"from js"
    assert await ours.get_immutable(bytes(32)) is None

    await ours.put_mutable(key(5), b"one", seq=1)
    found = await js.call("mutableGet", node=theirs, key=key(5).public_key.hex())
    assert found == {"seq": 1, "value": b"one".hex()}
    await js.call("mutablePut", node=theirs, seed=seed(5), value=b"two".hex(), seq=2)
    value = await ours.get_mutable(key(5).public_key)
    assert value is not None
    assert (value.seq, value.value) == (2, b"two")
    assert await ours.get_mutable(key(5).public_key, min_seq=3) is None


async def test_a_network_of_ours_serves_the_reference() -> None:
    """Eight nodes of ours, and JavaScript peers that see nothing else."""
    with trio.fail_after(PATIENCE):
        async with our_network(8) as (port, nodes), open_js_dht() as js:
            assert all(node.persistent for node in nodes)
            one = await js.call("node", bootstrap=port, options={"ephemeral": True})
            two = await js.call("node", bootstrap=port, options={"ephemeral": True})
            where = topic("served")
            relays = [{"host": relay.host, "port": relay.port} for relay in RELAYS]
            assert await js.call("announce", node=one, topic=where.hex(), seed=seed(1), relays=relays) == 8
            found = await js.call("lookup", node=two, topic=where.hex())
            assert found == {key(1).public_key.hex(): relays}
            await js.call("unannounce", node=one, topic=where.hex(), seed=seed(1))
            assert await js.call("lookup", node=two, topic=where.hex()) == {}

            target = await js.call("immutablePut", node=one, value="abcd")
            assert await js.call("immutableGet", node=two, target=target) == "abcd"
            await js.call("mutablePut", node=one, seed=seed(2), value="1234", seq=7)
            found = await js.call("mutableGet", node=two, key=key(2).public_key.hex())
            assert found == {"seq": 7, "value": "1234"}


async def test_our_nodes_relay_for_the_reference() -> None:
    """Two JavaScript peers connect: first the handshake, then also the messages that punch a hole."""
    with trio.fail_after(PATIENCE):
        async with our_network(8) as (port, nodes), open_js_dht() as js:
            one = await js.call("node", bootstrap=port, options={"ephemeral": True})
            two = await js.call("node", bootstrap=port, options={"ephemeral": True})
            forwarded = []
            for number, serve, dial in (
                (3, {}, {}),  # finds the way within the host
                (4, {"shareLocalAddress": False}, {"localConnection": False}),  # has to punch
            ):
                public_key = key(number).public_key.hex()
                await js.call("listen", node=one, seed=seed(number), options=serve)
                assert len(await js.call("findPeer", node=two, key=public_key)) == 3
                assert await js.call("connect", node=two, key=public_key, options=dial) == public_key
                forwarded.append(sum(node.statistics().forwarded for node in nodes))
            assert forwarded[0] >= 2
            assert forwarded[1] - forwarded[0] >= 4
            assert sum(node.statistics().forwards_refused for node in nodes) == 0


async def test_the_reference_becomes_persistent_through_our_nodes() -> None:
    """PING_NAT, ids and tables: a JavaScript node proves its address and joins a network of ours."""
    with trio.fail_after(PATIENCE):
        async with our_network(6) as (port, nodes), open_js_dht() as js:
            node = await js.call("node", bootstrap=port, options={})
            assert await js.call("becomePersistent", node=node)
            state = await js.call("state", node=node)
            assert not state["ephemeral"]
            assert not state["firewalled"]
            here = Endpoint(state["host"], state["port"])
            assert bytes.fromhex(state["id"]) == node_id(here)
            await js.call("ping", node=node, port=port)  # the first of ours hears of it at the latest now
            assert here in (await nodes[1].lookup(peer_target(key(9).public_key))).closest
            pong = await js.call("ping", node=node, port=nodes[2].socket(0).address[1])
            assert pong["from"]["id"] == nodes[2].machine.state.table.own_id.hex()
