"""All logs of a home on its disk: ``store.sqlite`` beside the data files, and the records of other parts."""

import os
import shutil
from pathlib import Path

from p2prss.crypto.keys import CoreKey, DiscoveryKey, Namespace
from p2prss.errors import CorruptLogError
from p2prss.log.data_file import STAT_BLOCK_BYTES
from p2prss.log.database import Database
from p2prss.log.disk import Disk, disk_errors
from p2prss.log.open_files import OpenFiles
from p2prss.log.page_cache import PageCache
from p2prss.log.sqlite_storage import CORE_COLUMNS, TABLES, CoreRow, SharedFiles, SqliteStorage, delete_pages
from p2prss.log.storage import CoreEntry, SignerName, StorageStatistics


class SqliteBackend:
    """The database and the data files of one home. Raises: SchemaError, StorageError."""

    def __init__(self, home: Path, *, disk: Disk | None = None, read_only: bool = False) -> None:
        self._directory = home / "cores"
        path = home / "store.sqlite"
        if not read_only and not os.path.lexists(path) and _has_entries(self._directory):
            raise CorruptLogError(
                f"{path} is missing, but blocks of feeds are in {self._directory}: restore it from a backup,"
                " or move that folder away to begin anew"
            )
        self.database = Database(path, read_only=read_only)
        self._shared = SharedFiles(self.database, PageCache(), OpenFiles(), disk or Disk())

    def entries(self) -> list[CoreEntry]:
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT key, discovery_key, signer_namespace, signer_name FROM core ORDER BY id"
            )
            return [_entry(*row) for row in rows]

    def add(self, entry: CoreEntry) -> SqliteStorage:
        row = self._row(entry.key)
        if row is None or (entry.signer is not None and row.signer_name is None):
            self._insert(entry)
            row = self._row(entry.key)
        assert row is not None
        return SqliteStorage(self._shared, self._directory / entry.discovery_key.hex(), row)

    def _row(self, key: CoreKey) -> CoreRow | None:
        with self.database.reading() as db:
            row = db.execute(f"SELECT {CORE_COLUMNS} FROM core WHERE key = ?", (key,)).fetchone()
        return CoreRow(*row) if row else None

    def _insert(self, entry: CoreEntry) -> None:
        namespace, name = (entry.signer.namespace, entry.signer.name) if entry.signer else (None, None)
        with self.database.transaction() as db:
            db.execute(
                "INSERT INTO core (key, discovery_key, signer_namespace, signer_name) VALUES (?, ?, ?, ?)"
                " ON CONFLICT (key) DO UPDATE SET signer_namespace = excluded.signer_namespace,"
                " signer_name = excluded.signer_name",
                (entry.key, entry.discovery_key, namespace, name),
            )

    def remove(self, key: CoreKey) -> None:
        with self.database.transaction() as db:
            row = db.execute("SELECT id, discovery_key FROM core WHERE key = ?", (key,)).fetchone()
            if row is None:
                return
            core_id, discovery_key = row
            for table in TABLES:
                delete_pages(db, table, core_id, 0)
            db.execute("DELETE FROM core WHERE id = ?", (core_id,))
        self._shared.cache.replace((), lambda page: page[1] == core_id)
        directory = self._directory / discovery_key.hex()
        for file in directory.glob("data*"):
            self._shared.files.forget(file)
        shutil.rmtree(directory, ignore_errors=True)

    def get_record(self, kind: str, key: str) -> bytes | None:
        with self.database.reading() as db:
            row = db.execute("SELECT value FROM record WHERE kind = ? AND key = ?", (kind, key)).fetchone()
        return row[0] if row else None

    def put_record(self, kind: str, key: str, value: bytes) -> None:
        with self.database.transaction() as db:
            db.execute("INSERT OR REPLACE INTO record VALUES (?, ?, ?)", (kind, key, value))

    def delete_record(self, kind: str, key: str) -> None:
        with self.database.transaction() as db:
            db.execute("DELETE FROM record WHERE kind = ? AND key = ?", (kind, key))

    def records(self, kind: str) -> list[tuple[str, bytes]]:
        with self.database.reading() as db:
            return db.execute("SELECT key, value FROM record WHERE kind = ? ORDER BY key", (kind,)).fetchall()

    def statistics(self) -> StorageStatistics:
        with self.database.reading() as db:
            cores, block_bytes = db.execute(
                "SELECT count(*), coalesce(sum(block_bytes), 0) FROM core"
            ).fetchone()
        with disk_errors(str(self._directory)):
            files = sum(file.stat().st_blocks * STAT_BLOCK_BYTES for file in self._directory.glob("*/data*"))
            return StorageStatistics(cores, block_bytes, files, self.database.size_bytes())

    def close(self) -> None:
        self.database.close()
        self._shared.files.close()


def _has_entries(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False


def _entry(key: bytes, discovery_key: bytes, namespace: bytes | None, name: str | None) -> CoreEntry:
    signer = SignerName(Namespace(namespace), name) if namespace is not None and name is not None else None
    return CoreEntry(CoreKey(key), DiscoveryKey(discovery_key), signer)
