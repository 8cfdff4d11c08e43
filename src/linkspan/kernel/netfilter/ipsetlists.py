"""Sets of ipset by netlink (NFNL_SUBSYS_IPSET; linux/netfilter/ipset/ip_set.h)."""

from __future__ import annotations

import struct

from linkspan.errors import KernelRefused
from linkspan.kernel.netfilter.iptables.ipsets import Entry, IpSet
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket
from linkspan.kernel.netlink.text import address_text, mac_text
from linkspan.kernel.netlink.wire import (
    attribute_u8,
    iterate_attributes,
    pack_message,
    parse_attributes,
    read_text,
)

_LIST = 6 << 8 | 7
_PROTOCOL = 6
_HEADER = 4
_NAME, _TYPE, _FAMILY, _DATA, _ENTRIES = 2, 3, 5, 7, 8
_IP, _CIDR, _PORT, _PROTO, _FLAGS, _MARK = 1, 3, 4, 7, 8, 10
_ETHER, _IP2, _CIDR2, _IFACE = 17, 20, 21, 23
_NETMASK = 20
"""In the description of a set; in entries the number means another thing."""
_PHYSICAL, _NOMATCH = 0x2, 0x4


def list_sets(namespace: int | None = None) -> dict[str, IpSet]:
    """All sets of a namespace (an open file descriptor, None for one's own) by name.

    None where this kernel has no sets. Raises KernelRefused when they may not be read.
    """
    request = pack_message(_LIST, 0, 0, struct.pack("=BBH", 0, 0, 0) + attribute_u8(1, _PROTOCOL))
    found: dict[str, IpSet] = {}
    with NetlinkSocket(NETFILTER, namespace) as sock:
        try:
            rows = sock.dump(request, "reading sets of ipset")
        except KernelRefused as error:
            if error.errno in (1, 13):
                raise
            return {}
    for _, payload in rows:
        data = parse_attributes(payload, _HEADER)
        name = read_text(data[_NAME])
        if _TYPE in data:
            description = parse_attributes(data.get(_DATA, b""))
            family = "ip6" if data[_FAMILY][0] == 10 else "ip"
            found[name] = IpSet(
                name, read_text(data[_TYPE]), family, (), masked=_NETMASK in description
            )
        entries = tuple(
            _read_entry(parse_attributes(entry))
            for _, entry in iterate_attributes(data.get(_ENTRIES, b""))
        )
        held = found[name]
        found[name] = held._replace(entries=held.entries + entries)
    return found


def _read_entry(data: dict[int, bytes]) -> Entry:
    flags = int.from_bytes(data.get(_FLAGS, b""), "big")
    return Entry(
        address=_address(data, _IP, _CIDR),
        second=_address(data, _IP2, _CIDR2),
        port=int.from_bytes(data[_PORT][:2], "big") if _PORT in data else None,
        protocol=data[_PROTO][0] if _PROTO in data else None,
        link=read_text(data[_IFACE]) if _IFACE in data else None,
        mac=mac_text(data[_ETHER][:6]) if _ETHER in data else None,
        mark=int.from_bytes(data[_MARK], "big") if _MARK in data else None,
        excluded=bool(flags & _NOMATCH),
        physical=bool(flags & _PHYSICAL),
    )


def _address(data: dict[int, bytes], place: int, length: int) -> str | None:
    if place not in data:
        return None
    address = address_text(next(iter(parse_attributes(data[place]).values())))
    return f"{address}/{data[length][0]}" if length in data else address
