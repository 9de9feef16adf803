"""Encrypted frames, byte by byte as the reference makes them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import LocalProtocolError, RemoteProtocolError
from p2prss.wire.framing import LENGTH_SIZE
from p2prss.wire.secret_stream import MAX_PLAINTEXT_BYTES, FrameOpener, FrameSealer, stream_id

KEY, HEADER = bytes(range(32)), bytes(range(24))


@pytest.mark.parametrize("number", range(2))
@pytest.mark.parametrize("side", ["initiator", "responder"])
def test_frames_match_the_reference(wire_vectors: dict[str, Any], number: int, side: str) -> None:
    case = wire_vectors["secret_stream"][number]
    handshake_hash = bytes.fromhex(case["initiator_hash"])
    header = bytes.fromhex(case["secretstream_headers"][side])
    key = bytes.fromhex(case["initiator_tx" if side == "initiator" else "initiator_rx"])
    identity = stream_id(handshake_hash, initiator=side == "initiator")
    assert identity.hex() == case["stream_ids"][side]
    header_frame = next(frame["hex"] for frame in case["header_frames"] if frame["from"] == side)
    assert (b"\x38\0\0" + identity + header).hex() == header_frame
    sealer, opener = FrameSealer(key, header), FrameOpener(key, header)
    for item in case["data_frames"][side]:
        plaintext = bytes.fromhex(item["plaintext"])
        frame = sealer.seal([plaintext[:2], memoryview(plaintext)[2:]])
        assert frame.hex() == item["frame"]
        assert opener.open(frame[LENGTH_SIZE:]) == plaintext


@given(st.lists(st.binary(max_size=100), max_size=5), st.data())
def test_a_tampered_frame_does_not_open(parts: list[bytes], data: st.DataObject) -> None:
    body = FrameSealer(KEY, HEADER).seal(parts)[LENGTH_SIZE:]
    assert FrameOpener(KEY, HEADER).open(memoryview(body)) == b"".join(parts)
    bit = data.draw(st.integers(0, 8 * len(body) - 1))
    body[bit // 8] ^= 1 << bit % 8
    with pytest.raises(RemoteProtocolError) as raised:
        FrameOpener(KEY, HEADER).open(body)
    assert raised.value.reason == "bad-frame"


def test_frames_open_only_in_the_order_they_were_sealed() -> None:
    sealer, opener = FrameSealer(KEY, HEADER), FrameOpener(KEY, HEADER)
    sealer.seal([b"first"])
    second = sealer.seal([b"second"])
    with pytest.raises(RemoteProtocolError):
        opener.open(second[LENGTH_SIZE:])


def test_the_largest_frame_fits_and_one_more_byte_does_not() -> None:
    largest = bytes(MAX_PLAINTEXT_BYTES)
    frame = FrameSealer(KEY, HEADER).seal([largest])
    assert frame[:LENGTH_SIZE] == b"\xff\xff\xff"
    assert FrameOpener(KEY, HEADER).open(memoryview(frame)[LENGTH_SIZE:]) == largest
    with pytest.raises(LocalProtocolError):
        FrameSealer(KEY, HEADER).seal([largest, b"x"])


@pytest.mark.parametrize("size", range(17))
def test_a_frame_too_short_is_refused(size: int) -> None:
    with pytest.raises(RemoteProtocolError):
        FrameOpener(KEY, HEADER).open(bytes(size))


def test_keys_and_headers_have_their_size() -> None:
    with pytest.raises(LocalProtocolError):
        FrameSealer(KEY, HEADER[:-1])
    with pytest.raises(LocalProtocolError):
        FrameOpener(KEY[:-1], HEADER)
