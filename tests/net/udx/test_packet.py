"""Packets against the reference's captures, and against any bytes."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import DecodeError
from p2prss.net.udx.packet import (
    ACK,
    DATA,
    DESTROY,
    END,
    HEADER_SIZE,
    HEARTBEAT,
    MARKER,
    MESSAGE,
    SACK,
    decode,
    decode_ranges,
    distance,
    encode,
    encode_ranges,
)

KINDS = {"ACK": ACK, "DATA": DATA, "END": END, "SACK": SACK, "MESSAGE": MESSAGE, "DESTROY": DESTROY}
KINDS["HEARTBEAT"] = HEARTBEAT


def packets_of(vectors: Callable[[str], dict[str, Any]]) -> list[dict[str, Any]]:
    return [packet for capture in vectors("udx")["captures"] for packet in capture["packets"]]


def test_every_captured_packet_is_read_as_recorded(vectors: Callable[[str], dict[str, Any]]) -> None:
    packets = packets_of(vectors)
    assert len(packets) > 200
    for recorded in packets:
        if recorded.get("flags") is None:
            continue
        data = bytes.fromhex(recorded.get("hex") or recorded["head_hex"])
        header, body = decode(data)
        kind = 0
        for name in recorded["flags"].split("|"):
            kind |= KINDS[name]
        expected = (MARKER, kind, recorded.get("data_offset", 0), recorded["id"], recorded["rwnd"])
        assert header == (*expected, recorded["seq"], recorded["ack"])
        if "sacks" in recorded and "hex" in recorded:
            assert [list(pair) for pair in decode_ranges(header[2], body)] == recorded["sacks"]


def test_every_whole_captured_packet_is_written_as_recorded(
    vectors: Callable[[str], dict[str, Any]],
) -> None:
    whole = [packet for packet in packets_of(vectors) if "hex" in packet]
    assert whole
    for recorded in whole:
        data = bytes.fromhex(recorded["hex"])
        (_, kind, padding, stream_id, window, seq, ack), body = decode(data)
        assert encode(kind, stream_id, window, seq, ack, body[padding:], padding) == data


def test_a_relay_changes_only_the_stream_id(vectors: Callable[[str], dict[str, Any]]) -> None:
    for pair in vectors("udx")["relay"]["pairs"]:
        before, body = decode(bytes.fromhex(pair["in"]))
        after, same_body = decode(bytes.fromhex(pair["out"]))
        assert body == same_body
        assert before[:3] + before[4:] == after[:3] + after[4:]
        _, kind, _, _, window, seq, ack = before
        assert encode(kind, after[3], window, seq, ack, body).hex() == pair["out"]


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"\xff\x01" + tail))
def test_any_bytes_are_a_packet_or_a_decode_error(data: bytes) -> None:
    try:
        header, body = decode(data)
    except DecodeError:
        assert len(data) < HEADER_SIZE or data[:2] != b"\xff\x01"
        return
    assert len(body) == len(data) - HEADER_SIZE
    ranges = decode_ranges(header[2], body)
    assert len(ranges) <= min(50, len(body) // 8)


@given(st.lists(st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1)), max_size=50))
def test_ranges_come_back_as_written(ranges: list[tuple[int, int]]) -> None:
    assert decode_ranges(0, encode_ranges(ranges)) == ranges


def test_a_range_list_ends_where_its_size_says() -> None:
    body = encode_ranges([(3, 5)]) + b"payload of the same packet"
    assert decode_ranges(8, body) == [(3, 5)]


@pytest.mark.parametrize(
    ("start", "number", "steps"),
    [(0, 1, 1), (0, 0xFFFFFFFF, -1), (2**32 + 5, 4, -1), (2**32 - 1, 0, 1), (7, 7, 0)],
)
def test_numbers_wrap(start: int, number: int, steps: int) -> None:
    assert distance(start, number) == steps
