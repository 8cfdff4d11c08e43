"""Chains as facts: which rules may change places, and what each says about a namespace.

The order of rules counts, except where neighbouring rules cannot shadow each other: when all
of them decide the same, or each tests a field for a value of its own.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from linkspan.analysis.flow import PROTOCOLS
from linkspan.analysis.symmetry_terms import Fact, find_mines, owners_of, told
from linkspan.dataplane.rules import (
    Counter,
    Expression,
    FirewallRule,
    Flags,
    Limit,
    Log,
    Match,
    Meta,
    Nat,
    Payload,
    Reject,
    SetOf,
    Statement,
    Verdict,
)

_PURE = (Match, Flags, Counter, Log, Limit)


class ReadChain(NamedTuple):
    """A chain: where it is, and its rules with what they say."""

    where: Fact
    rules: list[tuple[FirewallRule, Any]]

    def facts(self, settle: Callable[[Any], Any]) -> Iterator[Fact]:
        """What the chain says about each namespace; rules between two that name nobody are
        one block. `settle` makes numbers of the ports that belong to nobody.
        """
        block: list[tuple[FirewallRule, Any]] = []
        number = 0
        for rule, unsettled in self.rules:
            term = settle(unsettled)
            if find_mines(term):
                members = _members(term, rule)
                if members is None:
                    block.append((rule, term))
                    continue
                for member in members:
                    yield (*self.where, number, "member", *member)
            yield from self._block_facts(number, block)
            block = []
            number += 1
        yield from self._block_facts(number, block)

    def _block_facts(self, number: int, block: list[tuple[FirewallRule, Any]]) -> Iterator[Fact]:
        for place, part in enumerate(_divide(block)):
            # Rules of one owner keep their own order.
            numbers: Tally[frozenset[str]] = Tally()
            for _, term in part:
                whose = frozenset(owners_of(term))
                yield (*self.where, number, place, "block", numbers[whose], term)
                numbers[whose] += 1


def _members(term: Any, rule: FirewallRule) -> list[Fact] | None:
    """A rule whose anonymous set names several namespaces, a row each: what it says of each.
    None for other rules.
    """
    found: list[Fact] = []
    statements = told(rule)
    if len(statements) != len(term):
        return None
    for place, (statement, part) in enumerate(zip(statements, term, strict=True)):
        if isinstance(statement, Match) and isinstance(statement.right, SetOf):
            if find_mines(part[:-1]):
                return None
            found += [(place, statement.op, row) for row in part[-1] if find_mines(row)]
        elif find_mines(part):
            return None
    return found if len({o for fact in found for o in owners_of(fact)}) > 1 else None


# Which rules may change places --------------------------------------------------------


def _divide(block: list[tuple[FirewallRule, Any]]) -> Iterator[list[tuple[FirewallRule, Any]]]:
    """Rules in a row as parts within which those of different owners may change places."""
    start = 0
    while start < len(block):
        decision = _decision(block[start][0])
        alike = start + 1
        while decision is not None and alike < len(block):
            if _decision(block[alike][0]) != decision:
                break
            alike += 1
        end = max(alike, _exclude_up_to(block, start))
        yield block[start:end]
        start = end


def _decision(rule: FirewallRule) -> Statement | None:
    """What a rule that otherwise only tests decides."""
    statements = told(rule)
    if not statements:
        return None
    *tests, last = statements
    if not isinstance(last, (Verdict, Reject, Nat)) or getattr(last, "target", None):
        return None
    return last if all(isinstance(test, _PURE) for test in tests) else None


def _exclude_up_to(block: list[tuple[FirewallRule, Any]], start: int) -> int:
    """The end of the rules of which no packet is for two that speak of different owners."""
    rows: list[tuple[dict[Expression, Any], frozenset[str]]] = []
    fields: list[Expression] = []
    whose: dict[tuple[Any, ...], frozenset[str]] = {}
    for place in range(start, len(block)):
        rule, term = block[place]
        row = (_wanted(rule), frozenset(owners_of(term)))
        rows.append(row)
        left = sorted(row[0], key=repr) if place == start else [f for f in fields if f in row[0]]
        again = [row]
        if left != fields:
            # Fewer fields tell them apart: those before have to be looked at again.
            again, whose, fields = rows, {}, left
        for wanted, owners in again:
            if whose.setdefault(tuple(wanted[one] for one in fields), owners) != owners:
                return place
        if not fields:
            return max(place, start + 1)
    return len(block)


def _wanted(rule: FirewallRule) -> dict[Expression, Any]:
    """Fields that a rule wants to have one value."""
    found: dict[Expression, Any] = {}
    for statement in told(rule):
        if not isinstance(statement, Match):
            if not isinstance(statement, _PURE):
                break
            continue
        right: Any = statement.right
        if isinstance(right, SetOf) and len(right.values) == 1:
            right = right.values[0]
        if statement.op == "==" and isinstance(right, (str, int)):
            value = _exact(statement.left, right)
            if value is not None:
                found[statement.left] = value
    return found


def _exact(left: Expression, right: str | int) -> str | int | None:
    """The single value that a field is compared with; None where two texts may mean one."""
    match left:
        case Payload(_, "saddr" | "daddr") if isinstance(right, str):
            plain = right.removesuffix("/32").removesuffix("/128").lower()
            return None if "/" in plain or "-" in plain else plain
        case Payload(_, "sport" | "dport"):
            return right if isinstance(right, int) else None
        case Meta("l4proto") | Payload("ip", "protocol"):
            return PROTOCOLS.get(right) if isinstance(right, str) else right
        case Meta("iifname" | "oifname") if isinstance(right, str):
            return None if right.endswith("*") else right
    return None
