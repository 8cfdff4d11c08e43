"""Which kernel settings make up a data plane, and reading them.

The settings of one link come with the link itself: the kernel adds its whole table of them
(IFLA_INET_CONF, IFLA_INET6_CONF; linux/ip.h, linux/ipv6.h) to every answer.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator

from linkspan.dataplane.objects import Sysctl
from linkspan.kernel import sysctl
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.links import AF_SPEC
from linkspan.kernel.netlink.seenlinks import SeenLink

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


def read_general(name: str, namespace: int) -> Iterator[Sysctl]:
    """The settings of a whole namespace; `namespace` is an open file descriptor."""
    for path, value in sysctl.read_many(GENERAL, namespace).items():
        yield Sysctl(namespace=name, path=path, value=" ".join(value.split()))


ENDPOINT = frozenset({"ipv6/accept_ra", "ipv6/disable_ipv6"})
"""What drivers state of links inside sandboxes."""


def read_link(seen: SeenLink, name: str, only: Collection[str] | None = None) -> Iterator[Sysctl]:
    """The settings of one link; `only` some of them ("ipv6/accept_ra")."""
    spec = seen.attributes.get(AF_SPEC)
    if spec is None:
        return
    families = wire.parse_attributes(spec)
    for family, version, settings in ((_AF_INET, "ipv4", IPV4), (_AF_INET6, "ipv6", IPV6)):
        if family not in families:
            continue
        table = wire.parse_attributes(families[family]).get(_CONF[family])
        if table is None:
            continue
        values = struct.unpack(f"={len(table) // 4}i", table[: len(table) & ~3])
        for setting, place in settings.items():
            if place <= len(values) and (only is None or f"{version}/{setting}" in only):
                yield Sysctl(
                    namespace=name,
                    path=f"{version}/conf/{seen.link.name}/{setting}",
                    value=str(values[place - 1]),
                )
