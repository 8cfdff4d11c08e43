"""What in other programs' rulesets may stop forwarded or incoming packets. Pure: texts in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

_HOOKS = ("forward", "input")
_REFUSALS = ("drop", "reject", "queue")
_HARMLESS = ("counter", "log", "limit", "comment", "quota")
IPTABLES_TABLES = ("filter", "nat", "mangle", "raw", "security")
_DEVICES = re.compile(r"^\t\ttype \S+ hook \S+ devices? (?P<names>.*) priority ")
_HANDLE = re.compile(r"^(?P<text>.*?)\s*# handle (?P<handle>\d+)$")


class Obstacle(msgspec.Struct, frozen=True, kw_only=True):
    """Something in another program's ruleset that can stop forwarded or incoming packets.

    `kind` is "policy" (of a base chain) or "rule"; `conditional` says whether the rule itself
    tests anything about the packet (a jump to its chain may do so, too); `text` is the rule
    or policy as its program prints it.
    """

    origin: str
    """nft, iptables-nft or iptables-legacy."""
    family: str
    table: str
    chain: str
    hook: str
    kind: str
    text: str
    conditional: bool = False


class ForeignRules(msgspec.Struct, frozen=True, kw_only=True):
    """The raw rulesets of a namespace: nft's JSON objects, and legacy tables as saved text.

    `legacy` is keyed by family ("ip", "ip6").
    """

    nft: tuple[dict[str, Any], ...] = ()
    nft_text: str = ""
    legacy: dict[str, str] = {}


def find_obstacles(
    rules: ForeignRules, ours: Iterable[tuple[str, str]] = ()
) -> tuple[Obstacle, ...]:
    """The obstacles in rulesets that were read before."""
    found = list(_nft_obstacles(rules, frozenset(ours)))
    for family, text in rules.legacy.items():
        found += _legacy_obstacles(family, text)
    return tuple(found)


# nft ----------------------------------------------------------------------------------

_ChainKey = tuple[str, str, str]


def _nft_obstacles(rules: ForeignRules, ours: frozenset[tuple[str, str]]) -> Iterator[Obstacle]:
    bases: list[dict[str, Any]] = []
    rows: dict[_ChainKey, list[dict[str, Any]]] = {}
    for item in rules.nft:
        chain, rule = item.get("chain"), item.get("rule")
        if chain and chain.get("hook") in _HOOKS and (chain["family"], chain["table"]) not in ours:
            bases.append(chain)
        elif rule:
            rows.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule)
    texts = rule_texts(rules.nft_text) if bases else {}
    for base in bases:
        start = (base["family"], base["table"], base["name"])
        origin = _origin(base)
        if base.get("policy") == "drop":
            yield Obstacle(
                origin=origin, family=base["family"], table=base["table"], chain=base["name"],
                hook=base["hook"], kind="policy", text="policy drop",
            )  # fmt: skip
        for key in _reachable(start, rows):
            for rule in rows.get(key, ()):
                refuses = _refuses(rule["expr"][-1:]) or _xt_target(rule) in ("DROP", "REJECT")
                if not refuses:
                    continue
                family, table, chain = key
                yield Obstacle(
                    origin=origin, family=family, table=table, chain=chain, hook=base["hook"],
                    kind="rule", text=texts.get((*key, rule["handle"]), json.dumps(rule["expr"])),
                    conditional="vmap" in rule["expr"][-1]
                    or any(not set(part) & {*_HARMLESS} for part in rule["expr"][:-1]),
                )  # fmt: skip


def _refuses(value: object) -> bool:
    """Whether a verdict somewhere in an expression stops the packet, verdict maps included."""
    if isinstance(value, dict):
        return any(word in value for word in _REFUSALS) or any(map(_refuses, value.values()))
    return isinstance(value, list) and any(map(_refuses, value))


def _xt_target(rule: dict[str, Any]) -> str:
    """The name of an iptables target that nft knows by name only, "" for none."""
    for part in rule["expr"]:
        xt = part.get("xt")
        if isinstance(xt, dict) and xt.get("type") == "target":
            return str(xt.get("name", ""))
    return ""


def _origin(chain: dict[str, Any]) -> str:
    """iptables-nft makes tables of fixed names with chains in capitals."""
    by_iptables = chain["table"] in IPTABLES_TABLES and chain["name"].isupper()
    return "iptables-nft" if by_iptables and chain["family"] in ("ip", "ip6") else "nft"


def _reachable(start: _ChainKey, rows: dict[_ChainKey, list[dict[str, Any]]]) -> list[_ChainKey]:
    """The chain and all chains that its rules jump to, each once."""
    found, waiting = [start], [start]
    while waiting:
        family, table, _ = key = waiting.pop()
        for rule in rows.get(key, ()):
            for target in _targets(rule["expr"]):
                into = (family, table, target)
                if into not in found:
                    found.append(into)
                    waiting.append(into)
    return found


def _targets(value: object) -> Iterator[str]:
    """Chains named by jump or goto anywhere in an expression, verdict maps included."""
    if isinstance(value, dict):
        for word, inner in value.items():
            if word in ("jump", "goto") and isinstance(inner, dict) and "target" in inner:
                yield str(inner["target"])
            yield from _targets(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _targets(inner)


def rule_texts(text: str) -> dict[tuple[str, str, str, int], str]:
    """Each rule's own line in `nft -a list ruleset`, by family, table, chain and handle."""
    found: dict[tuple[str, str, str, int], str] = {}
    table: tuple[str, str] = ("", "")
    chain = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("table ") and len(words) >= 3:
            table = (words[1], words[2])
        elif line.startswith("\tchain ") and len(words) >= 2:
            chain = words[1]
        elif line.startswith("\t\t") and (match := _HANDLE.match(line.strip())):
            found[(*table, chain, int(match["handle"]))] = match["text"]
    return found


