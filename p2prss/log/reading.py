"""The blocks of one log as the disk gives them, checked against the hashes of its tree."""

import threading

from p2prss.errors import CorruptLogError, StorageError
from p2prss.log.bitfield import Bitfield
from p2prss.log.merkle import leaf_hash
from p2prss.log.proof import NotHeldError
from p2prss.log.storage import CoreStorage


class BlockReader:
    """Reads the blocks that are ``held``.

    Args: name: of the log, in errors; lock: held by whoever changes the log, for a whole step.
    """

    def __init__(self, name: str, storage: CoreStorage, held: Bitfield, lock: threading.Lock) -> None:
        self._name = name
        self._storage = storage
        self._held = held
        self._lock = lock
        self._checked = Bitfield()  # blocks whose bytes matched their hash since the log was opened
        self._sent = Bitfield()  # blocks that went to a peer since then

    def read(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes | None]:
        """The blocks ``[start, stop)``, checked; None for those not held.

        With ``max_bytes`` only as many, from the first on, as have that many together, but one at least.
        Raises: CorruptLogError when one fails its hash, StorageError when the disk does.

        A truncation, clear or compaction may move bytes between looking up where they lie and reading them.
        So a mismatch counts only when it is still there while no step can be under way.
        """
        if not self._held.any_set(start, stop):
            return [None] * max(0, stop - start)
        try:
            blocks, bad = self._read_once(start, stop, max_bytes)
        except StorageError:
            bad = start
        if bad is not None:
            with self._lock:
                blocks, bad = self._read_once(start, stop, max_bytes)
        if bad is not None:
            raise CorruptLogError(f"block {bad} of log {self._name} fails its hash")
        return blocks

    def is_sound(self, index: int) -> bool:
        """Whether the disk gives a block, and it matches its hash."""
        try:
            block = self._storage.read(index, index + 1)[0]
        except StorageError:
            return False
        return self._matches(index, block)

    def read_for_peer(self, index: int) -> bytes:
        """A block for a peer, who hashes it: we need not, unless it is asked for once more.

        Perhaps it failed there. So one that went bad on the disk is sent once, and then no more.
        Raises: NotHeldError, StorageError.
        """
        block = self._storage.read(index, index + 1)[0] if self._held.has(index) else None
        if block is None:
            raise NotHeldError(f"block {index} is not held")
        if not self._sent.has(index):
            self._sent.set(index)
        elif not self._checked.has(index):
            if not self._matches(index, block):
                raise NotHeldError(f"block {index} fails its hash")
            self._checked.set(index)
        return block

    def note_added(self, run: range) -> None:
        """These blocks were stored, and had been checked before."""
        self._checked.set_range(run.start, run.stop)

    def note_removed(self, run: range) -> None:
        """These blocks are held no longer."""
        self._checked.unset_range(run.start, run.stop)

    def _read_once(
        self, start: int, stop: int, max_bytes: int | None
    ) -> tuple[list[bytes | None], int | None]:
        """The blocks that are held, None for others, and the first one that fails its hash."""
        blocks = self._storage.read(start, stop, max_bytes)
        for position, block in enumerate(blocks):
            if not self._held.has(start + position):
                blocks[position] = None
            elif not self._matches(start + position, block):
                return blocks, start + position
        return blocks, None

    def _matches(self, index: int, block: bytes | None) -> bool:
        leaf = self._storage.node(2 * index)
        return block is not None and leaf is not None and leaf_hash(block) == leaf.hash
