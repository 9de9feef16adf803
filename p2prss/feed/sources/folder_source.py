"""A folder of media, published as a podcast: the show is made anew at every look, what is known is kept."""

import os
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit
from uuid import UUID, uuid5

import msgspec
import trio

from p2prss.errors import FeedFormatError, FetchError
from p2prss.feed.archive.records import Asset
from p2prss.feed.archive.writer import FeedWriter
from p2prss.feed.media_types import sniff
from p2prss.feed.mirroring.mirror import StateStore
from p2prss.feed.mirroring.policy import MAX_SIDE_FILE_BYTES, limit_of
from p2prss.feed.origin.body_file import BodyFile
from p2prss.feed.origin.fetch import Fetched, Fetcher
from p2prss.feed.sources.drawn_cover import draw_cover
from p2prss.feed.sources.folder import (
    FoundFile,
    address_of,
    copy_file,
    hash_file,
    is_unchanged,
    list_files,
    opened,
    path_of_address,
    read_head,
    shown,
)
from p2prss.feed.sources.show import (
    MADE_FOLDER,
    PICTURE_ENDINGS,
    TRANSCRIPT_TYPES,
    KnownFile,
    Memory,
    SeenFile,
    drawn_cover_address,
    is_episode,
    make_show,
)
from p2prss.feed.sources.show_feed import show_feed
from p2prss.feed.sources.show_settings import SettingsError, doubts, read_settings, with_line
from p2prss.feed.sources.tags import Tags, read_tags

PODCAST_GUIDS: Final = UUID("ead4c236-bf58-58c6-a2c6-a6b28d128cb6")  # podcast namespace, tag ``guid``
"""The namespace of guids that are made from a feed's address."""
MAX_NOTICES: Final = 20  # of one look

_MEDIA: Final = ("audio/", "video/")


@dataclass
class _TagsOf:
    """Tags that were read in this run, for as long as the file stays the same; without the picture."""

    sha256: str
    tags: Tags
    cover: str  # address


