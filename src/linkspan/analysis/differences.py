"""What differs between two data planes: objects, and the flows that this opens and closes.

Chatter is told apart: what the kernel sets or learns by itself, and what only follows from
something else that differs, is `minor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec

from linkspan.analysis.exposure_changes import ExposureChange, find_exposure_changes
from linkspan.analysis.flow_changes import FlowChange, find_flow_changes
from linkspan.analysis.rule_changes import find_table_changes
from linkspan.analysis.view import View
from linkspan.dataplane.falling import carriers_of, peer_key
from linkspan.dataplane.links import Loopback
from linkspan.dataplane.objects import (
    HOST,
    Address,
    Element,
    FdbEntry,
    Key,
    Link,
    Namespace,
    Neighbour,
    Object,
    Route,
    Rule,
    Sysctl,
)
from linkspan.dataplane.plane import DataPlane
from linkspan.dataplane.programs import Program
from linkspan.dataplane.rules import Table
from linkspan.dataplane.sockets import Listener, PacketSocket, Process
from linkspan.dataplane.wording import describe

__all__ = [
    "Differences", "ExposureChange", "FieldChange", "FlowChange", "ObjectChange",
    "find_differences", "find_object_changes",
]  # fmt: skip

KINDS: dict[type[Object], str] = {
    Namespace: "namespace",
    Link: "link",
    Address: "address",
    Route: "route",
    Rule: "routing-rule",
    Table: "table",
    Element: "element",
    Listener: "socket",
    Program: "program",
    Sysctl: "setting",
    Neighbour: "neighbour",
    FdbEntry: "forwarding-entry",
    PacketSocket: "packet-socket",
}
"""What each kind is called, in the order in which people want to see them."""
_LOCAL_TABLE = 255
_KERNEL = 2
_USUAL_PRIORITIES = (0, 32766, 32767)
_SET_BY_KERNEL = {
    "link": {"index", "kind.peer_index"},
    "namespace": {"path", "planned"},
    "neighbour": {"state"},
}
"""Fields that change without anybody's doing."""


class FieldChange(msgspec.Struct, frozen=True):
    """A field with two values, as text; "-" for one that is not stated."""

    field: str
    before: str
    after: str


class ObjectChange(msgspec.Struct, frozen=True, kw_only=True):
    """One object that was added, removed or changed.

    `object` has it in words; for rules of firewalls `place` is table and chain, and the
    handle or number of the rule. `minor` is what is left out unless everything is wanted.
    """

    action: str
    kind: str
    namespace: str
    object: str
    place: str = ""
    fields: tuple[FieldChange, ...] = ()
    minor: bool = False


