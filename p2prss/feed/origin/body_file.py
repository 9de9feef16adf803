"""The file a body is written to while it comes in."""

import errno
import os
from hashlib import sha256
from pathlib import Path
from typing import Self

from p2prss.errors import DiskFullError, FetchError, StorageError
from p2prss.feed.media_types import SNIFF_BYTES
from p2prss.units import MIB


class BodyFile:
    """The file a body goes to, with its hash; ``write`` and ``rewind`` block and run in a worker thread."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._file = -1
        self._hash = sha256()
        self.byte_length = 0
        self.head = b""
        self._dropped = (0, "")  # bytes and digest of what was begun before

    def __enter__(self) -> Self:
        with disk_errors(self._path):
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)

    @property
    def digest(self) -> str:
        """SHA-256 of what was written, in hex."""
        return self._hash.hexdigest()

    def write(self, pieces: list[bytes]) -> None:
        """Append some pieces. Raises: FetchError above the size limit, StorageError."""
        size = sum(map(len, pieces))
        if self.byte_length + size > self._max_bytes:
            raise FetchError(f"it is larger than the limit of {self._max_bytes} bytes")
        for piece in pieces:
            if len(self.head) < SNIFF_BYTES:
                self.head = (self.head + piece[:SNIFF_BYTES])[:SNIFF_BYTES]
            self._hash.update(piece)
            view = memoryview(piece)
            while view:
                with disk_errors(self._path):
                    view = view[os.write(self._file, view) :]
        self.byte_length += size

    def rewind(self) -> None:
        """Begin anew."""
        with disk_errors(self._path):
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
        self._dropped = max(self._dropped, (self.byte_length, self.digest))
        self._hash = sha256()
        self.byte_length = 0
        self.head = b""

    def starts_otherwise(self) -> bool:
        """Whether what was dropped when it began anew is not how the file starts now; blocks."""
        left, digest = self._dropped
        if not left:
            return False
        found = sha256()
        with disk_errors(self._path), self._path.open("rb") as file:
            while left and (data := file.read(min(left, 1 * MIB))):
                found.update(data)
                left -= len(data)
        return found.hexdigest() != digest


class disk_errors:  # noqa: N801 - used like a function
    """Name the disk's errors; a full one is an error of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            raise (DiskFullError if full else StorageError)(f"{self._path}: {os_reason(error)}") from error


def os_reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or type(error).__name__).lower()
