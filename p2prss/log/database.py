"""The SQLite database of a home: one writer, a few readers, and a schema version.

WAL mode lets threads read while one writes. ``synchronous=FULL`` makes a commit survive a power cut.
Every failure leaves as ``StorageError`` or, when there is no room, as ``DiskFullError``.
"""

import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from p2prss.errors import CorruptLogError, DiskFullError, SchemaError, StorageError
from p2prss.log.disk import Disk, disk_errors
from p2prss.units import KIB, MIB

_PRIVATE_FILE: Final = 0o600

SCHEMA_VERSION: Final = 1
PAGE_BYTES: Final = 4 * KIB  # our node and extent pages fill one each: see pages.py
WRITER_CACHE: Final = 4 * MIB
READER_CACHE: Final = 1 * MIB  # for each idle reader connection
WAL_BYTES: Final = 16 * MIB  # what is kept of it after it had to grow
IDLE_READERS: Final = 4
FULL_BELOW: Final = 64 * KIB  # free on the disk; SQLite's shared index grows by half of that
BUSY_SECONDS: Final = 30  # only a checkpoint or a foreign tool can keep us waiting

SCHEMA: Final = """
CREATE TABLE core (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used again: pages of a removed log stay dead
    key            BLOB NOT NULL UNIQUE,
    discovery_key  BLOB NOT NULL UNIQUE,
    signer_namespace BLOB,               -- with signer_name: what our key pair is derived from
    signer_name    TEXT,
    manifest       BLOB,
    fork           INTEGER NOT NULL DEFAULT 0,
    length         INTEGER NOT NULL DEFAULT 0,  -- blocks
    roots          BLOB NOT NULL DEFAULT x'',   -- tree index u64, size u64, hash: 48 bytes each
    signature      BLOB NOT NULL DEFAULT x'',
    file_number    INTEGER NOT NULL DEFAULT 0,  -- counts compactions: the file is data, data.1, data.2 ...
    file_end       INTEGER NOT NULL DEFAULT 0,  -- bytes beyond it do not exist
    block_bytes    INTEGER NOT NULL DEFAULT 0   -- of all blocks held
);
-- Pages: id = core.id << 40 | page number.
CREATE TABLE node_page     (id INTEGER PRIMARY KEY, data BLOB NOT NULL);  -- 101 nodes of size u64, hash
CREATE TABLE extent_page   (id INTEGER PRIMARY KEY, data BLOB NOT NULL);  -- 330 of offset + 1 u64, length u32
CREATE TABLE bitfield_page (id INTEGER PRIMARY KEY, data BLOB NOT NULL);  -- 32768 bits, final zeros left out
CREATE TABLE record (kind TEXT, key TEXT, value BLOB NOT NULL, PRIMARY KEY (kind, key)) WITHOUT ROWID;
"""

MIGRATIONS: Final[dict[int, str]] = {}
"""Version -> the statements that lead from it to the next one."""


