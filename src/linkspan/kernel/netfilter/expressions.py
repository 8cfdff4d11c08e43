"""Rules of the typed language as nf_tables expressions.

`compile_rule` is what the rest uses. The reference for what is right is the code that the
`nft` program makes of the same rule. A statement that linkspan has no code for raises
Unsupported with its text: a rule is never loaded in part.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import (
    Copy,
    Counter,
    Ct,
    Expression,
    FirewallRule,
    Flags,
    Limit,
    Log,
    Lookup,
    Match,
    Meta,
    Nat,
    Notrack,
    Payload,
    Range,
    Reject,
    SetDefinition,
    SetField,
    Statement,
    Verdict,
    VerdictMap,
)
from linkspan.errors import InvalidRequest, Unsupported
from linkspan.kernel.netfilter import encode
from linkspan.kernel.netfilter.batch import FAMILIES
from linkspan.kernel.netfilter.fields import CT_MARK, META_MARK, find_field
from linkspan.kernel.netfilter.matches import AnonymousSet, RuleBody, anonymous_set
from linkspan.kernel.netfilter.values import find_type
from linkspan.kernel.netfilter.verdicts import pack_verdict

_MARK_BITS = 0xFFFFFFFF
_NAT_FLAGS = {"random": 4, "persistent": 8, "fully-random": 16}
_PORT_GIVEN = 2
"""NF_NAT_RANGE_PROTO_SPECIFIED (linux/netfilter/nf_nat.h)."""
_CHECKSUMS = {"tcp": 16, "udp": 6}
"""Where a transport header has its checksum (RFC 9293, RFC 768), in bytes."""
_REJECT_ICMP, _REJECT_RESET, _REJECT_ANY = 0, 1, 2
_ANY_CODES = {
    "no-route": 0, "port-unreachable": 1, "host-unreachable": 2, "admin-prohibited": 3,
}  # fmt: skip
_ICMP_CODES = {
    "net-unreachable": 0, "host-unreachable": 1, "prot-unreachable": 2, "port-unreachable": 3,
    "net-prohibited": 9, "host-prohibited": 10, "admin-prohibited": 13,
}  # fmt: skip
_ICMPV6_CODES = {
    "no-route": 0, "admin-prohibited": 1, "addr-unreachable": 3, "port-unreachable": 4,
    "policy-fail": 5, "reject-route": 6,
}  # fmt: skip
_LIMIT = re.compile(r"(\d+)/(second|minute|hour|day|week)(?: burst (\d+) packets)?")
_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_DEFAULT_BURST = 5


class CompiledRule(NamedTuple):
    """A rule as the kernel takes it, with the anonymous sets that must be made before it."""

    expressions: bytes
    """The payload of NFTA_RULE_EXPRESSIONS."""
    sets: tuple[AnonymousSet, ...]


def compile_rule(
    rule: FirewallRule, family: str, sets: Mapping[str, SetDefinition], first_set_id: int = 1
) -> CompiledRule:
    """Compile a rule of a table of `family` ("inet", "ip", "ip6", "bridge", "arp", "netdev").

    `sets` are the table's named sets. Anonymous sets are numbered from `first_set_id`,
    which must differ within one transaction.
    Raises Unsupported for a statement without code, InvalidRequest for a value that does
    not fit its type.
    """
    body = RuleBody(family, sets, first_set_id)
    for statement in rule.statements:
        _compile(body, statement)
    return CompiledRule(b"".join(body.parts), tuple(body.anonymous))


def _compile(body: RuleBody, statement: Statement) -> None:
    match statement:
        case Match():
            body.match(statement)
        case Flags():
            body.flags(statement)
        case Verdict():
            body.parts.append(encode.verdict(pack_verdict(verdict_text(statement))))
        case VerdictMap(key, content):
            _look_up(body, key, content, None)
        case Nat():
            _translate(body, statement)
        case Reject(kind):
            _reject(body, kind)
        case SetField(target, value, mask):
            _set_field(body, target, value, mask)
        case Copy(target, source, mask):
            _copy(body, target, source, mask)
        case Counter(packets, size):
            body.parts.append(encode.count(packets, size))
        case Log(prefix):
            body.parts.append(encode.log(prefix))
        case Limit(text, over):
            body.parts.append(_limit(text, over))
        case Notrack():
            body.parts.append(encode.notrack())
        case _:
            raise Unsupported(f"no code for this statement: {statement}")


def verdict_text(verdict: Verdict) -> str:
    """The verdict as an element's data states it: "accept", "jump CHAIN"."""
    return f"{verdict.name} {verdict.target}" if verdict.target else verdict.name


