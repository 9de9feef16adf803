"""Changing the tree: puts and deletes on a working copy, and the blocks that record them.

Byte for byte what the reference writes, also for batches. Any valid tree would be read just as well,
but equal bytes let recorded runs of the reference be the tests.
Source: hyperbee index.js; spec/06-drive, "Put and delete", "Batch".
"""

from dataclasses import dataclass
from typing import Final

from p2prss.drive.block_cache import BlockCache
from p2prss.drive.btree import (
    MAX_BLOCK_SIZE,
    MAX_DEPTH,
    MAX_KEYS,
    MIN_KEYS,
    BeeEntry,
    BTreeNode,
    encode_block,
)
from p2prss.drive.cursor import find
from p2prss.drive.errors import DriveError
from p2prss.errors import UsageError

_FREED: Final = 0  # seq of a pointer that was merged away


class _Node:
    """The working copy of a tree node; ``changed`` until a block is assigned to it."""

    __slots__ = ("changed", "children", "keys")

    def __init__(self, keys: list[int], children: "list[_Child]", *, changed: bool = False) -> None:
        self.keys = keys
        self.children = children
        self.changed = changed


class _Child:
    """A pointer to a node: where it is recorded, and its working copy once there is one."""

    __slots__ = ("node", "offset", "seq")

    def __init__(self, seq: int, offset: int, node: _Node | None = None) -> None:
        self.seq = seq
        self.offset = offset
        self.node = node


@dataclass(slots=True)
class _Operation:
    """One put or delete, and the pointers to the nodes it rewrote, root first."""

    key: bytes
    value: bytes | None
    slots: list[_Child]


_Path = list[tuple[_Node, int]]  # nodes from the root down, each with the place of the child taken


