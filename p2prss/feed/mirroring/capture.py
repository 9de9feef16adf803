"""Fetching what is missing of an archive's media, and appending it.

Two downloads at a time, the next ones running while the last is appended. Each item's files become
visible in a step of their own, so an interrupted run keeps every finished episode.
"""

import shutil
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from urllib.parse import urljoin, urlsplit

import msgspec
import trio

from p2prss.errors import DiskFullError, FetchError, P2prssError, RefusedError, TryAgainError
from p2prss.feed.archive.pinning import address_key, file_key, without_twins
from p2prss.feed.archive.records import ArchivedItem, Asset, Recapture
from p2prss.feed.archive.writer import NewFile
from p2prss.feed.media_types import STREAMS, settle, sniff
from p2prss.feed.mirroring.changes import with_record
from p2prss.feed.mirroring.policy import (
    Announced,
    announced,
    limit_of,
    may_be_page,
    missing,
    needs_yes,
    room_left,
    within,
)
from p2prss.feed.mirroring.recapture import DYNAMIC, Recaptures
from p2prss.feed.mirroring.report import MediaFailed, MediaStored
from p2prss.feed.mirroring.shelf import Shelf
from p2prss.feed.mirroring.update import Update
from p2prss.feed.model import Role
from p2prss.feed.origin.fetch import Fetched
from p2prss.feed.origin.url import redact

DOWNLOADS: Final = 2  # items at a time
PICTURE_ATTEMPTS: Final = 2  # in one update, at a picture of show notes

Ask = Callable[[Announced], Awaitable[bool]]


