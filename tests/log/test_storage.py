"""Both storages keep the same promises."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey
from p2prss.log.memory_storage import MemoryBackend
from p2prss.log.merkle import Head, TreeBatch
from p2prss.log.proof_parts import TreeNode
from p2prss.log.sqlite_backend import SqliteBackend
from p2prss.log.storage import Change, CoreEntry, CoreStorage, StoreBackend

KEY = CoreKey(bytes(range(32)))
ENTRY = CoreEntry(KEY, discovery_key(KEY))


@pytest.fixture(params=["memory", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreBackend]:
    backend: StoreBackend = MemoryBackend() if request.param == "memory" else SqliteBackend(tmp_path)
    yield backend
    backend.close()


@pytest.fixture
def storage(backend: StoreBackend) -> CoreStorage:
    return backend.add(ENTRY)


def grown(head: Head, blocks: list[bytes]) -> Change:
    batch = TreeBatch(head)
    for block in blocks:
        batch.append(block)
    placed = list(enumerate(blocks, head.length))
    return Change(nodes=batch.nodes, blocks=placed, head=batch.head(b"signed"))


def test_a_new_log_is_empty(storage: CoreStorage) -> None:
    assert storage.head == Head.empty()
    assert storage.manifest is None
    assert storage.node(0) is None
    assert storage.read(0, 2) == [None, None]
    assert list(storage.bitfield_pages()) == []


def test_blocks_nodes_and_head_of_a_change_can_be_read(storage: CoreStorage) -> None:
    blocks = [b"", b"one", os.urandom(100_000), *[bytes([n]) * n for n in range(200)]]
    change = grown(storage.head, blocks)
    storage.write(change)
    assert storage.read(0, len(blocks) + 1) == [*blocks, None]
    assert storage.head == change.head
    assert all(storage.node(node.index) == node for node in change.nodes)
    assert storage.node(2 * len(blocks)) is None


def test_reopening_shows_the_same(backend: StoreBackend, storage: CoreStorage) -> None:
    storage.write(grown(storage.head, [b"a", b"b"]))
    storage.write(Change(manifest=b"manifest", bitfield={0: b"\x03", 7: b"\x01"}))
    again = backend.add(ENTRY)
    assert again.head == storage.head
    assert again.manifest == b"manifest"
    assert list(again.bitfield_pages()) == [(0, b"\x03"), (7, b"\x01")]
    assert again.read(0, 2) == [b"a", b"b"]


@pytest.mark.parametrize("length", [0, 1, 2, 3, 50, 51, 63, 64, 127, 128, 200, 299])
def test_truncation_drops_blocks_and_every_node_that_reaches_beyond(
    storage: CoreStorage, length: int
) -> None:
    blocks = [bytes([n % 256]) for n in range(300)]
    storage.write(grown(storage.head, blocks))
    kept = Head.at(length, 1, storage.node)
    assert kept is not None
    storage.write(Change(truncated_to=length, head=kept))
    batch = TreeBatch(Head.empty())
    for block in blocks[:length]:
        batch.append(block)
    wanted = {node.index: node for node in batch.nodes}
    assert {index: node for index in range(700) if (node := storage.node(index))} == wanted
    assert storage.read(0, 300) == [*blocks[:length], *[None] * (300 - length)]


def test_a_cut_and_what_follows_it_are_one_change(storage: CoreStorage) -> None:
    storage.write(grown(storage.head, [bytes([n % 256]) * 50 for n in range(700)]))
    storage.write(Change(truncated_to=3, nodes=[TreeNode(6, 1, b"h" * 32)], blocks=[(3, b"x"), (640, b"y")]))
    assert storage.read(2, 5) == [b"\x02" * 50, b"x", None]
    assert storage.read(640, 641) == [b"y"]
    assert storage.node(6) == TreeNode(6, 1, b"h" * 32)
    assert storage.node(7) is None


def test_cleared_blocks_are_gone_and_their_nodes_stay(storage: CoreStorage) -> None:
    storage.write(grown(storage.head, [b"block %d" % n for n in range(10)]))
    storage.write(Change(cleared=[range(2, 4), range(8, 9)]))
    held = [block is not None for block in storage.read(0, 10)]
    assert [index for index, is_held in enumerate(held) if not is_held] == [2, 3, 8]
    assert storage.node(4) is not None


def test_a_replaced_block_is_the_newer_one(storage: CoreStorage) -> None:
    storage.write(Change(blocks=[(5, b"old")]))
    storage.write(Change(blocks=[(5, b"new"), (6, b"next")]))
    assert storage.read(5, 7) == [b"new", b"next"]


def test_huge_indexes_cost_nothing(storage: CoreStorage) -> None:
    far = 2**44 - 1
    storage.write(Change(blocks=[(far, b"far")], nodes=[TreeNode(2 * far, 3, b"n" * 32)]))
    assert storage.read(far, far + 1) == [b"far"]
    assert storage.node(2 * far) == TreeNode(2 * far, 3, b"n" * 32)


def test_numbers_beyond_every_log_reach_no_other_log(backend: StoreBackend, storage: CoreStorage) -> None:
    other_key = CoreKey(b"o" * 32)
    other = backend.add(CoreEntry(other_key, discovery_key(other_key)))
    other.write(Change(nodes=[TreeNode(0, 4, b"o" * 32)]))
    assert storage.node(2**40 * 101) is None
    assert storage.node(2**60) is None


def test_logs_do_not_see_each_other(backend: StoreBackend, storage: CoreStorage) -> None:
    other_key = CoreKey(b"o" * 32)
    other = backend.add(CoreEntry(other_key, discovery_key(other_key)))
    storage.write(Change(blocks=[(0, b"mine")], nodes=[TreeNode(0, 4, b"m" * 32)], bitfield={0: b"\x01"}))
    assert other.read(0, 1) == [None]
    assert other.node(0) is None
    assert list(other.bitfield_pages()) == []
    backend.remove(other_key)
    assert storage.read(0, 1) == [b"mine"]
    assert [entry.key for entry in backend.entries()] == [KEY]


def test_a_removed_log_begins_anew(backend: StoreBackend, storage: CoreStorage) -> None:
    storage.write(grown(storage.head, [b"a"] * 100))
    backend.remove(KEY)
    again = backend.add(ENTRY)
    assert again.head == Head.empty()
    assert again.read(0, 1) == [None]
    assert again.node(0) is None
    assert backend.statistics().block_bytes == 0


def test_records_are_kept_by_kind_and_key(backend: StoreBackend) -> None:
    backend.put_record("feed", "b", b"1")
    backend.put_record("feed", "a", b"2")
    backend.put_record("setting", "a", b"3")
    backend.put_record("feed", "b", b"4")
    assert backend.records("feed") == [("a", b"2"), ("b", b"4")]
    assert backend.get_record("setting", "a") == b"3"
    backend.delete_record("feed", "a")
    backend.delete_record("feed", "missing")
    assert backend.get_record("feed", "a") is None
    assert backend.records("feed") == [("b", b"4")]
