"""Which kernel settings make up a data plane, and reading them.

The settings of one link come with the link itself: the kernel adds its whole table of them
(IFLA_INET_CONF, IFLA_INET6_CONF; linux/ip.h, linux/ipv6.h) to every answer.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Collection, Iterator

from linkspan.dataplane.objects import Sysctl
from linkspan.kernel import sysctl
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.links import AF_SPEC
from linkspan.kernel.netlink.seenlinks import SeenLink
from linkspan.kernel.netlink.socket import NetlinkSocket, Refusal

_AF_INET = 2
_AF_INET6 = 10
_CONF = {_AF_INET: 1, _AF_INET6: 2}

IPV4 = {
    "forwarding": 1,
    "proxy_arp": 3,
    "accept_redirects": 4,
    "send_redirects": 6,
    "rp_filter": 8,
    "arp_filter": 13,
    "arp_announce": 18,
    "arp_ignore": 19,
    "arp_accept": 21,
    "arp_notify": 22,
    "accept_local": 23,
    "src_valid_mark": 24,
    "proxy_arp_pvlan": 25,
    "route_localnet": 26,
}
"""Settings of a link for IPv4, by their place in the table, counted from 1."""

IPV6 = {
    "forwarding": 1,
    "accept_ra": 4,
    "autoconf": 6,
    "proxy_ndp": 23,
    "disable_ipv6": 27,
    "force_forwarding": 60,
}
"""The same for IPv6."""

GENERAL = (
    *(f"ipv4/conf/{scope}/{name}" for scope in ("all", "default") for name in IPV4),
    *(f"ipv6/conf/{scope}/{name}" for scope in ("all", "default") for name in IPV6),
    "ipv4/ip_forward",
    "ipv4/ip_nonlocal_bind",
    "ipv4/ip_local_port_range",
    "ipv4/ip_local_reserved_ports",
    "ipv4/ip_unprivileged_port_start",
    "ipv6/bindv6only",
    "bridge/bridge-nf-call-iptables",
    "bridge/bridge-nf-call-ip6tables",
    "bridge/bridge-nf-call-arptables",
)
"""Settings of a whole namespace."""


SWITCHES = tuple(
    f"ipv4/conf/all/{name}"
    for name in (
        "accept_local", "arp_filter", "arp_ignore", "route_localnet", "send_redirects",
        "src_valid_mark",
    )
)  # fmt: skip
"""Settings of a whole namespace that decide about packets, where netlink does not tell them."""
_BRIDGE = tuple(path for path in GENERAL if path.startswith("bridge/"))

_GETNETCONF = 82
_ALL = -1
_NETCONF = {
    _AF_INET: (
        (2, ("ipv4/ip_forward", "ipv4/conf/all/forwarding")),
        (3, ("ipv4/conf/all/rp_filter",)),
        (5, ("ipv4/conf/all/proxy_arp",)),
    ),
    _AF_INET6: (
        (2, ("ipv6/conf/all/forwarding",)),
        (5, ("ipv6/conf/all/proxy_ndp",)),
    ),
}
"""Settings by their place in RTM_GETNETCONF (NETCONFA_*; linux/netconf.h)."""


def read_general(name: str) -> Iterator[Sysctl]:
    """The settings of the calling thread's whole namespace."""
    for path, value in sysctl.read_many(GENERAL).items():
        yield Sysctl(namespace=name, path=path, value=" ".join(value.split()))


def read_switches(name: str, sock: NetlinkSocket, with_bridges: bool) -> Iterator[Sysctl]:
    """Those of them that decide about packets; `sock` is a route socket of the namespace.

    Files below /proc/sys/net take the longer to open the more namespaces there are: all have
    a folder of one name in one hash table. So netlink is asked as far as it goes.
    """
    for family, fields in _NETCONF.items():
        body = bytes((family, 0, 0, 0)) + wire.attribute_s32(1, _ALL)
        answer = sock.query(wire.pack_message(_GETNETCONF, 0, 0, body))
        if isinstance(answer, Refusal):
            continue
        values = wire.parse_attributes(answer[1], 4)
        for place, paths in fields:
            if place in values:
                value = str(wire.read_s32(values[place]))
                for path in paths:
                    yield Sysctl(namespace=name, path=path, value=value)
    for path, value in sysctl.read_many(SWITCHES + (_BRIDGE if with_bridges else ())).items():
        yield Sysctl(namespace=name, path=path, value=value)


ENDPOINT = frozenset({"ipv6/accept_ra", "ipv6/disable_ipv6"})
"""What drivers state of links inside sandboxes."""


def read_link(seen: SeenLink, name: str, only: Collection[str] | None = None) -> Iterator[Sysctl]:
    """The settings of one link; `only` some of them ("ipv6/accept_ra")."""
    spec = seen.attributes.get(AF_SPEC)
    if spec is None:
        return
    families = wire.parse_attributes(spec)
    for family, version in ((_AF_INET, "ipv4"), (_AF_INET6, "ipv6")):
        if family not in families:
            continue
        table = wire.parse_attributes(families[family]).get(_CONF[family])
        if table is None:
            continue
        for setting, path, value in _read_table(version, seen.link.name, table):
            if only is None or f"{version}/{setting}" in only:
                yield Sysctl(namespace=name, path=path, value=value)


@functools.lru_cache(maxsize=512)
def _read_table(version: str, link: str, table: bytes) -> tuple[tuple[str, str, str], ...]:
    """(name, path, value) of a link's settings: those of many links are alike."""
    values = struct.unpack(f"={len(table) // 4}i", table[: len(table) & ~3])
    return tuple(
        (setting, f"{version}/conf/{link}/{setting}", str(values[place - 1]))
        for setting, place in (IPV4 if version == "ipv4" else IPV6).items()
        if place <= len(values)
    )
