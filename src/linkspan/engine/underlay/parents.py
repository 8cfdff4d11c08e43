"""The interfaces that underlay networks are on, as they are now.

What is known comes from observing the host at start and at every reconciliation, and from
notifications in between.
"""

from __future__ import annotations

import msgspec

from linkspan.dataplane import HOST, DataPlane, Link
from linkspan.drivers.records import Endpoint, Network
from linkspan.drivers.underlay import parent_of, shares_parent_mac

UP = "up"


class Parent(msgspec.Struct, frozen=True, kw_only=True):
    """One interface of the host, as far as networks on it depend on it."""

    up: bool
    carrier: bool | None = None
    """None where the kernel does not say."""
    mac: str | None = None


class Shift(msgspec.Struct, frozen=True):
    """What a parent did to networks on it, and does now."""

    before: str
    after: str
    returned: bool
    """It is up, and was down or not there: links on it may be missing."""


class Parents:
    """Which networks are on which parent, and what is known of those."""

    def __init__(self) -> None:
        self._networks: dict[str, dict[str, Network]] = {}
        self._known: dict[str, Parent] = {}

    def open(self, network: Network, host: DataPlane | None = None) -> None:
        """Begin to watch a network's parent; `host` is what was observed of the host."""
        name = parent_of(network)
        if name:
            self._networks.setdefault(name, {})[network.id] = network
            if host is not None:
                self.learn(host)

    def close(self, network: Network) -> None:
        """Stop watching a network's parent."""
        name = parent_of(network)
        on_it = self._networks.get(name, {})
        on_it.pop(network.id, None)
        if not on_it:
            self._networks.pop(name, None)
            self._known.pop(name, None)

    def networks_on(self, name: str) -> list[Network]:
        """The networks on this parent."""
        return list(self._networks.get(name, {}).values())

    def learn(self, host: DataPlane) -> None:
        """Take in what was observed of the host."""
        for name in self._networks:
            link = host.get(("link", HOST, name))
            self.note(name, as_parent(link) if isinstance(link, Link) else None)

    def note(self, name: str, parent: Parent | None) -> Shift | None:
        """Take in how a parent is now, None for gone; what that changes for networks on it."""
        if name not in self._networks:
            return None
        held = self._known.pop(name, None)
        if parent is not None:
            if parent.mac is None and held is not None:
                parent = msgspec.structs.replace(parent, mac=held.mac)
            self._known[name] = parent
        before, after = describe_state(name, held), describe_state(name, parent)
        if before == after:
            return None
        return Shift(before, after, _is_up(parent) and not _is_up(held))

    def state(self, network: Network) -> str:
        """Whether packets pass: "up", or why not ("parent eth1 is down")."""
        name = parent_of(network)
        return describe_state(name, self._known.get(name)) if name else UP

    def with_parent_mac(self, network: Network, endpoint: Endpoint) -> Endpoint:
        """The endpoint with the MAC that its frames have, where that is the parent's."""
        if not shares_parent_mac(network):
            return endpoint
        parent = self._known.get(parent_of(network))
        return msgspec.structs.replace(endpoint, mac=parent.mac if parent else None)


def _is_up(parent: Parent | None) -> bool:
    return parent is not None and parent.up


def as_parent(link: Link) -> Parent:
    """What networks on a link depend on."""
    return Parent(up=bool(link.up), carrier=link.carrier, mac=link.mac)


def describe_state(name: str, parent: Parent | None) -> str:
    """What a parent does to networks on it, in words."""
    if parent is None:
        return f"parent {name} does not exist"
    if not parent.up:
        return f"parent {name} is down"
    if parent.carrier is False:
        return f"parent {name} has no carrier"
    return UP
