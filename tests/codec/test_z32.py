"""z-base-32: the reference's text, round trips, and text that no bytes give."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.codec import z32
from p2prss.errors import DecodeError

KEYS = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["keys"]


@pytest.mark.parametrize("pair", KEYS["pairs"], ids=lambda pair: pair["core_key_v1_z32"][:8])
def test_a_key_as_text(pair: dict[str, str]) -> None:
    key = bytes.fromhex(pair["core_key_v1"])
    assert z32.encode(key) == pair["core_key_v1_z32"]
    assert z32.decode(pair["core_key_v1_z32"]) == key


@given(st.binary(max_size=70))
def test_bytes_come_back(data: bytes) -> None:
    assert z32.decode(z32.encode(data)) == data


@given(st.text(alphabet=z32.ALPHABET, max_size=20) | st.text(max_size=20))
def test_any_text_gives_its_bytes_or_a_decode_error(text: str) -> None:
    try:
        data = z32.decode(text)
    except DecodeError:
        return
    assert z32.encode(data) == text  # one text for one value
