"""Tables with their chains, sets and elements, from nft's JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgspec

from linkspan.dataplane.objects import HOST, Element, Part
from linkspan.dataplane.rules import (
    Chain,
    FirewallRule,
    Match,
    Opaque,
    Range,
    SetDefinition,
    Statement,
    Table,
)
from linkspan.dataplane.ruletext import statement_text
from linkspan.kernel.netfilter.nftjson.expressions import NotUnderstoodError
from linkspan.kernel.netfilter.nftjson.statements import read_statement
from linkspan.kernel.netfilter.nftjson.values import Row, read_data, read_row, read_verdict

RuleKey = tuple[str, str, str, int]
"""Family, table, chain and handle."""

_PRIORITIES = {
    "raw": -300, "mangle": -150, "dstnat": -100, "filter": 0, "security": 50, "srcnat": 100,
}  # fmt: skip


class Ruleset(NamedTuple):
    """Tables in the order in which the kernel lists them, which is that of their creation."""

    tables: tuple[Table, ...]
    elements: tuple[Element, ...]


def read_ruleset(
    rows: Iterable[Mapping[str, Any]],
    texts: Mapping[RuleKey, str] | None = None,
    namespace: str = HOST,
    devices: Mapping[tuple[str, str, str], str] | None = None,
) -> Ruleset:
    """The rows of "nftables" as tables and elements of a namespace.

    `texts` are the rules' own lines, as `nft -a list ruleset` prints them; without them a
    statement that is not understood has its JSON as text. `devices` are the links of ingress
    and egress chains (family, table, chain) whose row does not say them.
    """
    tables: dict[tuple[str, str], _Table] = {}
    elements: list[Element] = []
    for row in rows:
        for kind, content in row.items():
            if kind == "table":
                key = (content["family"], content["name"])
                tables.setdefault(key, _Table(flags=_listed(content.get("flags"))))
                continue
            table = None
            if isinstance(content, dict) and "table" in content:
                table = tables.get((content["family"], content["table"]))
            if table is None:
                continue
            if kind == "chain":
                device = (devices or {}).get((content["family"], content["table"], content["name"]))
                table.chains.append({"dev": device, **content})
            elif kind in ("set", "map"):
                table.sets.append(_definition(content))
                elements += _elements(content, table.sets[-1], namespace)
            elif kind == "rule":
                table.rules.setdefault(content["chain"], []).append(_rule(content, texts or {}))
    made = tuple(
        Table(
            namespace=namespace, family=family, name=name, chains=table.made_chains(),
            sets=tuple(table.sets), flags=table.flags,
        )
        for (family, name), table in tables.items()
    )  # fmt: skip
    return Ruleset(made, tuple(elements))


class _Table:
    """A table while its rows come in."""

    def __init__(self, flags: tuple[str, ...]) -> None:
        self.flags = flags
        self.chains: list[dict[str, Any]] = []
        self.sets: list[SetDefinition] = []
        self.rules: dict[str, list[FirewallRule]] = {}

    def made_chains(self) -> tuple[Chain, ...]:
        rows = sorted(self.chains, key=lambda row: int(row.get("handle", 0)))
        return tuple(_chain(row, tuple(self.rules.get(row["name"], ()))) for row in rows)


def _chain(row: dict[str, Any], rules: tuple[FirewallRule, ...]) -> Chain:
    if "hook" not in row:
        return Chain(name=row["name"], rules=rules)
    device = row.get("dev")
    return Chain(
        name=row["name"], rules=rules, hook=row["hook"], type=row.get("type", "filter"),
        priority=_priority(row.get("prio", 0)), policy=row.get("policy", "accept"),
        device=",".join(device) if isinstance(device, list) else device,
    )  # fmt: skip


def _priority(value: Any) -> int:
    if isinstance(value, str):
        return _PRIORITIES[value] if value in _PRIORITIES else int(value)
    return int(value)


# Rules --------------------------------------------------------------------------------


def _rule(row: dict[str, Any], texts: Mapping[RuleKey, str]) -> FirewallRule:
    family = row["family"]
    made: list[Statement] = []
    for item in row.get("expr", ()):
        # A test that a later statement implies is often there already.
        found = read_statement(item, family, made)
        made += [one for one in found if not isinstance(one, Match) or one not in made]
    text = texts.get((family, row["table"], row["chain"], row.get("handle", 0)))
    if text is not None:
        made = _name_opaque(made, text, row.get("comment"), family)
    return FirewallRule(tuple(made), row.get("comment"), row.get("handle"), text)


def _name_opaque(
    statements: list[Statement], text: str, comment: str | None, family: str
) -> list[Statement]:
    """Give the one statement that is not understood nft's words: what the others leave over."""
    places = [n for n, one in enumerate(statements) if isinstance(one, Opaque)]
    if len(places) != 1:
        return statements
    place = places[0]
    rest = text if comment is None else text.removesuffix(f' comment "{comment}"')
    for one in statements[:place]:
        words = f"{statement_text(one, family)} "
        if not rest.startswith(words):
            return statements
        rest = rest[len(words) :]
    for one in reversed(statements[place + 1 :]):
        words = f" {statement_text(one, family)}"
        if not rest.endswith(words):
            return statements
        rest = rest[: -len(words)]
    named = list(statements)
    named[place] = msgspec.structs.replace(statements[place], text=rest)
    return named


# Sets ---------------------------------------------------------------------------------


def _listed(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _types(value: Any) -> tuple[str, ...]:
    """Nftables' names of types; what `typeof` gives otherwise is a number of no known kind."""
    if isinstance(value, str):
        return tuple(word.strip() for word in value.split(" . "))
    if isinstance(value, list):
        return tuple(one if isinstance(one, str) else "integer" for one in value)
    return ("integer",)


def _definition(row: dict[str, Any]) -> SetDefinition:
    flags = _listed(row.get("flags"))
    timeout = row.get("timeout")
    return SetDefinition(
        name=row["name"], key=_types(row["type"]),
        data=_types(row["map"]) if "map" in row else None,
        interval="interval" in flags, size=row.get("size"),
        timeout=timeout if timeout is not None or "timeout" not in flags else 0,
        dynamic="dynamic" in flags, comment=row.get("comment"),
    )  # fmt: skip


def _elements(row: dict[str, Any], definition: SetDefinition, namespace: str) -> Iterator[Element]:
    for item in row.get("elem", ()):
        key, data = item if definition.data is not None else (item, None)
        parts = _known(read_row, key)
        given = _known(_given, data) if definition.data is not None else None
        if parts is None:
            parts = str(key)
        first, last = _ends(parts)
        yield Element(
            namespace=namespace, family=row["family"], table=row["table"], set=row["name"],
            first=first, last=None if last == first else last,
            data=(str(data),) if given is None and definition.data is not None else given,
        )  # fmt: skip


def _known(read: Callable[[Any], Any], item: Any) -> Any:
    try:
        return read(item)
    except (NotUnderstoodError, TypeError, ValueError, KeyError):
        return None


def _given(item: Any) -> tuple[Part, ...]:
    try:
        verdict = read_verdict(item)
    except NotUnderstoodError:
        data = read_data(item)
        return data if isinstance(data, tuple) else (data,)
    return (f"{verdict.name} {verdict.target}" if verdict.target else verdict.name,)


def _ends(row: Row) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    parts = row if isinstance(row, tuple) else (row,)
    return (
        tuple(part.first if isinstance(part, Range) else part for part in parts),
        tuple(part.last if isinstance(part, Range) else part for part in parts),
    )
