"""What only the storage on a disk can get wrong: full disks, broken files, leftovers, room given back."""

import errno
import os
import resource
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from p2prss.codec.compact import Buffer
from p2prss.errors import DiskFullError, SchemaError, StorageError
from p2prss.log.applying import Outcome
from p2prss.log.database import SCHEMA_VERSION
from p2prss.log.disk import Disk
from p2prss.log.log import Log
from p2prss.log.sqlite_backend import SqliteBackend
from p2prss.log.store import Store
from p2prss.units import KIB, MIB
from tests.fakes.failing_disk import FailingDisk
from tests.fakes.log_pair import answered, block_request, fetch, upgrade

BLOCK = bytes(range(256)) * 64  # 16 KiB


class RaisingDisk(Disk):
    """Raises an error at the ``calls_left``th call."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.calls_left: int | None = None

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        self._count()
        super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        self._count()
        super().sync(fd)

    def _count(self) -> None:
        if self.calls_left is not None:
            self.calls_left -= 1
            if not self.calls_left:
                raise self.error


@pytest.fixture
def disk() -> FailingDisk:
    return FailingDisk()


@pytest.fixture
def store(tmp_path: Path, disk: FailingDisk) -> Iterator[Store]:
    with Store.open(tmp_path / "home", disk=disk) as store:
        yield store


@pytest.fixture
def log(store: Store) -> Log:
    return store.create("a log")


def data_file(tmp_path: Path, log: Log) -> Path:
    (file,) = (tmp_path / "home" / "cores" / log.discovery_key.hex()).glob("data*")
    return file


def state(log: Log) -> tuple[object, ...]:
    held = [index for run in log.bitfield.runs(0, 2**40) for index in run]
    return log.head, held, log.contiguous_length, log.get_range(0, log.length)


def append_until_full(log: Log, blocks: list[bytes]) -> tuple[object, ...]:
    """Append until the disk is full; returns the state before the append that failed."""
    for _ in range(200):
        before = state(log)
        try:
            log.append(blocks)
        except DiskFullError:
            return before
    raise AssertionError("the disk is never full")


def test_a_failure_at_any_call_changes_nothing(tmp_path: Path) -> None:
    for call in range(1, 12):
        disk = FailingDisk()
        with Store.open(tmp_path / str(call), disk=disk) as store:
            log = store.create("a log")
            try:
                disk.fail_at = {call}
                for number in range(4):
                    before = state(log)
                    log.append([BLOCK, b"small %d" % number])
            except DiskFullError:
                assert state(log) == before
                assert log.verify().clean
                log.append([b"room again"])
            expected = state(log)
        with Store.open(tmp_path / str(call)) as store:
            log = store.create("a log")
            assert state(log) == expected
            assert log.verify().clean


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), MemoryError()]
)
def test_a_failure_behind_our_back_changes_nothing(tmp_path: Path, error: Exception) -> None:
    """Many bytes are written by a thread, while the blocks that follow are checked."""
    blocks = [bytes([number]) * MIB for number in range(6)]
    writer = Store.in_memory().create("a log")
    writer.append(blocks)
    for call in range(1, len(blocks) + 3):
        disk = RaisingDisk(error)
        with Store.open(tmp_path / str(call), disk=disk) as store:
            mine, theirs = store.create("a log"), store.open_log(writer.key)
            upgrade(writer, theirs)
            answers = answered(writer, [block_request(theirs, index) for index in range(len(blocks))])
            for log, step in (
                (mine, partial(mine.append, blocks)),
                (theirs, partial(theirs.apply, answers)),
            ):
                disk.calls_left = call
                before = log.head, list(log.bitfield.runs(0, 100))
                try:
                    step()
                except (StorageError, MemoryError):
                    assert (log.head, list(log.bitfield.runs(0, 100))) == before
                    disk.calls_left = None
                    step()
                disk.calls_left = None
                assert log.get_range(0, 6) == blocks
                assert log.verify().clean
        with Store.open(tmp_path / str(call)) as store:
            assert store.open_log(writer.key).get_range(0, 6) == blocks


def test_a_bad_answer_among_many_spoils_none(store: Store) -> None:
    blocks = [bytes([number]) * (512 * KIB) for number in range(12)]
    writer = Store.in_memory().create("a log")
    writer.append(blocks)
    reader = store.open_log(writer.key)
    upgrade(writer, reader)
    answers = answered(writer, [block_request(reader, index) for index in range(12)])
    request, proof = answers[5]
    assert proof.block is not None
    answers[5] = request, replace(proof, block=proof.block._replace(value=b"a lie" * 100_000))
    outcomes = [applied.outcome for applied in reader.apply(answers)]
    assert outcomes[5] is Outcome.REJECTED
    assert outcomes.count(Outcome.STORED) == 11
    fetch(writer, reader, [5])
    assert reader.get_range(0, 12) == blocks
    assert reader.verify().clean


def test_an_error_that_is_no_lack_of_room_is_a_storage_error(
    store: Store, disk: FailingDisk, log: Log
) -> None:
    log.append([b"first"])
    disk.error, disk.fail_at = errno.EIO, {disk.calls + 2}  # the fdatasync
    with pytest.raises(StorageError) as caught:
        log.append([b"second"])
    assert not isinstance(caught.value, DiskFullError)
    assert log.length == 1


def test_a_full_disk_gives_back_the_half_written_tail(tmp_path: Path, log: Log, disk: FailingDisk) -> None:
    log.append([BLOCK])
    disk.room = 0
    with pytest.raises(DiskFullError):
        log.append([BLOCK] * 4)
    assert data_file(tmp_path, log).stat().st_size == len(BLOCK)


def test_a_full_database_changes_nothing(store: Store, log: Log) -> None:
    log.append([b"x" * 100] * 50)
    backend = store._backend
    assert isinstance(backend, SqliteBackend)
    with backend.database.transaction() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")
    before = append_until_full(log, [b"y" * 100] * 50)
    assert state(log) == before
    assert log.length >= 50
    assert log.verify().clean
    with backend.database.transaction() as db:
        db.execute("PRAGMA max_page_count = 1000000")
    log.append([b"room again"])
    assert log.verify().clean


def test_a_full_disk_spoils_no_answer(tmp_path: Path, store: Store, disk: FailingDisk) -> None:
    writer = Store.in_memory().create("a log")
    writer.append([bytes([number]) * 5000 for number in range(40)])
    reader = store.open_log(writer.key)
    upgrade(writer, reader)
    fetch(writer, reader, [0, 39])
    answers = answered(writer, [block_request(reader, index) for index in range(40)])
    held = [index for run in reader.bitfield.runs(0, 40) for index in run]
    disk.room = 0
    for _ in range(2):
        with pytest.raises(DiskFullError):
            reader.apply(answers)
        assert [index for run in reader.bitfield.runs(0, 40) for index in run] == held
        assert reader.node(20) is None
    disk.room = None
    assert [applied.outcome for applied in reader.apply(answers)].count(Outcome.STORED) == 38
    assert reader.get_range(0, 40) == writer.get_range(0, 40)
    assert reader.verify().clean


def test_bytes_without_an_extent_do_not_exist(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home") as store:
        log = store.create("a log")
        log.append([b"true"])
        file = data_file(tmp_path, log)
    with file.open("ab") as garbage:
        garbage.write(b"written by a process that was killed before its commit" * 1000)
    with Store.open(tmp_path / "home") as store:
        log = store.create("a log")
        log.append([b"next"])
        assert log.get_range(0, 2) == [b"true", b"next"]
        assert log.verify().clean
    assert file.read_bytes()[4:8] == b"next"


def test_clear_and_truncate_give_room_back(tmp_path: Path, log: Log) -> None:
    log.append([os.urandom(64 * KIB) for _ in range(32)])
    file = data_file(tmp_path, log)
    assert file.stat().st_blocks * 512 >= 2 * MIB
    log.clear(0, 16)
    assert file.stat().st_blocks * 512 <= 1 * MIB + 64 * KIB
    log.truncate(24)
    assert file.stat().st_blocks * 512 <= MIB // 2 + 64 * KIB
    assert log.verify().clean


def test_compaction_frees_what_holes_could_not(
    tmp_path: Path, store: Store, disk: FailingDisk, log: Log
) -> None:
    disk.can_punch = False
    log.append([os.urandom(64 * KIB) for _ in range(128)])
    old = data_file(tmp_path, log)
    kept = log.get_range(96, 128)
    log.clear(0, 96)
    assert old.stat().st_blocks * 512 >= 8 * MIB
    (old.parent / "data.7").write_bytes(b"left behind by a compaction that was cut short")
    assert store.compact() >= 6 * MIB
    assert not old.exists()
    assert data_file(tmp_path, log).stat().st_blocks * 512 <= 2 * MIB + 64 * KIB
    assert log.get_range(96, 128) == kept
    log.append([b"after"])
    assert log.verify().clean
    assert store.compact() == 0
    store.close()
    with Store.open(tmp_path / "home") as again:
        log = again.create("a log")
        assert log.get_range(96, 129) == [*kept, b"after"]


def test_a_failed_compaction_leaves_the_old_file(
    tmp_path: Path, store: Store, disk: FailingDisk, log: Log
) -> None:
    disk.can_punch = False
    log.append([os.urandom(64 * KIB) for _ in range(128)])
    log.clear(0, 96)
    disk.room = MIB
    with pytest.raises(DiskFullError):
        log.compact()
    assert data_file(tmp_path, log).name == "data"
    assert log.verify().clean


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home"):
        pass
    with sqlite3.connect(tmp_path / "home" / "store.sqlite") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(SchemaError, match="newer"):
        Store.open(tmp_path / "home")


def test_a_database_of_something_else_is_a_storage_error(tmp_path: Path) -> None:
    with Store.open(tmp_path / "home"):
        pass
    (tmp_path / "home" / "store.sqlite").write_bytes(b"this is no database" * 1000)
    with pytest.raises(StorageError):
        Store.open(tmp_path / "home")


def test_a_cut_off_data_file_is_reported_and_nothing_else_breaks(tmp_path: Path, log: Log) -> None:
    log.append([BLOCK, BLOCK, b"last"])
    with data_file(tmp_path, log).open("r+b") as file:
        file.truncate(len(BLOCK))
    report = log.verify()
    assert report.corrupt_blocks == (1, 2)
    assert not report.clean
    assert log.get(0) == BLOCK


def test_a_missing_data_file_is_reported(tmp_path: Path, log: Log) -> None:
    log.append([BLOCK])
    file = data_file(tmp_path, log)
    file.rename(file.with_name("elsewhere"))
    file.with_name("elsewhere").unlink()
    log.append([b"into a file that is gone"])  # the open file is still there for us
    assert log.length == 2


FULL_DISK_PROGRAM = """
import resource, sys
from pathlib import Path
from p2prss.codec.compact import Buffer
from p2prss.errors import DiskFullError
from p2prss.log.store import Store
home, limit = Path(sys.argv[1]), int(sys.argv[2])
with Store.open(home) as store:
    log = store.create("a log")
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    full = False
    for _ in range(64):
        before = log.head
        try:
            log.append([bytes(16384)] * 8)
        except DiskFullError:
            full = True
            assert log.head == before and log.verify().clean
            break
    if limit:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    log.append([b"after"])
    assert log.verify().clean
    print(int(full), log.length)
"""


def test_a_file_at_the_limit_of_the_process_is_a_full_disk(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert soft == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK_PROGRAM, str(tmp_path / "home"), str(MIB)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["1", "65"]  # 8 appends of 128 KiB fit, then the last block


def test_a_really_full_file_system(tmp_path: Path) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(mount)]
    if os.geteuid() != 0 or subprocess.run(size, capture_output=True, check=False).returncode != 0:
        pytest.skip("only root can mount a small file system")
    try:
        with Store.open(mount / "home") as store:
            log = store.create("a log")
            before = append_until_full(log, [BLOCK] * 8)
            assert state(log) == before
            assert log.verify().clean
            log.clear(0, log.length // 2)
            log.append([b"room again"])
            assert log.verify().clean
    finally:
        subprocess.run(["umount", str(mount)], check=True)
