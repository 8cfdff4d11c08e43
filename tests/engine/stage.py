"""An engine without a kernel: a host that is a value, changed by the model of kernel/apply."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from pathlib import Path
from typing import Any

from linkspan.dataplane import (
    HOST,
    Address,
    Bridge,
    Change,
    DataPlane,
    Element,
    Link,
    Loopback,
    Namespace,
    Physical,
    Route,
    Sysctl,
    Table,
    Veth,
    apply_to,
)
from linkspan.drivers.records import PublishedPort
from linkspan.engine.changes import far_end, subject
from linkspan.engine.cutting import Lead
from linkspan.engine.engine import Engine
from linkspan.engine.forwarding6 import GUARDS
from linkspan.engine.publishing import HostSocket
from linkspan.engine.settings import Settings
from linkspan.errors import KernelRefused, NotFound

OWN_INODE = 1
_IPV6_SWITCHES = (
    "all/disable_ipv6", "default/disable_ipv6", "all/forwarding", "default/forwarding",
    "all/force_forwarding", "eth0/force_forwarding",
)  # fmt: skip


class SilentMonitor:
    """A subscription on a host where nobody else changes anything."""

    async def events(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield None

    def close(self) -> None:
        pass


class ModelProber:
    """A segment on which some addresses are taken."""

    def __init__(self, addresses: Sequence[str], claims: Mapping[str, str]) -> None:
        self._answers = {a: claims[a] for a in addresses if a in claims}
        self._asked = False

    def send(self) -> None:
        self._asked = True

    def read(self) -> Mapping[str, str]:
        return self._answers if self._asked else {}

    def close(self) -> None:
        pass


class ModelHost:
    """A host with one uplink, eth0, whose kernel is a data plane."""

    def __init__(self) -> None:
        self.plane = DataPlane(
            (
                Link(name="lo", kind=Loopback(), up=True),
                Link(name="eth0", kind=Physical(), mtu=1500, up=True),
                Address(link="eth0", address="192.0.2.10/24"),
                Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
                Sysctl(path="ipv4/ip_forward", value="0"),
                Sysctl(path="ipv4/conf/eth0/forwarding", value="0"),
                *(Sysctl(path=f"ipv6/conf/{path}", value="0") for path in _IPV6_SWITCHES),
                Sysctl(path="ipv6/conf/eth0/accept_ra", value="1"),
            )
        )
        self.foreign: dict[str, int] = {}
        """Namespaces that others made: inode by path."""
        self.listening: list[HostSocket] = []
        self.flushed: list[str] = []
        self.cut: list[tuple[str, str]] = []
        self.announced: list[tuple[str, str, str]] = []
        self.probed: list[str] = []
        self.claims: dict[str, str] = {}
        """MACs of hosts on the segment, by their addresses."""
        self.batches: list[int] = []
        self.refuse: Callable[[Change], bool] = lambda change: False
        """Which changes the kernel refuses."""
        self.adopted: dict[str, str] = {}
        self._inodes: dict[str, int] = {}
        self._prepared: set[str] = set()
        self._next_inode = 100

    def apply_many(
        self, changes: Sequence[Change], repair: bool = False
    ) -> list[BaseException | None]:
        self.batches.append(len(changes))
        return [self._apply(change) for change in changes]

    def _apply(self, change: Change) -> BaseException | None:
        if self.refuse(change):
            return KernelRefused("changing the model", 12)
        self.plane = apply_to(self.plane, change)
        for operation in change:
            item = subject(operation)
            if isinstance(item, Namespace) and item.namespace not in self._inodes:
                self.prepare_namespace(item.namespace)
        for name in list(self._inodes):
            if ("namespace", name) not in self.plane and name not in self._prepared:
                del self._inodes[name]
        self._prepared.clear()
        return None

    def prepare_namespace(self, name: str) -> int:
        self._next_inode += 1
        self._inodes[name] = self._next_inode
        self._prepared.add(name)
        return self._next_inode

    def discard_namespace(self, name: str) -> None:
        self._inodes.pop(name, None)

    def adopt(self, name: str, path: str, inode: int | None) -> None:
        self.adopted[name] = path

    def disown(self, name: str) -> None:
        self.adopted.pop(name, None)

    def identify(self, path: str) -> int:
        if path == "/proc/self/ns/net":
            return OWN_INODE
        if path not in self.foreign:
            raise NotFound(f"no network namespace at {path}")
        return self.foreign[path]

    def has_vanished(self, path: str, inode: int | None) -> bool:
        name = path.rpartition("/")[2]
        held = self.foreign.get(path, self._inodes.get(name))
        return held is None or (inode is not None and held != inode)

    def observe(self, places: Mapping[str, str | None]) -> DataPlane:
        known = {path: name for name, path in self.adopted.items()}
        names = {known.get(path or "", name): name for name, path in places.items()}
        seen = [item for item in self.plane if item.namespace in names]
        for link in self.plane.of(Link):
            far = far_end(link)
            if far is not None and far.namespace in names and far.key not in self.plane:
                seen.append(far)
        return DataPlane(i for i in seen if not isinstance(i, (Table, Element)))

    def observe_firewall(self) -> DataPlane:
        return DataPlane(item for item in self.plane if isinstance(item, (Table, Element)))

    def observe_uplinks(self) -> DataPlane:
        return DataPlane(e for e in self.plane.of(Element) if e.set in ("uplinks", *GUARDS))

    def firewall_is_intact(self) -> bool:
        return True

    def read_settings(self, paths: Iterable[str]) -> dict[str, str]:
        found = {item.path: item.value for item in self.plane.of(Sysctl)}
        return {path: found[path] for path in paths if path in found}

    def held_namespaces(self) -> dict[str, int | None]:
        return dict(self._inodes)

    def addresses(self) -> list[str]:
        return [a.address.split("/")[0] for a in self.plane.of(Address) if a.namespace == HOST]

    def sockets(self, protocols: Collection[str], *, named: bool = False) -> list[HostSocket]:
        return [row for row in self.listening if row.protocol in protocols]

    def flush_published(self, ports: Sequence[PublishedPort]) -> None:
        self.flushed += [f"{port.host_port}/{port.protocol}" for port in ports]

    def flush_addresses(self, addresses: Sequence[str]) -> None:
        self.flushed += addresses

    def has_link(self, name: str) -> bool:
        return ("link", HOST, name) in self.plane

    def cut_published(self, leads: Sequence[Lead], netns: str) -> set[tuple[str, int]]:
        self.cut += [(str(lead.port), lead.inside) for lead in leads]
        return {(lead.port.protocol, lead.port.host_port) for lead in leads}

    def find_cut(self) -> set[tuple[str, int]]:
        return set()

    def forget_cut(self, ports: Sequence[PublishedPort]) -> None:
        self.flushed += [f"cut {port}" for port in ports]

    def announce(self, path: str, interface: str, mac: str, address: str) -> None:
        self.announced.append((interface, mac, address))

    def link(self, name: str) -> Link | None:
        found = self.plane.get(("link", HOST, name))
        return found if isinstance(found, Link) else None

    def open_prober(
        self, path: str | None, interface: str, mac: str, addresses: Sequence[str]
    ) -> ModelProber:
        self.probed += addresses
        return ModelProber(addresses, self.claims)

    def open_monitors(self) -> Any:
        return SilentMonitor(), SilentMonitor()

    def close(self) -> None:
        pass

    # What tests look at

    def elements(self, set_name: str) -> set[tuple[Any, ...]]:
        return {(*e.first, *(e.data or ())) for e in self.plane.of(Element) if e.set == set_name}

    def bridges(self) -> set[str]:
        return {link.name for link in self.plane.of(Link) if isinstance(link.kind, Bridge)}

    def pairs(self) -> set[str]:
        return {link.name for link in self.plane.of(Link) if isinstance(link.kind, Veth)}


async def until(condition: Callable[[], object]) -> None:
    """Let others work until this holds."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


Talk = Callable[[Engine, ModelHost], Awaitable[None]]


def play(directory: Path, talk: Talk, host: ModelHost | None = None) -> ModelHost:
    """Open an engine on a model, talk to it, close it."""
    stage = host or ModelHost()

    async def run() -> None:
        settings = Settings(state_dir=f"{directory}/state", run_dir=f"{directory}/run")
        engine = await Engine.open(settings, stage)
        try:
            await asyncio.wait_for(talk(engine, stage), 20)
        finally:
            await engine.close()

    asyncio.run(run())
    return stage
