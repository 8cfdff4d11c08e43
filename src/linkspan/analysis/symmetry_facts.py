"""The objects of a plane as facts about the namespaces that they name."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable
from typing import Any

import msgspec

from linkspan.analysis.addresses import is_loopback, to_number, version_of
from linkspan.analysis.relay import relayed_flow
from linkspan.analysis.symmetry_chains import ReadChain
from linkspan.analysis.symmetry_names import Names
from linkspan.analysis.symmetry_networks import Network
from linkspan.analysis.symmetry_rules import TableReader
from linkspan.analysis.symmetry_terms import Fact, Mine, PublishedPort, find_mines, owners_of
from linkspan.analysis.view import View
from linkspan.dataplane.links import Veth
from linkspan.dataplane.objects import (
    HOST,
    Address,
    Element,
    FdbEntry,
    Link,
    Namespace,
    Neighbour,
    Object,
    Route,
    Rule,
    Sysctl,
)
from linkspan.dataplane.programs import Program
from linkspan.dataplane.rules import Table
from linkspan.dataplane.sockets import Listener, PacketSocket

_RELAY = "docker-proxy"
_ON_LINK_ONLY = ("fe8", "fe9", "fea", "feb", "ff")
"""How prefixes begin that are somewhere else on each link."""


class Facts:
    """All facts of a plane, by the namespace that they are about.

    What names a port of the host waits in `with_ports` and `chains` until it is known whose
    that is; entries of neighbour and forwarding tables wait in `entries`.
    """

    def __init__(
        self, view: View, containers: tuple[str, ...], networks: tuple[Network, ...] = ()
    ) -> None:
        self._view = view
        self.names = Names(view, containers, networks)
        self.held: dict[str, list[Any]] = {name: [] for name in (*containers, *self.names.networks)}
        self.chains: list[ReadChain] = []
        self.with_ports: list[Fact] = []
        self.entries: list[FdbEntry | Neighbour] = []
        self._readers: dict[str, TableReader] = {}
        self._set_kinds: dict[tuple[str, str, str, str], tuple[str, ...]] = {}
        self._listen()
        self._read()

    def _listen(self) -> None:
        """Ports of listeners are everybody's, those on a namespace's own loopback its own."""
        names = self.names
        private: dict[str, dict[int, list[tuple[str, str]]]] = {}
        for namespace in self._view.namespaces:
            for item in self._view.place(namespace).of(Listener):
                if not is_loopback(to_number(item.address), version_of(item.address)):
                    if not _relay_targets(item):
                        names.everyones_ports.add(item.port)
                elif namespace in names.containers:
                    row = private.setdefault(namespace, {}).setdefault(item.port, [])
                    row.append((item.protocol, item.address))
                else:
                    names.everyones_ports.add(item.port)
        for namespace, ports in private.items():
            roles = {port: tuple(sorted(rows)) for port, rows in ports.items()}
            shared = Tally(roles.values())
            names.private_ports[namespace] = {
                port: Mine(namespace, ("private", role))
                for port, role in roles.items()
                if shared[role] == 1 and port not in names.everyones_ports
            }

    def _read(self) -> None:
        for namespace in self._view.namespaces:
            place = self._view.place(namespace)
            for link in place.links.values():
                self.take(self._link(link))
            for table in place.of(Table):
                for one in table.sets:
                    where = (namespace, table.family, table.name, one.name)
                    self._set_kinds[where] = one.key
        for item in self._view.plane:
            read = _READERS.get(type(item))
            if read is None:
                self._other(item)
            else:
                read(self, item)

    def take(self, fact: Fact) -> None:
        """Give a fact to every namespace and network that it is about."""
        for owner in self.names.whose(fact):
            self.held[owner].append(self.names.seen_by(fact, owner))

    def _skip(self, item: Any) -> None:
        """Links are read where their pairs are complete; a namespace is no fact in itself, and
        who only looks on changes nothing.
        """

    def _link(self, link: Link) -> Fact:
        names = self.names
        kind: Any = link.kind
        if isinstance(kind, Veth):
            peer = self._view.peer(link)
            kind = ("veth", None if peer is None else names.link(peer.namespace, peer.name))
        elif kind is not None:
            kind = (
                type(kind).__name__,
                *(
                    self._kind_field(link, field, getattr(kind, field))
                    for field in kind.__struct_fields__
                ),
            )
        own = names.link(link.namespace, link.name)
        mac: Any = names.macs.get(link.mac or "", link.mac)
        master = names.link(link.namespace, link.master) if link.master else None
        if type(own) is Mine and link.master:
            over = self._view.link(link.namespace, link.master)
            if mac == Mine(own.owner, ("mac of", own.role)) or (over and over.mac == link.mac):
                # A bridge may have the MAC of one of its ports: frames to either are its own.
                mac = "its own"
        return (
            "link", own, kind, mac, link.mtu, link.up, master, link.port, link.promiscuous,
            link.carrier, link.ipv6_link_local,
        )  # fmt: skip

    def _kind_field(self, link: Link, field: str, value: Any) -> Any:
        if field == "parent" and value:
            where = getattr(link.kind, "parent_namespace", None) or link.namespace
            return self.names.link(where, value)
        if field == "parent_namespace":
            return None
        if field in ("local", "remote") and value:
            return self.names.address(value)
        return value

    def _address(self, item: Address) -> None:
        names = self.names
        text, _, bits = item.address.partition("/")
        names.cut(f"{item.peer}/{bits}" if item.peer else item.address)
        own = names.known(version_of(text), to_number(text))
        peer = None if item.peer is None else names.address(item.peer)
        self.take((
            "address", names.link(item.namespace, item.link), own, bits, item.scope, peer,
            item.noprefixroute,
        ))  # fmt: skip

    def _route(self, item: Route) -> None:
        names = self.names
        destination: Any = item.destination
        plain = destination.partition("/")
        if plain[2] in ("", "32", "128"):
            destination = names.known(version_of(plain[0]), to_number(plain[0]))
        else:
            destination = names.cut(destination) or destination
        hops = None
        if item.hops:
            hops = tuple(
                (names.link(item.namespace, hop.link), self._gateway(hop.gateway), hop.weight)
                for hop in item.hops
            )
        fact = (
            "route", names.namespace(item.namespace), destination, self._gateway(item.gateway),
            names.link(item.namespace, item.link), item.table, item.metric, item.type,
            self._source(item.source), item.scope, item.onlink, item.protocol, hops, item.tos,
            None if item.source_prefix is None else names.address(item.source_prefix),
            item.encap,
        )  # fmt: skip
        self.take(fact)
        if item.namespace == HOST and not (
            type(destination) is Mine or item.destination.lower().startswith(_ON_LINK_ONLY)
        ):
            # Of routes to one destination the first counts.
            self._set_apart(fact)

    def _gateway(self, text: str | None) -> Any:
        return None if text is None else self.names.address(text)

    def _source(self, text: str | None) -> Any:
        if text is None:
            return None
        return self.names.known(version_of(text), to_number(text))

    def _set_apart(self, fact: Fact) -> None:
        """The networks that a fact names, by themselves or their members, are like no other."""
        for owner in owners_of(fact) if self.names.networks else ():
            self.names.apart.add(self.names.network_of.get(owner, owner))

    def _rule(self, item: Rule) -> None:
        names = self.names
        for ports in (item.source_ports, item.destination_ports):
            if ports is not None:
                names.cut_ports(*ports)
        fact = (
            "rule", names.namespace(item.namespace), item.priority, item.family,
            None if item.source is None else names.address(item.source),
            None if item.destination is None else names.address(item.destination),
            names.link(item.namespace, item.input_link),
            names.link(item.namespace, item.output_link), item.mark, item.mark_mask, item.table,
            item.action, item.invert, item.tos, item.suppress_prefix_length, item.uid_range,
            item.ip_protocol, item.source_ports, item.destination_ports,
        )  # fmt: skip
        self.take(fact)
        if item.namespace == HOST:
            # Of rules of one priority the first counts.
            self._set_apart(fact)

    def _sysctl(self, item: Sysctl) -> None:
        namespace, path = item.namespace, item.path
        held = self.held.get(namespace)
        if held is not None:
            held.append((path, item.value))
            return
        parts = path.split("/")
        if len(parts) == 4:
            port = self.names.links.get((namespace, parts[2]))
            if port is not None:
                self.held[port.owner].append((port.role, parts[0], parts[3], item.value))

    def _listener(self, item: Listener) -> None:
        names = self.names
        namespace = names.namespace(item.namespace)
        address: Any = names.address(item.address)
        link = names.link(item.namespace, item.link)
        relays = _relay_targets(item)
        if item.namespace in names.containers:
            port = item.port
            if is_loopback(to_number(item.address), version_of(item.address)):
                port = names.inner_port(item.namespace, port)
            self.take(
                ("listener", namespace, item.protocol, address, port, link, item.dual_stack,
                 *(("relay", *relay) for relay in self._relays(relays)))
            )  # fmt: skip
        elif relays:
            self.with_ports.append(
                ("listener", namespace, item.protocol, address, PublishedPort(item.port), link,
                 item.dual_stack, *(("relay", *relay) for relay in self._relays(relays)))
            )  # fmt: skip
        else:
            self.take(("listener", item.protocol, address, item.port, link, item.dual_stack))

    def _relays(self, targets: list[tuple[str, str, str]]) -> list[tuple[Any, ...]]:
        return [
            (self.names.address(address), port, protocol) for address, port, protocol in targets
        ]

    def _table(self, item: Table) -> None:
        reader = self._reader(item.namespace)
        if item.namespace in self.names.containers:
            self.take(reader.read_whole(item))
        else:
            self.chains += reader.read(item)

    def _element(self, item: Element) -> None:
        where = (item.namespace, item.family, item.table, item.set)
        kinds = self._set_kinds.get(where) or ("",) * len(item.first)
        fact = self._reader(item.namespace).element(item, kinds)
        if any(type(part) is PublishedPort for part in find_mines(fact)):
            self.with_ports.append(fact)
        else:
            self.take(fact)

    def _reader(self, namespace: str) -> TableReader:
        found = self._readers.get(namespace)
        if found is None:
            found = self._readers[namespace] = TableReader(self.names, namespace)
        return found

    def _entry(self, item: FdbEntry | Neighbour) -> None:
        self.entries.append(item)

    def _program(self, item: Program) -> None:
        """What it does is not known; its number is another one at each link."""
        link = self.names.link(item.namespace, item.link)
        self.take(("program", link, item.hook, item.kind, item.name))

    def _other(self, item: Object) -> None:
        """An object of a class that is not known here: each text may name something."""
        names = self.names
        row: list[Any] = [type(item).__name__, names.namespace(item.namespace)]
        for field in item.__struct_fields__:
            value = getattr(item, field)
            if field == "namespace":
                continue
            if isinstance(value, str):
                value = names.text(item.namespace, value)
            elif not isinstance(value, (int, float, bool, type(None))):
                value = msgspec.json.encode(value)
            row.append(value)
        self.take(tuple(row))
        self.names.apart |= self.names.networks.keys()


def _relay_targets(item: Listener) -> list[tuple[str, str, str]]:
    """Where the relays behind a socket lead: address, port, protocol."""
    found = []
    for process in item.processes:
        if process.name == _RELAY:
            flow = relayed_flow((process,))
            if flow is not None:
                found.append((flow.destination, str(flow.destination_port), flow.protocol))
    return found


_READERS: dict[type[Object], Callable[[Facts, Any], None]] = {
    Namespace: Facts._skip,
    Link: Facts._skip,
    PacketSocket: Facts._skip,
    Program: Facts._program,
    Address: Facts._address,
    Route: Facts._route,
    Rule: Facts._rule,
    Sysctl: Facts._sysctl,
    Listener: Facts._listener,
    Table: Facts._table,
    Element: Facts._element,
    Neighbour: Facts._entry,
    FdbEntry: Facts._entry,
}
