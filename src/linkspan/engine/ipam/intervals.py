"""A set of whole numbers, kept as runs: its size does not depend on how many there are.

Looking up is a bisection over the runs. Addresses are leased one after another, so even 60,000
of them are a handful of runs; where they are not, a change moves some memory, no more.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator


class Intervals:
    """Disjoint runs of numbers, in order; touching runs are one."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._first, number) - 1
        return index >= 0 and number <= self._last[index]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The runs: first and last number, both included."""
        return iter(zip(self._first, self._last, strict=True))

    def count(self, first: int, last: int) -> int:
        """How many numbers of the set lie between these, both included."""
        return sum(
            max(0, min(end, last) - max(start, first) + 1)
            for start, end in self
            if start <= last and end >= first
        )

    def add(self, number: int) -> bool:
        """Put a number in; False when it was there."""
        if number in self:
            return False
        self.add_run(number, number)
        return True

    def add_run(self, first: int, last: int) -> None:
        """Put in all numbers between these, both included."""
        left = bisect_right(self._last, first - 2)  # the first run that touches or overlaps
        right = bisect_right(self._first, last + 1)  # one after the last such run
        if left < right:
            first = min(first, self._first[left])
            last = max(last, self._last[right - 1])
        self._first[left:right] = [first]
        self._last[left:right] = [last]

    def remove(self, number: int) -> bool:
        """Take a number out; False when it was not there."""
        index = bisect_right(self._first, number) - 1
        if index < 0 or number > self._last[index]:
            return False
        first, last = self._first[index], self._last[index]
        rest = [run for run in ((first, number - 1), (number + 1, last)) if run[0] <= run[1]]
        self._first[index : index + 1] = [start for start, _ in rest]
        self._last[index : index + 1] = [end for _, end in rest]
        return True

    def first_missing(self, first: int, last: int) -> int | None:
        """The lowest number between these, both included, that is not in the set."""
        if first > last:
            return None
        index = bisect_right(self._first, first) - 1
        if index >= 0 and first <= self._last[index]:
            first = self._last[index] + 1
        return first if first <= last else None
