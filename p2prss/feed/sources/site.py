"""A folder with a static site and its feed: the feed is mirrored, and the pages go into the drive beside it.

The pages stand under ``/site``; what did not change is not written again, what is gone from the folder
goes from the drive's present version. A file that the feed names as well is stored once.
"""

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes, urljoin, urlsplit

import msgspec
import trio
from lxml import etree, html

from p2prss.drive.blobs import BlobId
from p2prss.drive.entry import DriveEntry
from p2prss.errors import FeedFormatError, FetchError
from p2prss.feed.archive.archive import SITE_FOLDER
from p2prss.feed.archive.records import Asset, SiteInfo
from p2prss.feed.archive.writer import FeedWriter
from p2prss.feed.document.parse import parse_feed
from p2prss.feed.document.repair import MAX_FEED_BYTES
from p2prss.feed.mirroring.mirror import StateStore
from p2prss.feed.mirroring.policy import limit_of
from p2prss.feed.model import MAX_URL_LENGTH
from p2prss.feed.origin.fetch import Fetched, Fetcher
from p2prss.feed.sources.folder import (
    FoundFile,
    address_of,
    copy_file,
    list_files,
    opened,
    read_file,
    read_piece,
    shown,
)
from p2prss.feed.sources.show import KnownFile, Memory
from p2prss.units import GB, MB

MAX_SITE_FILES: Final = 20_000
MAX_SITE_BYTES: Final = 4 * GB  # of all pages and what they show
MAX_SITE_FILE_BYTES: Final = 1 * GB
MAX_NOTICES: Final = 20  # of files that are left out
MAX_INDEX_BYTES: Final = 4 * MB  # of the page that is searched for the address of its feed
FEED_NAMES: Final = ("feed.xml", "index.xml", "rss.xml", "atom.xml", "podcast.xml", "feed.rss", "feed.atom")

_FEED_TYPES: Final = frozenset({"application/rss+xml", "application/atom+xml"})
_ENCLOSURE: Final = re.compile(rb"<(?:\w+:)?enclosure\s|\srel\s*=\s*[\"']enclosure[\"']")
_FEED_START: Final = re.compile(rb"<(?:\w+:)?(?:rss|feed|RDF)[\s>]")


@dataclass
class SiteSource:
    """Satisfies ``shelf.MadeFeed``.

    Args: feed_path: of the feed in the folder; with_pages: whether there are pages; state: keeps the hashes
        of files between runs.
    """

    root: Path
    feed_path: str
    state: StateStore
    with_pages: bool = True
    base_url: str = (
        ""  # where the site stands in the web, with a slash at the end; empty if that is not known
    )
    _files: list[FoundFile] = field(default_factory=list)
    notices: tuple[str, ...] = ()  # of the last look; at first what is to be told with it
    _told: set[str] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where the relative addresses of its feed start."""
        return f"{self.root.as_uri()}/{address_of(self.feed_path)}"

    async def read(self, into: Path) -> Fetched:
        """Copy the feed of the site. Raises: FetchError when it is gone."""
        return await trio.to_thread.run_sync(self._read, into)

    async def take(self, asset: Asset, title: str, fetcher: Fetcher, into: Path) -> Fetched | None:
        """A file of the site that its feed names, by its address here or in the web."""
        del title, fetcher
        path = self._path_of(asset.url)
        if path is None or all(file.path != path for file in self._files):
            return None
        return await trio.to_thread.run_sync(copy_file, self.root, path, into, limit_of(asset))

    async def write_pages(self, writer: FeedWriter) -> None:
        """Bring ``/site`` up to date. Raises: FeedFormatError when the site is too large."""
        if self.with_pages:
            pages = _Pages(self.root, self._files, writer, self.state)
            await pages.write(self.base_url, address_of(self.feed_path)[:MAX_URL_LENGTH])

    def _read(self, into: Path) -> Fetched:
        self._files = list_files(self.root)
        self._tell()
        data = read_file(self.root, self.feed_path, MAX_FEED_BYTES)
        self.base_url = self._find_base(data)
        return copy_file(self.root, self.feed_path, into, MAX_FEED_BYTES)

    def _tell(self) -> None:
        """Tell what is left out, once."""
        large = [file.path for file in self._files if file.byte_length > MAX_SITE_FILE_BYTES]
        new = [
            f"left out of the pages: {shown(path)} is larger than {MAX_SITE_FILE_BYTES} bytes"
            for path in large[:MAX_NOTICES]
        ]
        texts = [*([] if self._told else self.notices), *new]
        self.notices = tuple(text for text in texts if text not in self._told)
        self._told |= set(texts)

    def _find_base(self, feed: bytes) -> str:
        """Where the site stands: what its page says of its feed, else the feed's own link."""
        if not self.with_pages:
            return ""
        for url in feed_links(self.root):
            if url.endswith(f"/{self.feed_path}") and _is_web(url):
                return url[: -len(self.feed_path)]
        link = parse_feed(feed).channel.link
        return urljoin(link, "./") if _is_web(link) else ""

    def _path_of(self, address: str) -> str | None:
        """The path of the file that an address means, in the folder or below the site's own address."""
        try:
            if self.base_url and address.startswith(self.base_url):
                address = address.removeprefix(self.base_url)
            elif urlsplit(address).scheme or address.startswith("/"):
                return None
            else:
                address = urljoin(f"/{address_of(self.feed_path)}", address).removeprefix("/")
            return str(unquote_to_bytes(urlsplit(address).path), "utf-8", "surrogateescape")
        except ValueError:
            return None


