"""A home's folder: who owns it, and the secrets in it.

``lock`` is held by the process that owns the home and names its pid. ``keys/primary`` holds the 32 secret
bytes all own key pairs are derived from; ``keys/<core key>`` holds the 32-byte seed of an imported pair.
Secrets are files of mode 0600 in a folder of mode 0700; they are never in the database and never logged.
"""

import fcntl
import os
import secrets
from pathlib import Path
from typing import Final, Self

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import KEY_SIZE, CoreKey, KeyPair
from p2prss.errors import CorruptLogError, HomeLockedError
from p2prss.log.disk import Disk, disk_errors

_PRIVATE_FOLDER: Final = 0o700
_PRIVATE_FILE: Final = 0o600


class Home:
    """The folder of one store, owned until ``close``.

    Raises: HomeLockedError when another process owns it, StorageError when it cannot be made or read.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path
        with disk_errors(str(path)):
            path.mkdir(mode=_PRIVATE_FOLDER, parents=True, exist_ok=True)
            self._keys.mkdir(mode=_PRIVATE_FOLDER, exist_ok=True)
            self._lock_fd = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _PRIVATE_FILE)
        try:
            self._lock()
        except BaseException:
            os.close(self._lock_fd)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def _keys(self) -> Path:
        return self.path / "keys"

    def close(self) -> None:
        """Give the home up; the lock file stays, since deleting it would race with the next owner."""
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def primary_key(self) -> bytes:
        """The 32 secret bytes of this home; made when the home is new."""
        path = self._keys / "primary"
        if not path.exists():
            if (self.path / "store.sqlite").exists():  # a new key would make other logs under the same names
                raise CorruptLogError(f"{path} is missing: restore it from a backup")
            _write_secret(path, secrets.token_bytes(KEY_SIZE))
        return _read_secret(path)

    def import_key_pair(self, key: CoreKey, key_pair: KeyPair) -> None:
        """Keep the key pair of one core that no name of this home derives."""
        path = self._keys / format_key(key)
        if not path.exists():
            _write_secret(path, key_pair.secret_key[:KEY_SIZE])

    def imported_key_pair(self, key: CoreKey) -> KeyPair | None:
        """The key pair kept for one core."""
        path = self._keys / format_key(key)
        return KeyPair.from_seed(_read_secret(path)) if path.exists() else None

    def _lock(self) -> None:
        try:
            fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(self._lock_fd, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise HomeLockedError(f"{self.path} is in use by process {owner}") from None
        with disk_errors(str(self.path / "lock")):
            os.ftruncate(self._lock_fd, 0)
            os.pwrite(self._lock_fd, f"{os.getpid()}\n".encode(), 0)


def _read_secret(path: Path) -> bytes:
    with disk_errors(str(path)):
        secret = path.read_bytes()
    if len(secret) != KEY_SIZE:
        raise CorruptLogError(f"{path} holds {len(secret)} bytes instead of a key's {KEY_SIZE}")
    return secret


def _write_secret(path: Path, secret: bytes) -> None:
    """Create the file whole or not at all: a half written key would be a key lost."""
    draft = path.with_name(path.name + ".new")
    with disk_errors(str(path)):
        draft.unlink(missing_ok=True)  # of a start that was cut short
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _PRIVATE_FILE)
        try:
            os.write(fd, secret)
            os.fsync(fd)
        finally:
            os.close(fd)
        draft.rename(path)
        for folder in (path.parent, path.parent.parent, path.parent.parent.parent):  # the home may be new
            Disk().sync_directory(folder)
