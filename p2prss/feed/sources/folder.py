"""The files of a folder, read so that nothing outside of it is ever reached.

Every step opens one name below an open folder and refuses symbolic links, so a link that is put in
the way between listing and reading leads nowhere. What other programs are still writing is left alone.
"""

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urlsplit

from p2prss.errors import FeedError, FeedFormatError, FetchError
from p2prss.feed.media_types import SNIFF_BYTES
from p2prss.feed.origin.body_file import BodyFile, os_reason
from p2prss.feed.origin.fetch import Fetched
from p2prss.units import MIB

MAX_FILES: Final = 50_000  # in a folder and the folders below it
MAX_DEPTH: Final = 16  # folders inside of each other
COPY_SIZE: Final = 1 * MIB  # bytes read at once

_PARTIAL: Final = (
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".tmp",
    ".temp",
    ".aria2",
    ".!qb",
    ".filepart",
)
_JUNK: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A regular file; ``path`` is relative, with ``/`` between its parts."""

    path: str  # bytes that are no UTF-8 as surrogates, as ``os`` has it
    byte_length: int
    modified_ns: int
    changed_ns: int  # moves with every write, even where a program sets the other one back

    @property
    def ending(self) -> str:
        """The ending of its name in small letters, without the dot."""
        return PurePosixPath(self.path).suffix.lower().removeprefix(".")

    @property
    def stem(self) -> str:
        """Its path without the ending."""
        return self.path.removesuffix(PurePosixPath(self.path).suffix)


def list_files(root: Path) -> list[FoundFile]:
    """The files of a folder and its folders, by path.

    Left out: hidden ones, those with the name of a download under way, empty ones, symbolic links, and
    what is no regular file. Folders that cannot be read are passed over.
    Raises: FeedError when the folder itself cannot be read; FeedFormatError when it has too many files.
    """
    found: list[FoundFile] = []
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise FeedError(f"the folder {root} cannot be read: {os_reason(error)}") from None
    try:
        _list(descriptor, "", 0, found)
    finally:
        os.close(descriptor)
    return sorted(found, key=lambda file: os.fsencode(file.path))


def _list(folder: int, prefix: str, depth: int, found: list[FoundFile]) -> None:
    try:
        with os.scandir(folder) as entries:
            names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    except OSError:
        return
    for name, is_folder in names:
        if _is_passed_over(name):
            continue
        try:
            if is_folder:
                if depth < MAX_DEPTH:
                    below = os.open(name, _FOLDER_FLAGS, dir_fd=folder)
                    try:
                        _list(below, f"{prefix}{name}/", depth + 1, found)
                    finally:
                        os.close(below)
                continue
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError:
            continue
        if stat.S_ISREG(status.st_mode) and status.st_size:
            found.append(FoundFile(prefix + name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
            if len(found) > MAX_FILES:
                raise FeedFormatError(f"the folder has more than {MAX_FILES} files")


_FOLDER_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def _is_passed_over(name: str) -> bool:
    small = name.lower()
    return name.startswith(".") or name.endswith("~") or small.endswith(_PARTIAL) or small in _JUNK


@contextmanager
def opened(root: Path, path: str) -> Iterator[int]:
    """A descriptor of the regular file at a relative path.

    Raises: FetchError when there is none, or a part of the path is a symbolic link, hidden, or ``..``.
    """
    *folders, name = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") or part.startswith(".") for part in (*folders, name)):
        raise FetchError(f"{shown(path)} is no file of the folder")
    try:
        place = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for folder in folders:
                below = os.open(folder, _FOLDER_FLAGS, dir_fd=place)
                os.close(place)
                place = below
            descriptor = os.open(name, _FILE_FLAGS, dir_fd=place)
        finally:
            os.close(place)
    except OSError as error:
        raise FetchError(f"{shown(path)} cannot be read: {os_reason(error)}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FetchError(f"{shown(path)} is no regular file")
        yield descriptor
    finally:
        os.close(descriptor)


def read_file(root: Path, path: str, max_bytes: int) -> bytes:
    """A small file. Raises: FetchError when it cannot be read, or is larger."""
    data = bytearray()
    with opened(root, path) as descriptor:
        while piece := read_piece(descriptor, path):
            data += piece
            if len(data) > max_bytes:
                raise FetchError(f"{shown(path)} is larger than the limit of {max_bytes} bytes")
    return bytes(data)


def copy_file(root: Path, path: str, into: Path, max_bytes: int) -> Fetched:
    """Copy a file in pieces, and take its hash on the way.

    Raises: FetchError when it cannot be read, or is larger; StorageError.
    """
    with opened(root, path) as descriptor, BodyFile(into, max_bytes) as body:
        while piece := read_piece(descriptor, path):
            body.write([piece])
    return Fetched(into, address_of(path), body.byte_length, body.digest, head=body.head)


def hash_file(root: Path, path: str, update: Callable[[bytes], object]) -> None:
    """Feed a file to a hash in pieces. Raises: FetchError."""
    with opened(root, path) as descriptor:
        while piece := read_piece(descriptor, path):
            update(piece)


def read_head(root: Path, path: str) -> bytes:
    """The first bytes of a file, by which its type is told. Raises: FetchError."""
    with opened(root, path) as descriptor:
        return read_piece(descriptor, path)[:SNIFF_BYTES]


def is_unchanged(root: Path, file: FoundFile) -> bool:
    """Whether a file is as it was found. Raises: FetchError when it is gone."""
    with opened(root, file.path) as descriptor:
        status = os.fstat(descriptor)
    return (status.st_size, status.st_mtime_ns) == (file.byte_length, file.modified_ns)


def read_piece(descriptor: int, path: str) -> bytes:
    """The next bytes of an open file, empty at its end. Raises: FetchError."""
    try:
        return os.read(descriptor, COPY_SIZE)
    except OSError as error:
        raise FetchError(f"{shown(path)} cannot be read: {os_reason(error)}") from None


def address_of(path: str) -> str:
    """The relative address of a file: its path with everything escaped that has a meaning in addresses."""
    return quote(os.fsencode(path), safe="/")


def path_of_address(address: str) -> str | None:
    """The relative path that such an address means, its query left aside; None for an absolute address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.scheme or parts.netloc or parts.path.startswith("/"):
        return None
    return os.fsdecode(unquote_to_bytes(parts.path))


def shown(path: str) -> str:
    """A path in a message."""
    return repr(os.fsencode(path).decode("utf-8", "replace")[-200:])
