"""The bitfield against a plain set, and against the reference's bytes."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2prss.log.bitfield import PAGE_BITS, PAGE_BYTES, Bitfield

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["bitfield"]


def bits_of(data: bytes, base: int = 0) -> set[int]:
    return {base + 8 * i + bit for i, byte in enumerate(data) for bit in range(8) if byte >> bit & 1}


def test_the_reference_bitfield() -> None:
    bitfield = Bitfield(tracked=True)
    for index in VECTORS["set"]:
        bitfield.set(index)
    pages = bitfield.take_changed()
    data = b"".join(pages[number] for number in sorted(pages))
    assert len(data) == VECTORS["total_bytes"]
    assert [[i, byte] for i, byte in enumerate(data) if byte] == VECTORS["nonzero_bytes"]
    assert bitfield.first_unset() == VECTORS["firstUnset_from_0"]
    assert bitfield.first_set(34) == VECTORS["firstSet_from_34"]
    assert bitfield.words(0, 2).hex() == VECTORS["wire_bitfield_first_64_bits"][4:]
    assert bitfield.take_changed() == {}


# Positions near page and byte borders, over a few pages.
positions = st.builds(
    lambda page, near: max(0, page * PAGE_BITS + near),
    st.integers(0, 4),
    st.integers(-40, 40) | st.integers(0, PAGE_BITS),
)
operations = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["set", "unset"]), positions),
        st.tuples(st.sampled_from(["set_range", "unset_range"]), positions, positions),
        st.tuples(st.just("set_words"), positions, st.binary(max_size=64) | st.just(b"\xff" * PAGE_BYTES)),
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(operations, positions, positions)
def test_it_behaves_like_a_set(steps: list[tuple], start: int, stop: int) -> None:
    bitfield, model = Bitfield(tracked=True), set()
    stored = Bitfield()
    for name, *arguments in steps:
        match name, arguments:
            case "set_words", (position, data):
                position &= ~31
                data = data[: len(data) & ~3]
                model -= set(range(position, position + 8 * len(data)))
                model |= bits_of(data, position)
                arguments = [position, data]
            case "set", (index,):
                model.add(index)
            case "unset", (index,):
                model.discard(index)
            case "set_range", (low, high):
                model |= set(range(low, high))
            case "unset_range", (low, high):
                model -= set(range(low, high))
        getattr(bitfield, name)(*arguments)
        for number, page in bitfield.take_changed().items():
            stored.load_page(number, page)
    inside = {index for index in model if start <= index < stop}
    for one in (bitfield, bitfield.copy(), stored):
        assert one.count(start, stop) == len(inside)
        assert one.any_set(start, stop) == bool(inside)
        assert one.all_set(start, stop) == (len(inside) == max(0, stop - start))
        assert one.has(start) == (start in model)
        assert one.first_set(start) == min((i for i in model if i >= start), default=None)
        unset = one.first_unset(start)
        assert unset not in model
        assert model.issuperset(range(start, unset))
        assert one.last_set() == max(model, default=None)
        assert {index for run in one.runs(start, stop) for index in run} == inside
        assert bits_of(one.words(start & ~31, 3), start & ~31) == {
            i for i in model if start & ~31 <= i < (start & ~31) + 96
        }


def test_a_huge_claim_takes_no_memory() -> None:
    bitfield = Bitfield()
    bitfield.set_range(5, 2**53)
    bitfield.unset(2**40)
    assert bitfield.first_unset(5) == 2**40
    assert bitfield.count(0, 2**53) == 2**53 - 6
    assert bitfield.first_set(2**40) == 2**40 + 1
    assert bitfield.last_set() == 2**53 - 1
    assert len(bitfield._pages) == 2
    bitfield.unset_range(0, 2**53)
    assert not bitfield._pages
    assert bitfield.first_set() is None


def test_misaligned_words_and_long_pages_are_refused() -> None:
    with pytest.raises(ValueError, match="word"):
        Bitfield().set_words(5, bytes(4))
    with pytest.raises(ValueError, match="page"):
        Bitfield().load_page(0, bytes(PAGE_BYTES + 1))
