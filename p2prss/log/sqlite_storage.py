"""Logs on a disk: ``store.sqlite`` for all metadata, one flat data file per log for its blocks.

Files: ``cores/<discovery key hex>/data`` (``data.1``, ``data.2`` after compactions) holds block bytes in the
order they arrived. Where a block lies is its *extent*, a file offset and a length in the database; the byte
offsets of the tree are never used for this, since a peer can forge the sizes they are summed from.

Commit rule: write the bytes behind ``file_end``, fdatasync, then one transaction with nodes, extents,
bitfield pages, head, manifest and the new ``file_end``; only then the change can be read. A crash in between
leaves bytes behind ``file_end`` that no extent names: they do not exist, and the next write goes over them.
"""

import shutil
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey, DiscoveryKey, Namespace
from p2prss.errors import StorageError
from p2prss.log import flat_tree
from p2prss.log.database import Database
from p2prss.log.disk import Disk, disk_errors
from p2prss.log.merkle import Head
from p2prss.log.open_files import OpenFiles
from p2prss.log.page_cache import PageCache, PageKey
from p2prss.log.pages import EXTENT_PAGES, MAX_CORE_ID, NODE_PAGES, PageEditor, PageLayout, row_number
from p2prss.log.proof_parts import TreeNode
from p2prss.log.storage import Change, CoreEntry, SignerName, StorageStatistics
from p2prss.units import KIB, MIB

STAT_BLOCK_BYTES: Final = 512  # the unit of st_blocks
MERGED_READ_BYTES: Final = 64 * KIB
"""Neighbouring small blocks are read together up to this size; larger ones gain nothing from it."""
COMPACT_BYTES: Final = 4 * MIB  # of room to be won: less is not worth copying a file

_ROOT: Final = Struct("<QQ32s")  # tree index, size, hash
_ABSENT_HASH: Final = bytes(32)


class Extent(NamedTuple):
    """Where bytes lie in a data file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.length


class _CoreRow(NamedTuple):
    """A row of the table ``core``, as far as a log's storage needs it."""

    id: int
    signer_name: str | None
    manifest: bytes | None
    fork: int
    length: int
    roots: bytes
    signature: bytes
    file_number: int
    file_end: int
    block_bytes: int


_CORE_COLUMNS: Final = ", ".join(_CoreRow._fields)


class SqliteBackend:
    """The database and the data files of one home. Raises: SchemaError, StorageError."""

    def __init__(self, home: Path, *, disk: Disk | None = None) -> None:
        self.disk = disk or Disk()
        self.database = Database(home / "store.sqlite")
        self.cache = PageCache()
        self.files = OpenFiles()
        self._directory = home / "cores"

    def entries(self) -> list[CoreEntry]:
        with self.database.reading() as db:
            rows = db.execute(
                "SELECT key, discovery_key, signer_namespace, signer_name FROM core ORDER BY id"
            )
            return [_entry(*row) for row in rows]

    def add(self, entry: CoreEntry) -> "SqliteStorage":
        row = self._row(entry.key)
        if row is None or (entry.signer is not None and row.signer_name is None):
            self._insert(entry)
            row = self._row(entry.key)
        assert row is not None
        return SqliteStorage(self, self._directory / entry.discovery_key.hex(), row)

    def _row(self, key: CoreKey) -> "_CoreRow | None":
        with self.database.reading() as db:
            row = db.execute(f"SELECT {_CORE_COLUMNS} FROM core WHERE key = ?", (key,)).fetchone()
        return _CoreRow(*row) if row else None

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
            for table in (NODE_PAGES.table, EXTENT_PAGES.table, "bitfield_page"):
                _delete_pages(db, table, core_id, 0)
            db.execute("DELETE FROM core WHERE id = ?", (core_id,))
        self.cache.replace((), lambda page: page[1] == core_id)
        directory = self._directory / discovery_key.hex()
        for file in directory.glob("data*"):
            self.files.forget(file)
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
        self.files.close()


