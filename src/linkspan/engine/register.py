"""What exists: networks and sandboxes, found by id, name and whatever else identifies them.

Everything asked on the way of an attach is one look-up, however many sandboxes there are.
Pure: the store is written by those who change things.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from linkspan.drivers.records import Network, Sandbox
from linkspan.drivers.underlay import made_links
from linkspan.errors import NameInUse, NotFound

_ID_PREFIX = re.compile(r"[0-9a-f]{1,64}")

T = TypeVar("T")


class Register:
    """The records of this host. Records are replaced, never changed."""

    def __init__(self) -> None:
        self.networks: dict[str, Network] = {}
        self.sandboxes: dict[str, Sandbox] = {}
        self.network_ids: dict[str, str] = {}
        """Ids by name; also of a network that is being made or removed."""
        self.reserved: dict[str, Network] = {}
        """Networks that are being made or removed: nobody can join, all they have is taken."""
        self.sandbox_ids: dict[str, str] = {}
        self._members: dict[str, dict[str, None]] = {}
        self._by_host_interface: dict[str, str] = {}
        self._by_network_interface: dict[str, str] = {}
        self._by_inode: dict[int, str] = {}
        self._by_mac: dict[tuple[str, str], str] = {}

    # Look-ups

    def network(self, ref: str) -> Network:
        """The network of this name, id or unique beginning of an id."""
        return _find("network", ref, self.networks, self.network_ids)

    def sandbox(self, ref: str) -> Sandbox:
        """The sandbox of this name, id or unique beginning of an id."""
        return _find("sandbox", ref, self.sandboxes, self.sandbox_ids)

    def members(self, network_id: str) -> list[Sandbox]:
        """The sandboxes on a network, in the order in which they joined."""
        return [self.sandboxes[i] for i in self._members.get(network_id, ())]

    def is_used(self, network_id: str) -> bool:
        """Whether any sandbox is on the network."""
        return bool(self._members.get(network_id))

    def at_host_interface(self, name: str) -> Sandbox | None:
        """The sandbox whose endpoint has this interface on the host."""
        return self.sandboxes.get(self._by_host_interface.get(name, ""))

    def at_network_interface(self, name: str) -> Network | None:
        """The network that has this interface on the host, also one under way."""
        identity = self._by_network_interface.get(name, "")
        return self.networks.get(identity) or self.reserved.get(identity)

    def in_namespace(self, inode: int) -> Sandbox | None:
        """The sandbox that has this namespace."""
        return self.sandboxes.get(self._by_inode.get(inode, ""))

    def with_mac(self, network_id: str, mac: str) -> Sandbox | None:
        """The sandbox that has this MAC on a network."""
        return self.sandboxes.get(self._by_mac.get((network_id, mac), ""))

    def all_networks(self) -> list[Network]:
        """Every network, also those that are being made or removed."""
        return [*self.networks.values(), *self.reserved.values()]

    def check_network_name(self, name: str) -> None:
        """NameInUse when another network has the name."""
        if name in self.network_ids:
            raise NameInUse(f"a network named {name} exists already; choose another name")

    def check_sandbox_name(self, name: str) -> None:
        """NameInUse when another sandbox has the name."""
        if name in self.sandbox_ids:
            raise NameInUse(
                f"a sandbox named {name} exists already; remove it, or choose another name"
            )

    # Changes

    def put_network(self, network: Network) -> None:
        """Add a network, or replace its record."""
        self.networks[network.id] = network
        self.reserved.pop(network.id, None)
        self.network_ids[network.name] = network.id
        for name in made_links(network):
            self._by_network_interface[name] = network.id

    def reserve_network(self, network: Network) -> None:
        """A network is being made or removed: out of reach, but everything of it is taken."""
        self.networks.pop(network.id, None)
        self.reserved[network.id] = network
        self.network_ids[network.name] = network.id
        for name in made_links(network):
            self._by_network_interface[name] = network.id

    def drop_network(self, network: Network) -> None:
        """Forget a network."""
        self.networks.pop(network.id, None)
        self.reserved.pop(network.id, None)
        self.network_ids.pop(network.name, None)
        self._members.pop(network.id, None)
        for name in made_links(network):
            # A VLAN's link can be another network's as well.
            if self._by_network_interface.get(name) == network.id:
                del self._by_network_interface[name]

    def put_sandbox(self, sandbox: Sandbox) -> None:
        """Add a sandbox, or replace its record and everything it is found by."""
        old = self.sandboxes.get(sandbox.id)
        if old is not None:
            self._unlist(old, sandbox)
        self.sandboxes[sandbox.id] = sandbox
        self.sandbox_ids[sandbox.name] = sandbox.id
        holds = sandbox.state in ("allocated", "up")
        if holds and sandbox.inode is not None:
            self._by_inode[sandbox.inode] = sandbox.id
        for endpoint in sandbox.endpoints:
            self._members.setdefault(endpoint.network, {})[sandbox.id] = None
            if holds and endpoint.host_interface:
                self._by_host_interface[endpoint.host_interface] = sandbox.id
            if holds and endpoint.mac is not None:
                self._by_mac[endpoint.network, endpoint.mac] = sandbox.id

    def drop_sandbox(self, sandbox: Sandbox) -> None:
        """Forget a sandbox."""
        held = self.sandboxes.pop(sandbox.id, None)
        if held is not None:
            self._unlist(held, None)
            self.sandbox_ids.pop(held.name, None)

    def _unlist(self, old: Sandbox, new: Sandbox | None) -> None:
        if old.inode is not None:
            self._by_inode.pop(old.inode, None)
        kept = {endpoint.network for endpoint in new.endpoints} if new is not None else ()
        for endpoint in old.endpoints:
            self._by_host_interface.pop(endpoint.host_interface, None)
            if endpoint.mac is not None:
                self._by_mac.pop((endpoint.network, endpoint.mac), None)
            if endpoint.network not in kept:
                self._members.get(endpoint.network, {}).pop(old.id, None)

    def names(self) -> dict[str, str]:
        """Names of sandboxes by id, for messages."""
        return {sandbox.id: sandbox.name for sandbox in self.sandboxes.values()}


def _find(kind: str, ref: str, things: Mapping[str, T], ids: Mapping[str, str]) -> T:
    found = things.get(ids.get(ref, ref))
    if found is not None:
        return found
    if _ID_PREFIX.fullmatch(ref):
        matching = [identity for identity in things if identity.startswith(ref)]
        if len(matching) == 1:
            return things[matching[0]]
        if matching:
            raise NotFound(
                f"{len(matching)} {_plural(kind)} have an id that begins with {ref}; "
                "give more digits or the name"
            )
    known = _some(name for name, identity in ids.items() if identity in things)
    raise NotFound(f"there is no {kind} {ref!r}; {known}")


def _plural(kind: str) -> str:
    return "sandboxes" if kind == "sandbox" else f"{kind}s"


def _some(names: Iterable[str], most: int = 5) -> str:
    listed = sorted(names)
    if not listed:
        return "there are none"
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return f"there are {', '.join(listed[:most])}{more}"
