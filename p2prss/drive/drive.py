"""Hyperdrive: a tree of files on two logs. The db core maps paths to entries, the blobs core holds bytes.

A file's bytes are durable before the entry that names them. The key of the drive is that of the db
core; whoever holds it can find and read the rest.
Source: hyperdrive index.js; spec/06-drive, "Drive".
"""

from types import TracebackType
from typing import Self

from p2prss.drive.bee import Bee
from p2prss.drive.blobs import BlobId, Source
from p2prss.drive.btree import Header
from p2prss.drive.core import Core, OpenCore
from p2prss.drive.entry import encode_value
from p2prss.drive.paths import normalize_path
from p2prss.drive.reader import ContentOpener, DriveReader, key_of
from p2prss.errors import LocalProtocolError


class Drive(DriveReader):
    """The newest version, and writing.

    ``rewrite_stale``: deletes rewrite a little more than those of the reference, so that readers in
    JavaScript do not find what is gone; see ``TreeEditor``.
    """

    def __init__(self, db: Core, open_core: OpenCore, *, rewrite_stale: bool = False) -> None:
        bee = Bee(db, header=Header(), rewrite_stale=rewrite_stale)
        super().__init__(bee, ContentOpener(bee, open_core))
        self._live = bee

    @classmethod
    async def open(cls, db: Core, open_core: OpenCore, *, rewrite_stale: bool = False) -> Self:
        """The drive on this db core. The blobs core is opened too, unless nothing is known of it yet.

        Raises: DriveError when the log is no drive.
        """
        drive = cls(db, open_core, rewrite_stale=rewrite_stale)
        if db.writable or db.length > 0:
            await drive.blobs()
        return drive

    @property
    def writable(self) -> bool:
        """Whether it is ours."""
        return self.db.writable

    def checkout(self, version: int) -> DriveReader:
        """The drive as it was at a version; only versions that ended an append can be read."""
        return DriveReader(self._live.checkout(version), self._content)

    async def wait_changed(self, version: int) -> int:
        """Wait until the drive has another version than this one. Returns: it."""
        while self.version == version:
            await self.db.wait_changed(self.db.length, self.db.fork)
        return self.version

    async def download_entries(self) -> None:
        """Wait until the whole db core is here: then all but the bytes of files is answered locally."""
        await self.db.download(0, self.db.length)

    async def put(
        self, path: str, data: Source, *, executable: bool = False, metadata: object = None
    ) -> BlobId:
        """Write a file, its bytes first."""
        async with self.batch() as batch:
            return await batch.put(path, data, executable=executable, metadata=metadata)

    async def symlink(self, path: str, target: str, *, metadata: object = None) -> None:
        """Make a symbolic link; the target is kept as given."""
        async with self.batch() as batch:
            batch.symlink(path, target, metadata=metadata)

    async def delete(self, path: str) -> None:
        """Remove an entry, if there is one; the bytes of the file remain in its log."""
        async with self.batch() as batch:
            batch.delete(path)

    def batch(self) -> "DriveBatch":
        """Several changes under one signed head: ``async with drive.batch() as batch``."""
        return DriveBatch(self, self._live)


class DriveBatch:
    """Changes of entries that become visible together when the ``async with`` block ends well.

    Bytes are appended at once, entries at the end: other writers are kept waiting only then.
    """

    def __init__(self, drive: Drive, bee: Bee) -> None:
        self._drive = drive
        self._bee = bee
        self._changes: list[tuple[bytes, bytes | None]] = []  # key, value; None deletes

    async def __aenter__(self) -> Self:
        if not self._bee.core.writable:
            raise LocalProtocolError("this drive is somebody else's: it cannot be written here")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        changes, self._changes = self._changes, []
        if error is not None or not changes:
            return
        async with self._bee.batch() as batch:
            for key, value in changes:
                if value is None:
                    await batch.delete(key)
                else:
                    await batch.put(key, value)

    async def put(
        self, path: str, data: Source, *, executable: bool = False, metadata: object = None
    ) -> BlobId:
        """Write a file."""
        key = key_of(normalize_path(path))
        encode_value(None, executable=executable, metadata=metadata)  # refuse before bytes are written
        blob = await (await self._drive.blobs()).put(data)
        self._changes.append((key, encode_value(blob, executable=executable, metadata=metadata)))
        return blob

    def put_entry(
        self, path: str, blob: BlobId, *, executable: bool = False, metadata: object = None
    ) -> None:
        """Set the entry of a file whose bytes are there already."""
        value = encode_value(blob, executable=executable, metadata=metadata)
        self._changes.append((key_of(normalize_path(path)), value))

    def symlink(self, path: str, target: str, *, metadata: object = None) -> None:
        """Make a symbolic link; the target is kept as given."""
        value = encode_value(None, linkname=target, metadata=metadata)
        self._changes.append((key_of(normalize_path(path)), value))

    def delete(self, path: str) -> None:
        """Remove an entry, if there is one."""
        self._changes.append((key_of(normalize_path(path)), None))
