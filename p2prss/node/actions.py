"""What the page and the API have a node do: open feeds while it runs, remove them, run the saved ones.

A feed that is opened here is kept by a task of the node. What goes wrong with it ends this task and
is told: the node, and the other feeds, go on.
"""

import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from random import Random
from typing import TYPE_CHECKING, Final

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import CoreKey
from p2prss.errors import CorruptLogError, P2prssError, StorageError, TryAgainError, UsageError, first_leaf
from p2prss.feed.origin.access import Access
from p2prss.feed.origin.url import host_of, redact, secrets_of, source_url
from p2prss.node.control import node_status
from p2prss.node.duties import carry_out
from p2prss.node.events import Error, Event, Notice, Progress, Published, Synced
from p2prss.node.feed_lookup import as_typed, find_feed, is_address
from p2prss.node.inspection import core_keys
from p2prss.node.link_text import FeedLink
from p2prss.node.open_feed import OpenFeed
from p2prss.node.orders import FollowOrder, Order, PublishOrder, SeedOrder, Wanted
from p2prss.node.page_token import read_token
from p2prss.node.polling import in_words
from p2prss.node.saved_feeds import Role, SavedFeed
from p2prss.serve.actions import AddAs, AddRequest, DiskUse, FeedState, NamedBy, Work

if TYPE_CHECKING:
    from p2prss.node.node import Node

ADD_SECONDS: Final = 20.0  # that whoever adds a feed waits for what comes of it at first
LOOKUP_SECONDS: Final = 20.0  # and before that, for an address to name its key
DISK_SECONDS: Final = 5.0  # for which the disk is not looked at again
OTHERS_SECONDS: Final = 0.5  # to find out which logs another feed has
MAX_PROBLEMS: Final = 5  # kept of feeds that are not here
RETRY_SECONDS: Final = 300.0  # before a saved feed that failed is opened again; doubled with each failure
MAX_RETRY_SECONDS: Final = 6 * 3600.0  # but no more than that
RETRY_JITTER: Final = 0.2  # share of the wait by which tries are spread
STAT_BLOCK_BYTES: Final = 512  # the unit of st_blocks

Emit = Callable[[Event], None]


