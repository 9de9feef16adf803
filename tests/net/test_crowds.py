"""Many links at once: strangers give way, and what all peers together may have us keep is bounded."""

from random import Random

import pytest
import trio
from trio.testing import memory_stream_pair

from p2prss.log.store import Store
from p2prss.net import exchange
from p2prss.net.exchange import MAX_STRANGERS, Exchange
from p2prss.units import KIB, MIB
from tests.fakes.lying_peer import LyingPeer
from tests.robust.conftest import Scene, until


@pytest.fixture
async def scene(nursery: trio.Nursery) -> Scene:
    return Scene(nursery)


async def stay(peer: LyingPeer) -> None:
    await peer.shake_hands()
    peer.lied.set()
    while True:
        await peer.read()


async def crowd(scene: Scene, size: int) -> None:
    for number in range(size):
        await scene.let_in(scene.writer, stay, initiator=True, label=f"stranger {number}").lied.wait()


async def test_the_stranger_that_has_been_here_for_longest_makes_room(scene: Scene) -> None:
    await crowd(scene, MAX_STRANGERS + 2)
    await until(lambda: len(scene.writer.links) == MAX_STRANGERS)
    assert scene.writer.drops == {"crowded": 2}
    assert scene.ended.keys() == {"stranger 0", "stranger 1"}


async def test_one_who_knows_a_key_finds_room_and_keeps_it(scene: Scene) -> None:
    await crowd(scene, MAX_STRANGERS)
    scene.connect_honest()
    await scene.download()
    await crowd(scene, MAX_STRANGERS)
    assert "reader" not in scene.ended
    assert scene.core.session.peers == 1


async def test_links_we_dialled_are_no_strangers(scene: Scene) -> None:
    host = scene.let_in(scene.writer, stay, initiator=False, label="host")
    await host.lied.wait()
    await crowd(scene, MAX_STRANGERS + 1)
    assert "host" not in scene.ended


async def test_those_who_hold_most_memory_are_dropped(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "MAX_HELD_BYTES", 8 * MIB)

    async def half_a_frame(peer: LyingPeer) -> None:
        await peer.shake_hands()
        await peer.write((2**24 - 1).to_bytes(3, "little") + bytes(int(peer.random.uniform(3, 5) * MIB)))
        peer.lied.set()
        while True:
            await peer.read()

    scene.connect_honest()
    for number in range(4):
        scene.let_in(scene.writer, half_a_frame, initiator=True, label=f"greedy {number}")
    await until(lambda: scene.writer.drops.get("memory", 0) >= 2)
    await scene.download()
    assert "reader" not in scene.ended
    assert sum(link.held_bytes for link in scene.writer.links) <= 8 * MIB + 512 * KIB


async def test_one_link_carries_a_thousand_feeds(nursery: trio.Nursery) -> None:
    """A seeder offers its two thousand logs to a node that opens what it is asked for."""
    seeder, node = (Exchange(Store.in_memory(), nursery, random=Random(seed)) for seed in (1, 2))
    logs = [seeder.store.create(f"{number}") for number in range(2000)]
    sessions = [seeder.session(log, eager=True) for log in logs]
    for log in logs:
        node.store.open_log(log.key)
    near, far = memory_stream_pair()
    nursery.start_soon(seeder.use_stream, near, True, "node")
    nursery.start_soon(node.use_stream, far, False, "seeder")
    await until(lambda: all(session.peers == 1 for session in sessions))
