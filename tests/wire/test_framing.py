"""Frames come out whole however the bytes come in, and a length is never believed before its bytes."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import RemoteProtocolError
from p2prss.units import KIB, MIB
from p2prss.wire.framing import MAX_FRAME_BYTES, FrameReader


def encode(bodies: list[bytes]) -> bytes:
    return b"".join(len(body).to_bytes(3, "little") + body for body in bodies)


@given(st.lists(st.binary(max_size=40), max_size=12), st.data())
def test_frames_survive_any_cuts(bodies: list[bytes], data: st.DataObject) -> None:
    stream = encode(bodies)
    reader, found = FrameReader(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        chunk, stream = bytearray(stream[:size]), stream[size:]
        reader.feed(chunk)
        while (frame := reader.next_frame(0, MAX_FRAME_BYTES)) is not None:
            found.append(bytes(frame))
            frame.release()
        chunk.clear()  # fails if a view of the chunk were kept
    assert found == bodies


@pytest.mark.parametrize("whole", [True, False])
def test_a_length_out_of_bounds_is_refused_at_once(whole: bool) -> None:
    for length in (b"\x10\x00\x00", b"\x15\x00\x00"):
        reader = FrameReader()
        if not whole:
            reader.feed(length[:1])
            assert reader.next_frame(17, 20) is None
        reader.feed(length if whole else length[1:])
        with pytest.raises(RemoteProtocolError, match="no place here"):
            reader.next_frame(17, 20)


def test_an_announced_length_allocates_nothing() -> None:
    reader = FrameReader()
    tracemalloc.start()
    try:
        for chunk in (b"\xff\xff\xff", bytes(100 * KIB)):
            reader.feed(chunk)
            assert reader.next_frame(0, MAX_FRAME_BYTES) is None
        assert tracemalloc.get_traced_memory()[1] < 1 * MIB
    finally:
        tracemalloc.stop()


def test_a_frame_inside_one_chunk_is_not_copied() -> None:
    chunk = bytearray(encode([b"one", b"two"]))
    reader = FrameReader()
    reader.feed(chunk)
    frame = reader.next_frame(0, 10)
    assert frame is not None
    chunk[3] = ord("O")
    assert bytes(frame) == b"One"
