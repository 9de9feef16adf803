"""Logs on a disk: ``store.sqlite`` for all metadata, one flat data file per log for its blocks.

Files: ``cores/<discovery key hex>/data`` (``data.1``, ``data.2`` after compactions) holds block bytes in the
order they arrived. Where a block lies is its *extent*, a file offset and a length in the database; the byte
offsets of the tree are never used for this, since a peer can forge the sizes they are summed from.

Commit rule: write the bytes behind ``file_end``, fdatasync, then one transaction with nodes, extents,
bitfield pages, head, manifest and the new ``file_end``; only then the change can be read. A crash in between
leaves bytes behind ``file_end`` that no extent names: they do not exist, and the next write goes over them.
"""

import sqlite3
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from struct import Struct
from typing import Final, NamedTuple

from p2prss.errors import CorruptLogError, StorageError
from p2prss.log import flat_tree
from p2prss.log.data_file import DataFile, Extent, StagedBlocks
from p2prss.log.database import Database
from p2prss.log.disk import Disk
from p2prss.log.merkle import Head
from p2prss.log.open_files import OpenFiles
from p2prss.log.page_cache import PageCache, PageKey
from p2prss.log.pages import EXTENT_PAGES, MAX_CORE_ID, NODE_PAGES, PageEditor, PageLayout, row_number
from p2prss.log.proof_parts import TreeNode
from p2prss.log.storage import MAX_STORED_LENGTH, Change, Staged, fitting
from p2prss.units import MIB

MAX_FILE_BYTES: Final = 2**62  # that a system can address
MAX_EXTENT_BYTES: Final = 256 * MIB  # of one block; those we store are much smaller
COMPACT_BYTES: Final = 4 * MIB  # of room to be won: less is not worth copying a file

_ROOT: Final = Struct("<QQ32s")  # tree index, size, hash
_ABSENT_HASH: Final = bytes(32)


class CoreRow(NamedTuple):
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


CORE_COLUMNS: Final = ", ".join(CoreRow._fields)
TABLES: Final = (NODE_PAGES.table, EXTENT_PAGES.table, "bitfield_page")
"""The tables with pages of logs."""


class SharedFiles(NamedTuple):
    """What all logs of a home share."""

    database: Database
    cache: PageCache
    files: OpenFiles
    disk: Disk


