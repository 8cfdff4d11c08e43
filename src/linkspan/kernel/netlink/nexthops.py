"""Nexthop objects on the wire (RTM_GETNEXTHOP; linux/nexthop.h).

A route shows the way of its nexthop object itself, unless nexthop_compat_mode is off: then
only the object's number.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import NamedTuple

import msgspec

from linkspan.dataplane.objects import NextHop, Route
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.routes import ENCAPSULATIONS
from linkspan.kernel.netlink.text import address_text

GETNEXTHOP = 106

_ID = 1
_GROUP = 2
_BLACKHOLE = 4
_OUTPUT_LINK = 5
_GATEWAY = 6
_ENCAP_TYPE = 7

# struct nhmsg: family, scope, protocol, -, flags
_info = struct.Struct("=BBBxI")
# struct nexthop_grp: id, weight - 1, its upper byte, -
_member = struct.Struct("=IBBxx")


class Nexthop(NamedTuple):
    """One way, or a group of (number, weight) of others."""

    hop: NextHop
    blackhole: bool
    group: tuple[tuple[int, int], ...]


def list_all() -> bytes:
    """The message whose dump is every nexthop object."""
    return wire.pack_message(GETNEXTHOP, 0, 0, _info.pack(0, 0, 0, 0))


def decode(payload: bytes, name_of: Callable[[int], str]) -> tuple[int, Nexthop]:
    """A nexthop object by its number, from the payload of an RTM_NEWNEXTHOP message."""
    found = wire.parse_attributes(payload, _info.size)
    gateway, link, encap = found.get(_GATEWAY), found.get(_OUTPUT_LINK), found.get(_ENCAP_TYPE)
    number = wire.read_u16(encap) if encap else 0
    hop = NextHop(
        gateway=address_text(gateway) if gateway else None,
        link=name_of(wire.read_u32(link)) if link else None,
        encap=ENCAPSULATIONS.get(number, str(number)) if encap else None,
    )
    members = tuple(
        (id, (low | high << 8) + 1) for id, low, high in _member.iter_unpack(found.get(_GROUP, b""))
    )
    return wire.read_u32(found[_ID]), Nexthop(hop, _BLACKHOLE in found, members)


def needs_objects(routes: Iterable[Route]) -> bool:
    """Whether a route names a nexthop object and no way."""
    return any(map(_is_short, routes))


def _is_short(route: Route) -> bool:
    return route.nexthop is not None and not (route.link or route.gateway or route.hops)


def complete(route: Route, objects: dict[int, Nexthop]) -> Route:
    """The route with the way that its nexthop object says; one that is gone changes nothing."""
    if not _is_short(route):
        return route
    found = objects.get(route.nexthop or 0)
    if found is None:
        return route
    if found.blackhole:
        return msgspec.structs.replace(route, type="blackhole")
    hops = tuple(
        msgspec.structs.replace(objects[id].hop, weight=weight)
        for id, weight in found.group
        if id in objects
    )
    if hops:
        return msgspec.structs.replace(route, hops=hops)
    hop = found.hop
    return msgspec.structs.replace(route, gateway=hop.gateway, link=hop.link, encap=hop.encap)
