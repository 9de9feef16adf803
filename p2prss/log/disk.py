"""The system calls on data files, in one place, so that a test can put a failing disk in it.

Every failure leaves as ``StorageError`` or, when there is no room, as ``DiskFullError``.
"""

import ctypes
import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2prss.codec.compact import Buffer
from p2prss.errors import DiskFullError, StorageError
from p2prss.units import KIB

IOV_MAX: Final = 1024  # buffers in one pwritev, the limit of Linux
WRITE_BYTES: Final = 64 * KIB
"""Bytes in one write. Linux takes memory for it in pieces as large as the write, and large ones may be dear:
where a virtual machine gets its memory from the host on first use, 8 MiB took 22 ms in one write and 3 ms in
writes of 32 to 128 KiB."""

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_FALLOC_FL_KEEP_SIZE, _FALLOC_FL_PUNCH_HOLE = 0x01, 0x02  # <linux/falloc.h>


@contextmanager
def disk_errors(what: str) -> Iterator[None]:
    """Turn an OSError into ours; ``what`` names the file or the step."""
    try:
        yield
    except OSError as error:
        kind = DiskFullError if error.errno in _NO_ROOM else StorageError
        raise kind(f"{what}: {error.strerror or error}") from error


def _load_fallocate() -> "ctypes._NamedFuncPointer | None":
    try:
        function = ctypes.CDLL(None, use_errno=True).fallocate
    except (OSError, AttributeError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    return function


_fallocate: Final = _load_fallocate()


class Disk:
    """The real disk."""

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        """Write all buffers one after the other at ``offset``, without copying them."""
        for pieces in _writes(buffers, offset):
            size = sum(map(len, pieces))
            written = os.pwritev(fd, pieces, offset)
            if written < size:  # a signal, or the last of the room: the next call tells
                rest = memoryview(b"".join(pieces))
                while written < size:
                    written += os.pwrite(fd, rest[written:], offset + written)
            offset += size

    def sync(self, fd: int) -> None:
        """Bring a file's bytes to the disk."""
        os.fdatasync(fd)

    def sync_directory(self, path: Path) -> None:
        """Bring a directory's entries to the disk: a new file is not there before that."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def read(self, fd: int, size: int, offset: int) -> bytes:
        """Up to ``size`` bytes; fewer where the file ends."""
        data = os.pread(fd, size, offset)
        while len(data) < size and (more := os.pread(fd, size - len(data), offset + len(data))):
            data += more
        return data

    def truncate(self, fd: int, size: int) -> None:
        """Cut a file off."""
        os.ftruncate(fd, size)

    def punch_hole(self, fd: int, offset: int, size: int) -> bool:
        """Give the room of a byte range back; False when this file system cannot."""
        if _fallocate is None or size <= 0:
            return False
        mode = _FALLOC_FL_KEEP_SIZE | _FALLOC_FL_PUNCH_HOLE
        return bool(_fallocate(fd, mode, offset, size) == 0)


def _writes(buffers: Sequence[Buffer], offset: int) -> Iterator[list[memoryview]]:
    """Cut buffers into writes that end where ``WRITE_BYTES`` divide the file: then each fills whole pages."""
    pieces: list[memoryview] = []
    room = WRITE_BYTES - offset % WRITE_BYTES
    for buffer in buffers:
        rest = memoryview(buffer)
        while len(rest) >= room:
            pieces.append(rest[:room])
            yield pieces
            rest, pieces, room = rest[room:], [], WRITE_BYTES
        if len(rest):
            pieces.append(rest)
            room -= len(rest)
        if len(pieces) == IOV_MAX:
            yield pieces
            pieces = []
    if pieces:
        yield pieces
