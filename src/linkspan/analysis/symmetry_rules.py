"""Firewall rules as facts: what a rule says about which namespace, and where in its chain.

The order of rules counts, except where neighbouring rules cannot shadow each other: when all
of them decide the same, or each tests a field for a value of its own.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator
from typing import Any

import msgspec

from linkspan.analysis.symmetry_chains import ReadChain
from linkspan.analysis.symmetry_names import Names
from linkspan.analysis.symmetry_terms import (
    Fact,
    Mine,
    PublishedPort,
    find_mines,
    told,
)
from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import (
    Chain,
    Concat,
    Ct,
    Expression,
    Fib,
    FirewallRule,
    Lookup,
    Masked,
    Match,
    Meta,
    Named,
    Nat,
    Opaque,
    Payload,
    Range,
    SetOf,
    Statement,
    Table,
    Verdict,
    VerdictMap,
)

_ADDRESS_WORDS = ("saddr", "daddr")
_NUMBERED = ("iif", "oif")


class TableReader:
    """Turns the tables and set elements of one namespace into terms and facts."""

    def __init__(self, names: Names, namespace: str) -> None:
        self._names = names
        self._namespace = namespace
        self._place = names.view.place(namespace)
        self._inside = namespace in names.containers

    # Tables ---------------------------------------------------------------------------

    def read_whole(self, table: Table) -> Fact:
        """A table of a namespace that is compared with others: one fact."""
        return (
            Mine(self._namespace, "namespace"), table.family, table.name, table.origin,
            table.flags, tuple(self._whole_chain(chain) for chain in table.chains),
            tuple(self._definition(one) for one in table.sets),
        )  # fmt: skip

    def read(self, table: Table) -> list[ReadChain]:
        """The chains of a table with their rules as terms."""
        where = ("table", self._namespace, table.family, table.name, table.origin)
        private = self._private_chains(table, {chain.name: chain for chain in table.chains})
        return [
            ReadChain(
                (*where, chain.name),
                [(rule, self._rule(rule, private)) for rule in chain.rules],
            )
            for chain in table.chains
            if chain.name not in private
        ]  # fmt: skip

    def _definition(self, definition: Any) -> Any:
        return (definition.name, definition.key, definition.data, definition.interval)

    def _whole_chain(self, chain: Chain) -> Any:
        return (
            chain.name, chain.hook, chain.type, chain.priority, chain.policy, chain.device,
            tuple(self._inner_rule(rule) for rule in chain.rules),
        )  # fmt: skip

    def _inner_rule(self, rule: FirewallRule) -> Any:
        """A rule inside: a port of its own may only be one of its loopback."""
        term = self._rule(rule, {})
        if any(one.role[0] == "private" for one in find_mines(term) if type(one) is Mine):
            if not _speaks_of_loopback(term):
                self._names.unlike.add(self._namespace)
        return term

    def _private_chains(self, table: Table, chains: dict[str, Chain]) -> dict[str, Any]:
        """Chains that only one rule leads to, and that speak of one namespace: a part of
        that rule, whatever they are called.
        """
        jumps: Tally[str] = Tally()
        by_map = set()
        for chain in table.chains:
            for rule in chain.rules:
                for statement in rule.statements:
                    if isinstance(statement, Verdict) and statement.target:
                        jumps[statement.target] += 1
                    elif isinstance(statement, VerdictMap):
                        by_map |= _targets(statement)
        for element in self._place.of(Element):
            if (element.family, element.table) == (table.family, table.name) and element.data:
                by_map |= {str(part).partition(" ")[2] for part in element.data}
        found: dict[str, Any] = {}
        # Inner chains first: a chain is judged once those that it leads to have been.
        for name in _innermost_first(chains):
            chain = chains[name]
            if chain.hook is not None or jumps[name] != 1 or name in by_map:
                continue
            content = tuple(self._rule(rule, found) for rule in chain.rules)
            if len(self._names.whose(content)) <= 1:
                found[name] = content
        return found

    # Rules ----------------------------------------------------------------------------

    def _rule(self, rule: FirewallRule, private: dict[str, Any]) -> Any:
        if not rule.statements and rule.text:
            return (self._words(rule.text),)
        return tuple(self._statement(one, private) for one in told(rule))

    def _statement(self, statement: Statement, private: dict[str, Any]) -> Any:
        match statement:
            case Verdict(name, target):
                if target in private:
                    return ("verdict", name, private[target])
                return ("verdict", name, target)
            case Match(left, right, op):
                return ("match", self._expression(left), op, self._value(left, right, op))
            case VerdictMap(key, content):
                return ("vmap", self._expression(key), self._map(key, content))
            case Nat():
                return self._nat(statement)
            case Opaque(text):
                return ("opaque", statement.test, self._words(text))
        return self._plain(statement)

    def _nat(self, statement: Nat) -> Any:
        if "prefix" in statement.flags or "/" in str(statement.address):
            self._names.all_unlike = True
        lookup = None
        if isinstance(statement.lookup, Lookup):
            lookup = (
                self._expression(statement.lookup.key),
                self._map(statement.lookup.key, statement.lookup.map),
            )
        return (
            "nat", statement.kind, statement.family, self._part(statement.address, "text"),
            self._part(statement.port, "target"), lookup, statement.flags,
        )  # fmt: skip

    def _plain(self, term: Any) -> Any:
        """A statement without values of interest: its fields as they are."""
        if isinstance(term, msgspec.Struct):
            return (
                type(term).__name__,
                *(self._plain(getattr(term, field)) for field in term.__struct_fields__),
            )
        return term

    def _expression(self, expression: Expression) -> Any:
        for part in _masked_parts(expression):
            inner = part.expression
            if isinstance(inner, (Payload, Ct)) and inner.field.endswith(_ADDRESS_WORDS):
                self._names.masks.add(part.mask)
            elif _kind(inner) == "port":
                self._names.ports_are_masked = True
            elif isinstance(inner, Masked):
                self._names.all_unlike = True
        return self._plain(expression)

    def _value(self, left: Expression, right: Any, op: str) -> Any:
        if isinstance(right, Named):
            return ("set", right.name)
        if isinstance(right, SetOf):
            return tuple(self._row(left, row) for row in right.values)
        if op not in ("==", "!="):
            # An order draws a boundary at its value.
            self._cut_at(_kind(left), right)
        return self._row(left, right)

    def _cut_at(self, kind: str, value: Any) -> None:
        if kind == "port" and isinstance(value, int):
            self._names.cut_ports(value, value)
        elif isinstance(value, str) and ("." in value or ":" in value):
            self._names.cut(value)

    def _row(self, left: Expression, row: Any) -> Any:
        parts = left.parts if isinstance(left, Concat) else (left,)
        values = row if isinstance(row, tuple) else (row,)
        return tuple(
            self._part(value, _kind(part)) for part, value in zip(parts, values, strict=False)
        )

    def _map(self, key: Expression, content: Any) -> Any:
        if isinstance(content, str):
            return content
        return tuple((self._row(key, row), self._data(data)) for row, data in content)

    def _data(self, data: Any) -> Any:
        if isinstance(data, Verdict):
            return ("verdict", data.name, data.target)
        parts = data if isinstance(data, tuple) else (data,)
        return tuple(
            self._part(part, "target" if isinstance(part, int) else "text") for part in parts
        )

    def _part(self, value: Any, kind: str) -> Any:
        """One value: `kind` is text, port, target (a port to translate to), index, number."""
        if isinstance(value, Range):
            return self._range(value, kind)
        if isinstance(value, str):
            return self._named_part(value, kind)
        if kind in ("port", "target") and isinstance(value, int):
            return self._port(value, kind)
        if kind == "index" and isinstance(value, int):
            return self._names.link(self._namespace, self._place.link_by_number(value))
        return value

    def _named_part(self, value: str, kind: str) -> Any:
        if kind in ("port", "target"):
            if value.isdecimal():
                return self._port(int(value), kind)
            first, dash, last = value.partition("-")
            if dash and first.isdecimal() and last.isdecimal():
                self._names.cut_ports(int(first), int(last))
            return value
        return self._names.text(self._namespace, value)

    def _port(self, number: int, kind: str) -> Any:
        if self._inside:
            return self._names.inner_port(self._namespace, number)
        if kind == "target":
            self._names.everyones_ports.add(number)
            return number
        return PublishedPort(number)

    def _range(self, value: Range, kind: str) -> Any:
        first, last = value.first, value.last
        if isinstance(first, int) and isinstance(last, int):
            self._names.cut_ports(first, last)
        elif isinstance(first, str) and isinstance(last, str):
            if "." in first or ":" in first:
                own = self._names.cut(f"{first}-{last}")
                if own is not None:
                    return own
            elif not (first.isdecimal() and last.isdecimal()):
                self._names.all_unlike = True
        return ("range", first, last)

    def _words(self, text: str) -> Any:
        """Text that nobody understood: its words, of which some may name something."""
        return tuple(
            self._names.text(self._namespace, word.strip("\"'{},")) for word in text.split()
        )

    # Elements -------------------------------------------------------------------------

    def element(self, element: Element, kinds: tuple[str, ...]) -> Fact:
        """An element of a named set whose key has these types."""
        last = element.last
        first: Any
        if last is None or last == element.first:
            first = tuple(
                self._typed(part, kind) for part, kind in zip(element.first, kinds, strict=False)
            )
        else:
            first = tuple(
                self._typed(low, kind)
                if low == high
                else self._range(Range(low, high), "port" if kind == "inet_service" else "text")
                for low, high, kind in zip(element.first, last, kinds, strict=False)
            )
        data = None
        if element.data is not None:
            data = self._data(element.data)
        where = (element.family, element.table, element.set)
        if self._inside:
            return (Mine(self._namespace, "namespace"), "element", *where, first, data)
        return ("element", self._namespace, *where, first, data)

    def _typed(self, part: Any, kind: str) -> Any:
        if kind == "inet_service":
            return self._part(part, "port")
        if kind == "iface_index":
            return self._part(part, "index")
        return self._part(part, "text" if isinstance(part, str) else "number")


def _targets(statement: VerdictMap) -> set[str]:
    if isinstance(statement.map, str):
        return set()
    return {verdict.target for _, verdict in statement.map if verdict.target}


def _innermost_first(chains: dict[str, Chain]) -> list[str]:
    done: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in chains:
            return
        seen.add(name)
        for rule in chains[name].rules:
            for statement in rule.statements:
                if isinstance(statement, Verdict) and statement.target:
                    visit(statement.target)
        done.append(name)

    for name in chains:
        visit(name)
    return done


def _masked_parts(expression: Expression) -> Iterator[Masked]:
    parts = expression.parts if isinstance(expression, Concat) else (expression,)
    return (part for part in parts if isinstance(part, Masked))


def _kind(expression: Expression) -> str:
    """What the values of an expression are: text, port, index or number."""
    match expression:
        case Payload(_, "sport" | "dport") | Ct("proto-src" | "proto-dst"):
            return "port"
        case Meta(field) if field in _NUMBERED:
            return "index"
        case Payload() | Ct() | Meta() | Fib():
            return "text"
        case Concat((only,)):
            return _kind(only)
        case _:
            return "number"


def _speaks_of_loopback(term: Any) -> bool:
    if type(term) is tuple:
        return any(_speaks_of_loopback(part) for part in term) or (
            len(term) == 2 and term[0] == 4 and isinstance(term[1], int) and term[1] >> 24 == 127
        ) or term == (6, 1)  # fmt: skip
    return type(term) is str and term.startswith("127.")
