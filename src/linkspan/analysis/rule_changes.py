"""What differs between two states of a firewall table, rule by rule."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple, TypeVar

import msgspec

from linkspan.dataplane.rules import Chain, Counter, FirewallRule, SetDefinition, Table
from linkspan.dataplane.ruletext import rule_text

_COUNTED = re.compile(r"counter packets \d+ bytes \d+")
_LONGEST_COMPARED = 4000
"""Rules of a chain above which moved ones are told as removed and added."""

T = TypeVar("T")


class TableChange(NamedTuple):
    """One thing in a table: `kind` is table, chain, set or firewall-rule."""

    action: str
    kind: str
    text: str
    place: str
    fields: tuple[tuple[str, str, str], ...] = ()
    minor: bool = False


def find_table_changes(old: Table, new: Table) -> Iterator[TableChange]:
    """What was added, removed or changed; counters and handles do not count."""
    name = f"{new.family} {new.name}"
    flags = _fields(old, new, ("flags",))
    if flags:
        yield TableChange("changed", "table", f"firewall table {name}", name, flags)
    yield from _set_changes(name, old, new)
    before = {chain.name: chain for chain in old.chains}
    after = {chain.name: chain for chain in new.chains}
    for action, chain in _come_and_gone(before, after):
        yield TableChange(action, "chain", _chain_text(name, chain), f"{name} {chain.name}")
        for number, rule in enumerate(chain.rules, 1):
            yield _rule_change(action, rule, number, f"{name} {chain.name}", new.family)
    for chain_name, chain in after.items():
        was = before.get(chain_name)
        if was is None or was == chain:
            continue
        place = f"{name} {chain_name}"
        fields = _fields(was, chain, ("hook", "type", "priority", "policy", "device"))
        if fields:
            yield TableChange("changed", "chain", f"chain {place}", place, fields)
        yield from _rule_changes(was.rules, chain.rules, place, new.family)


def _come_and_gone(before: Mapping[str, T], after: Mapping[str, T]) -> Iterator[tuple[str, T]]:
    for name, item in before.items():
        if name not in after:
            yield "removed", item
    for name, item in after.items():
        if name not in before:
            yield "added", item


def _set_changes(name: str, old: Table, new: Table) -> Iterator[TableChange]:
    before: dict[str, SetDefinition] = {one.name: one for one in old.sets}
    after: dict[str, SetDefinition] = {one.name: one for one in new.sets}
    for action, one in _come_and_gone(before, after):
        yield TableChange(action, "set", _set_text(name, one), f"{name} {one.name}")
    for set_name, one in after.items():
        was = before.get(set_name)
        if was is not None and was != one:
            fields = _fields(was, one, SetDefinition.__struct_fields__)
            yield TableChange("changed", "set", _set_text(name, one), f"{name} {set_name}", fields)


def _set_text(name: str, one: SetDefinition) -> str:
    data = f" : {' . '.join(one.data)}" if one.data else ""
    return f"{'map' if one.data else 'set'} {name} {one.name} of {' . '.join(one.key)}{data}"


def _chain_text(name: str, chain: Chain) -> str:
    text = f"chain {name} {chain.name}"
    if chain.hook is None:
        return text
    where = f"hook {chain.hook}, priority {chain.priority}, policy {chain.policy}"
    return f"{text} ({chain.type}, {where})"


def _fields(
    old: msgspec.Struct, new: msgspec.Struct, names: Sequence[str]
) -> tuple[tuple[str, str, str], ...]:
    def text(value: object) -> str:
        if value in (None, (), ""):
            return "-"
        return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)

    return tuple(
        (name, text(getattr(old, name)), text(getattr(new, name)))
        for name in names
        if getattr(old, name) != getattr(new, name)
    )


# Rules --------------------------------------------------------------------------------


def _rule_changes(
    old: Sequence[FirewallRule], new: Sequence[FirewallRule], place: str, family: str
) -> Iterator[TableChange]:
    before, after = ([_essence(rule, family) for rule in rules] for rules in (old, new))
    start, limit = 0, min(len(before), len(after))
    while start < limit and before[start] == after[start]:
        start += 1
    end = 0
    while end < limit - start and before[-1 - end] == after[-1 - end]:
        end += 1
    first, second = before[start : len(before) - end], after[start : len(after) - end]
    if max(len(first), len(second)) > _LONGEST_COMPARED:
        blocks = [("replace", 0, len(first), 0, len(second))]
    else:
        blocks = SequenceMatcher(None, first, second, autojunk=False).get_opcodes()  # type: ignore[assignment]
    for what, low, high, other_low, other_high in blocks:
        if what == "equal":
            continue
        for number in range(low, high):
            number += start
            yield _rule_change("removed", old[number], number + 1, place, family)
        for number in range(other_low, other_high):
            number += start
            yield _rule_change("added", new[number], number + 1, place, family)


def _essence(rule: FirewallRule, family: str) -> str:
    """What a rule does, without what it counted and who it is."""
    statements = tuple(
        Counter() if isinstance(statement, Counter) else statement for statement in rule.statements
    )
    return _without_counts(rule_text(msgspec.structs.replace(rule, statements=statements), family))


def _rule_change(
    action: str, rule: FirewallRule, number: int, place: str, family: str
) -> TableChange:
    text = _without_counts(rule.text or rule_text(rule, family))
    who = f"handle {rule.handle}" if rule.handle is not None else f"rule {number}"
    return TableChange(action, "firewall-rule", text, f"{place} {who}")


def _without_counts(text: str) -> str:
    return _COUNTED.sub("counter", text)
