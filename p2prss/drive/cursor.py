"""Walking the tree of one version: look up, list, compare.

Work is bounded by what comes out, whatever the writer put in: depth is capped, and keys must come in
strictly ascending order. A node with several children lies around keys, so a tree that refers to
itself or to one subtree many times ends with an error at the first repeated key.
Source: hyperbee iterators/; spec/06-drive, "Reading the tree".
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from p2prss.drive.block_cache import BlockCache
from p2prss.drive.btree import MAX_DEPTH, BeeEntry
from p2prss.drive.errors import DriveError
from p2prss.drive.key_range import KeyRange


class _Branch(NamedTuple):
    """A subtree not yet walked; ``at_lower``: it may hold keys below the range, ``at_upper``: above."""

    seq: int
    offset: int
    depth: int
    at_lower: bool
    at_upper: bool


async def find(cache: BlockCache, version: int, key: bytes) -> BeeEntry | None:
    """Look one key up by comparing keys only.

    The reference also takes a node's block for the answer when that block put the key, and so
    finds deleted entries now and then; that is a defect we do not share.
    """
    if version <= 1:
        return None
    seq, offset = version - 1, 0
    for _ in range(MAX_DEPTH):
        block = cache.peek(seq) or await cache.load(seq)
        node = block.node(offset)
        low, high = 0, len(node.keys)
        while low < high:
            middle = (low + high) // 2
            key_seq = node.keys[middle]
            entry = (cache.peek(key_seq) or await cache.load(key_seq)).entry
            if entry.key == key:
                return entry
            if entry.key < key:
                low = middle + 1
            else:
                high = middle
        if not node.children:
            return None
        seq, offset = node.children[low]
    raise DriveError(f"the tree of version {version} is deeper than {MAX_DEPTH} nodes")


class TreeCursor:
    """A place in the in-order walk; its head is a subtree, or the block of the next key."""

    def __init__(self, cache: BlockCache, version: int, keys: KeyRange, *, reverse: bool = False) -> None:
        self._cache = cache
        self._version = version
        self._keys = keys
        self._reverse = reverse
        self._stack: list[_Branch | int] = []  # what is still to walk, the next one last
        self._entry: BeeEntry | None = None  # of the head, once loaded
        self._previous: bytes | None = None  # the last key walked over
        if version > 1:
            self._stack.append(_Branch(version - 1, 0, 1, at_lower=True, at_upper=True))

    @property
    def branch(self) -> tuple[int, int] | None:
        """(block, place) of the head if that is a subtree."""
        head = self._stack[-1] if self._stack else None
        return head[:2] if isinstance(head, _Branch) else None

    @property
    def key_seq(self) -> int | None:
        """The block of the head if that is a key."""
        head = self._stack[-1] if self._stack else None
        return head if isinstance(head, int) else None

    def skip(self) -> None:
        """Go on behind the head."""
        self._stack.pop()
        if self._entry is not None:
            self._previous, self._entry = self._entry.key, None

    async def entry(self) -> BeeEntry | None:
        """The entry of the head, a key; None at the end.

        Raises: DriveError when it is out of order or outside the range.
        """
        if self._entry is None and self._stack:
            seq = self._stack[-1]
            assert isinstance(seq, int)
            entry = (self._cache.peek(seq) or await self._cache.load(seq)).entry
            key, previous = entry.key, self._previous
            if previous is not None and not (key < previous if self._reverse else previous < key):
                raise DriveError(f"keys of version {self._version} are out of order at block {seq}")
            if key not in self._keys:
                raise DriveError(f"the key in block {seq} is in the wrong place of version {self._version}")
            self._entry = entry
        return self._entry

    async def next(self) -> BeeEntry | None:
        """The next entry, walked over; None at the end."""
        while self._stack and isinstance(self._stack[-1], _Branch):
            await self.expand()
        entry = await self.entry()
        if entry is not None:
            self.skip()
        return entry

    async def expand(self) -> None:
        """Replace the head, a subtree, by the keys and children of its node that may be in the range."""
        branch = self._stack.pop()
        assert isinstance(branch, _Branch)
        if branch.depth > MAX_DEPTH:
            raise DriveError(f"the tree of version {self._version} is deeper than {MAX_DEPTH} nodes")
        block = self._cache.peek(branch.seq) or await self._cache.load(branch.seq)
        keys, children = block.node(branch.offset)
        low, high = 0, len(keys)
        if branch.at_lower:
            low = await self._first(keys, lambda key: not self._keys.is_above(key))
        if branch.at_upper:
            high = max(low, await self._first(keys, self._keys.is_below))
        walk: list[_Branch | int] = []
        depth = branch.depth + 1
        for place in range(low, high + 1):
            if children:
                seq, offset = children[place]
                at_lower = branch.at_lower and place == low
                at_upper = branch.at_upper and place == high
                walk.append(_Branch(seq, offset, depth, at_lower, at_upper))
            if place < high:
                walk.append(keys[place])
        if not self._reverse:
            walk.reverse()
        self._stack += walk

    async def _first(self, keys: Sequence[int], is_it: Callable[[bytes], bool]) -> int:
        """The place of the first key for which it is true, and then for all that follow."""
        low, high = 0, len(keys)
        while low < high:
            middle = (low + high) // 2
            seq = keys[middle]
            if is_it((self._cache.peek(seq) or await self._cache.load(seq)).entry.key):
                high = middle
            else:
                low = middle + 1
        return low


class BeeDiff(NamedTuple):
    """One key that differs: its entry in the newer version, and in the older one; None where it has none."""

    left: BeeEntry | None
    right: BeeEntry | None


async def next_difference(left: TreeCursor, right: TreeCursor) -> BeeDiff | None:
    """Walk two versions together up to the next difference, past the subtrees they share; None at the end."""
    while True:
        branches = left.branch, right.branch
        newest = max(branches[0] or (0, 0), branches[1] or (0, 0))
        if newest != (0, 0):
            if branches[0] == branches[1]:
                left.skip()
                right.skip()
            elif branches[0] == newest:  # only the newer one can contain the other
                await left.expand()
            else:
                await right.expand()
            continue
        a, b = await left.entry(), await right.entry()
        if a is None and b is None:
            return None
        if b is None or (a is not None and a.key < b.key):
            left.skip()
            return BeeDiff(a, None)
        if a is None or b.key < a.key:
            right.skip()
            return BeeDiff(None, b)
        left.skip()
        right.skip()
        if a.seq != b.seq:
            return BeeDiff(a, b)