def _look_up(
    body: RuleBody, key: Expression, content: object, result: int | None,
    data: tuple[str, ...] = ("verdict",),
) -> SetDefinition:  # fmt: skip
    """Look `key` up in a named or anonymous map; `result` a register word, None the verdict."""
    if isinstance(content, str):
        definition, number = body.find_set(content), 0
        if definition.data is None or (result is None) != (definition.data == ("verdict",)):
            raise InvalidRequest(f"{content} is not a map that a rule could use this way")
    else:
        assert isinstance(content, tuple)
        values = tuple(
            (verdict_text(value),) if isinstance(value, Verdict)
            else value if isinstance(value, tuple) else (value,)
            for _, value in content
        )  # fmt: skip
        definition, elements = anonymous_set(key, tuple(k for k, _ in content), data, values)
        number = body.add_set(definition, elements)
    body.check_key(key, definition)
    body.load(key, network_order=definition.interval)
    register = 0 if result is None else encode.register(result)
    body.parts.append(encode.look_up(definition.name, number, 0, result=register))
    return definition


def _nat_family(body: RuleBody, statement: Nat) -> str:
    family = statement.family or body.family
    if family not in ("ip", "ip6"):
        raise Unsupported(f"a translation in family {body.family} must name ip or ip6: {statement}")
    return family


def _translate(body: RuleBody, statement: Nat) -> None:
    unknown = set(statement.flags) - set(_NAT_FLAGS)
    if unknown:
        raise Unsupported(f"flags {sorted(unknown)} of {statement}")
    flags = sum(_NAT_FLAGS[flag] for flag in statement.flags)
    if statement.kind in ("masquerade", "redirect"):
        port, flags = _constant_ports(body, statement.port, 0, flags)
        make = encode.masquerade if statement.kind == "masquerade" else encode.redirect
        body.parts.append(make(flags, port))
        return
    if statement.kind not in ("dnat", "snat"):
        raise Unsupported(f"no code for this translation: {statement}")
    family = _nat_family(body, statement)
    kind = encode.DNAT if statement.kind == "dnat" else encode.SNAT
    if statement.lookup is not None:
        address, port = _looked_up(body, family, statement.lookup)
    else:
        address, port, flags = _constants(body, family, statement, flags)
    body.parts.append(encode.nat(kind, FAMILIES[family], address, port, flags))


_Pair = tuple[int | None, int | None]


