"""A host that is a value: what was looked at, and what changes make of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from linkspan.dataplane import (
    HOST,
    Add,
    Address,
    Change,
    DataPlane,
    Element,
    Ipvlan,
    Link,
    Listener,
    Macvlan,
    Namespace,
    Object,
    Operation,
    Remove,
    Replace,
    Sysctl,
    Table,
    Veth,
    Vlan,
    apply_to,
)
from linkspan.dataplane.settling import settle
from linkspan.drivers.firewall import TABLES
from linkspan.drivers.records import PublishedPort
from linkspan.engine.cutting import Lead
from linkspan.engine.forwarding6 import GUARDS
from linkspan.engine.publishing import HostSocket
from linkspan.errors import NotFound, Unsupported
from linkspan.inventory.records import HostView

OWN_INODE = 1
_FIRST_INODE = 1 << 40  # beyond what a kernel gives out


class SilentProber:
    """A segment that nothing is sent on: nobody answers for an address."""

    def send(self) -> None:
        """Nothing."""

    def read(self) -> Mapping[str, str]:
        """Nothing."""
        return {}

    def close(self) -> None:
        """Nothing."""


class SilentMonitor:
    """A subscription on a host where nobody else changes anything."""

    async def events(self) -> AsyncIterator[Any]:
        """Waits for ever."""
        await asyncio.Event().wait()
        yield None

    def close(self) -> None:
        """Nothing."""


class ModelHost:
    """A Host made of a look at one. The engine's names of namespaces are ids; `names` says what
    the plane calls those that are known, and `name_new` what it shall call others.
    """

    def __init__(
        self, view: HostView, names: Mapping[str, str], name_new: Callable[[str], str]
    ) -> None:
        self._before = view.plane
        self._plane = view.plane
        self._paths = view.paths
        self._waiting: list[Operation] = []
        self._names = {HOST: HOST, **names}
        self._name_new = name_new
        self._inodes: dict[str, int] = {}

    # What comes of it -----------------------------------------------------------------

    @property
    def names(self) -> Mapping[str, str]:
        """What the plane calls the engine's namespaces."""
        return self._names

    def outcome(self) -> DataPlane:
        """The plane as the kernel would leave it; namespaces that are new are marked so."""
        return DataPlane(
            msgspec.structs.replace(item, planned=True)
            if isinstance(item, Namespace) and item.key not in self._before
            else item
            for item in self._changed()
        )

    def _changed(self) -> DataPlane:
        if self._waiting:
            changed = apply_to(self._plane, tuple(self._waiting))
            self._plane = settle(self._plane, changed)
            self._waiting.clear()
        return self._plane

    # Names ----------------------------------------------------------------------------

    def _name(self, namespace: str) -> str:
        known = self._names.get(namespace)
        if known is None:
            known = self._names[namespace] = self._name_new(namespace)
        return known

    def _outward(self, item: Object) -> Object:
        """An object in the plane's names."""
        return _renamed(item, self._name)

    # Changing -------------------------------------------------------------------------

    def apply_many(
        self, changes: Sequence[Change], repair: bool = False
    ) -> list[BaseException | None]:
        """See Host. Nothing is refused."""
        for change in changes:
            for operation in change:
                match operation:
                    case Add(item):
                        self._waiting.append(Add(self._outward(item)))
                    case Remove(item):
                        self._waiting.append(Remove(self._outward(item)))
                    case Replace(old, new):
                        self._waiting.append(Replace(self._outward(old), self._outward(new)))
        return [None] * len(changes)

    def prepare_namespace(self, name: str) -> int:
        """See Host."""
        self._inodes[name] = _FIRST_INODE + len(self._inodes)
        return self._inodes[name]

    def discard_namespace(self, name: str) -> None:
        """See Host."""
        self._inodes.pop(name, None)

    def adopt(self, name: str, path: str, inode: int | None) -> None:
        """See Host."""
        found = self._at(path)
        if found is not None:
            self._names[name] = found

    def disown(self, name: str) -> None:
        """See Host. The name is kept: what was removed there is still to be carried out."""

    # Looking --------------------------------------------------------------------------

    def _at(self, path: str) -> str | None:
        """The plane's name of the namespace that a file holds."""
        for name, held in self._paths.items():
            if held == path:
                return name
        for item in self._before.of(Namespace):
            if item.path == path:
                return item.namespace
        if any(self._paths.values()):
            try:
                wanted = os.stat(path)
                for name, held in self._paths.items():
                    if held is not None and os.path.samestat(os.stat(held), wanted):
                        return name
            except OSError:
                return None
        return None

    def identify(self, path: str) -> int:
        """See Host."""
        if path == "/proc/self/ns/net":
            return OWN_INODE
        name = self._at(path)
        if name is None:
            raise NotFound(f"no network namespace was seen at {path}")
        if name == HOST:
            return OWN_INODE
        found = self._before.get(("namespace", name))
        inode = found.inode if isinstance(found, Namespace) else None
        return inode if inode is not None else self._inodes.setdefault(name, len(self._inodes) + 2)

    def has_vanished(self, path: str, inode: int | None) -> bool:
        """See Host."""
        return False

    def observe(self, places: Mapping[str, str | None]) -> DataPlane:
        """See Host."""
        back = {}
        for name, path in places.items():
            known = self._names.get(name) or (self._at(path) if path is not None else None)
            if known is not None:
                back[known] = name
        reverse = {outer: inner for inner, outer in self._names.items()} | back
        return DataPlane(
            _renamed(item, lambda name: reverse.get(name, name))
            for item in self._changed()
            if item.namespace in back and not isinstance(item, (Table, Element, Listener))
        )

    def observe_firewall(self) -> DataPlane:
        """See Host. A table of ours that is there counts as whole, as a daemon keeps it."""
        plane = self._changed()
        tables = [t for t in TABLES if ("table", HOST, "nft", t.family, t.name) in plane]
        ours = {(table.family, table.name) for table in tables}
        elements = (
            item
            for item in plane.of(Element)
            if item.namespace == HOST and (item.family, item.table) in ours
        )
        return DataPlane((*tables, *elements))

    def firewall_is_intact(self) -> bool:
        """See Host."""
        return True

    def observe_uplinks(self) -> DataPlane:
        """See Host."""
        return DataPlane(
            item
            for item in self.observe_firewall().of(Element)
            if item.family == "inet" and item.set in ("uplinks", *GUARDS)
        )

    def read_settings(self, paths: Iterable[str]) -> dict[str, str]:
        """See Host."""
        plane = self._changed()
        found = ((path, plane.get(("sysctl", HOST, path))) for path in paths)
        return {path: item.value for path, item in found if isinstance(item, Sysctl)}

    def held_namespaces(self) -> dict[str, int | None]:
        """See Host."""
        return {name: None for name in self._names if name != HOST}

    def has_link(self, name: str) -> bool:
        """See Host."""
        return ("link", HOST, name) in self._changed()

    def link(self, name: str) -> Link | None:
        """See Host."""
        found = self._changed().get(("link", HOST, name))
        return found if isinstance(found, Link) else None

    def addresses(self) -> list[str]:
        """See Host."""
        own = (item for item in self._changed().of(Address) if item.namespace == HOST)
        return [item.address.split("/")[0] for item in own]

    def sockets(self, protocols: Collection[str], *, named: bool = False) -> list[HostSocket]:
        """See Host."""
        return [
            HostSocket(
                protocol=item.protocol,
                address=item.address,
                port=item.port,
                v6only=not item.dual_stack,
                process=item.processes[0].name if item.processes else None,
                pid=item.processes[0].pid if item.processes else None,
            )
            for item in self._before.of(Listener)
            if item.namespace == HOST and item.protocol in protocols
        ]

    # Flows and packets: there are none ------------------------------------------------

    def flush_published(self, ports: Sequence[PublishedPort]) -> None:
        """See Host."""

    def flush_addresses(self, addresses: Collection[str]) -> None:
        """See Host."""

    def cut_published(self, leads: Sequence[Lead], netns: str) -> set[tuple[str, int]]:
        """See Host."""
        return set()

    def find_cut(self) -> set[tuple[str, int]]:
        """See Host."""
        return set()

    def forget_cut(self, ports: Sequence[PublishedPort]) -> None:
        """See Host."""

    def announce(self, path: str, interface: str, mac: str, address: str) -> None:
        """See Host."""

    def open_prober(
        self, path: str | None, interface: str, mac: str, addresses: Sequence[str]
    ) -> Any:
        """See Host."""
        return SilentProber()

    def open_frames(self, path: str, interface: str) -> Any:
        """See Host."""
        raise Unsupported("a plan asks no DHCP server")

    def open_monitors(self) -> Any:
        """See Host."""
        return SilentMonitor(), SilentMonitor()

    def close(self) -> None:
        """See Host."""


def _renamed(item: Object, name: Callable[[str], str]) -> Object:
    """An object whose namespaces have other names."""
    changed: dict[str, Any] = {}
    wanted = name(item.namespace)
    if wanted != item.namespace:
        changed["namespace"] = wanted
    if isinstance(item, Link):
        kind: Any = item.kind
        if isinstance(kind, Veth) and kind.peer_namespace is not None:
            changed["kind"] = msgspec.structs.replace(
                kind, peer_namespace=name(kind.peer_namespace)
            )
        elif isinstance(kind, (Macvlan, Ipvlan, Vlan)) and kind.parent_namespace is not None:
            changed["kind"] = msgspec.structs.replace(
                kind, parent_namespace=name(kind.parent_namespace)
            )
    return msgspec.structs.replace(item, **changed) if changed else item
