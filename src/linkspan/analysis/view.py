"""A data plane, indexed for walking: built once, asked often.

Building looks at each object once; what belongs to one namespace is put in order when the
first packet comes there. What was only described, not observed, is completed as the kernel
would: the far end of a veth pair, the routes of an address, the default rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec

from linkspan.analysis.addresses import WIDTH, to_number, version_of
from linkspan.analysis.place import Place, PlaceObjects
from linkspan.analysis.ruleset import Ruleset
from linkspan.analysis.trace import Disposition, Trace
from linkspan.analysis.traced import Partition, Traced
from linkspan.dataplane.links import Ipvlan, Macvlan, Veth, Vlan, Vxlan
from linkspan.dataplane.objects import Address, Link, Namespace, Neighbour, Route, Sysctl
from linkspan.dataplane.plane import DataPlane
from linkspan.dataplane.sockets import Listener

End = tuple[str, str]
"""A link by its namespace and name."""
_PROXY_SETTINGS = frozenset(("proxy_arp", "proxy_arp_pvlan"))


class View:
    """The data plane of a host as a walk needs it.

    `sockets_known` says whether the plane holds all sockets that wait for packets; without
    it, they count as known when there is any Listener.
    """

    def __init__(self, plane: DataPlane, sockets_known: bool | None = None) -> None:
        self.plane = plane
        self.children: defaultdict[End, list[Link]] = defaultdict(list)
        """macvlan, ipvlan and vlan links on a parent."""
        self.tunnels: list[Link] = []
        self.owners: defaultdict[tuple[int, int], list[str]] = defaultdict(list)
        """Namespaces that have an address, by version and number."""
        self.with_local_prefixes: set[str] = set()
        """Namespaces that take whole prefixes for their own."""
        self.proxying: set[str] = set()
        """Namespaces that may answer for the addresses of others."""
        self.by_mac: defaultdict[str, list[End]] = defaultdict(list)
        self.port_indexes: dict[End, tuple[dict[str, list[str]], list[str]]] = {}
        self.resolved: dict[tuple[object, ...], object] = {}
        """Answers of neighbours that depend on nothing but the plane (see neighbours)."""
        self.resolved_traced: dict[tuple[object, ...], list[tuple[Any, object]]] = {}
        """The same for traced packets: what the headers have to be for an answer, and it."""
        self._owners: dict[int, Partition[tuple[str, ...]]] = {}
        self._objects: dict[str, PlaceObjects] = {}
        self._places: dict[str, Place] = {}
        self._rulesets: dict[str, Ruleset] = {}
        self.planned: frozenset[str] = frozenset(
            item.namespace for item in plane.of(Namespace) if item.planned
        )
        """Namespaces that only a plan has: what will listen there is not known."""
        any_listener = self._sort(plane)
        self._complete_pairs()
        self.sockets_known = any_listener if sockets_known is None else sockets_known

    @property
    def namespaces(self) -> Iterable[str]:
        """The names of all namespaces."""
        return self._objects.keys()

    def owned(self, version: int) -> Iterator[tuple[int, list[str]]]:
        """The addresses of an IP version that somebody has, in order, with the namespaces."""
        for held, number in sorted(self.owners):
            if held == version:
                yield number, self.owners[held, number]

    def place(self, namespace: str) -> Place:
        """One namespace, indexed. KeyError for one that the plane does not have."""
        place = self._places.get(namespace)
        if place is None:
            place = Place(namespace, self._objects[namespace], self.plane)
            self._places[namespace] = place
        return place

    def ruleset(self, namespace: str) -> Ruleset:
        """The firewall of one namespace, in the order in which it runs."""
        found = self._rulesets.get(namespace)
        if found is None:
            found = self._rulesets[namespace] = Ruleset(self.place(namespace))
        return found

    def link(self, namespace: str, name: str) -> Link | None:
        """A link, without indexing its namespace."""
        objects = self._objects.get(namespace)
        return None if objects is None else objects.links.get(name)

    def owners_of(self, version: int, number: int) -> Sequence[str]:
        """The namespaces that have an address."""
        if isinstance(number, Traced):
            if version not in self._owners:
                edges = {
                    edge for its, one in self.owners if its == version for edge in (one, one + 1)
                }
                self._owners[version] = Partition(
                    edges,
                    (1 << WIDTH[version]) - 1,
                    lambda one: tuple(self.owners.get((version, one), ())),
                )
            return self._owners[version].find(number)
        return self.owners.get((version, number), ())

    def sysctl(self, namespace: str, path: str) -> str | None:
        """A setting, without indexing its namespace."""
        item = self.plane.get(("sysctl", namespace, path))
        return item.value if isinstance(item, Sysctl) else None

    def left_behind(self, trace: Trace) -> tuple[str, ...]:
        """The observed namespaces that have the address for which a packet left: whether it
        comes to them from out there was not observed.
        """
        if trace.disposition is not Disposition.LEFT:
            return ()
        end = trace.arrived
        owners = self.owners.get((end.version, to_number(end.destination)), ())
        return tuple(name for name in owners if name != trace.namespace)

    def peer(self, link: Link) -> Link | None:
        """The other end of a veth link, None when it was not observed."""
        kind = link.kind
        if not isinstance(kind, Veth) or kind.peer_name is None:
            return None
        return self.link(kind.peer_namespace or link.namespace, kind.peer_name)

    def _sort(self, plane: DataPlane) -> bool:
        objects = self._objects
        any_listener = False
        for item in plane:
            kind = type(item)
            if kind is Sysctl:
                if item.value != "0" and item.path.rpartition("/")[2] in _PROXY_SETTINGS:  # type: ignore[attr-defined]
                    self.proxying.add(item.namespace)
                continue
            held = objects.get(item.namespace)
            if held is None:
                held = objects[item.namespace] = PlaceObjects()
            if isinstance(item, Link):
                held.links[item.name] = item
                if item.mac:
                    self.by_mac[item.mac].append((item.namespace, item.name))
                if isinstance(item.kind, (Macvlan, Ipvlan, Vlan)) and item.kind.parent:
                    self.children[_parent_end(item)].append(item)
                elif isinstance(item.kind, Vxlan):
                    self.tunnels.append(item)
            else:
                held.others[kind].append(item)
                if isinstance(item, Address):
                    text = item.address.partition("/")[0]
                    self.owners[version_of(text), to_number(text)].append(item.namespace)
                elif isinstance(item, Route):
                    if item.type == "local" and _is_whole_prefix(item.destination):
                        self.with_local_prefixes.add(item.namespace)
                elif isinstance(item, Neighbour):
                    if item.proxy:
                        self.proxying.add(item.namespace)
                elif kind is Listener:
                    any_listener = True
        return any_listener

    def _complete_pairs(self) -> None:
        """Add the ends of veth pairs that are only stated at the other end."""
        stated = [
            link
            for held in self._objects.values()
            for link in held.links.values()
            if isinstance(link.kind, Veth) and link.kind.peer_name is not None
        ]
        for link in stated:
            kind = link.kind
            assert isinstance(kind, Veth) and kind.peer_name is not None
            namespace = kind.peer_namespace or link.namespace
            held = self._objects.get(namespace)
            if held is None:
                continue
            there = held.links.get(kind.peer_name)
            back = Veth(peer_name=link.name, peer_namespace=link.namespace)
            if there is None:
                held.links[kind.peer_name] = Link(
                    namespace=namespace, name=kind.peer_name, kind=back, mac=kind.peer_mac,
                    mtu=kind.peer_mtu, up=kind.peer_up, master="",
                )  # fmt: skip
            elif isinstance(there.kind, Veth) and there.kind.peer_name is None:
                held.links[kind.peer_name] = msgspec.structs.replace(there, kind=back)


def _parent_end(link: Link) -> End:
    kind = link.kind
    assert isinstance(kind, (Macvlan, Ipvlan, Vlan)) and kind.parent is not None
    return kind.parent_namespace or link.namespace, kind.parent


def _is_whole_prefix(destination: str) -> bool:
    if destination in ("127.0.0.0/8", "::1/128"):
        return False
    address, _, bits = destination.partition("/")
    return bool(bits) and bits != ("128" if ":" in address else "32")
