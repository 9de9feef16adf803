"""The SACK lists of a peer: what is new in them, and how far they tell."""

from math import inf

from p2prss.codec.compact import Buffer
from p2prss.net.udx.packet import MAX_SACK_RANGES, decode_ranges, distance


class SackReader:
    """Reads the lists of one peer; most of a list was in the one before."""

    __slots__ = ("_last",)

    def __init__(self) -> None:
        self._last: set[tuple[int, int]] = set()  # as on the wire

    def read(self, padding: int, body: Buffer, una: int, next_seq: int, out: list[tuple[int, int]]) -> float:
        """Append the new ranges that may be: of numbers from ``una`` to before ``next_seq``, unwrapped.

        Args: padding, body: as in ``decode_ranges``.
        Returns: from which number on the list says nothing; ``inf`` when it had room for more.
        """
        pairs = decode_ranges(padding, body)
        known, self._last = self._last, set(pairs)
        for pair in pairs:
            if pair in known:
                continue
            first, stop = una + distance(una, pair[0]), una + distance(una, pair[1])
            if una <= first < stop <= next_seq:
                out.append((first, stop))
        return una + distance(una, pairs[-1][1]) if len(pairs) >= MAX_SACK_RANGES else inf
