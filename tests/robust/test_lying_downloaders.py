"""Peers that ask too much of a seeder: it stays small, and serves the one beside them as if they were not."""

from collections.abc import Callable
from itertools import count
from random import Random

import pytest
import trio
import trio.lowlevel

from p2prss.log.proof_parts import BlockRequest, HashRequest, ProofRequest, SeekRequest, UpgradeRequest
from p2prss.units import MAX_SAFE_INTEGER, MIB
from p2prss.wire.messages import Cancel, Data, Message, NoData, Request
from tests.fakes.lying_peer import LyingPeer, Script
from tests.robust.conftest import BLOCKS, Scene, memory_below, until

MEMORY = 32 * MIB  # what one of them may cost
SECONDS = 10.0  # for a download of half a megabyte beside it

ATTACKS: dict[str, tuple[Script, str | None]] = {}  # name → script, the reason it is dropped for
Numbers = Callable[[int], list[Message]]


def attack(reason: str | None = None) -> Callable[[Script], Script]:
    """Add to the attacks; without a reason it may stay, and does no harm."""

    def add(script: Script) -> Script:
        ATTACKS[script.__name__] = script, reason
        return script

    return add


@pytest.mark.parametrize("name", ATTACKS)
async def test_a_seeder_serves_others_whatever_one_of_them_asks(name: str, scene: Scene) -> None:
    script, reason = ATTACKS[name]
    with memory_below(MEMORY):
        greedy = scene.let_in(scene.writer, script, initiator=len(name) % 2 == 0)
        with trio.fail_after(SECONDS):
            await greedy.lied.wait()
            scene.connect_honest()
            await scene.download()
        if reason is not None:
            await until(lambda: scene.writer.drops, 30)
    assert scene.writer.drops == ({reason: 1} if reason else {})
    assert "reader" not in scene.ended


def block_request(request_id: int, index: int, nodes: int = 0) -> Request:
    return Request(request_id, ProofRequest(0, block=BlockRequest(index, nodes)))


async def ask(peer: LyingPeer, requests: Numbers, *, read: bool = True, rounds: int | None = None) -> None:
    """Send requests for ever, hundreds to a frame; ``requests`` is given the first free id."""
    await peer.shake_hands()
    await peer.open()
    async with trio.open_nursery() as nursery:
        if read:
            nursery.start_soon(swallow, peer)
        for turn in count():
            await peer.say_frame(peer.batch(requests(1000 * turn)))
            await trio.lowlevel.checkpoint()
            peer.lied.set()
            if turn == rounds:
                break
        if not read:
            await trio.sleep_forever()


async def swallow(peer: LyingPeer) -> None:
    while True:
        await peer.read()


@attack("too-many-requests")
async def requests_without_reading_an_answer(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [block_request(n + i, i % BLOCKS) for i in range(1000)], read=False)


@attack()
async def requests_up_to_the_limit_without_reading_an_answer(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [block_request(n + i, i % BLOCKS) for i in range(1000)], read=False, rounds=0)


@attack("too-many-requests")
async def more_requests_than_the_queue_holds(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [block_request(n + i, i % BLOCKS) for i in range(1000)])


