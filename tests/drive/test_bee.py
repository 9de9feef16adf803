"""A bee against a dict, whatever is done to it; and what readers of the reference make of deletes."""

import contextlib
import gc
from collections.abc import Awaitable, Callable
from itertools import chain
from random import Random

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from p2prss.drive.bee import Bee, BeeReader
from p2prss.drive.block_cache import BlockCache, CacheBudget
from p2prss.drive.btree import MAX_BLOCK_SIZE, BeeBlock, BeeEntry, BTreeNode, Header, encode_block
from p2prss.drive.cursor import BeeDiff
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import EVERYTHING, KeyRange
from p2prss.errors import LocalProtocolError, UsageError
from tests.fakes.memory_core import MemoryCore

KEYS = st.integers(0, 60).map(lambda n: b"k%02d" % n) | st.binary(max_size=3)
VALUES = st.none() | st.binary(max_size=6)
PUT = st.tuples(st.just("put"), KEYS, VALUES)
DELETE = st.tuples(st.just("delete"), KEYS, st.none())
BATCHES = st.lists(st.lists(PUT | PUT | DELETE, max_size=25), max_size=12)
RANGES = st.builds(
    lambda low, high, kinds: KeyRange(**{kinds[0]: low, kinds[1]: high}),
    st.none() | KEYS,
    st.none() | KEYS,
    st.tuples(st.sampled_from(["gt", "gte"]), st.sampled_from(["lt", "lte"])),
)

