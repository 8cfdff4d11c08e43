"""Tests of the rule language: functions that say whether a packet passes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from linkspan.analysis.fields import compile_field
from linkspan.analysis.lookups import Sets, compile_lookup
from linkspan.analysis.outcomes import Action, Outcome, Run
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.sets import matches_name
from linkspan.analysis.traced import lies_between
from linkspan.analysis.values import MISSING, UNKNOWN, to_span, to_value
from linkspan.dataplane.rules import (
    Concat,
    Expression,
    Named,
    Range,
    SetOf,
)


def compile_match(left: Expression, right: object, op: str, place: Place, sets: Sets) -> Action:
    """A comparison with a value, range, prefix or set."""
    if isinstance(right, (Named, SetOf)):
        return _membership(left, right, op == "!=", place, sets)
    if isinstance(left, Concat) and len(left.parts) > 1:
        return _membership(left, SetOf((right,)), op == "!=", place, sets)  # type: ignore[arg-type]
    field = compile_field(left, place)
    load = field.load
    assert isinstance(right, (str, int, Range))
    if field.kind == "iface_index":
        right = _name_link(right, place)
    first, last = to_span(field.kind, right)
    test = _comparison(first, last, op)

    def match(packet: Packet, run: Run) -> Outcome:
        value = load(packet)
        if value is MISSING:
            return False
        return None if value is UNKNOWN else test(value)

    return match


def _name_link(right: str | int | Range, place: Place) -> str | Range:
    """What an interface index is compared with, by name; "missing" and 0 are no link."""
    if isinstance(right, (bool, Range)):
        raise NotImplementedError
    if right in ("missing", 0):
        return ""
    return place.link_by_number(right) if isinstance(right, int) else right


def _comparison(first: Any, last: Any, op: str) -> Callable[[Any], bool]:
    match op:
        case "==" if isinstance(first, str):
            if first.endswith("*"):
                return lambda value: matches_name(first, value)
            return lambda value: bool(value == first)
        case "!=" if isinstance(first, str):
            return lambda value: not matches_name(first, value)
        case "==" if first == last:
            return lambda value: bool(value == first)
        case "==":
            return lambda value: lies_between(value, first, last)
        case "!=":
            return lambda value: not lies_between(value, first, last)
        case "<":
            return lambda value: bool(value < first)
        case ">":
            return lambda value: bool(value > last)
        case "<=":
            return lambda value: bool(value <= last)
        case ">=":
            return lambda value: bool(value >= first)
    raise NotImplementedError(op)


def _membership(
    left: Expression, right: Named | SetOf, invert: bool, place: Place, sets: Sets
) -> Action:
    look_up = compile_lookup(left, right.name if isinstance(right, Named) else None,
                       () if isinstance(right, Named) else [(row, None) for row in right.values],
                       place, sets)  # fmt: skip

    def member(packet: Packet, run: Run) -> Outcome:
        found = look_up(packet)
        if found is MISSING:
            return False
        if found is UNKNOWN:
            return None
        data, may_miss = found
        if not data:
            return invert
        return None if may_miss else not invert

    return member


def compile_flags(left: Expression, names: tuple[str, ...], invert: bool, place: Place) -> Action:
    """Any of the named bits (none of them with `invert`)."""
    field = compile_field(left, place)
    bits = 0
    for name in names:
        bits |= int(to_value(field.kind, name))

    def flags(packet: Packet, run: Run) -> Outcome:
        value = field.load(packet)
        if value is MISSING:
            return False
        if not isinstance(value, int):
            return None
        return bool(value & bits) != invert

    return flags
