"""What a change would do, in words: one line an object, in the order it would happen."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from linkspan.dataplane import (
    HOST,
    Add,
    Address,
    Bridge,
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
    Route,
    Rule,
    Sysctl,
    Table,
    Veth,
    Vlan,
)

_VERBS = {Add: "create", Remove: "remove", Replace: "change"}


class Plan(msgspec.Struct, frozen=True):
    """Operations that were worked out and not carried out.

    `names` gives namespaces the names that a person knows them by.
    """

    operations: tuple[Operation, ...]
    names: dict[str, str] = {}

    def lines(self) -> list[str]:
        """One line an operation."""
        return [describe_operation(operation, self.names) for operation in self.operations]

    def __str__(self) -> str:
        return "\n".join(self.lines()) or "nothing to change"


def describe_operation(operation: Operation, names: Mapping[str, str] | None = None) -> str:
    """An operation in words: "create bridge ls-0123456789, mtu 1500, up"."""
    item = operation.new if isinstance(operation, Replace) else operation.object
    text = f"{_VERBS[type(operation)]} {describe_object(item, names)}"
    if isinstance(operation, Replace):
        was = [
            f"{field} was {getattr(operation.old, field)}"
            for field in item.__struct_fields__
            if isinstance(getattr(item, field), (str, int))
            and getattr(item, field) != getattr(operation.old, field)
        ]
        if was:
            text += f" ({', '.join(was)})"
    return text


def describe_object(item: Object, names: Mapping[str, str] | None = None) -> str:
    """An object in words, with the namespace that it is in unless that is the host's."""
    text = _describe(item, names or {})
    if item.namespace == HOST or isinstance(item, Namespace):
        return text
    return f"{text}, in {_place(item.namespace, names or {})}"


def _place(namespace: str, names: Mapping[str, str]) -> str:
    if namespace == HOST:
        return "the host"
    return f"sandbox {names.get(namespace, namespace[:12])}"


def _describe(item: Object, names: Mapping[str, str]) -> str:
    match item:
        case Namespace(path=path):
            held = f", held by {path}" if path else ""
            return f"network namespace of {_place(item.namespace, names)}{held}"
        case Link():
            return _describe_link(item, names)
        case Address(address=address, link=link):
            return f"address {address} on {link}"
        case Route(destination=destination, gateway=gateway, link=link, table=table):
            default = destination in ("0.0.0.0/0", "::/0")
            text = "default route" if default else f"route to {destination}"
            text += f" via {gateway}" if gateway else ""
            text += f" dev {link}" if link else ""
            return text if table == 254 else f"{text}, table {table}"
        case Rule(source=source, table=table, priority=priority):
            return f"routing rule {priority}: from {source or 'all'} look up table {table}"
        case Sysctl(path=path, value=value):
            return f"setting net/{path} = {value}"
        case Table(family=family, name=name):
            return f"firewall table {family} {name}"
        case Element():
            return _describe_element(item)
    return f"{type(item).__name__.lower()} {' '.join(str(part) for part in item.key[1:])}"


def _describe_link(link: Link, names: Mapping[str, str]) -> str:
    match link.kind:
        case Veth(peer_name=peer, peer_namespace=namespace):
            text = f"veth pair {link.name} to {peer}"
            if namespace is not None and namespace != link.namespace:
                text += f" in {_place(namespace, names)}"
            if link.kind.peer_mac:
                text += f" (MAC {link.kind.peer_mac})"
        case Bridge():
            text = f"bridge {link.name}"
        case Loopback():
            text = "loopback interface lo"
        case Macvlan() | Ipvlan():
            text = f"{type(link.kind).__name__.lower()} {link.name} ({link.kind.mode}) on "
            text += link.kind.parent or "its parent"
            if link.kind.parent_namespace not in (None, link.namespace):
                text += f" of {_place(str(link.kind.parent_namespace), names)}"
            text += f" (MAC {link.mac})" if link.mac else ""
        case Vlan():
            text = f"VLAN {link.kind.vlan} of {link.kind.parent} as {link.name}"
        case _:
            text = f"interface {link.name}"
    if link.mtu is not None:
        text += f", mtu {link.mtu}"
    if link.master:
        text += f", port of {link.master}"
    return text + (", up" if link.up else "")


def _describe_element(item: Element) -> str:
    key = " . ".join(str(part) for part in item.first)
    if item.last is not None:
        key += " to " + " . ".join(str(part) for part in item.last)
    data = f" : {' . '.join(str(part) for part in item.data)}" if item.data else ""
    kind = "map" if item.data else "set"
    return f"element {key}{data} of firewall {kind} {item.family} {item.table} {item.set}"