def find_site(root: Path, state: StateStore) -> SiteSource | None:
    """The site or the feed that a folder holds; None where it holds neither.

    Raises: FeedError when the folder cannot be read.
    """
    files = {file.path for file in list_files(root)}
    with_pages = "index.html" in files
    names = [path for url in feed_links(root) if (path := _local(url, files))] if with_pages else []
    usual = (name for name in FEED_NAMES if name in files)
    feeds = [name for name in dict.fromkeys((*names, *usual)) if _is_feed(root, name)]
    if not feeds:
        return None
    feed = next((name for name in feeds if _has_media(root, name)), feeds[0])
    others = ", ".join(name for name in feeds if name != feed)[:200]
    told = (f"published is {feed}, not the site's other feeds ({others})",) if others else ()
    return SiteSource(root, feed, state, with_pages, notices=told)


def feed_links(root: Path) -> list[str]:
    """The addresses of feeds that the first page of a site names, as it writes them."""
    try:
        page = html.fromstring(read_file(root, "index.html", MAX_INDEX_BYTES))
    except (FetchError, etree.LxmlError, ValueError, RecursionError):
        return []
    found = []
    for link in page.iter("link"):
        words = str(link.get("rel", "")).lower().split()
        if "alternate" in words and str(link.get("type", "")).strip().lower() in _FEED_TYPES:
            found.append(str(link.get("href", "")).strip()[:MAX_URL_LENGTH])
    return found


def _local(url: str, files: set[str]) -> str | None:
    """The file of the folder that an address of the site means; it may stand in a folder of its host."""
    try:
        parts = unquote(urlsplit(url).path).strip("/").split("/")
    except ValueError:
        return None
    return next((path for start in range(len(parts)) if (path := "/".join(parts[start:])) in files), None)


def _is_web(url: str) -> bool:
    try:
        return urlsplit(url).scheme in ("http", "https") and len(url) <= MAX_URL_LENGTH
    except ValueError:
        return False


def _has_media(root: Path, path: str) -> bool:
    """Whether a feed is a podcast: a blog has one feed of all its posts and one of its episodes."""
    try:
        return _ENCLOSURE.search(read_file(root, path, MAX_FEED_BYTES)) is not None
    except FetchError:
        return False


def _is_feed(root: Path, path: str) -> bool:
    try:
        with opened(root, path) as descriptor:
            return _FEED_START.search(read_piece(descriptor, path)) is not None
    except FetchError:
        return False


