"""Sets of ipset(8) that iptables' rules ask (`-m set --match-set NAME src,dst`). Pure.

A set is one of the namespace, a table's rules only name it; in the rule language it becomes a
set of each table that asks it. What a set of some type cannot say there is not understood.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_address, ip_network
from typing import Final, NamedTuple

from linkspan.dataplane.objects import Element, Part
from linkspan.dataplane.rules import Concat, Expression, Match, Meta, Named, Payload, SetDefinition

_PROTOCOLS: Final = {6: "tcp", 17: "udp", 132: "sctp", 136: "udplite"}
_SIDES: Final = {"src": "s", "dst": "d"}


class Entry(NamedTuple):
    """What one element of a set says, as far as it says anything of it."""

    address: str | None = None
    """An address or prefix."""
    second: str | None = None
    port: int | None = None
    protocol: int | None = None
    link: str | None = None
    mac: str | None = None
    mark: int | None = None
    excluded: bool = False
    """What lies in it is not in the set, though in a wider element (nomatch)."""
    physical: bool = False
    """`link` is a bridge's port."""


class IpSet(NamedTuple):
    """A set with its entries. `type` is ipset's word for it ("hash:ip,port")."""

    name: str
    type: str
    family: str
    """ip or ip6"""
    entries: tuple[Entry, ...]
    masked: bool = False
    """Addresses are cut to a length before they are looked up."""

    @property
    def dimensions(self) -> list[str]:
        """The parts of its key: ip, net, port, iface, mac, mark, set."""
        return self.type.partition(":")[2].split(",")


class AskedSet(NamedTuple):
    """A set as a table of the rule language has it."""

    definition: SetDefinition
    rows: tuple[tuple[tuple[Part, ...], tuple[Part, ...] | None], ...]
    """First and last parts of each element."""


class UnclearSetError(Exception):
    """The rule language has no words for a set, or for what a rule asks it."""


def ask_set(held: IpSet, sides: str, invert: bool, family: str) -> Match:
    """The test `--match-set NAME SIDES` in a rule of "ip" or "ip6".

    Raises UnclearSetError.
    """
    dimensions = held.dimensions
    words = sides.split(",")
    if held.family != family and "port" not in dimensions[:1]:
        raise UnclearSetError
    if len(words) < len(dimensions) or (invert and "port" in dimensions):
        raise UnclearSetError  # a packet without ports is in no such set
    read_set(held)
    parts: list[Expression] = []
    for dimension, side in zip(dimensions, words, strict=False):
        parts += _expressions(dimension, _SIDES[side], family, held.type)
    left = parts[0] if len(parts) == 1 else Concat(tuple(parts))
    return Match(left, Named(held.name), "!=" if invert else "==")


def _expressions(dimension: str, side: str, family: str, type: str) -> list[Expression]:
    match dimension:
        case "ip" | "net":
            return [Payload(family, f"{side}addr")]
        case "port" if type == "bitmap:port":
            return [Payload("th", f"{side}port")]
        case "port":
            return [Meta("l4proto"), Payload("th", f"{side}port")]
        case "iface":
            return [Meta("iifname" if side == "s" else "oifname")]
        case "mac":
            return [Payload("ether", f"{side}addr")]
        case "mark":
            return [Meta("mark")]
    raise UnclearSetError


def read_set(held: IpSet) -> AskedSet:
    """The set as a set of the rule language. Raises UnclearSetError."""
    kinds: list[str] = []
    for dimension in held.dimensions:
        match dimension:
            case "ip" | "net":
                kinds.append("ipv4_addr" if held.family == "ip" else "ipv6_addr")
            case "port":
                kinds += ["inet_service"] if held.type == "bitmap:port" else [
                    "inet_proto", "inet_service",
                ]  # fmt: skip
            case "iface":
                kinds.append("ifname")
            case "mac":
                kinds.append("ether_addr")
            case "mark":
                kinds.append("mark")
            case _:
                raise UnclearSetError
    if held.masked or any(entry.physical for entry in held.entries):
        raise UnclearSetError
    rows: list[tuple[tuple[Part, ...], tuple[Part, ...]]]
    if held.dimensions in (["ip"], ["net"]):
        rows = [((first,), (last,)) for first, last in _intervals(held.entries)]
    elif any(entry.excluded for entry in held.entries):
        raise UnclearSetError
    else:
        rows = [_row(entry, held) for entry in held.entries]
    definition = SetDefinition(name=held.name, key=tuple(kinds), interval=True)
    return AskedSet(
        definition, tuple((first, None if last == first else last) for first, last in rows)
    )


def _intervals(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """Ranges of addresses that do not touch: the narrowest prefix that holds one decides."""
    cuts: dict[int, None] = {}
    nets = [(ip_network(entry.address or ""), entry.excluded) for entry in entries]
    for net, _ in nets:
        cuts[int(net.network_address)] = cuts[int(net.broadcast_address) + 1] = None
    # Wide ones first: later ones write over a part of them.
    nets.sort(key=lambda row: row[0].prefixlen)
    starts = sorted(cuts)
    places = {start: number for number, start in enumerate(starts)}
    inside = [False] * len(starts)
    for net, excluded in nets:
        first, end = places[int(net.network_address)], places[int(net.broadcast_address) + 1]
        inside[first:end] = [not excluded] * (end - first)
    made: list[tuple[int, int]] = []
    for number, start in enumerate(starts):
        if not inside[number]:
            continue
        last = starts[number + 1] - 1
        if made and made[-1][1] + 1 == start:
            made[-1] = (made[-1][0], last)
        else:
            made.append((start, last))
    address = type(nets[0][0].network_address) if nets else ip_address
    return [(str(address(first)), str(address(last))) for first, last in made]


def _row(entry: Entry, held: IpSet) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
    first: list[Part] = []
    last: list[Part] = []
    addresses = iter((entry.address, entry.second))
    for dimension in held.dimensions:
        match dimension:
            case "ip" | "net":
                net = ip_network(next(addresses) or "")
                first.append(str(net.network_address))
                last.append(str(net.broadcast_address))
            case "port":
                if held.type != "bitmap:port":
                    protocol = _PROTOCOLS.get(entry.protocol or 0)
                    if protocol is None:
                        raise UnclearSetError  # of ICMP it is type and code
                    first.append(protocol)
                    last.append(protocol)
                first.append(entry.port or 0)
                last.append(entry.port or 0)
            case "iface" | "mac":
                value = entry.link if dimension == "iface" else entry.mac
                if value is None:
                    raise UnclearSetError  # any MAC
                first.append(value)
                last.append(value)
            case "mark":
                first.append(entry.mark or 0)
                last.append(entry.mark or 0)
    return tuple(first), tuple(last)


def elements_of(
    asked: Iterable[str], sets: Mapping[str, IpSet], namespace: str, family: str, table: str
) -> Iterator[Element]:
    """The elements of the sets that a table's rules ask, as elements of that table."""
    for name in asked:
        for first, last in read_set(sets[name]).rows:
            yield Element(
                namespace=namespace, family=family, table=table, set=name, first=first, last=last
            )
