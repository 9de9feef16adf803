"""Exporting a show as plain files that any web server or player understands.

Names come from titles that strangers wrote: they are cut down to what every file system takes, made
unique, and files are only ever made directly in the folder, never through a link that lies there.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec
import trio

from p2prss.errors import BlockUnavailableError, NetworkError, StorageError, UsageError
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.records import ArchivedItem, Asset
from p2prss.feed.document.render import ItemSource, Replacement, Serving, render_feed
from p2prss.feed.model import Role
from p2prss.node.episodes import FeedView, open_view
from p2prss.node.events import Event, Progress
from p2prss.node.home_paths import HomePaths

MAX_NAME_BYTES: Final = 150  # of a file name without its ending
_FORBIDDEN: Final = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')
_DEVICES: Final = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)

Emit = Callable[[Event], None]


class ExportReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was written; ``missing`` files are captured in the feed but not local."""

    key: str
    folder: str
    episodes: int
    files: int
    bytes: int
    missing: int


async def export_feed(
    home: HomePaths, text: str, folder: Path, emit: Emit, *, at: datetime | None = None
) -> ExportReport:
    """Write a feed's episodes, their other files and a static feed.xml into a folder, ``at`` a date if given.

    Raises: UsageError for a feed that is not here, or not from that date; StorageError where the folder
    can't be written; BlockUnavailableError when a text of then is not here.
    """
    async with open_view(home, text, at) as view:
        if not view.feed.db.length:
            raise UsageError(f"nothing of {view.feed.title} has arrived yet")
        run = _Export(view, folder, emit)
        with _folder_errors(folder):
            try:
                return await run.run()
            except (NetworkError, BlockUnavailableError) as error:
                then = f" as it was {view.version.at:%Y-%m-%d %H:%M} UTC" if view.version else ""
                raise BlockUnavailableError(
                    f"not all texts of {view.feed.title}{then} are here ({error}); its publisher has them"
                ) from error


class _Export:
    """One export; ``written`` maps a path in the drive to the name of its file."""

    def __init__(self, view: FeedView, folder: Path, emit: Emit) -> None:
        self._feed = view.feed
        self._drive = view.drive
        self._archive = view.archive
        self._folder = folder
        self._emit = emit
        self._names: set[str] = {"feed.xml"}
        self._written: dict[str, str] = {}
        self._bytes = 0
        self._missing = 0

    async def run(self) -> ExportReport:
        await trio.Path(self._folder).mkdir(parents=True, exist_ok=True)
        info, items = await self._archive.info(), await self._archive.items()
        for number, item in enumerate(items, 1):
            for asset in item.assets:
                await self._write(asset, item)
            self._emit(
                Progress(
                    key=self._feed.saved.key,
                    what=f"exporting {self._feed.title}",
                    done=number,
                    total=len(items),
                    unit="episodes",
                )
            )
        for asset in info.channel_assets:
            await self._write(asset, None)
        sources = [
            ItemSource(
                self._with_pictures(await self._archive.item_xml(item), item),
                guid=item.guid,
                date=item.published or item.first_seen,
                base_url=item.record.base_url or info.base_url,
                replacements=self._replacements(item.assets),
            )
            for item in in_origin_order(items)
        ]
        serving = Serving(
            feed_url="feed.xml",
            origin_url=info.origin_url or "",
            base_url=info.base_url,
            replacements=self._replacements(info.channel_assets),
            may_mirror=True,
        )
        text = render_feed(await self._archive.channel(), sources, serving)
        await self._save("feed.xml", text)
        return ExportReport(
            key=self._feed.saved.key,
            folder=str(self._folder),
            episodes=len(items),
            files=len(self._written),
            bytes=self._bytes,
            missing=self._missing,
        )

    async def _write(self, asset: Asset, item: ArchivedItem | None) -> None:
        """Write one captured file, unless it is there already or not local."""
        path = asset.path
        if path is None or path in self._written:
            return
        name = self._new_name(asset, item)
        size = await self._drive.size(path)
        target = self._folder / name
        if not _has_size(target, size):
            draft = self._folder / f".{name}.part"
            try:
                fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
                with os.fdopen(fd, "wb") as out:
                    async with aclosing(self._drive.read(path)) as pieces:
                        async for piece in pieces:
                            await trio.to_thread.run_sync(out.write, piece)
            except (NetworkError, BlockUnavailableError):
                draft.unlink(missing_ok=True)
                self._missing += 1
                return
            draft.replace(target)
        self._written[path] = name
        self._bytes += size

    async def _save(self, name: str, data: bytes) -> None:
        draft = trio.Path(self._folder / f".{name}.part")
        await draft.write_bytes(data)
        await draft.replace(self._folder / name)

    def _new_name(self, asset: Asset, item: ArchivedItem | None) -> str:
        """A name nobody has yet, whatever the case of its letters."""
        ending = Path(asset.path or "").suffix
        if item is None:
            base = asset.role
        else:
            base = f"{(item.published or item.first_seen):%Y-%m-%d} {item.title or item.item_id}"
            if asset.role != Role.ENCLOSURE:
                base += f" {asset.role}"
        base = safe_name(base)
        name, number = base + ending, 2
        while name.casefold() in self._names:
            name, number = f"{base} ({number}){ending}", number + 1
        self._names.add(name.casefold())
        return name

    def _with_pictures(self, xml: bytes, item: ArchivedItem) -> bytes:
        """An item whose texts name pictures beside the served feed: here they are files of other names."""
        for asset in item.assets:
            if asset.role == Role.INLINE and asset.path in self._written:
                served = "assets/" + asset.path.rpartition("/")[2]
                xml = xml.replace(served.encode(), quote(self._written[asset.path]).encode())
        return xml

    def _replacements(self, assets: Sequence[Asset]) -> dict[str, Replacement]:
        return {
            asset.url: Replacement(quote(self._written[asset.path]), asset.byte_length, asset.mime_type)
            for asset in assets
            if asset.path in self._written and asset.number is None
        }


def safe_name(text: str) -> str:
    """A file name without its ending that every file system takes: no separators, controls, device names."""
    text = unicodedata.normalize("NFC", text)
    text = " ".join(_FORBIDDEN.sub(" ", text).split()).lstrip(".").rstrip(". ")
    text = text.encode()[:MAX_NAME_BYTES].decode("utf-8", "ignore").rstrip(". ")
    return f"_{text}" if not text or _DEVICES.fullmatch(text) else text


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.lstat().st_size == size and path.is_file() and not path.is_symlink()
    except OSError:
        return False


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error
