"""The blocks of a Hyperbee: an append-only B-tree, one block per put or delete.

Block 0 is the header. Every other block holds a key, its value, and as ``levels`` the tree nodes that
the operation rewrote; a node names its keys by the blocks they are in, and its children by block and
place. The root of a version is node 0 of its last block.
What is here is pure: bytes to values and back. All content is the writer's word, so nothing is
believed: a block is capped before it is parsed, a node is checked when it is used.
Source: hyperbee lib/messages.js and index.js; spec/06-drive, "Blocks".
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from p2prss.codec.protobuf import as_bytes, bytes_field, decode_fields, decode_packed, encode_packed
from p2prss.drive.errors import DriveError
from p2prss.errors import DecodeError
from p2prss.units import MIB

PROTOCOL: Final = b"hyperbee"
MAX_BLOCK_SIZE: Final = 1 * MIB  # bytes; the reference's largest in 10,000 entries has 450
MAX_LEVELS: Final = 1024  # nodes in one block; an operation rewrites a few per level of the tree
MAX_NODE_KEYS: Final = 1024  # the reference writes at most 8, other trees are valid too
MAX_DEPTH: Final = 40  # nodes from the root to a leaf; 10,000 entries need 5

MIN_KEYS: Final = 4  # per node, but for the root
MAX_KEYS: Final = 8  # per node; a node of 9 is split


@dataclass(frozen=True, slots=True)
class Header:
    """Block 0: ``0a`` protocol, ``12`` metadata {``0a`` content feed, ``12`` user data}.

    ``content_feed`` is the key of a drive's blobs core where it is not derived. A bee made
    without any metadata (``has_metadata`` false) leaves the field out; a drive writes it empty.
    """

    content_feed: bytes | None = None
    user_data: bytes | None = None
    has_metadata: bool = True

    def encode(self) -> bytes:
        """The block."""
        metadata = b""
        if self.content_feed is not None:
            metadata += bytes_field(1, self.content_feed)
        if self.user_data is not None:
            metadata += bytes_field(2, self.user_data)
        head = bytes_field(1, PROTOCOL)
        return head + bytes_field(2, metadata) if self.has_metadata else head

    @classmethod
    def decode(cls, block: bytes) -> "Header":
        """Raises: DriveError when this is not the header of a Hyperbee."""
        protocol = content_feed = user_data = metadata = None
        try:
            for number, value in _capped_fields(block):
                if number == 1:
                    protocol = as_bytes(value)
                elif number == 2:
                    metadata = as_bytes(value)
            for number, value in decode_fields(metadata or b""):
                if number == 1:
                    content_feed = as_bytes(value)
                elif number == 2:
                    user_data = as_bytes(value)
        except DecodeError as error:
            raise DriveError(f"block 0 does not parse: {error}") from error
        if protocol != PROTOCOL:
            raise DriveError("block 0 is not the header of a Hyperbee")
        return cls(content_feed, user_data, has_metadata=metadata is not None)


class BeeEntry(NamedTuple):
    """One entry: ``seq`` is the block that put it. ``value`` is None where None was put."""

    seq: int
    key: bytes
    value: bytes | None


class BTreeNode(NamedTuple):
    """One tree node: the blocks of its keys, in ascending order, and (block, place) of its children.

    A leaf has no children, an inner node one more than keys.
    """

    keys: tuple[int, ...]
    children: tuple[tuple[int, int], ...]


class BeeBlock:
    """One decoded block; its nodes are decoded, checked and kept when they are first asked for."""

    __slots__ = ("_nodes", "entry", "levels", "size")

    def __init__(self, entry: BeeEntry, levels: list[bytes], size: int) -> None:
        self.entry = entry
        self.levels = levels  # encoded nodes
        self.size = size  # bytes of the encoded block
        self._nodes: dict[int, BTreeNode] = {}

    @classmethod
    def decode(cls, seq: int, block: bytes) -> "BeeBlock":
        """Read block ``seq``: ``0a`` index (levels), ``12`` key, ``1a`` value.

        Raises: DriveError when it is too large, does not parse, or lacks a required field.
        """
        index = key = value = None
        try:
            for number, content in _capped_fields(block):
                if number == 1:
                    index = as_bytes(content)
                elif number == 2:
                    key = as_bytes(content)
                elif number == 3:
                    value = as_bytes(content)
            if index is None or key is None:
                raise DecodeError("no index or no key")
            levels = [as_bytes(level) for number, level in decode_fields(index, MAX_LEVELS) if number == 1]
        except DecodeError as error:
            raise DriveError(f"block {seq} does not parse: {error}") from error
        return cls(BeeEntry(seq, key, value), levels, len(block))

    def node(self, offset: int) -> BTreeNode:
        """The node at a place, its pointers leading to this block or older ones, but not to itself.

        Longer cycles end at ``MAX_DEPTH``. A batch may leave abandoned nodes with pointers to the
        future in its blocks; hence only nodes that are used are checked.
        Raises: DriveError when there is none or it is malformed.
        """
        node = self._nodes.get(offset)
        if node is None:
            node = self._decode_node(offset)
            seq = self.entry.seq
            if any(not 1 <= key <= seq for key in node.keys):
                raise DriveError(f"node {offset} of block {seq} has a key outside blocks 1 to {seq}")
            for child in node.children:
                if not 1 <= child[0] <= seq or child == (seq, offset):
                    raise DriveError(f"node {offset} of block {seq} has a child in block {child[0]}")
            self._nodes[offset] = node
        return node

    def is_deletion(self) -> bool:
        """Whether the block deleted its key: no value, and no node of its own lists it."""
        if self.entry.value is not None:
            return False
        seq = self.entry.seq
        return not any(seq in self._decode_node(offset).keys for offset in range(len(self.levels)))

    def _decode_node(self, offset: int) -> BTreeNode:
        seq = self.entry.seq
        if offset >= len(self.levels):
            raise DriveError(f"block {seq} has no node {offset}")
        keys: list[int] = []
        flat: list[int] = []
        try:
            for number, content in decode_fields(self.levels[offset]):
                if number == 1:
                    keys = decode_packed(as_bytes(content), MAX_NODE_KEYS)
                elif number == 2:
                    flat = decode_packed(as_bytes(content), 2 * MAX_NODE_KEYS + 2)
        except DecodeError as error:
            raise DriveError(f"node {offset} of block {seq} does not parse: {error}") from error
        if flat and len(flat) != 2 * len(keys) + 2:
            raise DriveError(f"node {offset} of block {seq} has {len(keys)} keys, {len(flat) / 2:g} children")
        return BTreeNode(tuple(keys), tuple(zip(flat[::2], flat[1::2], strict=True)))


def encode_block(key: bytes, value: bytes | None, nodes: list[BTreeNode]) -> bytes:
    """A block from the nodes it holds, root first where it ends an append."""
    index = b"".join(bytes_field(1, _encode_node(node)) for node in nodes)
    block = bytes_field(1, index) + bytes_field(2, key)
    return block if value is None else block + bytes_field(3, value)


def _encode_node(node: BTreeNode) -> bytes:
    keys = bytes_field(1, encode_packed(node.keys)) if node.keys else b""
    if not node.children:
        return keys
    return keys + bytes_field(2, encode_packed(number for child in node.children for number in child))


def _capped_fields(block: bytes) -> list[tuple[int, int | bytes]]:
    if len(block) > MAX_BLOCK_SIZE:
        raise DecodeError(f"{len(block)} bytes, at most {MAX_BLOCK_SIZE} are allowed")
    return decode_fields(block)
