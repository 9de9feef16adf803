"""Episodes that another program has downloaded already are taken over instead of being fetched again.

A file is adopted only with proof that the origin has the same one now: the origin says that its file has
as many bytes, and sends the same first and last ``PROOF_BYTES``. Of an origin that knows no ranges the first
ones suffice if gPodder's database says that the file is a complete download of that very address. Files
of the folder are only read.
"""

import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import unquote, urlsplit

import trio

from p2prss.feed.archive.records import Asset
from p2prss.feed.mirroring.policy import limit_of
from p2prss.feed.model import Role
from p2prss.feed.origin.fetch import Fetched, Fetcher
from p2prss.feed.origin.part import Part
from p2prss.feed.sources.folder import FoundFile, copy_file, list_files, opened
from p2prss.feed.sources.gpodder import read_downloads
from p2prss.feed.sources.show import EPISODE_ENDINGS
from p2prss.units import KIB

PROOF_BYTES: Final = 64 * KIB  # at the start and at the end
MIN_HINT: Final = 5  # letters and digits of a title or a name that say anything
MIN_CUT_HINT: Final = 20  # of a name that may be a title cut short

_OTHER_LETTERS: Final = str.maketrans(
    {"ø": "o", "æ": "a", "œ": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"}
)
_SPELLED_OUT: Final = re.compile(r"([aou])e|aa")  # Podgrab and podcast-archiver write ue for ü, aa for å
_LEADING_DATE: Final = re.compile(r"^\d{6,8}|^\d{4}\D\d\d\D\d\d\D")


@dataclass
class AdoptShelf:
    """Satisfies ``shelf.Shelf``; ``files`` and ``bytes`` are what was taken over until now."""

    root: Path
    files: int = 0
    bytes: int = 0
    _index: "_Index | None" = None
    _lock: trio.Lock = field(default_factory=trio.Lock)

    async def take(self, asset: Asset, title: str, fetcher: Fetcher, into: Path) -> Fetched | None:
        """The folder's copy of an episode, if the origin proves that it is one."""
        if asset.role not in (Role.ENCLOSURE, Role.ALTERNATE) or not asset.url.startswith(
            ("http:", "https:")
        ):
            return None
        async with self._lock:
            if self._index is None:
                self._index = await trio.to_thread.run_sync(_Index.read, self.root)
        if not await trio.to_thread.run_sync(self._index.may_have, asset, title):
            return None
        head = await fetcher.read_part(asset.url, 0, PROOF_BYTES)
        if head is None or not 0 < head.total <= limit_of(asset):
            return None
        for file in self._index.of_size(head.total, asset.url):
            if await self._is_proven(asset, file, head, fetcher):
                fetched = await trio.to_thread.run_sync(copy_file, self.root, file.path, into, head.total)
                if fetched.byte_length != head.total or not head.data.startswith(fetched.head):
                    continue  # it was changed just now
                self.files += 1
                self.bytes += fetched.byte_length
                return Fetched(
                    into, asset.url, fetched.byte_length, fetched.sha256, head.mime_type, fetched.head
                )
        return None

    async def _is_proven(self, asset: Asset, file: FoundFile, head: Part, fetcher: Fetcher) -> bool:
        first, last = await trio.to_thread.run_sync(_ends, self.root, file)
        if first != head.data:
            return False
        if not head.is_asked_for:
            assert self._index is not None
            return self._index.downloads.get(asset.url) == file.path
        if head.total <= PROOF_BYTES:
            return True
        tail = await fetcher.read_part(asset.url, head.total - PROOF_BYTES, head.total)
        return tail is not None and tail.is_asked_for and (tail.total, tail.data) == (head.total, last)


def _ends(root: Path, file: FoundFile) -> tuple[bytes, bytes]:
    """The first and the last ``PROOF_BYTES`` of a file."""
    with opened(root, file.path) as descriptor:
        first = os.pread(descriptor, PROOF_BYTES, 0)
        return first, os.pread(descriptor, PROOF_BYTES, max(0, file.byte_length - PROOF_BYTES))


class _Index:
    """The media of a folder by size, name, and gPodder's word."""

    def __init__(self, files: list[FoundFile], downloads: dict[str, str]) -> None:
        self._sizes: dict[int, list[FoundFile]] = defaultdict(list)
        self._names: set[str] = set()
        for file in files:
            self._sizes[file.byte_length].append(file)
            path = PurePosixPath(file.stem)
            self._names |= {_plain(path.name), _plain(path.parent.name)}
        self._names = {name for name in self._names if len(name) >= MIN_HINT}
        paths = {file.path for file in files}
        self.downloads = {url: path for url, path in downloads.items() if path in paths}

    @classmethod
    def read(cls, root: Path) -> "_Index":
        """Look through the folder."""
        files = [file for file in list_files(root) if file.ending in EPISODE_ENDINGS]
        return cls(files, read_downloads(root))

    def may_have(self, asset: Asset, title: str) -> bool:
        """Whether anything hints at the file, so that it is worth asking the origin.

        Hints are the announced size, the title or the address in a file's or its folder's name, and gPodder's
        database.
        """
        if asset.byte_length in self._sizes or asset.url in self.downloads:
            return True
        if any(not char.isascii() for char in _plain(title)):
            return True  # Cyrillic and the like: who knows in which letters a program has written it
        wanted = [_plain(title), _plain(PurePosixPath(unquote(urlsplit(asset.url).path)).stem)]
        return any(_is_hint(name, text) for text in wanted if len(text) >= MIN_HINT for name in self._names)

    def of_size(self, size: int, url: str) -> list[FoundFile]:
        """The files of that size, what gPodder says first."""
        return sorted(self._sizes.get(size, ()), key=lambda file: file.path != self.downloads.get(url))


def _is_hint(name: str, text: str) -> bool:
    return text in name or (len(name) >= MIN_CUT_HINT and text.startswith(name))


def _plain(name: str) -> str:
    """Letters and digits alone, without accents or what is written for them: programs write all others in
    many ways. A date in front is left out."""
    text = unicodedata.normalize("NFKD", _LEADING_DATE.sub("", name)).casefold().translate(_OTHER_LETTERS)
    text = "".join(char for char in text if char.isalnum())
    return _SPELLED_OUT.sub(lambda found: found[1] or "a", text)
