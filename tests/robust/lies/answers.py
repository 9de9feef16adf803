"""Lies in answers: blocks, proofs and signatures that are not true, or do not come."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace

import trio
import trio.lowlevel

from p2prss.log.manifest import Manifest
from p2prss.log.proof_parts import BlockProof, Proof, ProofRequest, TreeNode, UpgradeProof, UpgradeRequest
from p2prss.log.store import Store
from p2prss.units import MAX_SAFE_INTEGER, MIB
from p2prss.wire.messages import (
    Data,
    Message,
    NoData,
    NoDataReason,
    Range,
    Request,
    Sync,
)
from tests.fakes.lying_peer import LyingPeer
from tests.robust.conftest import BLOCKS
from tests.robust.lies.lie import keep_alive, lie, listen


async def answer_all(peer: LyingPeer, change: Callable[[Request, Data], Message | Iterable[Message]]) -> None:
    """Answer every request for a block alone with a lie, and the others honestly."""
    while True:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            if isinstance(answer, Data) and answer.proof.block and not answer.proof.upgrade:
                changed = change(request, answer)
                await peer.say(*([changed] if isinstance(changed, Message) else changed))
                peer.lied.set()
            else:
                await peer.say(answer)


def with_block(answer: Data, *, value: bytes | None = None, nodes: list[TreeNode] | None = None) -> Data:
    block = answer.proof.block
    assert block is not None
    changed = BlockProof(
        block.index, block.value if value is None else value, block.nodes if nodes is None else nodes
    )
    return Data(answer.request_id, replace(answer.proof, block=changed))


@lie("bad-proof")
async def wrong_block(peer: LyingPeer) -> None:
    await peer.ready()
    await answer_all(peer, lambda _, answer: with_block(answer, value=b"not what was signed"))


@lie("wrong-answer")
async def another_block_with_its_own_proof(peer: LyingPeer) -> None:
    def other(request: Request, answer: Data) -> Message:
        assert request.proof.block is not None
        block = request.proof.block
        asked = replace(request.proof, block=block._replace(index=block.index ^ 1))
        return Data(request.id, peer.truth.answer(asked))

    await peer.ready()
    await answer_all(peer, other)


@lie("bad-proof")
async def another_block_under_the_right_index(peer: LyingPeer) -> None:
    def other(request: Request, answer: Data) -> Message:
        assert request.proof.block is not None
        return with_block(answer, value=peer.truth.get(request.proof.block.index ^ 1))

    await peer.ready()
    await answer_all(peer, other)


@lie("bad-proof")
async def wrong_nodes(peer: LyingPeer) -> None:
    def other(_: Request, answer: Data) -> Message:
        assert answer.proof.block is not None
        nodes = [TreeNode(node.index, node.size, bytes(32)) for node in answer.proof.block.nodes]
        return with_block(answer, nodes=nodes)

    await peer.ready()
    await answer_all(peer, other)


@lie("bad-proof")
async def nodes_that_are_out_of_place(peer: LyingPeer) -> None:
    await peer.ready()
    node = TreeNode(MAX_SAFE_INTEGER, MAX_SAFE_INTEGER, bytes(32))
    await answer_all(peer, lambda _, answer: with_block(answer, nodes=[node] * 200))


@lie("bad-proof")
async def wrong_signature(peer: LyingPeer) -> None:
    await peer.ready()
    while True:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            assert isinstance(answer, Data)
            assert answer.proof.upgrade is not None
            upgrade = answer.proof.upgrade._replace(signature=bytes(64))
            await peer.say(Data(request.id, replace(answer.proof, upgrade=upgrade)))
            peer.lied.set()


@lie("bad-proof")
async def an_upgrade_to_nothing(peer: LyingPeer) -> None:
    await peer.ready()
    (request,) = await peer.hear_requests()
    upgrade = UpgradeProof(0, 0, [], [], bytes(64))
    block = BlockProof(request.proof.block.index, b"", []) if request.proof.block else None
    await peer.say(Data(request.id, Proof(0, block=block, upgrade=upgrade)))
    peer.lied.set()
    await peer.hear_requests()


@lie("bad-proof")
async def a_manifest_of_somebody_else(peer: LyingPeer) -> None:
    await peer.ready()
    for request in await peer.hear_requests():
        answer = peer.honest(request)
        assert isinstance(answer, Data)
        foreign = Store.in_memory().create("foreign").manifest
        await peer.say(Data(request.id, replace(answer.proof, manifest=foreign)))
    peer.lied.set()
    await peer.hear_requests()


def forged_fork(peer: LyingPeer, fork: int) -> tuple[Proof, Manifest]:
    """A log of the same length under a higher fork, signed by somebody else."""
    forged = Store.in_memory().create("forged")
    forged.append([b"forged"] * BLOCKS)
    proof = forged.answer(ProofRequest(0, upgrade=UpgradeRequest(0, BLOCKS)))
    manifest = peer.truth.manifest
    assert manifest is not None
    return replace(proof, fork=fork), manifest


@lie("bad-proof")
async def a_higher_fork_that_nobody_signed(peer: LyingPeer) -> None:
    await peer.ready(fork=7)
    (request,) = await peer.hear_requests()
    assert request.proof.fork == 7
    proof, manifest = forged_fork(peer, 7)
    await peer.say(Data(request.id, replace(proof, manifest=manifest)))
    peer.lied.set()
    await peer.hear_requests()


@lie(waits=True)
async def a_fork_of_2_40_and_silence(peer: LyingPeer) -> None:
    await peer.ready(fork=2**40)
    await peer.hear_requests()
    peer.lied.set()
    await listen(peer)


@lie()
async def a_length_of_2_50(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open()
    await peer.say(Range(0, 2**50), Sync(0, 2**50, 0, can_upgrade=True, has_manifest=True))
    while True:
        for request in await peer.hear_requests():
            await peer.say(NoData(request.id, NoDataReason.NOT_AVAILABLE))
        peer.lied.set()


@lie()
async def no_data_for_everything(peer: LyingPeer) -> None:
    await peer.ready()
    while True:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            refusal = NoData(request.id, NoDataReason.INVALID_REQUEST)
            await peer.say(answer if request.proof.upgrade else refusal)
            if not request.proof.upgrade:
                peer.lied.set()


@lie(waits=True)
async def no_answer_to_anything(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.hear_requests()
    peer.lied.set()
    await keep_alive(peer)


@lie(waits=True)
async def no_answer_for_blocks(peer: LyingPeer) -> None:
    await peer.ready()
    while True:
        for request in await peer.hear_requests():
            if request.proof.upgrade:
                await peer.say(peer.honest(request))
            else:
                peer.lied.set()


@lie(waits=True)
async def a_byte_at_a_time(peer: LyingPeer) -> None:
    await peer.ready()
    while True:
        for request in await peer.hear_requests():
            peer.put(peer.honest(request))
            for byte in b"".join(peer.connection.data_to_send()):
                await peer.write(bytes([byte]))
                await trio.sleep(0.2)
                peer.lied.set()


@lie()
async def claims_for_blocks_it_does_not_have(peer: LyingPeer) -> None:
    await peer.ready()
    while True:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            if request.proof.upgrade and request.proof.block is None:
                await peer.say(answer)
            else:
                await peer.say(NoData(request.id), Range(0, BLOCKS))
            peer.lied.set()


@lie()
async def every_answer_three_times(peer: LyingPeer) -> None:
    await peer.ready()
    await answer_all(peer, lambda _, answer: [answer, answer, answer])


async def answer_what_waits(peer: LyingPeer, say: Callable[[Data], Awaitable[None]]) -> None:
    """Lie about two dozen blocks that cannot be checked before others came, then be silent."""
    await peer.ready()
    sent = 0
    while sent < 24:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            if request.proof.upgrade is not None:
                await peer.say(answer)
            elif request.proof.block and not request.proof.block.nodes:
                assert isinstance(answer, Data)
                await say(answer)
                sent += 1
    peer.lied.set()
    await keep_alive(peer)


@lie(waits=True)
async def tiny_answers_in_huge_frames_that_wait_for_others(peer: LyingPeer) -> None:
    """A message may be followed by junk; who keeps its block must not keep its frame."""

    async def say(answer: Data) -> None:
        await peer.say_payload(Data.TYPE, *answer.encode_parts(), bytes(8 * MIB))

    await answer_what_waits(peer, say)


@lie(waits=True)
async def answers_full_of_nodes_that_wait_for_others(peer: LyingPeer) -> None:
    async def say(answer: Data) -> None:
        await peer.say(with_block(answer, nodes=[TreeNode(2**40, 2**40, bytes(32))] * 1024))

    await answer_what_waits(peer, say)
