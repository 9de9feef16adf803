"""Logs in memory: for tests, and for stores that need not outlive the process."""

import threading
from collections.abc import Iterable

from p2prss.codec.compact import Buffer
from p2prss.crypto.keys import CoreKey
from p2prss.log import flat_tree
from p2prss.log.merkle import Head
from p2prss.log.proof_parts import TreeNode
from p2prss.log.storage import Change, CoreEntry, StorageStatistics, fitting


class NotStaged:
    """Memory needs no staging: ``write`` copies the blocks."""

    def add(self, block: Buffer) -> None:  # noqa: ARG002 -- the interface has it
        return

    def wait(self) -> None:
        return


class MemoryStorage:
    """One log in dictionaries. Blocks are copied, since the caller's buffers may be reused."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._nodes: dict[int, TreeNode] = {}
        self._blocks: dict[int, bytes] = {}
        self._bitfield: dict[int, bytes] = {}
        self._head = Head.empty()
        self._manifest: bytes | None = None

    @property
    def head(self) -> Head:
        return self._head

    @property
    def manifest(self) -> bytes | None:
        return self._manifest

    @property
    def block_bytes(self) -> int:
        """Bytes of all blocks."""
        with self._lock:
            return sum(map(len, self._blocks.values()))

    def bitfield_pages(self) -> Iterable[tuple[int, bytes]]:
        return sorted(self._bitfield.items())

    def node(self, tree_index: int) -> TreeNode | None:
        return self._nodes.get(tree_index)

    def read(self, start: int, stop: int, max_bytes: int | None = None) -> list[bytes | None]:
        with self._lock:
            blocks = [self._blocks.get(index) for index in range(start, stop)]
        return blocks[: fitting((len(block or b"") for block in blocks), max_bytes)]

    def stage(self) -> NotStaged:
        return NotStaged()

    def write(self, change: Change) -> None:
        with self._lock:
            if change.truncated_to is not None:
                self._truncate(change.truncated_to)
            for cleared in change.cleared:
                for index in [index for index in self._blocks if index in cleared]:
                    del self._blocks[index]
            self._nodes.update((node.index, node) for node in change.nodes)
            self._blocks.update((index, bytes(value)) for index, value in change.blocks)
            self._bitfield.update(change.bitfield)
            if change.head is not None:
                self._head = change.head
            if change.manifest is not None:
                self._manifest = change.manifest

    def _truncate(self, length: int) -> None:
        self._blocks = {index: block for index, block in self._blocks.items() if index < length}
        self._nodes = {
            index: node for index, node in self._nodes.items() if flat_tree.right_span(index) < 2 * length
        }

    def compact(self) -> int:
        return 0


class MemoryBackend:
    """All logs and records of a store in memory."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[CoreKey, CoreEntry] = {}
        self._cores: dict[CoreKey, MemoryStorage] = {}
        self._records: dict[tuple[str, str], bytes] = {}

    def entries(self) -> list[CoreEntry]:
        with self._lock:
            return list(self._entries.values())

    def add(self, entry: CoreEntry) -> MemoryStorage:
        with self._lock:
            self._entries[entry.key] = entry
            return self._cores.setdefault(entry.key, MemoryStorage())

    def remove(self, key: CoreKey) -> None:
        with self._lock:
            self._entries.pop(key, None)
            self._cores.pop(key, None)

    def get_record(self, kind: str, key: str) -> bytes | None:
        return self._records.get((kind, key))

    def put_record(self, kind: str, key: str, value: bytes) -> None:
        with self._lock:
            self._records[kind, key] = bytes(value)

    def delete_record(self, kind: str, key: str) -> None:
        with self._lock:
            self._records.pop((kind, key), None)

    def records(self, kind: str) -> list[tuple[str, bytes]]:
        with self._lock:
            return sorted(
                (key, value) for (its_kind, key), value in self._records.items() if its_kind == kind
            )

    def statistics(self) -> StorageStatistics:
        with self._lock:
            block_bytes = sum(core.block_bytes for core in self._cores.values())
            return StorageStatistics(len(self._cores), block_bytes, file_bytes=0, metadata_bytes=0)

    def close(self) -> None:
        """Nothing to close: a closed store of this kind is simply forgotten."""
