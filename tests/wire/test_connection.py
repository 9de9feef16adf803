"""The whole connection: two ends with bytes cut anywhere, bad peers, the clock."""

import contextlib
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec.compact import Reader
from p2prss.crypto.keys import KeyPair
from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.log.proof_parts import BlockProof, Proof
from p2prss.units import KIB, MIB
from p2prss.wire.connection import (
    HANDSHAKE_SECONDS,
    KEEP_ALIVE_SECONDS,
    MAX_QUEUED_BYTES,
    SILENCE_SECONDS,
    Connection,
    Event,
    Ready,
    State,
)
from p2prss.wire.messages import Data
from p2prss.wire.mux import Closed, Opened, Received, RemoteOpen
from p2prss.wire.mux_channel import MuxChannel
from p2prss.wire.noise import HandshakeResult, NoiseHandshake, Pattern
from p2prss.wire.secret_stream import FrameSealer, stream_id
from tests.fakes.wire_ends import Ends, seed

ALPHA, ID = "hypercore/alpha", b"\x11" * 32


def open_both(ends: Ends) -> tuple[MuxChannel, MuxChannel]:
    ours, theirs = ends.initiator.open(ALPHA, ID, b"i"), ends.responder.open(ALPHA, ID, b"r")
    ends.pump()
    return ours, theirs


def test_the_first_frames_match_the_reference(wire_vectors: dict[str, Any]) -> None:
    case = wire_vectors["secret_stream"][0]
    frames = {side: [] for side in ("initiator", "responder")}
    for frame in case["handshake_frames"] + case["header_frames"]:
        frames[frame["from"]].append(bytes.fromhex(frame["hex"]))
    ends = Ends()
    sent = {"initiator": b"", "responder": b""}
    events = []
    for _ in range(2):
        data = b"".join(ends.initiator.data_to_send())
        sent["initiator"] += data
        events += ends.responder.receive(data, 0.0)
        data = b"".join(ends.responder.data_to_send())
        sent["responder"] += data
        events += ends.initiator.receive(data, 0.0)
    assert sent == {side: b"".join(parts) for side, parts in frames.items()}
    assert {event.handshake_hash.hex() for event in events if isinstance(event, Ready)} == {
        case["initiator_hash"]
    }
    assert ends.initiator.state is ends.responder.state is State.OPEN


def test_both_learn_each_others_key() -> None:
    ends = Ends()
    to_initiator, to_responder = ends.pump()
    assert [type(event) for event in to_initiator + to_responder] == [Ready, Ready]
    assert to_initiator[0].remote_public_key == KeyPair.from_seed(seed(2)).public_key
    assert to_responder[0].remote_public_key == KeyPair.from_seed(seed(1)).public_key


def test_the_initiator_may_speak_in_the_same_write_as_its_last_handshake_message() -> None:
    ends = Ends()
    ends.responder.receive(b"".join(ends.initiator.data_to_send()), 0.0)
    [ready] = ends.initiator.receive(b"".join(ends.responder.data_to_send()), 0.0)
    assert isinstance(ready, Ready)
    ends.initiator.open(ALPHA, ID, b"at once").send(3, b"early")
    events = ends.responder.receive(b"".join(ends.initiator.data_to_send()), 0.0)
    assert [type(event) for event in events] == [Ready, RemoteOpen]
    channel = ends.responder.open(ALPHA, ID)
    assert ends.responder.deadline == float("-inf")
    assert ends.responder.handle_timer(0.0) == [
        Opened(channel, b"at once"),
        Received(channel, 3, memoryview(b"early")),
    ]
    assert ends.responder.deadline > 0


def test_a_handshake_made_elsewhere_is_taken_up() -> None:
    """As in the DHT, where Noise IK runs in its own messages."""
    keys = [KeyPair.from_seed(seed(number)) for number in (1, 2)]
    noise = [
        NoiseHandshake(
            Pattern.IK,
            initiator=initiator,
            key_pair=keys[0 if initiator else 1],
            ephemeral_seed=seed(3 if initiator else 4),
            remote_public_key=keys[1].public_key if initiator else None,
        )
        for initiator in (True, False)
    ]
    noise[1].receive(noise[0].send())
    noise[0].receive(noise[1].send())

    def connect(side: int) -> Connection:
        result = noise[side].result
        assert isinstance(result, HandshakeResult)
        return Connection(
            initiator=side == 0,
            key_pair=keys[side],
            ephemeral_seed=bytes(32),
            stream_header=seed(9)[:24],
            now=0.0,
            handshake=result,
        )

    ends = Ends()
    ends.initiator, ends.responder = connect(0), connect(1)
    assert ends.initiator.deadline == float("-inf")
    assert [type(event) for event in ends.initiator.events()] == [Ready]
    ours, _ = open_both(ends)
    assert not ours.closed


SCRIPT = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 2), st.integers(0, 300), st.sampled_from([0, 10, 5000])),
    max_size=25,
)


