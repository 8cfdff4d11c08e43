"""Header fields that nft shows by place ("@th,64,128") because it has no name for them there.

The same bits are a field of one protocol or another: a rule says which by what it tests
before. What stays without a name is not understood.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

import msgspec

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import (
    Concat,
    Copy,
    Expression,
    Lookup,
    Masked,
    Match,
    Meta,
    Nat,
    Payload,
    Range,
    SetField,
    SetOf,
    Statement,
    Value,
    VerdictMap,
)
from linkspan.kernel.netfilter.nftjson.expressions import NotUnderstoodError

Place: TypeAlias = tuple[str, str]

_ANYWHERE: dict[Place, Payload] = {
    ("@ll", "0,48"): Payload("ether", "daddr"),
    ("@ll", "48,48"): Payload("ether", "saddr"),
    ("@ll", "96,16"): Payload("ether", "type"),
}
_IN: dict[str, dict[Place, Payload]] = {
    "ip": {
        ("@nh", "72,8"): Payload("ip", "protocol"),
        ("@nh", "96,32"): Payload("ip", "saddr"),
        ("@nh", "128,32"): Payload("ip", "daddr"),
    },
    "ip6": {
        ("@nh", "48,8"): Payload("ip6", "nexthdr"),
        ("@nh", "64,128"): Payload("ip6", "saddr"),
        ("@nh", "192,128"): Payload("ip6", "daddr"),
    },
    **{
        name: {
            ("@th", "0,16"): Payload(name, "sport"),
            ("@th", "16,16"): Payload(name, "dport"),
        }
        for name in ("tcp", "udp", "sctp", "dccp", "udplite")
    },
    "icmp": {("@th", "0,8"): Payload("icmp", "type")},
    "icmpv6": {("@th", "0,8"): Payload("icmpv6", "type")},
    "neighbour discovery": {("@th", "64,128"): Payload("icmpv6", "taddr")},
}
_VERSIONS = {"ipv4": "ip", "ip": "ip", "ipv6": "ip6", "ip6": "ip6"}
_WITH_TARGET = frozenset(("nd-neighbor-solicit", "nd-neighbor-advert", "nd-redirect"))


def is_raw(expression: Expression) -> bool:
    """Whether an expression has a part that is only a place."""
    match expression:
        case Payload(protocol):
            return protocol.startswith("@")
        case Masked(inner):
            return is_raw(inner)
        case Concat(parts):
            return any(map(is_raw, parts))
    return False


def name_raw(statement: Statement, before: Sequence[Statement], family: str) -> Statement:
    """The statement with names for places; `before` are those in front of it in its rule.

    Raises NotUnderstoodError for a place that could be anything.
    """
    known = {family, *(word for one in before for word in _tells(one))}

    def name(expression: Expression) -> Expression:
        match expression:
            case Payload(protocol, field) if protocol.startswith("@"):
                place = (protocol, field)
                for kind in ("", *known):
                    found = (_ANYWHERE if not kind else _IN.get(kind, {})).get(place)
                    if found is not None:
                        return found
                raise NotUnderstoodError
            case Masked(inner, mask, xor):
                return Masked(name(inner), mask, xor)
            case Concat(parts):
                return Concat(tuple(map(name, parts)))
        return expression

    match statement:
        case Match(left, right, op) if is_raw(left):
            named = name(left)
            return Match(named, _value(named, right), op)
        case VerdictMap(key, content) if is_raw(key):
            if not isinstance(content, str):
                raise NotUnderstoodError
            return VerdictMap(name(key), content)
        case Nat(lookup=Lookup(key, content)) if is_raw(key):
            if not isinstance(content, str):
                raise NotUnderstoodError
            return msgspec.structs.replace(statement, lookup=Lookup(name(key), content))
        case SetField(target, value, mask) if is_raw(target):
            named = name(target)
            if mask:
                raise NotUnderstoodError
            return SetField(named, _part(named, value))
        case Copy(target, source, mask) if is_raw(target) or is_raw(source):
            return Copy(name(target), name(source), mask)
    return statement


def _tells(statement: Statement) -> list[str]:
    """The protocols that a packet must have to pass a test."""
    if not isinstance(statement, Match) or statement.op != "==":
        return []
    left, right = statement.left, statement.right
    if isinstance(left, Payload):
        found = [left.protocol]
        values = right.values if isinstance(right, SetOf) else (right,)
        if left == Payload("icmpv6", "type") and _WITH_TARGET.issuperset(values):
            found.append("neighbour discovery")
        if left == Payload("ether", "type") and isinstance(right, str):
            found += [_VERSIONS[right]] if right in _VERSIONS else []
        return found
    if isinstance(left, Meta) and isinstance(right, str):
        if left.field in ("nfproto", "protocol"):
            return [_VERSIONS[right]] if right in _VERSIONS else []
        if left.field == "l4proto":
            return [{"ipv6-icmp": "icmpv6"}.get(right, right)]
    return []


def _value(named: Expression, right: Value) -> Value:
    """What is compared: nft gives numbers where it has no type."""
    if isinstance(right, Range):
        return Range(_part(named, right.first), _part(named, right.last))
    if isinstance(right, (str, int)):
        return _part(named, right)
    if isinstance(right, SetOf) and not isinstance(named, Concat):
        return SetOf(tuple(_member(named, one) for one in right.values))
    if isinstance(right, SetOf):
        raise NotUnderstoodError
    return right


def _member(named: Expression, one: object) -> Part | Range:
    if isinstance(one, Range):
        return Range(_part(named, one.first), _part(named, one.last))
    if isinstance(one, (str, int)):
        return _part(named, one)
    raise NotUnderstoodError


def _part(named: Expression, value: Part) -> Part:
    if isinstance(value, str) and value.startswith("0x"):
        value = int(value, 16)
    if not isinstance(value, int) or not isinstance(named, Payload):
        return value
    if named.field in ("saddr", "daddr", "taddr"):
        if named.protocol == "ip":
            return str(IPv4Address(value))
        if named.protocol in ("ip6", "icmpv6"):
            return str(IPv6Address(value))
        return value.to_bytes(6, "big").hex(":")
    if named.field in ("sport", "dport"):
        return value
    raise NotUnderstoodError
