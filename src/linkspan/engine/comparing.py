"""What was observed against what is described: what is stale, what the firewall lacks. Pure."""

from __future__ import annotations

from linkspan.dataplane import (
    HOST,
    Change,
    DataPlane,
    Element,
    Link,
    Namespace,
    Operation,
    Remove,
    Route,
    Rule,
    Table,
    diff,
)
from linkspan.drivers.firewall import TABLES
from linkspan.drivers.marks import ROUTE_PROTOCOL
from linkspan.engine.changes import hangs_on_host, is_firewall, subject
from linkspan.engine.forwarding6 import GUARDS
from linkspan.engine.uplinks import is_ours


def find_stale(
    observed: DataPlane, described: DataPlane, held: dict[str, int | None], places: set[str]
) -> Change:
    """The removal of everything that carries our mark and is not described.

    `held` are the files in our folder of namespaces, `places` the namespaces in use.
    """
    stale: list[Operation] = []
    for item in observed:
        if item.key in described:
            continue
        ours = (
            is_ours(item) and (item.namespace == HOST or hangs_on_host(item))
            if isinstance(item, Link)
            else isinstance(item, (Route, Rule)) and item.protocol == ROUTE_PROTOCOL
        )
        if ours:
            stale.append(Remove(item))
    order = sorted(stale, key=lambda operation: -subject(operation).order)
    files = [Remove(Namespace(namespace=name)) for name in sorted(held) if name not in places]
    return (*order, *files)


def guarded_uplinks(firewall: DataPlane) -> set[str]:
    """Interfaces of the host that forward only because of us."""
    return {str(item.first[0]) for item in firewall.of(Element) if item.set == "uplinks"}


def guards6(firewall: DataPlane) -> list[Element]:
    """The elements that keep the host from forwarding IPv6 for others."""
    return [item for item in firewall.of(Element) if item.set in GUARDS]


def firewall_change(firewall: DataPlane, described: DataPlane, uplinks: DataPlane) -> Change:
    """The one transaction that makes our tables as described. A table that is not as we load
    it is replaced with all its elements at once.
    """
    wanted = DataPlane([*TABLES, *only_firewall(described), *only_firewall(uplinks)])
    change = diff(firewall, wanted)
    # To add a table replaces one that is there: its removal need not be said.
    return tuple(
        operation
        for operation in change
        if not (isinstance(operation, Remove) and isinstance(operation.object, Table))
    )


def replaces_tables(change: Change) -> bool:
    """Whether a change loads whole tables."""
    return any(isinstance(subject(operation), Table) for operation in change)


def only_firewall(plane: DataPlane) -> DataPlane:
    """The tables and elements of a plane."""
    return DataPlane(item for item in plane if is_firewall(item))


def without_firewall(plane: DataPlane) -> DataPlane:
    """Everything of a plane but tables and elements."""
    return DataPlane(item for item in plane if not is_firewall(item))
