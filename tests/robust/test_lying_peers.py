"""Peers that lie to a downloader: they are dropped, and the honest one beside them brings everything."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import NamedTuple

import pytest
import trio
import trio.lowlevel
from trio.testing import MockClock

from p2prss.codec.compact import Writer
from p2prss.crypto.keys import CoreKey
from p2prss.log.manifest import Manifest
from p2prss.log.proof_parts import BlockProof, Proof, ProofRequest, TreeNode, UpgradeProof, UpgradeRequest
from p2prss.log.store import Store
from p2prss.units import KIB, MAX_SAFE_INTEGER, MIB
from p2prss.wire.messages import (
    BitfieldMessage,
    Cancel,
    Data,
    Extension,
    Message,
    NoData,
    NoDataReason,
    Range,
    ReplicationHandshake,
    Request,
    Sync,
    Unwant,
    Want,
)
from tests.fakes.lying_peer import PROTOCOL, LyingPeer, Script
from tests.robust.conftest import BLOCKS, Scene, let_time_fly, memory_below, until

MEMORY = 64 * MIB  # what one liar may cost, the log included


class Lie(NamedTuple):
    """What a liar does, and what becomes of it."""

    script: Script
    reason: str | None  # why it is dropped; None: it need not be, but does no harm
    waits: bool  # whether it consists in waiting


LIES: dict[str, Lie] = {}


def lie(reason: str | None = None, *, waits: bool = False) -> Callable[[Script], Script]:
    """Add to the lies."""

    def add(script: Script) -> Script:
        LIES[script.__name__] = Lie(script, reason, waits)
        return script

    return add


@pytest.mark.parametrize("name", LIES)
async def test_a_liar_is_dropped_and_all_comes_from_the_honest(
    name: str, scene: Scene, mock_clock: MockClock
) -> None:
    script, reason, waits = LIES[name]
    if waits:
        let_time_fly(mock_clock)
    else:
        mock_clock.rate = 1.0
    with memory_below(MEMORY), trio.fail_after(300):
        liar = scene.let_in(scene.reader, script, initiator=len(name) % 2 == 0)
        await liar.lied.wait()
        if reason is not None:
            await until(lambda: scene.reader.drops, 120)
        scene.connect_honest()
        await scene.download()
    assert scene.reader.drops == ({reason: 1} if reason else {})
    assert not scene.writer.drops
    assert "honest" not in scene.ended


# Answers


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


@lie(waits=True)
async def tiny_answers_in_huge_frames_that_wait_for_others(peer: LyingPeer) -> None:
    """A message may be followed by junk; who keeps its block must not keep its frame."""
    await peer.ready()
    sent = 0
    while sent < 24:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            if request.proof.upgrade is not None:
                await peer.say(answer)
            elif request.proof.block and not request.proof.block.nodes:
                await peer.say_payload(Data.TYPE, *answer.encode_parts(), bytes(8 * MIB))
                sent += 1
    peer.lied.set()
    await keep_alive(peer)


@lie(waits=True)
async def answers_full_of_nodes_that_wait_for_others(peer: LyingPeer) -> None:
    await peer.ready()
    sent = 0
    while sent < 24:
        for request in await peer.hear_requests():
            answer = peer.honest(request)
            if request.proof.upgrade is not None:
                await peer.say(answer)
            elif request.proof.block and not request.proof.block.nodes:
                assert isinstance(answer, Data)
                await peer.say(with_block(answer, nodes=[TreeNode(2**40, 2**40, bytes(32))] * 1024))
                sent += 1
    peer.lied.set()
    await keep_alive(peer)


# Floods


async def flood(peer: LyingPeer, messages: Callable[[int], list[Message]]) -> None:
    """Send messages for ever, a thousand or so to a frame."""
    await peer.ready()
    peer.lied.set()
    number = 0
    while True:
        await peer.say_frame(peer.batch(messages(number)))
        await trio.lowlevel.checkpoint()
        number += 1000


@lie("flood")
async def syncs(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Sync(i % 3, n + i, 0, can_upgrade=True) for i in range(1000)])


@lie("flood")
async def ranges(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Range(2 * (n + i), 1 + i % 2) for i in range(1000)])


@lie("flood")
async def ranges_that_come_and_go(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Range(0, 2**50 - n, drop=bool(i % 2)) for i in range(1000)])


@lie("flood")
async def wants(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Want((n + i) * 32, 32) for i in range(1000)])


@lie("flood")
async def unwants(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Unwant((n + i) * 32, 32) for i in range(1000)])


@lie("flood")
async def bitfields(peer: LyingPeer) -> None:
    words = b"\x55\xaa\x00\xff" * (64 * KIB)
    await flood(peer, lambda n: [BitfieldMessage(n * 32 * KIB, words)] * 8)


@lie("flood")
async def extensions(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Extension(f"name {n}", b"")] * 1000)


@lie("flood")
async def large_extensions(peer: LyingPeer) -> None:
    await flood(peer, lambda _: [Extension("name", bytes(2 * MIB))])


@lie("flood")
async def cancels(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [Cancel(n + i) for i in range(1000)])


@lie("flood")
async def refusals_of_what_was_not_asked(peer: LyingPeer) -> None:
    await flood(peer, lambda n: [NoData(10**6 + n + i) for i in range(1000)])


@lie("flood")
async def blocks_that_were_not_asked_for(peer: LyingPeer) -> None:
    value = bytes(64 * KIB)
    await flood(peer, lambda n: [Data(10**6 + n + i, Proof(0, BlockProof(i, value, []))) for i in range(100)])


@lie("flood")
async def messages_on_a_channel_that_is_not_open(peer: LyingPeer) -> None:
    await peer.shake_hands()
    peer.lied.set()
    items = [open_item(1, "nobody/knows", bytes(32), b"")] + [b"\x01" + bytes(100)] * 1000
    out = Writer()
    out.raw(b"\0\0\0")
    out.buffer(items[0])
    out.raw(b"\0\x01")
    for item in items[1:]:
        out.buffer(item)
    await peer.say_frame(out.finish())
    await listen(peer)


def open_item(number: int, protocol: str, channel_id: bytes, handshake: bytes) -> bytes:
    """The control message that opens a channel, without the number of the control channel."""
    out = Writer()
    out.uint(1)
    out.uint(number)
    out.string(protocol)
    out.buffer(channel_id)
    out.raw(handshake)
    return out.finish()


@lie()
async def opens_of_what_nobody_has(peer: LyingPeer) -> None:
    await peer.ready()
    for number in range(20_000):
        item = open_item(2 + number, PROTOCOL, number.to_bytes(32, "little"), bytes(33))
        peer.connection._send_plaintext([b"\0", item])
        if number % 1000 == 999:
            await peer.flush()
            await peer.read()  # each is rejected
    peer.lied.set()
    await keep_alive(peer)


@lie()
async def a_channel_that_is_opened_and_closed_again_and_again(peer: LyingPeer) -> None:
    await peer.shake_hands()
    handshake = ReplicationHandshake(peer.capability()).encode()
    for number in range(5000):
        item = open_item(1, PROTOCOL, peer.truth.discovery_key, handshake)
        peer.connection._send_plaintext([b"\0", item])
        peer.connection._send_plaintext([b"\0\x03\x01"])
        if number % 100 == 99:
            await peer.flush()
            await peer.read()
    peer.lied.set()
    await keep_alive(peer)


@lie(waits=True)
async def reads_nothing_and_wants_everything(peer: LyingPeer) -> None:
    await peer.ready()
    for start in range(2000):
        peer.put(Want(start * 32, 32))
    await peer.flush()
    peer.lied.set()
    while True:  # keeps alive, never reads
        await trio.sleep(5)
        await peer.say_frame(b"")


# Frames


@lie("bad-frame")
async def a_frame_that_is_too_short_for_a_mac(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\x10\0\0" + bytes(16))
    await listen(peer)


@lie("bad-frame")
async def a_frame_of_16_mib_that_does_not_decrypt(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\xff\xff\xff")
    for _ in range(64):
        await peer.write(bytes(256 * KIB))
    await listen(peer)


@lie("timeout", waits=True)
async def a_frame_of_16_mib_that_never_ends(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.write(b"\xff\xff\xff" + bytes(8 * MIB))
    await listen(peer)


@lie("bad-frame")
async def a_repeated_frame(peer: LyingPeer) -> None:
    await peer.ready()
    peer.put(Range(0, 1))
    data = b"".join(peer.connection.data_to_send())
    await peer.write(data + data)
    await listen(peer)


@lie("bad-mux")
async def a_batch_in_a_batch(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\0\0" + b"\x05\0\0\0\0\0" * 3)
    await listen(peer)


@lie("bad-mux")
async def a_channel_number_from_the_blue(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0" + open_item(2**40, PROTOCOL, bytes(32), b""))
    await listen(peer)


@lie("bad-mux")
async def a_reject_of_nothing(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\x02\x7f")
    await listen(peer)


@lie("flood")
async def a_batch_of_a_million_empty_messages(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_frame(b"\0\0\x7f" + b"\x01\x01" * MIB)
    await listen(peer)


@lie("decode")
async def a_message_that_ends_early(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Sync.TYPE, b"\x01")
    await listen(peer)


@lie("decode")
async def a_count_of_2_32_nodes(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Data.TYPE, b"\x01\x01\0\0\0" + b"\xfe\xff\xff\xff\xff" + bytes(100))
    await listen(peer)


@lie("decode")
async def a_number_above_2_53(peer: LyingPeer) -> None:
    await peer.ready()
    await peer.say_payload(Range.TYPE, b"\0" + b"\xff" * 9 + b"\x01")
    await listen(peer)


# The handshake


@lie("bad-capability")
async def the_key_of_another_log(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open(ReplicationHandshake(peer.capability(CoreKey(bytes(32)))).encode())
    await listen(peer)


@lie("bad-capability")
async def the_capability_of_the_other_side(peer: LyingPeer) -> None:
    """It sends back what it was sent."""
    await peer.shake_hands()
    await peer.open((await peer.hear_open()).handshake)
    await listen(peer)


@lie("decode")
async def an_open_without_a_capability(peer: LyingPeer) -> None:
    await peer.shake_hands()
    await peer.open(b"\x01")
    await listen(peer)


@lie("bad-frame")
async def bytes_at_random(peer: LyingPeer) -> None:
    await peer.write(peer.random.randbytes(100_000))
    await listen(peer)


@lie("bad-frame")
async def a_web_browser(peer: LyingPeer) -> None:
    await peer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await listen(peer)


@lie("timeout", waits=True)
async def silence_from_the_start(peer: LyingPeer) -> None:
    peer.lied.set()
    await listen(peer)


@lie("timeout", waits=True)
async def silence_in_the_middle_of_a_length(peer: LyingPeer) -> None:
    await peer.write(b"\x20" if peer.connection.initiator else b"\x60")
    await listen(peer)


@lie("timeout", waits=True)
async def silence_before_the_header(peer: LyingPeer) -> None:
    await peer.flush()
    while not peer.connection.handshake:
        await peer.receive()
        if not peer.connection.handshake:
            await peer.flush()
    frames = peer.connection.data_to_send()
    await peer.write(b"".join(frames[: len(frames) - 1]))  # all but the header
    await listen(peer)


@lie("timeout", waits=True)
async def a_handshake_byte_a_second(peer: LyingPeer) -> None:
    peer.lied.set()
    for byte in b"\x20\0\0" + bytes(200) if peer.connection.initiator else b"\x60\0\0" + bytes(200):
        await peer.write(bytes([byte]))
        await trio.sleep(1.0)


async def listen(peer: LyingPeer) -> None:
    """Read until the link ends."""
    peer.lied.set()
    while True:
        await peer.read()


async def keep_alive(peer: LyingPeer) -> None:
    """Be there, and nothing else."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listen, peer)
        while True:
            await trio.sleep(5)
            await peer.say_frame(b"")
