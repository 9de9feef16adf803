"""A drive in memory, with media that can be slow, missing, or break off in the middle."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

import trio

from p2prss.crypto.key_text import format_key, parse_key
from p2prss.crypto.keys import CoreKey
from p2prss.drive.blobs import Held
from p2prss.errors import P2prssError, UsageError
from p2prss.feed.archive.archive import FeedArchive
from p2prss.feed.archive.records import item_path
from p2prss.feed.document.rss_parts import ITEMS_MARK

KEY: Final = CoreKey(bytes(range(32)))


@dataclass(frozen=True)
class MemoryEntry:
    path: str
    byte_length: int
    metadata: Any


@dataclass
class Trouble:
    """What happens to a read of a file once it reaches byte ``at``: an error, or waiting."""

    at: int = 0
    error: P2prssError | None = None
    wait: bool = False
    resume: trio.Event = field(default_factory=trio.Event)  # ends the waiting
    short: bool = False  # the stream ends there


@dataclass
class MemoryDrive:
    """Satisfies ``serve.library.ServedDrive`` and ``feed.archive.archive.ReadableDrive``."""

    version: int = 1
    block_bytes: int = 65536
    files: dict[str, bytes] = field(default_factory=dict)
    metadata: dict[str, Any] = field(default_factory=dict)
    troubles: dict[str, Trouble] = field(default_factory=dict)
    read_bytes: int = 0  # handed out so far
    open_reads: int = 0  # streams begun and not yet closed
    _changed: trio.Event = field(default_factory=trio.Event)
    gets: int = 0  # small files read whole

    def put(self, path: str, data: bytes, metadata: Any = None) -> None:
        self.files[path] = data
        self.metadata[path] = metadata
        self.version += 1

    async def entry(self, path: str) -> MemoryEntry | None:
        await trio.lowlevel.checkpoint()
        if path not in self.files:
            return None
        return MemoryEntry(path, len(self.files[path]), self.metadata.get(path))

    async def size(self, path: str, /) -> int:
        await trio.lowlevel.checkpoint()
        if path not in self.files:
            raise UsageError(f"no file at {path!r}")
        return len(self.files[path])

    async def held(self, path: str, /) -> Held:
        return Held(0 if path in self.troubles else 1, 1) if await self.size(path) else Held(0, 0)

    async def list(
        self, folder: str = "/", *, reverse: bool = False, on_malformed: object = None
    ) -> AsyncIterator[MemoryEntry]:
        for path in sorted(self.files, reverse=reverse):
            if path.startswith(folder.rstrip("/") + "/"):
                yield MemoryEntry(path, len(self.files[path]), self.metadata.get(path))

    async def get(self, path: str, *, max_bytes: int = 0) -> bytes | None:
        await trio.lowlevel.checkpoint()
        self.gets += 1
        trouble = self.troubles.get(path)
        if trouble is not None and trouble.error is not None:
            raise trouble.error
        if trouble is not None and trouble.wait:
            await trouble.resume.wait()
        return self.files.get(path)

    async def get_held(self, paths: Iterable[str], *, max_bytes: int) -> dict[str, bytes]:
        await trio.lowlevel.checkpoint()
        return {}

    async def read(self, path: str, start: int, stop: int, /) -> AsyncGenerator[bytes, None]:
        data, trouble = memoryview(self.files[path]), self.troubles.get(path)
        self._count_open_reads(1)
        try:
            while start < stop:
                await trio.lowlevel.checkpoint()
                end = min(start + self.block_bytes - start % self.block_bytes, stop)
                if trouble is not None and end > trouble.at:
                    if trouble.error is not None:
                        raise trouble.error
                    if trouble.wait:
                        await trouble.resume.wait()
                    if trouble.short:
                        return
                self.read_bytes += end - start
                yield bytes(data[start:end])
                start = end
        finally:
            self._count_open_reads(-1)

    async def wait_open_reads(self, count: int) -> None:
        """Wait until so many streams are open."""
        while self.open_reads != count:
            await self._changed.wait()

    def _count_open_reads(self, change: int) -> None:
        self.open_reads += change
        self._changed.set()
        self._changed = trio.Event()


@dataclass
class MemoryFeed:
    """Satisfies ``serve.library.ServedFeed``; ``drive`` holds a show in feed format 1."""

    key: CoreKey = KEY
    slug: str = "a-show"
    title: str = "A show"
    peers: int = 0
    drive: MemoryDrive = field(default_factory=MemoryDrive)

    def __post_init__(self) -> None:
        self.archive = FeedArchive(self.drive)
        self.count = 0
        self.put_info()
        self.drive.put(
            "/channel.xml",
            b'<rss version="2.0"><channel><title>A show</title><link>https://example.org/</link>'
            b"<description>About it</description>\n" + f"<?{ITEMS_MARK}?>\n</channel></rss>".encode(),
        )

    @property
    def key_text(self) -> str:
        return format_key(self.key)

    def put_info(self, **members: Any) -> None:
        now = "2024-01-01T00:00:00Z"
        info = {"format": 1, "title": self.title, "created": now, "updated": now, **members}
        self.drive.put("/p2prss.json", json.dumps(info).encode())

    def capture(self, data: bytes, extension: str = "mp3") -> str:
        """Store media; returns its path."""
        digest = sha256(data).hexdigest()
        path = f"/media/{digest[:2]}/{digest}.{extension}"
        self.drive.put(path, data)
        return path

    def asset(
        self, role: str, url: str, data: bytes | None, extension: str = "mp3", **more: Any
    ) -> dict[str, Any]:
        """The record of a file, captured when ``data`` is given."""
        if data is None:
            return {"role": role, "url": url, **more}
        captured = {"path": self.capture(data, extension), "sha256": sha256(data).hexdigest()}
        return {"role": role, "url": url, "byte_length": len(data), **captured, **more}

    def add(
        self,
        guid: str,
        *assets: Mapping[str, Any],
        title: str = "An episode",
        seen: datetime | None = None,
        xml: str | None = None,
    ) -> str:
        """Put an item, also over an older version of it; returns its path."""
        self.count += 1
        seen = seen or datetime(2024, 1, 31, tzinfo=UTC) + timedelta(minutes=self.count)
        urls = "".join(
            f'<enclosure url="{one["url"]}" length="0" type="audio/mpeg"/>'
            for one in assets
            if one["role"] == "enclosure"
        )
        path = item_path(guid, seen)
        body = xml or f"<item><title>{title}</title><guid>{guid}</guid>{urls}</item>"
        record = {"guid": guid, "title": title, "first_seen": seen.isoformat(), "assets": list(assets)}
        self.drive.put(path, body.encode(), record)
        return path


@dataclass
class MemoryLibrary:
    """Satisfies ``serve.library.Library``."""

    shows: list[MemoryFeed] = field(default_factory=list)
    ready: bool = True

    def feeds(self) -> list[MemoryFeed]:
        return self.shows

    def find(self, key_or_slug: str) -> MemoryFeed | None:
        def names(show: MemoryFeed) -> bool:
            try:
                return show.slug == key_or_slug or parse_key(key_or_slug) == show.key
            except P2prssError:
                return False

        return next(filter(names, self.shows), None)
