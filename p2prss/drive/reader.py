"""One version of a drive, read: entries, files, differences and history.

Source: hyperdrive index.js; spec/06-drive, "Drive".
"""

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final, Generic, Self, TypeVar

from p2prss.crypto.keys import CoreKey
from p2prss.drive.bee import Bee, BeeChange, BeeReader
from p2prss.drive.blobs import BlobId, Blobs, Held
from p2prss.drive.btree import BeeEntry
from p2prss.drive.content import content_core
from p2prss.drive.core import Core, OpenCore
from p2prss.drive.cursor import BeeDiff
from p2prss.drive.entry import DriveEntry, decode_entry
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import EVERYTHING, KeyRange, Sub
from p2prss.drive.paths import normalize_folder, normalize_path, resolve_link
from p2prss.errors import UsageError
from p2prss.units import MIB

FILES: Final = Sub.named(b"files")
MAX_LINKS: Final = 16  # symbolic links followed one after the other
GET_LIMIT: Final = 64 * MIB  # bytes ``get`` gathers in memory, unless told otherwise

OnMalformed = Callable[[DriveError], None]
"""Told of an entry that makes no sense and is left out of a listing, which then goes on."""

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DriveDiff:
    """One path that differs: its entry now, and in the older version; None where it has none."""

    left: DriveEntry | None
    right: DriveEntry | None


@dataclass(frozen=True, slots=True)
class DriveChange:
    """One step of the history; ``entry`` is None where the path was deleted."""

    seq: int
    path: str
    entry: DriveEntry | None


