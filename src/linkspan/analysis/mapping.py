"""The map of a host: its namespaces and links, and what joins them. A graph, no picture.

Each link is a node in its namespace. What joins them: a cable (veth), being a port of a bridge
or another master, a parent below (macvlan, ipvlan, vlan, vxlan), a tunnel, and the outside.
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import msgspec

from linkspan.analysis.addresses import (
    is_link_local,
    is_multicast,
    to_number,
    to_prefix,
    version_of,
)
from linkspan.analysis.tables import MAIN
from linkspan.analysis.view import End, View
from linkspan.dataplane.links import Bridge, Ipvlan, Macvlan, Physical, Veth, Vlan, Vxlan
from linkspan.dataplane.objects import HOST, Address, FdbEntry, Link, Route

DEFAULTS = ("0.0.0.0/0", "::/0")
KERNEL_PROTOCOL = 2  # RTPROT_KERNEL, include/uapi/linux/rtnetlink.h
NO_REMOTES = ("0.0.0.0", "::")


class Occupant(msgspec.Struct, frozen=True, kw_only=True):
    """A container as far as a map shows it; the fields are those of an inventory's record."""

    name: str
    runtime: str = ""
    id: str = ""
    image: str = ""
    networks: tuple[str, ...] = ()
    published: tuple[str, ...] = ()


class Remote(msgspec.Struct, frozen=True, kw_only=True):
    """Where a tunnel leads: an address, and the tunnel end that has it when that was observed."""

    address: str
    link: End | None = None


class MappedLink(msgspec.Struct, frozen=True, kw_only=True):
    """A link, what it carries, and what it is joined to; all ends are links of the same map."""

    link: Link
    addresses: tuple[str, ...] = ()
    gateways: tuple[str, ...] = ()
    """Where default routes of the main table lead by this link; the link's name without one."""
    routes: tuple[str, ...] = ()
    """Other destinations that somebody routes by this link."""
    peer: End | None = None
    master: End | None = None
    parent: End | None = None
    remotes: tuple[Remote, ...] = ()
    outside: bool = False
    """Whether it leads off this host: a network card, or a cable that nobody observed the end
    of and that carries a default route.
    """
    missing: tuple[str, ...] = ()
    """What it refers to and nobody observed: "master br9", "parent eth0", "other end"."""

    @property
    def end(self) -> End:
        """Its namespace and name."""
        return self.link.namespace, self.link.name

    @property
    def kind(self) -> str:
        """The word for its kind: bridge, veth, macvlan, ..."""
        return kind_word(self.link)


class MappedNamespace(msgspec.Struct, frozen=True, kw_only=True):
    """A namespace, the containers that live in it, and its links in the plane's order."""

    name: str
    containers: tuple[Occupant, ...] = ()
    links: tuple[End, ...] = ()


class EdgeKind(StrEnum):
    """What joins two things."""

    CABLE = "cable"
    PORT = "port-of"
    PARENT = "parent-of"
    TUNNEL = "tunnel-to"
    OUTSIDE = "outside"


class Edge(msgspec.Struct, frozen=True):
    """From a port to its bridge, a parent to its child, a tunnel end to another or to an
    address; to None: the outside. A cable is there once.
    """

    kind: EdgeKind
    source: End
    target: End | str | None


class Graph(msgspec.Struct, frozen=True, kw_only=True):
    """The map: every namespace and link of the plane once."""

    namespaces: Mapping[str, MappedNamespace]
    links: Mapping[End, MappedLink]
    edges: tuple[Edge, ...]
    ports: Mapping[End, tuple[End, ...]]
    """The ports of each master."""
    stacked: Mapping[End, tuple[End, ...]]
    """The links on each parent, in whatever namespace they are."""


def kind_word(link: Link) -> str:
    """The word for a link's kind; a kind of the kernel's that has no record has its own name."""
    if link.kind is None:
        return "link"
    tag = str(link.kind.__struct_config__.tag)
    return str(getattr(link.kind, "name", tag)) if tag == "other" else tag


