"""One log over both storages: writing, reading, proving, and what a sparse reader makes of it."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import (
    BlockUnavailableError,
    CorruptLogError,
    LocalProtocolError,
    ProofError,
    UsageError,
)
from p2prss.log.applying import Outcome
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest, core_key
from p2prss.log.merkle import leaf_hash
from p2prss.log.proof import InvalidRequestError, NotHeldError
from p2prss.log.proof_parts import BlockRequest, HashRequest, Proof, ProofRequest, UpgradeRequest
from p2prss.log.sqlite_storage import SqliteStorage
from p2prss.log.store import Store
from tests.fakes.log_pair import answered, block_request, fetch, upgrade, upgrade_request

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "core.json").read_text())["log"]
BLOCKS = [bytes.fromhex(block) for block in VECTORS["blocks"]]


@pytest.fixture(params=["memory", "sqlite"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    """A writer's store and a reader's."""
    if request.param == "memory":
        writer, reader = Store.in_memory(bytes(32)), Store.in_memory()
    else:
        writer, reader = Store.open(tmp_path / "writer"), Store.open(tmp_path / "reader")
    with writer, reader:
        yield writer, reader


@pytest.fixture
def log(stores: tuple[Store, Store]) -> Log:
    return stores[0].create("a log")


@pytest.fixture
def reader(stores: tuple[Store, Store], log: Log) -> Log:
    """The same log elsewhere, known by its key alone."""
    return stores[1].open_log(log.key)


def vector_log(store: Store, *, compat: bool = False) -> Log:
    key_pair = KeyPair.from_seed(b"\x01" * 32)
    if compat:
        return store.open_log(CoreKey(key_pair.public_key), key_pair=key_pair)
    manifest = Manifest.single(key_pair.public_key)
    return store.open_log(core_key(manifest), manifest=manifest, key_pair=key_pair)


@pytest.mark.parametrize("compat", [False, True])
def test_heads_are_those_of_the_reference(stores: tuple[Store, Store], compat: bool) -> None:
    log = vector_log(stores[0], compat=compat)
    assert log.key.hex() == VECTORS["key_compat" if compat else "key_v1"]
    for block, wanted in zip(BLOCKS, VECTORS["heads"], strict=True):
        head = log.append([block])
        assert head.length == wanted["length"]
        assert head.byte_length == wanted["byteLength"]
        assert head.tree_hash.hex() == wanted["treeHash"]
        assert head.signature.hex() == wanted["signature_compat" if compat else "signature_v1"]
    assert log.verify().clean


def test_a_batch_gives_the_head_of_single_appends(stores: tuple[Store, Store], log: Log) -> None:
    other = stores[0].create("another log")
    for block in BLOCKS:
        log.append([block])
    other.append(BLOCKS[:7])
    other.append([])
    other.append([memoryview(block) for block in BLOCKS[7:]])
    assert other.head.roots == log.head.roots
    assert other.get_range(0, 20) == log.get_range(0, 20) == BLOCKS


def test_byte_offsets_and_seeks_are_those_of_the_reference(log: Log) -> None:
    log.append(BLOCKS)
    assert [[log.byte_offset(n), len(BLOCKS[n])] for n in range(20)] == VECTORS["byte_ranges"]
    for case in VECTORS["seeks"]:
        found = log.seek(case["bytes"])
        assert (found and found.found and [found.start, found.offset]) == case["result"]


def test_what_is_not_held_is_none_or_an_error(log: Log) -> None:
    log.append(BLOCKS)
    log.clear(3, 5)
    assert log.get(3) is None
    assert log.get(100) is None
    assert [log.has(index) for index in (2, 3, 4, 5)] == [True, False, False, True]
    assert log.contiguous_length == 3
    with pytest.raises(BlockUnavailableError, match="block 3"):
        log.get_range(0, 20)
    assert log.get_range(5, 5) == []


def test_a_range_is_cut_by_its_bytes(log: Log) -> None:
    blocks = [b"a" * 40, b"b" * 60, b"c", b"d" * 500, b"e"]
    log.append(blocks)
    log.clear(4, 5)
    cuts = {0: 1, 39: 1, 99: 1, 100: 2, 101: 3, 600: 3, 601: 4}
    assert {most: len(log.get_range(0, 4, most)) for most in cuts} == cuts
    assert log.get_range(3, 5, 10) == [blocks[3]]  # one at least
    with pytest.raises(BlockUnavailableError, match="block 4"):
        log.get_range(3, 5, 501)


def test_only_the_owner_of_the_key_writes(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    assert log.writable
    assert not reader.writable
    with pytest.raises(LocalProtocolError, match="not ours"):
        reader.append([b"forged"])
    upgrade(log, reader)
    with pytest.raises(LocalProtocolError, match="not ours"):
        reader.truncate(3)
    with pytest.raises(LocalProtocolError):
        log.append([bytes(15 * 1024 * 1024 + 1)])
    assert log.length == 20


def test_truncation_signs_a_higher_fork(log: Log) -> None:
    log.append(BLOCKS)
    head = log.truncate(5)
    assert (head.length, head.fork, log.contiguous_length) == (5, 1, 5)
    log.append([b"other"])
    assert (log.length, log.fork) == (6, 1)
    assert log.truncate(6, 9).fork == 9
    for length, fork in [(7, None), (2, 9), (-1, None)]:
        with pytest.raises(LocalProtocolError):
            log.truncate(length, fork)
    assert log.truncate(0).fork == 10
    assert log.verify().clean


def test_a_manifest_of_another_log_is_refused(stores: tuple[Store, Store], log: Log) -> None:
    assert log.manifest is not None
    with pytest.raises(UsageError, match="another"):
        stores[1].open_log(CoreKey(b"k" * 32), manifest=log.manifest)


# -- from the writer to a reader -----------------------------------------------------------------------------


def test_a_reader_follows_and_serves_others(stores: tuple[Store, Store], log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    applied = upgrade(log, reader)
    assert (applied.outcome, applied.upgraded) == (Outcome.STORED, True)
    assert reader.head == log.head
    assert reader.manifest == log.manifest
    assert not reader.compat
    fetch(log, reader, [19, 0, 7, 8, 3])
    assert reader.get(7) == BLOCKS[7]
    assert reader.get(9) is None
    assert reader.contiguous_length == 1
    log.append([b"more", b"and more"])
    (applied,) = reader.apply(answered(log, [upgrade_request(reader, log, block=21)]))
    assert applied.upgraded
    assert reader.get(21) == b"and more"
    fetch(log, reader, range(22))
    assert reader.get_range(0, 22) == log.get_range(0, 22)
    assert reader.verify().clean
    third = Store.in_memory().open_log(log.key)
    upgrade(reader, third)
    fetch(reader, third, range(22))
    assert third.verify().checked_blocks == 22


def test_a_compat_log_travels_without_a_manifest(stores: tuple[Store, Store]) -> None:
    writer = vector_log(stores[0], compat=True)
    writer.append(BLOCKS)
    reader = stores[1].open_log(writer.key)
    (answer,) = answered(writer, [upgrade_request(reader, writer)])
    assert answer[1].manifest is None
    assert reader.apply([answer])[0].outcome is Outcome.STORED
    fetch(writer, reader, range(20))
    third = Store.in_memory().open_log(writer.key)
    assert upgrade(reader, third).upgraded
    assert reader.verify().clean


def test_later_answers_of_a_batch_build_on_earlier_ones(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    requests = [
        upgrade_request(reader, log),
        *(ProofRequest(0, block=BlockRequest(index, 4 if index < 16 else 2)) for index in range(20)),
    ]
    outcomes = reader.apply(answered(log, requests))
    assert [applied.outcome for applied in outcomes] == [Outcome.STORED] * 21
    assert reader.get_range(0, 20) == BLOCKS
    again = reader.apply(answered(log, requests[1:]))
    assert [applied.outcome for applied in again] == [Outcome.STALE] * 20


def test_an_answer_that_is_not_anchored_yet_can_be_tried_again(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    upgrade(log, reader)
    first, second = answered(
        log, [ProofRequest(0, block=BlockRequest(0, 4)), ProofRequest(0, block=BlockRequest(1, 0))]
    )
    (applied,) = reader.apply([second])
    assert applied.outcome is Outcome.UNCONNECTED
    assert applied.error is not None
    assert applied.error.unconnected
    assert [applied.outcome for applied in reader.apply([first, second])] == [Outcome.STORED] * 2


def test_a_bad_answer_spoils_no_other(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    upgrade(log, reader)
    good, bad, other = answered(log, [block_request(reader, index) for index in (2, 4, 10)])
    assert bad[1].block is not None
    forged = type(bad[1])(0, block=bad[1].block._replace(value=b"forged"))
    outcomes = reader.apply([good, (bad[0], forged), other, (good[0], other[1])])
    assert [applied.outcome for applied in outcomes] == [
        Outcome.STORED,
        Outcome.REJECTED,
        Outcome.STORED,
        Outcome.STALE,
    ]
    assert isinstance(outcomes[1].error, ProofError)
    assert reader.get(4) is None
    assert reader.verify().clean


def test_an_upgrade_that_was_overtaken_is_stale(log: Log, reader: Log) -> None:
    log.append(BLOCKS[:10])
    request = upgrade_request(reader, log)
    (old,) = answered(log, [request])
    log.append(BLOCKS[10:])
    (new,) = answered(log, [upgrade_request(reader, log)])
    assert [applied.outcome for applied in reader.apply([new, old])] == [Outcome.STORED, Outcome.STALE]
    assert reader.head == log.head


def test_a_higher_fork_replaces_what_differs(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    upgrade(log, reader)
    fetch(log, reader, range(20))
    log.truncate(12)
    log.append([b"another %d" % n for n in range(5)])
    stale_block = block_request(reader, 0)
    applied = upgrade(log, reader)
    assert applied.upgraded
    assert applied.truncated_to is not None
    assert 0 <= applied.truncated_to <= 12
    assert reader.head == log.head
    assert reader.get_range(0, applied.truncated_to) == BLOCKS[: applied.truncated_to]
    assert not reader.bitfield.any_set(applied.truncated_to, 100)
    assert reader.verify().clean
    fetch(log, reader, range(17))
    assert reader.get_range(0, 17) == log.get_range(0, 17)
    with pytest.raises(NotHeldError):
        log.answer(stale_block)


def test_a_fork_inside_a_batch_drops_what_came_before_it(log: Log, reader: Log) -> None:
    log.append(BLOCKS)
    before = answered(
        log,
        [upgrade_request(reader, log), *(ProofRequest(0, block=BlockRequest(n, 2)) for n in (0, 19))],
    )
    log.truncate(16)
    log.append([b"x", b"y"])
    after = answered(
        log,
        [
            ProofRequest(1, upgrade=UpgradeRequest(0, 18)),
            ProofRequest(1, block=BlockRequest(1, 4)),
            ProofRequest(1, block=BlockRequest(17, 1)),
        ],
    )
    outcomes = reader.apply([*before, *after])
    assert outcomes[3].truncated_to is not None
    assert reader.head == log.head
    assert reader.get(17) == b"y"
    assert not reader.has(19)
    assert reader.verify().clean


def test_requests_that_make_no_sense_are_told_from_those_for_what_is_not_held(log: Log) -> None:
    log.append(BLOCKS)
    log.clear(5, 6)
    for request in [
        ProofRequest(0, block=BlockRequest(5, 1)),
        ProofRequest(1, block=BlockRequest(1, 1)),
    ]:
        with pytest.raises(NotHeldError):
            log.answer(request)
    for request in [
        ProofRequest(0, hash=HashRequest(2**50, 1)),
        ProofRequest(0, upgrade=UpgradeRequest(20, 5)),
        ProofRequest(0, hash=HashRequest(0, 50)),
    ]:
        with pytest.raises(InvalidRequestError):
            log.answer(request)


def test_who_asks_for_a_manifest_gets_it_also_without_the_block(log: Log) -> None:
    log.append(BLOCKS)
    log.clear(5, 6)
    alone = Proof(0, manifest=log.manifest)
    assert log.answer(ProofRequest(0, block=BlockRequest(5, 1), manifest=True)) == alone
    assert log.answer(ProofRequest(0, manifest=True)) == alone
    with pytest.raises(NotHeldError):
        log.answer(ProofRequest(1, block=BlockRequest(5, 1), manifest=True))


# -- corruption ----------------------------------------------------------------------------------------------


def overwrite(log: Log, index: int, data: bytes) -> None:
    storage = log._storage
    assert isinstance(storage, SqliteStorage)
    extent = storage._extent(index)
    assert extent is not None
    with storage._file.path.open("r+b") as file:
        file.seek(extent.offset)
        file.write(data)


@pytest.fixture
def sqlite_stores(tmp_path: Path) -> Iterator[tuple[Store, Store]]:
    with Store.open(tmp_path / "a") as writer, Store.open(tmp_path / "b") as reader:
        yield writer, reader


def test_a_corrupt_block_is_found_dropped_and_fetched_again(sqlite_stores: tuple[Store, Store]) -> None:
    writer = sqlite_stores[0].create("a log")
    writer.append([b"block %03d" % n for n in range(100)])
    reader = sqlite_stores[1].open_log(writer.key)
    upgrade(writer, reader)
    fetch(writer, reader, range(100))
    overwrite(reader, 42, b"bit rot!")
    with pytest.raises(CorruptLogError, match="block 42"):
        reader.get(42)
    with pytest.raises(CorruptLogError, match="block 42"):
        reader.get_range(0, 100)
    progress: list[tuple[int, int]] = []
    report = reader.verify(lambda done, total: progress.append((done, total)))
    assert report.corrupt_blocks == (42,)
    assert report.head_valid
    assert progress[-1] == (100, 100)
    assert not reader.drop_corrupt(41)
    assert reader.drop_corrupt(42)
    assert reader.get(42) is None
    fetch(writer, reader, [42])
    assert reader.verify().clean


def test_a_corrupt_block_is_sent_to_peers_once_at_most(tmp_path: Path) -> None:
    with Store.open(tmp_path / "a") as store:
        log = store.create("a log")
        log.append([b"block %03d" % n for n in range(10)])
        overwrite(log, 4, b"bit rot!")
    with Store.open(tmp_path / "a") as store:
        log = store.create("a log")
        for index in (4, 5):
            assert log.answer(ProofRequest(0, block=BlockRequest(index, 1))).block is not None
        for _ in range(2):
            with pytest.raises(NotHeldError, match="fails its hash"):
                log.answer(ProofRequest(0, block=BlockRequest(4, 1)))
            assert log.answer(ProofRequest(0, block=BlockRequest(5, 1))).block is not None


def test_corrupt_nodes_and_heads_are_reported(tmp_path: Path, sqlite_stores: tuple[Store, Store]) -> None:
    log = sqlite_stores[0].create("a log")
    log.append([b"block %03d" % n for n in range(100)])
    shared = log._storage._shared  # type: ignore[attr-defined]  # only the SQLite storage has one
    with shared.database.transaction() as db:
        (page,) = db.execute("SELECT data FROM node_page ORDER BY id").fetchone()
        changed = bytearray(page)
        changed[5 * 40 + 20] ^= 1  # the hash of node 5
        db.execute("UPDATE node_page SET data = ? WHERE data = ?", (bytes(changed), page))
        db.execute("UPDATE core SET signature = zeroblob(64)")
    sqlite_stores[0].close()
    with Store.open(tmp_path / "a") as store:
        report = store.create("a log").verify()
    assert report.corrupt_blocks == ()
    assert set(report.corrupt_nodes) == {3, 5}
    assert not report.head_valid


# -- threads -------------------------------------------------------------------------------------------------


def test_readers_see_whole_steps_while_one_thread_writes(sqlite_stores: tuple[Store, Store]) -> None:
    """Reads, answers and cuts at once: a block is right or absent, never torn; no answer mixes two forks."""
    log = sqlite_stores[0].create("a log")
    log.append([b"first %d" % n for n in range(64)])
    done = threading.Event()
    failures: list[BaseException] = []

    def read() -> None:
        reader = Store.in_memory().open_log(log.key)
        try:
            while not done.is_set():
                for index in range(0, 90, 7):
                    block = log.get(index)
                    assert block is None or block.startswith((b"first", b"round"))
                try:
                    (answer,) = answered(log, [upgrade_request(reader, log, block=None)])
                except (NotHeldError, InvalidRequestError):
                    continue
                (applied,) = reader.apply([answer])
                assert applied.outcome in (Outcome.STORED, Outcome.STALE), applied
        except BaseException as error:  # noqa: BLE001 -- handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):
        log.append([b"round %d" % number * 50] * 9)
        log.clear(number, number + 3)
        log.truncate(max(20, log.length - 12))
        if number % 10 == 0:
            log.compact()
    done.set()
    for thread in threads:
        thread.join()
    assert not failures, failures
    assert log.verify().clean


def test_leaf_hashes_are_what_blocks_are_checked_against(log: Log) -> None:
    log.append([b"block"])
    node = log.node(0)
    assert node is not None
    assert node.hash == leaf_hash(b"block")
