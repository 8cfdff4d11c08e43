"""What must change so that one data plane becomes another, in an order that is safe.

Things are made in the order namespaces, tables, elements, links, addresses, routes, rules,
neighbours, forwarding entries, settings, and removed in the reverse order: a firewall is
closed before the interface it guards appears, and stays until that is gone.

A described object leaves fields None that it does not care about; `satisfies` is the
comparison that respects this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from linkspan.dataplane.falling import Falling, carriers_of, is_carrier, peer_key
from linkspan.dataplane.links import Bridge, LinkKind, Veth
from linkspan.dataplane.objects import Element, Key, Link, Namespace, Object, Route
from linkspan.dataplane.plane import DataPlane
from linkspan.dataplane.rules import Table


class Add(msgspec.Struct, frozen=True, tag="add"):
    """Make an object that is not there."""

    object: Object


class Remove(msgspec.Struct, frozen=True, tag="remove"):
    """Take an object away, and what falls with it."""

    object: Object


class Replace(msgspec.Struct, frozen=True, tag="replace"):
    """Change an object in place: `new` is what is wanted, stated fields only."""

    old: Object
    new: Object


Operation = Add | Remove | Replace
Change = tuple[Operation, ...]


def satisfies(actual: Object, wanted: Object) -> bool:
    """Whether `actual` has every stated field of `wanted` (None in `wanted` matches anything)."""
    return actual == wanted or (type(actual) is type(wanted) and _struct_satisfies(actual, wanted))


def _struct_satisfies(actual: msgspec.Struct, wanted: msgspec.Struct) -> bool:
    for field in wanted.__struct_fields__:
        want = getattr(wanted, field)
        if want is None:
            continue
        have = getattr(actual, field)
        if have == want:
            continue
        if isinstance(want, msgspec.Struct) and type(have) is type(want):
            if _struct_satisfies(have, want):
                continue
        return False
    return True


def overlay(actual: Object, wanted: Object) -> Object:
    """`actual` with every stated field of `wanted` written over it."""
    changed: dict[str, object] = {}
    for field in wanted.__struct_fields__:
        want = getattr(wanted, field)
        if want is None:
            continue
        have = getattr(actual, field)
        if isinstance(want, msgspec.Struct) and type(have) is type(want):
            inner = {
                name: getattr(want, name)
                for name in want.__struct_fields__
                if getattr(want, name) is not None
            }
            changed[field] = msgspec.structs.replace(have, **inner)
        else:
            changed[field] = want
    return msgspec.structs.replace(actual, **changed)


def replaceable(old: Object, new: Object) -> bool:
    """Whether the kernel can change `old` into `new` without removing it first."""
    if isinstance(old, Link) and isinstance(new, Link):
        if old.kind is None or new.kind is None:
            return True
        return type(old.kind) is type(new.kind) and _kind_is_kept(old.kind, new.kind)
    return not isinstance(old, Namespace)


def _kind_is_kept(old: LinkKind, new: LinkKind) -> bool:
    """Bridges are set in place, and the far end of a veth pair as long as it stays that one;
    what makes other kinds is fixed when they are made.
    """
    if isinstance(new, Veth) and isinstance(old, Veth):
        return new.peer_name in (None, old.peer_name) and new.peer_namespace in (
            None,
            old.peer_namespace,
        )
    return isinstance(new, Bridge) or _struct_satisfies(old, new)


def diff(a: DataPlane, b: DataPlane) -> Change:
    """The operations that turn `a` into `b`: removals first, then changes and additions.

    The order is deterministic, and one that the kernel can follow. A veth pair that `b`
    states at one end has its other end too: that is not removed from `a`. A table that
    changes is replaced together with its elements, which firewalls do as one transaction.
    """
    added: dict[Key, Object] = {}
    removed: list[Object] = []
    replaced: dict[Key, Object] = {}
    for new in b:
        key = new.key
        old = a.get(key)
        if old is None:
            added[key] = new
        elif not satisfies(old, new):
            if replaceable(old, new):
                replaced[key] = old
            else:
                removed.append(old)
                added[key] = new
    kept_peers = {peer_key(item) for item in b} if len(a) else set()
    removed += [item for item in a if (key := item.key) not in b and key not in kept_peers]
    emptied = [old for old in replaced.values() if isinstance(old, Table)]
    if any(is_carrier(item) for item in removed) or emptied:
        falling = Falling(a, a.get)
        fallen = falling.with_all(removed) | falling.with_all(emptied)
        removed = _without_what_falls(removed, fallen)
        for key in fallen:
            wanted = b.get(key)
            if wanted is not None:
                replaced.pop(key, None)
                added[key] = wanted
    operations: list[Operation] = [Remove(item) for item in reversed(creation_order(removed))]
    changes = [item for key in replaced if (item := b.get(key)) is not None]
    for item in creation_order([*added.values(), *changes]):
        old = replaced.get(item.key)
        operations.append(Add(item) if old is None else Replace(old, item))
    return tuple(operations)


def _without_what_falls(removed: list[Object], fallen: Mapping[Key, Object]) -> list[Object]:
    """The removals that must be named, because nothing else takes the object along.

    A link outside a namespace that goes is named: that namespace goes later, or not at all
    while a process is in it. Of the two ends of a veth pair the first is named.
    """
    gone = {item.key for item in removed} | fallen.keys()
    kept: list[Object] = []
    ends: set[Key | None] = set()
    for item in sorted(removed, key=_position):
        key = item.key
        if isinstance(item, Link):
            far = item.kind.peer_namespace if isinstance(item.kind, Veth) else None
            outside = ("namespace", far) if far != item.namespace else None
            if any(carrier in gone for carrier in carriers_of(item) if carrier != outside):
                continue
            if key in ends or peer_key(item) in ends:
                continue
            ends |= {key, peer_key(item)} - {None}
        elif key in fallen or any(carrier in gone for carrier in carriers_of(item)):
            continue
        kept.append(item)
    return kept


def creation_order(items: Iterable[Object]) -> list[Object]:
    """Objects in the order in which the kernel can make them; masters before their ports."""
    rows = sorted(items, key=_position)
    links = [item for item in rows if isinstance(item, Link)]
    if len(links) < 2:
        return rows
    by_name = {(link.namespace, link.name): link for link in links}
    placed: dict[Key, Link] = {}

    def place(link: Link, above: tuple[Key, ...]) -> None:
        if link.key in placed or link.key in above:
            return
        parent = getattr(link.kind, "parent", None)
        place_of_parent = getattr(link.kind, "parent_namespace", None) or link.namespace
        for space, needed in ((link.namespace, link.master), (place_of_parent, parent)):
            below = by_name.get((space, needed)) if needed else None
            if below is not None:
                place(below, (*above, link.key))
        placed[link.key] = link

    for link in links:
        place(link, ())
    first = next(i for i, item in enumerate(rows) if isinstance(item, Link))
    return rows[:first] + list(placed.values()) + rows[first + len(links) :]


def _removal_order(items: Iterable[Object]) -> list[Object]:
    return list(reversed(creation_order(items)))


def _position(item: Object) -> tuple[int, bool, tuple[tuple[int, str], ...]]:
    """Ways to gateways come behind the routes that say where the gateways are."""
    distant = isinstance(item, Route) and bool(item.gateway or item.hops)
    return item.order, distant, _sortable(item.key)


def _sortable(key: Key) -> tuple[tuple[int, str], ...]:
    return tuple(
        (0, "")
        if part is None
        else (1, f"{part:020d}")
        if isinstance(part, int)
        else (2, str(part))
        for part in key
    )


def apply_to(plane: DataPlane, change: Change) -> DataPlane:
    """What `plane` becomes when `change` is carried out: the model of kernel/apply."""
    held: dict[Key, Object] = {item.key: item for item in plane}
    # Who hangs on whom costs a look at every object, and is only asked where something goes.
    goes = any(
        isinstance(one, Remove) or (isinstance(one, Replace) and isinstance(one.new, Table))
        for one in change
    )
    falling = Falling(plane if goes else (), held.get)

    def drop(gone: Iterable[Object]) -> None:
        for item in gone:
            falling.discard(item)
            held.pop(item.key, None)

    for operation in change:
        match operation:
            case Remove(item):
                present = held.get(item.key)
                if present is not None:
                    drop([present, *falling.with_all((present,)).values()])
                continue
            case Replace(_, new):
                old = held.get(new.key)
                item = new if old is None else overlay(old, new)
                if isinstance(new, Table):
                    drop(falling.with_all((new,)).values())
            case Add(item):
                old = held.get(item.key)
        if old is not None:
            falling.discard(old)
        held[item.key] = item
        falling.add(item)
    return DataPlane(held.values())


def elements_of(table: Table, plane: DataPlane) -> list[Element]:
    """The elements of `plane` that live in `table`."""
    return [
        item
        for item in plane.of(Element)
        if (item.namespace, item.family, item.table) == (table.namespace, table.family, table.name)
    ]