def draw_map(view: View, containers: Iterable[Mapping[str, Any]] = ()) -> Graph:
    """The map of what a view holds.

    `containers` are records as mappings: `namespace`, `name`, and what else is known of
    `runtime`, `id`, `image`, `networks`, `published`. Those of namespaces that the view does
    not have are left out.
    """
    occupants: dict[str, list[Occupant]] = defaultdict(list)
    for container in containers:
        occupants[str(container["namespace"])].append(msgspec.convert(container, Occupant))
    names = sorted(view.namespaces, key=lambda name: name != HOST)
    found = [(view.place(name), link) for name in names for link in view.place(name).links.values()]
    links: dict[End, MappedLink] = {}
    tunnels = _find_tunnels(view)
    carried = {name: _carried(view, name) for name in names}
    for place, link in found:
        end = (place.name, link.name)
        links[end] = _map_link(view, link, tunnels, *(part[link.name] for part in carried[end[0]]))
    namespaces = {
        name: MappedNamespace(
            name=name,
            containers=tuple(occupants.get(name, ())),
            links=tuple((name, link) for link in view.place(name).links),
        )
        for name in names
    }
    ports: dict[End, list[End]] = defaultdict(list)
    stacked: dict[End, list[End]] = defaultdict(list)
    for end, mapped in links.items():
        if mapped.master is not None:
            ports[mapped.master].append(end)
        if mapped.parent is not None:
            stacked[mapped.parent].append(end)
    return Graph(
        namespaces=namespaces,
        links=links,
        edges=tuple(_find_edges(links)),
        ports={end: tuple(held) for end, held in ports.items()},
        stacked={end: tuple(held) for end, held in stacked.items()},
    )


def _carried(view: View, name: str) -> tuple[defaultdict[str, list[Any]], ...]:
    """By link of a namespace: addresses, gateways of default routes, other routes, remotes."""
    place = view.place(name)
    addresses: defaultdict[str, list[Any]] = defaultdict(list)
    gateways: defaultdict[str, list[Any]] = defaultdict(list)
    routes: defaultdict[str, list[Any]] = defaultdict(list)
    remotes: defaultdict[str, list[Any]] = defaultdict(list)
    for address in place.of(Address):
        addresses[address.link].append(address.address)
    for route in place.of(Route):
        if route.table != MAIN or route.type != "unicast":
            continue
        for link, gateway in _ways(route):
            if route.destination in DEFAULTS:
                gateways[link].append(gateway or link)
            elif route.protocol != KERNEL_PROTOCOL and not _is_own(route, addresses[link]):
                routes[link].append(route.destination)
    for entry in place.of(FdbEntry):
        if entry.own and entry.remote is not None and entry.remote not in remotes[entry.link]:
            remotes[entry.link].append(entry.remote)
    return addresses, gateways, routes, remotes


def _is_own(route: Route, addresses: Iterable[str]) -> bool:
    """Whether a route is one that the link's addresses make by themselves, whoever it is from."""
    if route.gateway is not None:
        return False
    prefix = to_prefix(route.destination)
    if prefix.version == 6 and (
        is_link_local(prefix.network, 6) or is_multicast(prefix.network, 6)
    ):
        return True
    return prefix in {to_prefix(address) for address in addresses if "/" in address}


def _ways(route: Route) -> Iterator[tuple[str, str | None]]:
    if route.hops:
        yield from ((hop.link, hop.gateway) for hop in route.hops if hop.link)
    elif route.link:
        yield route.link, route.gateway


def _map_link(
    view: View, link: Link, tunnels: Mapping[tuple[int, int, int], End], addresses: list[str],
    gateways: list[str], routes: list[str], remotes: list[str],
) -> MappedLink:  # fmt: skip
    kind, missing = link.kind, []
    peer = _find_peer(view, link)
    master = (link.namespace, link.master) if link.master else None
    if master is not None and (view.link(*master) is None or link.master == link.name):
        missing.append(f"master {link.master}")
        master = None
    parent = None
    if isinstance(kind, (Macvlan, Ipvlan, Vlan, Vxlan)) and kind.parent:
        parent = (getattr(kind, "parent_namespace", None) or link.namespace, kind.parent)
        if view.link(*parent) is None or parent == (link.namespace, link.name):
            missing.append(f"parent {kind.parent}")
            parent = None
    outside = isinstance(kind, Physical)
    if isinstance(kind, Veth) and peer is None:
        outside = bool(gateways) or bool(master and _has_default(view, master))
        if not outside:
            missing.append("other end")
    if isinstance(kind, Vxlan) and kind.remote and kind.remote not in remotes:
        remotes = [kind.remote, *remotes]
    return MappedLink(
        link=link,
        addresses=tuple(addresses),
        gateways=tuple(dict.fromkeys(gateways)),
        routes=tuple(dict.fromkeys(routes)),
        peer=peer,
        master=master,
        parent=parent,
        remotes=tuple(
            Remote(address=remote, link=_find_far_tunnel(kind, remote, tunnels))
            for remote in remotes
            if isinstance(kind, Vxlan) and remote not in NO_REMOTES
        ),
        outside=outside,
        missing=tuple(missing),
    )


