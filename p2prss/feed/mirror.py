"""One update of a mirror: from the origin's feed to a signed drive.

First the feed, all item XML in one step, then the media, newest first: two downloads at a time, the
next ones running while the last is appended. Each item's files become visible in a step of their
own, so an interrupted run keeps every finished episode and the next one goes on behind it. What did
not change is not written: then the drive keeps its version.
"""

import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol
from urllib.parse import urljoin, urlsplit

import msgspec
import trio

from p2prss.drive.drive import Drive
from p2prss.errors import DiskFullError, FeedFormatError, FetchError, P2prssError, TryAgainError
from p2prss.feed.fetch import Fetched, Fetcher, Retries, Validators, public_url, redact
from p2prss.feed.media_types import settle
from p2prss.feed.model import (
    FEED_FORMAT,
    ArchivedItem,
    Asset,
    CapturePolicy,
    Enclosure,
    FeedInfo,
    Item,
    ItemRecord,
    ParsedFeed,
    Role,
    item_id,
    item_path,
)
from p2prss.feed.parse import parse_feed
from p2prss.feed.policy import (
    Announced,
    announced,
    limit_of,
    may_be_page,
    missing,
    needs_yes,
    room_left,
    within,
)
from p2prss.feed.render import Alternate, ItemSource, Serving, render_feed
from p2prss.feed.repair import MAX_FEED_BYTES
from p2prss.feed.writer import FeedWriter, NewFile

DOWNLOADS: Final = 2  # items at a time
PLAIN_FEED_ITEMS: Final = 100  # newest items in /feed.xml


@dataclass(frozen=True, slots=True)
class FeedRead:
    """The origin's feed was read, or did not change; ``repairs`` says what had to be mended."""

    title: str
    items: int
    not_modified: bool = False
    repairs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemsWritten:
    """The feed's text is in the drive; ``announced`` media is to follow."""

    new: int
    changed: int
    removed: int
    announced: Announced


@dataclass(frozen=True, slots=True)
class MediaStored:
    """A file is in the drive; one that was there already under another address is not ``is_new``."""

    title: str  # of its item, or of the feed
    role: str
    byte_length: int
    is_new: bool


@dataclass(frozen=True, slots=True)
class MediaFailed:
    """A file could not be had; the next update tries again."""

    title: str
    error: str


MirrorEvent = FeedRead | ItemsWritten | MediaStored | MediaFailed


@dataclass(slots=True)
class MirrorReport:
    """What an update did. ``episodes``, ``media_files`` and ``media_bytes`` are what the drive holds now."""

    new: int = 0
    changed: int = 0
    removed: int = 0
    fetched_files: int = 0
    fetched_bytes: int = 0
    failures: list[MediaFailed] = field(default_factory=list)
    declined: Announced | None = None  # so much media was announced that somebody has to say yes first
    wrote: bool = False
    episodes: int = 0
    media_files: int = 0
    media_bytes: int = 0