class Database:
    """One SQLite file; with ``read_only`` nothing is ever written to it.

    Raises: SchemaError when it was written by a newer version, or is to be read only and needs a migration.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path = path
        self._read_only = read_only
        self._immutable = _is_immutable(path)
        self._write_lock = threading.Lock()
        self._pool_lock = threading.Lock()
        self._idle_readers: list[sqlite3.Connection] = []
        self._closed = False
        with sqlite_errors(path):
            if not read_only and not path.exists():
                _create(path)
            if not read_only:
                _keep_private(path)
            self._writer = self._connect(WRITER_CACHE)
            try:
                self._prepare()
            except BaseException:
                self._writer.close()
                raise

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; it is on the disk when the block ends, or undone when it fails."""
        with self._write_lock, sqlite_errors(self._path):
            self._check_open()
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # SQLite may have rolled back by itself
                    self._writer.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees what is committed."""
        with sqlite_errors(self._path):
            with self._pool_lock:
                self._check_open()
                reader = self._idle_readers.pop() if self._idle_readers else None
            if reader is None:
                reader = self._connect(READER_CACHE)
            try:
                yield reader
            finally:
                with self._pool_lock:
                    keep = not self._closed and len(self._idle_readers) < IDLE_READERS
                    if keep:
                        self._idle_readers.append(reader)
                if not keep:
                    reader.close()

    def size_bytes(self) -> int:
        """Bytes of the database file and its log."""
        files = (self._path, self._path.with_name(self._path.name + "-wal"))
        return sum(file.stat().st_size for file in files if file.exists())

    def close(self) -> None:
        """Close all connections; a reader in use is closed when it is given back."""
        with self._write_lock, self._pool_lock:
            self._closed = True
            for reader in self._idle_readers:
                reader.close()
            self._idle_readers.clear()
            self._writer.close()

    def _check_open(self) -> None:
        if self._closed:
            raise StorageError("the store is closed")

    def _connect(self, cache_bytes: int) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self._path.absolute().as_uri()}{'?immutable=1' if self._immutable else ''}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            timeout=BUSY_SECONDS,
        )
        if not self._immutable:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")  # counts only when the file is new
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        connection.execute(f"PRAGMA cache_size=-{cache_bytes // KIB}")
        if self._read_only:
            connection.execute("PRAGMA query_only=ON")
        return connection

    def _prepare(self) -> None:
        version = self._writer.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise SchemaError(
                f"{self._path} has schema {version}, this version of p2prss knows {SCHEMA_VERSION} at most"
            )
        if version == 0:  # we make ours whole, or not at all
            raise CorruptLogError(f"{self._path} is empty: restore the home from a backup")
        if self._read_only and version < SCHEMA_VERSION:
            raise SchemaError(
                f"{self._path} has schema {version}: start a node there once to bring it up to date"
            )
        if version < SCHEMA_VERSION:
            self._back_up(version)
        for step in range(version, SCHEMA_VERSION):
            self._run(MIGRATIONS[step], step + 1)

    def _run(self, statements: str, version: int) -> None:
        self._writer.executescript(f"BEGIN IMMEDIATE;{statements};PRAGMA user_version={version};COMMIT")

    def _back_up(self, version: int) -> None:
        path = self._path.with_name(f"{self._path.name}.version-{version}")
        _touch(path)
        copy = sqlite3.connect(path)
        try:
            self._writer.backup(copy)
        finally:
            copy.close()


def _create(path: Path) -> None:
    """Make an empty database, whole or not at all: somebody may look into the home at any time."""
    draft = path.with_name(f"{path.name}.new")
    with disk_errors(str(path)):
        for leftover in path.parent.glob(f"{draft.name}*"):  # of a start that was cut short
            leftover.unlink()
        _touch(draft)
        connection = sqlite3.connect(draft, isolation_level=None)
        try:
            connection.execute(f"PRAGMA page_size={PAGE_BYTES}")
            connection.executescript(f"BEGIN IMMEDIATE;{SCHEMA};PRAGMA user_version={SCHEMA_VERSION};COMMIT")
        finally:
            connection.close()
        draft.rename(path)
        Disk().sync_directory(path.parent)


def _touch(path: Path) -> None:
    """Make an empty file that is ours alone; SQLite gives the files beside it the same rights."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE))


def _keep_private(path: Path) -> None:
    """Nobody else reads a database: the address of a source may hold a password."""
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        with suppress(OSError):  # it is another user's, or not there
            file = path.with_name(name)
            if file.stat().st_mode & 0o077:
                file.chmod(_PRIVATE_FILE)


def _is_immutable(path: Path) -> bool:
    """Whether nobody can write there, nor has anything in the WAL: then SQLite needs to be told, or fails."""
    log = path.with_name(f"{path.name}-wal")
    with suppress(OSError):
        return (
            path.is_file()
            and not os.access(path.parent, os.W_OK)
            and not (log.exists() and log.stat().st_size)
        )
    return False


@contextmanager
def sqlite_errors(path: Path) -> Iterator[None]:
    """Turn an sqlite3.Error about the database at ``path`` into ours."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # Where SQLite cannot map or grow its shared index for want of room, it speaks of an I/O error only.
        if code == sqlite3.SQLITE_IOERR and _is_full(path.parent):
            raise DiskFullError(f"{path.name}: the disk is full") from error
        if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise CorruptLogError(f"{path} is damaged ({error}): restore the home from a backup") from error
        raise (DiskFullError if code == sqlite3.SQLITE_FULL else StorageError)(
            f"{path.name}: {error}"
        ) from error


def _is_full(folder: Path) -> bool:
    try:
        return shutil.disk_usage(folder).free < FULL_BELOW
    except OSError:
        return False
