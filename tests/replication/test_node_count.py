"""The nodes counter, against what a log really stores."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2prss.log import flat_tree
from p2prss.log.bitfield import Bitfield
from p2prss.log.log import Log
from p2prss.replication.node_count import BlockSet, known_level, knows_roots, root_level
from tests.fakes.replication_network import copy_of, written


def counted(log: Log, index: int) -> int:
    """The exact counter, by looking at the nodes: hypercore's way."""
    node, level = 2 * index, 0
    while log.node(node) is None:
        node, level = flat_tree.parent(node), level + 1
    return level


@pytest.mark.parametrize("length", [1, 2, 7, 8, 20, 37])
def test_counting_by_blocks_finds_exactly_the_stored_nodes(length: int) -> None:
    log = written(length)
    for seed in range(12):
        random = Random(seed)
        copy = copy_of(log, random.sample(range(length), random.randrange(length + 1)))
        for index in range(length):
            if not copy.has(index):
                assert known_level(index, length, copy.bitfield) == (counted(copy, index), True)
        for shorter in range(length):
            if knows_roots(shorter, length, copy.bitfield):
                assert all(copy.node(root) for root in flat_tree.full_roots(shorter))


def test_a_whole_log_knows_all_its_old_roots() -> None:
    log = written(37)
    assert all(knows_roots(length, 37, log.bitfield) for length in range(38))


def test_blocks_on_their_way_count_but_not_for_certain() -> None:
    coming = BlockSet()
    coming.add(4)
    assert known_level(5, 8, Bitfield(), coming) == (0, False)
    assert known_level(6, 8, Bitfield(), coming) == (1, False)
    assert known_level(0, 8, Bitfield(), coming) == (2, False)
    assert known_level(0, 8, Bitfield()) == (3, True)


@pytest.mark.parametrize(("index", "length", "level"), [(0, 1, 0), (3, 20, 4), (17, 20, 2), (6, 7, 0)])
def test_root_level(index: int, length: int, level: int) -> None:
    assert root_level(index, length) == level


indexes = st.integers(0, 300) | st.integers(2**50, 2**50 + 300)


@given(st.lists(st.tuples(st.booleans(), indexes)), indexes, st.integers(0, 52))
def test_a_block_set_is_a_set(steps: list[tuple[bool, int]], index: int, level: int) -> None:
    blocks, model = BlockSet(), set[int]()
    for add, member in steps:
        (blocks.add if add else blocks.discard)(member)
        (model.add if add else model.discard)(member)
    assert bool(blocks) == bool(model)
    assert (index in blocks) == (index in model)
    assert blocks.below(index, level) == any(member >> level == index >> level for member in model)