def _looked_up(body: RuleBody, family: str, lookup: Lookup) -> tuple[_Pair, _Pair]:
    """Where a map's data is found: an address, a port, or an address and a port behind it."""
    name = "ipv4_addr" if family == "ip" else "ipv6_addr"
    data: tuple[str, ...] = (name,)
    if not isinstance(lookup.map, str) and lookup.map:
        value = lookup.map[0][1]
        if isinstance(value, tuple) and len(value) == 2:
            data = (name, "inet_service")
        elif isinstance(value, int):
            data = ("inet_service",)
    found = _look_up(body, lookup.key, lookup.map, 0, data).data
    if found == (name,):
        return (0, None), (None, None)
    if found == ("inet_service",):
        return (None, None), (0, None)
    if found == (name, "inet_service"):
        return (0, None), (find_type(name).padded // 4, None)
    raise InvalidRequest(f"a translation of {family} cannot use data {found} of {lookup.map}")


def _ends(value: Part | Range) -> tuple[Part, Part | None]:
    if isinstance(value, Range):
        return value.first, value.last
    return value, None


def _constants(body: RuleBody, family: str, statement: Nat, flags: int) -> tuple[_Pair, _Pair, int]:
    address: _Pair = (None, None)
    word = 0
    if statement.address is not None:
        kind = find_type("ipv4_addr" if family == "ip" else "ipv6_addr")
        address, word = _load_constants(body, kind.encode, _ends(statement.address), word)
    port, flags = _constant_ports(body, statement.port, word, flags)
    if address[0] is None and port[0] is None:
        raise InvalidRequest(f"a translation needs an address, a port or a map: {statement}")
    return address, port, flags


def _constant_ports(
    body: RuleBody, port: Part | Range | None, word: int, flags: int
) -> tuple[_Pair, int]:
    if port is None:
        return (None, None), flags
    words, _ = _load_constants(body, find_type("inet_service").encode, _ends(port), word)
    return words, flags | _PORT_GIVEN


def _load_constants(
    body: RuleBody,
    encode_part: Callable[[Part], bytes],
    ends: tuple[Part, Part | None],
    word: int,
) -> tuple[_Pair, int]:
    """Load one or two constants, each at the start of a 16-byte register as nft does."""
    words: list[int | None] = []
    for end in ends:
        if end is None:
            words.append(None)
            continue
        body.parts.append(encode.constant(word, encode_part(end)))
        words.append(word)
        word += 4
    return (words[0], words[1]), word


def _reject(body: RuleBody, kind: str) -> None:
    if kind == "tcp reset":
        body.require_transport("tcp")
        body.parts.append(encode.reject(_REJECT_RESET, None))
        return
    family, _, name = kind.rpartition(" ")
    if not family:
        family = {"ip": "icmp", "ip6": "icmpv6"}.get(body.family, "icmpx")
    codes = {"icmp": _ICMP_CODES, "icmpv6": _ICMPV6_CODES, "icmpx": _ANY_CODES}.get(family, {})
    if name not in codes:
        known = ", ".join(codes) or "icmp, icmpv6 or icmpx and a type"
        raise Unsupported(f"reject with {kind!r} is not known; known: {known}")
    if family == "icmpx":
        body.parts.append(encode.reject(_REJECT_ANY, codes[name]))
        return
    body.require_network("ip" if family == "icmp" else "ip6")
    body.parts.append(encode.reject(_REJECT_ICMP, codes[name]))


def _store(target: Expression) -> bytes:
    if target == Meta("mark"):
        return encode.store_meta(META_MARK, 0)
    if target == Ct("mark"):
        return encode.store_ct(CT_MARK, 0)
    raise Unsupported(f"linkspan writes marks, ports and IPv6 addresses only, not {target}")


def _set_port(body: RuleBody, target: Payload, value: int | str, mask: int) -> None:
    if target.protocol not in _CHECKSUMS or target.field not in ("sport", "dport") or mask:
        raise Unsupported(f"linkspan writes whole ports of tcp and udp only, not {target}")
    body.require_transport(target.protocol)
    body.parts.append(encode.constant(0, find_type("inet_service").encode(value)))
    _, (_, offset) = find_field(target).store
    body.parts.append(encode.store_port(offset, _CHECKSUMS[target.protocol], 0))


def _set_address(body: RuleBody, target: Payload, value: int | str, mask: int) -> None:
    if target.field not in ("saddr", "daddr") or mask:
        raise Unsupported(f"linkspan writes whole addresses of IPv6 only, not {target}")
    body.require_network("ip6")
    field = find_field(target)
    body.parts.append(encode.constant(0, field.kind.encode(value)))
    body.parts.append(encode.store_address(field.store[1][1], field.kind.size, 0))


def _set_field(body: RuleBody, target: Expression, value: int | str, mask: int) -> None:
    if isinstance(target, Payload):
        write = _set_address if target.protocol == "ip6" else _set_port
        write(body, target, value, mask)
        return
    store = _store(target)
    packed = find_type("mark").encode(value)
    if mask:
        body.load(target)
        body.parts.append(encode.mask(0, find_type("mark").encode(mask & _MARK_BITS), packed))
    else:
        body.parts.append(encode.constant(0, packed))
    body.parts.append(store)


def _copy(body: RuleBody, target: Expression, source: Expression, mask: int) -> None:
    store = _store(target)
    if find_field(source).kind.size != 4:
        raise Unsupported(f"linkspan copies marks only, not {source}")
    body.load(source)
    if mask & _MARK_BITS != _MARK_BITS:
        body.parts.append(encode.mask(0, find_type("mark").encode(mask), bytes(4)))
    body.parts.append(store)


def _limit(text: str, over: bool) -> bytes:
    found = _LIMIT.fullmatch(text)
    if found is None:
        raise Unsupported(f"limit {text!r}; known is COUNT/UNIT [burst COUNT packets]")
    rate, unit, burst = found.groups()
    packets = _DEFAULT_BURST if burst is None else int(burst)
    return encode.limit(int(rate), _SECONDS[unit], packets, over)
