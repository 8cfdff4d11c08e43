"""iptables' matches as tests of the rule language."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import (
    Concat,
    Ct,
    Expression,
    Fib,
    Flags,
    Limit,
    Masked,
    Match,
    Meta,
    Numgen,
    Opaque,
    Payload,
    Range,
    SetOf,
    Statement,
    Value,
)
from linkspan.kernel.netfilter.iptables.ipsets import IpSet, UnclearSetError, ask_set
from linkspan.kernel.netfilter.iptables.words import Group, Option
from linkspan.kernel.netfilter.values import CT_STATES, TCP_FLAGS

ALL_BITS: Final = 0xFFFFFFFF
_PROTOCOLS = {"ipv6-icmp": "icmpv6", "icmp6": "icmpv6"}
_WITHOUT_MEANING = frozenset(("comment",))
_IPV6_KINDS = {"MULTICAST": True, "UNICAST": False}
"""Types of IPv6 addresses that are ranges of numbers: whether they are in ff00::/8."""
_PERIODS = {"sec": "second", "min": "minute", "hour": "hour", "day": "day"}
_STATUSES = {"EXPECTED": "expected", "SEEN_REPLY": "seen-reply", "ASSURED": "assured",
             "CONFIRMED": "confirmed"}  # fmt: skip
_TUPLES = {
    "--ctorigsrc": ("saddr", "original"), "--ctorigdst": ("daddr", "original"),
    "--ctreplsrc": ("saddr", "reply"), "--ctrepldst": ("daddr", "reply"),
    "--ctorigsrcport": ("proto-src", "original"), "--ctorigdstport": ("proto-dst", "original"),
    "--ctreplsrcport": ("proto-src", "reply"), "--ctrepldstport": ("proto-dst", "reply"),
}  # fmt: skip
_LIMITS = {"iif": "--limit-iface-in", "oif": "--limit-iface-out"}
_LAST_PORT = 65535
_PROBABILITY = 1 << 31
"""xt_statistic compares 31 random bits with the probability times this."""


class NotUnderstoodError(Exception):
    """An option has no words in the rule language."""


def read_group(
    group: Group, family: str, protocol: str | None, sets: Mapping[str, IpSet] | None = None
) -> Iterator[Statement]:
    """What a match module tests, for "ip" or "ip6"; `protocol` is what `-p` says, `sets` those
    of ipset that there are.
    """
    if group.module in _WITHOUT_MEANING:
        return
    if group.module == "set":
        yield _set(group, family, sets or {})
        return
    if not group.module:
        for option in group.options:
            yield from _try_to_read(Group("", (option,)), family, protocol)
        return
    yield from _try_to_read(group, family, protocol)


def _try_to_read(group: Group, family: str, protocol: str | None) -> list[Statement]:
    try:
        if group.module in _WHOLE:
            return _WHOLE[group.module](group, family)
        if group.module and group.module not in _MODULES:
            raise NotUnderstoodError
        return [one for option in group.options for one in _read(option, group, family, protocol)]
    except (NotUnderstoodError, ValueError, KeyError):
        return [Opaque(group.text)]


def comparison(left: Expression, right: Value, invert: bool) -> Match:
    """A test for equality or, with `invert`, for its opposite."""
    return Match(left, right, "!=" if invert else "==")


def _read(option: Option, group: Group, family: str, protocol: str | None) -> list[Statement]:
    name, invert = option.name, option.invert
    field = _ADDRESSES.get(name)
    if field is not None:
        return [comparison(Payload(family, field), _addresses(option.value), invert)]
    if name in ("-i", "-o"):
        link = _link(option.value)
        if link == "*":
            return _nothing(invert)
        return [comparison(Meta("iifname" if name == "-i" else "oifname"), link, invert)]
    if name == "-p":
        return [comparison(Meta("l4proto"), read_protocol(option.value), invert)]
    if name in _PORTS:
        field = _PORTS[name]
        return [comparison(Payload(protocol or "th", field), _ports(option.value), invert)]
    if name == "--ports":
        return [_either_port(option, protocol or "th")]
    reader = _READERS.get((group.module, name)) or _READERS.get(("", name))
    if reader is None:
        raise NotUnderstoodError
    return reader(option, family)


def _nothing(invert: bool) -> list[Statement]:
    if invert:
        raise NotUnderstoodError
    return []


def read_protocol(text: str) -> Part:
    """A protocol as nft names it, or its number."""
    return int(text) if text.isdecimal() else _PROTOCOLS.get(text, text)


def _link(text: str) -> str:
    return f"{text[:-1]}*" if text.endswith("+") else text


def _addresses(text: str) -> Value:
    """An address or prefix; one of all bits is the address. Masks with holes are not read."""
    address, _, length = text.partition("/")
    if "." in length:
        number = int.from_bytes(bytes(map(int, length.split("."))), "big")
        ones = number.bit_count()
        if number != ALL_BITS ^ (ALL_BITS >> ones):
            raise NotUnderstoodError
        length = str(ones)
    elif ":" in length:
        raise NotUnderstoodError
    if not length or int(length) == (128 if ":" in address else 32):
        return address
    return f"{address}/{length}"


def _range(text: str) -> int | Range:
    first, colon, last = text.partition(":")
    if not colon:
        return int(first)
    return Range(int(first or 0), int(last or _LAST_PORT))


def _ports(text: str) -> Value:
    parts = [_range(part) for part in text.split(",")]
    return parts[0] if len(parts) == 1 else SetOf(tuple(parts))


def _either_port(option: Option, protocol: str) -> Match:
    """--ports: the source or the destination port is one of these. Both side by side, in a set
    whose elements do not overlap.
    """
    listed = [_range(part) for part in option.value.split(",")]
    any_port = Range(0, _LAST_PORT)
    rows: list[tuple[int | Range, ...]] = [(port, any_port) for port in listed]
    rows += [(other, port) for other in _beside(listed) for port in listed]
    both = Concat((Payload(protocol, "sport"), Payload(protocol, "dport")))
    return comparison(both, SetOf(tuple(rows)), option.invert)


def _beside(listed: list[int | Range]) -> Iterator[Range]:
    """The ports that are not listed."""
    spans = sorted(
        (int(one.first), int(one.last)) if isinstance(one, Range) else (one, one)
        for one in listed
    )  # fmt: skip
    start = 0
    for first, last in spans:
        if start < first:
            yield Range(start, first - 1)
        start = max(start, last + 1)
    if start <= _LAST_PORT:
        yield Range(start, _LAST_PORT)


def _several(names: list[str]) -> Value:
    return names[0] if len(names) == 1 else SetOf(tuple(names))


def _set(group: Group, family: str, sets: Mapping[str, IpSet]) -> Statement:
    """--match-set NAME src,dst; what counters say or elements exclude by themselves is not read."""
    match group.options:
        case (Option("--match-set", (name, sides), invert),) if name in sets:
            try:
                return ask_set(sets[name], sides, invert, family)
            except (UnclearSetError, KeyError):
                pass
    return Opaque(group.text)


# Modules ------------------------------------------------------------------------------


def _state(option: Option, family: str) -> list[Statement]:
    names = option.value.split(",")
    states = tuple(name.lower() for name in names if name.lower() in CT_STATES)
    statuses = tuple(name.lower() for name in names if name in ("SNAT", "DNAT"))
    if len(states) == len(names):
        return [Flags(Ct("state"), states, option.invert)]
    if len(statuses) == len(names):
        return [Flags(Ct("status"), statuses, option.invert)]
    raise NotUnderstoodError


def _status(option: Option, family: str) -> list[Statement]:
    if option.value == "NONE":
        return [comparison(Ct("status"), 0, option.invert)]
    names = tuple(_STATUSES[name] for name in option.value.split(","))
    return [Flags(Ct("status"), names, option.invert)]


def _tuple_field(option: Option, family: str) -> list[Statement]:
    field, direction = _TUPLES[option.name]
    if field.endswith("addr"):
        left = Ct(f"{family} {field}", direction)
        return [comparison(left, _addresses(option.value), option.invert)]
    return [comparison(Ct(field, direction), _range(option.value), option.invert)]


def _direction(option: Option, family: str) -> list[Statement]:
    return [comparison(Ct("direction"), option.value.lower(), option.invert)]


def _address_type(group: Group, family: str) -> list[Statement]:
    if family == "ip6" and any(_kinds_of_numbers(option) for option in group.options):
        return _address_type_by_number(group)
    names = {option.name for option in group.options}
    bound = [link for link in ("iif", "oif") if _LIMITS[link] in names]
    made: list[Statement] = []
    for option in group.options:
        if option.name in ("--src-type", "--dst-type"):
            address = "saddr" if option.name == "--src-type" else "daddr"
            kinds = [kind.lower() for kind in option.value.split(",")]
            left = Fib("type", (address, *bound))
            made.append(comparison(left, _several(kinds), option.invert))
        elif not option.name.startswith("--limit-iface-"):
            raise NotUnderstoodError
    return made


def _kinds_of_numbers(option: Option) -> bool:
    return option.name in ("--src-type", "--dst-type") and option.value in _IPV6_KINDS


def _address_type_by_number(group: Group) -> list[Statement]:
    """In IPv6 unicast and multicast are what the address is, not what a route says, so that
    every local address is unicast too (match_type6 in net/netfilter/xt_addrtype.c).
    """
    made: list[Statement] = []
    for option in group.options:
        if not _kinds_of_numbers(option):
            raise NotUnderstoodError
        field = Payload("ip6", "saddr" if option.name == "--src-type" else "daddr")
        made.append(comparison(field, "ff00::/8", option.invert == _IPV6_KINDS[option.value]))
    return made


def _mark(field: Expression) -> Callable[[Option, str], list[Statement]]:
    def read(option: Option, family: str) -> list[Statement]:
        value, _, mask = option.value.partition("/")
        if not mask or int(mask, 0) == ALL_BITS:
            return [comparison(field, int(value, 0), option.invert)]
        return [comparison(Masked(field, int(mask, 0)), int(value, 0), option.invert)]

    return read


def _icmp(option: Option, family: str) -> list[Statement]:
    """--icmp-type TYPE[/CODE]; 255 is any."""
    number, _, code = option.value.partition("/")
    if number in ("any", "255"):
        return _nothing(option.invert)
    protocol = "icmp" if family == "ip" else "icmpv6"
    kind: Part = int(number) if number.isdecimal() else number
    made: list[Statement] = [comparison(Payload(protocol, "type"), kind, option.invert)]
    if code:
        if option.invert:
            raise NotUnderstoodError
        made.append(comparison(Payload(protocol, "code"), int(code), False))
    return made


def _flags(option: Option, family: str) -> list[Statement]:
    """--tcp-flags MASK SET: of the first ones exactly the second ones."""
    mask, wanted = (_bits(words) for words in option.values)
    return [comparison(Masked(Payload("tcp", "flags"), mask), wanted, option.invert)]


def _bits(text: str) -> int:
    if text == "NONE":
        return 0
    if text == "ALL":
        return 0x3F
    return sum(TCP_FLAGS[name.lower()] for name in text.split(","))


def _syn(option: Option, family: str) -> list[Statement]:
    return [comparison(Masked(Payload("tcp", "flags"), 0x17), 2, option.invert)]


def _mac(option: Option, family: str) -> list[Statement]:
    return [comparison(Payload("ether", "saddr"), option.value.lower(), option.invert)]


def _packet_type(option: Option, family: str) -> list[Statement]:
    kind = "host" if option.value == "unicast" else option.value
    return [comparison(Meta("pkttype"), kind, option.invert)]


def _address_range(option: Option, family: str) -> list[Statement]:
    field = "saddr" if option.name == "--src-range" else "daddr"
    first, _, last = option.value.partition("-")
    return [comparison(Payload(family, field), Range(first, last or first), option.invert)]


def _user(option: Option, family: str) -> list[Statement]:
    field = "skuid" if option.name == "--uid-owner" else "skgid"
    first, dash, last = option.value.partition("-")
    value: Value = Range(int(first), int(last)) if dash else int(first)
    return [comparison(Meta(field), value, option.invert)]


def _limit(group: Group, family: str) -> list[Statement]:
    found = {option.name: option.value for option in group.options}
    amount, _, period = found["--limit"].partition("/")
    text = f"{amount}/{_PERIODS.get(period, period)}"
    burst = found.get("--limit-burst")
    return [Limit(f"{text} burst {burst} packets" if burst else text)]


def _statistic(group: Group, family: str) -> list[Statement]:
    found = {option.name: option for option in group.options}
    if found["--mode"].value == "random":
        chance = found["--probability"]
        number = round(float(chance.value) * _PROBABILITY)
        left = Numgen("random", _PROBABILITY)
        return [Match(left, number, ">=" if chance.invert else "<")]
    every = found["--every"]
    packet = int(found["--packet"].value) if "--packet" in found else 0
    return [comparison(Numgen("inc", int(every.value)), packet, every.invert)]


_ADDRESSES = {"-s": "saddr", "-d": "daddr"}
_PORTS = {"--dport": "dport", "--sport": "sport", "--dports": "dport", "--sports": "sport",
          "--destination-port": "dport", "--source-port": "sport"}  # fmt: skip
_READERS: dict[tuple[str, str], Callable[[Option, str], list[Statement]]] = {
    ("conntrack", "--ctstate"): _state,
    ("state", "--state"): _state,
    ("conntrack", "--ctstatus"): _status,
    ("conntrack", "--ctdir"): _direction,
    **{("conntrack", name): _tuple_field for name in _TUPLES},
    ("mark", "--mark"): _mark(Meta("mark")),
    ("connmark", "--mark"): _mark(Ct("mark")),
    ("icmp", "--icmp-type"): _icmp,
    ("icmp6", "--icmpv6-type"): _icmp,
    ("tcp", "--tcp-flags"): _flags,
    ("tcp", "--syn"): _syn,
    ("mac", "--mac-source"): _mac,
    ("pkttype", "--pkt-type"): _packet_type,
    ("iprange", "--src-range"): _address_range,
    ("iprange", "--dst-range"): _address_range,
    ("owner", "--uid-owner"): _user,
    ("owner", "--gid-owner"): _user,
}
_WHOLE: dict[str, Callable[[Group, str], list[Statement]]] = {
    "addrtype": _address_type, "limit": _limit, "statistic": _statistic,
}  # fmt: skip
_MODULES = frozenset(module for module, _ in _READERS) | {"udp", "sctp", "dccp", "multiport"}
