"""Range sets against plain sets."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from p2prss.net.udx.ranges import RangeSet

RANGE = st.tuples(st.integers(0, 60), st.integers(1, 12)).map(lambda pair: (pair[0], sum(pair)))


@given(st.lists(RANGE, max_size=30), st.integers(0, 70))
def test_a_range_set_is_a_set(ranges: list[tuple[int, int]], limit: int) -> None:
    held, model = RangeSet(), set[int]()
    for start, stop in ranges:
        fresh = held.add(start, stop)
        numbers = [number for part in fresh for number in range(*part)]
        assert numbers == sorted(set(range(start, stop)) - model)
        model.update(range(start, stop))
    held.discard_below(limit)
    model = {number for number in model if number >= limit}
    kept = held.first_ranges(1000)
    assert {number for part in kept for number in range(*part)} == model
    assert all(stop < start for (_, stop), (start, _) in pairwise(kept))
    assert bool(held) == bool(model)
    assert len(held) == len(kept)
    if model:
        assert held.last == max(model)
