"""Where logs are kept: what a log asks of its storage, and a storage of its store.

A ``Change`` is one step of a log: it is stored whole or not at all, and nothing of it can be read before it
is. There are two: ``memory_storage`` for tests and throw-away stores, ``sqlite_storage`` for homes.
All of it is blocking and safe to call from several threads; one thread at a time writes to one log.
"""

from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, Protocol

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey, DiscoveryKey, Namespace
from p2prss.log.merkle import Head
from p2prss.log.proof_parts import TreeNode

MAX_STORED_LENGTH: Final = 2**44
"""Blocks in one log. Far beyond any disk, and small enough for one 63-bit row number per page and log."""


class Staged(Protocol):
    """Blocks on their way to the disk, in the order in which a change has them."""

    def add(self, block: Buffer) -> None:
        """One more block; its buffer must not change before ``wait`` is over."""
        ...

    def wait(self) -> None:
        """Return when all are there; may be called again. Raises: DiskFullError, StorageError."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a log. The parts take effect in the order they stand here."""

    truncated_to: int | None = None  # blocks at and after it go, and every node that reaches beyond it
    cleared: Sequence[range] = ()  # these blocks go, their nodes stay
    nodes: Iterable[TreeNode] = ()  # to add or to replace
    blocks: Sequence[tuple[int, Buffer]] = ()  # block index, bytes
    staged: Staged | None = None  # to which exactly these blocks were added
    bitfield: Mapping[int, bytes] = field(default_factory=dict)  # changed pages: number -> 4096 bytes
    head: Head | None = None
    manifest: bytes | None = None  # encoded


@dataclass(frozen=True, slots=True)
class SignerName:
    """The name a key pair is derived from; the secret itself is never stored with the log."""

    namespace: Namespace
    name: str


@dataclass(frozen=True, slots=True)
class CoreEntry:
    """What a store remembers about a log before it is opened."""

    key: CoreKey
    discovery_key: DiscoveryKey
    signer: SignerName | None = None


@dataclass(frozen=True, slots=True)
class StorageStatistics:
    """Sizes in bytes; what is not on a disk counts as 0."""

    cores: int
    block_bytes: int  # in the data files, as far as blocks still refer to them
    file_bytes: int  # taken by the data files on the disk
    metadata_bytes: int  # taken by the database


class CoreStorage(Protocol):
    """The storage of one log."""

    @property
    def head(self) -> Head:
        """The head of the last change that carried one."""
        ...

    @property
    def manifest(self) -> bytes | None:
        """The encoded manifest, once known."""
        ...

    def bitfield_pages(self) -> Iterable[tuple[int, bytes]]:
        """The stored pages of the bitfield: page number, up to 4096 bytes (zeros at the end left out)."""
        ...

    def node(self, tree_index: int) -> TreeNode | None:
        """A stored node of the tree."""
        ...

    def read(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes | None]:
        """The blocks ``[start, stop)`` as stored, not checked; None for each that is not there.

        With ``max_bytes`` only as many, from the first on, as have that many together, but one at least.
        Raises: StorageError when the disk fails; bytes that are missing in a file read as shorter blocks.
        """
        ...

    def stage(self) -> Staged:
        """Bring blocks to the disk while the caller works out the rest of the change they belong to.

        The next ``write`` must be of this change. Without one the bytes do not count: wait, and forget them.
        """
        ...

    def write(self, change: Change) -> None:
        """Store a change; it survives a power cut once this returns.

        Raises: DiskFullError when there is no room, StorageError for the rest; nothing has changed then.
        """
        ...

    def compact(self) -> int:
        """Give back the room of dropped blocks; returns the bytes freed on the disk."""
        ...


def fitting(sizes: Iterable[int], max_bytes: int | None) -> int:
    """How many of the first blocks of these sizes have at most ``max_bytes`` together, but one at least."""
    ends = list(accumulate(sizes))
    return len(ends) if max_bytes is None else max(1, bisect_right(ends, max_bytes))


class StoreBackend(Protocol):
    """The storage of all logs of a home, and of small records beside them."""

    def entries(self) -> list[CoreEntry]:
        """All logs, in the order they were added."""
        ...

    def add(self, entry: CoreEntry) -> CoreStorage:
        """Remember a new log, or update the signer of a known one, and open it."""
        ...

    def remove(self, key: CoreKey) -> None:
        """Forget a log and delete its blocks."""
        ...

    def get_record(self, kind: str, key: str) -> bytes | None:
        """The value of one record."""
        ...

    def put_record(self, kind: str, key: str, value: bytes) -> None:
        """Store one record, on the disk when this returns."""
        ...

    def delete_record(self, kind: str, key: str) -> None:
        """Delete one record if it is there."""
        ...

    def records(self, kind: str) -> list[tuple[str, bytes]]:
        """All records of a kind, by key."""
        ...

    def statistics(self) -> StorageStatistics:
        """Sizes, cheap enough to ask for every few seconds."""
        ...

    def close(self) -> None:
        """Close all files; no storage of this backend may be used afterwards."""
        ...