class SqliteStorage:
    """One log of a home; the module's docstring tells its files and its commit rule."""

    def __init__(self, backend: SqliteBackend, directory: Path, row: "_CoreRow") -> None:
        if row.id > MAX_CORE_ID:
            raise StorageError("the store has no room for another log")
        self._backend = backend
        self._directory = directory
        self._core_id = row.id
        self._lock = threading.Lock()  # one writer at a time
        self._manifest = row.manifest
        self._head = _decode_head(row.fork, row.length, row.roots, row.signature)
        self._file_number = row.file_number
        self._file_end = row.file_end
        self._block_bytes = row.block_bytes

    @property
    def head(self) -> Head:
        return self._head

    @property
    def manifest(self) -> bytes | None:
        return self._manifest

    @property
    def data_file(self) -> Path:
        """The file that holds the blocks; it exists once a block was written."""
        return self._directory / (f"data.{self._file_number}" if self._file_number else "data")

    def bitfield_pages(self) -> Iterable[tuple[int, bytes]]:
        first = row_number(self._core_id, 0)
        with self._backend.database.reading() as db:
            rows = db.execute(
                "SELECT id - ?, data FROM bitfield_page WHERE id >= ? AND id < ? ORDER BY id",
                (first, first, row_number(self._core_id + 1, 0)),
            )
            return rows.fetchall()

    def node(self, tree_index: int) -> TreeNode | None:
        page = self._page(NODE_PAGES, tree_index // NODE_PAGES.slots)
        if not page:
            return None
        size, digest = NODE_PAGES.unpack(page, tree_index)
        return TreeNode(tree_index, size, digest) if digest != _ABSENT_HASH else None

    def read(self, start: int, stop: int) -> list[bytes | None]:
        path = self.data_file
        extents = [self._extent(index) for index in range(start, stop)]
        blocks: list[bytes | None] = []
        if not any(extents):
            return [None] * len(extents)
        with self._backend.files.use(path) as fd, disk_errors(str(path)):
            for run in _runs(extents):
                if run is None:
                    blocks.append(None)
                    continue
                data = self._backend.disk.read(fd, run[-1].end - run[0].offset, run[0].offset)
                if len(run) == 1:
                    blocks.append(data)
                else:
                    base = run[0].offset
                    blocks += [data[extent.offset - base : extent.end - base] for extent in run]
        return blocks

    def write(self, change: Change) -> None:
        with self._lock:
            nodes = PageEditor(NODE_PAGES, lambda number: self._page(NODE_PAGES, number))
            extents = PageEditor(EXTENT_PAGES, lambda number: self._page(EXTENT_PAGES, number))
            freed = self._drop(change, nodes, extents)
            written = self._write_blocks([value for _, value in change.blocks])
            file_end = written[-1].end if written else self._file_end
            replaced = (_extent(extents.get(index)) for index, _ in change.blocks)
            freed += [extent for extent in replaced if extent is not None]
            extents.fill(
                (index, offset + 1, length)
                for (index, _), (offset, length) in zip(change.blocks, written, strict=True)
            )
            nodes.fill(change.nodes)
            added = sum(extent.length for extent in written) - sum(extent.length for extent in freed)
            self._commit(change, nodes, extents, file_end, self._block_bytes + added)
            if freed:
                self._punch_holes(freed)

    def compact(self) -> int:
        """Copy the blocks to a new file when holes could not free the room of dropped ones.

        Returns the bytes that were freed on the disk; 0 when nothing is to be gained.
        """
        with self._lock:
            path = self.data_file
            if not path.exists():
                return 0
            before = path.stat().st_blocks * STAT_BLOCK_BYTES
            if before - self._block_bytes < (COMPACT_BYTES if self._block_bytes else 1):
                return 0
            return before - self._rewrite(path)

    # -- reading ---------------------------------------------------------------------------------------------

    def _page(self, layout: PageLayout, number: int) -> bytes:
        """A page as last committed; ``b""`` when there is none."""
        cache = self._backend.cache
        key = (layout.table, self._core_id, number)
        page = cache.get(key)
        if page is None:
            ticket = cache.ticket
            with self._backend.database.reading() as db:
                row = db.execute(
                    f"SELECT data FROM {layout.table} WHERE id = ?",
                    (row_number(self._core_id, number),),
                ).fetchone()
            page = row[0] if row else b""
            cache.offer(key, page, ticket)
        return page

    def _extent(self, index: int) -> Extent | None:
        page = self._page(EXTENT_PAGES, index // EXTENT_PAGES.slots)
        return _extent(EXTENT_PAGES.unpack(page, index)) if page else None

    def _extents(self, start: int = 0) -> Iterator[tuple[int, Extent]]:
        """All extents from block ``start`` on, as committed."""
        first = row_number(self._core_id, 0)
        with self._backend.database.reading() as db:
            rows = db.execute(
                "SELECT id - ?, data FROM extent_page WHERE id >= ? AND id < ? ORDER BY id",
                (first, first + start // EXTENT_PAGES.slots, row_number(self._core_id + 1, 0)),
            )
            for number, page in rows:
                index = number * EXTENT_PAGES.slots
                for position, slot in enumerate(EXTENT_PAGES.slot.iter_unpack(page), index):
                    extent = _extent(slot)
                    if extent is not None and position >= start:
                        yield position, extent

    # -- writing ---------------------------------------------------------------------------------------------

    def _drop(self, change: Change, nodes: PageEditor, extents: PageEditor) -> list[Extent]:
        """Take dropped blocks and nodes out of the pages; returns what they free in the file."""
        freed: list[Extent] = []
        length = change.truncated_to
        if length is not None:
            freed += [extent for _, extent in self._extents(length)]
            extents.drop(length)
            for node in _spanning(length, self._head.length):
                nodes.erase(node, node + 1)
            nodes.drop(2 * length)
        for cleared in change.cleared:
            freed += [extent for index in cleared if (extent := _extent(extents.get(index)))]
            extents.erase(cleared.start, cleared.stop)
        return freed

    def _write_blocks(self, blocks: Sequence[Buffer]) -> list[Extent]:
        """Bring blocks to the disk behind everything that counts; returns where they lie."""
        extents: list[Extent] = []
        end = self._file_end
        for block in blocks:
            extents.append(Extent(end, len(block)))
            end += len(block)
        if not blocks:
            return extents
        disk, path = self._backend.disk, self.data_file
        self._make_file(path)
        with self._backend.files.use(path) as fd:
            try:
                with disk_errors(str(path)):
                    disk.write(fd, blocks, self._file_end)
                    disk.sync(fd)
            except StorageError:
                self._cut_tail(fd)
                raise
        return extents

    def _make_file(self, path: Path) -> None:
        if path.exists():
            return
        disk = self._backend.disk
        with disk_errors(str(path)):
            parents = self._directory.parent
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.touch(mode=0o600)
            disk.sync_directory(self._directory)
            disk.sync_directory(parents)
            disk.sync_directory(parents.parent)

    def _cut_tail(self, fd: int) -> None:
        """Give back the room of a write that failed; the bytes do not count in any case."""
        try:
            self._backend.disk.truncate(fd, self._file_end)
        except OSError:
            return

    def _commit(
        self, change: Change, nodes: PageEditor, extents: PageEditor, file_end: int, block_bytes: int
    ) -> None:
        changed: list[tuple[PageKey, bytes]] = []
        with self._backend.database.transaction() as db:
            for editor in (nodes, extents):
                table = editor.layout.table
                if editor.dropped_from is not None:
                    _delete_pages(db, table, self._core_id, editor.dropped_from)
                pages = list(editor.pages)
                self._put_pages(db, table, pages)
                changed += [((table, self._core_id, number), page) for number, page in pages]
            self._put_pages(db, "bitfield_page", change.bitfield.items())
            head, manifest = change.head, change.manifest
            db.execute(
                "UPDATE core SET file_end = ?, block_bytes = ? WHERE id = ?",
                (file_end, block_bytes, self._core_id),
            )
            if head is not None:
                db.execute(
                    "UPDATE core SET fork = ?, length = ?, roots = ?, signature = ? WHERE id = ?",
                    (head.fork, head.length, _encode_roots(head), head.signature, self._core_id),
                )
            if manifest is not None:
                db.execute("UPDATE core SET manifest = ? WHERE id = ?", (manifest, self._core_id))
        self._file_end, self._block_bytes = file_end, block_bytes
        self._head = head or self._head
        self._manifest = manifest or self._manifest
        self._publish(changed, {e.layout.table: e.dropped_from for e in (nodes, extents)})

    def _publish(self, changed: Iterable[tuple[PageKey, bytes]], dropped_from: dict[str, int | None]) -> None:
        def is_dropped(page: PageKey) -> bool:
            table, core_id, number = page
            first = dropped_from.get(table)
            return core_id == self._core_id and first is not None and number >= first

        any_dropped = any(first is not None for first in dropped_from.values())
        self._backend.cache.replace(changed, is_dropped if any_dropped else None)

    def _put_pages(self, db: sqlite3.Connection, table: str, pages: Iterable[tuple[int, bytes]]) -> None:
        db.executemany(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?)",
            [(row_number(self._core_id, number), page) for number, page in pages],
        )

    # -- giving room back ------------------------------------------------------------------------------------

    def _punch_holes(self, freed: list[Extent]) -> None:
        """Free the room of dropped blocks; where the file system cannot, ``compact`` will."""
        disk, path = self._backend.disk, self.data_file
        try:
            with self._backend.files.use(path) as fd:
                for run in _runs(sorted(freed), limit=None):
                    if run is not None and not disk.punch_hole(
                        fd, run[0].offset, run[-1].end - run[0].offset
                    ):
                        return
        except StorageError:
            return  # the blocks are dropped already, only their room is not free yet

    def _rewrite(self, path: Path) -> int:
        """Copy all blocks into the next data file, in their order; returns the bytes it takes on the disk."""
        disk, backend = self._backend.disk, self._backend
        for leftover in self._directory.glob("data*"):
            if leftover != path:  # of a compaction that was cut short
                backend.files.forget(leftover)
                leftover.unlink()
        number = self._file_number + 1
        target = self._directory / f"data.{number}"
        editor = PageEditor(EXTENT_PAGES, lambda page: self._page(EXTENT_PAGES, page))
        end = 0
        try:
            self._make_file(target)
            with backend.files.use(path) as source, backend.files.use(target) as fd, disk_errors(str(target)):
                for index, extent in self._extents():
                    disk.write(fd, [disk.read(source, extent.length, extent.offset)], end)
                    editor.fill([(index, end + 1, extent.length)])
                    end += extent.length
                disk.sync(fd)
            pages = list(editor.pages)
            with backend.database.transaction() as db:
                self._put_pages(db, EXTENT_PAGES.table, pages)
                db.execute(
                    "UPDATE core SET file_number = ?, file_end = ?, block_bytes = ? WHERE id = ?",
                    (number, end, end, self._core_id),
                )
        except BaseException:
            backend.files.forget(target)
            target.unlink(missing_ok=True)
            raise
        self._file_number, self._file_end, self._block_bytes = number, end, end
        self._publish([((EXTENT_PAGES.table, self._core_id, page), data) for page, data in pages], {})
        backend.files.forget(path)
        path.unlink(missing_ok=True)
        return target.stat().st_blocks * STAT_BLOCK_BYTES


def _extent(slot: tuple[int, int]) -> Extent | None:
    """What a slot of an extent page says; offsets are stored plus one, so that zeros mean none."""
    offset, length = slot
    return Extent(offset - 1, length) if offset else None


def _spanning(length: int, old_length: int) -> Iterator[int]:
    """The nodes before the cut at ``length`` that reach beyond it: all are above its first leaf."""
    cut, end = 2 * length, 2 * old_length
    node = cut
    while flat_tree.left_span(node) > 0 or flat_tree.right_span(node) < end:
        node = flat_tree.parent(node)
        if node < cut:
            yield node


def _runs(
    extents: Sequence[Extent | None], limit: int | None = MERGED_READ_BYTES
) -> Iterator[list[Extent] | None]:
    """Group extents that follow each other in the file, up to ``limit`` bytes; None stands for itself."""
    run: list[Extent] = []
    for extent in extents:
        if run and (
            extent is None
            or extent.offset != run[-1].end
            or (limit is not None and extent.end - run[0].offset > limit)
        ):
            yield run
            run = []
        if extent is None:
            yield None
        else:
            run.append(extent)
    if run:
        yield run


def _delete_pages(db: sqlite3.Connection, table: str, core_id: int, first: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE id >= ? AND id < ?",
        (row_number(core_id, first), row_number(core_id + 1, 0)),
    )


def _entry(key: bytes, discovery_key: bytes, namespace: bytes | None, name: str | None) -> CoreEntry:
    signer = SignerName(Namespace(namespace), name) if namespace is not None and name is not None else None
    return CoreEntry(CoreKey(key), DiscoveryKey(discovery_key), signer)


def _encode_roots(head: Head) -> bytes:
    return b"".join(_ROOT.pack(*root) for root in head.roots)


def _decode_head(fork: int, length: int, roots: bytes, signature: bytes) -> Head:
    nodes = tuple(TreeNode(*fields) for fields in _ROOT.iter_unpack(roots))
    return Head(fork, length, sum(node.size for node in nodes), nodes, signature)
