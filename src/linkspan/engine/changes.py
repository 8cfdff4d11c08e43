"""Changes for whole pieces of the data plane: made, taken away, compared with what is there.

A veth pair is described once, at its host end, with what its other end shall be. The kernel
shows two links. Comparing puts the two views side by side.
"""

from __future__ import annotations

import msgspec

from linkspan.dataplane import (
    HOST,
    Add,
    Change,
    DataPlane,
    Element,
    Ipvlan,
    Link,
    Loopback,
    Macvlan,
    Namespace,
    Object,
    Operation,
    Remove,
    Replace,
    Sysctl,
    Table,
    Veth,
    creation_order,
    diff,
    falls_with,
    satisfies,
)
from linkspan.dataplane.objects import Key


def creation(plane: DataPlane) -> Change:
    """The change that makes a piece of which nothing is there."""
    return tuple(Add(item) for item in _in_order(plane))


def removal(plane: DataPlane) -> Change:
    """The change that takes a piece away, in an order that closes before it opens.

    A host's link is removed by name even when its other end goes with a namespace: the
    kernel destroys namespaces later, and not while a process is still inside.
    """
    gone = [
        item
        for item in plane
        if isinstance(item, Namespace)
        or (isinstance(item, Link) and (item.namespace == HOST or hangs_on_host(item)))
    ]
    operations = []
    for item in reversed(_in_order(plane)):
        if not isinstance(item, Element):
            if isinstance(item, Sysctl) or (isinstance(item, Link) and is_loopback(item)):
                continue
            if item not in gone and any(falls_with(item, carrier) for carrier in gone):
                continue
        operations.append(Remove(item))
    return tuple(operations)


def _in_order(plane: DataPlane) -> list[Object]:
    """Creation order; elements, which can be many, keep the order they were described in."""
    elements = list(plane.of(Element))
    others = creation_order(item for item in plane if not isinstance(item, Element))
    place = next((i for i, item in enumerate(others) if item.order > Element.order), len(others))
    return [*others[:place], *elements, *others[place:]]


def hangs_on_host(link: Link) -> bool:
    """Whether a link in another namespace has its parent in the host's (macvlan, ipvlan).

    It is removed by name like one of the host's own: it holds its address, and a parent in
    mode passthru, until it is gone.
    """
    kind = link.kind
    return (
        isinstance(kind, (Macvlan, Ipvlan))
        and link.namespace != HOST
        and kind.parent_namespace == HOST
    )


def is_loopback(link: Link) -> bool:
    """Whether the link is one that its namespace was born with."""
    return isinstance(link.kind, Loopback)


def repair(observed: DataPlane, described: DataPlane) -> Change:
    """The change that makes a piece as described, out of what was observed of it.

    What else is there is left alone. A link whose other end differs only in what can be
    set is set; anything else is made anew.
    """
    known = DataPlane(held for item in described if (held := observed.get(item.key)) is not None)
    stated = DataPlane(_without_far_end(item) for item in described)
    operations = [_with_far_end(operation, described) for operation in diff(known, stated)]
    made = {operation.object.key for operation in operations if isinstance(operation, Add)}
    for link in described.of(Link):
        far = far_end(link)
        if far is None or link.key in made:
            continue
        held = observed.get(far.key)
        if held is not None and not satisfies(held, far):
            operations.append(Replace(held, far))
    return tuple(operations)


def far_end(link: Link) -> Link | None:
    """The other end of a described veth pair, with what its description states."""
    kind = link.kind
    if not isinstance(kind, Veth) or kind.peer_name is None or kind.peer_namespace is None:
        return None
    return Link(
        namespace=kind.peer_namespace,
        name=kind.peer_name,
        mac=kind.peer_mac,
        mtu=kind.peer_mtu,
        up=kind.peer_up,
        ipv6_link_local=kind.peer_ipv6_link_local,
    )


def _without_far_end(item: Object) -> Object:
    if not isinstance(item, Link) or not isinstance(item.kind, Veth):
        return item
    kind = msgspec.structs.replace(
        item.kind, peer_mac=None, peer_mtu=None, peer_up=None, peer_ipv6_link_local=None
    )
    return msgspec.structs.replace(item, kind=kind)


def _with_far_end(operation: Operation, described: DataPlane) -> Operation:
    if isinstance(operation, Add):
        return Add(described.get(operation.object.key) or operation.object)
    return operation


def is_firewall(item: Object) -> bool:
    """Whether an object is part of a firewall."""
    return isinstance(item, (Table, Element))


def keys_of(change: Change) -> set[Key]:
    """The identities of everything that a change is about."""
    return {subject(operation).key for operation in change}


def subject(operation: Operation) -> Object:
    """The object that an operation is about, as it is wanted."""
    return operation.new if isinstance(operation, Replace) else operation.object
