"""Feeds that are open: their drives, standing on stored logs and on the peers that have the rest."""

from dataclasses import dataclass, field
from functools import partial

import trio

from p2prss.crypto.derivation import ROOT_NAMESPACE, child_namespace
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.drive.drive import Drive
from p2prss.errors import P2prssError
from p2prss.feed.archive.archive import FeedArchive
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest
from p2prss.log.store import Store
from p2prss.net.core import PeerCore
from p2prss.net.exchange import Exchange
from p2prss.node.legacy_drive import AnyDrive
from p2prss.node.saved_feeds import SavedFeed

NAMESPACE = child_namespace(ROOT_NAMESPACE, "p2prss")
"""Of the key pairs of our own feeds; their name is the feed's random one."""


@dataclass
class OpenFeed:
    """One feed of this home, open. Satisfies ``serve.library.ServedFeed``."""

    saved: SavedFeed
    drive: Drive
    archive: FeedArchive
    db: PeerCore
    cores: list[PeerCore]  # those that are open: the first is ``db``, the last that of ``blobs``
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)  # of whoever keeps it

    @property
    def key(self) -> CoreKey:
        """The key that is shared."""
        return self.db.key

    @property
    def slug(self) -> str:
        """Its short name in this home; empty while it has no title."""
        return self.saved.slug

    @property
    def title(self) -> str:
        """What to call it."""
        return self.saved.label

    @property
    def peers(self) -> int:
        """Peers connected for it now."""
        return self.db.session.peers

    @property
    def conflict(self) -> P2prssError | None:
        """Why it is neither changed nor shared any more, if so."""
        return next((found for core in self.cores if (found := core.session.conflict) is not None), None)

    async def blobs(self) -> PeerCore:
        """The core of the files' bytes; waits for the first block of a drive that is still empty.

        With it, all cores of the feed are open.
        """
        core = (await self.drive.blobs()).core
        if not isinstance(core, PeerCore):
            raise TypeError("a drive opened elsewhere")
        return core


class FeedOpener:
    """Opens each core and each drive once, on one store and one exchange."""

    def __init__(self, store: Store, exchange: Exchange) -> None:
        self._store = store
        self._exchange = exchange
        self._cores: dict[CoreKey, PeerCore] = {}

    def new_own_key(self, seed_name: str) -> CoreKey:
        """The key of the own feed that is derived from this name; its log is made if it is new."""
        return self._store.create(seed_name, NAMESPACE).key

    async def open(self, saved: SavedFeed, *, eager: bool) -> OpenFeed:
        """Open a feed's drive; ``eager`` offers it to every peer, which downloading needs.

        Raises: StorageError.
        """
        own = saved.seed_name is not None and not self._store.read_only
        key_pair = self._store.key_pair(saved.seed_name, NAMESPACE) if own and saved.seed_name else None
        db = await self._core(saved.core_key, None, key_pair, eager)
        cores = [db]

        async def open_core(key: CoreKey, manifest: Manifest | None) -> PeerCore:
            core = await self._core(key, manifest, key_pair if manifest is not None else None, eager)
            cores.append(core)
            return core

        drive = AnyDrive(db, open_core)
        return OpenFeed(saved, drive, FeedArchive(drive, removed=saved.removed), db, cores)

    def forget(self, feed: OpenFeed) -> None:
        """A feed is closed: its cores are opened anew when it comes back."""
        for core in feed.cores:
            self._cores.pop(core.key, None)

    async def _core(
        self, key: CoreKey, manifest: Manifest | None, key_pair: KeyPair | None, eager: bool
    ) -> PeerCore:
        core = self._cores.get(key)
        if core is None:
            open_log = partial(self._store.open_log, key, manifest=manifest, key_pair=key_pair)
            log: Log = await trio.to_thread.run_sync(open_log)
            core = self._cores.setdefault(key, PeerCore(self._exchange.session(log)))
        self._exchange.session(core.log, eager=eager)
        return core
