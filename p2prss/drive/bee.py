"""Hyperbee: sorted keys and values on one log, every version of it readable.

A *version* is the length of the log it was read at; an empty bee has version 1. Versions end where an
append ended: inside a batch there is no tree to read.
Source: hyperbee index.js; spec/06-drive, "Bee".
"""

from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from p2prss.drive.block_cache import BlockCache
from p2prss.drive.btree import BeeEntry, Header
from p2prss.drive.core import Core
from p2prss.drive.cursor import BeeDiff, TreeCursor, find, next_difference
from p2prss.drive.editor import TreeEditor
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import EVERYTHING, KeyRange
from p2prss.errors import LocalProtocolError

PLAIN: Final = Header(has_metadata=False)


@dataclass(frozen=True, slots=True)
class BeeChange:
    """One step of the history: ``entry`` was put, or its key deleted."""

    entry: BeeEntry
    deleted: bool


class BeeReader:
    """One version of a bee. Every read raises DriveError where the bee is malformed."""

    def __init__(self, core: Core, cache: BlockCache, version: int | None) -> None:
        self.core = core
        self._cache = cache
        self._version = version

    @property
    def version(self) -> int:
        """The log length this reads at, at least 1; that of a live bee moves."""
        return max(self.core.length, 1) if self._version is None else self._version

    async def header(self) -> Header:
        """Block 0; there is none in an empty log.

        Raises: DriveError when the log is no bee.
        """
        return await self._cache.header()

    async def get(self, key: bytes) -> BeeEntry | None:
        """The entry of a key, or None."""
        version = await self._checked_version()
        return await find(self._cache, version, key)

    def range(
        self, keys: KeyRange = EVERYTHING, *, reverse: bool = False, limit: int | None = None
    ) -> "BeeRange":
        """The entries in a range of keys, in order, for ``async for``; it may be left at any time."""
        return BeeRange(self, keys, reverse=reverse, limit=limit)

    def diff(self, older: int, keys: KeyRange = EVERYTHING) -> "BeeDifferences":
        """The keys that differ from an older version, in order, past all that both share."""
        return BeeDifferences(self, older, keys)

    def history(self, start: int = 1, stop: int | None = None) -> "BeeHistory":
        """Puts and deletes in the order they were made, ``start`` and ``stop`` being block numbers."""
        return BeeHistory(self, start, self.version if stop is None else min(stop, self.version))

    def checkout(self, version: int) -> "BeeReader":
        """The bee as it was when the log had this length."""
        if version > self.version:
            raise DriveError(f"version {version} is not there yet, the newest is {self.version}")
        return BeeReader(self.core, self._cache, max(version, 1))

    async def _checked_version(self) -> int:
        version = self.version
        if version > 1:
            await self._cache.header()
        return version


class Bee(BeeReader):
    """The newest version, and writing.

    ``header`` is what block 0 becomes when the first operation writes it.
    ``rewrite_stale`` helps readers in JavaScript after deletes, see ``TreeEditor``.
    """

    def __init__(self, core: Core, *, header: Header = PLAIN, rewrite_stale: bool = False) -> None:
        super().__init__(core, BlockCache(core), None)
        self._first_block = header
        self._rewrite_stale = rewrite_stale

    async def put(self, key: bytes, value: bytes | None) -> None:
        """Set a key."""
        async with self.batch() as batch:
            await batch.put(key, value)

    async def delete(self, key: bytes) -> bool:
        """Remove a key. Returns: whether it was there."""
        async with self.batch() as batch:
            return await batch.delete(key)

    def batch(self) -> "BeeBatch":
        """Several operations in one append: ``async with bee.batch() as batch``."""
        return BeeBatch(self)

    def _edit(self) -> TreeEditor:
        return TreeEditor(self._cache, self.core.length, rewrite_stale=self._rewrite_stale)

    async def _append(self, editor: TreeEditor) -> None:
        if not len(editor):
            return
        blocks = editor.finish()
        if self.core.length == 0:
            blocks.insert(0, self._first_block.encode())
        first = await self.core.append(blocks)
        for seq, block in enumerate(blocks, first):
            if seq > 0:
                self._cache.add(seq, block)


class BeeBatch:
    """Operations on one bee that are appended together when the ``async with`` block ends well.

    It holds the log's write lock: nobody else writes meanwhile, and reads see the state before.
    """

    def __init__(self, bee: Bee) -> None:
        self._bee = bee
        self._editor: TreeEditor | None = None

    async def __aenter__(self) -> Self:
        if not self._bee.core.writable:
            raise LocalProtocolError("this log is somebody else's: it cannot be written here")
        await self._bee.core.write_lock.__aenter__()
        self._editor = self._bee._edit()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        editor, self._editor = self._open, None
        try:
            if error is None:
                await self._bee._append(editor)
        finally:
            await self._bee.core.write_lock.__aexit__(kind, error, trace)

    async def get(self, key: bytes) -> BeeEntry | None:
        """The entry as it is after the operations so far."""
        return await self._open.get(key)

    async def put(self, key: bytes, value: bytes | None) -> None:
        """Set a key."""
        await self._open.put(key, value)

    async def delete(self, key: bytes) -> bool:
        """Remove a key. Returns: whether it was there."""
        return await self._open.delete(key)

    @property
    def _open(self) -> TreeEditor:
        if self._editor is None:
            raise LocalProtocolError("the batch is not open")
        return self._editor


class BeeRange:
    """Iterates the entries of a range. It holds nothing, so it may be dropped halfway."""

    def __init__(self, bee: BeeReader, keys: KeyRange, *, reverse: bool, limit: int | None) -> None:
        self._bee = bee
        self._keys = keys
        self._reverse = reverse
        self._left = limit
        self._cursor: TreeCursor | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BeeEntry:
        if self._left == 0:
            raise StopAsyncIteration
        if self._cursor is None:
            version = await self._bee._checked_version()
            if self._left is None:
                await self._bee._cache.warm(version)
            self._cursor = TreeCursor(self._bee._cache, version, self._keys, reverse=self._reverse)
        entry = await self._cursor.next()
        if entry is None:
            raise StopAsyncIteration
        if self._left is not None:
            self._left -= 1
        return entry


class BeeDifferences:
    """Iterates the differences of two versions. It holds nothing, so it may be dropped halfway."""

    def __init__(self, bee: BeeReader, older: int, keys: KeyRange) -> None:
        self._bee = bee
        self._older = older
        self._keys = keys
        self._cursors: tuple[TreeCursor, TreeCursor] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BeeDiff:
        if self._cursors is None:
            version = await self._bee._checked_version()
            cache, older = self._bee._cache, min(self._older, version)
            self._cursors = TreeCursor(cache, version, self._keys), TreeCursor(cache, older, self._keys)
        difference = await next_difference(*self._cursors)
        if difference is None:
            raise StopAsyncIteration
        return difference


class BeeHistory:
    """Iterates the operations in the log. It holds nothing, so it may be dropped halfway.

    After an error it goes on behind the block that made it.
    """

    def __init__(self, bee: BeeReader, start: int, stop: int) -> None:
        self._bee = bee
        self._next = max(start, 1)
        self._stop = stop

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> BeeChange:
        if self._next >= self._stop:
            raise StopAsyncIteration
        if self._next == 1:  # who begins at the beginning most likely reads all
            await self._bee._cache.warm(self._stop)
        self._next += 1
        block = await self._bee._cache.load(self._next - 1)
        return BeeChange(block.entry, deleted=block.is_deletion())