@dataclass
class FolderSource:
    """Satisfies ``shelf.MadeFeed``.

    Args: key: text that is the feed's own, in place of an address; link: the show's page where its settings
        name none; state: keeps between runs which guid and date each file was given.
    """

    root: Path
    key: str
    link: str
    state: StateStore
    memory: Memory = field(default_factory=Memory)
    _tags: dict[str, _TagsOf] = field(default_factory=dict)
    _covers: dict[str, str] = field(
        default_factory=dict
    )  # address of an embedded picture -> path of its file
    _title: str = ""
    notices: tuple[str, ...] = ()  # of the last look; what was told before is not told again
    _told: set[str] = field(default_factory=set)
    _left_out: list[str] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where the relative addresses of its feed start."""
        return f"{self.root.as_uri()}/feed.xml"

    async def read(self, into: Path) -> Fetched:
        """Look at the folder and write the feed.

        Raises: FeedError when it cannot be read; FeedFormatError for settings that make no sense.
        """
        before = self.memory = _remembered(self.state.load())
        data = await trio.to_thread.run_sync(self.make_feed)
        if self.memory != before:
            self.state.save(msgspec.json.encode(self.memory))
        await trio.Path(into).write_bytes(data)
        return Fetched(into, self.url, len(data), mime_type="application/rss+xml")

    async def take(self, asset: Asset, title: str, fetcher: Fetcher, into: Path) -> Fetched | None:
        """The file of the folder, or the picture, that an address of ours means."""
        del title, fetcher
        return await trio.to_thread.run_sync(self._take, asset, into)

    async def write_pages(self, writer: FeedWriter) -> None:
        """There are none."""
        del writer

    def make_feed(self) -> bytes:
        """The feed of the folder as it is now; the same folder and memory give the same bytes."""
        settings = read_settings(self.root)
        files = list_files(self.root)
        media = {file.path for file in files if is_episode(file, settings)}
        beside = {file.path for file in files if file.ending in PICTURE_ENDINGS}
        beside |= {f"{file.stem}.{name}" for file in files for name in (*TRANSCRIPT_TYPES, "chapters.json")}
        self._covers.clear()
        self._left_out = []
        seen = list(
            filter(
                None,
                (
                    self._see(file, is_media=file.path in media)
                    for file in files
                    if file.path in media or (file.path in beside and file.byte_length <= MAX_SIDE_FILE_BYTES)
                ),
            )
        )
        if not media:
            raise FeedFormatError(f"the folder {self.root} has no audio or video files, and no feed")
        try:
            show, self.memory = make_show(
                seen,
                settings,
                self.memory,
                name=self.root.name,
                link=self.link,
                guid=str(uuid5(PODCAST_GUIDS, self.key)),
            )
        except SettingsError as error:
            raise with_line(self.root, error) from None
        self._tell([*self._left_out, *doubts(settings, {file.path for file in files})])
        self._title = show.title
        self._tags = {path: tags for path, tags in self._tags.items() if path in media}
        return show_feed(show)

    def _tell(self, texts: list[str]) -> None:
        new = [text for text in dict.fromkeys(texts) if text not in self._told]
        more = [f"and {len(new) - MAX_NOTICES} more of this kind"] if len(new) > MAX_NOTICES else []
        self.notices = (*new[:MAX_NOTICES], *more)
        self._told = set(texts)

    def _see(self, file: FoundFile, *, is_media: bool) -> SeenFile | None:
        known = self.memory.files.get(address_of(file.path))
        try:
            if known is not None and known == KnownFile.of(file, known.sha256):
                digest = known.sha256
            else:
                digest = self._hash(file, is_media=is_media)
            if not is_media:
                return SeenFile(file, digest)
            found = self._tags.get(file.path)
            if found is None or found.sha256 != digest:
                found = self._tags[file.path] = self._read_tags(file, digest)
        except FetchError as error:  # gone, or not ours to read, or no media
            self._left_out.append(f"left out: {error}")
            return None
        if found.cover:
            self._covers[found.cover] = file.path
        return SeenFile(file, digest, found.tags, found.cover)

    def _hash(self, file: FoundFile, *, is_media: bool) -> str:
        """The hash of a file. Raises: FetchError for one that cannot be read, or is no media though it
        should be, or that somebody is still writing and nobody has seen before."""
        if is_media and (kind := sniff(read_head(self.root, file.path))) and not kind.startswith(_MEDIA):
            raise FetchError(f"{shown(file.path)} is {kind}, neither audio nor video")
        summed = sha256()
        hash_file(self.root, file.path, summed.update)
        is_new = address_of(file.path) not in self.memory.episodes
        if is_new and not is_unchanged(self.root, file):
            raise FetchError(f"{shown(file.path)} is being written; the next look takes it")
        return summed.hexdigest()

    def _read_tags(self, file: FoundFile, digest: str) -> _TagsOf:
        with opened(self.root, file.path) as descriptor:
            tags = read_tags(descriptor, os.fsencode(file.path).decode("utf-8", "replace"))
        cover = ""
        if tags.cover:
            ending = "png" if sniff(tags.cover[:512]) == "image/png" else "jpg"
            cover = f"{MADE_FOLDER}/{sha256(tags.cover).hexdigest()[:32]}.{ending}"
            tags = replace(tags, cover=b"")
        return _TagsOf(digest, tags, cover)

    def _take(self, asset: Asset, into: Path) -> Fetched | None:
        if asset.url == drawn_cover_address(self._title):
            return _write(into, draw_cover(self._title), asset)
        if asset.url in self._covers:
            with opened(self.root, self._covers[asset.url]) as descriptor:
                cover = read_tags(descriptor, self._covers[asset.url]).cover
            return _write(into, cover, asset)
        path = path_of_address(asset.url)
        if path is None:
            return None
        fetched = copy_file(self.root, path, into, limit_of(asset))
        wanted = parse_qs(urlsplit(asset.url).query).get("v", [""])[0]
        if not fetched.sha256.startswith(wanted):
            raise FetchError(f"{path!r} was changed just now; the next look takes it")
        return fetched


def _remembered(data: bytes | None) -> Memory:
    try:
        return msgspec.json.decode(data or b"{}", type=Memory)
    except msgspec.MsgspecError:
        return Memory()


def _write(into: Path, data: bytes, asset: Asset) -> Fetched:
    with BodyFile(into, MAX_SIDE_FILE_BYTES) as body:
        body.write([data])
    return Fetched(into, asset.url, body.byte_length, body.digest, head=body.head)
