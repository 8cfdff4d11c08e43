"""What the kernel removes by itself when something else is removed.

A namespace takes all that is in it, a link what is on it and above it, one end of a veth
pair the other, a table its elements. Whatever carries something is here its carrier.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable

from linkspan.dataplane.links import Ipvlan, Macvlan, Veth, Vlan, Vxlan
from linkspan.dataplane.objects import (
    Address,
    Element,
    FdbEntry,
    Key,
    Link,
    Namespace,
    Neighbour,
    Object,
    Route,
    Sysctl,
)
from linkspan.dataplane.rules import Table


def is_carrier(item: Object) -> bool:
    """Whether other objects can fall with this one."""
    return isinstance(item, (Namespace, Link, Table))


def peer_key(item: Object) -> Key | None:
    """The identity of a veth link's other end, as far as it is stated."""
    if isinstance(item, Link) and isinstance(item.kind, Veth) and item.kind.peer_name is not None:
        return ("link", item.kind.peer_namespace or item.namespace, item.kind.peer_name)
    return None


def carriers_of(item: Object) -> list[Key]:
    """The identities of what `item` falls with, apart from its peer; stated or not."""
    if isinstance(item, Namespace):
        return []
    place = item.namespace
    carriers: list[Key] = [("namespace", place)]
    if isinstance(item, (Address, Neighbour, FdbEntry)):
        carriers.append(("link", place, item.link))
    elif isinstance(item, Route):
        if item.link is not None:
            carriers.append(("link", place, item.link))
    elif isinstance(item, Element):
        carriers.append(("table", place, "nft", item.family, item.table))
    elif isinstance(item, Sysctl):
        # ipv4/conf/LINK/NAME, ipv6/neigh/LINK/NAME
        parts = item.path.split("/")
        if len(parts) == 4 and parts[1] in ("conf", "neigh"):
            carriers.append(("link", place, parts[2]))
    elif isinstance(item, Link):
        kind = item.kind
        if isinstance(kind, Veth):
            if kind.peer_namespace is not None and kind.peer_namespace != place:
                carriers.append(("namespace", kind.peer_namespace))
        elif isinstance(kind, (Macvlan, Ipvlan, Vlan, Vxlan)) and kind.parent is not None:
            elsewhere = None if isinstance(kind, Vxlan) else kind.parent_namespace
            carriers.append(("link", elsewhere or place, kind.parent))
    return carriers


def are_peers(one: Object, other: Object) -> bool:
    """Whether two objects are the ends of one veth pair: neither says otherwise."""
    if one is other or not (isinstance(one, Link) and isinstance(other, Link)):
        return False
    if not (isinstance(one.kind, Veth) and isinstance(other.kind, Veth)):
        return False
    forth, back = peer_key(one), peer_key(other)
    if forth is None and back is None:
        return False
    return forth in (None, other.key) and back in (None, one.key)


def falls_with(item: Object, gone: Object) -> bool:
    """Whether the kernel removes `item` by itself when `gone` is removed."""
    if not is_carrier(gone) or item is gone:
        return False
    carriers = carriers_of(item)
    if gone.key in carriers:
        return True
    peer = peer_key(gone)
    return peer is not None and (peer in carriers or are_peers(item, gone))


class Falling:
    """Finds all that falls with something, directly or in turn, without looking at the rest.

    It follows one collection of objects, whose `get` is given, through additions and removals.
    """

    def __init__(self, objects: Iterable[Object], get: Callable[[Key], Object | None]) -> None:
        self._get = get
        self._carried: defaultdict[Key, dict[Key, None]] = defaultdict(dict)
        for item in objects:
            self.add(item)

    def add(self, item: Object) -> None:
        """An object is there now."""
        key = item.key
        for carrier in carriers_of(item):
            self._carried[carrier][key] = None
        peer = peer_key(item)
        if peer is not None:
            self._carried[peer][key] = None

    def discard(self, item: Object) -> None:
        """An object is there no longer."""
        key = item.key
        peer = peer_key(item)
        for carrier in carriers_of(item) + ([peer] if peer is not None else []):
            self._carried[carrier].pop(key, None)

    def with_all(self, gone: Iterable[Object]) -> dict[Key, Object]:
        """Everything that falls with the objects in `gone`, without those themselves."""
        started = {item.key for item in gone if is_carrier(item)}
        found: dict[Key, Object] = {}
        queue = [item for item in gone if is_carrier(item)]
        seen = set(started)
        while queue:
            carrier = queue.pop()
            key = carrier.key
            reached = list(self._carried.get(key, ()))
            peer = peer_key(carrier)
            if peer is not None:
                reached += self._carried.get(peer, ())
                reached.append(peer)
            for candidate in reached:
                if candidate in seen or candidate in found:
                    continue
                item = self._get(candidate)
                if item is None or not falls_with(item, carrier):
                    continue
                found[candidate] = item
                if is_carrier(item):
                    queue.append(item)
        return found