def _find_peer(view: View, link: Link) -> End | None:
    """The other end of a cable, when both ends say so."""
    far = view.peer(link)
    if far is None or view.peer(far) is not link or far is link:
        return None
    return far.namespace, far.name


def _has_default(view: View, end: End) -> bool:
    routes = view.place(end[0]).of(Route)
    return any(
        route.destination in DEFAULTS and route.table == MAIN and (link == end[1])
        for route in routes
        for link, _ in _ways(route)
    )


def _find_tunnels(view: View) -> dict[tuple[int, int, int], End]:
    """Observed tunnel ends by VNI and the addresses of their namespaces."""
    found: dict[tuple[int, int, int], End] = {}
    for link in view.tunnels:
        assert isinstance(link.kind, Vxlan)
        if link.kind.vni is None:
            continue
        local = link.kind.local
        if local and local not in NO_REMOTES:
            own = {(version_of(local), to_number(local))}
        else:
            own = set(view.place(link.namespace).own)
        for version, number in own:
            found.setdefault((link.kind.vni, version, number), (link.namespace, link.name))
    return found


def _find_far_tunnel(
    kind: object, remote: str, tunnels: Mapping[tuple[int, int, int], End]
) -> End | None:
    assert isinstance(kind, Vxlan)
    if kind.vni is None:
        return None
    try:
        return tunnels.get((kind.vni, version_of(remote), to_number(remote)))
    except ValueError:
        return None


def _find_edges(links: Mapping[End, MappedLink]) -> Iterator[Edge]:
    for end, mapped in links.items():
        if mapped.peer is not None and (end < mapped.peer):
            yield Edge(EdgeKind.CABLE, end, mapped.peer)
        if mapped.master is not None:
            yield Edge(EdgeKind.PORT, end, mapped.master)
        if mapped.parent is not None:
            yield Edge(EdgeKind.PARENT, mapped.parent, end)
        for remote in mapped.remotes:
            yield Edge(EdgeKind.TUNNEL, end, remote.link or remote.address)
        if mapped.outside:
            yield Edge(EdgeKind.OUTSIDE, end, None)


# What a map says of a bridge's network -------------------------------------------------


def name_network(graph: Graph, bridge: End) -> str | None:
    """The network that a bridge is, when the runtimes' words leave one: that all its containers
    are on, each of them having as many cables as networks.
    """
    common: set[str] | None = None
    for port in graph.ports.get(bridge, ()):
        peer = graph.links[port].peer
        if peer is None or peer[0] == bridge[0]:
            continue
        namespace = graph.namespaces[peer[0]]
        joined = sum(_is_joined(graph.links[end]) for end in namespace.links)
        for container in namespace.containers:
            if container.networks and len(container.networks) == joined:
                networks = set(container.networks)
                common = networks if common is None else common & networks
    return next(iter(common)) if common and len(common) == 1 else None


def _is_joined(mapped: MappedLink) -> bool:
    return isinstance(mapped.link.kind, (Veth, Macvlan, Ipvlan))


def is_gateway(graph: Graph, bridge: End) -> bool:
    """Whether the addresses of a bridge are where its ports send what is for others: it is no
    uplink of its own namespace.
    """
    mapped = graph.links[bridge]
    return (
        isinstance(mapped.link.kind, Bridge)
        and not mapped.gateways
        and not any(graph.links[port].outside for port in graph.ports.get(bridge, ()))
    )


def subnet_of(address: str) -> str:
    """The subnet of an address with its prefix length."""
    return str(ipaddress.ip_interface(address).network)
