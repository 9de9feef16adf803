"""Whatever bytes a connected peer sends, at whatever stage, only its own link can end by them."""

from collections.abc import Callable
from contextlib import suppress
from random import Random

import trio
from hypothesis import example, given
from hypothesis import strategies as st

from p2prss.codec.compact import Writer
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.wire.messages import Message, ReplicationHandshake
from tests.fakes.lying_peer import PROTOCOL, LinkEnded, LyingPeer
from tests.replication.test_hostile import messages
from tests.robust.conftest import _stream_pair

BLOCKS = 20
PAUSE = 0.001  # seconds after each step: threads of the other side come to their turn

Step = Callable[[LyingPeer], bytes | None]
"""Makes the plaintext of one frame; or sends by itself, and returns None."""

numbers = st.integers(0, 4) | st.sampled_from([0x7F, 0xFC, 2**16, 2**32, 2**50, 2**53 - 1])


def control(kind: int, *uints: int, rest: bytes = b"") -> bytes:
    out = Writer()
    out.uint(0)
    out.uint(kind)
    for uint in uints:
        out.uint(uint)
    out.raw(rest)
    return out.finish()


def open_frame(number: int, protocol: str, known: bool, handshake: bytes | None) -> Step:
    def make(peer: LyingPeer) -> bytes:
        out = Writer()
        out.string(protocol)
        out.buffer(peer.truth.discovery_key if known else bytes(32))
        out.raw(ReplicationHandshake(peer.capability()).encode() if handshake is None else handshake)
        return control(1, number, rest=out.finish())

    return make


def message_frame(message: Message, place: int, flip: int, cut: int) -> Step:
    """A message on channel 1, perhaps with one byte changed and the end cut off."""
    payload = bytearray(b"".join(message.encode_parts()))
    if payload:
        payload[place % len(payload)] ^= flip
    return lambda _: b"\x01" + bytes([message.TYPE]) + bytes(payload[: max(0, len(payload) - cut)])


def batch_frame(steps: list[Step]) -> Step:
    def make(peer: LyingPeer) -> bytes:
        out = Writer()
        out.raw(b"\0\0\x01")
        for step in steps:
            frame = step(peer)
            if frame is not None:
                out.buffer(frame[1:])  # all on channel 1, also what was meant for another
        return out.finish()

    return make


flips = st.sampled_from([0, 0, 0, 1, 0x80, 0xFF])
cuts = st.sampled_from([0, 0, 0, 1, 5])
frames: st.SearchStrategy[Step] = st.one_of(
    st.binary(max_size=40).map(lambda data: lambda _: data),
    st.builds(
        open_frame,
        numbers,
        st.sampled_from([PROTOCOL, "x"]),
        st.booleans(),
        st.none() | st.binary(max_size=40),
    ),
    st.builds(lambda kind, a, b: lambda _: control(kind, a, b), st.integers(0, 4), numbers, numbers),
    st.builds(message_frame, messages, st.integers(0, 60), flips, cuts),
)
steps = frames | st.lists(frames, max_size=6).map(batch_frame)


class Stage:
    """How far a stranger gets before it talks nonsense."""

    GREETING, HANDSHAKE, HEADER, FRAMES, CHANNEL, ANSWERS = range(6)


@given(
    st.integers(Stage.GREETING, Stage.ANSWERS),
    st.booleans(),
    st.booleans(),
    st.lists(steps, max_size=12),
    st.binary(max_size=200),
)
@example(Stage.FRAMES, True, True, [lambda _: b"\0\0\0" + b"\x05\0\0\0\0\0"], b"")
@example(Stage.CHANNEL, False, True, [lambda _: b"\x01\x03" + b"\xff" * 9], b"")
def test_whatever_bytes_come_only_their_link_ends(
    stage: int, initiator: bool, holds: bool, script: list[Step], raw: bytes
) -> None:
    trio.run(_talk, stage, initiator, holds, script, raw)


async def _talk(stage: int, initiator: bool, holds: bool, script: list[Step], raw: bytes) -> None:
    """``holds``: whether the other side has the log, or wants it."""
    blocks = [Random(index).randbytes(50 * index) for index in range(BLOCKS)]
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            writer = Exchange(Store.in_memory(), nursery, random=Random(1))
            truth = writer.store.create("log")
            truth.append(blocks)
            reader = Exchange(Store.in_memory(), nursery, random=Random(2))
            core = PeerCore(reader.session(reader.store.open_log(truth.key), eager=True))
            core.follow_tip()
            near, far = _stream_pair()
            nursery.start_soon(_use, writer if holds else reader, near, not initiator)
            async with far:
                with suppress(LinkEnded):
                    await _mumble(LyingPeer(far, truth, initiator=initiator), stage, script, raw)
            near, far = _stream_pair()
            nursery.start_soon(_use, writer, near, True)
            nursery.start_soon(_use, reader, far, False)
            await core.wait_length(BLOCKS)
            await core.download(0, BLOCKS)
            assert core.log.get_range(0, BLOCKS) == blocks
            nursery.cancel_scope.cancel()


async def _use(exchange: Exchange, stream: trio.SocketStream, initiator: bool) -> None:
    with suppress(RemoteProtocolError, NetworkError):  # all that may come of it
        await exchange.use_stream(stream, initiator, "stranger")


async def _mumble(peer: LyingPeer, stage: int, script: list[Step], raw: bytes) -> None:
    if stage == Stage.GREETING:
        await peer.write(raw)
        await trio.sleep(PAUSE)
        return
    if stage == Stage.HANDSHAKE:
        await peer.flush()
        if not peer.connection.initiator:
            await peer.receive()
            await peer.flush()
        await peer.write(raw)
        await trio.sleep(PAUSE)
        return
    await peer.shake_hands()
    if stage >= Stage.CHANNEL:
        await peer.open()
        await peer.claim_all()
    for step in script:
        frame = step(peer)
        if frame is not None:
            await peer.say_frame(frame)
        await trio.sleep(PAUSE)
        if stage == Stage.ANSWERS:
            with trio.move_on_after(PAUSE):
                for request in await peer.hear_requests():
                    await peer.say(peer.honest(request))
    if stage == Stage.HEADER:
        await peer.write(raw)
        await trio.sleep(PAUSE)
