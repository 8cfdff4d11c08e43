"""Networks that may be interchangeable: a bridge of the host with all that is on it.

Only such are found of which everything is in one place: each port is the cable of a container
that is on no other network, and the addresses in its subnets are the bridge's and those of its
members. Whether two of them are alike is for the facts about them to say (see symmetry).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from linkspan.analysis.addresses import WIDTH, Prefix, is_link_local, is_loopback
from linkspan.analysis.place import OwnAddress, Place
from linkspan.analysis.view import View
from linkspan.dataplane.links import Loopback, Veth
from linkspan.dataplane.objects import HOST, Link, Route


class Network(NamedTuple):
    """A bridge of the host, the namespaces on it, and the subnets that are its alone."""

    bridge: str
    members: tuple[str, ...]
    subnets: tuple[Prefix, ...]

    @property
    def owner(self) -> str:
        """What stands for it among the owners of identities; no namespace is called so."""
        return f"/{self.bridge}"


def find_networks(view: View, containers: frozenset[str]) -> tuple[Network, ...]:
    """The networks of the host that can be compared with each other; none where sources are
    chosen among the addresses of several.
    """
    if HOST not in view.namespaces or HOST in containers:
        return ()
    host = view.place(HOST)
    if _borrows_addresses(host):
        return ()
    found = {}
    for bridge in host.ports:
        members = _members(view, host, bridge, containers)
        subnets = None if members is None else _subnets(view, host, bridge, members)
        if members is not None and subnets:
            found[bridge] = Network(bridge, members, subnets)
    for bridge in set(_mixed(view, host, found)):
        found.pop(bridge, None)
    return tuple(found.values()) if len(found) > 1 else ()


def _borrows_addresses(host: Place) -> bool:
    """Whether the host sends by a link that has no address of its own: it then takes that of
    another, and of the first.
    """
    for route in host.of(Route):
        version = 6 if ":" in route.destination else 4
        if route.type not in (None, "", "unicast") or (version == 6 and _is_on_link_only(route)):
            continue
        for link in (route.link, *(hop.link for hop in route.hops or ())):
            if link is None or link == "lo" or link not in host.links:
                continue
            if not any(_is_wide(one) for one in host.by_link.get((link, version), ())):
                return True
    return False


def _is_on_link_only(route: Route) -> bool:
    return route.destination.lower().startswith(("fe8", "fe9", "fea", "feb", "ff"))


def _is_wide(address: OwnAddress) -> bool:
    return not (
        is_link_local(address.number, address.version)
        or is_loopback(address.number, address.version)
        or address.scope in ("link", "host")
    )


def _members(
    view: View, host: Place, bridge: str, containers: frozenset[str]
) -> tuple[str, ...] | None:
    """The namespaces behind the ports; None where there is anything else."""
    if host.links[bridge].master or (HOST, bridge) in view.children:
        return None
    found: dict[str, set[str]] = {}
    for port in host.ports[bridge]:
        peer = view.peer(port) if isinstance(port.kind, Veth) else None
        if peer is None or peer.namespace not in containers or peer.master:
            return None
        if (HOST, port.name) in view.children:
            return None
        found.setdefault(peer.namespace, set()).add(peer.name)
    for name, links in found.items():
        place = view.place(name)
        for link in place.links.values():
            if not isinstance(link.kind, Loopback) and link.name not in links:
                return None
            if (name, link.name) in view.children:
                return None
        if sum(one.version == 6 and _is_wide(one) for one in place.addresses) > 1:
            return None  # which of them it sends from depends on the destination's bits
    return tuple(name for name in view.namespaces if name in found)


def _subnets(
    view: View, host: Place, bridge: str, members: tuple[str, ...]
) -> tuple[Prefix, ...] | None:
    """The prefixes of the addresses on a network; None where they overlap."""
    own = [one for one in host.addresses if one.link == bridge]
    for name in members:
        own += view.place(name).addresses
    found = dict.fromkeys(
        one.network for one in own if _is_wide(one) and one.network.length < WIDTH[one.version]
    )
    ordered = sorted(found)
    if any(
        one.version == other.version and one.last >= other.network
        for one, other in pairwise(ordered)
    ):
        return None
    return tuple(found)


def _mixed(view: View, host: Place, networks: dict[str, Network]) -> Iterator[str]:
    """The networks that share a subnet, or in whose subnets somebody else has an address."""
    rows = sorted((subnet, name) for name, one in networks.items() for subnet in one.subnets)
    for (one, name), (other, its) in pairwise(rows):
        if one.version == other.version and one.last >= other.network:
            yield name
            yield its
    starts = [(one.version, one.network) for one, _ in rows]
    on_host = {(one.version, one.number): one.link for one in host.addresses}
    for (version, number), owners in view.owners.items():
        place = bisect_right(starts, (version, number)) - 1
        if place < 0:
            continue
        subnet, name = rows[place]
        if subnet.version != version or not subnet.holds(number):
            continue
        network = networks[name]
        if len(set(owners)) > 1:
            yield name
        elif owners[0] == HOST:
            if on_host.get((version, number)) != network.bridge:
                yield name
        elif owners[0] not in network.members:
            yield name


def bridge_with_mac(links: list[Link], bridges: frozenset[str]) -> str | None:
    """The bridge among links that have one MAC, where the others are its ports."""
    for link in links:
        if link.namespace == HOST and link.name in bridges and all(
            one is link or (one.namespace == HOST and one.master == link.name) for one in links
        ):  # fmt: skip
            return link.name
    return None
