"""Forwarding entries of bridges and vxlan links on the wire (RTM_*NEIGH of family AF_BRIDGE)."""

from __future__ import annotations

from collections.abc import Callable

from linkspan.dataplane.objects import FdbEntry
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.neighbours import (
    DELNEIGH,
    DESTINATION,
    GETNEIGH,
    LINK_ADDRESS,
    NEWNEIGH,
    PERMANENT,
    STATES,
    info,
)
from linkspan.kernel.netlink.text import address_bytes, address_text, mac_bytes, mac_text

_AF_BRIDGE = 7
_SELF = 0x02
_MASTER = 0x04
_VLAN = 5

IndexOf = Callable[[str], int]


def add(entry: FdbEntry, index_of: IndexOf) -> bytes:
    """The message that adds an entry.

    Not stated, `permanent` is true for an entry of the link's own table; in its bridge's
    table the entry is static: it stays, but the MAC is not the host's own. Entries for
    all-zero and group MACs add up, one a remote VTEP.
    """
    first = mac_bytes(entry.mac)
    several = entry.own and (not any(first) or bool(first[0] & 1))
    flags = wire.CREATE | (wire.APPEND if several else wire.EXCLUDE)
    return _message(NEWNEIGH, flags, entry, index_of)


def change(entry: FdbEntry, index_of: IndexOf) -> bytes:
    """The message that adds an entry or replaces the one that is there."""
    return _message(NEWNEIGH, wire.CREATE | wire.REPLACE, entry, index_of)


def remove(entry: FdbEntry, index_of: IndexOf) -> bytes:
    """The message that deletes an entry."""
    return _message(DELNEIGH, 0, entry, index_of)


def _message(type: int, flags: int, entry: FdbEntry, index_of: IndexOf) -> bytes:
    if entry.permanent or (entry.permanent is None and entry.own):
        state = PERMANENT
    elif entry.permanent is None:
        state = STATES["noarp"]
    else:
        state = STATES["reachable"]
    header = info.pack(_AF_BRIDGE, index_of(entry.link), state, _SELF if entry.own else _MASTER, 0)
    parts = wire.attribute(LINK_ADDRESS, mac_bytes(entry.mac))
    if entry.remote is not None:
        parts += wire.attribute(DESTINATION, address_bytes(entry.remote))
    if entry.vlan is not None:
        parts += wire.attribute_u16(_VLAN, entry.vlan)
    return wire.pack_message(type, flags, 0, header + parts)


def list_all() -> bytes:
    """The message whose dump is every entry of every table."""
    return wire.pack_message(GETNEIGH, 0, 0, info.pack(_AF_BRIDGE, 0, 0, 0, 0))


def decode(payload: bytes, namespace: str, name_of: Callable[[int], str]) -> FdbEntry | None:
    """An entry from the payload of an RTM_NEWNEIGH message; None for one without a MAC."""
    _, index, state, flags, _ = info.unpack_from(payload)
    attributes = wire.parse_attributes(payload, info.size)
    mac = attributes.get(LINK_ADDRESS)
    if mac is None:
        return None
    remote, vlan = attributes.get(DESTINATION), attributes.get(_VLAN)
    return FdbEntry(
        namespace=namespace,
        link=name_of(index),
        mac=mac_text(mac),
        vlan=wire.read_u16(vlan) if vlan else None,
        remote=address_text(remote) if remote else None,
        permanent=bool(state & PERMANENT),
        own=bool(flags & _SELF),
    )