def chain_devices(text: str) -> dict[tuple[str, str, str], str]:
    """The links of ingress and egress chains in `nft list ruleset`, separated by commas."""
    found: dict[tuple[str, str, str], str] = {}
    table: tuple[str, str] = ("", "")
    chain = ""
    for line in text.splitlines():
        words = line.split()
        if line.startswith("table ") and len(words) >= 3:
            table = (words[1], words[2])
        elif line.startswith("\tchain ") and len(words) >= 2:
            chain = words[1]
        elif match := _DEVICES.match(line):
            found[(*table, chain)] = ",".join(re.findall(r'"([^"]+)"', match["names"]))
    return found


# iptables-legacy ----------------------------------------------------------------------


def _legacy_obstacles(family: str, text: str) -> Iterator[Obstacle]:
    table = ""
    policies: dict[tuple[str, str], str] = {}
    rows: dict[tuple[str, str], list[str]] = {}
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            name, policy = line[1:].split()[:2]
            policies[table, name] = policy
        elif line.startswith("-A "):
            rows.setdefault((table, line.split()[1]), []).append(line)
    for hook in _HOOKS:
        for (table, chain), policy in policies.items():
            if chain != hook.upper():
                continue
            if policy == "DROP":
                yield Obstacle(
                    origin="iptables-legacy", family=family, table=table, chain=chain, hook=hook,
                    kind="policy", text=f"-P {chain} DROP",
                )  # fmt: skip
            yield from _legacy_rules(family, table, chain, hook, rows)


def _legacy_rules(
    family: str, table: str, start: str, hook: str, rows: dict[tuple[str, str], list[str]]
) -> Iterator[Obstacle]:
    seen, waiting = {start}, [start]
    while waiting:
        chain = waiting.pop(0)
        for line in rows.get((table, chain), ()):
            words = line.split()
            place = next((i for i, word in enumerate(words) if word in ("-j", "-g")), None)
            if place is None or place + 1 >= len(words):
                continue
            target = words[place + 1]
            if target in ("DROP", "REJECT"):
                tests = [word for word in words[2:place] if word not in ("-m", "comment")]
                yield Obstacle(
                    origin="iptables-legacy", family=family, table=table, chain=chain, hook=hook,
                    kind="rule", text=line,
                    conditional=any(w.startswith("-") and w != "--comment" for w in tests),
                )  # fmt: skip
            elif (table, target) in rows and target not in seen:
                seen.add(target)
                waiting.append(target)
