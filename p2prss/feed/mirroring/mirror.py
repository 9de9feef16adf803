"""One update of a mirror: from the origin's feed to a signed drive.

First the feed is read (``origin_feed``) and all item XML written in one step (``changes``), then the media,
newest first (``capture``), at last what follows from the rest. What did not change is not written: then the
drive keeps its version.
"""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Protocol
from urllib.parse import quote

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.drive.drive import Drive
from p2prss.errors import FeedFormatError
from p2prss.feed.archive.archive import CHANNEL_PATH
from p2prss.feed.archive.order import in_origin_order
from p2prss.feed.archive.purge import purge_items
from p2prss.feed.archive.records import (
    FEED_FORMAT,
    ArchivedItem,
    CapturePolicy,
    FeedInfo,
    Recapture,
    RemovedPolicy,
)
from p2prss.feed.archive.writer import PLAIN_FEED_PATH, FeedWriter
from p2prss.feed.document.render import Alternate, ItemSource, Serving, render_feed
from p2prss.feed.mirroring.capture import Ask, Capture
from p2prss.feed.mirroring.capture_memory import CaptureMemory, read_state
from p2prss.feed.mirroring.changes import assets_of, find_changes
from p2prss.feed.mirroring.origin_feed import MirrorState, OriginFeed
from p2prss.feed.mirroring.paging import Walk
from p2prss.feed.mirroring.policy import announced, within
from p2prss.feed.mirroring.report import (
    FeedMoved,
    FeedRead,
    FilesLeftOut,
    ItemFailed,
    ItemsWritten,
    MirrorEvent,
    MirrorReport,
    PagesFailed,
    SecretsWritten,
    SourceDoubted,
)
from p2prss.feed.mirroring.shelf import MadeFeed, Shelf
from p2prss.feed.mirroring.update import Update
from p2prss.feed.model import MAX_URL_LENGTH, Channel, Role
from p2prss.feed.origin.fetch import Access, Fetcher, Retries, Validators
from p2prss.feed.origin.url import public_url, secrets_of

PLAIN_FEED_ITEMS: Final = 100  # newest items in /feed.xml
MIN_SECRET_LENGTH: Final = 4  # characters; a shorter one is found everywhere


Permit = Callable[[Channel], Awaitable[None]]
"""Asked before a new head of a feed is written; raises a FeedError when it may not be published."""


class StateStore(Protocol):
    """Keeps one small record between runs."""

    def load(self) -> bytes | None: ...

    def save(self, value: bytes) -> None: ...


class _Forgetful:
    """Keeps nothing."""

    def load(self) -> bytes | None:
        return None

    def save(self, value: bytes) -> None:
        pass


