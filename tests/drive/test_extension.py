"""The hints of bees, as recorded from the reference, and from strangers."""

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.drive.extension import Cached, Get, Hint, Iterate, decode_hint, encode_hint
from p2prss.drive.key_range import KeyRange
from p2prss.errors import DecodeError

CASES = json.loads((Path(__file__).parents[1] / "vectors" / "drive.json").read_text())["extension"]


def hint_of(message: dict[str, Any]) -> Hint:
    match message:
        case {"cache": cache}:
            return Cached(cache["start"], cache["end"], tuple(cache["blocks"]))
        case {"get": get}:
            return Get(get["version"], bytes.fromhex(get["key"]))
        case {"iterator": it}:
            bounds = {name: bytes.fromhex(it[name]) for name in ("gt", "gte", "lt", "lte") if name in it}
            return Iterate(
                it["version"], KeyRange(**bounds), it["limit"], it["reverse"], tuple(it["checkpoint"])
            )
    raise AssertionError(message)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["wire_payload"])
def test_hints_match_the_reference(case: dict[str, Any]) -> None:
    hint = hint_of(case["message"])
    assert encode_hint(hint).hex() == case["wire_payload"]
    assert decode_hint(bytes.fromhex(case["wire_payload"])) == hint


@given(st.binary(max_size=64).flatmap(lambda tail: st.just(bytes([len(tail)]) + tail)) | st.binary())
def test_any_payload_is_a_hint_or_a_decode_error(payload: bytes) -> None:
    with contextlib.suppress(DecodeError):
        decode_hint(payload)


def test_a_hint_of_too_many_blocks_is_refused() -> None:
    with pytest.raises(DecodeError):
        decode_hint(encode_hint(Cached(0, 1, tuple(range(3000)))))