class MirrorState(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept between updates, for this home only."""

    url: str = ""  # where the feed has moved to for good
    etag: str = ""
    last_modified: str = ""


class StateStore(Protocol):
    """Keeps one small record between runs."""

    def load(self) -> bytes | None: ...

    def save(self, value: bytes) -> None: ...


class Mirror:
    """Mirrors one source into one drive. Updates must not overlap.

    Args: source: URL or path as the user typed it; scratch: a folder for files on their way;
        may_fetch: asked when the announced media is a lot, None to refuse it then.
    """

    def __init__(
        self,
        source: str,
        drive: Drive,
        *,
        scratch: Path,
        state: StateStore,
        policy: CapturePolicy | None = None,
        may_fetch: Callable[[Announced], Awaitable[bool]] | None = None,
        retries: Retries | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0),
    ) -> None:
        self._source = source
        self._drive = drive
        self._scratch = scratch
        self._state = state
        self._policy = policy or CapturePolicy()
        self._may_fetch = may_fetch
        self._retries = retries or Retries()
        self._now = now

    async def update(self, on_event: Callable[[MirrorEvent], None] = lambda _: None) -> MirrorReport:
        """Bring the drive up to date with the origin.

        Raises: FetchError, TryAgainError or FeedFormatError when the feed itself cannot be had (the
        drive is then as before); StorageError, DiskFullError. Files that fail are in the report.
        """
        writer = await FeedWriter.open(self._drive)
        self._scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._scratch, prefix="mirror-") as folder:
            async with Fetcher(self._source) as fetcher:
                run = _Run(self, writer, fetcher, Path(folder), on_event)
                return await run.update()

    def load_state(self) -> MirrorState:
        """The state of the last update; an unreadable one counts as none."""
        try:
            return msgspec.json.decode(self._state.load() or b"{}", type=MirrorState)
        except msgspec.MsgspecError:
            return MirrorState()

    def save_state(self, state: MirrorState) -> None:
        """Keep it for the next update."""
        self._state.save(msgspec.json.encode(state))

    @property
    def policy(self) -> CapturePolicy:
        return self._policy

    @property
    def retries(self) -> Retries:
        return self._retries

    def now(self) -> datetime:
        """The time, in UTC and whole seconds."""
        return self._now()

    async def agrees(self, what: Announced, free_bytes: int) -> bool:
        """Whether so much may be fetched."""
        if not needs_yes(what, free_bytes):
            return True
        return self._may_fetch is not None and await self._may_fetch(what)


class _Run:
    """The work of one update."""

    def __init__(
        self,
        mirror: Mirror,
        writer: FeedWriter,
        fetcher: Fetcher,
        folder: Path,
        on_event: Callable[[MirrorEvent], None],
    ) -> None:
        self._mirror = mirror
        self._writer = writer
        self._fetcher = fetcher
        self._folder = folder
        self._tell = on_event
        self._report = MirrorReport()
        self._version = writer.drive.version

    async def update(self) -> MirrorReport:
        state = self._mirror.load_state()
        feed_file = self._folder / "feed"
        validators = Validators(state.etag, state.last_modified) if self._writer.info else None
        fetched = await self._fetcher.fetch(
            state.url or self._fetcher.source_url,
            feed_file,
            max_bytes=MAX_FEED_BYTES,
            validators=validators,
            retries=self._mirror.retries,
            compressed=True,
        )
        if fetched.not_modified:
            info = self._writer.info
            self._tell(FeedRead(info.title if info else "", len(self._writer.items), not_modified=True))
        else:
            await self._take_feed(fetched, await trio.Path(feed_file).read_bytes())
        await self._take_media()
        await self._finish()
        if not fetched.not_modified:
            new = fetched.validators
            url = (fetched.moved_to or state.url) if not self._is_local else ""
            self._mirror.save_state(MirrorState(url, new.etag, new.last_modified))
        return self._report

    @property
    def _is_local(self) -> bool:
        return self._fetcher.source_url.startswith("file:")

    async def _take_feed(self, fetched: Fetched, data: bytes) -> None:
        base_url = "" if self._is_local else public_url(fetched.url)
        feed = await trio.to_thread.run_sync(
            lambda: parse_feed(data, url=base_url, content_type=fetched.mime_type)
        )
        self._tell(FeedRead(feed.channel.title, len(feed.items), repairs=feed.repairs))
        now = self._mirror.now()
        changes = self._changes(feed, now)
        old = self._writer.info
        info = self._info(feed, old, now)
        is_new_channel = old is None or old.channel_digest != feed.channel.digest
        if changes or is_new_channel:
            older, newest = self._by_version(changes)
            if older:
                await self._writer.put_items(older, None, info)
            await self._writer.put_items(newest, feed.channel.xml if is_new_channel else None, info)
        assets = [
            asset for item in within(self._mirror.policy, self._writer.newest_first) for asset in item.assets
        ]
        self._tell(
            ItemsWritten(self._report.new, self._report.changed, self._report.removed, announced(assets))
        )

    def _changes(self, feed: ParsedFeed, now: datetime) -> list[tuple[ArchivedItem, bytes | None]]:
        """The items to write, oldest first, with their XML where that is new."""
        changes: list[tuple[ArchivedItem, bytes | None]] = []
        seen: set[str] = set()
        new_paths: dict[str, str] = {}
        for item in sorted(feed.items, key=lambda item: item.published or now, reverse=True):
            name = item_id(item.guid)
            known = self._writer.items.get(name)
            if name in seen:  # the same guid again: of a new item the older ones become older versions
                if name in new_paths:
                    changes.append(
                        (_archived(item, new_paths[name], self._record(item, None, now)), item.xml)
                    )
                continue
            seen.add(name)
            if known is None:
                self._report.new += 1
                path = new_paths[name] = item_path(item.guid, item.published or now)
                changes.append((_archived(item, path, self._record(item, None, now)), item.xml))
            elif known.record.digest != item.digest:
                self._report.changed += 1
                changes.append((_archived(item, known.path, self._record(item, known, now)), item.xml))
            elif known.removed_at is not None:
                self._report.changed += 1
                changes.append((_with(known, removed_at=None), None))
        if not feed.degraded:  # what a broken feed does not show may still be there
            for name, known in self._writer.items.items():
                if name not in seen and known.removed_at is None:
                    self._report.removed += 1
                    changes.append((_with(known, removed_at=now), None))
        changes.reverse()
        return changes

    @staticmethod
    def _by_version(
        changes: Sequence[tuple[ArchivedItem, bytes | None]],
    ) -> tuple[list[tuple[ArchivedItem, bytes | None]], list[tuple[ArchivedItem, bytes | None]]]:
        """Split off what a later change of the same path replaces: it becomes history."""
        last = {item.path: place for place, (item, _) in enumerate(changes)}
        older = [change for place, change in enumerate(changes) if last[change[0].path] != place]
        newest = [change for place, change in enumerate(changes) if last[change[0].path] == place]
        return older, newest

    def _record(self, item: Item, known: ArchivedItem | None, now: datetime) -> ItemRecord:
        return ItemRecord(
            guid=item.guid,
            title=item.title,
            published=item.published,
            first_seen=known.first_seen if known else now,
            base_url=item.base_url or None,
            digest=item.digest,
            assets=self._assets(item.files),
        )

    def _assets(self, files: Sequence[Enclosure]) -> tuple[Asset, ...]:
        """What the feed names; a file captured before under the same address stays that one."""
        return tuple(self._asset(one) for one in files)

    def _asset(self, file: Enclosure) -> Asset:
        known = self._writer.by_url.get(file.url)
        if known is not None:
            return msgspec.structs.replace(known, role=file.role.value)
        return Asset(
            role=file.role.value, url=file.url, mime_type=file.mime_type, byte_length=file.byte_length
        )

    def _info(self, feed: ParsedFeed, old: FeedInfo | None, now: datetime) -> FeedInfo:
        channel = feed.channel
        info = FeedInfo(
            format=FEED_FORMAT,
            title=channel.title,
            origin_url=None if self._is_local else public_url(self._fetcher.source_url),
            base_url=feed.base_url,
            podcast_guid=channel.podcast_guid or None,
            created=old.created if old else now,
            updated=now,
            policy=self._mirror.policy,
            source_format=feed.source_format,
            degraded=feed.degraded,
            channel_digest=channel.digest,
            channel_assets=self._assets(channel.files),
        )
        return self._writer.counted(info, now)

    async def _take_media(self) -> None:
        """Fetch what is missing and wanted, newest first."""
        writer, policy = self._writer, self._mirror.policy
        info = writer.info
        jobs: list[ArchivedItem | None] = []
        if policy.media and info is not None and missing(info.channel_assets):
            jobs.append(None)
        jobs += [item for item in within(policy, writer.newest_first) if missing(item.assets)]
        if not jobs:
            return
        assets = [
            asset for job in jobs for asset in (job.assets if job else info.channel_assets if info else ())
        ]
        what = announced(assets)
        if not await self._mirror.agrees(what, shutil.disk_usage(self._folder).free):
            self._report.declined = what
            return
        await self._run_jobs(jobs)

    async def _run_jobs(self, jobs: Sequence[ArchivedItem | None]) -> None:
        """Two tasks fetch, this one appends: a file waits for no more than one other."""
        queue = iter(enumerate(jobs))
        send, receive = trio.open_memory_channel[tuple[ArchivedItem | None, dict[str, Fetched]]](0)

        async def fetch(send: trio.MemorySendChannel[tuple[ArchivedItem | None, dict[str, Fetched]]]) -> None:
            async with send:
                for number, job in queue:
                    await send.send((job, await self._fetch_job(job, number)))

        try:
            async with trio.open_nursery() as nursery, receive:
                for _ in range(DOWNLOADS):
                    nursery.start_soon(fetch, send.clone())
                send.close()
                async for job, found in receive:
                    await self._store_job(job, found)
        except ExceptionGroup as group:
            raise _only_error(group) from None

    def _files_of(self, job: ArchivedItem | None) -> tuple[Asset, ...]:
        info = self._writer.info
        return job.assets if job is not None else info.channel_assets if info is not None else ()

    def _title_of(self, job: ArchivedItem | None) -> str:
        info = self._writer.info
        return job.title if job is not None else info.title if info is not None else ""

    async def _fetch_job(self, job: ArchivedItem | None, number: int) -> dict[str, Fetched]:
        """Get an item's files, by address; those that fail are told and left out."""
        found: dict[str, Fetched] = {}
        for place, asset in enumerate(missing(self._files_of(job))):
            if asset.url in self._writer.by_url:
                continue
            path = self._folder / f"{number}-{place}"
            try:
                found[asset.url] = await self._fetch_asset(asset, path)
            except (FetchError, TryAgainError) as error:
                path.unlink(missing_ok=True)
                failure = MediaFailed(self._title_of(job), str(error))
                self._report.failures.append(failure)
                self._tell(failure)
        return found

    async def _fetch_asset(self, asset: Asset, path: Path) -> Fetched:
        disk = shutil.disk_usage(self._folder)
        room = room_left(disk.free, disk.total)
        if room < (asset.byte_length or 0):
            raise DiskFullError("the disk is too full to go on mirroring")
        url = asset.url
        if not urlsplit(url).scheme:
            url = urljoin(self._fetcher.source_url, url)  # only a local source leaves them relative
        fetched = await self._fetcher.fetch(
            url,
            path,
            max_bytes=limit_of(asset),
            retries=self._mirror.retries,
            refuse_html=not may_be_page(asset),
        )
        if not fetched.byte_length:
            raise FetchError(f"{redact(url)}: the file is empty")
        return fetched

    async def _store_job(self, job: ArchivedItem | None, found: dict[str, Fetched]) -> None:
        """Append an item's new files and write its entry."""
        new: dict[str, NewFile] = {}  # by sha256
        assets: list[Asset] = []
        for asset in self._files_of(job):
            fetched = found.get(asset.url)
            if fetched is None:
                known = self._writer.by_url.get(asset.url)
                assets.append(asset if asset.path or known is None else _adopt(asset, known))
                continue
            mime_type, ending = settle(asset.url, asset.mime_type, fetched.mime_type, head=fetched.head)
            sha256 = fetched.sha256
            path = self._writer.media.get(sha256)
            is_new = path is None and sha256 not in new
            if path is None:
                path = new.setdefault(
                    sha256,
                    NewFile(f"/media/{sha256[:2]}/{sha256}.{ending}", fetched.path, fetched.byte_length),
                ).path
            assets.append(
                msgspec.structs.replace(
                    asset,
                    path=path,
                    mime_type=mime_type[:200],
                    byte_length=fetched.byte_length,
                    sha256=sha256,
                    captured_at=self._mirror.now(),
                )
            )
            self._report.fetched_files += is_new
            self._report.fetched_bytes += fetched.byte_length if is_new else 0
            self._tell(MediaStored(self._title_of(job), asset.role, fetched.byte_length, is_new))
        await self._write_job(job, tuple(assets), list(new.values()))
        for fetched in found.values():
            fetched.path.unlink(missing_ok=True)

    async def _write_job(
        self, job: ArchivedItem | None, assets: tuple[Asset, ...], new: list[NewFile]
    ) -> None:
        info = self._writer.info
        if assets == self._files_of(job) or info is None:
            return
        if job is not None:
            await self._writer.put_media(_with(job, assets=assets), new, None)
        else:
            info = msgspec.structs.replace(info, channel_assets=assets)
            await self._writer.put_media(None, new, info)

    async def _finish(self) -> None:
        """Write what is derived, if anything else was written."""
        writer, report = self._writer, self._report
        info = writer.info
        if info is None:
            raise FeedFormatError("the drive holds no feed")
        if writer.drive.version != self._version or await writer.drive.entry("/feed.xml") is None:
            info = writer.counted(info, self._mirror.now())
            await writer.finish(await self._plain_feed(info), info)
            report.wrote = True
        report.episodes = sum(
            any(one.role == Role.ENCLOSURE for one in item.assets) for item in writer.items.values()
        )
        report.media_files, report.media_bytes = len(writer.media), writer.media_bytes

    async def _plain_feed(self, info: FeedInfo) -> bytes:
        """The newest items for readers that know drives but not our format."""
        drive = self._writer.drive
        sources = []
        for item in [one for one in self._writer.newest_first if one.removed_at is None][:PLAIN_FEED_ITEMS]:
            alternates = tuple(
                Alternate(
                    (f"hyper://{drive.key.hex()}{one.path}",),
                    one.byte_length or 0,
                    one.mime_type or "",
                    one.sha256,
                )
                for one in item.assets
                if one.role == Role.ENCLOSURE and one.path and one.sha256
            )
            xml = await drive.get(item.path)
            if xml is not None:
                date = item.published or item.first_seen
                sources.append(
                    ItemSource(xml, item.guid, date, item.record.base_url or "", alternates=alternates)
                )
        channel = await drive.get("/channel.xml")
        serving = Serving(
            f"hyper://{drive.key.hex()}/feed.xml", origin_url=info.origin_url or "", base_url=info.base_url
        )
        return await trio.to_thread.run_sync(render_feed, channel or b"", sources, serving)


def _only_error(group: ExceptionGroup[Exception]) -> Exception:
    """The first of our own errors where there are no others: the disk may fail several tasks at once."""
    ours, others = group.split(P2prssError)
    if ours is None or others is not None:
        return group
    error: BaseException = ours
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    assert isinstance(error, P2prssError)
    return error


def _archived(item: Item, path: str, record: ItemRecord) -> ArchivedItem:
    return ArchivedItem(path, item_id(item.guid), record)


def _with(item: ArchivedItem, **changes: object) -> ArchivedItem:
    return ArchivedItem(item.path, item.item_id, msgspec.structs.replace(item.record, **changes))


def _adopt(asset: Asset, known: Asset) -> Asset:
    return msgspec.structs.replace(known, role=asset.role)
