"""One running program per home: its store, its links, its feeds and its HTTP server, in one nursery.

``open_node`` makes all of it and takes it down in reverse; ``run_order`` carries out what a command
line asked for. Nothing here decides about bytes: a node only owns the parts and ties them together.
"""

import errno
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import replace
from functools import partial
from random import SystemRandom
from typing import Final

import msgspec
import trio

from p2prss.crypto.key_text import format_key
from p2prss.crypto.keys import DiscoveryKey
from p2prss.errors import (
    ConflictError,
    NetworkError,
    P2prssError,
    StorageError,
)
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
from p2prss.node.duties import carry_out, check_order
from p2prss.node.events import Error, Event, Notice, Ready
from p2prss.node.forwarded_port import forward_port
from p2prss.node.hub_subscriber import HubSubscriber
from p2prss.node.lan_http import LanHttp, start_lan_http
from p2prss.node.library import NodeLibrary
from p2prss.node.link_text import FeedLink
from p2prss.node.open_feed import FeedOpener, OpenFeed
from p2prss.node.orders import FollowOrder, ImportOrder, Order, PublishOrder, UpOrder
from p2prss.node.peer_finding import open_swarm
from p2prss.node.publisher import Confirm
from p2prss.node.saved_feeds import SavedFeed, SavedFeeds
from p2prss.node.settings import NodeSettings

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
        self.exchange = Exchange(store, nursery, on_conflict=self.tell_conflict)
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
            udp_port=self.swarm.port if self.swarm is not None else None,
            home=str(self.settings.home.path),
            lan_url=phones.feed_url(feed.key) if phones else None,
            lan_plain_url=phones.plain_feed_url(feed.key) if phones else None,
        )

    def tell_conflict(self, log: Log) -> None:
        """Tell once that a feed's log is frozen."""
        for feed in self.feeds:
            if any(core.log is log for core in feed.cores) and feed.saved.key not in self._conflicts:
                self._conflicts.add(feed.saved.key)
                message = f"{feed.title}: {FROZEN}"
                self.emit(Error(code=ConflictError.exit_code, message=message, key=feed.saved.key))

    async def open_saved(self, saved: SavedFeed, *, eager: bool) -> OpenFeed:
        """Open a feed, and let others know; an ``eager`` one has them looked for. Raises: StorageError."""
        feed = await self.opener.open(saved, eager=eager)
        self.feeds.append(feed)
        topic = feed.db.log.discovery_key
        if not (saved.unlisted or saved.reserved):
            self._share(topic, eager=eager)
        return feed

    def announce_if(self, feed: OpenFeed, allowed: bool, by_user: bool) -> None:
        """Announce a feed of ours, or do so no longer, as its publisher and our user have it.

        Args: by_user: who has just said so, for good.
        """
        saved = feed.saved
        changed = msgspec.structs.replace(
            saved, reserved=not allowed, allow_locked=saved.allow_locked or by_user
        )
        if changed != saved:
            feed.saved = self.saved.save(changed)
        if allowed and saved.reserved and not saved.unlisted:
            self._share(feed.db.log.discovery_key, eager=False)
        elif not allowed:
            self.stop_sharing(feed.db.log.discovery_key)

    def _share(self, topic: DiscoveryKey, *, eager: bool) -> None:
        """Let others know that we have this, and look for them if ``eager``."""
        if self.lan is not None:
            self.lan.add(topic)
        if self.swarm is not None:
            self.swarm.join(topic, server=True, client=eager)

    def close_feed(self, feed: OpenFeed) -> None:
        """Have nothing to do with a feed any more; what is stored of it stays."""
        feed.scope.cancel()
        self.feeds = [one for one in self.feeds if one is not feed]
        self.library.remove(feed)
        self.stop_sharing(feed.db.log.discovery_key)
        for core in feed.cores:
            self.exchange.forget(core.key)
        self.opener.forget(feed)

    def delete_feed(self, feed: OpenFeed) -> None:
        """Close a feed and leave nothing of it behind."""
        self.close_feed(feed)
        with suppress(StorageError):  # of a disk that is full, say
            self.saved.delete(feed.saved)
            for core in feed.cores:
                self.store.remove(core.key)

    def stop_sharing(self, topic: DiscoveryKey) -> None:
        """Say no longer that we have this, and ask nobody for it."""
        if self.lan is not None:
            self.lan.discard(topic)
        if self.swarm is not None:
            self.swarm.leave(topic)

    @contextmanager
    def called_by_hub(self, hub: HubSubscriber | None) -> Iterator[None]:
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

    def rename(self, feed: OpenFeed, title: str) -> None:
        """Keep the title that a feed has now."""
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
    check_order(order)
    async with open_node(settings, emit, with_http=_serves_apps(order)) as node:
        await carry_out(node, order, confirm)
        if not order.once:  # its feed was removed on the page, which goes on
            await trio.sleep_forever()


def _serves_apps(order: Order) -> bool:
    return isinstance(order, FollowOrder | ImportOrder | UpOrder) or (
        isinstance(order, PublishOrder) and not order.once
    )