class Differences(msgspec.Struct, frozen=True):
    """All differences; flows most dangerous first. `notes` say what could not be compared.

    `opened` and `closed` are what usual packets find; `exposures` what strangers reach with any
    packet, where that is not the same on both sides.
    """

    objects: tuple[ObjectChange, ...]
    opened: tuple[FlowChange, ...] = ()
    closed: tuple[FlowChange, ...] = ()
    exposures: tuple[ExposureChange, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def significant(self) -> bool:
        """Whether there is anything but chatter."""
        flows = self.opened or self.closed or self.exposures
        return bool(flows) or any(not one.minor for one in self.objects)


def find_differences(
    before: DataPlane, after: DataPlane, containers: Iterable[str] | None = None
) -> Differences:
    """What differs between two planes of one host, and which flows that opens and closes.

    `containers` are the namespaces whose flows are compared, all by default. Flows are only
    looked at where objects differ.
    """
    objects = find_object_changes(before, after)
    if not objects:
        return Differences(())
    sides = View(before, sockets_known=True), View(after, sockets_known=True)
    flows = find_flow_changes(*sides, containers)
    exposures = find_exposure_changes(*sides)
    notes = (*flows.notes, *exposures.notes)
    return Differences(objects, flows.opened, flows.closed, exposures.changes, notes)


def find_object_changes(before: DataPlane, after: DataPlane) -> tuple[ObjectChange, ...]:
    """The objects that differ: the host's first, then namespace by namespace, kind by kind."""
    added = [item for item in after if item.key not in before]
    removed = [item for item in before if item.key not in after]
    context = _Context(before, after, {item.key for item in (*added, *removed)})
    found: list[tuple[object, ObjectChange]] = []

    def note(item: Object, change: ObjectChange) -> None:
        kind = list(KINDS).index(type(item))
        where = "" if change.namespace == HOST else change.namespace
        found.append(((where, kind, str(item.key), len(found)), change))

    for item in removed:
        note(item, _whole("removed", item, context.is_minor(item)))
    for item in added:
        note(item, _whole("added", item, context.is_minor(item)))
    for new in after:
        old = before.get(new.key)
        if old is None or old == new or type(old) is not type(new):
            continue
        for change in _changed(old, new):
            note(new, change)
    found.sort(key=lambda row: row[0])  # type: ignore[arg-type,return-value]
    return tuple(change for _, change in found)


def _whole(action: str, item: Object, minor: bool) -> ObjectChange:
    text = describe(item)
    if isinstance(item, Table):
        rules = sum(len(chain.rules) for chain in item.chains)
        text += f" with {len(item.chains)} chains, {rules} rules and {len(item.sets)} sets"
    return ObjectChange(
        action=action, kind=KINDS[type(item)], namespace=item.namespace, object=text, minor=minor
    )


def _changed(old: Object, new: Object) -> Iterator[ObjectChange]:
    kind = KINDS[type(new)]
    if isinstance(old, Table) and isinstance(new, Table):
        for change in find_table_changes(old, new):
            yield ObjectChange(
                action=change.action, kind=change.kind, namespace=new.namespace,
                object=change.text, place=change.place,
                fields=tuple(FieldChange(*field) for field in change.fields), minor=change.minor,
            )  # fmt: skip
        return
    fields = tuple(_field_changes(old, new))
    quiet = _SET_BY_KERNEL.get(kind, set())
    minor = all(one.field in quiet for one in fields)
    if isinstance(new, Neighbour):
        minor = not _is_lasting(new) and not _is_lasting(old)
    elif isinstance(new, FdbEntry):
        minor = not new.permanent
    elif isinstance(old, Listener) and isinstance(new, Listener):
        minor = _programs(old.processes) == _programs(new.processes)
    elif isinstance(new, PacketSocket):
        minor = True
    elif isinstance(old, Namespace) and isinstance(new, Namespace):
        minor = minor or None in (old.inode, new.inode)
    yield ObjectChange(
        action="changed", kind=kind, namespace=new.namespace, object=describe(new),
        fields=fields, minor=minor,
    )  # fmt: skip


def _programs(processes: Iterable[Process]) -> set[str]:
    return {process.name for process in processes}


def _field_changes(old: msgspec.Struct, new: msgspec.Struct, above: str = "") -> list[FieldChange]:
    found: list[FieldChange] = []
    for field in new.__struct_fields__:
        one, other = getattr(old, field), getattr(new, field)
        if one == other:
            continue
        if isinstance(one, msgspec.Struct) and type(one) is type(other):
            found += _field_changes(one, other, f"{above}{field}.")
        else:
            found.append(FieldChange(f"{above}{field}", _text(one), _text(other)))
    return found


def _text(value: object) -> str:
    match value:
        case None | "" | ():
            return "-"
        case bool():
            return "yes" if value else "no"
        case tuple():
            return ", ".join(map(_text, value))
        case Process(pid, name):
            return f"{name} (pid {pid})"
        case msgspec.Struct():
            pairs = ((name, getattr(value, name)) for name in value.__struct_fields__)
            stated = " ".join(f"{name} {_text(one)}" for name, one in pairs if one is not None)
            return f"{type(value).__name__.lower()} {stated}".rstrip()
    return str(value)


# Chatter ------------------------------------------------------------------------------


class _Context:
    """What was added or removed altogether, and so explains what came or went with it."""

    def __init__(self, before: DataPlane, after: DataPlane, differing: set[Key]) -> None:
        self._differing = differing
        self._with_addresses = {
            (item.namespace, item.link)
            for plane in (before, after)
            for item in plane.of(Address)
            if item.key in differing
        }
        self._filled_by_rules = {
            (item.namespace, item.family, item.name, definition.name)
            for plane in (before, after)
            for item in plane.of(Table)
            for definition in item.sets
            if definition.dynamic or definition.timeout is not None
        }

    def is_minor(self, item: Object) -> bool:
        """Whether an object that was added or removed is the kernel's own doing, or follows
        from another one.
        """
        judge = _JUDGES.get(type(item))
        return judge is not None and judge(self, item)

    def follows(self, item: Object) -> bool:
        """Whether what carries it came or went as well."""
        return any(carrier in self._differing for carrier in carriers_of(item))

    def has_other_addresses(self, route: Route) -> bool:
        """Whether addresses of the route's link came or went."""
        return (route.namespace, route.link) in self._with_addresses

    def is_filled_by_rules(self, item: Element) -> bool:
        """Whether the set takes up elements by itself."""
        return (item.namespace, item.family, item.table, item.set) in self._filled_by_rules

    def is_far_end(self, link: Link) -> bool:
        """Whether a veth link is told with its other end: the one on the host's side tells."""
        peer = peer_key(link)
        return (
            peer is not None
            and peer in self._differing
            and link.namespace != HOST
            and peer[1] == HOST
        )


def _is_lasting(item: Object) -> bool:
    return isinstance(item, Neighbour) and (item.proxy or item.state in ("permanent", "noarp"))


def _is_minor_link(context: _Context, item: Object) -> bool:
    assert isinstance(item, Link)
    whole = ("namespace", item.namespace) in context._differing
    return (whole and isinstance(item.kind, Loopback)) or context.is_far_end(item)


def _is_minor_address(context: _Context, item: Object) -> bool:
    assert isinstance(item, Address)
    followed = context.follows(item)
    return followed and (item.scope in ("host", "link") or item.address.startswith("fe80:"))


def _is_minor_route(context: _Context, item: Object) -> bool:
    assert isinstance(item, Route)
    by_kernel = item.protocol in (_KERNEL, None) or item.table == _LOCAL_TABLE
    return by_kernel and (context.follows(item) or context.has_other_addresses(item))


def _is_minor_rule(context: _Context, item: Object) -> bool:
    assert isinstance(item, Rule)
    return context.follows(item) and item.priority in _USUAL_PRIORITIES


def _is_minor_element(context: _Context, item: Object) -> bool:
    assert isinstance(item, Element)
    return context.follows(item) or context.is_filled_by_rules(item)


def _is_minor_entry(context: _Context, item: Object) -> bool:
    assert isinstance(item, FdbEntry)
    return not item.permanent or context.follows(item)


def _is_always_minor(_: _Context, __: Object) -> bool:
    return True


def _is_minor_neighbour(context: _Context, item: Object) -> bool:
    return not _is_lasting(item) or context.follows(item)


_JUDGES: dict[type[Object], Callable[[_Context, Object], bool]] = {
    Link: _is_minor_link,
    Address: _is_minor_address,
    Route: _is_minor_route,
    Rule: _is_minor_rule,
    Element: _is_minor_element,
    FdbEntry: _is_minor_entry,
    Neighbour: _is_minor_neighbour,
    Sysctl: _is_always_minor,  # one that is there or not is its link's, or the kernel's
    PacketSocket: _is_always_minor,
}