@given(SCRIPT, st.integers(0, 2**32))
def test_messages_survive_any_cuts(script: list[tuple[int, int, int, int]], number: int) -> None:
    cuts = random.Random(number)
    ends = Ends()

    def cut() -> int:
        return cuts.choice([1, 2, 3, 7, 100, 3000, 1 << 20])

    both = ends.pump(chunk_size=cut)
    assert [type(event) for events in both for event in events] == [Ready, Ready]
    channels = [
        [end.open(ALPHA, bytes([name])) for name in range(3)] for end in (ends.initiator, ends.responder)
    ]
    ends.pump(chunk_size=cut)
    expected: tuple[list[Any], list[Any]] = ([], [])
    for side, name, kind, size in script:
        payload = cuts.randbytes(size)
        end = (ends.initiator, ends.responder)[side]
        if cuts.random() < 0.3:
            with end.corked():
                for _ in range(3):
                    channels[side][name].send(kind, payload)
                    expected[1 - side].append((channels[1 - side][name], kind, payload))
        else:
            channels[side][name].send(kind, payload[: size // 2], payload[size // 2 :])
            expected[1 - side].append((channels[1 - side][name], kind, payload))
    found = ends.pump(chunk_size=cut)
    for side in (0, 1):
        assert [
            (e.channel, e.type, bytes(e.payload)) for e in found[side] if isinstance(e, Received)
        ] == expected[side]


def test_a_block_of_16_mib_less_overhead_arrives(ends: Ends) -> None:
    ours, theirs = open_both(ends)
    block = memoryview(random.Random(1).randbytes(16 * MIB - 4 * KIB))
    ours.send(Data.TYPE, *Data(1, Proof(0, BlockProof(7, block, []))).encode_parts())
    [event] = ends.pump(chunk_size=lambda: 256 * KIB)[1]
    assert isinstance(event, Received)
    assert event.channel is theirs
    answer = Data.decode(Reader(event.payload))
    assert answer.proof.block is not None
    assert answer.proof.block.value == block


def test_the_receive_buffer_may_be_reused_at_once(ends: Ends) -> None:
    ours, _ = open_both(ends)
    ours.send(0, b"first")
    ours.send(0, b"second")
    stream, buffer, payloads = b"".join(ends.initiator.data_to_send()), bytearray(20), []
    for start in range(0, len(stream), 20):
        part = stream[start : start + 20]
        buffer[: len(part)] = part
        payloads += [event.payload for event in ends.responder.receive(memoryview(buffer)[: len(part)], 0.0)]
        buffer[:] = bytes(20)
    assert payloads == [b"first", b"second"]


@given(st.lists(st.binary(max_size=150), max_size=6), st.booleans())
def test_any_bytes_give_events_or_a_remote_error(chunks: list[bytes], initiator: bool) -> None:
    ends = Ends()
    end = ends.initiator if initiator else ends.responder
    with contextlib.suppress(RemoteProtocolError):
        for chunk in filter(None, chunks):
            assert end.receive(chunk, 0.0) == []
        return
    assert end.closed


@given(st.data())
def test_a_stream_with_one_wrong_bit_is_dropped(data: st.DataObject) -> None:
    ends = Ends()
    ends.responder.receive(b"".join(ends.initiator.data_to_send()), 0.0)
    ends.initiator.receive(b"".join(ends.responder.data_to_send()), 0.0)
    ends.initiator.open(ALPHA, ID).send(0, b"message")
    stream = bytearray(b"".join(ends.initiator.data_to_send()))
    bit = data.draw(st.integers(0, 8 * len(stream) - 1))
    stream[bit // 8] ^= 1 << bit % 8
    events: list[Event] = []
    with contextlib.suppress(RemoteProtocolError):
        events = ends.responder.receive(stream, 0.0)
        assert not any(isinstance(event, Received) for event in events)
        assert ends.responder.deadline < 60  # it waits for bytes that will not come, but not for ever
        return
    assert ends.responder.closed


@given(st.lists(st.binary(max_size=60), min_size=1, max_size=8))
def test_any_plaintext_of_a_peer_gives_events_or_a_remote_error(plaintexts: list[bytes]) -> None:
    ends = Ends()
    ends.pump()
    open_both(ends)
    sealer = ends.initiator._sealer
    assert isinstance(sealer, FrameSealer)
    with contextlib.suppress(RemoteProtocolError):
        for plaintext in plaintexts:
            ends.responder.receive(sealer.seal([plaintext]), 0.0)
        return
    assert ends.responder.closed


def handshaken(ends: Ends) -> Connection:
    """The responder, after all of the handshake but the initiator's header."""
    ends.responder.receive(b"".join(ends.initiator.data_to_send()), 0.0)
    ends.initiator.receive(b"".join(ends.responder.data_to_send()), 0.0)
    third, _header = ends.initiator.data_to_send()
    ends.responder.receive(third, 0.0)
    assert ends.responder.state is State.HEADER
    return ends.responder


@pytest.mark.parametrize("length", [0, 16, 31, 33, 96, 0xFFFFFF])
def test_a_handshake_frame_has_exactly_its_size(length: int) -> None:
    with pytest.raises(RemoteProtocolError) as raised:
        Ends().responder.receive(length.to_bytes(3, "little"), 0.0)
    assert raised.value.reason == "bad-frame"


@pytest.mark.parametrize("length", [0, 17, 55, 57, 0xFFFFFF])
def test_a_header_has_exactly_its_size(length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        handshaken(Ends()).receive(length.to_bytes(3, "little"), 0.0)


def test_a_header_of_another_stream_is_refused() -> None:
    ends = Ends()
    responder = handshaken(ends)
    assert ends.initiator.handshake is not None
    own = stream_id(ends.initiator.handshake.handshake_hash, initiator=False)  # our own, sent back
    with pytest.raises(RemoteProtocolError, match="another stream"):
        responder.receive(b"\x38\0\0" + own + bytes(24), 0.0)


@pytest.mark.parametrize("length", range(17))
def test_a_frame_too_short_to_be_encrypted_is_refused(ends: Ends, length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        ends.responder.receive(length.to_bytes(3, "little"), 0.0)


def test_a_peer_that_asks_for_answers_and_does_not_read_is_dropped(ends: Ends) -> None:
    ours, theirs = open_both(ends)
    ours.send(0, b"x")
    first = ends.initiator.data_to_send()
    while ends.responder.queued_bytes <= MAX_QUEUED_BYTES:
        theirs.send(3, bytes(8 * MIB))
    with pytest.raises(RemoteProtocolError) as raised:
        ends.responder.receive(first[0], 0.0)
    assert raised.value.reason == "flood"


def test_the_handshake_has_a_deadline() -> None:
    ends = Ends(now=100.0)
    for end in (ends.initiator, ends.responder):
        assert end.deadline == 100.0 + HANDSHAKE_SECONDS
        assert end.handle_timer(109.9) == []
        with pytest.raises(RemoteProtocolError) as raised:
            end.handle_timer(110.0)
        assert raised.value.reason == "timeout"
        assert end.closed
        assert end.deadline == float("inf")


def test_a_peer_that_never_sends_its_header_runs_into_the_same_deadline() -> None:
    responder = handshaken(Ends())
    responder.handle_timer(KEEP_ALIVE_SECONDS)
    with pytest.raises(RemoteProtocolError):
        responder.handle_timer(HANDSHAKE_SECONDS)


def test_silence_of_our_own_is_broken_by_an_empty_frame(ends: Ends) -> None:
    end = ends.initiator
    assert end.deadline == KEEP_ALIVE_SECONDS
    end.handle_timer(KEEP_ALIVE_SECONDS)
    [frame] = end.data_to_send()
    assert len(frame) == 20
    assert ends.responder.receive(frame, 5.0) == []
    assert end.deadline == 2 * KEEP_ALIVE_SECONDS
    end.handle_timer(7.0)
    assert end.data_to_send() == []


def test_sending_puts_off_the_keep_alive(ends: Ends) -> None:
    ours, _ = open_both(ends)
    ends.initiator.handle_timer(4.0)
    ours.send(0, b"")
    assert ends.initiator.deadline == 4.0 + KEEP_ALIVE_SECONDS


def test_a_silent_peer_is_dropped_and_one_that_keeps_alive_is_not(ends: Ends) -> None:
    now = 0.0
    while now < 4 * SILENCE_SECONDS:
        now = min(ends.initiator.deadline, ends.responder.deadline)
        ends.initiator.handle_timer(now)
        ends.responder.handle_timer(now)
        ends.pump(now)
    last = now
    while ends.initiator.deadline < last + SILENCE_SECONDS:
        ends.initiator.handle_timer(ends.initiator.deadline)
    with pytest.raises(RemoteProtocolError) as raised:
        ends.initiator.handle_timer(last + SILENCE_SECONDS)
    assert raised.value.reason == "timeout"


def test_the_end_of_the_stream_closes(ends: Ends) -> None:
    ours, _ = open_both(ends)
    assert ends.initiator.receive(b"", 1.0) == []
    assert ends.initiator.closed
    ours.send(0, b"into the void")
    assert ends.initiator.data_to_send() == []
    assert ends.initiator.handle_timer(1.0) == []
    with pytest.raises(LocalProtocolError):
        ends.initiator.receive(b"x", 1.0)


def test_a_channel_needs_a_finished_handshake() -> None:
    with pytest.raises(LocalProtocolError):
        Ends().initiator.open(ALPHA, ID)


def test_a_close_of_a_channel_is_told(ends: Ends) -> None:
    ours, theirs = open_both(ends)
    theirs.close()
    assert ends.pump()[0] == [Closed(ours)]
    remote_open = RemoteOpen(9, ALPHA, ID, b"")
    ends.initiator.reject(remote_open)  # not one that waits: nothing happens
    assert ends.initiator.queued_bytes == 0
