"""This host's kernel, as far as the engine uses it: one interface, so that tests can give a
value instead. Every function blocks; the engine calls them on threads.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from linkspan.dataplane import HOST, Address, Change, DataPlane, Link, Object, Sysctl
from linkspan.drivers.firewall import NAME, TABLES
from linkspan.drivers.records import PublishedPort
from linkspan.engine.forwarding6 import GUARDS
from linkspan.engine.publishing import HostSocket
from linkspan.kernel import namespaces, sysctl
from linkspan.kernel.apply import Kernel

if TYPE_CHECKING:
    from linkspan.engine.cutting import Lead
    from linkspan.engine.dhcp.exchange import Frames
    from linkspan.kernel.monitor import RouteMonitor
    from linkspan.kernel.netfilter.monitor import RulesetMonitor
    from linkspan.kernel.packets import PacketSocket
    from linkspan.kernel.probing import Prober
    from linkspan.kernel.sockets import BoundSocket, Process

PARTS = ("links", "addresses", "routes", "rules", "endpoint settings")
"""What is observed of a namespace; of the host's also "sysctls". The firewall is read apart."""


class Host(Protocol):
    """What the engine asks of a kernel."""

    def apply_many(
        self, changes: Sequence[Change], repair: bool = False
    ) -> Sequence[BaseException | None]:
        """Carry out changes independently of each other; the error of each, None for done."""
        ...

    def prepare_namespace(self, name: str) -> int:
        """Make a namespace of ours ahead of its change; gives its inode. From any thread."""
        ...

    def discard_namespace(self, name: str) -> None:
        """Undo `prepare_namespace` for a change that will not come."""
        ...

    def adopt(self, name: str, path: str, inode: int | None) -> None:
        """Call a foreign namespace by a name."""
        ...

    def disown(self, name: str) -> None:
        """Forget a foreign namespace."""
        ...

    def identify(self, path: str) -> int:
        """The inode of the namespace held on a path. Raises NotFound, PermissionRefused."""
        ...

    def has_vanished(self, path: str, inode: int | None) -> bool:
        """Whether a path no longer holds this namespace."""
        ...

    def observe(self, places: Mapping[str, str | None]) -> DataPlane:
        """Links, addresses, routes and rules of namespaces, by name and path; of the host's
        own (path None) also its settings.
        """
        ...

    def observe_firewall(self) -> DataPlane:
        """Our tables, taken over from a daemon before us, and their elements."""
        ...

    def firewall_is_intact(self) -> bool:
        """Whether chains and rules of our tables are as they were loaded. Cheap."""
        ...

    def read_settings(self, paths: Iterable[str]) -> dict[str, str]:
        """Kernel settings of the host's namespace; those that do not exist are left out."""
        ...

    def held_namespaces(self) -> dict[str, int | None]:
        """Names of the namespace files in our folder, with the inode each one holds."""
        ...

    def has_link(self, name: str) -> bool:
        """Whether the host's namespace has a link of this name. Does not block."""
        ...

    def observe_uplinks(self) -> DataPlane:
        """The elements by which uplinks forward for us only."""
        ...

    def addresses(self) -> list[str]:
        """The host's own addresses, without prefix lengths."""
        ...

    def sockets(self, protocols: Collection[str], *, named: bool = False) -> list[HostSocket]:
        """Sockets of the host that wait for packets; `named` finds their processes (slow)."""
        ...

    def flush_published(self, ports: Sequence[PublishedPort]) -> None:
        """Forget the flows to these ports of the host, wherever they lead."""
        ...

    def flush_addresses(self, addresses: Collection[str]) -> None:
        """Forget the flows from and to addresses that are nobody's any more."""
        ...

    def cut_published(self, leads: Sequence[Lead], netns: str) -> set[tuple[str, int]]:
        """Cut off the flows that came in by published ports of the container whose namespace
        is held on a path; the protocols and ports that had any.
        """
        ...

    def find_cut(self) -> set[tuple[str, int]]:
        """The protocols and host ports of which flows are known that were cut off."""
        ...

    def forget_cut(self, ports: Sequence[PublishedPort]) -> None:
        """Forget flows to these ports that were cut off."""
        ...

    def announce(self, path: str, interface: str, mac: str, address: str) -> None:
        """Tell the neighbours of an interface in a namespace that an address has this MAC."""
        ...

    def link(self, name: str) -> Link | None:
        """One link of the host's namespace, None when there is none."""
        ...

    def open_prober(
        self, path: str | None, interface: str, mac: str, addresses: Sequence[str]
    ) -> Prober:
        """Sockets that ask a segment for addresses; path None is the host's own namespace."""
        ...

    def open_frames(self, path: str, interface: str) -> Frames:
        """A socket for the frames of a DHCP client on an interface of a namespace."""
        ...

    def open_monitors(self) -> tuple[RouteMonitor, RulesetMonitor]:
        """Subscriptions to what others change, without our own changes."""
        ...

    def close(self) -> None:
        """Let go of sockets. What was made stays."""
        ...


