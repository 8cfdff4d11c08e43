"""Looking traced headers up in sets and maps: what else would have found the same.

A hit narrows to the element, or to all elements with the same data; a miss to what lies beside
all elements, cut away along the field that costs the fewest cuts.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from linkspan.analysis.intervals import Intervals, interval, to_intervals, to_points
from linkspan.analysis.traced import Derived, Partition, Traced

if TYPE_CHECKING:
    from linkspan.analysis.sets import Collection, Found
    from linkspan.analysis.values import Span, Value

_HIGHEST = 1 << 128
Number = tuple[int, int]


class Row(NamedTuple):
    """An element by its traced parts: from and to of each."""

    spans: tuple[Number, ...]
    data: Any


class Pairs:
    """Elements of single values with two traced parts, found from either part."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.by_part: tuple[dict[int, dict[int, Any]], dict[int, dict[int, Any]]] = ({}, {})
        for ((first, _), (second, _)), data in rows:
            self.by_part[0].setdefault(first, {})[second] = data
            self.by_part[1].setdefault(second, {})[first] = data
        self.all = (to_points(self.by_part[0]), to_points(self.by_part[1]))
        self._beside: tuple[dict[int, Intervals], dict[int, Intervals]] = ({}, {})

    def beside(self, part: int, number: int) -> Intervals:
        """The other part's values that occur with a value of one part."""
        held = self._beside[part]
        if number not in held:
            held[number] = to_points(self.by_part[part].get(number, ()))
        return held[number]


class Prepared:
    """The elements of a collection that fit the plain parts of a key."""

    def __init__(self, exact: list[Row], wide: list[Row]) -> None:
        self.exact, self.wide = exact, wide
        self.pairs = Pairs(exact) if exact and len(exact[0].spans) == 2 else None
        self.partition: Partition[Found] | None = None


def look_up_traced(collection: Collection, key: Sequence[Value]) -> Found:
    """What a key with traced parts finds (no part of it is unknown)."""
    places = tuple(place for place, part in enumerate(key) if isinstance(part, Traced))
    plain = tuple(int(part) if isinstance(part, Traced) else part for part in key)
    found = collection.look_up(plain)
    parts = [part for part in key if isinstance(part, Traced)]
    if any(type(part) is Derived for part in parts):
        for part in parts:
            part.pin()
        return found
    others = tuple(part for place, part in enumerate(plain) if place not in places)
    held: Prepared | None = collection.prepared.get((places, others))
    if held is None:
        held = _prepare(collection, places, others)
        collection.prepared[places, others] = held
    if len(parts) == 1:
        if held.partition is None:
            held.partition = _divide(collection, plain, places[0], held)
        held.partition.find(parts[0])
        return found
    _narrow(held, parts, bool(found.data))
    return found


def _prepare(
    collection: Collection, places: tuple[int, ...], others: tuple[Value, ...]
) -> Prepared:
    """The elements whose plain parts a key has, in the order in which they count."""
    from linkspan.analysis.sets import holds

    rest = tuple(place for place in range(len(collection.kinds)) if place not in places)
    exact = [
        Row(tuple((row[place], row[place]) for place in places), data)
        for row, data in collection.exact.items()
        if all(row[place] == part for place, part in zip(rest, others, strict=True))
    ]
    wide = [
        Row(tuple(_numbers(spans[place]) for place in places), data)
        for spans, data in collection.wide
        if all(holds(spans[place], part) for place, part in zip(rest, others, strict=True))
    ]
    return Prepared(exact, wide)


def _numbers(span: Span) -> Number:
    first, last = span
    if isinstance(first, int) and isinstance(last, int):
        return first, last
    return 1, 0


def _divide(
    collection: Collection, key: tuple[Value, ...], place: int, held: Prepared
) -> Partition[Found]:
    edges = {
        edge for row in (*held.exact, *held.wide) for edge in (row.spans[0][0], row.spans[0][1] + 1)
    }

    def answer(number: int) -> Found:
        return collection.look_up((*key[:place], number, *key[place + 1 :]))

    return Partition(edges, _HIGHEST, answer)


def _narrow(held: Prepared, parts: list[Traced], hit: bool) -> None:
    """Narrow to what finds the same element, or none as well."""
    numbers = [int(part) for part in parts]
    point = tuple((number, number) for number in numbers)
    own = next((row for row in held.exact if row.spans == point), None) if hit else None
    before: list[Row] = []
    if hit and own is None:
        for row in held.wide:
            if _fits(row, numbers):
                own = row
                break
            before.append(row)
        before += held.exact
    if own is None and hit:
        for part in parts:
            part.pin()
        return
    if own is not None:
        if own.spans == point and held.pairs is not None:
            _narrow_pair(held.pairs, parts, numbers, own.data)
            return
        for part, (first, last) in zip(parts, own.spans, strict=True):
            part.keep(interval(first, last))
        _avoid(before, parts, numbers)
        return
    if held.pairs is not None:
        _avoid_pairs(held.pairs, parts, numbers)
        _avoid(held.wide, parts, numbers)
    else:
        _avoid([*held.exact, *held.wide], parts, numbers)


def _fits(row: Row, numbers: list[int]) -> bool:
    return all(
        first <= number <= last for (first, last), number in zip(row.spans, numbers, strict=True)
    )


def _narrow_pair(pairs: Pairs, parts: list[Traced], numbers: list[int], data: Hashable) -> None:
    """An element of single values is found: others with the same data count as well."""
    same = [
        to_points(other for other, its in pairs.by_part[part][numbers[part]].items() if its == data)
        for part in (0, 1)
    ]
    wider = 0 if same[0].count >= same[1].count else 1
    parts[wider].pin()
    parts[1 - wider].keep(same[wider])


def _avoid_pairs(pairs: Pairs, parts: list[Traced], numbers: list[int]) -> None:
    best: tuple[int, Intervals, int, Intervals] | None = None
    for first in (0, 1):
        number = numbers[first]
        along = pairs.all[first].without(number, number)
        across = pairs.beside(first, number)
        cost = len(along) + len(across)
        if best is None or cost < len(best[1]) + len(best[3]):
            best = (first, along, 1 - first, across)
    assert best is not None
    for part, values in (best[:2], best[2:]):
        parts[part].among(values)


def _avoid(rows: Iterable[Row], parts: list[Traced], numbers: list[int]) -> None:
    """Cut away elements that were not found, each along a field in which it was missed."""
    missed = [
        [
            place
            for place, ((first, last), number) in enumerate(zip(row.spans, numbers, strict=True))
            if not first <= number <= last
        ]
        for row in rows
    ]
    rows = list(rows)
    best: dict[int, set[Number]] | None = None
    for preferred in range(len(parts)):
        cuts: dict[int, set[Number]] = {}
        for row, places in zip(rows, missed, strict=True):
            place = preferred if preferred in places else places[0]
            cuts.setdefault(place, set()).add(row.spans[place])
        if best is None or sum(map(len, cuts.values())) < sum(map(len, best.values())):
            best = cuts
    for place, spans in (best or {}).items():
        parts[place].among(to_intervals(span for span in spans if span[0] <= span[1]))
