"""A log whose missing blocks come from peers: what a drive stands on.

Reading a block that is held costs a disk read; one that is not is asked of the peers, in front of
everything that is merely wanted in the background. Satisfies ``drive.core.Core`` by its shape.
"""

from collections.abc import AsyncGenerator, Sequence
from math import inf
from typing import Final

import trio

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey
from p2prss.errors import BlockUnavailableError, CorruptLogError, NoPeersError, P2prssError
from p2prss.log.log import Log
from p2prss.log.manifest import Manifest
from p2prss.net.session import Session
from p2prss.replication.wants import Priority, Want
from p2prss.units import KIB

PLAYHEAD_BLOCKS: Final = 4  # blocks in front of a reader that are asked for before all others
READ_AHEAD_BLOCKS: Final = 128  # blocks behind those: 8 MiB at 64 KiB
FIRST_READ_AHEAD_BLOCKS: Final = 16  # the same for one who begins: players look into a file and seek away
LOOK_SECONDS: Final = 0.5  # between looks at whether anything is still to be expected of the peers
QUIET_SECONDS: Final = 2.0  # without a block to fetch before we believe that there is none
RUN_BLOCKS: Final = 64  # held blocks read from the disk in one turn
RUN_BYTES: Final = 256 * KIB  # likewise, but for a larger block: a reader who pauses holds no more
READ_THREADS: Final = 4  # that read one log at the same time: the disk and the hashing gain from no more


