"""Sets of numbers as disjoint intervals, quick to cut and to compare."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import lru_cache


class Intervals:
    """A set of numbers, immutable. `edges` are where it begins and ends, in turn: the first
    number of an interval, the first one behind it, the first of the next interval.
    """

    __slots__ = ("_hash", "edges")

    def __init__(self, edges: tuple[int, ...] = ()) -> None:
        self.edges = edges
        self._hash: int | None = None

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        return isinstance(other, Intervals) and self.edges == other.edges

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(self.edges)
        return self._hash

    def __bool__(self) -> bool:
        return bool(self.edges)

    def __contains__(self, number: int) -> bool:
        return bool(bisect_right(self.edges, number) & 1)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The intervals, as first and last number."""
        edges = self.edges
        for place in range(0, len(edges), 2):
            yield edges[place], edges[place + 1] - 1

    def __len__(self) -> int:
        """The number of intervals."""
        return len(self.edges) // 2

    def __repr__(self) -> str:
        return f"Intervals({', '.join(range_text(first, last) for first, last in self)})"

    @property
    def count(self) -> int:
        """How many numbers are in it."""
        return sum(self.edges[1::2]) - sum(self.edges[::2])

    @property
    def first(self) -> int:
        """The lowest number. IndexError when there is none."""
        return self.edges[0]

    @property
    def last(self) -> int:
        """The highest number. IndexError when there is none."""
        return self.edges[-1] - 1

    def within(self, first: int, last: int) -> Intervals:
        """What of it lies from `first` to `last`."""
        edges = self.edges
        start, stop = bisect_right(edges, first), bisect_right(edges, last)
        head = (first,) if start & 1 else ()
        tail = (last + 1,) if stop & 1 else ()
        if not head and not tail and stop - start == len(edges):
            return self
        return Intervals(head + edges[start:stop] + tail)

    def without(self, first: int, last: int) -> Intervals:
        """What of it lies before `first` or behind `last`."""
        edges = self.edges
        start, stop = bisect_left(edges, first), bisect_left(edges, last + 1)
        if start == stop and not start & 1:
            if start == len(edges) or edges[start] > last:
                return self
        head = (first,) if start & 1 else ()
        if stop < len(edges) and edges[stop] == last + 1:
            stop += 1
            tail: tuple[int, ...] = () if stop & 1 == 0 else (last + 1,)
        else:
            tail = (last + 1,) if stop & 1 else ()
        return Intervals(edges[:start] + head + tail + edges[stop:])

    def __and__(self, other: Intervals) -> Intervals:
        if self is other:
            return self
        if len(other.edges) == 2:
            return self.within(other.edges[0], other.edges[1] - 1)
        if len(self.edges) == 2:
            return other.within(self.edges[0], self.edges[1] - 1)
        return _both(self, other)

    def __sub__(self, other: Intervals) -> Intervals:
        if not self.edges or not other.edges:
            return self
        if len(other.edges) == 2:
            return self.without(other.edges[0], other.edges[1] - 1)
        return _only_first(self, other)

    def __or__(self, other: Intervals) -> Intervals:
        if self is other or not other.edges:
            return self
        if not self.edges:
            return other
        return _either(self, other)

    def meets(self, other: Intervals) -> bool:
        """Whether they have a number in common."""
        return bool((self & other).edges)


NOTHING = Intervals()


def interval(first: int, last: int) -> Intervals:
    """From `first` to `last`, both included."""
    return Intervals((first, last + 1))


def to_intervals(spans: Iterable[tuple[int, int]]) -> Intervals:
    """The set of any intervals: they may overlap, in any order."""
    edges: list[int] = []
    for first, last in sorted(spans):
        if edges and first <= edges[-1]:
            if last >= edges[-1]:
                edges[-1] = last + 1
        else:
            edges += (first, last + 1)
    return Intervals(tuple(edges))


def to_points(numbers: Iterable[int]) -> Intervals:
    """The set of these numbers."""
    return to_intervals((number, number) for number in numbers)


def simplify(values: Intervals, universe: Intervals) -> Intervals:
    """Values with fewer intervals: numbers outside of the universe do not matter."""
    found: list[int] = []
    for first, last in values:
        if found and not universe.within(found[-1], first - 1).edges:
            found[-1] = last + 1
        else:
            found += (first, last + 1)
    return Intervals(tuple(found))


def _sweep(one: Intervals, other: Intervals, wanted: tuple[bool, bool, bool, bool]) -> Intervals:
    """Numbers by whether they are in one and the other: neither, one, other, both."""
    found: list[int] = []
    first, second = one.edges, other.edges
    inside = False
    i = j = 0
    size, length = len(first), len(second)
    while i < size or j < length:
        if j == length or (i < size and first[i] <= second[j]):
            edge = first[i]
        else:
            edge = second[j]
        if i < size and first[i] == edge:
            i += 1
        if j < length and second[j] == edge:
            j += 1
        now = wanted[(i & 1) | (j & 1) << 1]
        if now is not inside:
            found.append(edge)
            inside = now
    return Intervals(tuple(found))


@lru_cache(maxsize=256)
def _both(one: Intervals, other: Intervals) -> Intervals:
    return _sweep(one, other, (False, False, False, True))


@lru_cache(maxsize=256)
def _only_first(one: Intervals, other: Intervals) -> Intervals:
    return _sweep(one, other, (False, True, False, False))


@lru_cache(maxsize=256)
def _either(one: Intervals, other: Intervals) -> Intervals:
    return _sweep(one, other, (False, True, True, True))


def range_text(first: int, last: int) -> str:
    """One number, or a range: 80, 80-99."""
    return str(first) if first == last else f"{first}-{last}"