class NodeActions:
    """Satisfies ``serve.actions.HomeActions``; lives in its node's nursery."""

    def __init__(self, node: "Node", nursery: trio.Nursery) -> None:
        self.token = ""
        self._node = node
        self._nursery = nursery
        self._work: dict[str, Work] = {}  # by key, in text
        self._troubles: dict[str, str] = {}  # likewise
        self._failures: dict[
            str, str
        ] = {}  # of feeds that are not open, by key or label; the last failed last
        self._random = Random()
        self._sites: dict[str, str] = {}  # likewise: hosts that named the keys of feeds
        self._disk: tuple[float, DiskUse] | None = None

    async def start(self) -> None:
        """Have the token at hand. Raises: StorageError."""
        self.token = await trio.to_thread.run_sync(read_token, self._node.settings.home.page_token)

    def overhear(self, emit: Emit) -> Emit:
        """``emit``, which also lets us know what feeds are at."""

        def hear(event: Event) -> None:
            match event:
                case Progress(key=key, done=done, total=total, unit=unit):
                    self._work[key] = Work(done, total, unit)
                case Synced(key=key) | Published(key=key):
                    self._work.pop(key, None)
                    self._troubles.pop(key, None)
                    self._failures.pop(key, None)
                case Error(message=message, key=str(key)):
                    self._troubles[key] = message
            emit(event)

        return hear

    @property
    def problems(self) -> Sequence[str]:
        """What went wrong with feeds that are not open, the last first."""
        return list(self._failures.values())[::-1]

    @property
    def ending(self) -> bool:
        """Whether the node takes no new requests any more."""
        return self._node.http_ends

    def state(self, key: CoreKey) -> FeedState | None:
        """What a feed is at."""
        feed = self._open_feed(key)
        if feed is None:
            return None
        text = format_key(key)
        work = self._work.get(text)
        if work is not None and work.total is not None and work.done >= work.total:
            work = None
        conflict = feed.conflict
        return FeedState(
            role=feed.saved.role.value,
            link=self._node.ready(feed, with_feed_url=True).link,
            stored_bytes=sum(
                core.byte_length * core.held_total // core.length for core in feed.cores if core.length
            ),
            work=work,
            problem=str(conflict) if conflict is not None else self._troubles.get(text),
            lan_url=self._node.lan_http.feed_url(key) if self._node.lan_http is not None else None,
            quiet=_why_quiet(feed),
            named_by=self._named_by(feed),
        )

    def _named_by(self, feed: OpenFeed) -> NamedBy | None:
        if feed.saved.named_by:
            return NamedBy(host_of(feed.saved.named_by[0]), confirmed=False)
        site = self._sites.get(feed.saved.key)
        return NamedBy(site, confirmed=True) if site is not None else None

    async def disk(self) -> DiskUse:
        """What the home takes."""
        now = trio.current_time()
        if self._disk is None or now - self._disk[0] > DISK_SECONDS:
            self._disk = now, await trio.to_thread.run_sync(self._look_at_disk)
        return self._disk[1]

    async def status(self) -> msgspec.Struct:
        """The same that the control socket answers."""
        return await node_status(self._node)

    async def add(self, request: AddRequest) -> CoreKey:
        """Open a feed and keep it."""
        source = as_typed(request.source)
        latest = request.latest
        if is_address(source):
            source = source_url(source)
            if request.add_as is not AddAs.FOLLOW and secrets_of(source):
                raise UsageError(
                    "this address is for some only: to publish it all the same, use a terminal:"
                    " p2prss publish URL --allow-private"
                )
        elif request.add_as is AddAs.PUBLISH:
            raise UsageError("only a feed with an address in the web can be published from here")
        saved = self._node.saved.by_source(source) if is_address(source) else None
        order: Order
        if is_address(source) and (
            request.add_as is AddAs.PUBLISH or (saved is not None and request.add_as is AddAs.AUTO)
        ):
            wanted = None if latest is msgspec.UNSET else Wanted(latest=latest)
            order = PublishOrder(source, wanted=wanted, confirmed=request.confirmed)
            key = None if saved is None else saved.core_key
        else:
            link, named_by = await self._find(source)
            wanted = None if latest is msgspec.UNSET else Wanted(latest=latest)
            order = FollowOrder(str(link), wanted=wanted, named_by=named_by)
            key = link.key
        if key is not None and self._open_feed(key) is not None:
            return key
        outcome = _Outcome()
        self._nursery.start_soon(self._keep, order, redact(source), outcome)
        with trio.move_on_after(ADD_SECONDS):
            return await self._first_result(order, key, outcome)
        key = key or self._published_as(source)
        if key is None:
            raise UsageError("it takes longer than usual to open this feed; look again in a moment")
        return key

    async def _find(self, source: str) -> tuple[FeedLink, tuple[str, ...]]:
        """The feed that a key, a link or an address means, and the addresses that named it.

        Raises: UsageError, and as ``find_feed``.
        """
        if not is_address(source):
            return FeedLink.parse(source), ()
        with trio.move_on_after(LOOKUP_SECONDS):
            found = await find_feed(source, self._node.settings.home.incoming)
            key = format_key(found.link.key)
            if self._open_feed(found.link.key) is None:
                self._sites[key] = found.site
            return found.link, found.addresses
        raise TryAgainError(f"{redact(source)} takes too long to answer: try again later")

    async def remove(self, key: CoreKey) -> None:
        """Close a feed and delete it."""
        node, text = self._node, format_key(key)
        feeds = [feed for feed in node.feeds if feed.key == key]
        if not feeds:
            raise UsageError(f"the feed {text} is not open here")
        keys = {core.key for feed in feeds for core in feed.cores}
        for saved in node.saved.all():
            if saved.key != text:
                with trio.move_on_after(OTHERS_SECONDS):
                    keys -= await core_keys(node.opener, saved)
        for feed in feeds:
            node.close_feed(feed)
        for saved in node.saved.all():
            if saved.key == text:
                node.saved.delete(saved)
        for one in keys:
            await trio.to_thread.run_sync(node.store.remove, one)
        self._work.pop(text, None)
        self._troubles.pop(text, None)
        self._failures.pop(text, None)
        self._sites.pop(text, None)
        self._disk = None

    async def run_saved(self) -> None:
        """Run every saved feed, each in a task of its own. Raises: StorageError when none can be listed."""
        saved = self._node.saved.all()
        if not saved:
            self._node.emit(Notice(message="no feeds are saved here yet: add one on the page (p2prss page)"))
        for feed in saved:
            self._nursery.start_soon(self._keep_saved, feed)
        self._node.library.ready = True

    async def _keep_saved(self, saved: SavedFeed) -> None:
        """Keep a feed for as long as it is saved; after a failure it is opened anew, later and later."""
        node, wait = self._node, RETRY_SECONDS
        if saved.withdrawn is not None:
            await self._share_withdrawal(saved)
            return
        if saved.role is Role.UNKNOWN:
            self._tell_failure(saved.label, CorruptLogError(saved.trouble), saved.key)
            return
        while True:
            outcome, since = _Outcome(), trio.current_time()
            await self._keep(await self._order_of(saved), saved.label, outcome, key=saved.key, retry=wait)
            if outcome.error is None or isinstance(outcome.error, UsageError):
                return
            await trio.sleep(wait * self._random.uniform(1, 1 + RETRY_JITTER))
            lasted = trio.current_time() - since > MAX_RETRY_SECONDS
            wait = RETRY_SECONDS if lasted else min(2 * wait, MAX_RETRY_SECONDS)
            now = node.saved.get(saved.core_key)
            if now is None or now.role is Role.UNKNOWN:
                return
            for feed in [feed for feed in node.feeds if feed.key == saved.core_key]:
                node.close_feed(feed)
            saved = now

    async def _share_withdrawal(self, saved: SavedFeed) -> None:
        """Whoever asks for a feed that we took back is told so; its source is not published again."""
        try:
            await self._node.open_saved(saved, eager=False)
        except P2prssError as error:
            self._node.emit(Error(code=error.exit_code, message=f"{saved.label}: {error}"))
            return
        text = f"{saved.label} was taken back on {saved.withdrawn:%Y-%m-%d}; whoever asks for it is told"
        self._node.emit(Notice(message=text, key=saved.key))

    async def _order_of(self, saved: SavedFeed) -> Order:
        """What was asked for when it was saved."""
        if saved.role is Role.SEED:
            return SeedOrder((saved.key,))
        if saved.role is Role.FOLLOW:
            return FollowOrder(saved.key, named_by=saved.named_by)
        mirrored = False
        with suppress(P2prssError), trio.move_on_after(OTHERS_SECONDS):
            mirrored = (await self._node.opener.open(saved, eager=False)).drive.version > 1
        return PublishOrder(
            saved.source or "",
            confirmed=mirrored,
            allow_private=True,
            access=Access(source_may_be_private=not saved.from_list),
        )

    async def _keep(
        self,
        order: Order,
        label: str,
        outcome: "_Outcome",
        *,
        key: str | None = None,
        retry: float | None = None,
    ) -> None:
        """Carry out an order; its failure is told and is the end of it.

        Args: key: of its feed, if it is known; retry: seconds after which the caller tries again.
        """
        node = self._node
        try:
            await carry_out(node, order, _no)
        except P2prssError as error:
            outcome.error = error
        except BaseExceptionGroup as group:
            ours, others = group.split(P2prssError)
            if ours is not None:
                outcome.error = first_leaf(ours)
            if others is not None:
                raise others from None
        finally:
            outcome.ended.set()
        if outcome.error is not None:
            if key is None and isinstance(order, FollowOrder):
                key = format_key(FeedLink.parse(order.feed).key)
            again = retry is not None and not isinstance(outcome.error, UsageError)
            self._tell_failure(
                label,
                outcome.error,
                key,
                then=f"; tried again {in_words(retry)}" if again and retry else "",
                listed=not outcome.awaited,
            )

    def _tell_failure(
        self, label: str, error: P2prssError, key: str | None, *, then: str = "", listed: bool = True
    ) -> None:
        """The page shows it with its feed, or above all of them where that is not open."""
        message = f"{label}: {error}{then}"
        if listed and all(feed.saved.key != key for feed in self._node.feeds):
            self._failures.pop(key or label, None)
            self._failures[key or label] = message
            while len(self._failures) > MAX_PROBLEMS:
                del self._failures[next(iter(self._failures))]
        self._node.emit(Error(code=error.exit_code, message=message, key=key))

    async def _first_result(self, order: Order, key: CoreKey | None, outcome: "_Outcome") -> CoreKey:
        """Wait until a feed is listed, a published one until it has a text. Raises: what ended its task."""
        outcome.awaited = True
        try:
            while not outcome.ended.is_set():
                found = key or (self._published_as(order.source) if isinstance(order, PublishOrder) else None)
                feed = self._open_feed(found) if found is not None else None
                if feed is not None and (isinstance(order, FollowOrder) or feed.drive.version > 1):
                    return feed.key
                with trio.move_on_after(0.05):
                    await outcome.ended.wait()
            raise outcome.error or UsageError("it was removed again")
        finally:
            outcome.awaited = False

    def _published_as(self, source: str) -> CoreKey | None:
        return next((feed.key for feed in self._node.feeds if feed.saved.source == source), None)

    def _open_feed(self, key: CoreKey) -> OpenFeed | None:
        return next((feed for feed in self._node.feeds if feed.key == key), None)

    def _look_at_disk(self) -> DiskUse:
        home = self._node.settings.home
        files = [*home.cores.rglob("*"), *home.path.glob(f"{home.database.name}*")]
        used = 0
        for path in files:
            with suppress(OSError):  # it may go at any time
                used += path.lstat().st_blocks * STAT_BLOCK_BYTES
        try:
            return DiskUse(used, shutil.disk_usage(home.path).free)
        except OSError as error:
            raise StorageError(f"{home.path}: {error.strerror or error}") from error


class _Outcome:
    """What becomes of an order, for whoever gave it."""

    def __init__(self) -> None:
        self.ended = trio.Event()
        self.error: P2prssError | None = None
        self.awaited = False


def _why_quiet(feed: OpenFeed) -> str | None:
    if feed.saved.unlisted:
        return "it is not announced: only who gets the link finds it"
    if feed.saved.reserved and feed.drive.version > 1:  # before that it is not known
        return "its publisher has locked it: it stays on this computer and is announced nowhere"
    return None


async def _no(_: str) -> bool:
    return False
