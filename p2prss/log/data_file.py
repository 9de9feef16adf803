"""The flat file with the bytes of a log's blocks, in the order they arrived.

It knows nothing of blocks: an *extent* says where bytes lie, and the database keeps the extents. Bytes that
no extent names do not exist; they are left behind by a crash, and the next write goes over them.
"""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from p2prss.codec.compact import Buffer
from p2prss.errors import P2prssError, StorageError
from p2prss.log.disk import Disk, disk_errors
from p2prss.log.open_files import OpenFiles
from p2prss.units import KIB, MIB

MERGED_READ_BYTES: Final = 64 * KIB
"""Neighbouring small blocks are read together up to this size; larger ones gain nothing from it."""
THREAD_BYTES: Final = 1 * MIB  # a smaller write is over before a thread has started
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
    """Blocks on their way to the disk, in a thread of their own when they are many bytes.

    The buffers must not change before ``wait`` has returned or raised.
    """

    def __init__(self, file: "DataFile", blocks: Sequence[Buffer], offset: int) -> None:
        self.extents: list[Extent] = []
        self._file = file
        self._blocks = blocks
        self._offset = offset
        self._error: P2prssError | None = None
        for block in blocks:
            self.extents.append(Extent(offset, len(block)))
            offset += len(block)
        self.end: Final = offset
        self._is_written = not blocks
        self._thread: threading.Thread | None = None
        if offset - self._offset >= THREAD_BYTES:
            self._thread = threading.Thread(target=self._write, name="write blocks")
            self._thread.start()

    def wait(self) -> None:
        """Return when the bytes are on the disk; may be called again.

        Raises: DiskFullError, StorageError; the room that was taken is given back then.
        """
        if self._thread is not None:
            self._thread.join()
        if not self._is_written:
            self._write()
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        self._is_written = True
        try:
            self._file.write(self._blocks, self._offset)
        except P2prssError as error:
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

    def stage(self, blocks: Sequence[Buffer], offset: int) -> StagedBlocks:
        """Begin to write blocks one after the other at ``offset``."""
        return StagedBlocks(self, blocks, offset)

    def write(self, blocks: Sequence[Buffer], offset: int) -> None:
        """Bring blocks to the disk; cut off what was written when that fails.

        Raises: DiskFullError, StorageError.
        """
        self._make()
        with self._files.use(self.path) as fd:
            try:
                with disk_errors(str(self.path)):
                    self._disk.write(fd, blocks, offset)
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
