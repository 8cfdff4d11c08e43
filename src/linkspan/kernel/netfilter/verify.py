"""Whether the kernel holds the table that a description states, rule by rule.

The kernel gives rules back as expressions, with more attributes than were sent (a counter's
state, flags it added). A rule is the same when it has the same expressions in the same
order, and every attribute that we would send has the value that we would send.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.dataplane.objects import Element
from linkspan.dataplane.rules import Chain, SetDefinition, Table
from linkspan.kernel.netfilter import observed
from linkspan.kernel.netfilter.elements import SetCodec
from linkspan.kernel.netfilter.expressions import CompiledRule, compile_rule
from linkspan.kernel.netfilter.observed import RuleState
from linkspan.kernel.netlink.socket import NetlinkSocket
from linkspan.kernel.netlink.wire import iterate_attributes, parse_attributes, read_text

_NAME, _DATA = 1, 2
_CONSTANTS = {"cmp": (3,), "immediate": (2,), "bitwise": (4, 5), "range": (3, 4)}
"""Attributes that hold nested data, by expression."""
_STATE = {"counter": (1, 2), "lookup": (4,)}
"""Attributes that are not part of what a rule means: counts, ids inside a transaction."""
_NAT_FLAGS = {"nat": 7, "masq": 1, "redir": 3}
"""Attributes to which the kernel may add bits."""
_LOOKUP_SET = 1

Expressions = tuple[tuple[str, dict[int, bytes | dict[int, object]]], ...]


def find_differences(sock: NetlinkSocket, table: Table) -> tuple[str, ...]:
    """What differs between the kernel's table and `table`, one line each, () for nothing.

    Elements of named sets are not looked at. Raises KernelRefused, and Unsupported for a
    table that cannot be compiled.
    """
    family, name = table.family, table.name
    title = f"table {family} {name}"
    state = observed.read_table(sock, family, name)
    if state is None:
        return (f"{title} is missing",)
    lines = [f"{title} is switched off (dormant)"] if "dormant" in state.flags else []
    sets = {definition.name: definition for definition in observed.read_sets(sock, family, name)}
    wanted_sets = {definition.name: definition for definition in table.sets}
    lines += _compare(title, "set", wanted_sets, sets)
    chains = {s.chain.name: s.chain for s in observed.read_chains(sock, family, name)}
    bare = {chain.name: _without_rules(chain) for chain in table.chains}
    lines += _compare(title, "chain", bare, chains)
    rows: dict[str, list[RuleState]] = {}
    for state_of_rule in observed.read_rules(sock, family, name):
        rows.setdefault(state_of_rule.chain, []).append(state_of_rule)
    anonymous = _Anonymous(sock, family, name)
    for chain in table.chains:
        have = rows.get(chain.name, [])
        if len(have) != len(chain.rules):
            lines.append(
                f"chain {chain.name} of {title} has {len(have)} rules, not {len(chain.rules)}"
            )
            continue
        for place, (rule, held) in enumerate(zip(chain.rules, have, strict=True), 1):
            compiled = compile_rule(rule, family, wanted_sets)
            if not _same_rule(compiled, held, anonymous):
                lines.append(f"rule {place} of chain {chain.name} of {title} was changed")
    return tuple(lines)


def _without_rules(chain: Chain) -> Chain:
    return msgspec.structs.replace(chain, rules=())


def _compare(
    title: str, kind: str, wanted: Mapping[str, object], have: Mapping[str, object]
) -> list[str]:
    lines = [f"{kind} {n} of {title} is missing" for n in wanted if n not in have]
    lines += [f"{kind} {n} of {title} is not ours" for n in have if n not in wanted]
    lines += [
        f"{kind} {n} of {title} was changed" for n in wanted if n in have and wanted[n] != have[n]
    ]
    return lines


class _Anonymous:
    """The contents of the sets that belong to rules, read when a rule asks for one."""

    def __init__(self, sock: NetlinkSocket, family: str, table: str) -> None:
        self._sock, self._family, self._table = sock, family, table
        self._definitions: dict[str, SetDefinition] | None = None

    def contents(self, name: str) -> frozenset[tuple[object, ...]] | None:
        """The elements of a set by the kernel's name for it."""
        if self._definitions is None:
            self._definitions = observed.read_anonymous_sets(self._sock, self._family, self._table)
        definition = self._definitions.get(name)
        if definition is None:
            return None
        codec = SetCodec(definition)
        elements = observed.read_elements(self._sock, self._family, self._table, codec)
        return frozenset((e.first, e.last, e.data) for e in elements)


def _same_rule(compiled: CompiledRule, held: RuleState, anonymous: _Anonymous) -> bool:
    ours, theirs = read_expressions(compiled.expressions), read_expressions(held.expressions)
    if [name for name, _ in ours] != [name for name, _ in theirs]:
        return False
    pending = list(compiled.sets)
    for (name, want), (_, have) in zip(ours, theirs, strict=True):
        for type, value in want.items():
            if type in _STATE.get(name, ()):
                continue
            found = have.get(type)
            if name == "lookup" and type == _LOOKUP_SET and pending and b"%d" in _bytes(value):
                made = pending.pop(0)
                elements = frozenset(_normal(made.definition, e) for e in made.elements)
                if anonymous.contents(read_text(_bytes(found))) != elements:
                    return False
            elif _NAT_FLAGS.get(name) == type:
                bits = int.from_bytes(_bytes(value), "big")
                if int.from_bytes(_bytes(found), "big") & bits != bits:
                    return False
            elif found != value:
                return False
    return True


def _normal(definition: SetDefinition, element: Element) -> tuple[object, ...]:
    """An element as it would be read back: names and prefixes in their canonical form."""
    codec = SetCodec(definition)
    packed = codec.pack(element)
    back = next(iter(codec.unpack([packed], element.namespace, element.family, element.table)))
    return back.first, back.last, back.data


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


def read_expressions(payload: bytes) -> Expressions:
    """A rule's expressions: name, and attributes by number; constants as nested dicts."""
    found: list[tuple[str, dict[int, bytes | dict[int, object]]]] = []
    for _, item in iterate_attributes(payload):
        parts = parse_attributes(item)
        name = read_text(parts[_NAME])
        attributes: dict[int, bytes | dict[int, object]] = dict(
            parse_attributes(parts.get(_DATA, b""))
        )
        for type in _CONSTANTS.get(name, ()):
            if type in attributes:
                attributes[type] = _read_constant(_bytes(attributes[type]))
        found.append((name, attributes))
    return tuple(found)


def _read_constant(payload: bytes) -> dict[int, object]:
    data: dict[int, object] = dict(parse_attributes(payload))
    if 2 in data:
        data[2] = parse_attributes(_bytes(data[2]))
    return data
