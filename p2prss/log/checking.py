"""Reading a log again from end to end: does every held block lead to the signed head?"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from p2prss.errors import StorageError
from p2prss.log import flat_tree
from p2prss.log.authority import Authority
from p2prss.log.bitfield import Bitfield
from p2prss.log.merkle import Head, leaf_hash, parent_hash
from p2prss.log.storage import CoreStorage

READ_BLOCKS: Final = 64  # at a time: 4 MiB of ordinary blocks in memory


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a check of a whole log found."""

    length: int  # blocks in the log
    checked_blocks: int  # held, hence read
    checked_bytes: int
    corrupt_blocks: tuple[int, ...]  # their bytes fail their hash, or cannot be read
    corrupt_nodes: tuple[int, ...]  # tree indexes above held blocks: missing, or not their children's hash
    head_valid: bool  # the roots are stored, and signed by the log's authority

    @property
    def clean(self) -> bool:
        """Whether everything is as it was signed."""
        return self.head_valid and not self.corrupt_blocks and not self.corrupt_nodes


def check_log(
    head: Head,
    authority: Authority,
    storage: CoreStorage,
    held: Bitfield,
    on_progress: Callable[[int, int], None] | None = None,
) -> VerifyReport:
    """Check blocks against leaves, leaves against parents up to the roots, and the roots' signature.

    Args: head: the head to check against; held: the blocks to read; on_progress: blocks done, blocks in all.
    """
    total = held.count(0, head.length)
    checked = size = 0
    corrupt: list[int] = []
    for run in _portions(held, head.length):
        for index, block in zip(run, _read(storage, run), strict=True):
            leaf = storage.node(2 * index)
            if block is None or leaf is None or leaf_hash(block) != leaf.hash:
                corrupt.append(index)
            size += len(block or b"")
        checked += len(run)
        if on_progress is not None:
            on_progress(checked, total)
    nodes = [index for root in head.roots for index in _bad_nodes(root.index, storage, held)]
    return VerifyReport(
        length=head.length,
        checked_blocks=checked,
        checked_bytes=size,
        corrupt_blocks=tuple(corrupt),
        corrupt_nodes=tuple(nodes),
        head_valid=_is_valid(head, authority, storage),
    )


def _portions(held: Bitfield, length: int) -> Iterator[range]:
    for run in held.runs(0, length):
        for start in range(run.start, run.stop, READ_BLOCKS):
            yield range(start, min(start + READ_BLOCKS, run.stop))


def _read(storage: CoreStorage, run: range) -> list[bytes | None]:
    """Blocks as far as the disk gives them: one unreadable block must not hide its neighbours."""
    try:
        return storage.read(run.start, run.stop)
    except StorageError:
        if len(run) == 1:
            return [None]
        return [block for index in run for block in _read(storage, range(index, index + 1))]


def _bad_nodes(top: int, storage: CoreStorage, held: Bitfield) -> Iterator[int]:
    """The nodes under ``top`` and above held blocks that are missing or are not their children's parent."""
    pending = [top]
    while pending:
        index = pending.pop()
        node = storage.node(index)
        children = flat_tree.children(index)
        if node is None:
            yield index
            continue
        if children is None or not _any_held(index, held):
            continue
        left, right = storage.node(children[0]), storage.node(children[1])
        if left is None or right is None or parent_hash(left, right) != node.hash:
            yield index
        pending += [child for child in children if _any_held(child, held)]


def _any_held(index: int, held: Bitfield) -> bool:
    start = flat_tree.left_span(index) // 2
    return held.any_set(start, start + flat_tree.leaves(index))


def _is_valid(head: Head, authority: Authority, storage: CoreStorage) -> bool:
    if any(storage.node(root.index) != root for root in head.roots):
        return False
    unsigned = head.length == 0 and not head.signature  # nothing was ever appended
    return unsigned or authority.verify(head, head.signature)
