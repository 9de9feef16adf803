"""The drive of any feed, whatever its key turns out to name: a drive, or a feed of hyper-rss.

Nobody has to say which: block 0 of the log tells, once it is here. A feed of hyper-rss is shown as the
drive that feed format 1 would make of it, so that all who serve, keep, export or look at feeds
need not know of the other kind. Its texts are made when they are asked for, its files are
those of its blobs log, under the hashes that their names promise.
Source: spec/06-drive, "Feeds of hyper-rss".
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Final, Self

import msgspec
import trio

from p2prss.crypto.keys import CoreKey
from p2prss.drive.blobs import Blobs
from p2prss.drive.drive import Drive
from p2prss.drive.entry import DriveEntry
from p2prss.drive.errors import DriveError
from p2prss.drive.legacy_rss import LegacyFeed, LegacyFile, LegacyItem, LegacyKeys
from p2prss.drive.reader import GET_LIMIT, OnMalformed
from p2prss.errors import FeedFormatError
from p2prss.feed.archive import legacy_rss
from p2prss.feed.archive.archive import CHANNEL_PATH, INFO_PATH, ITEMS_FOLDER, MEDIA_FOLDER
from p2prss.feed.archive.records import ItemRecord, item_path
from p2prss.feed.document.rss_parts import MAX_ITEMS
from p2prss.log.manifest import Manifest
from p2prss.net.core import PeerCore

SETTLE_SECONDS: Final = 5.0  # for peers to tell how long the logs of a feed are
BREATH_ITEMS: Final = 50  # read in one go before others get their turn

_MEDIA_PATH: Final = re.compile(r"/media/([0-9a-f]{2})/((?=\1)[0-9a-f]{64})\.[a-z0-9]{1,8}")

OpenPeerCore = Callable[[CoreKey, Manifest | None], Awaitable[PeerCore]]


class AnyDrive(Drive):
    """A drive, or what looks like one."""

    def __init__(self, db: PeerCore, open_core: OpenPeerCore) -> None:
        super().__init__(db, open_core)
        self._first = db
        self._open_core = open_core
        self._legacy: LegacyDrive | None = None
        self._is_known = False
        self._recognizing = trio.Lock()
        self._recognized = trio.Event()

    @property
    def version(self) -> int:
        """Changes whenever an entry does, at least 1."""
        return super().version if self._legacy is None else self._legacy.version

    async def blobs(self) -> Blobs:
        """The blobs; waits for the first block of a log that is still empty."""
        while not self._first.length and not self._first.writable:
            await self._first.wait_changed(self._first.length, self._first.fork)
        legacy = await self._recognize()
        return await super().blobs() if legacy is None else legacy.feed.blobs

    async def entry(self, path: str, *, follow: bool = False) -> DriveEntry | None:
        """What the drive says about a path."""
        legacy = await self._recognize()
        return await super().entry(path, follow=follow) if legacy is None else await legacy.entry(path)

    async def get(self, path: str, *, follow: bool = False, max_bytes: int = GET_LIMIT) -> bytes | None:
        """A whole file; None where there is none.

        Raises: DriveError when it has more than ``max_bytes``; FeedFormatError for an item that is malformed.
        """
        legacy = await self._recognize()
        if legacy is not None and not path.startswith(MEDIA_FOLDER):
            text = await legacy.text(path)
            if text is not None and len(text) > max_bytes:
                raise DriveError(f"{path!r} has more than {max_bytes} bytes")
            return text
        return await super().get(path, follow=follow, max_bytes=max_bytes)

    async def get_held(self, paths: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
        """Those of these files that are here; of a feed of hyper-rss none, whose texts are made."""
        legacy = await self._recognize()
        return {} if legacy is not None else await super().get_held(paths, max_bytes=max_bytes)

    def list(
        self,
        folder: str = "/",
        *,
        reverse: bool = False,
        limit: int | None = None,
        on_malformed: OnMalformed | None = None,
    ) -> AsyncIterator[DriveEntry]:
        """The entries below a folder, by path; items of hyper-rss in the order of their feed."""
        listed = partial(super().list, folder, reverse=reverse, limit=limit, on_malformed=on_malformed)

        async def start() -> AsyncIterator[DriveEntry]:
            legacy = await self._recognize()
            if legacy is None:
                return listed()
            found = await legacy.list(folder, on_malformed)
            return _Each(found if reverse else found[::-1], limit)

        return _Later(start)

    def entries(self, *, on_malformed: OnMalformed | None = None) -> AsyncIterator[DriveEntry]:
        """All entries; see ``list``."""
        return self.list(on_malformed=on_malformed)

    async def wait_changed(self, version: int) -> int:
        """Wait until there is another version than this one, or another fork. Returns: the version."""
        forks = self._forks()
        while self.version == version and self._forks()[: len(forks)] == forks:
            async with trio.open_nursery() as nursery:
                for core in self._entry_cores():
                    nursery.start_soon(_wait_news, core, nursery.cancel_scope)
                if not self._is_known:
                    nursery.start_soon(_wait_set, self._recognized, nursery.cancel_scope)
        return self.version

    async def download_entries(self) -> None:
        """Wait until all but the bytes of files is here, of all that peers have told of."""
        await super().download_entries()
        legacy = await self._recognize()
        if legacy is not None:
            await legacy.download_entries(self._first)

    def _entry_cores(self) -> Sequence[PeerCore]:
        return [self._first] if self._legacy is None else [self._first, *self._legacy.entry_cores]

    def _forks(self) -> Sequence[int]:
        return [core.fork for core in self._entry_cores()]

    async def _recognize(self) -> "LegacyDrive | None":
        """Find out what this is as soon as there is something.

        Raises: DriveError when block 0 is neither a drive's nor a feed's; what ``PeerCore.get`` raises.
        """
        if not self._is_known and self._first.length:
            async with self._recognizing:
                if not self._is_known:
                    await self._look()
        return self._legacy

    async def _look(self) -> None:
        if not self._first.writable:  # ours are drives
            block = await self._first.get(0)
            if LegacyKeys.is_likely(block):
                keys = LegacyKeys.decode(block, self._first.key)
                self._legacy = await LegacyDrive.open(keys, self._open_core)
        self._is_known = True
        self._recognized.set()


class LegacyDrive:
    """A feed of hyper-rss as a drive of feed format 1; what was read of its list is kept for its version."""

    def __init__(self, feed: LegacyFeed, entry_cores: Sequence[PeerCore]) -> None:
        self.feed = feed
        self.entry_cores = entry_cores  # those that hold all but the bytes of files
        self._records: dict[str, ItemRecord] = {}  # by path, those added last first
        self._read_state: list[tuple[int, int]] = []  # length and fork of each, as of the list
        self._malformed = 0
        self._reading = trio.Lock()

    @classmethod
    async def open(cls, keys: LegacyKeys, open_core: OpenPeerCore) -> Self:
        """Open the logs that the keys log names."""
        feed, blob_keys = await open_core(keys.feed, None), await open_core(keys.blob_keys, None)
        blobs = await open_core(keys.blobs, None)
        return cls(LegacyFeed(feed, blob_keys, blobs), [feed, blob_keys])

    @property
    def version(self) -> int:
        """Grows with each item and each file, at least 1."""
        return self.feed.version

    async def entry(self, path: str) -> DriveEntry | None:
        """A file's entry; the texts have none, as they are no blobs."""
        match = _MEDIA_PATH.fullmatch(path)
        file = None if match is None else await self.feed.file_of(bytes.fromhex(match[2]))
        return None if file is None else DriveEntry(0, path, file.blob)

    async def text(self, path: str) -> bytes | None:
        """One of the texts of feed format 1, made anew.

        Raises: FeedFormatError where it cannot be made of what the feed says.
        """
        if path == CHANNEL_PATH:
            return legacy_rss.render_channel(await self._metadata())
        if path == INFO_PATH:
            records = await self._items()
            return legacy_rss.make_info(await self._metadata(), list(records.values()))
        record = (await self._items()).get(path)
        if record is None:
            return None
        try:
            item = await self.feed.item(record.guid)
        except DriveError as error:
            raise FeedFormatError(str(error)) from None
        return None if item is None else legacy_rss.render_item(item, record)

    async def list(self, folder: str, on_malformed: OnMalformed | None) -> Sequence[DriveEntry]:
        """Items, those added last first, and files by name."""
        found: list[DriveEntry] = []
        if folder in (ITEMS_FOLDER, "/"):
            for path, record in (await self._items()).items():
                found.append(DriveEntry(0, path, metadata=msgspec.to_builtins(record)))
            if on_malformed is not None:
                for _ in range(self._malformed):
                    on_malformed(DriveError("an item of this feed is malformed"))
        if folder in (MEDIA_FOLDER, "/"):
            async with aclosing(self.feed.files()) as files:
                found += [DriveEntry(0, legacy_rss.media_path(file)[0], file.blob) async for file in files]
        return found

    async def download_entries(self, first: PeerCore) -> None:
        """Fetch all of both bees, once peers have had a moment to tell how long they are."""
        feed, _ = self.entry_cores
        for core in self.entry_cores:
            core.follow_tip()
        with trio.move_on_after(SETTLE_SECONDS):
            for core in self.entry_cores:
                while first.session.peers and core.may_grow:
                    await core.session.changed.wait()
        while not feed.length:
            await feed.wait_changed(feed.length, feed.fork)
        for core in self.entry_cores:
            await core.download(0, core.length)

    async def _metadata(self) -> dict[str, str]:
        return {name: await self.feed.metadata(name) for name in legacy_rss.METADATA}

    async def _items(self) -> dict[str, ItemRecord]:
        """The records of all items by path, those added last first; at most ``MAX_ITEMS``."""
        async with self._reading:
            state = [(core.length, core.fork) for core in self.entry_cores]
            if state != self._read_state:
                await self._read_items()
                self._read_state = state
            return self._records

    async def _read_items(self) -> None:
        """Read the whole list; what is malformed or named twice is left out and counted."""
        records: dict[str, ItemRecord] = {}
        seen: set[str] = set()
        malformed = 0
        async with aclosing(self.feed.items()) as items:
            async for item in items:
                if len(records) >= MAX_ITEMS:
                    break
                record = None
                if item is not None and item.guid not in seen:
                    seen.add(item.guid)
                    record = legacy_rss.read_record(item, await self._files_of(item))
                if record is None:
                    malformed += 1
                else:
                    records[item_path(record.guid, record.first_seen)] = record
                if (len(records) + malformed) % BREATH_ITEMS == 0:
                    await trio.lowlevel.checkpoint()
        self._records, self._malformed = records, malformed

    async def _files_of(self, item: LegacyItem) -> dict[str, LegacyFile]:
        found = {}
        for name in legacy_rss.file_names(item):
            if (file := await self.feed.file(name)) is not None:
                found[name] = file
        return found


class _Later:
    """Iterates over what is known only when its first value is asked for; may be dropped halfway."""

    def __init__(self, start: Callable[[], Awaitable[AsyncIterator[DriveEntry]]]) -> None:
        self._start = start
        self._source: AsyncIterator[DriveEntry] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DriveEntry:
        if self._source is None:
            self._source = await self._start()
        return await self._source.__anext__()


class _Each:
    """Iterates over entries that are here, up to a limit."""

    def __init__(self, entries: Sequence[DriveEntry], limit: int | None) -> None:
        self._entries = iter(entries[:limit])

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DriveEntry:
        for entry in self._entries:
            return entry
        raise StopAsyncIteration


async def _wait_news(core: PeerCore, scope: trio.CancelScope) -> None:
    await core.wait_changed(core.length, core.fork)
    scope.cancel()


async def _wait_set(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
