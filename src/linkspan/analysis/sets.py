"""Sets and maps, named and anonymous: which element a key finds.

Elements of single values are found by hashing, ranges by comparing. A key with a part that
is not known gives every element that it could find.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from linkspan.analysis.membership import look_up_traced
from linkspan.analysis.traced import Traced
from linkspan.analysis.values import UNKNOWN, Span, Value, to_span
from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import Range

Key = tuple[Any, ...]


class Found(NamedTuple):
    """What a look-up gave: the data of each possible element, and whether it may find none."""

    data: tuple[Any, ...]
    may_miss: bool


NOTHING = Found((), True)


class Collection:
    """The elements of one set or map. `kinds` are the nftables types of its key's parts."""

    def __init__(self, kinds: Sequence[str]) -> None:
        self.kinds = tuple(kinds)
        self.exact: dict[Key, Any] = {}
        self.wide: list[tuple[tuple[Span, ...], Any]] = []
        self._starts: list[Any] | None = None
        self.prepared: dict[Any, Any] = {}
        """What was worked out for traced keys (see membership)."""
        self._sorted: list[tuple[tuple[Span, ...], Any]] = []

    def add(self, spans: tuple[Span, ...], data: Any = None) -> None:
        """Add an element by the ends of each part."""
        if not any(first != last for first, last in spans) and not _is_pattern(spans):
            self.exact[tuple([first for first, _ in spans])] = data
        else:
            self.wide.append((spans, data))
            self._starts = None

    def look_up(self, key: Sequence[Value]) -> Found:
        """What a key finds."""
        if UNKNOWN in key:
            return self._look_up_partly(key)
        for part in key:
            if isinstance(part, Traced):
                return look_up_traced(self, key)
        exact = self.exact
        if exact:
            found = exact.get(tuple(key), UNKNOWN)
            if found is not UNKNOWN:
                return Found((found,), False)
        if not self.wide:
            return NOTHING
        if len(key) == 1 and isinstance(key[0], int):
            return self._look_up_range(key[0])
        for spans, data in self.wide:
            if all(holds(span, part) for span, part in zip(spans, key, strict=True)):
                return Found((data,), False)
        return NOTHING

    def _look_up_range(self, number: int) -> Found:
        if self._starts is None:
            self._sorted = sorted(self.wide, key=lambda row: row[0][0][0])
            self._starts = [row[0][0][0] for row in self._sorted]
        place = bisect_right(self._starts, number) - 1
        if place >= 0 and number <= self._sorted[place][0][0][1]:  # type: ignore[operator]
            return Found((self._sorted[place][1],), False)
        return NOTHING

    def _look_up_partly(self, key: Sequence[Value]) -> Found:
        known = [(place, part) for place, part in enumerate(key) if part is not UNKNOWN]
        found: list[Any] = []
        for row, data in self.exact.items():
            if all(row[place] == part for place, part in known) and data not in found:
                found.append(data)
        for spans, data in self.wide:
            if all(holds(spans[place], part) for place, part in known) and data not in found:
                found.append(data)
        return Found(tuple(found), True)

    def __len__(self) -> int:
        return len(self.exact) + len(self.wide)


def _is_pattern(spans: tuple[Span, ...]) -> bool:
    return any(isinstance(first, str) and first[-1:] == "*" for first, _ in spans)


def holds(span: Span, part: Value) -> bool:
    """Whether a part of a key lies in that part of an element."""
    first, last = span
    if isinstance(part, int) and isinstance(first, int):
        return first <= part <= last  # type: ignore[operator]
    if isinstance(first, str) and isinstance(part, str):
        return matches_name(first, part)
    return False


def matches_name(pattern: str, name: str) -> bool:
    """Whether a name is the one wanted; a star at the end stands for anything."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def from_elements(kinds: Sequence[str], elements: Iterable[Element]) -> Collection:
    """The named set or map that holds these elements. Raises ValueError for odd values."""
    made = Collection(kinds)
    for element in elements:
        if element.last is None:
            parts = zip(kinds, element.first, strict=True)
            made.add(tuple([to_span(kind, part) for kind, part in parts]), element.data)
            continue
        spans = tuple(
            (to_span(kind, first)[0], to_span(kind, last)[1])
            for kind, first, last in zip(kinds, element.first, element.last, strict=True)
        )
        made.add(spans, element.data)
    return made


def from_rows(
    kinds: Sequence[str], rows: Iterable[tuple[Part | Range | tuple[Part | Range, ...], Any]]
) -> Collection:
    """The anonymous set or map of a rule. Raises ValueError for odd values."""
    made = Collection(kinds)
    for row, data in rows:
        parts = row if isinstance(row, tuple) else (row,)
        made.add(tuple(to_span(kind, part) for kind, part in zip(kinds, parts, strict=True)), data)
    return made
