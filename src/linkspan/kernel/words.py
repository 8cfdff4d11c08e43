"""Objects and operations in words, for errors and logs."""

from __future__ import annotations

from linkspan.dataplane.diff import Add, Operation, Remove, Replace
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
from linkspan.dataplane.rules import Table


def describe(item: Object) -> str:
    """What an object is, with its name and the namespace that it is in."""
    match item:
        case Namespace():
            return f"network namespace {item.namespace}"
        case Link():
            text = f"link {item.name}"
        case Address():
            text = f"address {item.address} on {item.link}"
        case Route():
            way = f" via {item.gateway}" if item.gateway else ""
            way += f" dev {item.link}" if item.link else ""
            text = f"route {item.destination}{way}"
            if item.table != 254:
                text += f" in table {item.table}"
        case Rule():
            text = f"routing rule {item.priority} ({item.family})"
        case Neighbour():
            text = f"neighbour {item.address} on {item.link}"
        case FdbEntry():
            text = f"forwarding entry {item.mac} on {item.link}"
        case Sysctl():
            text = f"setting net/{item.path} = {item.value}"
        case Table():
            text = f"firewall table {item.family} {item.name}"
        case Element():
            parts = " . ".join(str(part) for part in item.first)
            text = f"element {parts} of {item.family} {item.table} {item.set}"
        case _:
            text = type(item).__name__.lower()
    return text if item.namespace == HOST else f"{text} in namespace {item.namespace}"


def describe_operation(operation: Operation) -> str:
    """What is being done: "adding link eth0"."""
    match operation:
        case Add(item):
            return f"adding {describe(item)}"
        case Remove(item):
            return f"removing {describe(item)}"
        case Replace(_, new):
            return f"changing {describe(new)}"
