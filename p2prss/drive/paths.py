"""Paths in a drive: ``/`` and parts joined by ``/``, in the one form in which they are stored.

Source: hyperdrive index.js ``normalizePath``, unix-path-resolve; spec/06-drive, "Paths".
"""

from typing import Final

from p2prss.drive.errors import DriveError
from p2prss.errors import UsageError

MAX_PATH_SIZE: Final = 4096  # bytes of UTF-8, as file systems have it


def normalize_path(path: str) -> str:
    """The stored form of a file's path.

    Both slashes separate; empty parts and ``.`` vanish, ``..`` takes one back. A drive letter, ``file:``, or
    a URL's scheme and host in front are dropped.
    Raises: UsageError for a path that leaves the root, is the root, or is too long.
    """
    normal = normalize_folder(path)
    if normal == "/":
        raise UsageError(f"{path!r} names no file")
    return normal


def normalize_folder(folder: str) -> str:
    """The same for a folder, which may be the root: ``/``."""
    normal = "/" + "/".join(_resolve([], folder))
    try:
        size = len(normal.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{folder!r} is not valid text") from None
    if size > MAX_PATH_SIZE:
        raise UsageError(f"a path of {size} bytes, at most {MAX_PATH_SIZE} are allowed")
    return normal


def stored_path(key: bytes) -> str:
    """The path in a drive's key, if it is one that could have been put.

    Raises: DriveError for anything else, such as ``/../x``, ``/a//b`` or bytes that are no UTF-8.
    """
    try:
        path = key.decode()
        if normalize_path(path) == path:
            return path
    except (UnicodeDecodeError, UsageError):
        pass
    raise DriveError(f"{key[:80]!r} is no path of a drive")


def resolve_link(link: str, target: str) -> str:
    """Where a symbolic link leads. A relative target starts at the link's own path, as if that were a folder.

    Raises: DriveError when it leads out of the drive, or nowhere.
    """
    absolute = target.startswith(("/", "\\"))
    try:
        parts = _resolve([] if absolute else link.strip("/").split("/"), target)
        return normalize_path("/" + "/".join(parts))
    except UsageError as error:
        raise DriveError(f"the link {link!r} leads nowhere: {error}") from error


def _resolve(base: list[str], path: str) -> list[str]:
    """Follow a path from the parts of a folder."""
    parts = path.replace("\\", "/").split("/")
    resolved = list(base)
    if len(parts) > 1 and parts[0].endswith(":"):
        parts = parts[1:] if len(parts[0]) == 2 or parts[0] == "file:" else parts[3:]
        resolved = []
    for part in parts:
        if part in ("", "."):
            continue
        if part != "..":
            resolved.append(part)
        elif resolved:
            resolved.pop()
        else:
            raise UsageError(f"{path!r} leads out of the drive")
    return resolved
