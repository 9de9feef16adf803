"""Sets of numbers as ranges: what was received above a gap, what the peer says it received."""

from bisect import bisect_left, bisect_right


class RangeSet:
    """Half-open ranges, ascending, neither overlapping nor touching."""

    __slots__ = ("_starts", "_stops")

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._stops: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._starts)

    def __len__(self) -> int:
        return len(self._starts)

    @property
    def last(self) -> int:
        """The greatest number held; there must be one."""
        return self._stops[-1] - 1

    def first_ranges(self, limit: int) -> list[tuple[int, int]]:
        """The lowest ``limit`` ranges."""
        return list(zip(self._starts[:limit], self._stops[:limit], strict=True))

    def add(self, start: int, stop: int) -> list[tuple[int, int]]:
        """Put a range in; returns the parts of it that were not held before."""
        starts, stops = self._starts, self._stops
        low = bisect_left(stops, start)
        high = bisect_right(starts, stop)
        fresh = []
        position = start
        for index in range(low, high):
            if position < starts[index]:
                fresh.append((position, starts[index]))
            position = max(position, stops[index])
        if position < stop:
            fresh.append((position, stop))
        if low < high:
            start, stop = min(start, starts[low]), max(stop, stops[high - 1])
        starts[low:high] = [start]
        stops[low:high] = [stop]
        return fresh

    def discard_below(self, limit: int) -> None:
        """Forget all numbers before ``limit``."""
        gone = bisect_right(self._stops, limit)
        del self._starts[:gone], self._stops[:gone]
        if self._starts and self._starts[0] < limit:
            self._starts[0] = limit
