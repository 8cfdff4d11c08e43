"""Long chains without looking at every rule: rules in a row that want one field to have one
value each are found by that value.

A rule that wants another value than the packet has decides nothing, whatever else it says: what
stands before that test is only tests.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from linkspan.analysis.fields import Load, compile_field
from linkspan.analysis.intervals import Intervals, to_points
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.ruling import CompiledRule
from linkspan.analysis.traced import Traced
from linkspan.analysis.values import MISSING, UNKNOWN, to_span
from linkspan.dataplane.rules import (
    Counter,
    Expression,
    FirewallRule,
    Flags,
    Log,
    Match,
    Meta,
    Named,
    Payload,
    Range,
    SetOf,
)

LEAST = 8
"""Rules in a row from which it is quicker to look a value up than to run them."""
_PORTS = ("sport", "dport")
_FIELDS = frozenset(("saddr", "daddr", *_PORTS))


class Block(NamedTuple):
    """Rules in a row: those for each value of a field, or simply all of them."""

    rules: Sequence[CompiledRule]
    load: Load | None = None
    by_value: Mapping[Any, Sequence[CompiledRule]] = MappingProxyType({})
    values: Intervals = Intervals()
    """The values that are numbers."""

    def for_packet(self, packet: Packet) -> Sequence[CompiledRule]:
        """The rules that can decide something on a packet."""
        if self.load is None:
            return self.rules
        value = self.load(packet)
        if value is MISSING:
            return ()
        if value is UNKNOWN:
            return self.rules
        if isinstance(value, Traced) and not value.among(self.values):
            return ()
        return self.by_value.get(value, ())


def divide(rules: Sequence[CompiledRule], place: Place) -> list[Block]:
    """The rules of a chain as blocks, in their order."""
    blocks: list[Block] = []
    wanted = [_wanted(one.rule, place) for one in rules]
    start = 0
    plain: list[CompiledRule] = []
    while start < len(rules):
        common = set(wanted[start])
        end = start + 1
        while end < len(rules) and common & wanted[end].keys():
            common &= wanted[end].keys()
            end += 1
        if not common or end - start < LEAST:
            # The next row may begin anywhere in this one.
            plain.append(rules[start])
            start += 1
            continue
        if plain:
            blocks.append(Block(plain))
            plain = []
        blocks.append(_index(rules[start:end], wanted[start:end], common, place))
        start = end
    if plain:
        blocks.append(Block(plain))
    return blocks


def run_through(blocks: Sequence[Block], packet: Packet) -> Iterator[CompiledRule]:
    """The rules that can decide something on a packet, in their order."""
    for block in blocks:
        yield from block.for_packet(packet)


def _index(
    rules: Sequence[CompiledRule], wanted: Sequence[dict[Expression, Any]],
    common: set[Expression], place: Place,
) -> Block:  # fmt: skip
    """A block by the field that tells its rules apart best."""
    field = max(
        sorted(common, key=repr), key=lambda one: len({row[one] for row in wanted})
    )  # fmt: skip
    by_value: dict[Any, list[CompiledRule]] = {}
    for rule, row in zip(rules, wanted, strict=True):
        by_value.setdefault(row[field], []).append(rule)
    numbers = to_points(value for value in by_value if isinstance(value, int))
    return Block(rules, compile_field(field, place).load, by_value, numbers)


def _wanted(rule: FirewallRule, place: Place) -> dict[Expression, Any]:
    """The fields that a rule wants to have one value, before it does anything."""
    found: dict[Expression, Any] = {}
    for statement in rule.statements:
        if isinstance(statement, (Counter, Log, Flags)):
            continue
        if not isinstance(statement, Match):
            break
        left, right = statement.left, statement.right
        if statement.op != "==" or isinstance(right, (Named, SetOf, Range)):
            continue
        if not _is_plain(left):
            continue
        try:
            first, last = to_span(compile_field(left, place).kind, right)
        except ValueError:
            continue
        if first == last and not (isinstance(first, str) and first.endswith("*")):
            found[left] = first
    return found


def _is_plain(left: Expression) -> bool:
    if isinstance(left, Meta):
        return left.field in ("iifname", "oifname")
    return isinstance(left, Payload) and left.field in _FIELDS and left.protocol != "arp"
