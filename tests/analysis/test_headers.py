"""Sets of numbers and boxes of headers, against plain sets of Python."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from linkspan.analysis.headers import (
    ALL_ADDRESSES,
    Headers,
    address_texts,
    intersect,
    port_texts,
    prefix_intervals,
    subtract,
)
from linkspan.analysis.intervals import Intervals, interval, to_intervals, to_points

MOST = 12
numbers = st.integers(0, MOST)
sets = st.sets(numbers)


def members(found: Intervals) -> set[int]:
    assert list(found.edges) == sorted(set(found.edges))
    assert len(found.edges) % 2 == 0
    return {number for first, last in found for number in range(first, last + 1)}


@given(sets, sets, numbers, numbers)
def test_intervals_are_sets(one: set[int], other: set[int], first: int, last: int):
    first, last = min(first, last), max(first, last)
    a, b = to_points(one), to_points(other)
    between = set(range(first, last + 1))
    assert members(a) == one
    assert members(a & b) == one & other
    assert members(a | b) == one | other
    assert members(a - b) == one - other
    assert members(a.within(first, last)) == one & between
    assert members(a.without(first, last)) == one - between
    assert a.count == len(one)
    assert [n in a for n in range(MOST + 2)] == [n in one for n in range(MOST + 2)]
    assert a.meets(b) == bool(one & other)
    assert (a == b) == (one == other)


def test_intervals_that_overlap_or_touch_are_one():
    assert list(to_intervals([(5, 9), (0, 2), (3, 4), (8, 8), (11, 12)])) == [(0, 9), (11, 12)]


small = st.tuples(*[st.sets(st.integers(0, 3))] * 4)


def box(sides: tuple[set[int], ...]) -> Headers:
    source, source_port, destination, port = map(to_points, sides)
    return Headers(
        version=4, protocol=6, source=source, source_port=source_port, destination=destination,
        destination_port=port,
    )  # fmt: skip


def inside(box: Headers) -> set[tuple[int, ...]]:
    n = range(4)
    return {(a, b, c, d) for a in n for b in n for c in n for d in n if box.holds(a, b, c, d)}


@given(small, small)
def test_what_is_left_of_a_box(one: tuple[set[int], ...], other: tuple[set[int], ...]):
    whole, taken = box(one), box(other)
    left = subtract(whole, taken)
    found: set[tuple[int, ...]] = set()
    for part in left:
        assert not found & inside(part), "the parts are disjoint"
        found |= inside(part)
    assert found == inside(whole) - inside(taken)
    shared = intersect(whole, taken)
    assert (set() if shared is None else inside(shared)) == inside(whole) & inside(taken)
    assert (shared is None) == (not inside(whole) & inside(taken))


def test_text():
    assert port_texts(to_intervals([(80, 80), (8000, 8099)])) == ["80", "8000-8099"]
    prefix = prefix_intervals("10.0.0.0/8")
    assert address_texts(prefix | to_points([1]), 4) == ["0.0.0.1", "10.0.0.0/8"]
    assert address_texts(interval(prefix.first + 1, prefix.first + 6), 4) == ["10.0.0.1-10.0.0.6"]
    assert address_texts(ALL_ADDRESSES[6], 6) == ["::/0"]
