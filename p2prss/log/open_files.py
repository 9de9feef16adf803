"""Open data files: as many as are in use, and a bounded number of idle ones.

A file is never closed while a thread reads or writes it, and a thousand logs need no thousand descriptors.
"""

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from p2prss.errors import StorageError
from p2prss.log.disk import disk_errors

IDLE_FILES: Final = 64  # open descriptors kept although nobody uses them


class _OpenFile:
    __slots__ = ("fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 0


class OpenFiles:
    """File descriptors by path, opened when needed."""

    def __init__(self, idle_limit: int = IDLE_FILES) -> None:
        self._lock = threading.Lock()
        self._idle_limit = idle_limit
        self._closed = False
        self._files: OrderedDict[Path, _OpenFile] = OrderedDict()  # least recently used first

    @contextmanager
    def use(self, path: Path) -> Iterator[int]:
        """The descriptor of a file, open for reading and writing while the block runs.

        Where nothing may be written it can only be read.
        Raises: StorageError when the file cannot be opened; it is not created.
        """
        with self._lock:
            if self._closed:
                raise StorageError("the store is closed")
            file = self._files.get(path)
            if file is None:
                with disk_errors(str(path)):
                    file = self._files[path] = _OpenFile(_open(path))
            self._files.move_to_end(path)
            file.users += 1
        try:
            yield file.fd
        finally:
            with self._lock:
                file.users -= 1
                if file.users == 0 and self._files.get(path) is not file:
                    os.close(file.fd)  # it was forgotten while in use
                elif len(self._files) > self._idle_limit:
                    self._close_idle()

    def forget(self, path: Path) -> None:
        """Close a file that is about to be deleted, once its last user is done."""
        with self._lock:
            file = self._files.pop(path, None)
            if file is not None and file.users == 0:
                os.close(file.fd)

    def close(self) -> None:
        """Close all files; those in use are closed by their last user."""
        with self._lock:
            self._closed = True
            for file in self._files.values():
                if file.users == 0:
                    os.close(file.fd)
            self._files.clear()

    def _close_idle(self) -> None:
        for path, file in list(self._files.items()):
            if len(self._files) <= self._idle_limit:
                return
            if file.users == 0:
                os.close(file.fd)
                del self._files[path]


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES):
            raise
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
