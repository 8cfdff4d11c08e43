"""Neighbour entries on the wire (RTM_*NEIGH; linux/neighbour.h)."""

from __future__ import annotations

import struct
from collections.abc import Callable

from linkspan.dataplane.objects import Neighbour
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.text import (
    FAMILIES,
    address_bytes,
    address_text,
    family_of,
    mac_bytes,
    mac_text,
)

NEWNEIGH = 28
DELNEIGH = 29
GETNEIGH = 30

DESTINATION = 1
LINK_ADDRESS = 2
PROXY = 0x08
PERMANENT = 0x80
_NOARP = 0x40

STATES = {
    "incomplete": 0x01,
    "reachable": 0x02,
    "stale": 0x04,
    "delay": 0x08,
    "probe": 0x10,
    "failed": 0x20,
    "noarp": _NOARP,
    "permanent": PERMANENT,
}
_STATE_NAMES = {number: name for name, number in STATES.items()}

# struct ndmsg: family, index, state, flags, type
info = struct.Struct("=BxxxiHBB")

IndexOf = Callable[[str], int]


def add(neighbour: Neighbour, index_of: IndexOf) -> bytes:
    """The message that adds an entry (permanent unless it states otherwise)."""
    return _message(NEWNEIGH, wire.CREATE | wire.EXCLUDE, neighbour, index_of)


def change(neighbour: Neighbour, index_of: IndexOf) -> bytes:
    """The message that adds an entry or replaces the one that is there."""
    return _message(NEWNEIGH, wire.CREATE | wire.REPLACE, neighbour, index_of)


def remove(neighbour: Neighbour, index_of: IndexOf) -> bytes:
    """The message that deletes an entry."""
    return _message(DELNEIGH, 0, neighbour, index_of)


def _message(type: int, flags: int, neighbour: Neighbour, index_of: IndexOf) -> bytes:
    state = STATES.get(neighbour.state or "permanent")
    if state is None:
        raise InvalidRequest(
            f'"{neighbour.state}" is no state of a neighbour: use one of {", ".join(STATES)}'
        )
    header = info.pack(
        family_of(neighbour.address), index_of(neighbour.link), state,
        PROXY if neighbour.proxy else 0, 0,
    )  # fmt: skip
    parts = wire.attribute(DESTINATION, address_bytes(neighbour.address))
    if neighbour.mac is not None:
        parts += wire.attribute(LINK_ADDRESS, mac_bytes(neighbour.mac))
    return wire.pack_message(type, flags, 0, header + parts)


def list_all(family: int, proxies: bool = False) -> bytes:
    """The message whose dump is every entry of one family; proxies are a list of their own."""
    return wire.pack_message(GETNEIGH, 0, 0, info.pack(family, 0, 0, PROXY if proxies else 0, 0))


def decode(payload: bytes, namespace: str, name_of: Callable[[int], str]) -> Neighbour | None:
    """An entry from the payload of an RTM_NEWNEIGH message.

    None for what `ip neighbour` does not show either: entries that need no resolution
    (multicast, loopback), and other families.
    """
    family, index, state, flags, _ = info.unpack_from(payload)
    if state & _NOARP or family not in FAMILIES:
        return None
    attributes = wire.parse_attributes(payload, info.size)
    mac = attributes.get(LINK_ADDRESS)
    return Neighbour(
        namespace=namespace,
        link=name_of(index),
        address=address_text(attributes[DESTINATION]),
        mac=mac_text(mac) if mac else None,
        state=_STATE_NAMES.get(state),
        proxy=bool(flags & PROXY),
    )
