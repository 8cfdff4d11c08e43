"""Which of the host's own interfaces must forward for our networks, and what that needs.

An interface counts when it has an IPv4 address or a route, because packets for published
ports can arrive there and packets of containers leave. Forwarding is switched on where it
is off, and such interfaces are listed in the firewall's set `uplinks` and in the
store, so that a later start knows that they forward only because of us.
"""

from __future__ import annotations

from collections.abc import Iterator

from linkspan.dataplane import (
    HOST,
    Add,
    Address,
    Bridge,
    Change,
    DataPlane,
    Element,
    Link,
    Loopback,
    Operation,
    Remove,
    Replace,
    Route,
    Sysctl,
)
from linkspan.drivers.firewall import NAME
from linkspan.drivers.uplink import describe_uplinks

ALIAS_PREFIX = "linkspan:"
_KERNEL_PROTOCOL = 2


def is_ours(link: Link) -> bool:
    """Whether the link carries our mark."""
    return bool(link.alias) and str(link.alias).startswith(ALIAS_PREFIX)


def find_uplinks(host: DataPlane, version: int = 4) -> list[str]:
    """Names of the host's interfaces that its packets of this IP version come and go by.

    Left out are loopback, links of ours, ports of bridges, and bridges that lead only to
    their own subnet: those of other container networks. A bridge with a route through a
    gateway is the host's own.
    """
    addressed = {
        address.link
        for address in host.of(Address)
        if address.namespace == HOST
        and (":" in address.address) == (version == 6)
        and not address.address.startswith("fe80:")
    }
    routed, gateways = _routed_links(host, version)
    bridges = {link.name for link in host.of(Link) if link.namespace == HOST and _is_bridge(link)}
    found = []
    for link in host.of(Link):
        if link.namespace != HOST or isinstance(link.kind, Loopback) or is_ours(link):
            continue
        if link.master in bridges:
            continue
        needed = gateways if _is_bridge(link) else addressed | routed
        if link.name in needed:
            found.append(link.name)
    return sorted(found)


def _is_bridge(link: Link) -> bool:
    return isinstance(link.kind, Bridge)


def _routed_links(host: DataPlane, version: int) -> tuple[set[str], set[str]]:
    """Links that have unicast routes which someone set, and those of them with a gateway."""
    routed: set[str] = set()
    gateways: set[str] = set()
    for route in host.of(Route):
        if route.namespace != HOST or route.type != "unicast":
            continue
        if (":" in route.destination) != (version == 6):
            continue
        ways = [(hop.link, hop.gateway) for hop in route.hops or ()]
        for link, gateway in [(route.link, route.gateway), *ways]:
            if link is not None:
                if route.protocol != _KERNEL_PROTOCOL:
                    routed.add(link)
                if gateway is not None:
                    gateways.add(link)
    return routed, gateways


def forwarding(interface: str) -> str:
    """The setting that makes an interface forward IPv4."""
    return f"ipv4/conf/{interface}/forwarding"


def plan_uplinks(
    uplinks: list[str],
    *,
    host_is_router: bool,
    settings: dict[str, str],
    guarded: set[str],
    remembered: set[str],
) -> tuple[DataPlane, Change]:
    """What our uplinks need now, and the change that gets there.

    `settings` are the forwarding settings as read, by path; `guarded` the elements of the
    set `uplinks`, `remembered` the interfaces that the store says forward for us (somebody
    may have flushed the set). Any other interface that forwards does so by somebody else's
    will, and is left alone. When the host became a router, guards are taken away and no
    forwarding is switched off; when an interface is no uplink any more, it stops forwarding
    if it did so for us.
    """
    known = guarded | remembered
    ours = [name for name in uplinks if name in known or settings.get(forwarding(name)) == "0"]
    wanted = describe_uplinks(ours, host_is_router=host_is_router)
    kept = {str(item.first[0]) for item in wanted.of(Element)}
    # The guard comes first: nothing is forwarded unguarded for a moment.
    operations: list[Operation] = [
        Add(item) for item in wanted.of(Element) if item.first[0] not in guarded
    ]
    for item in wanted.of(Sysctl):
        if settings.get(item.path) not in (None, item.value):
            operations.append(Replace(Sysctl(path=item.path, value=settings[item.path]), item))
    for name in sorted(known - kept):
        operations += _release(name, host_is_router, settings)
    return wanted, tuple(operations)


def release_uplinks(guarded: set[str], *, host_is_router: bool, settings: dict[str, str]) -> Change:
    """The change that gives every interface that forwards for us back as it was before."""
    operations: list[Operation] = []
    for name in sorted(guarded):
        operations += _release(name, host_is_router, settings)
    return tuple(operations)


def _release(name: str, host_is_router: bool, settings: dict[str, str]) -> Iterator[Operation]:
    path = forwarding(name)
    if not host_is_router and settings.get(path) == "1":
        yield Replace(Sysctl(path=path, value="1"), Sysctl(path=path, value="0"))
    yield Remove(Element(family="inet", table=NAME, set="uplinks", first=(name,)))
