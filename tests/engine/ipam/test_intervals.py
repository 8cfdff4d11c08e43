"""Runs of numbers: they behave like a set, whatever the order of changes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from linkspan.engine.ipam.intervals import Intervals

NUMBERS = st.integers(0, 30)
STEPS = st.lists(st.tuples(st.sampled_from(["add", "remove", "run"]), NUMBERS, NUMBERS))


@given(STEPS, NUMBERS, NUMBERS)
def test_they_behave_like_a_set(steps: list[tuple[str, int, int]], first: int, last: int):
    intervals, model = Intervals(), set[int]()
    for what, number, other in steps:
        if what == "add":
            assert intervals.add(number) == (number not in model)
            model.add(number)
        elif what == "remove":
            assert intervals.remove(number) == (number in model)
            model.discard(number)
        else:
            low, high = sorted((number, other))
            intervals.add_run(low, high)
            model.update(range(low, high + 1))
    runs = list(intervals)
    assert {n for start, end in runs for n in range(start, end + 1)} == model
    assert all(end + 1 < start for (_, end), (start, _) in pairwise(runs))
    assert all((number in intervals) == (number in model) for number in range(31))
    window = range(first, last + 1)
    assert intervals.first_missing(first, last) == next((n for n in window if n not in model), None)
    if first <= last:
        assert intervals.count(first, last) == len(model.intersection(window))


def test_numbers_one_after_another_are_one_run():
    intervals = Intervals()
    for number in range(60_000):
        intervals.add(number)
    assert list(intervals) == [(0, 59_999)]