class DriveReader:
    """One version of a drive. Reads raise DriveError for what is malformed in it."""

    def __init__(self, bee: BeeReader, open_blobs: "ContentOpener") -> None:
        self._bee = bee
        self._content = open_blobs

    @property
    def key(self) -> CoreKey:
        """The key that is shared."""
        return self._bee.core.key

    @property
    def db(self) -> Core:
        """The log of the entries."""
        return self._bee.core

    @property
    def version(self) -> int:
        """The length of the db core this reads at, at least 1; that of a live drive moves."""
        return self._bee.version

    async def blobs(self) -> Blobs:
        """The blobs, whose log is opened when first asked for; waits for block 0 of a drive still empty."""
        return await self._content.blobs()

    async def entry(self, path: str, *, follow: bool = False) -> DriveEntry | None:
        """What the drive says about a path; ``follow`` goes on from a symbolic link to its target.

        Raises: UsageError for a path that cannot be; DriveError where links go on for too long.
        """
        path = normalize_path(path)
        for _ in range(MAX_LINKS + 1):
            found = await self._bee.get(key_of(path))
            entry = None if found is None else decode_entry(found, FILES.strip(found.key))
            if entry is None or entry.linkname is None or not follow:
                return entry
            path = resolve_link(entry.path, entry.linkname)
        raise DriveError(f"more than {MAX_LINKS} symbolic links in a row at {path!r}")

    async def get(self, path: str, *, follow: bool = False, max_bytes: int = GET_LIMIT) -> bytes | None:
        """A whole file; None where there is no entry, or one without bytes.

        Raises: DriveError when it has more than ``max_bytes``.
        """
        entry = await self.entry(path, follow=follow)
        if entry is None or entry.blob is None:
            return None
        content = bytearray()
        async with aclosing(self.read(entry)) as pieces:
            async for piece in pieces:
                content += piece
                if len(content) > max_bytes:
                    raise DriveError(f"{entry.path!r} has more than {max_bytes} bytes")
        return bytes(content)

    async def get_held(self, paths: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
        """Those of these files that are wholly here and have at most ``max_bytes``, by path.

        Files that lie side by side are read together: for many small ones that is far quicker than ``get``.
        """
        blobs = await self.blobs()
        found: dict[str, BlobId] = {}
        for path in paths:
            entry = await self.entry(path)
            if entry is not None and entry.blob is not None and not entry.blob.block_map:
                found[path] = entry.blob
        return await blobs.get_held(found, max_bytes=max_bytes)

    async def read(
        self, file: str | DriveEntry, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The bytes of a file from ``start`` up to ``stop``, in pieces as the blocks come.

        Close it when leaving early, best by ``contextlib.aclosing``: that ends the fetching too.
        Raises: UsageError when a path names no file; DriveError when the blob is shorter than it says.
        """
        blobs = await self.blobs()
        async with aclosing(blobs.read(await self._blob(file), start, stop)) as pieces:
            async for piece in pieces:
                yield piece

    async def size(self, file: str | DriveEntry) -> int:
        """The bytes of a file."""
        blob = await self._blob(file)
        return await (await self.blobs()).size(blob) if blob.block_map else blob.byte_length

    async def held(self, file: str | DriveEntry) -> Held:
        """How much of a file is here."""
        return await (await self.blobs()).held(await self._blob(file))

    async def download(self, file: str | DriveEntry) -> None:
        """Wait until a whole file is here."""
        await (await self.blobs()).download(await self._blob(file))

    async def clear(self, file: str | DriveEntry) -> None:
        """Forget the bytes of a file here. The drive stays as it is; others may have them still."""
        await (await self.blobs()).clear(await self._blob(file))

    def entries(self, *, on_malformed: OnMalformed | None = None) -> AsyncIterator[DriveEntry]:
        """All entries, by path; see ``list``."""
        return self.list(on_malformed=on_malformed)

    def list(
        self,
        folder: str = "/",
        *,
        reverse: bool = False,
        limit: int | None = None,
        on_malformed: OnMalformed | None = None,
    ) -> AsyncIterator[DriveEntry]:
        """The entries below a folder and its folders, by path; of the first ``limit``, if that is given.

        A malformed entry ends the listing with a DriveError, unless there is an ``on_malformed`` to take
        it. A malformed tree always does.
        """
        keys = FILES.range(_folder_range(folder))
        entries = self._bee.range(keys, reverse=reverse, limit=limit)
        return _Mapped(entries, _entry if on_malformed is None else partial(_entry_or_none, on_malformed))

    async def children(self, folder: str = "/") -> Sequence[DriveEntry]:
        """For each file and folder directly in a folder, the first entry: the file itself, or one below."""
        prefix = _folder_prefix(folder)
        everything = _folder_range(folder)
        keys = everything
        found: list[DriveEntry] = []
        while True:
            entry = await anext(_Mapped(self._bee.range(FILES.range(keys), limit=1), _entry), None)
            if entry is None:
                return found
            found.append(entry)
            name, slash, _ = entry.path.encode()[len(prefix) :].partition(b"/")
            if slash:  # go on behind all that is below it: "0" is the byte after "/"
                keys = KeyRange(gte=prefix + name + b"0", lt=everything.lt)
            else:
                keys = KeyRange(gt=prefix + name, lt=everything.lt)

    async def readdir(self, folder: str = "/") -> Sequence[str]:
        """The names in a folder, those of its folders among them."""
        depth = len(_folder_prefix(folder).decode())
        return list(
            dict.fromkeys([entry.path[depth:].split("/")[0] for entry in await self.children(folder)])
        )

    def diff(self, older: int, folder: str = "/") -> AsyncIterator[DriveDiff]:
        """The paths that differ from an older version."""
        return _Mapped(self._bee.diff(older, FILES.range(_folder_range(folder))), _difference)

    def history(self, start: int = 1, stop: int | None = None) -> AsyncIterator[DriveChange]:
        """Puts and deletes in the order they were made; after a DriveError it goes on with the next."""
        return _Mapped(self._bee.history(start, stop), _change)

    async def _blob(self, file: str | DriveEntry) -> BlobId:
        entry = await self.entry(file) if isinstance(file, str) else file
        if entry is None or entry.blob is None:
            raise UsageError(f"no file at {file if entry is None else entry.path!r}")
        return entry.blob


class ContentOpener:
    """Finds and opens the blobs core once, for a drive and its checkouts."""

    def __init__(self, bee: Bee, open_core: OpenCore) -> None:
        self._bee = bee
        self._open_core = open_core
        self._blobs: Blobs | None = None

    async def blobs(self) -> Blobs:
        """The blobs; waits for block 0 of a drive still empty."""
        if self._blobs is None:
            db = self._bee.core
            while db.length == 0 and not db.writable:
                await db.wait_changed(db.length, db.fork)
            header = await self._bee.header() if db.length > 0 else None
            key, manifest = content_core(header, db.key, db.manifest)
            self._blobs = Blobs(await self._open_core(key, manifest))
        return self._blobs


class _Mapped(Generic[S, T]):
    """Iterates over what a function makes of another iterator's values; what it makes None of is left out."""

    def __init__(self, source: AsyncIterator[S], function: Callable[[S], T | None]) -> None:
        self._source = source
        self._function = function

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while True:
            value = self._function(await self._source.__anext__())
            if value is not None:
                return value


def key_of(path: str) -> bytes:
    """The key of a normalized path in the db core's tree."""
    return FILES.key(path.encode())


def _folder_prefix(folder: str) -> bytes:
    folder = normalize_folder(folder)
    return b"/" if folder == "/" else folder.encode() + b"/"


def _folder_range(folder: str) -> KeyRange:
    prefix = _folder_prefix(folder)
    return KeyRange(gt=prefix, lt=prefix[:-1] + b"0") if prefix != b"/" else EVERYTHING


def _entry(entry: BeeEntry) -> DriveEntry:
    return decode_entry(entry, FILES.strip(entry.key))


def _entry_or_none(on_malformed: OnMalformed, entry: BeeEntry) -> DriveEntry | None:
    try:
        return _entry(entry)
    except DriveError as error:
        on_malformed(error)
        return None


def _difference(difference: BeeDiff) -> DriveDiff:
    left, right = difference
    return DriveDiff(None if left is None else _entry(left), None if right is None else _entry(right))


def _change(change: BeeChange) -> DriveChange | None:
    key = change.entry.key
    if not key.startswith(FILES.prefix):
        return None  # another sub-database
    entry = decode_entry(change.entry, FILES.strip(key)) if not change.deleted else None
    path = entry.path if entry is not None else FILES.strip(key).decode("utf-8", "replace")
    return DriveChange(change.entry.seq, path, entry)