class KernelHost:
    """The namespace of the thread that makes it."""

    def __init__(self, run_dir: str) -> None:
        self._kernel = Kernel(run_dir)
        self._directory = os.path.join(run_dir, "netns")
        self.apply_many = self._kernel.apply_many
        self.prepare_namespace = self._kernel.prepare_namespace
        self.discard_namespace = self._kernel.discard_namespace
        self.adopt = self._kernel.adopt
        self.disown = self._kernel.disown

    def identify(self, path: str) -> int:
        """See Host."""
        with namespaces.opened(path) as descriptor:
            return namespaces.identity(descriptor)

    def has_vanished(self, path: str, inode: int | None) -> bool:
        """See Host."""
        return namespaces.has_vanished(path, inode)

    def observe(self, places: Mapping[str, str | None]) -> DataPlane:
        """See Host."""
        from linkspan.kernel.observe import observe

        found = observe(places, PARTS)
        own = {name: path for name, path in places.items() if path is None}
        return found | DataPlane(observe(own, ("sysctls",)).of(Sysctl)) if own else found

    def observe_firewall(self) -> DataPlane:
        """See Host."""
        found: list[Object] = []
        with self._kernel.exclusive():
            firewall = self._kernel.firewall
            for table in TABLES:
                firewall.claim(table.family, table.name)
                seen, elements = firewall.read(table.family, table.name, table)
                if seen is not None:
                    found.append(seen)
                found += elements
        return DataPlane(found)

    def firewall_is_intact(self) -> bool:
        """See Host."""
        with self._kernel.exclusive():
            firewall = self._kernel.firewall
            return all(firewall.intact(table.family, table.name) for table in TABLES)

    def has_link(self, name: str) -> bool:
        """See Host."""
        try:
            socket.if_nametoindex(name)
        except OSError:
            return False
        return True

    def observe_uplinks(self) -> DataPlane:
        """See Host."""
        with self._kernel.exclusive():
            return DataPlane(
                element
                for name in ("uplinks", *GUARDS)
                for element in self._kernel.firewall.elements("inet", NAME, name)
            )

    def read_settings(self, paths: Iterable[str]) -> dict[str, str]:
        """See Host."""
        return sysctl.read_many(paths)

    def held_namespaces(self) -> dict[str, int | None]:
        """See Host."""
        return namespaces.held_in(self._directory)

    def addresses(self) -> list[str]:
        """See Host."""
        from linkspan.kernel.observe import observe

        found = observe(HOST_PLACE, ("addresses",)).of(Address)
        return [address.address.split("/")[0] for address in found]

    def sockets(self, protocols: Collection[str], *, named: bool = False) -> list[HostSocket]:
        """See Host."""
        from linkspan.kernel.sockets import find_processes, list_bound

        bound = list_bound(protocols=protocols)
        processes = find_processes({row.inode for row in bound}) if named else {}
        return [_as_host_socket(row, processes.get(row.inode)) for row in bound]

    def flush_published(self, ports: Sequence[PublishedPort]) -> None:
        """See Host."""
        from linkspan.engine.flows import flush_published

        flush_published(ports, self.addresses())

    def flush_addresses(self, addresses: Collection[str]) -> None:
        """See Host."""
        from linkspan.engine.flows import flush_addresses

        flush_addresses(addresses)

    def cut_published(self, leads: Sequence[Lead], netns: str) -> set[tuple[str, int]]:
        """See Host."""
        from linkspan.engine.cutting import cut_published

        return cut_published(leads, self.addresses(), netns)

    def find_cut(self) -> set[tuple[str, int]]:
        """See Host."""
        from linkspan.engine.cutting import find_cut

        return find_cut()

    def forget_cut(self, ports: Sequence[PublishedPort]) -> None:
        """See Host."""
        from linkspan.engine.cutting import forget_cut

        forget_cut(ports, self.addresses())

    def announce(self, path: str, interface: str, mac: str, address: str) -> None:
        """See Host."""
        from linkspan.kernel.arp import announce

        with namespaces.opened(path) as descriptor:
            announce(interface, mac, address, descriptor)

    def link(self, name: str) -> Link | None:
        """See Host."""
        from linkspan.kernel.observe import observe_link

        return observe_link(name)

    def open_prober(
        self, path: str | None, interface: str, mac: str, addresses: Sequence[str]
    ) -> Prober:
        """See Host."""
        from linkspan.kernel.probing import Prober

        if path is None:
            return Prober(interface, mac, addresses)
        with namespaces.opened(path) as descriptor:
            return Prober(interface, mac, addresses, descriptor)

    def open_frames(self, path: str, interface: str) -> PacketSocket:
        """See Host."""
        from linkspan.kernel.packets import PacketSocket

        with namespaces.opened(path) as descriptor:
            return PacketSocket(interface, descriptor)

    def open_monitors(self) -> tuple[RouteMonitor, RulesetMonitor]:
        """See Host."""
        from linkspan.kernel.monitor import RouteMonitor
        from linkspan.kernel.netfilter.monitor import RulesetMonitor

        tables = {(table.family, table.name) for table in TABLES}
        with self._kernel.exclusive():
            routes = RouteMonitor({self._kernel.portid})
            return routes, RulesetMonitor(tables, {self._kernel.firewall.portid})

    def close(self) -> None:
        """See Host."""
        self._kernel.close()


def _as_host_socket(row: BoundSocket, holders: Sequence[Process] | None) -> HostSocket:
    first = holders[0] if holders else None
    return HostSocket(
        protocol=row.protocol,
        address=row.address,
        port=row.port,
        state=row.state,
        v6only=row.v6only,
        process=first.name if first else None,
        pid=first.pid if first else None,
    )


HOST_PLACE: dict[str, str | None] = {HOST: None}
"""The host's own namespace, as `observe` takes it."""
