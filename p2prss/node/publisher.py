"""Publishing: a source mirrored into our own feed, again and again."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from math import inf
from pathlib import Path
from typing import Final

import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import FeedError, P2prssError, TryAgainError, UsageError
from p2prss.feed.archive.records import CapturePolicy, RemovedPolicy
from p2prss.feed.mirroring.capture_memory import CAPTURES_KIND
from p2prss.feed.mirroring.mirror import Mirror
from p2prss.feed.mirroring.policy import Announced
from p2prss.feed.mirroring.report import (
    CapturesDiffer,
    FeedMoved,
    FeedRead,
    FilesLeftOut,
    ItemFailed,
    ItemsWritten,
    MediaFailed,
    MediaStored,
    MirrorEvent,
    MirrorReport,
    PagesFailed,
    SecretsWritten,
    SourceDoubted,
)
from p2prss.feed.mirroring.shelf import MadeFeed
from p2prss.feed.origin.access import Access
from p2prss.feed.origin.rhythm import Hints, read_hints
from p2prss.feed.origin.url import redact, secrets_of, source_url
from p2prss.feed.origin.websub import find_offer
from p2prss.feed.sources.adopt import AdoptShelf
from p2prss.log.store import Store
from p2prss.node.events import Error, Event, Notice, Progress, Published, Waiting
from p2prss.node.hub_subscriber import HubSubscriber
from p2prss.node.open_feed import OpenFeed
from p2prss.node.orders import PublishOrder
from p2prss.node.permission import Permission
from p2prss.node.polling import Polling, in_words
from p2prss.node.saved_feeds import STATE_KIND, Asked
from p2prss.units import GB

NEWS_GAP_SECONDS: Final = 10.0  # between looks, however often a hub tells of news
LOCAL_INTERVAL: Final = 1800.0  # seconds between looks at a source on this machine

Emit = Callable[[Event], None]
Confirm = Callable[[str], Awaitable[bool]]


class Publisher:
    """Keeps one feed of ours like its source."""

    def __init__(
        self,
        feed: OpenFeed,
        order: PublishOrder,
        asked: Asked,
        access: Access,
        *,
        store: Store,
        scratch: Path,
        emit: Emit,
        confirm: Confirm,
        on_title: Callable[[str], None],
        on_text: Callable[[], None],
        on_verdict: Callable[[bool, bool], None],
        made: MadeFeed | None = None,
        shelf: AdoptShelf | None = None,
        turn: trio.CapacityLimiter | None = None,
    ) -> None:
        self._feed = feed
        self._order = order
        self._emit = emit
        self._confirm = confirm
        self._turn = turn or trio.CapacityLimiter(1)  # one of several feeds' updates waits for it
        self._on_title = on_title
        self._on_text = on_text
        self._key = format_key(feed.key)
        fixed = asked.interval
        if fixed is None and not source_url(order.source).startswith("http"):
            fixed = LOCAL_INTERVAL
        self._polling = Polling(store, self._key, fixed_seconds=fixed)
        self._asked = trio.Event()
        self.hub: HubSubscriber | None = None
        if asked.websub_callback is not None:
            self.hub = HubSubscriber(
                order.source,
                asked.websub_callback,
                access,
                on_news=self.look_now,
                tell=lambda text: emit(Notice(message=text, key=self._key, level=1)),
            )
        self._expected = 0
        self._done = 0
        permission = Permission(
            feed.key,
            given=feed.saved.allow_locked,
            quiet=feed.saved.unlisted,
            emit=emit,
            confirm=confirm,
            on_verdict=on_verdict,
        )
        self._shelf = shelf
        self._mirror = Mirror(
            order.source,
            feed.drive,
            scratch=scratch,
            state=FeedRecord(store, STATE_KIND, self._key),
            captures=FeedRecord(store, CAPTURES_KIND, self._key),
            policy=asked.policy or CapturePolicy(),
            removed=feed.saved.removed or RemovedPolicy.KEEP,
            may_fetch=self._may_fetch,
            permit=permission.check,
            made=made,
            shelf=shelf,
            access=access,
        )

    async def run(self, *, once: bool) -> None:
        """Mirror now and, unless ``once``, whenever the interval has passed.

        What is mirrored stays available when the source is gone: then its errors are told, and it is tried
        again. Raises: with ``once``, or while nothing is mirrored yet, FeedError and TryAgainError when the
        source can't be had; UsageError when so much is announced that it needs a yes; StorageError.
        """
        while True:
            try:
                async with self._turn:
                    report = await self.update()
            except (FeedError, TryAgainError) as error:
                if self._feed.drive.version <= 1:
                    raise
                seconds = self._polling.failed(now_utc(), error)
                if once:
                    raise
                text = f"{error}; the next look is {in_words(seconds)}"
                self._emit(Error(code=error.exit_code, message=text, key=self._key))
            else:
                seconds = await self._plan(report)
            if once:
                return
            rounded = round(seconds, 1) if seconds < inf else None
            self._emit(Waiting(key=self._key, next_look=self._polling.state.next_at, seconds=rounded))
            self._asked = trio.Event()
            soonest = trio.current_time() + NEWS_GAP_SECONDS
            with trio.move_on_after(seconds):
                await self._asked.wait()
                await trio.sleep_until(soonest)

    def look_now(self) -> None:
        """Do not wait any longer: somebody says that there is something new."""
        self._asked.set()

    async def _plan(self, report: MirrorReport) -> float:
        """Seconds until the next look, by what this one has shown."""
        dates: list[datetime] | None = None
        hints = Hints()
        with suppress(P2prssError):
            if report.wrote or not self._polling.state.dates:
                items = await self._feed.archive.items()
                dates = [one.published or one.first_seen for one in items]
            channel = await self._feed.archive.channel()
            if self.hub is not None and report.reply is not None:
                offer = find_offer(channel, report.reply.links, report.reply.url)
                self.hub.use(offer if offer and not secrets_of(offer.topic) else None)
            hints = read_hints(channel, report.reply.max_age_seconds if report.reply else None)
        return self._polling.succeeded(now_utc(), hints, dates, report.moved_to)

    async def update(self) -> MirrorReport:
        """One look at the source; tells what came of it."""
        self._expected = self._done = 0
        shelf = self._shelf
        adopted, adopted_bytes = (shelf.files, shelf.bytes) if shelf else (0, 0)
        report = await self._mirror.update(self._tell)
        if report.declined is not None:
            raise UsageError(f"{_words(report.declined)}; add --yes to fetch it all, or --latest N for less")
        if report.purged:
            count = f"{report.purged} episodes" if report.purged > 1 else "1 episode"
            text = f"deleted here for good, as the origin took it out: {count}"
            self._emit(Notice(message=text, key=self._key))
        self._emit(
            Published(
                key=self._key,
                version=self._feed.drive.version,
                episodes=report.episodes,
                media_files=report.media_files,
                bytes=report.media_bytes,
                new=report.new,
                changed=report.changed,
                removed=report.removed,
                aged_out=report.aged_out,
                taken_out=report.taken_out,
                failed=len(report.failures),
                adopted=shelf.files - adopted if shelf else 0,
                adopted_bytes=shelf.bytes - adopted_bytes if shelf else 0,
                unchanged=not report.wrote,
                title=self._feed.title,
            )
        )
        return report

    def _tell(self, event: MirrorEvent) -> None:
        match event:
            case FeedRead(title, _, _, repairs):
                if title:
                    self._on_title(title)
                if repairs:
                    self._emit(Notice(message=f"the feed had to be mended: {', '.join(repairs)}", level=1))
            case FeedMoved(url, problem):
                where = f"has moved for good to {redact(url)}" if url else "says that it has moved"
                text = f"the feed {where}" + (f", but stays where it is: {problem}" if problem else "")
                self._emit(Notice(message=text, key=self._key))
            case ItemsWritten(announced=announced):
                self._expected = announced.byte_length
                self._on_text()
            case MediaStored(title, _, byte_length, _):
                self._done += byte_length
                total = max(self._expected, self._done) or None
                self._emit(Progress(key=self._key, what=self._feed.title, done=self._done, total=total))
                self._emit(Notice(message=f"mirrored {title}", key=self._key, level=1))
            case MediaFailed(title, error):
                self._emit(Error(code=3, message=f"{title}: {error}", key=self._key))
            case ItemFailed(title, error):
                self._emit(Error(code=1, message=f"{title}: {error}", key=self._key))
            case PagesFailed(pages, error):
                text = f"the feed goes on, but only {pages} of its pages could be read: {error}"
                self._emit(Error(code=3, message=text, key=self._key))
            case CapturesDiffer(title):
                text = f"{title}: the origin sends other bytes each time; the first capture stays"
                self._emit(Notice(message=text, key=self._key))
            case FilesLeftOut(title, files):
                text = f"{title}: {files} files are not mirrored: too many, or with too long addresses"
                self._emit(Notice(message=text, key=self._key))
            case SourceDoubted(text):
                self._emit(Notice(message=text, key=self._key))
            case SecretsWritten(texts):
                text = f"the secret of its address is published, as it stands in {texts} of the feed's texts"
                self._emit(Notice(message=text, key=self._key))

    async def _may_fetch(self, what: Announced) -> bool:
        return self._order.confirmed or await self._confirm(f"{_words(what)}. Fetch it all?")


class FeedRecord:
    """A record of one feed in the store, of one kind; satisfies ``feed.mirroring.mirror.StateStore``."""

    def __init__(self, store: Store, kind: str, key: str) -> None:
        self._store = store
        self._kind = kind
        self._key = key

    def load(self) -> bytes | None:
        """What was saved last."""
        return self._store.get_record(self._kind, self._key)

    def save(self, value: bytes) -> None:
        """Keep this from now on."""
        self._store.put_record(self._kind, self._key, value)


def now_utc() -> datetime:
    """The time, in whole seconds."""
    return datetime.now(UTC).replace(microsecond=0)


def _words(what: Announced) -> str:
    size = f"{what.byte_length / GB:.1f} GB in {what.files} files"
    return f"the feed announces {size}" + (f", {what.unknown} of unknown size" if what.unknown else "")