@attack()
async def as_much_as_it_can_read(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open()
    for number in count(1):
        await peer.say(*(block_request(64 * number + i, i % BLOCKS) for i in range(64)))
        heard = 0
        while heard < 64:
            heard += sum(isinstance(message, Data) for message in await peer.hear())
        peer.lied.set()


@attack("flood")
async def one_request_again_and_again(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [block_request(1, i % BLOCKS) for i in range(1000)])


@attack("flood")
async def requests_that_are_cancelled_at_once(peer: LyingPeer) -> None:
    def pairs(n: int) -> list[Message]:
        return [message for i in range(500) for message in (block_request(n + i, i % BLOCKS), Cancel(n + i))]

    await ask(peer, pairs)


@attack("flood")
async def requests_that_are_cancelled_while_they_are_served(peer: LyingPeer) -> None:
    def waves(n: int) -> list[Message]:
        asked: list[Message] = [block_request(n + i, i % BLOCKS) for i in range(64)]
        return asked + [Cancel(n + i) for i in range(64)]

    await ask(peer, waves)


@attack("flood")
async def blocks_beyond_the_head(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [block_request(n + i, 10**9 + i) for i in range(1000)])


@attack("flood")
async def blocks_of_another_fork(peer: LyingPeer) -> None:
    await ask(
        peer, lambda n: [Request(n + i, ProofRequest(2**40, block=BlockRequest(0, 0))) for i in range(1000)]
    )


def nonsense(number: int) -> ProofRequest:
    """Requests no log of this length could answer, of every kind."""
    far = MAX_SAFE_INTEGER
    return [
        ProofRequest(0),
        ProofRequest(0, block=BlockRequest(0, 0), hash=HashRequest(0, 0)),
        ProofRequest(0, block=BlockRequest(0, far)),
        ProofRequest(0, hash=HashRequest(0, far)),
        ProofRequest(0, upgrade=UpgradeRequest(0, far)),
        ProofRequest(0, upgrade=UpgradeRequest(far, far)),
        ProofRequest(0, upgrade=UpgradeRequest(5, 0)),
        ProofRequest(0, seek=SeekRequest(0, 0)),
        ProofRequest(0, hash=HashRequest(1, 0), seek=SeekRequest(far, 0)),
        ProofRequest(0, hash=HashRequest(31, 0), seek=SeekRequest(0, 0), upgrade=UpgradeRequest(16, 10)),
        ProofRequest(0, hash=HashRequest(31, 0), upgrade=UpgradeRequest(16, 10)),
    ][number % 11]


@attack("invalid-requests")
async def requests_that_make_no_sense(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [Request(n + i, nonsense(i)) for i in range(100)])


@attack()
async def sixty_three_requests_that_make_no_sense(peer: LyingPeer) -> None:
    await ask(peer, lambda n: [Request(n + i, nonsense(i)) for i in range(63)], rounds=0)


@attack("too-many-requests")
async def the_manifest_and_the_whole_tree_for_ever(peer: LyingPeer) -> None:
    whole = ProofRequest(0, upgrade=UpgradeRequest(0, BLOCKS), manifest=True)
    await ask(peer, lambda n: [Request(n + i, whole) for i in range(1000)], read=False)


@pytest.mark.parametrize("seed", range(3))
async def test_questions_of_every_size_in_every_combination_are_answered(seed: int, scene: Scene) -> None:
    random = Random(seed)
    sizes = (0, 1, 2, 31, 58, 59, 60, 63, 64, 118, 119, 120, 8191, 8192, 480_000, 2**32, MAX_SAFE_INTEGER)

    def number() -> int:
        return random.choice(sizes) if random.random() < 0.7 else random.randrange(2 * BLOCKS)

    def proof() -> ProofRequest:
        return ProofRequest(
            0,
            block=BlockRequest(number() % BLOCKS, number()) if random.random() < 0.4 else None,
            hash=HashRequest(number(), number()) if random.random() < 0.4 else None,
            seek=SeekRequest(number(), number()) if random.random() < 0.4 else None,
            upgrade=UpgradeRequest(number(), number()) if random.random() < 0.4 else None,
            manifest=random.random() < 0.5,
        )

    async def curious(peer: LyingPeer) -> None:
        await peer.shake_hands()
        await peer.open()
        await peer.say(*(Request(n, proof()) for n in range(60)))  # 64 of no sense would end the link
        answered: set[int] = set()
        while len(answered) < 60:
            answered |= {m.request_id for m in await peer.hear() if isinstance(m, Data | NoData)}

    with trio.fail_after(30):
        for _ in range(20):
            peer = scene.let_in(scene.writer, curious, initiator=True)
            await peer.lied.wait()
        scene.connect_honest()
        await scene.download()
    assert not scene.writer.drops
