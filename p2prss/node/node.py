"""One running program per home: its store, its links, its feeds and its HTTP server, in one nursery.

``open_node`` makes all of it and takes it down in reverse; ``run_order`` carries out what a command
line asked for. Nothing here decides about bytes: a node only owns the parts and ties them together.
"""

import errno
import shutil
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import Final

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.errors import (
    ConflictError,
    FeedError,
    FeedFormatError,
    FetchError,
    LockedFeedError,
    NetworkError,
    P2prssError,
    StorageError,
    UsageError,
)
from p2prss.feed.model import RemovedPolicy
from p2prss.feed.origin.url import secrets_of, source_url, urlsplit_or_fail
from p2prss.feed.sources.adopt import AdoptShelf
from p2prss.log.log import FROZEN, Log
from p2prss.log.store import Store
from p2prss.net import tcp
from p2prss.net.address import Address
from p2prss.net.exchange import Exchange
from p2prss.net.lan.lan import Lan
from p2prss.net.nat_pmp import Transport
from p2prss.net.swarm.swarm import Swarm
from p2prss.node.actions import NodeActions
from p2prss.node.control import serve_control
from p2prss.node.events import Error, Event, Notice, Ready, Withdrawn
from p2prss.node.feed_lookup import FoundFeed, find_feed, is_address
from p2prss.node.follower import Follower
from p2prss.node.forwarded_port import forward_port
from p2prss.node.hub_subscriber import HubSubscriber, check_callback
from p2prss.node.lan_http import LanHttp, start_lan_http
from p2prss.node.library import NodeLibrary
from p2prss.node.link_text import FeedLink
from p2prss.node.open_feed import FeedOpener, OpenFeed
from p2prss.node.orders import FollowOrder, ImportOrder, Order, PublishOrder, SeedOrder, UpOrder, Wanted
from p2prss.node.patience import Patience, keep_trying
from p2prss.node.peer_finding import open_swarm
from p2prss.node.publisher import Confirm, Publisher
from p2prss.node.saved_feeds import Role, SavedFeed, SavedFeeds, new_feed, new_seed_name
from p2prss.node.seeder import Seeder
from p2prss.node.settings import NodeSettings
from p2prss.node.sources import open_source
from p2prss.node.subscriptions import library_of, publish_library, run_import

READABLE_SECONDS: Final = 5.0  # to wait for a new feed's first text before saying that it is ready
MAX_SAVED_PEERS: Final = 32  # addresses kept for one feed

Emit = Callable[[Event], None]


