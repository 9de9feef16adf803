"""The flat file with the bytes of a log's blocks, in the order they arrived.

It knows nothing of blocks: an *extent* says where bytes lie, and the database keeps the extents. Bytes that
no extent names do not exist; they are left behind by a crash, and the next write goes over them.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.errors import StorageError
from p2prss.log.disk import Disk, disk_errors
from p2prss.log.open_files import OpenFiles
from p2prss.units import KIB, MIB

MERGED_READ_BYTES: Final = 64 * KIB
"""Neighbouring small blocks are read together up to this size; larger ones gain nothing from it."""
PIECE_BYTES: Final = 1 * MIB  # handed to the writing thread at a time; less is not worth starting one
STAT_BLOCK_BYTES: Final = 512  # the unit of st_blocks

_PRIVATE_FOLDER, _PRIVATE_FILE = 0o700, 0o600


class Extent(NamedTuple):
    """Where bytes lie in a data file."""

    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset of the first byte behind it."""
        return self.offset + self.length


class StagedBlocks:
    """Blocks on their way to the disk, one behind the other; a thread writes them when they are many."""

    def __init__(self, file: "DataFile", offset: int) -> None:
        self._file = file
        self._offset = offset
        self._blocks: list[Buffer] = []  # not handed to the thread yet
        self._block_bytes = 0
        self._pieces: SimpleQueue[list[Buffer]] = SimpleQueue()  # for the thread; an empty one is the last
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def add(self, block: Buffer) -> None:
        """One more block, behind those before; its buffer must not change before ``wait`` is over."""
        self._blocks.append(block)
        self._block_bytes += len(block)
        if self._block_bytes >= PIECE_BYTES:
            self._pieces.put(self._blocks)
            self._blocks, self._block_bytes = [], 0
            if self._thread is None:
                self._thread = threading.Thread(target=self._write_pieces, name="write blocks")
                self._thread.start()

    def wait(self) -> None:
        """Return when the bytes are on the disk; may be called again, but nothing is added any more.

        Raises: DiskFullError, StorageError; the room that was taken is given back then.
        """
        rest, self._blocks = self._blocks, []
        if self._thread is not None:
            if rest:
                self._pieces.put(rest)
            self._pieces.put([])
            self._thread.join()
        elif rest:
            self._write([rest])
        if self._error is not None:
            raise self._error

    def _write_pieces(self) -> None:
        self._write(iter(self._pieces.get, []))

    def _write(self, pieces: Iterable[list[Buffer]]) -> None:
        try:
            self._file.write(pieces, self._offset)
        except BaseException as error:  # noqa: BLE001 -- whatever it is, ``wait`` raises it: nothing was stored
            self._error = error


class DataFile:
    """One flat file; it is made by the first write."""

    def __init__(self, path: Path, disk: Disk, files: OpenFiles) -> None:
        self.path: Final = path
        self._disk = disk
        self._files = files

    def read(self, extents: Sequence[Extent | None]) -> list[bytes | None]:
        """The bytes of each extent, shorter where the file ends, None for None; neighbours in one call."""
        if not any(extents):
            return [None] * len(extents)
        blocks: list[bytes | None] = []
        with self._files.use(self.path) as fd, disk_errors(str(self.path)):
            for run in _runs(extents, MERGED_READ_BYTES):
                if run is None:
                    blocks.append(None)
                    continue
                base = run[0].offset
                data = self._disk.read(fd, run[-1].end - base, base)
                if len(run) == 1:
                    blocks.append(data)
                else:
                    blocks += [data[extent.offset - base : extent.end - base] for extent in run]
        return blocks

    def stage(self, offset: int) -> StagedBlocks:
        """Blocks that are to be written at ``offset``."""
        return StagedBlocks(self, offset)

    def write(self, pieces: Iterable[Sequence[Buffer]], offset: int) -> None:
        """Bring blocks to the disk as they come; cut off what was written when that fails.

        Raises: DiskFullError, StorageError.
        """
        self._make()
        with self._files.use(self.path) as fd:
            try:
                with disk_errors(str(self.path)):
                    end = offset
                    for blocks in pieces:
                        self._disk.write(fd, blocks, end)
                        end += sum(map(len, blocks))
                    self._disk.sync(fd)
            except StorageError:
                self._cut(fd, offset)
                raise

    def copy_from(self, source: "DataFile", extents: Sequence[Extent]) -> list[Extent]:
        """Fill this new file with what the extents of another one name; returns where it lies here."""
        self._make()
        copied: list[Extent] = []
        end = 0
        with self._files.use(self.path) as fd, disk_errors(str(self.path)):
            for extent in extents:
                block = source.read([extent])[0] or b""
                self._disk.write(fd, [block], end)
                copied.append(Extent(end, extent.length))
                end += extent.length
            self._disk.sync(fd)
        return copied

    def punch_holes(self, freed: Sequence[Extent]) -> None:
        """Give the room of extents back, as far as the file system can; compaction does the rest."""
        try:
            with self._files.use(self.path) as fd:
                for run in _runs(sorted(freed), limit=None):
                    start = run[0].offset if run else 0
                    if run and not self._disk.punch_hole(fd, start, run[-1].end - start):
                        return
        except StorageError:
            return  # the extents are gone already, only their room is not free yet

    def bytes_on_disk(self) -> int:
        """The room it takes, holes not counted; 0 when there is no file."""
        return self.path.stat().st_blocks * STAT_BLOCK_BYTES if self.path.exists() else 0

    def delete(self) -> None:
        """Delete the file; whoever is reading it may finish."""
        self._files.forget(self.path)
        with disk_errors(str(self.path)):
            self.path.unlink(missing_ok=True)

    def delete_others(self) -> None:
        """Delete what compactions that were cut short have left beside it."""
        for path in self.path.parent.glob("data*"):
            if path != self.path:
                DataFile(path, self._disk, self._files).delete()

    def _make(self) -> None:
        if self.path.exists():
            return
        folder = self.path.parent
        with disk_errors(str(self.path)):
            folder.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self.path.touch(mode=_PRIVATE_FILE)
            for directory in (folder, folder.parent, folder.parent.parent):
                self._disk.sync_directory(directory)

    def _cut(self, fd: int, size: int) -> None:
        try:
            self._disk.truncate(fd, size)
        except OSError:
            return  # the bytes do not count in any case


def _runs(extents: Sequence[Extent | None], limit: int | None) -> Iterator[list[Extent] | None]:
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