class SqliteStorage:
    """One log of a home; the module's docstring tells its files and its commit rule."""

    def __init__(self, shared: SharedFiles, directory: Path, row: CoreRow) -> None:
        if row.id > MAX_CORE_ID:
            raise StorageError("the store has no room for another log")
        self._shared = shared
        self._directory = directory
        self._core_id = row.id
        self._lock = threading.Lock()  # one writer at a time
        self._manifest = row.manifest
        _check_row(row)
        self._head = _decode_head(row.fork, row.length, row.roots, row.signature)
        self._file_number = row.file_number
        self._file = self._data_file(row.file_number)
        self._file_end = row.file_end
        self._block_bytes = row.block_bytes

    @property
    def head(self) -> Head:
        return self._head

    @property
    def manifest(self) -> bytes | None:
        return self._manifest

    def bitfield_pages(self) -> Iterable[tuple[int, bytes]]:
        first = row_number(self._core_id, 0)
        with self._shared.database.reading() as db:
            rows = db.execute(
                "SELECT id - ?, data FROM bitfield_page WHERE id >= ? AND id < ? ORDER BY id",
                (first, first, row_number(self._core_id + 1, 0)),
            )
            return rows.fetchall()

    def node(self, tree_index: int) -> TreeNode | None:
        if tree_index >= 2 * MAX_STORED_LENGTH:  # a stranger's number: the row would be another log's
            return None
        page = self._page(NODE_PAGES, tree_index // NODE_PAGES.slots)
        if not page:
            return None
        size, digest = NODE_PAGES.unpack(page, tree_index)
        return TreeNode(tree_index, size, digest) if digest != _ABSENT_HASH else None

    def read(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes | None]:
        file = self._file  # before the extents: those of an older file are not found in a newer one
        extents = [self._extent(index) for index in range(start, stop)]
        count = fitting((extent.length if extent else 0 for extent in extents), max_bytes)
        return file.read(extents[:count])

    def stage(self) -> StagedBlocks:
        return self._file.stage(self._file_end)

    def write(self, change: Change) -> None:
        with self._lock:
            staged = change.staged
            if staged is None:
                staged = self.stage()
                for _, block in change.blocks:
                    staged.add(block)
            try:
                self._write(change, staged)
            finally:
                staged.wait()

    def _write(self, change: Change, staged: Staged) -> None:
        nodes = PageEditor(NODE_PAGES, lambda number: self._page(NODE_PAGES, number))
        extents = PageEditor(EXTENT_PAGES, lambda number: self._page(EXTENT_PAGES, number))
        freed = self._drop(change, nodes, extents)
        freed += [old for index, _ in change.blocks if (old := _extent(extents.get(index)))]
        end = self._file_end
        slots = []
        for index, block in change.blocks:
            slots.append((index, end + 1, len(block)))
            end += len(block)
        extents.fill(slots)
        nodes.fill(change.nodes)
        added = end - self._file_end - sum(extent.length for extent in freed)
        staged.wait()
        self._commit(change, nodes, extents, end, self._block_bytes + added)
        if freed:
            self._file.punch_holes(freed)

    def compact(self) -> int:
        """Copy the blocks to a new file when holes could not free the room of dropped ones.

        Returns the bytes that were freed on the disk; 0 when nothing is to be gained.
        """
        with self._lock:
            before = self._file.bytes_on_disk()
            if before - self._block_bytes < (COMPACT_BYTES if self._block_bytes else 1):
                return 0
            self._file.delete_others()
            self._rewrite()
            return before - self._file.bytes_on_disk()

    # -- reading ---------------------------------------------------------------------------------------------

    def _page(self, layout: PageLayout, number: int) -> bytes:
        """A page as last committed; ``b""`` when there is none."""
        cache = self._shared.cache
        key = (layout.table, self._core_id, number)
        page = cache.get(key)
        if page is None:
            ticket = cache.ticket
            with self._shared.database.reading() as db:
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
        with self._shared.database.reading() as db:
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

    def _commit(
        self, change: Change, nodes: PageEditor, extents: PageEditor, file_end: int, block_bytes: int
    ) -> None:
        changed: list[tuple[PageKey, bytes]] = []
        with self._shared.database.transaction() as db:
            for editor in (nodes, extents):
                table = editor.layout.table
                if editor.dropped_from is not None:
                    delete_pages(db, table, self._core_id, editor.dropped_from)
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
        self._shared.cache.replace(changed, is_dropped if any_dropped else None)

    def _put_pages(self, db: sqlite3.Connection, table: str, pages: Iterable[tuple[int, bytes]]) -> None:
        db.executemany(
            f"INSERT OR REPLACE INTO {table} VALUES (?, ?)",
            [(row_number(self._core_id, number), page) for number, page in pages],
        )

    def _rewrite(self) -> None:
        """Copy all blocks into the next data file, in their order, and use that one from now on."""
        old, number = self._file, self._file_number + 1
        new = self._data_file(number)
        extents = PageEditor(EXTENT_PAGES, lambda page: self._page(EXTENT_PAGES, page))
        held = list(self._extents())
        try:
            copied = new.copy_from(old, [extent for _, extent in held])
            extents.fill(
                (index, offset + 1, length) for (index, _), (offset, length) in zip(held, copied, strict=True)
            )
            end = copied[-1].end if copied else 0
            pages = list(extents.pages)
            with self._shared.database.transaction() as db:
                self._put_pages(db, EXTENT_PAGES.table, pages)
                db.execute(
                    "UPDATE core SET file_number = ?, file_end = ?, block_bytes = ? WHERE id = ?",
                    (number, end, end, self._core_id),
                )
        except BaseException:
            new.delete()
            raise
        self._file_number, self._file_end, self._block_bytes = number, end, end
        self._publish([((EXTENT_PAGES.table, self._core_id, page), data) for page, data in pages], {})
        self._file = new
        old.delete()

    def _data_file(self, number: int) -> DataFile:
        name = f"data.{number}" if number else "data"
        return DataFile(self._directory / name, self._shared.disk, self._shared.files)


def _extent(slot: tuple[int, int]) -> Extent | None:
    """What a slot of an extent page says; offsets are stored plus one, so that zeros mean none.

    One that no file can have is of a damaged page: it counts as no bytes, which fail every hash.
    """
    offset, length = slot
    if offset > MAX_FILE_BYTES or length > MAX_EXTENT_BYTES:
        return Extent(0, 0)
    return Extent(offset - 1, length) if offset else None


def _spanning(length: int, old_length: int) -> Iterator[int]:
    """The nodes before the cut at ``length`` that reach beyond it: all are above its first leaf."""
    cut, end = 2 * length, 2 * old_length
    node = cut
    while flat_tree.left_span(node) > 0 or flat_tree.right_span(node) < end:
        node = flat_tree.parent(node)
        if node < cut:
            yield node


def delete_pages(db: sqlite3.Connection, table: str, core_id: int, first: int) -> None:
    db.execute(
        f"DELETE FROM {table} WHERE id >= ? AND id < ?",
        (row_number(core_id, first), row_number(core_id + 1, 0)),
    )


def _encode_roots(head: Head) -> bytes:
    return b"".join(_ROOT.pack(*root) for root in head.roots)


def _check_row(row: CoreRow) -> None:
    """A foreign tool may have been at the database: SQLite keeps values of any kind in any column."""
    numbers = (row.fork, row.length, row.file_number, row.file_end, row.block_bytes)
    fits = all(isinstance(number, int) and number >= 0 for number in numbers)
    texts = (row.roots, row.signature, b"" if row.manifest is None else row.manifest)
    if not fits or row.length >= MAX_STORED_LENGTH or not all(isinstance(text, bytes) for text in texts):
        raise CorruptLogError("the stored head of a log is damaged")


def _decode_head(fork: int, length: int, roots: bytes, signature: bytes) -> Head:
    if len(roots) % _ROOT.size:
        raise CorruptLogError("the stored head of a log is damaged")
    nodes = tuple(TreeNode(*fields) for fields in _ROOT.iter_unpack(roots))
    return Head(fork, length, sum(node.size for node in nodes), nodes, signature)