class Capture:
    """The media of one update.

    Args: may_fetch: asked before much is fetched; shelves: asked for each file before it is fetched.
    """

    def __init__(
        self, update: Update, *, may_fetch: Ask | None = None, shelves: Sequence[Shelf] = ()
    ) -> None:
        self._update = update
        self._writer = update.writer
        self._fetcher = update.fetcher
        self._folder = update.folder
        self._policy = update.policy
        self._retries = update.retries
        self._memory = update.memory
        self._now = update.now
        self._tell = update.tell
        self._report = update.report
        self._may_fetch = may_fetch
        self._shelves = shelves
        self._full: DiskFullError | None = None  # why nothing more is fetched

    async def run(self) -> None:
        """Fetch what is missing and wanted, newest first."""
        writer, policy = self._writer, self._policy
        info = writer.info
        self._memory.keep_only(self._addresses(), writer.items)
        jobs: list[ArchivedItem | None] = []
        if policy.media and info is not None and self._missing(info.channel_assets):
            jobs.append(None)
        jobs += [item for item in within(policy, writer.newest_first) if self._missing(item.assets)]
        if jobs and not await self._may_run(jobs):
            return
        if jobs:
            await self._run_jobs(jobs)
        await Recaptures(self._update).run()

    async def _may_run(self, jobs: Sequence[ArchivedItem | None]) -> bool:
        what = announced([asset for job in jobs for asset in self._missing(self._files_of(job))])
        if not await self._agrees(what):
            self._report.declined = what
            return False
        return True

    def _addresses(self) -> set[str]:
        info = self._writer.info
        files = [*(info.channel_assets if info else ())]
        files += [asset for item in self._writer.items.values() for asset in item.assets]
        return {one.url for one in files if one.path is None or one.role == Role.ENCLOSURE}

    def _missing(self, assets: Sequence[Asset]) -> list[Asset]:
        wanted = missing(assets, alternates=self._policy.alternates)
        now = self._now()
        return [one for one in wanted if not self._memory.must_wait(one.url, now)]

    async def _run_jobs(self, jobs: Sequence[ArchivedItem | None]) -> None:
        """Two tasks fetch, this one appends: a file waits for no more than one other."""
        queue = iter(enumerate(jobs))
        send, receive = trio.open_memory_channel[tuple[ArchivedItem | None, dict[str, Fetched]]](0)

        async def fetch(send: trio.MemorySendChannel[tuple[ArchivedItem | None, dict[str, Fetched]]]) -> None:
            async with send:
                for number, job in queue:
                    await send.send((job, await self._fetch_job(job, number)))
                    if self._full is not None:
                        return

        try:
            async with trio.open_nursery() as nursery, receive:
                for _ in range(DOWNLOADS):
                    nursery.start_soon(fetch, send.clone())
                send.close()
                async for job, found in receive:
                    await self._store_job(job, found)
        except ExceptionGroup as group:
            raise _only_error(group) from None
        if self._full is not None:
            raise self._full

    def _files_of(self, job: ArchivedItem | None) -> tuple[Asset, ...]:
        info = self._writer.info
        return job.assets if job is not None else info.channel_assets if info is not None else ()

    def _title_of(self, job: ArchivedItem | None) -> str:
        info = self._writer.info
        return job.title if job is not None else info.title if info is not None else ""

    async def _fetch_job(self, job: ArchivedItem | None, number: int) -> dict[str, Fetched]:
        """Get an item's files, by the keys of their addresses; those that fail are told and left out.

        When the disk is too full for one, it is the last: those that came before it are kept.
        """
        found: dict[str, Fetched] = {}
        for place, asset in enumerate(self._missing(self._files_of(job))):
            key = address_key(asset.url)
            if key in self._writer.by_key or key in found:
                continue
            path = self._folder / f"{number}-{place}"
            try:
                found[key] = await self._fetch_asset(asset, self._title_of(job), path)
            except DiskFullError as error:
                path.unlink(missing_ok=True)
                self._full = error
                break
            except (FetchError, TryAgainError) as error:
                path.unlink(missing_ok=True)
                if _is_remote(asset.url):
                    self._memory.failed(asset.url, self._now(), is_refused=isinstance(error, RefusedError))
                failure = MediaFailed(self._title_of(job), str(error))
                self._report.failures.append(failure)
                self._tell(failure)
        return found

    async def _fetch_asset(self, asset: Asset, title: str, path: Path) -> Fetched:
        disk = shutil.disk_usage(self._folder)
        room, claimed = room_left(disk.free, disk.total), asset.byte_length or 0
        if room < (claimed if claimed <= limit_of(asset) else 0):
            raise DiskFullError("the disk is too full to go on mirroring")
        for shelf in self._shelves:
            if (taken := await shelf.take(asset, title, self._fetcher, path)) is not None:
                return taken
        url = asset.url
        if not urlsplit(url).scheme:
            url = urljoin(self._fetcher.source_url, url)  # only a local source leaves them relative
        retries = self._retries
        if asset.role == Role.INLINE:  # old notes name hundreds of pictures on hosts that are gone
            retries = replace(retries, attempts=min(PICTURE_ATTEMPTS, retries.attempts))
        fetched = await self._fetcher.fetch(
            url,
            path,
            max_bytes=limit_of(asset),
            retries=retries,
            refuse_html=not may_be_page(asset),
        )
        if not fetched.byte_length:
            raise RefusedError(f"{redact(url)}: the file is empty")
        if sniff(fetched.head) in STREAMS:
            raise RefusedError(f"{redact(url)}: it leads to a stream or a torrent, which is no file")
        return fetched

    async def _store_job(self, job: ArchivedItem | None, found: dict[str, Fetched]) -> None:
        """Append an item's new files and write its entry."""
        new: dict[str, NewFile] = {}  # by sha256
        assets: list[Asset] = []
        stored: list[MediaStored] = []
        number = 0
        dynamic = _dynamic_keys(found.values())
        for asset in self._files_of(job):
            number += asset.role == Role.ENCLOSURE
            key = address_key(asset.url)
            fetched = found.get(key)
            if asset.path is not None or fetched is None:
                known = self._writer.by_key.get(key)
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
                    captured_at=self._now(),
                    note=DYNAMIC if fetched.differed or file_key(fetched.url) in dynamic else None,
                )
            )
            self._memory.succeeded(asset.url)
            if job is not None and asset.role == Role.ENCLOSURE and self._policy.recapture != Recapture.NEVER:
                etag = fetched.validators.etag
                self._memory.captured(job.item_id, number, self._now(), etag, asset.byte_length)
            self._report.fetched_files += is_new
            self._report.fetched_bytes += fetched.byte_length if is_new else 0
            stored.append(MediaStored(self._title_of(job), asset.role, fetched.byte_length, is_new))
        await self._write_job(job, without_twins(assets), list(new.values()))
        for event in stored:
            self._tell(event)
        for fetched in found.values():
            fetched.path.unlink(missing_ok=True)

    async def _write_job(
        self, job: ArchivedItem | None, assets: tuple[Asset, ...], new: list[NewFile]
    ) -> None:
        info = self._writer.info
        if assets == self._files_of(job) or info is None:
            return
        if job is not None:
            await self._writer.put_media(with_record(job, assets=assets), new, None)
        else:
            info = msgspec.structs.replace(info, channel_assets=assets)
            await self._writer.put_media(None, new, info)

    async def _agrees(self, what: Announced) -> bool:
        if not needs_yes(what, shutil.disk_usage(self._folder).free):
            return True
        return self._may_fetch is not None and await self._may_fetch(what)


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


def _dynamic_keys(found: Iterable[Fetched]) -> set[str]:
    """The files that came under several addresses, each time with other bytes."""
    seen: dict[str, str] = {}
    return {key for one in found if seen.setdefault(key := file_key(one.url), one.sha256) != one.sha256}


def _is_remote(url: str) -> bool:
    """Whether asking for it costs an origin something."""
    return url.startswith(("http://", "https://"))


def _adopt(asset: Asset, known: Asset) -> Asset:
    return msgspec.structs.replace(known, role=asset.role, url=asset.url)