Model = dict[bytes, BeeEntry]


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test body below hypothesis, which calls plain functions."""
    trio.run(test)


async def rows(bee: BeeReader, keys: KeyRange = EVERYTHING, *, reverse: bool = False) -> list[BeeEntry]:
    return [entry async for entry in bee.range(keys, reverse=reverse)]


def sorted_model(model: Model) -> list[BeeEntry]:
    return [model[key] for key in sorted(model)]


@given(BATCHES, RANGES, st.booleans())
def test_a_bee_is_a_sorted_dict_with_a_memory(
    batches: list[list[tuple[str, bytes, bytes | None]]], keys: KeyRange, rewrite_stale: bool
) -> None:
    async def test() -> None:
        core = MemoryCore()
        bee = Bee(core, rewrite_stale=rewrite_stale)
        model: Model = {}
        versions: dict[int, Model] = {1: {}}
        for operations in batches:
            async with bee.batch() as batch:
                seq = max(core.length, 1)
                for name, key, value in operations:
                    if name == "put":
                        await batch.put(key, value)
                        model[key] = BeeEntry(seq, key, value)
                        seq += 1
                    else:
                        assert await batch.delete(key) is (key in model)
                        seq += model.pop(key, None) is not None
                    assert await batch.get(key) == model.get(key)
            assert bee.version == seq
            versions[bee.version] = dict(model)

        for reader in (bee, Bee(MemoryCore(core.blocks))):
            assert await rows(reader) == sorted_model(model)
            for _, key, _ in chain(*batches):
                assert await reader.get(key) == model.get(key)
            wanted = [entry for entry in sorted_model(model) if entry.key in keys]
            assert await rows(reader, keys) == wanted
            assert await rows(reader, keys, reverse=True) == wanted[::-1]
            assert [entry async for entry in reader.range(keys, limit=2)] == wanted[:2]

        for version, older in versions.items():
            assert await rows(bee.checkout(version)) == sorted_model(older)
            differences = [
                BeeDiff(model.get(key), older.get(key))
                for key in sorted(model.keys() | older.keys())
                if model.get(key) != older.get(key) and key in keys
            ]
            assert [difference async for difference in bee.diff(version, keys)] == differences

        replayed: Model = {}
        async for change in bee.history():
            if change.deleted:
                replayed.pop(change.entry.key, None)
            else:
                replayed[change.entry.key] = change.entry
        # A block of a batch keeps no node of its own when it put None and was overwritten later.
        assert {key for key, entry in replayed.items() if entry.value is not None} == {
            key for key, entry in model.items() if entry.value is not None
        }

    run(test)


@given(st.lists(st.binary(max_size=40) | st.binary(max_size=12).map(lambda tail: b"\x0a" + tail), min_size=1))
def test_any_blocks_give_entries_or_a_drive_error(blocks: list[bytes]) -> None:
    async def test() -> None:
        bee = Bee(MemoryCore([Header().encode(), *blocks]))
        for read in (
            lambda: rows(bee),
            lambda: rows(bee, reverse=True),
            lambda: bee.get(b"k"),
            lambda: anext(bee.diff(max(bee.version - 1, 1)), None),
            lambda: anext(bee.history(), None),
        ):
            try:
                await read()
            except DriveError:
                continue

    run(test)


LEVELS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 6), max_size=3),
        st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3)), max_size=4),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=300)
@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c", b"d"]), LEVELS), min_size=1, max_size=6))
def test_any_tree_gives_ascending_keys_or_a_drive_error(
    blocks: list[tuple[bytes, list[tuple[list[int], list[tuple[int, int]]]]]],
) -> None:
    async def test() -> None:
        encoded = [
            encode_block(key, b"v", [BTreeNode(tuple(keys), tuple(children)) for keys, children in levels])
            for key, levels in blocks
        ]
        bee = Bee(MemoryCore([Header().encode(), *encoded]))
        for reverse in (False, True):
            seen: list[bytes] = []
            with contextlib.suppress(DriveError):
                async for entry in bee.range(reverse=reverse):
                    seen += [entry.key]
            assert seen == sorted(set(seen), reverse=reverse)
        with contextlib.suppress(DriveError):
            async for _ in bee.diff(max(bee.version - 1, 1)):
                pass

    run(test)


DOUBLINGS = 35


def doubling_node(key: int, child: int) -> BTreeNode:
    return BTreeNode((key,), ((child, 0), (child, 0)))


async def test_a_tree_that_unfolds_without_end_is_refused_at_once() -> None:
    """Each node refers to the one below twice: 2^35 leaves in a few hundred bytes."""
    blocks = [Header().encode(), encode_block(b"a", b"", [BTreeNode((1,), ())])]
    blocks += [
        encode_block(b"b%04d" % seq, b"", [doubling_node(seq, seq - 1)]) for seq in range(2, DOUBLINGS + 2)
    ]
    with pytest.raises(DriveError, match="out of order"):
        await rows(Bee(MemoryCore(blocks)))
    # A second one that differs in every node, but shares all keys: no difference ever comes out.
    older = len(blocks)
    blocks.append(encode_block(b"", b"", [BTreeNode((1,), ())]))
    blocks += [
        encode_block(b"", b"", [doubling_node(key, older + key - 2)]) for key in range(2, DOUBLINGS + 2)
    ]
    with pytest.raises(DriveError, match="out of order"):
        await anext(Bee(MemoryCore(blocks)).diff(older), None)


async def test_a_tree_too_deep_is_refused() -> None:
    blocks = [Header().encode(), encode_block(b"k", b"", [BTreeNode((1,), ())])]
    blocks += [encode_block(b"", b"", [BTreeNode((), ((seq - 1, 0),))]) for seq in range(2, 60)]
    bee = Bee(MemoryCore(blocks))
    with pytest.raises(DriveError, match="deeper"):
        await bee.get(b"k")
    with pytest.raises(DriveError, match="deeper"):
        await rows(bee)
    assert await rows(bee.checkout(30)) == [BeeEntry(1, b"k", b"")]


def test_a_block_too_large_is_not_even_parsed() -> None:
    with pytest.raises(DriveError, match="at most"):
        BeeBlock.decode(1, bytes(MAX_BLOCK_SIZE + 1))


async def test_an_entry_too_large_is_not_written() -> None:
    core = MemoryCore()
    with pytest.raises(UsageError):
        await Bee(core).put(b"k", bytes(MAX_BLOCK_SIZE))
    assert core.length == 0


async def test_a_batch_is_one_append_and_none_if_it_fails() -> None:
    core = MemoryCore()
    bee = Bee(core)
    async with bee.batch() as batch:
        for number in range(100):
            await batch.put(b"%d" % number, b"")
    assert core.appends == [101]
    with contextlib.suppress(ZeroDivisionError):
        async with bee.batch() as batch:
            await batch.delete(b"5")
            1 / 0  # noqa: B018  (any error will do)
    assert core.appends == [101]
    assert await bee.get(b"5") is not None
    assert not await bee.delete(b"absent")
    assert core.appends == [101]


async def test_writers_wait_for_each_other() -> None:
    core = MemoryCore()

    async def write(name: int) -> None:
        bee = Bee(core)
        for number in range(10):
            await bee.put(b"%d-%d" % (name, number), b"")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for name in range(5):
            nursery.start_soon(write, name)
    assert len(await rows(Bee(core))) == 50


async def test_the_log_of_others_is_not_written() -> None:
    with pytest.raises(LocalProtocolError):
        await Bee(MemoryCore(writable=False)).put(b"k", b"v")


async def test_a_truncated_log_reads_anew() -> None:
    core = MemoryCore()
    bee = Bee(core)
    for number in range(20):
        await bee.put(b"%02d" % number, b"old")
    assert len(await rows(bee)) == 20
    listing = bee.range()
    await anext(listing)
    core.truncate(11)
    assert len(await rows(bee)) == 10
    await bee.put(b"new", b"")
    assert [entry.key for entry in await rows(bee)][-1] == b"new"
    with pytest.raises(DriveError):  # a listing of what is gone ends, it does not mix
        async for _ in listing:
            pass


async def test_the_cache_stays_in_its_bounds() -> None:
    core = MemoryCore()
    bee = Bee(core)
    async with bee.batch() as batch:
        for number in range(300):
            await batch.put(b"%03d" % number, bytes(100))
    cache = BlockCache(core, max_blocks=50)
    for seq in range(1, core.length):
        await cache.load(seq)
        assert len(cache) <= 50
    cache = BlockCache(core, budget=CacheBudget(20_000))
    await cache.warm(core.length)
    assert 20 <= len(cache) <= 30
    assert (await cache.load(7)).entry.key == b"006"


async def test_caches_share_a_budget_and_the_idle_one_gives_way() -> None:
    core = MemoryCore()
    async with Bee(core).batch() as batch:
        for number in range(100):
            await batch.put(b"%03d" % number, b"")
    budget = CacheBudget(150_000)
    first, second = BlockCache(core, budget=budget), BlockCache(core, budget=budget)
    await first.warm(core.length)
    await second.warm(core.length)
    assert (len(first), len(second)) == (100, 100)
    third = BlockCache(core, budget=budget)
    await first.header()  # in use, so the second one has rested longest
    await third.warm(core.length)
    assert (len(first), len(second), len(third)) == (100, 0, 100)
    del first, third
    gc.collect()
    assert budget.used == 0


async def test_a_sparse_reader_fetches_only_its_way_down() -> None:
    core = MemoryCore()
    async with Bee(core).batch() as batch:
        for number in range(2000):
            await batch.put(b"%04d" % number, b"")
    core.missing = set(range(core.length))
    bee = Bee(core)
    assert await bee.get(b"0777") is not None
    assert len(core.fetched) < 25
    core.fetched.clear()
    assert len([entry async for entry in bee.range(KeyRange(gte=b"1000", lt=b"1020"))]) == 20
    assert len(core.fetched) < 50


async def reference_get(core: MemoryCore, key: bytes) -> bool:
    """Whether the reference finds a key: also by the block a node happens to lie in."""
    seq, offset = core.length - 1, 0
    while True:
        block = BeeBlock.decode(seq, core.blocks[seq])
        if block.entry.key == key:
            return not block.is_deletion()
        node = block.node(offset)
        keys = [BeeBlock.decode(s, core.blocks[s]).entry.key for s in node.keys]
        if key in keys:
            return True
        if not node.children:
            return False
        seq, offset = node.children[sum(other < key for other in keys)]


@settings(max_examples=8)
@given(st.randoms(use_true_random=False))
def test_rewriting_stale_nodes_helps_readers_of_the_reference(random: Random) -> None:
    async def test() -> None:
        core = MemoryCore()
        bee = Bee(core, rewrite_stale=True)
        keys = [b"%03d" % number for number in range(120)]
        random.shuffle(keys)
        for key in keys:
            await bee.put(key, b"")
        gone = keys[:90]
        random.shuffle(gone)
        for key in gone:
            await bee.delete(key)
        for key in gone:
            assert not await reference_get(core, key)
        assert [entry.key for entry in await rows(bee)] == sorted(keys[90:])

    run(test)
