"""A disk that fails at a chosen call, or that is full."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path

from p2prss.codec.compact import Buffer
from p2prss.log.disk import Disk


class FailingDisk(Disk):
    """The real disk, except that the calls numbered in ``fail_at`` fail (writes and syncs count, from 1).

    A failing write leaves half of its bytes, as a full disk does. ``room`` bytes may be written in all.
    """

    def __init__(self, error: int = errno.ENOSPC) -> None:
        self.error = error
        self.calls = 0
        self.fail_at: set[int] = set()
        self.room: int | None = None
        self.can_punch = True

    def write(self, fd: int, buffers: Sequence[Buffer], offset: int) -> None:
        size = sum(map(len, buffers))
        if self._fails() or (self.room is not None and size > self.room):
            data = b"".join(buffers)
            os.pwrite(fd, data[: len(data) // 2], offset)
            raise OSError(self.error, os.strerror(self.error))
        if self.room is not None:
            self.room -= size
        super().write(fd, buffers, offset)

    def sync(self, fd: int) -> None:
        if self._fails():
            raise OSError(self.error, os.strerror(self.error))
        super().sync(fd)

    def sync_directory(self, path: Path) -> None:
        if self._fails():
            raise OSError(self.error, os.strerror(self.error))
        super().sync_directory(path)

    def punch_hole(self, fd: int, offset: int, size: int) -> bool:
        return self.can_punch and super().punch_hole(fd, offset, size)

    def _fails(self) -> bool:
        self.calls += 1
        return self.calls in self.fail_at
