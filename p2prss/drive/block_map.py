"""The map of a deduplicated blob: which blocks, in which order, its content is made of.

Layout per block of a map: version uint (0) | count uint | count x (index uint, byte length uint).
Source: hyperblobs lib/block-map.js; spec/06-drive, "Blobs".
"""

from collections.abc import Iterable
from typing import Final

from p2prss.codec.compact import Reader
from p2prss.errors import DecodeError
from p2prss.units import GIB, MIB

MAX_BLOCK_SIZE: Final = 15 * MIB  # bytes; the reference appends no larger ones
MAX_MAP_BLOCKS: Final = 64  # the reference reads no more
MAX_MAP_PAIRS: Final = 8192  # per block of a map
MAX_MAP_BYTES: Final = 64 * GIB  # that a map may unfold to; 64 x 8192 blocks of 64 KiB are half of it
_MAP_VERSION: Final = 0

Pair = tuple[int, int]
"""The index of a block, and the bytes it has."""


def decode_block_map(block: bytes) -> list[Pair]:
    """The pairs in one block of a map.

    Raises: DecodeError, also for a pair no honest writer makes.
    """
    reader = Reader(block)
    if reader.uint() != _MAP_VERSION:
        raise DecodeError("unknown version of block map")
    pairs = [(reader.uint(), reader.uint()) for _ in range(reader.count(2, MAX_MAP_PAIRS))]
    if any(size > MAX_BLOCK_SIZE for _, size in pairs):
        raise DecodeError(f"a block of more than {MAX_BLOCK_SIZE} bytes")
    return pairs


def cut(pairs: list[Pair], start: int, size: int) -> tuple[list[Pair], int]:
    """The pairs that hold a byte range, and where it starts in the first of them."""
    wanted: list[Pair] = []
    covered = -start
    for pair in pairs:
        covered += pair[1]
        if covered > 0:
            wanted.append(pair)
            if len(wanted) == 1:
                start = pair[1] - covered
            if covered >= size:
                break
    return wanted, start


def runs(pairs: list[Pair]) -> Iterable[list[Pair]]:
    """Split into runs of neighbouring blocks."""
    run: list[Pair] = []
    for pair in pairs:
        if run and pair[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(pair)
    if run:
        yield run