class Node:
    """A running node; see ``open_node``."""

    def __init__(self, settings: NodeSettings, store: Store, nursery: trio.Nursery, emit: Emit) -> None:
        self.settings = settings
        self.store = store
        self.actions = NodeActions(self, nursery)
        self.emit = self.actions.overhear(emit)
        self.saved = SavedFeeds(store)
        self.exchange = Exchange(store, nursery, on_conflict=self._tell_conflict)
        self.opener = FeedOpener(store, self.exchange)
        self.library = NodeLibrary()
        self.hub_calls: dict[str, HubSubscriber] = {}  # by token
        self.feeds: list[OpenFeed] = []
        self.listening: list[Address] = []
        self.lan: Lan | None = None
        self.swarm: Swarm | None = None
        self.started_at = trio.current_time()
        self.http_url: str | None = None
        self.lan_http: LanHttp | None = None
        self._nursery = nursery
        self._random = SystemRandom()
        self._dialers: dict[Address, tcp.Dialer] = {}
        self._conflicts: set[str] = set()  # keys of feeds of which it was told
        self._http_end = trio.Event()

    async def start(self, *, with_http: bool) -> None:
        """Open the doors: listeners for peers and for podcast apps, and links to known peers.

        Raises: NetworkError when an address that was asked for cannot be had.
        """
        for address in self.settings.listen:
            for listener in await tcp.open_listeners(address):
                self.listening.append(tcp.bound_address(listener))
                self._nursery.start_soon(tcp.serve_listener, listener, self._use_accepted, self._nursery)
        if self.settings.map_port:
            for port in {address.port for address in self.listening}:
                self._nursery.start_soon(forward_port, Transport.TCP, port, self.tell)
        if self.settings.lan:
            self.lan = Lan(
                self.exchange,
                self._random,
                listening=self.listening,
                tell=lambda message: self.emit(Notice(message=message, level=1)),
            )
            self._nursery.start_soon(self.lan.run)
        for address in self.settings.peers:
            self.dial(address)
        await self._nursery.start(serve_control, self)
        if with_http and self.settings.http is not None:
            await self._start_http(self.settings.http)
        if with_http and self.settings.lan_http is not None:
            port = self.settings.lan_http
            self.lan_http = await start_lan_http(self, port, self._nursery, self._http_end)

    def end_http(self) -> None:
        """Take no new requests of podcast apps; answers on their way get a moment to finish."""
        self._http_end.set()

    @property
    def http_ends(self) -> bool:
        """Whether ``end_http`` was called."""
        return self._http_end.is_set()

    def tell(self, message: str) -> None:
        """Say something to whoever started the node."""
        self.emit(Notice(message=message))

    def dial(self, address: Address) -> None:
        """Keep a link to this peer from now on."""
        if address not in self._dialers:
            dialer = tcp.Dialer(address, self.exchange.use_stream, self._random)
            self._dialers[address] = dialer
            self._nursery.start_soon(dialer.run)

    def why_nobody(self, feed: OpenFeed) -> str:
        """In a few words, why no peer is connected for a feed."""
        failures = dict.fromkeys(dialer.failure for dialer in self._dialers.values() if dialer.failure)
        if self.swarm is not None:
            failures[self.swarm.why_nobody(feed.db.log.discovery_key)] = None
        elif not self._dialers:
            known = "nobody on this network has the feed" if self.lan else "no peer's address is known"
            return f"{known}: add --peer HOST:PORT"
        return ", ".join(failures) or "no peer has this feed"

    def ready(self, feed: OpenFeed, *, with_feed_url: bool) -> Ready:
        """The event that says where the feed is to be had."""
        peers = tuple(address for address in self.listening if not _is_any(address))
        link = FeedLink(feed.key, feed.saved.name or feed.saved.title or None, peers)
        key = format_key(feed.key)
        public = self.http_url and (self.settings.serving.public_url or self.http_url)
        phones = self.lan_http if with_feed_url else None
        return Ready(
            key=key,
            link=str(link),
            feed_url=f"{public}/feeds/{key}/feed.xml" if public and with_feed_url else None,
            http=self.http_url,
            listen=[str(address) for address in self.listening],
            home=str(self.settings.home.path),
            lan_url=phones.feed_url(feed.key) if phones else None,
            lan_plain_url=phones.plain_feed_url(feed.key) if phones else None,
        )

    async def publish(self, order: PublishOrder, confirm: Confirm) -> None:
        """Mirror a source, for ever or ``once``; of a list of feeds, each.

        Raises: FeedError, TryAgainError, UsageError, StorageError, ConflictError.
        """
        feeds = await library_of(_source_of(order))
        if feeds is not None:
            await publish_library(self, order, feeds, confirm)
        else:
            await self.publish_feed(order, confirm)

    async def publish_feed(
        self, order: PublishOrder, confirm: Confirm, *, turn: trio.CapacityLimiter | None = None
    ) -> None:
        """Mirror a source that is one feed; each update waits for its ``turn``. Raises: as ``publish``."""
        source = _source_of(order)
        saved = self.saved.by_source(source)
        if saved is None:
            seed_name = new_seed_name()
            key = await trio.to_thread.run_sync(self.opener.new_own_key, seed_name)
            saved = msgspec.structs.replace(
                new_feed(key, Role.PUBLISH), source=source, seed_name=seed_name, name=order.name
            )
        removed = order.removed or saved.removed
        from_list = order.access is not None and not order.access.source_may_be_private
        saved = msgspec.structs.replace(saved, unlisted=order.unlisted, removed=removed, from_list=from_list)
        self.saved.save(saved)
        feed = await self.open_saved(saved, eager=False)
        if feed.conflict is not None:
            raise feed.conflict
        self.library.add(feed)
        self.library.ready = True
        told: list[Ready] = []

        def tell_ready() -> None:
            if not told:
                told.append(self.ready(feed, with_feed_url=True))
                self.emit(told[0])

        if feed.drive.version > 1:
            tell_ready()
        is_kept = False
        try:
            made = await open_source(source, feed.key, self.store)
            publisher = Publisher(
                feed,
                order,
                store=self.store,
                scratch=self.settings.home.incoming,
                emit=self.emit,
                confirm=confirm,
                on_title=partial(self._rename, feed),
                on_text=tell_ready,
                made=made,
                shelf=AdoptShelf(order.adopt) if order.adopt is not None else None,
                turn=turn,
            )
            with feed.scope, self._called_by_hub(publisher.hub):
                await publisher.run(once=order.once)
        except FetchError as error:
            if source.startswith("file:"):  # then it is not the network's fault
                raise FeedError(str(error)) from None
            raise
        except LockedFeedError:
            is_kept = True  # its publisher may put the key into it now
            raise
        finally:
            if feed.drive.version <= 1 and not is_kept:  # not even its text was ever read
                self._forget(feed)

    def _forget(self, feed: OpenFeed) -> None:
        """Leave nothing of a new feed behind."""
        self.close_feed(feed)
        with suppress(StorageError):  # of a disk that is full, say
            self.saved.delete(feed.saved)
            for core in feed.cores:
                self.store.remove(core.key)

    async def follow(self, order: FollowOrder) -> None:
        """Replicate a feed and serve it, for ever or until all that is wanted is here.

        Raises: UsageError, NoPeersError, StorageError, DriveError, FeedFormatError.
        """
        found = await find_feed(order.feed, self.settings.home.incoming) if is_address(order.feed) else None
        link = found.link if found is not None else FeedLink.parse(order.feed)
        is_new = self.saved.get(link.key) is None
        saved = self._remember(link, Role.FOLLOW, order.wanted, order.removed)
        feed = await self.open_saved(saved, eager=True)
        self._dial_all(saved)
        if found is not None:
            await self._check_origin(feed, found, order, is_new=is_new)
        self.library.add(feed)
        self.library.ready = True
        follower = Follower(feed, order.wanted, self.emit, partial(self._rename, feed))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_when_readable, feed)
            patience = Patience(order.patience, partial(self.why_nobody, feed))
            await self._keep(feed, partial(follower.run, patience=patience), once=order.once)
            nursery.cancel_scope.cancel()

    async def _check_origin(
        self, feed: OpenFeed, found: FoundFeed, order: FollowOrder, *, is_new: bool
    ) -> None:
        """Wait for the feed's own word about its origin.

        Raises: FeedFormatError when it is another one than that which named the feed; NoPeersError.
        """
        self.emit(Notice(message=f"{found.site} names the feed {feed.saved.key}", key=feed.saved.key))
        async with trio.open_nursery() as nursery:
            if order.once:
                nursery.start_soon(Patience(order.patience, partial(self.why_nobody, feed)).watch, feed)
            while feed.drive.version <= 1:
                await feed.drive.wait_changed(feed.drive.version)
            info = await keep_trying(feed.archive.info)
            nursery.cancel_scope.cancel()
        try:
            found.check(info)
        except FeedFormatError:
            if is_new:
                self._forget(feed)
            raise
        self.emit(Notice(message=f"and the feed names {found.site}: it is their own", key=feed.saved.key))

    async def seed(self, order: SeedOrder) -> None:
        """Keep whole drives, for ever or until they are here; one that fails does not stop the others.

        Raises: UsageError, NoPeersError, StorageError, DriveError.
        """
        links = [FeedLink.parse(text) for text in order.feeds]
        async with trio.open_nursery() as nursery:
            for link in {link.key: link for link in links}.values():
                saved = self._remember(link, Role.SEED, None)
                feed = await self.open_saved(saved, eager=True)
                self._dial_all(saved)
                self.emit(self.ready(feed, with_feed_url=False))
                seeder, patience = (
                    Seeder(feed, self.emit),
                    Patience(order.patience, partial(self.why_nobody, feed)),
                )
                keep = partial(self._keep, feed, partial(seeder.run, patience=patience))
                nursery.start_soon(partial(keep, once=order.once))

    async def _keep(self, feed: OpenFeed, run: Callable[..., Awaitable[None]], *, once: bool) -> None:
        """Run whoever keeps a feed. One in conflict gets nothing new; what is here stays, and is served."""
        try:
            if feed.conflict is not None:
                raise feed.conflict
            with feed.scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._heed_withdrawal, feed)
                    await run(once=once)
                    nursery.cancel_scope.cancel()
            if feed.conflict is not None:  # of its second log, which was not open yet
                raise feed.conflict
        except (ConflictError, BaseExceptionGroup) as error:
            others = error.split(ConflictError)[1] if isinstance(error, BaseExceptionGroup) else None
            if once:
                raise
            self._tell_conflict(feed.db.log)
            if others is not None:  # the end of the node, perhaps, which came at the same moment
                raise others from None
            await trio.sleep_forever()

    def _tell_conflict(self, log: Log) -> None:
        """Tell once that a feed's log is frozen."""
        for feed in self.feeds:
            if any(core.log is log for core in feed.cores) and feed.saved.key not in self._conflicts:
                self._conflicts.add(feed.saved.key)
                message = f"{feed.title}: {FROZEN}"
                self.emit(Error(code=ConflictError.exit_code, message=message, key=feed.saved.key))

    async def _heed_withdrawal(self, feed: OpenFeed) -> None:
        """Share a feed no longer once its publisher has taken it back; what is here stays."""
        while True:
            version = feed.drive.version
            with suppress(P2prssError):  # another drive than a feed
                if feed.drive.db.length and (await keep_trying(feed.archive.info)).withdrawn is not None:
                    break
            await feed.drive.wait_changed(version)
        topic = feed.db.log.discovery_key
        if self.lan is not None:
            self.lan.discard(topic)
        if self.swarm is not None:
            self.swarm.leave(topic)
        self.exchange.forget((await feed.blobs()).key)
        self.emit(Withdrawn(key=feed.saved.key, title=feed.title, version=version))

    async def _tell_when_readable(self, feed: OpenFeed) -> None:
        """Say that the feed is ready once an app that asks for it gets it, or after a while anyway."""
        with trio.move_on_after(READABLE_SECONDS):
            try:
                while not feed.drive.db.length:
                    await feed.db.session.changed.wait()
                await feed.archive.channel()
            except P2prssError:
                pass  # the follower meets it too, and tells
        if not feed.drive.db.length and not feed.peers:
            self.emit(Notice(message=f"{self.why_nobody(feed)}; still trying", key=feed.saved.key))
        self.emit(self.ready(feed, with_feed_url=True))

    async def open_saved(self, saved: SavedFeed, *, eager: bool) -> OpenFeed:
        """Open a feed, and let others know; an ``eager`` one has them looked for. Raises: StorageError."""
        feed = await self.opener.open(saved, eager=eager)
        self.feeds.append(feed)
        topic = feed.db.log.discovery_key
        if saved.unlisted:
            return feed
        if self.lan is not None:
            self.lan.add(topic)
        if self.swarm is not None:
            self.swarm.join(topic, server=True, client=eager)
        return feed

    def close_feed(self, feed: OpenFeed) -> None:
        """Have nothing to do with a feed any more; what is stored of it stays."""
        feed.scope.cancel()
        self.feeds = [one for one in self.feeds if one is not feed]
        self.library.remove(feed)
        topic = feed.db.log.discovery_key
        if self.lan is not None:
            self.lan.discard(topic)
        if self.swarm is not None:
            self.swarm.leave(topic)
        for core in feed.cores:
            self.exchange.forget(core.key)
        self.opener.forget(feed)

    def _remember(
        self, link: FeedLink, role: Role, wanted: Wanted | None, removed: RemovedPolicy | None = None
    ) -> SavedFeed:
        """Save what is asked for, on top of what is known of the feed already."""
        saved = self.saved.get(link.key) or new_feed(link.key, role)
        if saved.role is Role.PUBLISH:
            if role is Role.FOLLOW:
                raise UsageError("this feed is published from this very home; nothing to follow")
            return saved
        peers = tuple(dict.fromkeys([*map(str, link.peers), *saved.peers]))[:MAX_SAVED_PEERS]
        changes: dict[str, object] = {"role": role, "peers": peers, "name": link.name or saved.name}
        if wanted is not None:
            changes |= {"latest": wanted.latest, "since": wanted.since, "removed": removed or saved.removed}
        return self.saved.save(msgspec.structs.replace(saved, **changes))

    def _dial_all(self, saved: SavedFeed) -> None:
        for text in saved.peers:
            self.dial(Address.parse(text))

    @contextmanager
    def _called_by_hub(self, hub: HubSubscriber | None) -> Iterator[None]:
        """Hubs reach this one until the block ends."""
        if hub is None:
            yield
            return
        self.hub_calls[hub.token] = hub
        self._nursery.start_soon(hub.run)
        try:
            yield
        finally:
            hub.use(None)
            del self.hub_calls[hub.token]

    def _rename(self, feed: OpenFeed, title: str) -> None:
        if title != feed.saved.title:
            feed.saved = self.saved.save(msgspec.structs.replace(feed.saved, title=title))

    async def _use_accepted(self, stream: trio.SocketStream, initiator: bool, label: str) -> None:
        """A peer that came in by itself: its errors end its link and nothing else."""
        try:
            await self.exchange.use_stream(stream, initiator, label)
        except P2prssError as error:
            self.emit(Notice(message=f"peer {label} is gone: {error}", level=1))

    async def _start_http(self, address: Address) -> None:
        from p2prss.serve.app import create_app
        from p2prss.serve.server import bind_tcp, serve_http
        from p2prss.serve.websub import HubDoor

        sockets = await trio.to_thread.run_sync(self._bind_http, address, bind_tcp)
        serving = self.settings.serving
        serving = replace(serving, allowed_hosts=serving.allowed_hosts | {address.host})
        await self.actions.start()
        app = HubDoor(create_app(self.library, serving, self.actions), self.hub_calls)
        serve = partial(serve_http, shutdown=self._http_end, shield=True)
        host, port = (await self._nursery.start(serve, app, sockets))[0]
        self.http_url = f"http://{Address(_LOOPBACK.get(host, host), port)}"

    def _bind_http(
        self, address: Address, bind: Callable[[str, int], list[socket.socket]]
    ) -> list[socket.socket]:
        """Bind for podcast apps; a busy port that nobody asked for by name gives way to a free one."""
        try:
            return bind(address.host, address.port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not self.settings.http_may_move:
                raise NetworkError(f"cannot serve on {address}: {error.strerror or error}") from error
        self.emit(Notice(message=f"port {address.port} is taken; podcast apps are served on a free one"))
        return bind(address.host, 0)


_LOOPBACK: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Where apps on this computer reach a server that listens everywhere."""


def _is_any(address: Address) -> bool:
    """An address that means every interface is of no use to somebody else."""
    return address.host in ("0.0.0.0", "::")


@asynccontextmanager
async def open_node(settings: NodeSettings, emit: Emit, *, with_http: bool = True) -> AsyncIterator[Node]:
    """A node, running until the block ends.

    Raises: HomeLockedError, StorageError, NetworkError.
    """
    with closing(await trio.to_thread.run_sync(Store.open, settings.home.path)) as store:
        # What a run that was killed had begun to download; nobody else is at work in this home.
        await trio.to_thread.run_sync(partial(shutil.rmtree, settings.home.incoming, ignore_errors=True))
        async with trio.open_nursery() as nursery:
            node = Node(settings, store, nursery, emit)
            async with open_swarm(settings, node.exchange, node.tell) as node.swarm:
                try:
                    await node.start(with_http=with_http)
                    yield node
                finally:
                    node.end_http()
            nursery.cancel_scope.cancel()


async def run_order(settings: NodeSettings, order: Order, emit: Emit, confirm: Confirm) -> None:
    """Carry out one order with a node of its own, until it is done or for ever.

    Raises: UsageError, and whatever the order meets that it can't get over.
    """
    _check(order)
    async with open_node(settings, emit, with_http=_serves_apps(order)) as node:
        match order:
            case PublishOrder():
                await node.publish(order, confirm)
            case FollowOrder():
                await node.follow(order)
            case SeedOrder():
                await node.seed(order)
            case ImportOrder():
                await run_import(node, order, confirm)
            case UpOrder():
                await node.actions.run_saved()
        if not order.once:  # its feed was removed on the page, which goes on
            await trio.sleep_forever()


def _check(order: Order) -> None:
    """What can be seen to be wrong before a home is made for it. Raises: UsageError."""
    match order:
        case PublishOrder():
            _source_of(order)
        case FollowOrder():
            if not is_address(order.feed):
                FeedLink.parse(order.feed)
        case SeedOrder():
            for text in order.feeds:
                FeedLink.parse(text)


def _source_of(order: PublishOrder) -> str:
    """The source as a URL; error texts leave it out, as it may hold a password."""
    if not order.source:
        raise UsageError("the source is empty; give a feed's URL or a feed file")
    try:
        url = source_url(order.source)
        urlsplit_or_fail(url)
    except FetchError as error:
        raise UsageError(str(error)) from None
    if order.websub_callback is not None:
        check_callback(order.websub_callback)
        if order.once:
            raise UsageError("--websub-callback is for a node that goes on: leave out --once")
    secrets = [f"the source's address has {what}" for what, _ in secrets_of(url)]
    secrets += ["the source needs credentials"] if order.access.credentials else []
    if not order.allow_private and secrets:
        raise UsageError(
            f"{secrets[0]}, so it may not be meant for all; what is published"
            " can be read by whoever has its link, for good: add --allow-private if that is what you want"
        )
    return url


def _serves_apps(order: Order) -> bool:
    return isinstance(order, FollowOrder | ImportOrder | UpOrder) or (
        isinstance(order, PublishOrder) and not order.once
    )
