"""Tree hashes and heads: every length of the recorded log, batches, and seeking in it."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.errors import ProofError
from p2prss.log import flat_tree
from p2prss.log.merkle import Head, TreeBatch, leaf_node, parent_node
from p2prss.log.proof_parts import TreeNode
from p2prss.log.seek import byte_offset, seek

LOG = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["log"]
BLOCKS = [bytes.fromhex(block) for block in LOG["blocks"]]


def grown(blocks: list[bytes], head: Head | None = None) -> TreeBatch:
    batch = TreeBatch(head or Head.empty())
    for block in blocks:
        batch.append(block)
    return batch


def nodes_of(batch: TreeBatch) -> dict[int, TreeNode]:
    return {node.index: node for node in batch.nodes}


def test_all_nodes_of_the_recorded_log() -> None:
    nodes = sorted(grown(BLOCKS).nodes)
    assert [(n.index, n.size, n.hash.hex()) for n in nodes] == [
        (n["index"], n["size"], n["hash"]) for n in LOG["tree_nodes"]
    ]


def test_all_heads_of_the_recorded_log() -> None:
    batch = TreeBatch(Head.empty())
    assert batch.head().tree_hash.hex() == LOG["empty_tree_hash"]
    for block, expected in zip(BLOCKS, LOG["heads"], strict=True):
        batch.append(block)
        head = batch.head()
        assert head.length == expected["length"]
        assert head.byte_length == expected["byteLength"]
        assert [root.index for root in head.roots] == expected["roots"]
        assert head.tree_hash.hex() == expected["treeHash"]


def test_an_earlier_head_is_found_in_the_nodes() -> None:
    nodes = nodes_of(grown(BLOCKS))
    for expected in LOG["heads"]:
        head = Head.at(expected["length"], 3, nodes.get)
        assert head is not None
        assert (head.fork, head.tree_hash.hex()) == (3, expected["treeHash"])
        assert head.byte_length == expected["byteLength"]
    del nodes[7]
    assert Head.at(9, 0, nodes.get) is None


@given(st.lists(st.binary(max_size=5), max_size=40), st.integers(0, 40))
def test_batches_add_up(blocks: list[bytes], cut: int) -> None:
    whole = grown(blocks)
    first = grown(blocks[:cut])
    second = grown(blocks[cut:], first.head())
    assert second.head() == whole.head()
    assert nodes_of(first) | nodes_of(second) == nodes_of(whole)
    assert not whole.provisional


def test_subtrees_must_begin_where_the_log_ends() -> None:
    nodes = nodes_of(grown(BLOCKS))
    batch = TreeBatch(Head.empty())
    batch.append_node(nodes[7], computed=False)
    with pytest.raises(ProofError, match="does not begin"):
        batch.append_node(nodes[7], computed=False)
    with pytest.raises(ProofError, match="does not begin"):
        batch.append_node(nodes[35], computed=False)
    batch.append_node(nodes[19], computed=False)
    assert batch.length == 12


def test_pairs_of_given_nodes_are_provisional() -> None:
    nodes = nodes_of(grown(BLOCKS))
    batch = TreeBatch(Head.empty())
    batch.append_node(nodes[3], computed=False)
    batch.append_node(nodes[11], computed=False)
    assert batch.provisional == [(nodes[3], nodes[11])]
    batch.append_node(nodes[23], computed=False)
    assert batch.roots == [nodes[15]]
    assert len(batch.provisional) == 1  # node 7 was computed, so the size of 23 is certain


def test_siblings_in_the_wrong_order_are_refused() -> None:
    left, right = leaf_node(0, b"a"), leaf_node(1, b"b")
    assert parent_node(left, right).index == 1
    with pytest.raises(ValueError, match="order"):
        parent_node(right, left)


def test_byte_offsets_and_seeks_of_the_recorded_log() -> None:
    batch = grown(BLOCKS)
    head, nodes = batch.head(), nodes_of(batch)
    for index, (start, size) in enumerate(LOG["byte_ranges"]):
        assert byte_offset(head, nodes.get, index) == start
        assert nodes[2 * index].size == size
    assert byte_offset(head, nodes.get, 20) == head.byte_length
    for case in LOG["seeks"]:
        found = seek(head, nodes.get, case["bytes"])
        if case["result"] is None:
            assert found is None
            continue
        assert found is not None
        assert found.found
        assert [found.start, found.offset] == case["result"]
    assert seek(head, nodes.get, head.byte_length + 1) is None
    assert seek(head, nodes.get, -1) is None


@given(st.lists(st.binary(max_size=5), min_size=1, max_size=40), st.data())
def test_seeking_in_a_sparse_log_narrows_down(blocks: list[bytes], data: st.DataObject) -> None:
    batch = grown(blocks)
    head, nodes = batch.head(), nodes_of(batch)
    sought = data.draw(st.integers(0, head.byte_length))
    roots = {root.index for root in head.roots}
    kept = {i: n for i, n in nodes.items() if i in roots or data.draw(st.booleans())}
    sure, found = seek(head, nodes.get, sought), seek(head, kept.get, sought)
    assert sure is not None
    assert sure.found
    assert found is not None
    assert found.start <= sure.start <= max(found.stop, found.start)
    before = sum(map(len, blocks[: found.start]))
    assert before + found.offset == sought
    for index in range(len(blocks) + 1):
        offset = byte_offset(head, kept.get, index)
        assert offset in (None, sum(map(len, blocks[:index])))
    assert all(flat_tree.right_span(index) < 2 * len(blocks) for index in nodes)
