"""A strict reader of changes: it refuses every operation that a kernel would refuse."""

from __future__ import annotations

from linkspan.dataplane import (
    HOST,
    Add,
    Address,
    Change,
    DataPlane,
    Element,
    FdbEntry,
    Link,
    Namespace,
    Neighbour,
    Remove,
    Replace,
    Route,
    Sysctl,
    Veth,
    apply_to,
)
from linkspan.dataplane.objects import Object


class Illegal(AssertionError):
    """An operation that no kernel carries out."""


def carry_out(plane: DataPlane, change: Change) -> DataPlane:
    """`apply_to`, one operation at a time, each checked."""
    for operation in change:
        match operation:
            case Add(item):
                if item.key in plane:
                    raise Illegal(f"added, but there: {operation}")
                check_references(plane, item)
            case Remove(item):
                if item.key not in plane:
                    raise Illegal(f"removed, but gone: {operation}")
            case Replace(old, new):
                if plane.get(new.key) != old:
                    raise Illegal(f"changed, but not as it was: {operation}")
                check_references(plane, new)
        plane = apply_to(plane, (operation,))
    return plane


def check_references(plane: DataPlane, item: Object) -> None:
    """What an object needs is there."""
    if isinstance(item, Namespace):
        return
    if item.namespace != HOST and ("namespace", item.namespace) not in plane:
        raise Illegal(f"no namespace for {item}")
    if isinstance(item, Link):
        for needed in (item.master, getattr(item.kind, "parent", None)):
            if needed and not has_link(plane, item.namespace, needed):
                raise Illegal(f"no link {needed} for {item}")
        if isinstance(item.kind, Veth) and item.kind.peer_namespace not in (None, HOST):
            if ("namespace", item.kind.peer_namespace) not in plane:
                raise Illegal(f"no namespace for the peer of {item}")
    elif isinstance(item, (Address, Route, Neighbour, FdbEntry)):
        if item.link is not None and not has_link(plane, item.namespace, item.link):
            raise Illegal(f"no link for {item}")
    elif isinstance(item, Sysctl):
        if not has_link(plane, item.namespace, item.path.split("/")[2]):
            raise Illegal(f"no link for {item}")
    elif isinstance(item, Element):
        if ("table", item.namespace, "nft", item.family, item.table) not in plane:
            raise Illegal(f"no table for {item}")


def has_link(plane: DataPlane, namespace: str, name: str) -> bool:
    """Whether a link is there, by itself or as the other end of a pair."""
    return ("link", namespace, name) in plane or any(
        isinstance(link.kind, Veth)
        and (link.kind.peer_namespace, link.kind.peer_name) == (namespace, name)
        for link in plane.of(Link)
    )
