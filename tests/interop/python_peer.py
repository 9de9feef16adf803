"""A p2prss peer as the tests meet it: a store in a home of its own, its exchange, TCP both ways.

The counterpart of ``js_peer``: what a node does for its user, without feeds, HTTP and discovery.
Sizes are bytes, ranges of blocks are half open.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final, Self

import trio

from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.drive.drive import Drive
from p2prss.errors import NetworkError, RemoteProtocolError
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest
from p2prss.log.store import Store
from p2prss.net.address import Address
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.net.tcp import Dialer, bound_address, open_listeners, serve_listener
from p2prss.replication.peer import PeerStatistics
from tests.interop.js_peer import JsPeer

HOST: Final = "127.0.0.1"
PATIENCE: Final = 5.0  # seconds a reader waits for a block
_LOOK_SECONDS: Final = 0.001


class PythonPeer:
    """One running peer. Attributes of interest: ``store`` and ``exchange``."""

    def __init__(self, store: Store, nursery: trio.Nursery, patience: float) -> None:
        self.store = store
        self.exchange = Exchange(store, nursery, random=Random(1), patience=patience)
        self.links_made = 0  # connections that came up or were tried, in both directions
        self._nursery = nursery
        self._listening: list[trio.CancelScope] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path | None = None, *, patience: float = PATIENCE) -> AsyncIterator[Self]:
        """Run a peer whose store lies in ``home``, or in memory, until the block ends."""
        store = Store.in_memory() if home is None else await trio.to_thread.run_sync(Store.open, home)
        with contextlib.closing(store):
            async with trio.open_nursery() as nursery:
                yield cls(store, nursery, patience)
                nursery.cancel_scope.cancel()

    # -- cores

    def core(self, key: CoreKey | str, *, eager: bool = True) -> PeerCore:
        """Somebody's core, offered on every link."""
        return self._peer_core(self.store.open_log(_key(key)), eager)

    def own_core(self, name: str = "core") -> PeerCore:
        """A core of our own, by name."""
        return self._peer_core(self.store.create(name), False)

    def compat_core(self, seed: bytes) -> PeerCore:
        """A core of our own that is named by its public key and has no manifest."""
        key_pair = KeyPair.from_seed(seed)
        return self._peer_core(self.store.open_log(CoreKey(key_pair.public_key), key_pair=key_pair), False)

    def _peer_core(self, log: Log, eager: bool) -> PeerCore:
        return PeerCore(self.exchange.session(log, eager=eager))

    # -- drives

    async def drive(self, key: CoreKey | str | None = None, *, name: str = "show") -> Drive:
        """The drive of ``key``, or else our own of that name."""
        log = self.store.create(name) if key is None else self.store.open_log(_key(key))

        async def open_core(key: CoreKey, manifest: Manifest | None) -> PeerCore:
            opened = self.store.open_log(key, manifest=manifest, key_pair=log.key_pair)
            return self._peer_core(opened, not opened.writable)

        return Drive(self._peer_core(log, not log.writable), open_core)

    # -- connections

    async def listen(self) -> int:
        """Replicate with everybody who connects; returns the port, on 127.0.0.1."""
        (listener,) = await open_listeners(Address(HOST, 0))
        self._nursery.start_soon(self._serve, listener)
        return bound_address(listener).port

    def stop_listening(self) -> None:
        """Take no more connections; those there are go on."""
        for scope in self._listening:
            scope.cancel()

    async def connect(self, port: int) -> None:
        """Replicate over one new connection; a lost one is not made again."""
        stream = await trio.open_tcp_stream(HOST, port)
        self._nursery.start_soon(self._accept, stream, True, f"{HOST}:{port}")

    def dial(self, port: int) -> None:
        """Replicate with whoever listens there, again and again."""
        dialer = Dialer(Address(HOST, port), self._dialled, Random(2))
        self._nursery.start_soon(dialer.run)

    def cut(self) -> None:
        """Break every connection, without a word to the peers."""
        for link in self.exchange.links:
            link.close()

    async def _serve(self, listener: trio.SocketListener) -> None:
        with trio.CancelScope() as scope:
            self._listening.append(scope)
            await serve_listener(listener, self._accept, self._nursery)

    async def _accept(self, stream: trio.SocketStream, initiator: bool, label: str) -> None:
        with contextlib.suppress(NetworkError, RemoteProtocolError):  # a broken rule is in exchange.drops
            await self._dialled(stream, initiator, label)

    async def _dialled(self, stream: trio.SocketStream, initiator: bool, label: str) -> None:
        self.links_made += 1
        await self.exchange.use_stream(stream, initiator, label)


def statistics(core: PeerCore) -> Sequence[PeerStatistics]:
    """What the peers of a core have brought and got."""
    return core.session.replicator.peers()


def held_ranges(core: PeerCore) -> list[tuple[int, int]]:
    """Ranges of blocks that are here, as ``JsPeer.held`` gives them."""
    return [(run.start, run.stop) for run in core.log.bitfield.runs(0, core.length)]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that nobody announces."""
    while not condition():  # noqa: ASYNC110 - looking is all there is
        await trio.sleep(_LOOK_SECONDS)


def _key(key: CoreKey | str) -> CoreKey:
    return CoreKey(bytes.fromhex(key)) if isinstance(key, str) else key


async def assert_alike(ours: PeerCore, theirs: JsPeer) -> None:
    """Both know the same log, down to the tree."""
    info = await theirs.core_info(ours.key.hex())
    assert (info.length, info.byte_length, info.fork, info.tree_hash) == (
        ours.length,
        ours.byte_length,
        ours.fork,
        ours.log.head.tree_hash.hex(),
    )
