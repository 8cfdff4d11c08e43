"""Numbers that remember what was asked of them: no question goes past them unseen."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkspan.analysis.addresses import Prefix, to_text
from linkspan.analysis.intervals import interval, to_intervals, to_points
from linkspan.analysis.traced import Derived, DerivedText, Partition, Region, Traced

MOST = 255


def begin(number: int, other: int = 7) -> tuple[Region, Traced]:
    region = Region(
        {"port": interval(0, MOST), "other": interval(0, MOST)}, {"port": number, "other": other}
    )
    return region, region.fields["port"]


QUESTIONS: dict[str, Callable[[int, int], Any]] = {
    "==": lambda x, c: x == c,
    "reflected ==": lambda x, c: c == x,
    "!=": lambda x, c: x != c,
    "<": lambda x, c: x < c,
    "<=": lambda x, c: x <= c,
    ">": lambda x, c: x > c,
    ">=": lambda x, c: x >= c,
    "reflected <": lambda x, c: c < x,
    "in range": lambda x, c: c <= x <= c + 10,
    "in a tuple": lambda x, c: x in (c, c + 3),
    "in a list": lambda x, c: c in [x],
    "tuples": lambda x, c: (1, x) == (1, c),
    "in range()": lambda x, c: x in range(c, c + 4),
    "min": lambda x, c: min(x, c) == c,
    "max": lambda x, c: max(c, x) == c,
    "sorted": lambda x, c: sorted((c, x))[0] == c,
    "bisect": lambda x, c: bisect_right([10, 100, 200], x),
    "dict": lambda x, c: {c: 1}.get(x),
    "set": lambda x, c: x in {c, 5},
    "hash": lambda x, c: hash(x),
    "bool": lambda x, c: bool(x),
    "not": lambda x, c: not x,
    "or": lambda x, c: (x or c) == c,
    "& mask": lambda x, c: x & 0xF0,
    "reflected &": lambda x, c: 0xF0 & x,
    "& odd mask": lambda x, c: x & 0x52,
    ">>": lambda x, c: x >> 4,
    "<<": lambda x, c: x << 1,
    "reflected <<": lambda x, c: 1 << x,
    "|": lambda x, c: x | c,
    "^": lambda x, c: c ^ x,
    "~": lambda x, c: ~x,
    "+": lambda x, c: x + 1,
    "sum": lambda x, c: sum((x, c)),
    "-": lambda x, c: c - x,
    "*": lambda x, c: x * 3,
    "//": lambda x, c: x // 10,
    "%": lambda x, c: x % 10,
    "divmod": lambda x, c: divmod(x, 10),
    "/": lambda x, c: x / 2,
    "**": lambda x, c: x**2,
    "abs": lambda x, c: abs(x),
    "-x": lambda x, c: -x,
    "round": lambda x, c: round(x, -1),
    "float": lambda x, c: float(x),
    "floor": lambda x, c: math.floor(x),
    "bit_length": lambda x, c: x.bit_length(),
    "to_bytes": lambda x, c: x.to_bytes(2, "big"),
    "match": lambda x, c: _matched(x),
    "prefix": lambda x, c: Prefix(4, 16, 28).holds(x),
}


def _matched(number: int) -> str:
    match number:
        case 80:
            return "web"
        case 22:
            return "ssh"
    return "other"


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_other_value_of_the_region_gives_the_same_answer(name: str):
    ask = QUESTIONS[name]
    for number in (0, 1, 5, 16, 22, 42, 80, 100, 254):
        for constant in (0, 5, 22, 42, 100, 200):
            region, traced = begin(number)
            answer = ask(traced, constant)
            assert answer == ask(number, constant)
            left = region.held["port"]
            assert number in left
            wrong = [
                other
                for first, last in left
                for other in range(first, last + 1)
                if ask(other, constant) != answer
            ]
            assert wrong == [], (name, number, constant, left)


def test_comparisons_keep_as_much_as_they_can():
    for ask, left in (
        (lambda x: x == 80, [(80, 80)]),
        (lambda x: x == 81, [(0, 80), (82, MOST)]),
        (lambda x: x < 100, [(0, 99)]),
        (lambda x: x >= 81, [(0, 80)]),
        (lambda x: x.between(10, 90), [(10, 90)]),
        (lambda x: x.between(90, 95), [(0, 89), (96, MOST)]),
        (lambda x: x.among(to_points((1, 80, 90))), [(1, 1), (80, 80), (90, 90)]),
        (lambda x: x.among(to_points((1, 90))), [(0, 0), (2, 89), (91, MOST)]),
        (lambda x: x & 0xF0, [(80, 95)]),
        (lambda x: x >> 4, [(80, 95)]),
        (lambda x: bool(x), [(1, MOST)]),
    ):
        region, traced = begin(80)
        ask(traced)
        assert list(region.held["port"]) == left


def test_reading_the_number_asks_nothing():
    region, traced = begin(80)
    assert (int(traced), f"{traced}", str(traced), to_text(traced, 4)) == (
        80, "80", "80", "0.0.0.80"
    )  # fmt: skip
    assert type(int(traced)) is int
    assert list(region.held["port"]) == [(0, MOST)]


@given(st.integers(0, 20), st.integers(0, 20), st.sets(st.integers(0, 20)))
def test_two_fields_compared(one: int, other: int, allowed: set[int]):
    region = Region(
        {"a": interval(0, 20), "b": to_points({*allowed, other})}, {"a": one, "b": other}
    )
    answer = region.fields["a"] == region.fields["b"]
    assert answer == (one == other)
    for first in range(21):
        for second in range(21):
            if first in region.held["a"] and second in region.held["b"]:
                assert (first == second) == answer
    assert one in region.held["a"]
    assert other in region.held["b"]


def test_a_field_is_itself():
    region, traced = begin(80)
    assert traced == Traced(80, region, "port")
    assert (traced,) == (traced,)
    assert list(region.held["port"]) == [(0, MOST)]


def test_what_was_recorded_narrows_another_region():
    region, traced = begin(80)
    with region.recorded() as constraints:
        assert traced > 50
        assert traced != 90
    other, _ = begin(60)
    assert other.apply(constraints)
    assert list(other.held["port"]) == [(51, 89), (91, MOST)]
    third, _ = begin(90)
    assert not third.apply(constraints)
    assert list(third.held["port"]) == [(0, MOST)]


def test_a_derived_number_pins_only_where_its_origin_decides():
    region, traced = begin(80)
    derived = Derived(1000 + traced, traced, 1000, 1255)
    region.held["port"] = interval(0, MOST)
    assert derived > 900
    assert not derived.between(0, 999)
    assert derived >> 20 == 0
    assert list(region.held["port"]) == [(0, MOST)]
    assert derived == 1080
    assert list(region.held["port"]) == [(80, 80)]


def test_a_derived_text_pins_where_its_end_decides():
    region, traced = begin(80)
    text = DerivedText("33:33:ff:00:00:50", traced, "33:33:ff:")
    assert text != "ff:ff:ff:ff:ff:ff"
    assert not {"ff:ff:ff:ff:ff:ff": 1}.keys() & {"x"}
    assert list(region.held["port"]) == [(0, MOST)]
    assert text == "33:33:ff:00:00:50"
    assert list(region.held["port"]) == [(80, 80)]


@given(st.sets(st.integers(0, MOST)), st.integers(0, MOST))
def test_a_partition_keeps_all_with_the_same_answer(edges: set[int], number: int):
    ordered = sorted(edges)

    def answer(value: int) -> int:
        return bisect_right(ordered, value) % 3

    partition = Partition(edges, MOST, answer)
    region, traced = begin(number)
    assert partition.find(number) == partition.find(traced) == answer(number)
    same = to_intervals((n, n) for n in range(MOST + 1) if answer(n) == answer(number))
    assert region.held["port"] == same
