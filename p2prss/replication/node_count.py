"""How many tree nodes to ask for with a block: as few as connect it to what is known.

The ``nodes`` counter of a request is the number of levels from the block's leaf up to a node the asker
has. A larger one is legal and only costs bytes. Whoever fetched block j with its proof has, at each level
of j's path, the node on the path and its sibling. Hence, without looking at stored nodes: the ancestor of
a block at some level is known when any block below *its parent* is held, or when it is a root. Blocks
whose answers are still on their way count, too: then the answer waits for theirs.
Source: hypercore lib/merkle-tree.js ``nodes``; spec/05-replication, "Node counters".
"""

from typing import Final

from p2prss.log.bitfield import Bitfield

_WORD_LEVELS: Final = 6  # a word covers 2**6 blocks
_SPANS: Final = tuple(
    tuple(((1 << (1 << level)) - 1) << ((bit >> level) << level) for bit in range(64))
    for level in range(_WORD_LEVELS + 1)
)  # _SPANS[level][bit]: the bits of a word below the same ancestor at that level


class BlockSet:
    """A set of block indexes that tells quickly whether one lies below a given tree node.

    Costs memory by the number of its members, whatever their indexes.
    """

    __slots__ = ("_words",)

    def __init__(self) -> None:
        self._words: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._words)

    def __contains__(self, index: int) -> bool:
        return bool(self._words.get(index >> _WORD_LEVELS, 0) >> (index & 63) & 1)

    def add(self, index: int) -> None:
        """Add a block; it may be a member already."""
        word = index >> _WORD_LEVELS
        self._words[word] = self._words.get(word, 0) | 1 << (index & 63)

    def discard(self, index: int) -> None:
        """Remove a block, if it is a member."""
        word = index >> _WORD_LEVELS
        bits = self._words.get(word)
        if bits is not None:
            bits &= ~(1 << (index & 63))
            if bits:
                self._words[word] = bits
            else:
                del self._words[word]

    def clear(self) -> None:
        """Remove all."""
        self._words.clear()

    def below(self, index: int, level: int) -> bool:
        """Whether a member lies below the ancestor of block ``index`` at ``level`` (0 is its leaf)."""
        words = self._words
        if level <= _WORD_LEVELS:
            return bool(words.get(index >> _WORD_LEVELS, 0) & _SPANS[level][index & 63])
        shift = level - _WORD_LEVELS
        first = index >> level << shift
        stop = first + (1 << shift)
        if stop - first < len(words):
            return any(word in words for word in range(first, stop))
        return any(first <= word < stop for word in words)


def root_level(index: int, length: int) -> int:
    """The level of the root above block ``index`` in a log of ``length`` blocks; 0 is the leaf."""
    return (index ^ length).bit_length() - 1


def known_level(index: int, length: int, held: Bitfield, coming: BlockSet | None = None) -> tuple[int, bool]:
    """The lowest ancestor of block ``index`` that is known, as ``(level, certain)``.

    ``certain`` is false when it is known by blocks of ``coming``, which may not be stored yet.
    """
    top = root_level(index, length)
    for level in range(top):
        if coming is not None and coming.below(index, level + 1):
            return level, False  # or for certain: looking would cost more than finding out later
        if below_held(index, level + 1, held):
            return level, True
    return top, True


def below_held(index: int, level: int, held: Bitfield) -> bool:
    """Whether another held block lies below the ancestor of block ``index``, not held, at ``level``."""
    if level == 1:
        return held.has(index ^ 1)
    start = index >> level << level
    return held.any_set(start, start + (1 << level))


def knows_roots(length: int, own_length: int, held: Bitfield) -> bool:
    """Whether a log of ``own_length`` blocks surely has the roots it had at ``length`` blocks."""
    start = 0
    while start < length:
        level = (length - start).bit_length() - 1
        parent = level + 1
        first = start >> parent << parent
        if level != root_level(start, own_length) and not held.any_set(first, first + (1 << parent)):
            return False
        start += 1 << level
    return True
