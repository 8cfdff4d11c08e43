"""One namespace of a data plane, indexed: links, addresses, routes, rules, neighbours."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator
from functools import cached_property
from typing import Any, NamedTuple, TypeVar

from linkspan.analysis.addresses import WIDTH, Prefix, to_number, to_prefix, version_of
from linkspan.analysis.intervals import Intervals, to_points
from linkspan.analysis.tables import DEFAULT, LOCAL, MAIN, Table, kernel_routes, usual_scope
from linkspan.analysis.traced import Partition, Traced
from linkspan.dataplane.links import Bridge
from linkspan.dataplane.objects import (
    Address,
    FdbEntry,
    Link,
    Neighbour,
    Object,
    Route,
    Rule,
    Sysctl,
)
from linkspan.dataplane.plane import DataPlane
from linkspan.dataplane.sockets import Listener

T = TypeVar("T", bound=Object)
T2 = TypeVar("T2", bound=Hashable)
_SPECIAL_EDGES = {
    version: [edge for text in texts for edge in to_prefix(text).edges]
    for version, texts in (
        (4, ("0.0.0.0/32", "0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4",
             "255.255.255.255/32")),
        (6, ("::/128", "::1/128", "fe80::/10", "ff00::/8")),
    )
}  # fmt: skip
"""Addresses that the kernel itself treats in another way than their neighbours."""


class PlaceObjects:
    """The objects of one namespace as they were found."""

    __slots__ = ("links", "others")

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.others: defaultdict[type[Object], list[Object]] = defaultdict(list)


class OwnAddress(NamedTuple):
    """An address on a link, as numbers."""

    link: str
    version: int
    number: int
    network: Prefix
    scope: str
    secondary: bool


class Place:
    """A namespace that a packet can be in."""

    def __init__(self, name: str, objects: PlaceObjects, plane: DataPlane) -> None:
        self.name = name
        self.links = objects.links
        self.plane = plane
        self._others = objects.others

    def of(self, kind: type[T]) -> list[T]:
        """The objects of one class in this namespace, in the plane's order."""
        return self._others[kind]  # type: ignore[return-value]

    # Settings -------------------------------------------------------------------------

    def setting(self, path: str) -> str | None:
        """The value of a setting, None when it is not stated."""
        item = self.plane.get(("sysctl", self.name, path))
        return item.value if isinstance(item, Sysctl) else None

    def number(self, path: str, default: int = 0) -> int:
        """A setting as a number."""
        value = self.setting(path)
        return int(value) if value is not None and value.lstrip("-").isdecimal() else default

    def conf(self, link: str, name: str, version: int = 4) -> int:
        """A setting of one link; where it is not stated, that of all links."""
        value = self.setting(f"ipv{version}/conf/{link}/{name}")
        if value is not None:
            return int(value)
        return self.number(f"ipv{version}/conf/all/{name}")

    def either(self, link: str, name: str, version: int = 4) -> bool:
        """Whether a switch is on for a link or for all links (IN_DEV_ORCONF)."""
        return bool(
            self.number(f"ipv{version}/conf/all/{name}")
            or self.number(f"ipv{version}/conf/{link}/{name}")
        )

    def highest(self, link: str, name: str) -> int:
        """The higher of a link's value and that of all links (IN_DEV_MAXCONF)."""
        return max(self.number(f"ipv4/conf/all/{name}"), self.number(f"ipv4/conf/{link}/{name}"))

    def forwards(self, link: str, version: int) -> bool:
        """Whether what arrives on a link may be routed on."""
        if version == 4:
            value = self.setting(f"ipv4/conf/{link}/forwarding")
            if value is None:
                value = self.setting("ipv4/ip_forward") or "0"
            return value != "0"
        if self.number("ipv6/conf/all/forwarding"):
            return True
        return bool(self.number(f"ipv6/conf/{link}/force_forwarding"))

    # Links ----------------------------------------------------------------------------

    def is_up(self, link: str) -> bool:
        """Whether a link is up; what is only described counts as up."""
        found = self.links.get(link)
        return found is not None and found.up is not False

    def mac(self, link: str) -> str:
        """A link's MAC; one that is not known has a name of its own, equal to nothing else."""
        found = self.links.get(link)
        if found is not None and found.mac:
            return found.mac
        return f"mac-of-{self.name}-{link}"

    @cached_property
    def link_names(self) -> dict[int, str]:
        """Names of links by their numbers."""
        return {link.index: link.name for link in self.links.values() if link.index is not None}

    def link_by_number(self, index: int) -> str:
        """The name of a link by its number."""
        return self.link_names.get(index, f"if{index}")

    @cached_property
    def ports(self) -> dict[str, list[Link]]:
        """The ports of each bridge."""
        found: dict[str, list[Link]] = {
            link.name: [] for link in self.links.values() if isinstance(link.kind, Bridge)
        }
        for link in self.links.values():
            if link.master and link.master in found:
                found[link.master].append(link)
        return found

    def bridge_of(self, link: str) -> str | None:
        """The bridge that a link is a port of."""
        found = self.links.get(link)
        if found is None or not found.master or found.master not in self.ports:
            return None
        return found.master

    # Addresses ------------------------------------------------------------------------

    @cached_property
    def addresses(self) -> tuple[OwnAddress, ...]:
        """All addresses, in the plane's order."""
        found: list[OwnAddress] = []
        primaries: set[tuple[str, Prefix]] = set()
        for item in self.of(Address):
            text, _, bits = item.address.partition("/")
            version = version_of(text)
            network = to_prefix(f"{item.peer}/{bits}" if item.peer else item.address)
            number = to_number(text)
            scope = item.scope or usual_scope(number, version)
            secondary = version == 4 and (item.link, network) in primaries
            primaries.add((item.link, network))
            found.append(OwnAddress(item.link, version, number, network, scope, secondary))
        return tuple(found)

    @cached_property
    def by_link(self) -> dict[tuple[str, int], list[OwnAddress]]:
        """Addresses by link and version."""
        found: dict[tuple[str, int], list[OwnAddress]] = {}
        for address in self.addresses:
            found.setdefault((address.link, address.version), []).append(address)
        return found

    @cached_property
    def own(self) -> frozenset[tuple[int, int]]:
        """All addresses as version and number."""
        return frozenset((address.version, address.number) for address in self.addresses)

    def has_address(self, number: int, version: int, link: str | None = None) -> bool:
        """Whether an address is on a link, or on any."""
        if isinstance(number, Traced):
            return number.among(
                self._points_of(
                    ("addresses", version, link),
                    lambda: (
                        one.number
                        for one in self.addresses
                        if one.version == version and link in (None, one.link)
                    ),
                )
            )
        if link is None:
            return (version, number) in self.own
        return any(one.number == number for one in self.by_link.get((link, version), ()))

    # What a traced packet is asked ----------------------------------------------------

    @cached_property
    def _points(self) -> dict[tuple[Hashable, ...], Intervals]:
        return {}

    def _points_of(
        self, what: tuple[Hashable, ...], numbers: Callable[[], Iterable[int]]
    ) -> Intervals:
        """Some numbers as a set, which is made once; `what` names them."""
        found = self._points.get(what)
        if found is None:
            found = self._points[what] = to_points(numbers())
        return found

    @cached_property
    def _partitions(self) -> dict[tuple[Hashable, ...], Partition[Any]]:
        return {}

    @cached_property
    def _edges(self) -> dict[int, list[int]]:
        """Where prefixes of routes, rules and addresses begin, and the numbers behind them."""
        found: dict[int, set[int]] = {4: set(_SPECIAL_EDGES[4]), 6: set(_SPECIAL_EDGES[6])}
        for (version, _), table in self.tables.items():
            found[version].update(table.edges(version))
        for rule in self.of(Rule):
            for text in (rule.source, rule.destination):
                if text:
                    prefix = to_prefix(text)
                    found[prefix.version].update(prefix.edges)
        for one in self.addresses:
            found[one.version].update((one.number, one.number + 1))
        return {version: sorted(edges) for version, edges in found.items()}

    def divide(
        self, what: tuple[Hashable, ...], version: int, answer: Callable[[int], T2],
        edges: Callable[[], set[int]] = set,
    ) -> Partition[T2]:  # fmt: skip
        """All addresses by an answer that depends on nothing but how an address lies to the
        routes, rules and addresses here, and to more `edges`; `what` names the question, which
        is asked once.
        """
        key = (*what, version)
        found = self._partitions.get(key)
        if found is None:
            last = (1 << WIDTH[version]) - 1
            found = self._partitions[key] = Partition(
                {*self._edges[version], *edges()}, last, answer
            )
        return found

    # Routing --------------------------------------------------------------------------

    @cached_property
    def tables(self) -> dict[tuple[int, int], Table]:
        """Routing tables by version and number."""
        found: dict[tuple[int, int], Table] = {}
        routes = list(self.of(Route))
        if not any(route.table == LOCAL for route in routes):
            routes += kernel_routes(self)
        for route in routes:
            prefix = to_prefix(route.destination)
            found.setdefault((prefix.version, route.table), Table()).add(route, prefix)
        return found

    @cached_property
    def rules(self) -> dict[int, list[Rule]]:
        """Policy routing rules by version, in order of priority."""
        found: dict[int, list[Rule]] = {}
        for version, family in ((4, "ip"), (6, "ip6")):
            rules = [rule for rule in self.of(Rule) if rule.family == family]
            if not any(rule.table == LOCAL for rule in rules):
                rules.append(Rule(namespace=self.name, family=family, priority=0, table=LOCAL))
            if not any(rule.table == MAIN for rule in rules):
                rules.append(Rule(namespace=self.name, family=family, priority=32766, table=MAIN))
            rules.sort(key=lambda rule: rule.priority)
            found[version] = rules
        return found

    @cached_property
    def has_own_rules(self) -> bool:
        """Whether there are IPv4 rules besides the kernel's own three."""
        usual = {(0, LOCAL), (32766, MAIN), (32767, DEFAULT)}
        return any((rule.priority, rule.table) not in usual for rule in self.rules[4])

    @cached_property
    def routes_by_address(self) -> dict[int, bool]:
        """By version: whether only the destination of a packet decides on its route."""
        return {
            version: all(
                rule.action in ("to_table", "lookup") and not rule.invert
                and rule.source is None and rule.destination is None
                and rule.mark is None and rule.input_link is None and rule.output_link is None
                and rule.ip_protocol is None and rule.source_ports is None
                and rule.destination_ports is None
                for rule in rules
            )
            for version, rules in self.rules.items()
        }  # fmt: skip

    @cached_property
    def has_own_local_routes(self) -> bool:
        """Whether somebody added local routes that no address made."""
        return any(
            route.type == "local" and route.protocol not in (None, 2) and ":" not in
            route.destination
            for route in self.of(Route)
        )  # fmt: skip

    # Neighbours, frames, sockets ------------------------------------------------------

    @cached_property
    def neighbours(self) -> dict[tuple[str, int, int], Neighbour]:
        """Neighbour entries by link, version and address."""
        return {
            (item.link, version_of(item.address), to_number(item.address)): item
            for item in self.of(Neighbour)
            if not item.proxy
        }

    def neighbour(self, link: str, version: int, number: int) -> Neighbour | None:
        """The neighbour entry of an address on a link."""
        if isinstance(number, Traced):
            known = self._points_of(
                ("neighbours", link, version), lambda: _on_link(self.neighbours, link, version)
            )
            if not number.among(known):
                return None
        return self.neighbours.get((link, version, number))

    def stands_in(self, link: str, version: int, number: int) -> bool:
        """Whether this namespace answers on a link for an address of another (proxy entry)."""
        if isinstance(number, Traced):
            return number.among(
                self._points_of(
                    ("proxies", link, version), lambda: _on_link(self.proxies, link, version)
                )
            )
        return (link, version, number) in self.proxies

    @cached_property
    def proxies(self) -> frozenset[tuple[str, int, int]]:
        """Addresses that this namespace answers for on a link."""
        return frozenset(
            (item.link, version_of(item.address), to_number(item.address))
            for item in self.of(Neighbour)
            if item.proxy
        )

    @cached_property
    def forwarding_entries(self) -> dict[tuple[str, str], FdbEntry]:
        """Forwarding entries of bridges, by bridge and MAC."""
        found: dict[tuple[str, str], FdbEntry] = {}
        for item in self.of(FdbEntry):
            bridge = item.link if item.link in self.ports else self.bridge_of(item.link)
            if bridge is not None and not (item.own and item.link not in self.ports):
                found.setdefault((bridge, item.mac), item)
        return found

    @cached_property
    def tunnel_entries(self) -> dict[str, list[FdbEntry]]:
        """The own forwarding entries of vxlan links."""
        found: dict[str, list[FdbEntry]] = {}
        for item in self.of(FdbEntry):
            if item.own and item.remote is not None:
                found.setdefault(item.link, []).append(item)
        return found

    def listeners_at(self, protocol: str, port: int) -> list[Listener]:
        """The sockets that wait for packets of a protocol to a port."""
        if isinstance(port, Traced):
            taken = self._points_of(
                ("listeners", protocol),
                lambda: (its for name, its in self.listeners if name == protocol),
            )
            if not port.among(taken):
                return []
        return self.listeners.get((protocol, port), [])

    @cached_property
    def listeners(self) -> dict[tuple[str, int], list[Listener]]:
        """Waiting sockets by protocol and port."""
        found: dict[tuple[str, int], list[Listener]] = {}
        for item in self.of(Listener):
            found.setdefault((item.protocol, item.port), []).append(item)
        return found


def _on_link(ends: Iterable[tuple[str, int, int]], link: str, version: int) -> Iterator[int]:
    """The addresses of one version on one link."""
    return (number for name, its, number in ends if name == link and its == version)
