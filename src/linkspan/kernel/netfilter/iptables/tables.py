"""Tables of iptables put together from their saved text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from linkspan.dataplane.objects import HOST, Element
from linkspan.dataplane.rules import (
    Chain,
    FirewallRule,
    Match,
    Named,
    Opaque,
    SetDefinition,
    Table,
)
from linkspan.kernel.netfilter.iptables.ipsets import IpSet, elements_of, read_set
from linkspan.kernel.netfilter.iptables.matches import read_group, read_protocol
from linkspan.kernel.netfilter.iptables.targets import read_target
from linkspan.kernel.netfilter.iptables.words import Line, split_line

_PRIORITIES = {"raw": -300, "mangle": -150, "nat": -100, "filter": 0, "security": 50}
"""Of linux/netfilter_ipv4.h; nat's hooks for sources have 100."""
_SOURCES = 100


class SavedTable(NamedTuple):
    """A table's text: chains with their policies ("-" for a user's own), and rules by chain."""

    name: str
    policies: dict[str, str]
    rules: dict[str, list[str]]


def split_saved(text: str) -> tuple[SavedTable, ...]:
    """The tables in what `iptables-save` printed."""
    found: list[SavedTable] = []
    for line in text.splitlines():
        if line.startswith("*"):
            found.append(SavedTable(line[1:].strip(), {}, {}))
        elif not found:
            continue
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            found[-1].policies[name] = policy
        elif line.startswith("-A "):
            found[-1].rules.setdefault(line.split(maxsplit=2)[1], []).append(line)
    return tuple(found)


def read_saved(
    text: str,
    family: str,
    origin: str,
    namespace: str = HOST,
    sets: Mapping[str, IpSet] | None = None,
) -> tuple[Table, ...]:
    """The tables in what `iptables-save` ("ip") or `ip6tables-save` ("ip6") printed.

    `origin` is "iptables-nft" or "iptables-legacy". Chains hang at the hooks and priorities
    that the kernel gives to tables of these names. `sets` are those of ipset in the namespace:
    a table has those that its rules ask (`asked_elements` gives what is in them).
    """
    return tuple(
        _table(saved, family, origin, namespace, sets or {}) for saved in split_saved(text)
    )


def asked_elements(tables: Iterable[Table], sets: Mapping[str, IpSet]) -> tuple[Element, ...]:
    """What is in the sets of ipset that tables ask."""
    return tuple(
        element
        for table in tables
        for element in elements_of(
            [one.name for one in table.sets], sets, table.namespace, table.family, table.name
        )
    )


def _asked_sets(chains: Iterable[Chain], sets: Mapping[str, IpSet]) -> Iterator[SetDefinition]:
    asked = {
        statement.right.name: None
        for chain in chains
        for rule in chain.rules
        for statement in rule.statements
        if isinstance(statement, Match) and isinstance(statement.right, Named)
    }
    for name in asked:
        yield read_set(sets[name]).definition


def _table(
    saved: SavedTable, family: str, origin: str, namespace: str, sets: Mapping[str, IpSet]
) -> Table:
    chains = []
    for name, policy in saved.policies.items():
        rules = tuple(
            _rule(text, family, saved.policies, sets) for text in saved.rules.get(name, ())
        )
        hook = None if policy == "-" else name.lower()
        chains.append(
            Chain(
                name=name, rules=rules, hook=hook, type=_type(saved.name, hook),
                priority=_priority(saved.name, hook),
                policy="drop" if policy == "DROP" else "accept",
            )
        )  # fmt: skip
    return Table(
        namespace=namespace, family=family, name=saved.name, chains=tuple(chains),
        sets=tuple(_asked_sets(chains, sets)), origin=origin,
    )  # fmt: skip


def _type(table: str, hook: str | None) -> str:
    if hook is None:
        return "filter"
    if table == "nat":
        return "nat"
    return "route" if (table, hook) == ("mangle", "output") else "filter"


def _priority(table: str, hook: str | None) -> int:
    if hook is None:
        return 0
    if table == "nat" and hook in ("input", "postrouting"):
        return _SOURCES
    return _PRIORITIES.get(table, 0)


def _rule(
    text: str, family: str, chains: Mapping[str, str], sets: Mapping[str, IpSet]
) -> FirewallRule:
    try:
        line = split_line(text)
    except ValueError:
        return FirewallRule((Opaque(text),), text=text)
    protocol = _protocol(line)
    statements = [
        statement
        for group in line.groups
        for statement in read_group(group, family, protocol, sets)
    ]
    statements += read_target(line, family, chains)
    comments = [
        option.value
        for group in line.groups
        for option in group.options
        if option.name == "--comment"
    ]
    return FirewallRule(tuple(statements), comments[0] if comments else None, text=text)


def _protocol(line: Line) -> str | None:
    """The protocol whose ports a rule names: nftables' name, None where `-p` names none."""
    for option in line.groups[0].options:
        if option.name == "-p" and not option.invert:
            name = read_protocol(option.value)
            return name if name in ("tcp", "udp", "sctp", "dccp", "udplite") else None
    return None


def apply_hooks(saved: Table, seen: Table) -> Table | None:
    """A table of iptables-nft with what nf_tables says of it: hooks, priorities, handles.

    Chains that iptables prints but that are not in the kernel are left out. None when the
    two do not have the same chains and rules: then the text says less than the ruleset.
    """
    held = {chain.name: chain for chain in saved.chains}
    chains = []
    for chain in seen.chains:
        mine = held.get(chain.name)
        if mine is None or len(mine.rules) != len(chain.rules):
            return None
        rules = _with_handles(mine.rules, chain.rules)
        chains.append(msgspec.structs.replace(chain, rules=rules))
    if any(chain.rules for name, chain in held.items() if name not in {c.name for c in chains}):
        return None
    return msgspec.structs.replace(saved, chains=tuple(chains), flags=seen.flags)


def _with_handles(
    rules: Sequence[FirewallRule], seen: Sequence[FirewallRule]
) -> tuple[FirewallRule, ...]:
    return tuple(
        msgspec.structs.replace(rule, handle=other.handle)
        for rule, other in zip(rules, seen, strict=True)
    )
