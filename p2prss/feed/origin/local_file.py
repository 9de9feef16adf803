"""Files of a local source: those in its folder, and no others."""

import os
import stat
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from p2prss.errors import FetchError
from p2prss.feed.origin.body_file import BodyFile, os_reason
from p2prss.feed.origin.reply import Fetched
from p2prss.feed.origin.url import path_of
from p2prss.units import MIB

_COPY_SIZE: Final = 1 * MIB  # bytes at a time


def copy_file(url: str, folder: Path | None, into: Path, max_bytes: int) -> Fetched:
    """Copy a file that lies in ``folder``, None being that of no local source; it blocks.

    Raises: FetchError for what may not or cannot be read, StorageError when ``into`` cannot be written.
    """
    path = path_of(urlsplit(url))
    if folder is None:
        raise FetchError("a feed from elsewhere may not name local files")
    try:
        path = path.resolve(strict=True)
        if not path.is_relative_to(folder):
            raise FetchError(f"{path.name} lies outside of the source's folder")
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise FetchError(f"{path} does not exist") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise FetchError(f"{path} cannot be read: {os_reason(error)}") from None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FetchError(f"{path} is no regular file")
        with BodyFile(into, max_bytes) as body:
            while data := os.read(descriptor, _COPY_SIZE):
                body.write([data])
    finally:
        os.close(descriptor)
    return Fetched(into, url, body.byte_length, body.digest, head=body.head)
