"""What the owner of a log may sign to hurt those who copy it."""

import pytest
import trio

from p2prss.crypto.keys import KeyPair
from p2prss.errors import BlockUnavailableError
from p2prss.log.applying import Outcome
from p2prss.log.log import MAX_BLOCK_BYTES
from p2prss.log.merkle import Head
from p2prss.log.proof_parts import BlockRequest, Proof, ProofRequest, TreeNode, UpgradeProof, UpgradeRequest
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.units import MAX_SAFE_INTEGER, MIB
from p2prss.wire.messages import Data, NoData, Range, Sync
from tests.fakes.lying_peer import LyingPeer
from tests.fakes.memory_log import Writer
from tests.robust.conftest import Scene, memory_below


def test_a_block_that_would_not_fit_in_a_frame_with_its_proof_is_not_taken() -> None:
    """Who stores it ends in trouble as soon as somebody asks for it with a longer proof."""
    writer = Writer.single(KeyPair.from_seed(bytes(32)))
    writer.append([b"small", bytes(MAX_BLOCK_BYTES), bytes(MAX_BLOCK_BYTES + 1)])
    log = Store.in_memory().open_log(writer.authority.key)
    upgrade = ProofRequest(0, upgrade=UpgradeRequest(0, 3), manifest=True)
    blocks = [ProofRequest(0, block=BlockRequest(index, 1 if index < 2 else 0)) for index in range(3)]
    applied = log.apply([(request, writer.answer(request)) for request in [upgrade, *blocks]])
    assert [one.outcome for one in applied] == [Outcome.STORED] * 3 + [Outcome.REJECTED]
    assert applied[3].error is not None
    assert applied[3].error.reason == "too-large"
    assert [log.has(index) for index in range(3)] == [True, True, False]


@pytest.mark.parametrize("answers", [True, False])
async def test_a_signed_length_of_2_43_costs_nothing(scene: Scene, answers: bool) -> None:
    """One root and a signature make a log of any length; nothing may be as large as it says."""
    writer = Writer.single(KeyPair.from_seed(bytes(32)))
    root = TreeNode(2**43 - 1, MAX_SAFE_INTEGER, bytes(32))
    head = writer.signed(Head(0, 2**43, root.size, (root,), b""))
    proof = Proof(
        0,
        upgrade=UpgradeProof(0, 2**43, [root], [], head.signature),
        manifest=writer.authority.manifest,
    )
    log = scene.reader.store.open_log(writer.authority.key)
    core = PeerCore(scene.reader.session(log, eager=True))
    core.session.patience = 0.3
    core.follow_tip()

    async def boast(peer: LyingPeer) -> None:
        peer.truth = log
        await peer.shake_hands()
        await peer.open()
        await peer.say(Sync(0, 2**43, 0, can_upgrade=True, has_manifest=True))
        while True:
            for request in await peer.hear_requests():
                if request.proof.upgrade:
                    await peer.say(Data(request.id, proof), Range(0, 2**43))
                elif answers:
                    await peer.say(NoData(request.id))

    with memory_below(16 * MIB), trio.fail_after(20):
        scene.let_in(scene.reader, boast, initiator=True)
        await core.wait_length(2**43)
        assert core.held_total == 0
        for ask in (core.get(0), core.get(2**42), core.seek(2**50)):
            with pytest.raises(BlockUnavailableError):
                await ask
        assert log.verify().clean
        scene.connect_honest()
        await scene.download()