class PeerCore:
    """One log, and the peers that may have what is missing of it."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.log: Log = session.log
        self.write_lock = trio.Lock()
        self._tip: Want | None = None
        self._threads = trio.CapacityLimiter(READ_THREADS)

    @property
    def key(self) -> CoreKey:
        """What names the log."""
        return self.log.key

    @property
    def manifest(self) -> Manifest | None:
        """Who may sign; None for a compat core and while unknown."""
        return self.log.manifest

    @property
    def length(self) -> int:
        """Blocks in the newest head we know."""
        return self.log.length

    @property
    def byte_length(self) -> int:
        """Bytes in the newest head we know, by its tree."""
        return self.log.byte_length

    @property
    def fork(self) -> int:
        """Grows by each truncation."""
        return self.log.fork

    @property
    def writable(self) -> bool:
        """Whether we hold the key that signs."""
        return self.log.writable

    def has(self, index: int) -> bool:
        """Whether the block is held here."""
        return self.log.has(index)

    def held(self, start: int, stop: int) -> int:
        """How many of these blocks are held here."""
        return self.log.bitfield.count(start, stop)

    @property
    def held_total(self) -> int:
        """How many blocks are held here of all."""
        return self.held(0, self.length)

    def follow_tip(self) -> None:
        """Fetch every block there is and will be, behind all that somebody waits for."""
        if self._tip is None:
            self._tip = self.session.replicator.want(0, None, Priority.BACKGROUND)
            self.session.drain()

    def byte_offset(self, index: int) -> int | None:
        """Bytes in front of a block by the tree, if the nodes for it are held here."""
        return self.log.byte_offset(index)

    async def get(self, index: int) -> bytes:
        """One block, from here or else from a peer.

        Raises: NoPeersError, BlockUnavailableError, StorageError.
        """
        if not self.log.has(index):
            await self._wait_held(index, index + 1)
        return (await self._read_held(index, index + 1))[0]

    async def read(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """Blocks in order, the next one first; leaving the generator cancels what it asked for."""
        replicator, bitfield = self.session.replicator, self.log.bitfield
        index = refill = start
        ahead: Want | None = None
        try:
            while index < stop:
                if index >= refill:
                    window = min(max(2 * (index - start), FIRST_READ_AHEAD_BLOCKS), READ_AHEAD_BLOCKS)
                    refill, older, ahead = index + window // 4, ahead, None
                    if bitfield.first_unset(index) < min(stop, index + window):
                        ahead = replicator.want(index, min(stop, index + window), Priority.READ_AHEAD)
                    if older is not None:
                        replicator.cancel(older)
                    self.session.drain()
                run = min(stop, index + RUN_BLOCKS, bitfield.first_unset(index))
                if run == index:
                    await self._wait_held(index, min(stop, index + PLAYHEAD_BLOCKS))
                    continue
                held = await self._read_held(index, run, RUN_BYTES)
                held.reverse()
                while held:  # what was taken goes with whoever took it
                    yield held.pop()
                    index += 1
        finally:
            if ahead is not None:
                replicator.cancel(ahead)
                self.session.drain()

    async def download(self, start: int, stop: int) -> None:
        """Wait until all these blocks are held, however long it takes.

        Raises: StorageError when they cannot be stored.
        """
        bitfield = self.log.bitfield
        if bitfield.first_unset(start) >= stop:
            return
        want = self.session.replicator.want(start, stop, Priority.BACKGROUND)
        try:
            self.session.drain()
            while bitfield.first_unset(start) < stop:
                self._check_failure()
                await self.session.changed.wait()
        finally:
            self.session.replicator.cancel(want)
            self.session.drain()

    async def append(self, blocks: Sequence[Buffer]) -> int:
        """Add blocks under one signed head, durable on return; the caller holds ``write_lock``.

        Returns: the index of the first one.
        """
        head = await trio.to_thread.run_sync(self.log.append, blocks)
        self.session.log_changed()
        return head.length - len(blocks)

    async def clear(self, start: int, stop: int) -> None:
        """Forget what is held of these blocks."""
        await trio.to_thread.run_sync(self.log.clear, start, stop)
        self.session.log_changed()

    async def seek(self, byte_offset: int) -> tuple[int, int]:
        """The block that holds this byte by the tree, and the byte's place in the block."""
        deadline = trio.current_time() + self.session.patience
        while trio.current_time() <= deadline:
            result = await trio.to_thread.run_sync(self.log.seek, byte_offset)
            if result is None:
                break
            if result.found:
                return result.start, result.offset
            changed = self.session.changed
            want = self.session.replicator.want_seek(byte_offset, span=(result.start, result.stop))
            try:
                self.session.drain()
                with trio.move_on_at(deadline):
                    await changed.wait()
            finally:
                self.session.replicator.cancel(want)
        raise self._unavailable(f"byte {byte_offset}")

    async def update(self) -> bool:
        """Hear what the peers have, for a bounded time. Returns: whether there is a newer head now."""
        length, fork = self.length, self.fork
        with trio.move_on_after(self.session.patience):
            while (self.length, self.fork) == (length, fork) and self.may_grow:
                await self.session.changed.wait()
        return (self.length, self.fork) != (length, fork)

    @property
    def may_grow(self) -> bool:
        """Whether a longer log may come: a peer has one, or it is not known yet what peers have."""
        session = self.session
        return not session.peers or session.offers > 0 or self._peers_may_grow

    async def wait_changed(self, length: int, fork: int) -> None:
        """Wait until ``length`` and ``fork`` are no longer both these."""
        while (self.length, self.fork) == (length, fork):
            self._check_failure()
            await self.session.changed.wait()

    async def wait_length(self, length: int) -> None:
        """Wait until the log is known to have at least so many blocks."""
        while self.length < length:
            self._check_failure()
            await self.session.changed.wait()

    async def wait_whole(self) -> None:
        """Wait until every block is held and no peer is known to have more."""
        while not self.length or self.held_total < self.length or self._peers_may_grow:
            self._check_failure()
            await self._wait_news()

    async def wait_exhausted(self) -> None:
        """Wait until no peer is known to have a block that is missing here, nor a longer log.

        Blocks that their owner has cleared are missing for good. What peers have is known by and by: nothing
        must have been found for a while.
        """
        quiet_since = inf
        while trio.current_time() < quiet_since + QUIET_SECONDS:
            self._check_failure()
            missing = not self.length or self.held_total < self.length
            if self._peers_may_grow or (missing and not self.session.replicator.stalled):
                quiet_since = inf
            elif not missing:
                return
            else:
                quiet_since = min(quiet_since, trio.current_time())
            await self._wait_news()

    @property
    def _peers_may_grow(self) -> bool:
        return self.session.replicator.may_grow(trio.current_time())

    async def _wait_news(self) -> None:
        """Wait for news, or until it is time to look at the clock: a peer's time may be up."""
        with trio.move_on_after(LOOK_SECONDS):
            await self.session.changed.wait()

    async def _read_held(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes]:
        """Read held blocks; one that went bad on the disk is forgotten and fetched again.

        With ``max_bytes`` perhaps only the first of them.
        """
        while True:
            try:
                return await trio.to_thread.run_sync(
                    self.log.get_range, start, stop, max_bytes, limiter=self._threads
                )
            except CorruptLogError:
                if self.log.read_only:
                    raise
                for index in range(start, stop):
                    await trio.to_thread.run_sync(self.log.drop_corrupt, index)
                self.session.log_changed()
                if not self.session.peers:
                    raise
            while (index := self.log.bitfield.first_unset(start)) < stop:
                await self._wait_held(index, stop)

    async def _wait_held(self, index: int, stop: int) -> None:
        """Have block ``index`` before anything else, and those up to ``stop`` right behind it."""
        want = self.session.replicator.want(index, stop, Priority.PLAYHEAD)
        try:
            self.session.drain()
            with trio.move_on_after(self.session.patience):
                while not self.log.has(index):
                    self._check_failure()
                    await self.session.changed.wait()
        finally:
            self.session.replicator.cancel(want)
            self.session.drain()
        if not self.log.has(index):
            raise self._unavailable(f"block {index}")

    def _check_failure(self) -> None:
        if self.session.failure is not None:
            raise self.session.failure

    def _unavailable(self, what: str) -> P2prssError:
        if not self.session.peers:
            return NoPeersError("no peer is connected that has this feed")
        return BlockUnavailableError(
            f"{what} did not come from any of {self.session.peers} peers in {self.session.patience:.0f} s"
        )
