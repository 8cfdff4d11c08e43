"""Numbers that remember what was asked of them.

A walk decides by a packet's addresses and ports. When these are `Traced`, every question that
is asked of one narrows the run's `Region`: to all values of that header field for which the
answer would have been the same. What the walk found then holds for every packet of the region.

Comparisons narrow exactly. Whatever is not taught here pins the field to its one value: hashing,
arithmetic, bits. `int(number)` reads the plain number and asks nothing: for texts and records.
C code that takes an int apart without calling its methods does the same (`seq[number]`,
`struct.pack`, `range(number)`, "%d" and f-strings): a walk must not decide by those.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Generic, NamedTuple, TypeVar

from linkspan.analysis.intervals import Intervals, interval, to_intervals

T = TypeVar("T", bound=Hashable)
_HIGHEST = 1 << 130
"""Above every address and port."""


class Constraint(NamedTuple):
    """What a field was narrowed to: values in these intervals, or (not `inside`) no others."""

    field: str
    values: Intervals
    inside: bool


class Region:
    """The values of each header field for which a walk goes the same way."""

    __slots__ = ("_recordings", "answering", "arriving", "fields", "follows_answers", "held")

    def __init__(self, held: dict[str, Intervals], representative: Mapping[str, int]) -> None:
        self.held = dict(held)
        self.fields = {name: Traced(number, self, name) for name, number in representative.items()}
        self._recordings: list[list[Constraint]] = []
        self.arriving: dict[str, Intervals] | None = None
        """The fields as the first packet alone narrows them, once it has arrived."""
        self.answering = False
        self.follows_answers = True
        """Whether what comes after the first packet is walked, too."""

    def begin_answer(self) -> None:
        """What follows is asked for the packets behind the first one."""
        if self.arriving is None:
            self.arriving = dict(self.held)
        self.answering = True

    def _narrow(self, field: str, change: Callable[[Intervals], Intervals]) -> None:
        self.held[field] = change(self.held[field])
        if self.arriving is not None and not self.answering:
            self.arriving[field] = change(self.arriving[field])

    def keep(self, field: str, values: Intervals) -> None:
        """Narrow a field to some values."""
        if self._recordings:
            self._recordings[-1].append(Constraint(field, values, True))
        self._narrow(field, lambda held: held & values)

    def drop(self, field: str, values: Intervals) -> None:
        """Narrow a field to all but some values."""
        if self._recordings:
            self._recordings[-1].append(Constraint(field, values, False))
        self._narrow(field, lambda held: held - values)

    def keep_range(self, field: str, first: int, last: int) -> None:
        """Narrow a field to the values from `first` to `last`."""
        if self._recordings:
            self._recordings[-1].append(Constraint(field, interval(first, last), True))
        self._narrow(field, lambda held: held.within(first, last))

    def drop_range(self, field: str, first: int, last: int) -> None:
        """Narrow a field to the values before `first` and behind `last`."""
        if self._recordings:
            self._recordings[-1].append(Constraint(field, interval(first, last), False))
        self._narrow(field, lambda held: held.without(first, last))

    @contextmanager
    def recorded(self) -> Iterator[list[Constraint]]:
        """All narrowing that happens inside, so that it can be `apply`-ed again elsewhere."""
        found: list[Constraint] = []
        self._recordings.append(found)
        try:
            yield found
        finally:
            self._recordings.pop()
            if self._recordings:
                self._recordings[-1].extend(found)

    def apply(self, constraints: Iterable[Constraint]) -> bool:
        """Narrow by what was recorded; False, and nothing done, where a value does not fit."""
        for field, values, inside in constraints:
            number = self.fields.get(field)
            if number is None or (int(number) in values) is not inside:
                return False
        for field, values, inside in constraints:
            (self.keep if inside else self.drop)(field, values)
        return True


class Traced(int):
    """The value of a header field: an int that narrows its region when it is compared."""

    region: Region
    field: str

    def __new__(cls, number: int, region: Region, field: str) -> Traced:
        """A number, the region that it belongs to, and its field there."""
        made = super().__new__(cls, number)
        made.region, made.field = region, field
        return made

    # What narrows exactly -------------------------------------------------------------

    def pin(self) -> int:
        """Narrow to this one value, and give it as a plain number."""
        number = int(self)
        self.region.keep_range(self.field, number, number)
        return number

    def between(self, first: int, last: int) -> bool:
        """Whether it lies from `first` to `last`."""
        if first <= int(self) <= last:
            self.region.keep_range(self.field, first, last)
            return True
        if first <= last:
            self.region.drop_range(self.field, first, last)
        return False

    def among(self, values: Intervals) -> bool:
        """Whether it is one of some values."""
        if int(self) in values:
            self.region.keep(self.field, values)
            return True
        self.region.drop(self.field, values)
        return False

    def keep(self, values: Intervals) -> None:
        """Narrow to values that are treated alike, of which this is one."""
        self.region.keep(self.field, values)

    def high_bits(self, free: int) -> int:
        """The number with its lowest `free` bits cleared."""
        first = int(self) >> free << free
        self.region.keep_range(self.field, first, first | (1 << free) - 1)
        return first

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Traced):
            return _is_same(self, other)
        if not isinstance(other, int):
            return NotImplemented
        return self.between(other, other)

    def __ne__(self, other: object) -> bool:
        same = self.__eq__(other)
        return same if same is NotImplemented else not same

    def __lt__(self, other: int) -> bool:
        return not self.__ge__(other)

    def __gt__(self, other: int) -> bool:
        return not self.__le__(other)

    def __le__(self, other: int) -> bool:
        return self.between(0, _plain(other))

    def __ge__(self, other: int) -> bool:
        return self.between(_plain(other), _HIGHEST)

    def __bool__(self) -> bool:
        return not self.between(0, 0)

    def __and__(self, mask: int) -> int:
        mask = _plain(mask)
        if mask <= 0:
            return 0 if mask == 0 else self.pin() & mask
        return self.high_bits((mask & -mask).bit_length() - 1) & mask

    __rand__ = __and__

    def __rshift__(self, bits: int) -> int:
        bits = _plain(bits)
        return self.high_bits(bits) >> bits

    # What pins ------------------------------------------------------------------------

    def __hash__(self) -> int:
        return hash(self.pin())

    def __index__(self) -> int:
        return self.pin()


def _plain(number: Any) -> Any:
    return number.pin() if isinstance(number, Traced) else number


def _is_same(one: Traced, other: Traced) -> bool:
    """Whether two fields have the same value; other values of each keep the answer."""
    if one is other or (one.field == other.field and type(one) is type(other) is Traced):
        return True
    if int(one) == int(other):
        one.pin(), other.pin()
        return True
    if type(one) is not Traced or type(other) is not Traced:
        return one.pin() == other.pin()
    region = one.region
    few, many = sorted((one, other), key=lambda number: region.held[number.field].count)
    own, others = region.held[few.field], region.held[many.field]
    if int(many) in own:
        own = interval(few.pin(), int(few))
    few.keep(own)
    many.keep(others - own)
    return False


def _pinning(name: str) -> Callable[..., Any]:
    plain = getattr(int, name)

    def pinned(self: Traced, *others: Any) -> Any:
        return plain(self.pin(), *map(_plain, others))

    pinned.__name__ = name
    return pinned


for _name in (
    "add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv", "truediv", "rtruediv",
    "mod", "rmod", "divmod", "rdivmod", "pow", "rpow", "lshift", "rlshift", "rrshift", "or",
    "ror", "xor", "rxor", "neg", "pos", "abs", "invert", "float", "round", "trunc", "floor",
    "ceil",
):  # fmt: skip
    setattr(Traced, f"__{_name}__", _pinning(f"__{_name}__"))
for _name in ("bit_length", "bit_count", "to_bytes", "as_integer_ratio", "conjugate"):
    setattr(Traced, _name, _pinning(_name))


class Derived(Traced):
    """A number that was made of a traced one, somewhere from `lowest` to `highest`: a question
    that has one answer for all of these asks nothing, any other pins the origin.
    """

    origin: Traced
    lowest: int
    highest: int

    def __new__(cls, number: int, origin: Traced, lowest: int, highest: int) -> Derived:
        """A number made of `origin`, and the ends of what it can be."""
        made = int.__new__(cls, number)
        made.region, made.field = origin.region, origin.field
        made.origin, made.lowest, made.highest = origin, lowest, highest
        return made

    def pin(self) -> int:
        """Narrow the origin to its one value; this number as a plain one."""
        self.origin.pin()
        return int(self)

    def between(self, first: int, last: int) -> bool:
        """Whether it lies from `first` to `last`."""
        if last < self.lowest or first > self.highest:
            return False
        if first <= self.lowest and self.highest <= last:
            return True
        return first <= self.pin() <= last

    def among(self, values: Intervals) -> bool:
        """Whether it is one of some values."""
        reached = values.within(self.lowest, self.highest)
        if not reached:
            return False
        return self.pin() in values

    def keep(self, values: Intervals) -> None:
        """Narrow to values that are treated alike."""
        if values.within(self.lowest, self.highest) != interval(self.lowest, self.highest):
            self.pin()

    def high_bits(self, free: int) -> int:
        """The number with its lowest `free` bits cleared."""
        if self.lowest >> free == self.highest >> free:
            return self.lowest >> free << free
        return self.pin() >> free << free


class DerivedText(str):
    """A text that was made of a traced number, behind a beginning that is always the same."""

    origin: Traced
    beginning: str

    def __new__(cls, text: str, origin: Traced, beginning: str) -> DerivedText:
        """A text made of `origin`, and how it begins in any case."""
        made = super().__new__(cls, text)
        made.origin, made.beginning = origin, beginning
        return made

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) and not other.startswith(self.beginning):
            return False
        self.origin.pin()
        return str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        self.origin.pin()
        return str.__hash__(self)


# Asking numbers that may be traced ----------------------------------------------------


def lies_between(number: int, first: int, last: int) -> bool:
    """Whether a number lies from `first` to `last`."""
    if isinstance(number, Traced):
        return number.between(first, last)
    return first <= number <= last


def is_traced(*numbers: int | None) -> bool:
    """Whether one of these is traced."""
    return any(isinstance(number, Traced) for number in numbers)


class Partition(Generic[T]):
    """All numbers from 0 to a last one, divided into sets that have one answer each."""

    __slots__ = ("_answers", "_sets", "_starts")

    def __init__(self, edges: Iterable[int], last: int, answer: Callable[[int], T]) -> None:
        """`edges` are the numbers at which the answer can change; `answer` is asked once for
        each stretch between them.
        """
        starts = sorted({0, *(edge for edge in edges if 0 <= edge <= last)})
        self._starts: list[int] = []
        self._answers: list[T] = []
        stretches: dict[T, list[tuple[int, int]]] = {}
        for place, start in enumerate(starts):
            end = starts[place + 1] - 1 if place + 1 < len(starts) else last
            found = answer(start)
            stretches.setdefault(found, []).append((start, end))
            if not self._answers or self._answers[-1] != found:
                self._starts.append(start)
                self._answers.append(found)
        self._sets: dict[T, Intervals] = {
            found: to_intervals(spans) for found, spans in stretches.items()
        }

    def find(self, number: int) -> T:
        """The answer for a number; a traced one narrows to all that have the same."""
        found = self._answers[bisect_right(self._starts, int(number)) - 1]
        if isinstance(number, Traced):
            number.keep(self._sets[found])
        return found

    def sets(self) -> dict[T, Intervals]:
        """The numbers of each answer."""
        return self._sets
