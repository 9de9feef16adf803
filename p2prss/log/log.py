"""One stored log: append to it, read it, prove its blocks to peers, and apply what peers prove.

A log changes in steps: everything is checked and computed in memory first, then stored in one piece by its
storage, and only then bits and head become visible. One step at a time; readers are never blocked by one.
Whoever calls ``append``, ``truncate``, ``clear`` or ``apply`` announces the result to peers afterwards.
All methods block and may be called from any thread; properties and ``has`` never touch the disk.
Source: hypercore lib/core.js; spec/03-log.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from p2prss.codec.compact import Buffer, Reader
from p2prss.crypto.hashes import discovery_key
from p2prss.crypto.keys import CoreKey, KeyPair
from p2prss.errors import (
    BlockUnavailableError,
    ConflictError,
    CorruptLogError,
    DecodeError,
    LocalProtocolError,
    P2prssError,
    StorageError,
    UsageError,
)
from p2prss.log.applying import STALE, Applied, Applying, block_ranges
from p2prss.log.authority import Authority
from p2prss.log.bitfield import Bitfield
from p2prss.log.checking import VerifyReport, check_log
from p2prss.log.manifest import Manifest
from p2prss.log.merkle import Head, TreeBatch
from p2prss.log.proof import NotHeldError, make_proof
from p2prss.log.proof_parts import Proof, ProofRequest, TreeNode
from p2prss.log.reading import BlockReader
from p2prss.log.seek import SeekResult, byte_offset, seek
from p2prss.log.storage import MAX_STORED_LENGTH, Change, CoreStorage
from p2prss.units import MIB

MAX_BLOCK_BYTES: Final = 15 * MIB
"""Source: hypercore lib/core.js; the reference appends no larger block. None is taken from peers either."""

NOT_OURS: Final = "this log is not ours to write"
OTHER_KEY: Final = (
    "the secret key here is not the one that this feed is signed with: restore keys/primary from a backup"
)
FROZEN: Final = (
    "two versions that exclude each other are signed with this feed's key;"
    " what is here stays, but it is neither changed nor shared any more"
)


class Log:
    """One log; a ``Store`` makes the only instance for its key.

    Raises: UsageError when ``manifest`` is another log's, CorruptLogError when what is stored does not parse.
    """

    def __init__(
        self,
        key: CoreKey,
        storage: CoreStorage,
        *,
        manifest: Manifest | None = None,
        key_pair: KeyPair | None = None,
        read_only: bool = False,
    ) -> None:
        self.key: Final = key
        self.read_only: Final = read_only  # another process may own it: whatever would write fails
        self.discovery_key: Final = discovery_key(key)
        self.key_pair = key_pair
        self.bitfield: Final = Bitfield()
        self._storage = storage
        self._lock = threading.Lock()  # held for a whole step
        self._retired = False
        self._cuts = 0  # truncations begun and ended: odd while one is under way
        self._blocks = BlockReader(self.discovery_key.hex()[:8], storage, self.bitfield, self._lock)
        self._head = storage.head
        self._authority = self._stored_authority()
        for number, page in storage.bitfield_pages():
            try:
                self.bitfield.load_page(number, page)
            except ValueError as error:
                raise CorruptLogError(f"what is stored of the blocks held is damaged: {error}") from None
        self._contiguous_length = self.bitfield.first_unset()
        self.frozen = False  # set by the store: the log is in conflict, nothing is added to it any more
        if manifest is not None and self._authority.manifest is None:
            self._learn_manifest(manifest)

    def __repr__(self) -> str:
        return f"<Log {self.discovery_key.hex()[:8]} length={self.length} fork={self.fork}>"

    # -- what is known without reading -----------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """The newest head: an immutable snapshot, on the disk already."""
        return self._head

    @property
    def length(self) -> int:
        """Blocks in the log, held or not."""
        return self._head.length

    @property
    def fork(self) -> int:
        """How often the log was truncated."""
        return self._head.fork

    @property
    def byte_length(self) -> int:
        """Bytes in the log, held or not."""
        return self._head.byte_length

    @property
    def contiguous_length(self) -> int:
        """Blocks held from the start without a gap."""
        return self._contiguous_length

    @property
    def manifest(self) -> Manifest | None:
        """Who may sign, once known."""
        return self._authority.manifest

    @property
    def authority(self) -> Authority:
        """Checks and makes signatures of this log."""
        return self._authority

    @property
    def compat(self) -> bool:
        """Whether the key is the signer's public key; assumed while no manifest is known."""
        return self._authority.compat

    @property
    def writable(self) -> bool:
        """Whether we can sign new heads."""
        return self.key_pair is not None

    def has(self, index: int) -> bool:
        """Whether a block is held."""
        return self.bitfield.has(index)

    # -- writing ---------------------------------------------------------------------------------------------

    def append(self, blocks: Sequence[Buffer]) -> Head:
        """Add blocks at the end, sign, store; the buffers are free again when this returns.

        Raises: LocalProtocolError when the log is not ours to write or a block is too large; ConflictError
        when it is frozen; StorageError.
        """
        with self._lock:
            head = self._head
            if not blocks:
                return head
            key_pair = self._writing_pair()
            largest = max(map(len, blocks))
            if largest > MAX_BLOCK_BYTES:
                raise LocalProtocolError(f"a block of {largest} bytes; {MAX_BLOCK_BYTES} are allowed")
            staged = self._storage.stage()
            try:
                for block in blocks:  # the disk works while we hash
                    staged.add(block)
                batch = TreeBatch(head)
                for block in blocks:
                    batch.append(block)
                added = range(head.length, batch.length)
                placed = list(zip(added, blocks, strict=True))
                head = self._sign(batch.head(), key_pair)
                self._commit(
                    Change(nodes=batch.nodes, blocks=placed, staged=staged, head=head), added=[added]
                )
            finally:
                staged.wait()
            return head

    def truncate(self, length: int, fork: int | None = None) -> Head:
        """Cut the log to ``length`` blocks and sign it under a higher fork (the next one unless given).

        Raises: LocalProtocolError when the log is not ours, is shorter, or starts with a longer prologue;
        ConflictError when it is frozen.
        """
        with self._lock:
            key_pair = self._writing_pair()
            old = self._head
            fork = old.fork + 1 if fork is None else fork
            prologue = self._authority.prologue
            if not (prologue.length if prologue else 0) <= length <= old.length or fork <= old.fork:
                raise LocalProtocolError(
                    f"cannot cut {old.length} blocks, fork {old.fork}, to {length}, {fork}"
                )
            shorter = Head.at(length, fork, self._storage.node)
            if shorter is None:
                raise CorruptLogError(f"the log's tree has no roots for length {length}")
            head = self._sign(shorter, key_pair)
            self._commit(Change(truncated_to=length, head=head))
            return head

    def clear(self, start: int, stop: int) -> None:
        """Drop the blocks ``[start, stop)`` and give their room back; the tree keeps their hashes."""
        with self._lock:
            cleared = list(self.bitfield.runs(max(start, 0), stop))
            if cleared:
                self._commit(Change(cleared=cleared), removed=cleared)

    def drop_corrupt(self, index: int) -> bool:
        """Drop a block if its bytes fail its hash, so that it can be fetched again; says whether it did."""
        with self._lock:
            if not self.bitfield.has(index) or self._blocks.is_sound(index):
                return False
            cleared = [range(index, index + 1)]
            self._commit(Change(cleared=cleared), removed=cleared)
            return True

    def compact(self) -> int:
        """Give back the room of dropped blocks; returns the bytes freed on the disk."""
        with self._lock:
            return self._storage.compact()

    def _writing_pair(self) -> KeyPair:
        if self.frozen:
            raise ConflictError(FROZEN)
        if self.key_pair is None:
            raise LocalProtocolError(NOT_OURS)
        if not self._authority.has_signer(self.key_pair.public_key):
            raise CorruptLogError(OTHER_KEY)
        return self.key_pair

    def _sign(self, head: Head, key_pair: KeyPair) -> Head:
        return replace(head, signature=self._authority.sign(head, key_pair))

    # -- reading ---------------------------------------------------------------------------------------------

    def get(self, index: int) -> bytes | None:
        """A block, checked against its hash; None when it is not held.

        Raises: CorruptLogError when it fails (see ``drop_corrupt``), StorageError when the disk does.
        """
        return self._blocks.read(index, index + 1)[0]

    def get_range(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes]:
        """The blocks ``[start, stop)``, checked; neighbours on the disk are read together.

        With ``max_bytes`` only as many, from the first on, as have that many together, but one at least.
        Raises: BlockUnavailableError when one is not held; as ``get`` besides.
        """
        blocks: list[bytes] = []
        for index, block in enumerate(self._blocks.read(start, stop, max_bytes), start):
            if block is None:
                raise BlockUnavailableError(f"block {index} is not held")
            blocks.append(block)
        return blocks

    def byte_offset(self, index: int) -> int | None:
        """Where a block begins, in bytes from the log's start; None when the tree does not tell yet."""
        return byte_offset(self._head, self._storage.node, index)

    def seek(self, byte_offset: int, padding: int = 0) -> SeekResult | None:
        """The block that holds a byte, or the range of blocks it must lie in; None when it is beyond."""
        return seek(self._head, self._storage.node, byte_offset, padding)

    def node(self, tree_index: int) -> TreeNode | None:
        """A stored node of the tree."""
        return self._storage.node(tree_index)

    def verify(self, on_progress: Callable[[int, int], None] | None = None) -> VerifyReport:
        """Read every held block again, check it and the tree up to the signed head.

        Args: on_progress: called with blocks done and blocks in all. Never raises for corrupt data.
        """
        with self._lock:
            head, held = self._head, self.bitfield.copy()
        report = check_log(head, self._authority, self._storage, held, on_progress)
        if report.clean:
            return report
        with self._lock:  # what was cut or cleared meanwhile is not corrupt
            if self.fork != head.fork:
                return check_log(self._head, self._authority, self._storage, self.bitfield, on_progress)
            corrupt = (index for index in report.corrupt_blocks if self.bitfield.has(index))
            still = tuple(index for index in corrupt if not self._blocks.is_sound(index))
            return replace(report, corrupt_blocks=still)

    # -- peers -----------------------------------------------------------------------------------------------

    def answer(self, request: ProofRequest) -> Proof:
        """Prove what a peer asks for; one that we can't help may still get the manifest it asked for.

        Raises: NotHeldError (NoData 1), InvalidRequestError (NoData 2), StorageError.
        """
        cuts = self._cuts
        if not cuts & 1:
            try:
                proof = self._answer(request)
            except P2prssError:
                if cuts == self._cuts:
                    raise
            else:
                if cuts == self._cuts:
                    return proof
        with self._lock:  # the log was cut meanwhile: what we read may belong to two forks
            return self._answer(request)

    def _answer(self, request: ProofRequest) -> Proof:
        head = self._head
        if request.fork != head.fork:
            raise NotHeldError(f"fork {request.fork} was asked for, ours is {head.fork}")
        manifest = None if self.compat else self.manifest
        try:
            value = self._blocks.read_for_peer(request.block.index) if request.block is not None else None
            return make_proof(head, self._storage.node, request, value=value, manifest=manifest)
        except NotHeldError:
            if manifest is None or not request.manifest:
                raise
            return Proof(head.fork, manifest=manifest)

    def apply(self, answers: Sequence[tuple[ProofRequest, Proof]]) -> list[Applied]:
        """Check peers' answers one after the other, then store all that is good in one step.

        A later answer may build on an earlier one. Returns what became of each; a bad one spoils no other.
        Raises: DiskFullError, StorageError; nothing has changed then.
        """
        with self._lock:
            if self.frozen:
                return [STALE] * len(answers)
            applying = Applying(self._head, self._authority, self._storage, self.bitfield, MAX_BLOCK_BYTES)
            try:
                outcomes = [applying.take(request, proof) for request, proof in answers]
                if applying.changed:
                    self._commit(applying.change(), added=block_ranges(applying.blocks))
                    self._authority = applying.authority
            finally:
                applying.staged.wait()
            return outcomes

    def retire(self) -> None:
        """The store has removed this log: nothing is held any more, and every further step fails."""
        with self._lock:
            self._retired = True
            self.key_pair = None
            self.bitfield.unset_range(0, MAX_STORED_LENGTH)
            self._head, self._contiguous_length = Head.empty(), 0

    # -- one step --------------------------------------------------------------------------------------------

    def _commit(self, change: Change, *, added: Iterable[range] = (), removed: Iterable[range] = ()) -> None:
        """Store a change, then show it. ``added`` and ``removed`` are blocks; a cut removes more."""
        if self._retired:
            raise StorageError("this log was removed")
        added = list(added)
        removed = list(removed)
        cut = change.truncated_to
        if cut is not None:
            removed += self.bitfield.runs(cut, MAX_STORED_LENGTH)
            self._cuts += 1
        try:
            self._storage.write(replace(change, bitfield=self.bitfield.changed_pages(added, removed)))
            for run in removed:
                self.bitfield.unset_range(run.start, run.stop)
                self._blocks.note_removed(run)
            for run in added:
                self.bitfield.set_range(run.start, run.stop)
                self._blocks.note_added(run)
            self._head = change.head or self._head
            self._contiguous_length = self._count_contiguous(removed)
        finally:
            if cut is not None:
                self._cuts += 1

    def _count_contiguous(self, removed: list[range]) -> int:
        lowest = min((run.start for run in removed), default=self._contiguous_length)
        return self.bitfield.first_unset(min(lowest, self._contiguous_length))

    def _learn_manifest(self, manifest: Manifest) -> None:
        try:
            authority = Authority(self.key, manifest)
        except ValueError as error:
            raise UsageError(str(error)) from None
        if not self.read_only:
            self._storage.write(Change(manifest=manifest.encode()))
        self._authority = authority

    def _stored_authority(self) -> Authority:
        encoded = self._storage.manifest
        if encoded is None:
            return Authority(self.key)
        try:
            return Authority(self.key, Manifest.decode(Reader(encoded)))
        except (DecodeError, ValueError) as error:
            raise CorruptLogError(f"the stored manifest does not fit the key: {error}") from None
