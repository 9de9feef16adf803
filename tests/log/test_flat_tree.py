"""Flat-tree arithmetic against the reference and against a tree built by hand."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.log import flat_tree

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["flat_tree"]

indexes = st.integers(0, 2**54)


def test_full_roots() -> None:
    assert [flat_tree.full_roots(length) for length in range(21)] == VECTORS["full_roots"]


@pytest.mark.parametrize("node", VECTORS["nodes"], ids=lambda node: str(node["index"]))
def test_a_node(node: dict[str, Any]) -> None:
    index = node["index"]
    assert flat_tree.depth(index) == node["depth"]
    assert flat_tree.offset(index) == node["offset"]
    assert flat_tree.index(node["depth"], node["offset"]) == index
    assert flat_tree.parent(index) == node["parent"]
    assert flat_tree.sibling(index) == node["sibling"]
    children = flat_tree.children(index)
    assert (list(children) if children else None) == node["children"]
    assert [flat_tree.left_span(index), flat_tree.right_span(index)] == node["spans"]
    assert flat_tree.leaves(index) == node["leaves"]


@given(indexes)
def test_relatives_agree(index: int) -> None:
    sibling, parent = flat_tree.sibling(index), flat_tree.parent(index)
    assert flat_tree.sibling(sibling) == index
    assert flat_tree.parent(sibling) == parent
    assert flat_tree.children(parent) == (min(index, sibling), max(index, sibling))
    assert flat_tree.contains(parent, index)
    assert not flat_tree.contains(index, parent)
    assert not flat_tree.contains(index, sibling)


@given(indexes, indexes)
def test_contains_is_lying_between_the_spans(index: int, other: int) -> None:
    inside = flat_tree.left_span(index) <= other <= flat_tree.right_span(index)
    assert flat_tree.contains(index, other) == inside


@given(st.integers(0, 2**53))
def test_full_roots_cover_a_length_from_left_to_right(length: int) -> None:
    end = 0
    depths = []
    for root in flat_tree.full_roots(length):
        assert flat_tree.left_span(root) == end
        end = flat_tree.right_span(root) + 2
        depths.append(flat_tree.depth(root))
    assert end == 2 * length
    assert depths == sorted(set(depths), reverse=True)


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_upgrade_order_covers_the_new_part_from_left_to_right(start: int, growth: int) -> None:
    order = flat_tree.upgrade_order(start, start + growth)
    end = 2 * start
    for index in order:
        assert flat_tree.left_span(index) == end
        end = flat_tree.right_span(index) + 2
    assert end == 2 * (start + growth)
    assert len(order) <= 2 * 41