class _Pages:
    """One update of ``/site``."""

    def __init__(self, root: Path, files: Sequence[FoundFile], writer: FeedWriter, state: StateStore) -> None:
        self._root = root
        self._files = [file for file in files if _is_page(file)]
        self._writer = writer
        self._state = state
        self._known = _remembered(state.load())
        self._hashes: dict[str, KnownFile] = {}

    async def write(self, base_url: str, feed: str) -> None:
        size = sum(file.byte_length for file in self._files)
        if len(self._files) > MAX_SITE_FILES or size > MAX_SITE_BYTES:
            raise FeedFormatError(
                f"the site has {len(self._files)} files of {size} bytes;"
                f" at most {MAX_SITE_FILES} and {MAX_SITE_BYTES} are published"
            )
        drive = self._writer.drive
        entries = {entry.path: entry async for entry in drive.list(SITE_FOLDER)}
        old: list[DriveEntry] = []
        async with drive.batch() as batch:
            for file in self._files:
                path = f"{SITE_FOLDER}/{file.path}"
                entry = entries.pop(path, None)
                if entry is not None and entry.blob is not None and await self._is_there(file, entry):
                    continue
                try:
                    blob, digest = await self._put(file, entry)
                except FetchError:
                    continue  # it went away meanwhile
                if entry is not None and entry.blob == blob:
                    continue
                batch.put_entry(path, blob, metadata={"sha256": digest})
                old += [entry] if entry is not None else []
            for path, entry in entries.items():
                batch.delete(path)
                old.append(entry)
        for entry in old:
            if entry.blob is not None and _digest_of(entry) not in self._writer.media:
                await drive.clear(entry)
        if self._writer.info is not None:
            info = SiteInfo(base_url=base_url, feed=feed, files=len(self._files), bytes=size)
            self._writer.info = msgspec.structs.replace(self._writer.info, site=info)
        if self._hashes != self._known:
            self._state.save(msgspec.json.encode(Memory(files=self._hashes)))

    async def _is_there(self, file: FoundFile, entry: DriveEntry) -> bool:
        """Whether the drive has the file as it is; its bytes may have gone with those of an episode."""
        known = self._known.get(address_of(file.path))
        if known is None or known.sha256 != _digest_of(entry) or known != KnownFile.of(file, known.sha256):
            return False
        self._hashes[address_of(file.path)] = known
        return await self._is_held(entry)

    async def _is_held(self, entry: DriveEntry) -> bool:
        held = await self._writer.drive.held(entry)
        return held.blocks == held.total

    async def _put(self, file: FoundFile, old: DriveEntry | None) -> tuple[BlobId, str]:
        """The bytes of a file in the drive: those of the same content that are there, else new ones."""
        summed = sha256()
        async with aclosing(_pieces(self._root, file.path)) as pieces:
            async for piece in pieces:
                summed.update(piece)
        digest = summed.hexdigest()
        drive = self._writer.drive
        stored = await drive.entry(self._writer.media[digest]) if digest in self._writer.media else None
        if (
            old is not None
            and old.blob is not None
            and _digest_of(old) == digest
            and await self._is_held(old)
        ):
            blob = old.blob
        elif stored is not None and stored.blob is not None and await self._is_held(stored):
            blob = stored.blob
        else:
            summed = sha256()
            async with aclosing(_pieces(self._root, file.path, summed)) as pieces:
                blob = await (await drive.blobs()).put(pieces)
            digest = summed.hexdigest()
        self._hashes[address_of(file.path)] = KnownFile.of(file, digest)
        return blob, digest


async def _pieces(root: Path, path: str, summed: Any = None) -> AsyncGenerator[bytes, None]:
    """The bytes of a file, and their hash on the way."""
    with opened(root, path) as descriptor:
        while piece := await trio.to_thread.run_sync(read_piece, descriptor, path):
            if summed is not None:
                summed.update(piece)
            yield piece


def _is_page(file: FoundFile) -> bool:
    """Whether a file can stand in a drive; its name may be none there."""
    name = PurePosixPath(file.path)
    try:
        file.path.encode()
    except UnicodeEncodeError:
        return False
    is_plain = "\\" not in file.path and not any(part.endswith(":") for part in name.parts)
    return is_plain and file.path.isprintable() and file.byte_length <= MAX_SITE_FILE_BYTES


def _digest_of(entry: DriveEntry) -> str | None:
    metadata = entry.metadata
    return metadata.get("sha256") if isinstance(metadata, dict) else None


def _remembered(data: bytes | None) -> dict[str, KnownFile]:
    try:
        return msgspec.json.decode(data or b"{}", type=Memory).files
    except msgspec.MsgspecError:
        return {}