class Mirror:
    """Mirrors one source into one drive. Updates must not overlap.

    Args: source: URL or path as the user typed it; scratch: a folder for files on their way;
        may_fetch: asked when the announced media is a lot, None to refuse it then; made: what makes the
        feed of a source that is none; shelf: where files may be that need not be fetched.
    """

    def __init__(
        self,
        source: str,
        drive: Drive,
        *,
        scratch: Path,
        state: StateStore,
        policy: CapturePolicy | None = None,
        removed: RemovedPolicy = RemovedPolicy.KEEP,
        may_fetch: Ask | None = None,
        retries: Retries | None = None,
        captures: StateStore | None = None,
        made: MadeFeed | None = None,
        shelf: Shelf | None = None,
        permit: Permit | None = None,
        access: Access | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC).replace(microsecond=0),
    ) -> None:
        self._source = source if made is None else made.url
        self._drive = drive
        self._scratch = scratch
        self._state = state
        self._policy = policy or CapturePolicy()
        self._removed = removed
        self._may_fetch = may_fetch
        self._retries = retries or Retries()
        self._captures = captures or _Forgetful()
        self._made = made
        self._permit = permit
        self._access = access or Access()
        self._shelves: list[Shelf] = [one for one in (made, shelf) if one is not None]
        self._now = now

    async def update(self, tell: Callable[[MirrorEvent], None] = lambda _: None) -> MirrorReport:
        """Bring the drive up to date with the origin.

        Raises: FetchError, TryAgainError or FeedFormatError when the feed itself cannot be had (the
        drive is then as before); StorageError, DiskFullError. Files that fail are in the report.
        """
        writer = await FeedWriter.open(self._drive)
        version = self._drive.version
        report = MirrorReport()
        self._scratch.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=self._scratch, prefix="mirror-") as name:
            state = self._load_state()
            async with Fetcher(
                self._source, self._access, source_was_public=state.source_was_public
            ) as fetcher:
                folder = Path(name)
                memory = CaptureMemory(read_state(self._captures.load()))
                is_known = writer.info is not None
                origin = OriginFeed(fetcher, folder, state, self._retries, self._made)
                fetched, asked_url = await origin.first(is_known=is_known)
                for text in self._made.notices if self._made is not None else ():
                    tell(SourceDoubted(text))
                pages = state.pages
                if fetched.not_modified:
                    title = writer.info.title if writer.info else ""
                    tell(FeedRead(title, len(writer.items), not_modified=True))
                else:
                    walk, fetched, moved_to = await origin.walk(
                        fetched, asked_url, writer.items, self._now(), tell
                    )
                    asked_url = moved_to or asked_url
                    if self._permit is not None:
                        await self._permit(walk.feed.channel)
                    origin_url = None if fetcher.is_local else public_url(fetcher.source_url)
                    await self._write_feed(writer, walk, origin_url, report, memory, tell)
                    pages = walk.state
                url = "" if fetcher.is_local else fetched.moved_to or asked_url
                report.reply = fetched
                report.moved_to = "" if url == fetcher.source_url else url
                if url and url != state.url:
                    tell(FeedMoved(url))
                known = fetched.validators
                if fetched.not_modified:
                    known = Validators(state.etag, state.last_modified)
                if (
                    new := MirrorState(url, known.etag, known.last_modified, fetcher.source_was_public, pages)
                ) != state:
                    self._save_state(new)  # all that it stands for is written; media is looked for anyway
                update = Update(
                    writer=writer,
                    fetcher=fetcher,
                    folder=folder,
                    policy=self._policy,
                    retries=self._retries,
                    memory=memory,
                    now=self._now,
                    tell=tell,
                    report=report,
                )
                capture = Capture(update, may_fetch=self._may_fetch, shelves=self._shelves)
                try:
                    await capture.run()
                finally:
                    if memory.is_changed:
                        self._captures.save(msgspec.json.encode(memory.state))
                if self._made is not None:
                    await self._made.write_pages(writer)
        if self._removed is RemovedPolicy.PURGE:
            report.purged = await purge_items(writer)
        await self._finish(writer, version, report)
        return report

    def _load_state(self) -> MirrorState:
        try:
            return msgspec.json.decode(self._state.load() or b"{}", type=MirrorState)
        except msgspec.MsgspecError:
            return MirrorState()

    def _save_state(self, state: MirrorState) -> None:
        self._state.save(msgspec.json.encode(state))

    async def _write_feed(
        self,
        writer: FeedWriter,
        walk: Walk,
        origin_url: str | None,
        report: MirrorReport,
        memory: CaptureMemory,
        tell: Callable[[MirrorEvent], None],
    ) -> None:
        feed = walk.feed
        tell(FeedRead(feed.channel.title, len(feed.items), repairs=feed.repairs))
        if walk.problem:
            report.failures.append(failed := PagesFailed(walk.pages, walk.problem))
            tell(failed)
        now, old, channel = self._now(), writer.info, feed.channel
        changes = find_changes(feed, writer.items, writer.by_url, now, is_whole=walk.is_whole)
        info = FeedInfo(
            format=FEED_FORMAT,
            title=channel.title,
            origin_url=origin_url if len(origin_url or "") <= MAX_URL_LENGTH else None,
            base_url=feed.base_url,
            podcast_guid=channel.podcast_guid or None,
            created=old.created if old else now,
            updated=now,
            unfinished=True,
            policy=self._policy,
            source_format=feed.source_format,
            degraded=feed.degraded,
            removed=self._removed.value,
            channel_digest=channel.digest,
            channel_assets=assets_of(channel.files, writer.by_url),
        )
        is_new_channel = old is None or old.channel_digest != channel.digest
        if changes.older:
            await writer.put_items(changes.older, None, info)
        if changes.newest or is_new_channel:
            await writer.put_items(changes.newest, channel.xml if is_new_channel else None, info)
        if self._policy.recapture != Recapture.NEVER:
            for one in changes.named:
                memory.named(one, now)
        for refused in changes.refused:
            failure = ItemFailed(refused.title or refused.guid[:100], refused.reason)
            report.failures.append(failure)
            tell(failure)
        left_out = [(channel.title, channel.left_out)] if is_new_channel and channel.left_out else []
        for title, files in left_out + changes.left_out:
            tell(FilesLeftOut(title, files))
        texts = [xml for _, xml in changes.older + changes.newest if xml is not None]
        texts += [channel.xml] if is_new_channel else []
        if secrets := _secrets(self._source, self._access):
            found = sum(any(secret in xml for secret in secrets) for xml in texts)
            if found:
                tell(SecretsWritten(found))
        report.new, report.changed, report.removed = changes.new, changes.changed, changes.removed
        report.aged_out, report.taken_out = changes.aged_out, changes.taken_out
        wanted = within(self._policy, writer.newest_first)
        assets = (asset for item in wanted for asset in item.assets)
        to_come = announced(assets, alternates=self._policy.alternates)
        tell(ItemsWritten(changes.new, changes.changed, changes.removed, to_come))

    async def _finish(self, writer: FeedWriter, version: int, report: MirrorReport) -> None:
        """Write what follows from the rest, if anything else was written."""
        info = writer.info
        if info is None:
            raise FeedFormatError("the drive holds no feed")
        is_whole = await self._drive.entry(PLAIN_FEED_PATH) is not None and not info.unfinished
        if self._drive.version != version or not is_whole or info.removed != self._removed:
            info = msgspec.structs.replace(info, policy=self._policy, removed=self._removed.value)
            info = writer.counted(info, self._now())
            await writer.finish(await self._plain_feed(writer, info), info)
            report.wrote = True
        report.episodes = len(writer.items)
        report.media_files, report.media_bytes = len(writer.media), writer.media_bytes

    async def _plain_feed(self, writer: FeedWriter, info: FeedInfo) -> bytes:
        """The newest items for readers that know drives but not our format."""
        key = format_key(self._drive.key)
        listed = [item for item in writer.newest_first if item.removed_at is None][:PLAIN_FEED_ITEMS]
        sources = [
            ItemSource(
                await self._drive.get(item.path) or b"",
                item.guid,
                item.published or item.first_seen,
                item.record.base_url or "",
                alternates=_alternates(item, key),
            )
            for item in in_origin_order(listed)
        ]
        channel = await self._drive.get(CHANNEL_PATH) or b""
        serving = Serving(
            f"hyper://{key}{PLAIN_FEED_PATH}", origin_url=info.origin_url or "", base_url=info.base_url
        )
        return await trio.to_thread.run_sync(render_feed, channel, sources, serving)


def _secrets(source: str, access: Access) -> set[bytes]:
    """The secrets of a source's address, and the credentials for it, in the forms they may have in XML."""
    values = [value for _, value in secrets_of(source)] + list(access.secrets)
    values = [value for value in values if len(value) >= MIN_SECRET_LENGTH]
    return {form.encode("utf-8", "replace") for value in values for form in (value, quote(value, safe=""))}


def _alternates(item: ArchivedItem, key: str) -> tuple[Alternate, ...]:
    """The captured enclosures of an item by their place in the drive."""
    return tuple(
        Alternate((f"hyper://{key}{one.path}",), one.byte_length or 0, one.mime_type or "", one.sha256)
        for one in item.assets
        if one.role == Role.ENCLOSURE and one.path and one.sha256
    )