class TreeEditor:
    """Puts and deletes on top of one version, recorded together by ``finish``.

    ``rewrite_stale``: on a delete, also rewrite the nodes near the key that live in a block which
    once put it. The reference's ``get`` would take such a block for the entry and so find what was
    deleted; our own readers need no such help, and with it the bytes are no longer the reference's.
    """

    def __init__(self, cache: BlockCache, length: int, *, rewrite_stale: bool = False) -> None:
        self._cache = cache
        self._base_version = max(length, 1)
        self._rewrite_stale = rewrite_stale
        self._root: _Node | None = None
        self._operations: list[_Operation] = []

    def __len__(self) -> int:
        """Operations recorded so far."""
        return len(self._operations)

    async def get(self, key: bytes) -> BeeEntry | None:
        """The entry as it is after the operations so far."""
        if self._root is None:
            return await find(self._cache, self._base_version, key)
        _, node, place, found = await self._descend(key)
        if not found:
            return None
        seq = node.keys[place]
        if seq < self._base_version:
            return (await self._cache.load(seq)).entry
        operation = self._operations[seq - self._base_version]
        return BeeEntry(seq, operation.key, operation.value)

    async def put(self, key: bytes, value: bytes | None) -> None:
        """Set a key; ``None`` is a value too.

        Raises: UsageError when key and value do not fit in a block.
        """
        if len(key) + len(value or b"") > MAX_BLOCK_SIZE // 2:
            raise UsageError(f"an entry of {len(key) + len(value or b'')} bytes is too large for a drive")
        path, node, place, found = await self._descend(key)
        _mark(path, node)
        if found:
            node.keys[place] = self._seq
        else:
            node.keys.insert(place, self._seq)
            self._split_upwards(path, node)
        self._record(key, value)

    async def delete(self, key: bytes) -> bool:
        """Remove a key. Returns: whether it was there; if not, nothing is recorded."""
        path, node, place, found = await self._descend(key)
        if not found:
            return False
        _mark(path, node)
        if node.children:
            path.append((node, place))
            node = await self._replace_separator(path, node, place)
        else:
            del node.keys[place]
        await self._refill_upwards(path, node)
        if self._rewrite_stale:
            await self._mark_stale(await self._load_root(), key)
        self._record(key, None)
        return True

    def finish(self) -> list[bytes]:
        """The blocks that record all operations, to be appended at once.

        Only the last block begins with its root. Of the others, the nodes that a later operation
        rewrote are dropped, the gaps filled from the end; a node points into its own block or older
        ones, so all numbers are final when its block is encoded.
        """
        blocks = []
        last = len(self._operations) - 1
        for number, operation in enumerate(self._operations):
            seq, slots = self._base_version + number, operation.slots
            if number < last:
                slots[0].seq = _FREED
            place = 0
            while place < len(slots):
                if slots[place].seq == seq:
                    slots[place].offset = place
                    place += 1
                elif place == len(slots) - 1:
                    slots.pop()
                else:
                    slots[place] = slots.pop()
            blocks.append(encode_block(operation.key, operation.value, [_freeze(slot) for slot in slots]))
        return blocks

    @property
    def _seq(self) -> int:
        """The block of the operation at hand."""
        return self._base_version + len(self._operations)

    async def _key(self, seq: int) -> bytes:
        if seq >= self._base_version:
            # The key of the operation at hand is never compared: it was found or placed before.
            return self._operations[seq - self._base_version].key
        return (self._cache.peek(seq) or await self._cache.load(seq)).entry.key

    async def _node(self, child: _Child) -> _Node:
        if child.node is None:
            block = self._cache.peek(child.seq) or await self._cache.load(child.seq)
            child.node = _thaw(block.node(child.offset))
        return child.node

    async def _load_root(self) -> _Node:
        if self._root is None:
            if self._base_version == 1:
                self._root = _Node([], [], changed=True)
            else:
                block = await self._cache.load(self._base_version - 1)
                self._root = _thaw(block.node(0))
        return self._root

    async def _place(self, node: _Node, key: bytes) -> tuple[int, bool]:
        """Where a key is in a node, or would be; and whether it is there."""
        low, high = 0, len(node.keys)
        while low < high:
            middle = (low + high) // 2
            other = await self._key(node.keys[middle])
            if other == key:
                return middle, True
            if other < key:
                low = middle + 1
            else:
                high = middle
        return low, False

    async def _descend(self, key: bytes) -> tuple[_Path, _Node, int, bool]:
        """The way down to a key: the nodes passed, its node, its place there, and whether it is there."""
        path: _Path = []
        node = await self._load_root()
        while True:
            place, found = await self._place(node, key)
            if found or not node.children:
                return path, node, place, found
            path.append((node, place))
            if len(path) >= MAX_DEPTH:
                raise DriveError(f"the tree is deeper than {MAX_DEPTH} nodes")
            node = await self._node(node.children[place])

    def _split_upwards(self, path: _Path, node: _Node) -> None:
        while len(node.keys) > MAX_KEYS:
            half = len(node.keys) // 2
            first_right = len(node.keys) - half
            median = node.keys[first_right - 1]
            right = _Node(node.keys[first_right:], node.children[first_right:], changed=True)
            del node.keys[first_right - 1 :], node.children[first_right:]
            if not path:
                self._root = _Node(
                    [median], [_Child(_FREED, 0, node), _Child(_FREED, 0, right)], changed=True
                )
                return
            node_above, place = path.pop()
            node_above.keys.insert(place, median)
            node_above.children.insert(place + 1, _Child(_FREED, 0, right))
            node = node_above

    async def _replace_separator(self, path: _Path, node: _Node, place: int) -> _Node:
        """Put a neighbouring key from a leaf in place of a key between two children; the leaf is returned."""
        left_path, left = await self._edge_leaf(node, place, last=True)
        right_path, right = await self._edge_leaf(node, place + 1, last=False)
        if not left.keys or not right.keys:
            raise DriveError("the tree has an empty leaf")
        if len(left.keys) < len(right.keys):
            path[-1] = (node, place + 1)
            leaf_path, leaf, node.keys[place] = right_path, right, right.keys.pop(0)
        else:
            leaf_path, leaf, node.keys[place] = left_path, left, left.keys.pop()
        path += leaf_path
        _mark(leaf_path, leaf)
        return leaf

    async def _edge_leaf(self, node: _Node, place: int, *, last: bool) -> tuple[_Path, _Node]:
        path: _Path = []
        node = await self._node(node.children[place])
        while node.children:
            edge = len(node.children) - 1 if last else 0
            path.append((node, edge))
            if len(path) >= MAX_DEPTH:
                raise DriveError(f"the tree is deeper than {MAX_DEPTH} nodes")
            node = await self._node(node.children[edge])
        return path, node

    async def _refill_upwards(self, path: _Path, node: _Node) -> None:
        """From a leaf that lost a key upwards: borrow a key from a sibling, or else merge with one."""
        while path and len(node.keys) < MIN_KEYS:
            above, place = path.pop()
            left = await self._node(above.children[place - 1]) if place > 0 else None
            if left is not None and len(left.keys) > MIN_KEYS:
                left.changed = True
                node.keys.insert(0, above.keys[place - 1])
                if left.children:
                    node.children.insert(0, left.children.pop())
                above.keys[place - 1] = left.keys.pop()
                return
            has_right = place + 1 < len(above.children)
            right = await self._node(above.children[place + 1]) if has_right else None
            if right is not None and len(right.keys) > MIN_KEYS:
                right.changed = True
                node.keys.append(above.keys[place])
                if right.children:
                    node.children.append(right.children.pop(0))
                above.keys[place] = right.keys.pop(0)
                return
            if left is not None:
                _merge(above, place - 1, left, node)
            elif right is not None:
                _merge(above, place, node, right)
            node = above
        if not path and not node.keys and len(node.children) == 1:
            node = await self._node(node.children[0])
            node.changed = True
            self._root = node

    async def _mark_stale(self, node: _Node, key: bytes, depth: int = 1) -> bool:
        """Mark the paths to nodes near ``key`` that live in a block of ``key``. Returns: is any below."""
        if not node.children:
            return False
        if depth > MAX_DEPTH:
            raise DriveError(f"the tree is deeper than {MAX_DEPTH} nodes")
        place, _ = await self._place(node, key)
        marked = False
        for child in node.children[max(place - 1, 0) : place + 2]:
            below = await self._node(child)
            stale = child.seq != _FREED and not below.changed and await self._key(child.seq) == key
            if await self._mark_stale(below, key, depth + 1) or stale:
                below.changed = marked = True
        node.changed = node.changed or marked
        return marked

    def _record(self, key: bytes, value: bytes | None) -> None:
        assert self._root is not None
        slots = [_Child(self._seq, 0, self._root)]
        _number(self._root, self._seq, slots)
        self._operations.append(_Operation(key, value, slots))


def _mark(path: _Path, node: _Node) -> None:
    node.changed = True
    for passed, _ in path:
        passed.changed = True


def _merge(above: _Node, place: int, left: _Node, right: _Node) -> None:
    """Make two siblings and the key between them one node."""
    left.changed = True
    left.keys += [above.keys.pop(place), *right.keys]
    left.children += right.children
    above.children.pop(place + 1).seq = _FREED


def _number(node: _Node, seq: int, slots: list[_Child]) -> None:
    """Assign the changed nodes below a node to a block, in pre-order."""
    node.changed = False
    for child in node.children:
        if child.node is not None and child.node.changed:
            child.seq, child.offset = seq, len(slots)
            slots.append(child)
            _number(child.node, seq, slots)


def _thaw(node: BTreeNode) -> _Node:
    return _Node(list(node.keys), [_Child(seq, offset) for seq, offset in node.children])


def _freeze(slot: _Child) -> BTreeNode:
    assert slot.node is not None
    return BTreeNode(tuple(slot.node.keys), tuple((child.seq, child.offset) for child in slot.node.children))
