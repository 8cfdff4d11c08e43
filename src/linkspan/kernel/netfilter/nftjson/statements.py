"""Tests and effects of rules, from nft's JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import (
    Copy,
    Counter,
    Ct,
    Expression,
    Fib,
    Flags,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    Nat,
    Notrack,
    Opaque,
    Payload,
    Range,
    Reject,
    SetField,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.kernel.netfilter.nftjson.expressions import (
    ALL_BITS,
    NotUnderstoodError,
    read_bitwise,
    read_expression,
)
from linkspan.kernel.netfilter.nftjson.raw import name_raw
from linkspan.kernel.netfilter.nftjson.values import (
    read_data,
    read_row,
    read_single,
    read_value,
    read_verdict,
)

_OWN_REJECT = {"ip": "icmp", "ip6": "icmpv6"}
_NEVER_STOP = frozenset(("flow", "dup", "secmark", "ct timeout", "ct expectation", "last", "map"))
"""Statements that are not understood, and after which a rule always goes on."""
_VERDICTS = frozenset(("accept", "drop", "continue", "return", "jump", "goto", "queue"))


def read_statement(
    item: Any, family: str, before: Sequence[Statement] = ()
) -> tuple[Statement, ...]:
    """One statement of a table of `family`; sometimes with the test that it implies.

    `before` are those in front of it in its rule. Opaque when it is not understood, with its
    JSON as text.
    """
    try:
        return tuple(name_raw(one, before, family) for one in _read(item, family))
    except (NotUnderstoodError, TypeError, ValueError, KeyError):
        return (_opaque(item),)


def _opaque(item: Any) -> Opaque:
    test = True
    if isinstance(item, dict) and len(item) == 1:
        ((name, content),) = item.items()
        test = name not in _NEVER_STOP
        if name == "mangle":
            test = False
        elif name == "set" and isinstance(content, dict):
            test = bool(content.get("stmt"))
    return Opaque(json.dumps(item), test)


def _read(item: Any, family: str) -> list[Statement]:
    if not isinstance(item, dict) or len(item) != 1:
        raise NotUnderstoodError
    ((name, content),) = item.items()
    if name in _VERDICTS:
        return [read_verdict(item)]
    match name:
        case "match":
            return [_match(content)]
        case "vmap":
            return [VerdictMap(read_expression(content["key"]), _verdict_rows(content["data"]))]
        case "dnat" | "snat" | "masquerade" | "redirect":
            return [_translation(name, content or {})]
        case "reject":
            return _reject(content or {}, family)
        case "mangle":
            return [_mangle(read_expression(content["key"]), content["value"])]
        case "limit" if isinstance(content, dict):
            return [_limit(content)]
        case "counter":
            if isinstance(content, dict):
                return [Counter(int(content.get("packets", 0)), int(content.get("bytes", 0)))]
            return [Counter()]
        case "log":
            return [Log(str((content or {}).get("prefix", "")))]
        case "notrack":
            return [Notrack()]
        case "ct helper" if isinstance(content, str):
            return [SetField(Ct("helper"), f'"{content}"')]
    raise NotUnderstoodError


# Tests --------------------------------------------------------------------------------


def _match(content: dict[str, Any]) -> Statement:
    left, right, op = read_expression(content["left"]), content["right"], content["op"]
    if op in ("in", "!"):
        names = right if isinstance(right, list) else right.get("|") if isinstance(
            right, dict) else [right]  # fmt: skip
        if not names or not all(isinstance(name, str) for name in names):
            raise NotUnderstoodError
        return Flags(left, tuple(names), invert=op == "!")
    if op not in ("==", "!=", "<", ">", "<=", ">="):
        raise NotUnderstoodError
    if isinstance(right, bool):
        if not isinstance(left, Fib):
            raise NotUnderstoodError
        return Match(left, "missing", op if not right else "!=" if op == "==" else "==")
    if isinstance(right, list) or (isinstance(right, dict) and "|" in right):
        names = right if isinstance(right, list) else right["|"]
        return Match(left, ",".join(map(str, names)), op)
    return Match(left, read_value(right), op)


def _limit(content: dict[str, Any]) -> Limit:
    unit = content.get("rate_unit")
    amount = f"{content['rate']}" if unit in (None, "packets") else f"{content['rate']} {unit}"
    text = f"{amount}/{content['per']}"
    burst = content.get("burst")
    if burst:
        text += f" burst {burst} {content.get('burst_unit') or 'packets'}"
    return Limit(text, over=bool(content.get("inv")))


def _verdict_rows(data: Any) -> str | tuple[tuple[Any, Verdict], ...]:
    if isinstance(data, str):
        return data.removeprefix("@")
    return tuple((read_row(row), read_verdict(verdict)) for row, verdict in data["set"])


# Effects ------------------------------------------------------------------------------


def _translation(kind: str, content: dict[str, Any]) -> Nat:
    address: Any = content.get("addr")
    port: Any = content.get("port")
    lookup: Lookup | None = None
    if _is_map(address):
        if _is_map(port):
            raise NotUnderstoodError
        lookup, address = _lookup(address["map"]), None
    elif _is_map(port):
        lookup, port = _lookup(port["map"]), None
    flags = tuple(flag for flag in _listed(content.get("flags")) if flag != "netmap")
    end = _end(address)
    if "prefix" in _listed(content.get("type_flags")):
        flags = (*flags, "prefix")
    elif isinstance(end, str) and "/" in end:
        net = ip_network(end)
        end = Range(str(net[0]), str(net[-1]))
    return Nat(
        kind=kind, family=content.get("family"), address=end, port=_end(port), lookup=lookup,
        flags=flags,
    )  # fmt: skip


def _is_map(item: Any) -> bool:
    return isinstance(item, dict) and "map" in item


def _listed(item: Any) -> list[str]:
    return [] if item is None else [item] if isinstance(item, str) else list(item)


def _end(item: Any) -> Part | Range | None:
    return None if item is None else read_single(item)


def _lookup(content: dict[str, Any]) -> Lookup:
    data = content["data"]
    key = read_expression(content["key"])
    if isinstance(data, str):
        return Lookup(key, data.removeprefix("@"))
    return Lookup(key, tuple((read_row(row), read_data(found)) for row, found in data["set"]))


def _reject(content: dict[str, Any], family: str) -> list[Statement]:
    """reject, after the test that it stands for: nft does not print that one."""
    kind, error = content.get("type"), content.get("expr", "port-unreachable")
    if kind == "tcp reset":
        return [Match(Meta("l4proto"), "tcp"), Reject("tcp reset")]
    own = _OWN_REJECT.get(family, "icmpx")
    if kind is None or kind == own:
        return [Reject(str(error))]
    made: list[Statement] = [Reject(f"{kind} {error}")]
    if kind in ("icmp", "icmpv6"):
        version: Statement = Match(Meta("nfproto"), "ipv4" if kind == "icmp" else "ipv6")
        if family == "bridge":
            version = Match(Meta("protocol"), "ip" if kind == "icmp" else "ip6")
        made.insert(0, version)
    return made


def _mangle(target: Expression, value: Any) -> Statement:
    if isinstance(value, bool):
        raise NotUnderstoodError
    if target == Payload("tcp option maxseg", "size") or isinstance(value, (int, str)):
        return SetField(target, value)
    if isinstance(value, dict) and "rt" in value:
        raise NotUnderstoodError
    source, mask, xor = read_bitwise(value)
    if source == target:
        return SetField(target, xor, mask)
    if xor:
        raise NotUnderstoodError
    return Copy(target, source, mask & ALL_BITS)
