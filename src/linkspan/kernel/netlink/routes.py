"""Routes on the wire (RTM_*ROUTE; linux/rtnetlink.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable
from socket import AF_INET, AF_INET6

from linkspan.dataplane.objects import NextHop, Route
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.addresses import scope_name, scope_number
from linkspan.kernel.netlink.text import (
    address_bytes,
    address_text,
    family_of,
    prefix_text,
    split_prefix,
)

NEWROUTE = 24
DELROUTE = 25
GETROUTE = 26

_DESTINATION = 1
_SOURCE = 2
_OUTPUT_LINK = 4
_GATEWAY = 5
_PRIORITY = 6
_PREFERRED_SOURCE = 7
_METRICS = 8
_MULTIPATH = 9
_TABLE = 15
_VIA = 18
_ENCAP_TYPE = 21
_NEXTHOP = 30
_METRIC_MTU = 2
_HOP_ONLINK = 4
_CLONED = 0x200

_PROTOCOL_BOOT = 3
_TABLE_COMPAT = 252
LOCAL_TABLE = 255

# struct rtmsg: family, destination and source length, tos, table, protocol, scope, type, flags
_info = struct.Struct("=BBBBBBBBI")
# struct rtnexthop: length, flags, hops (weight - 1), index
_hop = struct.Struct("=HBBi")

TYPES = (
    "unspec", "unicast", "local", "broadcast", "anycast", "multicast", "blackhole",
    "unreachable", "prohibit", "throw", "nat", "xresolve",
)  # fmt: skip
ENCAPSULATIONS = {
    1: "mpls", 2: "ip", 3: "ila", 4: "ip6", 5: "seg6", 6: "bpf", 7: "seg6local", 8: "rpl",
    9: "ioam6", 10: "xfrm",
}  # fmt: skip
"""LWTUNNEL_ENCAP_* of linux/lwtunnel.h."""
_TYPE_NUMBERS = {name: number for number, name in enumerate(TYPES)}
_WITHOUT_WAY = frozenset(("blackhole", "unreachable", "prohibit", "throw"))

IndexOf = Callable[[str], int]


def add(route: Route, index_of: IndexOf) -> bytes:
    """The message that adds a route; refused when there is one with its identity."""
    return _message(NEWROUTE, wire.CREATE | wire.EXCLUDE, route, index_of)


def change(new: Route, index_of: IndexOf) -> bytes:
    """The message that puts `new`, which is complete, in the place of its predecessor."""
    return _message(NEWROUTE, wire.CREATE | wire.REPLACE, new, index_of)


def remove(route: Route, index_of: IndexOf) -> bytes:
    """The message that deletes a route: exactly this one, as far as it is stated."""
    return _message(DELROUTE, 0, route, index_of)


def _message(type: int, flags: int, route: Route, index_of: IndexOf) -> bytes:
    family = family_of(route.destination)
    destination, length = split_prefix(route.destination)
    number = _TYPE_NUMBERS.get(route.type)
    if number is None:
        raise InvalidRequest(f'"{route.type}" is no type of route: use one of {", ".join(TYPES)}')
    parts = []
    if length:
        parts.append(wire.attribute(_DESTINATION, destination))
    if route.table > 255:
        parts.append(wire.attribute_u32(_TABLE, route.table))
    if route.metric:
        parts.append(wire.attribute_u32(_PRIORITY, route.metric))
    if route.source is not None:
        parts.append(wire.attribute(_PREFERRED_SOURCE, address_bytes(route.source)))
    if route.mtu is not None:
        parts.append(wire.nested(_METRICS, wire.attribute_u32(_METRIC_MTU, route.mtu)))
    if route.hops:
        hops = b"".join(_encode_hop(hop, route, index_of) for hop in route.hops)
        parts.append(wire.attribute(_MULTIPATH, hops))
    else:
        if route.gateway is not None:
            parts.append(_encode_gateway(route.gateway, family))
        # An IPv6 route without a way is listed at lo, and refused when it says so.
        if route.link is not None and route.type not in _WITHOUT_WAY:
            parts.append(wire.attribute_u32(_OUTPUT_LINK, index_of(route.link)))
    if type == DELROUTE:
        protocol = route.protocol or 0
        scope = scope_number(route.scope) if route.scope is not None else scope_number("nowhere")
    else:
        protocol = _PROTOCOL_BOOT if route.protocol is None else route.protocol
        scope = scope_number(route.scope or _default_scope(route, family))
    header = _info.pack(
        family, length, 0, 0, route.table if route.table <= 255 else _TABLE_COMPAT,
        protocol, scope, number, _HOP_ONLINK if route.onlink and not route.hops else 0,
    )  # fmt: skip
    return wire.pack_message(type, flags, 0, header + b"".join(parts))


def _default_scope(route: Route, family: int) -> str:
    """What `ip route` takes for a scope that is not stated (IPv6 has none)."""
    if family == AF_INET6:
        return "global"
    if route.type in ("local", "nat"):
        return "host"
    if route.type in ("broadcast", "multicast", "anycast"):
        return "link"
    if route.type == "unicast" and route.gateway is None and not route.hops:
        return "link"
    return "global"


def _encode_gateway(gateway: str, family: int) -> bytes:
    data = address_bytes(gateway)
    if family_of(gateway) == family:
        return wire.attribute(_GATEWAY, data)
    return wire.attribute(_VIA, struct.pack("=H", family_of(gateway)) + data)


def _encode_hop(hop: NextHop, route: Route, index_of: IndexOf) -> bytes:
    gateway = b""
    if hop.gateway is not None:
        gateway = _encode_gateway(hop.gateway, family_of(route.destination))
    index = 0 if hop.link is None else index_of(hop.link)
    flags = _HOP_ONLINK if route.onlink else 0
    return _hop.pack(_hop.size + len(gateway), flags, hop.weight - 1, index) + gateway


def list_all(family: int) -> bytes:
    """The message whose dump is every route of one family, in all tables."""
    return wire.pack_message(GETROUTE, 0, 0, _info.pack(family, 0, 0, 0, 0, 0, 0, 0, 0))


def decode(payload: bytes, namespace: str, name_of: Callable[[int], str]) -> Route | None:
    """A route from the payload of an RTM_NEWROUTE message; None for what is no route of a
    table: a cached copy, or a route of another family.
    """
    family, length, source_length, tos, table, protocol, scope, type, flags = _info.unpack_from(
        payload
    )
    if flags & _CLONED or family not in (AF_INET, AF_INET6):
        return None
    attributes = wire.parse_attributes(payload, _info.size)
    get = attributes.get
    output, source, nexthop = get(_OUTPUT_LINK), get(_PREFERRED_SOURCE), get(_NEXTHOP)
    metrics = get(_METRICS)
    mtu = wire.parse_attributes(metrics).get(_METRIC_MTU) if metrics else None
    hops = None
    if _MULTIPATH in attributes:
        hops, flags = _decode_hops(attributes[_MULTIPATH], name_of, flags)
    return Route(
        namespace=namespace,
        destination=prefix_text(get(_DESTINATION), length, family),
        gateway=_decode_gateway(attributes),
        link=name_of(wire.read_u32(output)) if output else None,
        table=wire.read_u32(attributes[_TABLE]) if _TABLE in attributes else table,
        metric=wire.read_u32(attributes[_PRIORITY]) if _PRIORITY in attributes else 0,
        type=TYPES[type] if type < len(TYPES) else str(type),
        source=address_text(source) if source else None,
        scope=scope_name(scope),
        protocol=protocol,
        onlink=bool(flags & _HOP_ONLINK),
        mtu=wire.read_u32(mtu) if mtu else None,
        hops=hops,
        tos=tos,
        source_prefix=prefix_text(get(_SOURCE), source_length, family) if source_length else None,
        encap=_encapsulation(attributes) if _ENCAP_TYPE in attributes else None,
        nexthop=wire.read_u32(nexthop) if nexthop else None,
    )


def _encapsulation(attributes: dict[int, bytes]) -> str | None:
    if _ENCAP_TYPE not in attributes:
        return None
    number = wire.read_u16(attributes[_ENCAP_TYPE])
    return ENCAPSULATIONS.get(number, str(number))


def _decode_gateway(attributes: dict[int, bytes]) -> str | None:
    if _GATEWAY in attributes:
        return address_text(attributes[_GATEWAY])
    if _VIA in attributes:
        return address_text(attributes[_VIA][2:])
    return None


def _decode_hops(
    data: bytes, name_of: Callable[[int], str], flags: int
) -> tuple[tuple[NextHop, ...], int]:
    hops = []
    start = 0
    while start + _hop.size <= len(data):
        size, hop_flags, weight, index = _hop.unpack_from(data, start)
        if size < _hop.size:
            break
        attributes = wire.parse_attributes(data[start + _hop.size : start + size])
        hops.append(
            NextHop(
                gateway=_decode_gateway(attributes),
                link=name_of(index),
                weight=weight + 1,
                encap=_encapsulation(attributes),
            )
        )
        flags |= hop_flags & _HOP_ONLINK
        start += (size + 3) & ~3
    return tuple(hops), flags
