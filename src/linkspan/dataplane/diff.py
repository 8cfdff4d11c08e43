"""What must change so that one data plane becomes another, in an order that is safe.

Things are made in the order namespaces, tables, elements, links, addresses, routes, rules,
neighbours, forwarding entries, settings, and removed in the reverse order: a firewall is
closed before the interface it guards appears, and stays until that is gone.

A described object leaves fields None that it does not care about; `satisfies` is the
comparison that respects this.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from linkspan.dataplane.links import Veth
from linkspan.dataplane.objects import Element, Key, Link, Namespace, Object
from linkspan.dataplane.plane import DataPlane, falls_with
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
        if old.kind is None or new.kind is None or type(old.kind) is not type(new.kind):
            return old.kind is None or new.kind is None
        return _kind_is_kept(old, new)
    return not isinstance(old, (Table, Namespace))


def _kind_is_kept(old: Link, new: Link) -> bool:
    """Bridges are set in place; other kinds' attributes are fixed at creation."""
    assert old.kind is not None and new.kind is not None
    if isinstance(new.kind, Veth):
        return True if _struct_satisfies(old.kind, new.kind) else False
    return type(new.kind).__name__ == "Bridge" or _struct_satisfies(old.kind, new.kind)


def diff(a: DataPlane, b: DataPlane) -> Change:
    """The operations that turn `a` into `b`, removals first, in a deterministic order."""
    added: list[Object] = []
    removed: list[Object] = []
    replaced: list[tuple[Object, Object]] = []
    for key in b.keys():
        new, old = b.get(key), a.get(key)
        assert new is not None
        if old is None:
            added.append(new)
        elif not satisfies(old, new):
            if replaceable(old, new):
                replaced.append((old, new))
            else:
                removed.append(old)
                added.append(new)
    removed.extend(item for item in a if item.key not in b)
    removed = _without_what_falls_anyway(removed)
    added.extend(_what_fell_but_is_wanted(a, b, removed, added))
    fallen = {item.key for item in added}
    operations: list[Operation] = [Remove(item) for item in _removal_order(removed)]
    operations += [
        Replace(old, new)
        for old, new in sorted(replaced, key=lambda pair: (pair[1].order, _sortable(pair[1].key)))
        if new.key not in fallen
    ]
    operations += [Add(item) for item in creation_order(added)]
    return tuple(operations)


def _without_what_falls_anyway(removed: list[Object]) -> list[Object]:
    carriers = [item for item in removed if isinstance(item, (Namespace, Link, Table))]
    if not carriers:
        return removed
    kept: list[Object] = []
    for item in removed:
        above = [c for c in carriers if c is not item and falls_with(item, c)]
        # Of the two ends of one veth pair exactly one is removed by name.
        if any(not falls_with(c, item) or _first_of(c, item) for c in above):
            continue
        kept.append(item)
    return kept


def _first_of(a: Object, b: Object) -> bool:
    return _sortable(a.key) < _sortable(b.key)


def _what_fell_but_is_wanted(
    a: DataPlane, b: DataPlane, removed: Iterable[Object], added: list[Object]
) -> list[Object]:
    gone = [item for item in removed if isinstance(item, (Namespace, Link, Table))]
    if not gone:
        return []
    known = {item.key for item in added}
    return [
        item
        for item in b
        if item.key not in known
        and (held := a.get(item.key)) is not None
        and any(falls_with(held, carrier) for carrier in gone)
    ]


def creation_order(items: Iterable[Object]) -> list[Object]:
    """Objects in the order in which the kernel can make them; masters before their ports."""
    rows = sorted(items, key=lambda item: (item.order, _sortable(item.key)))
    links = [item for item in rows if isinstance(item, Link)]
    if len(links) < 2:
        return rows
    by_name = {(link.namespace, link.name): link for link in links}
    placed: dict[Key, Link] = {}

    def place(link: Link, above: tuple[Key, ...]) -> None:
        if link.key in placed or link.key in above:
            return
        parent = getattr(link.kind, "parent", None)
        for needed in (link.master, parent):
            below = by_name.get((link.namespace, needed)) if needed else None
            if below is not None:
                place(below, (*above, link.key))
        placed[link.key] = link

    for link in links:
        place(link, ())
    first = next(i for i, item in enumerate(rows) if isinstance(item, Link))
    return rows[:first] + list(placed.values()) + rows[first + len(links) :]


def _removal_order(items: Iterable[Object]) -> list[Object]:
    return list(reversed(creation_order(items)))


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
    for operation in change:
        match operation:
            case Remove(item):
                plane = plane.without(item.key)
            case Replace(_, new):
                held = plane.get(new.key)
                plane = plane.with_object(new if held is None else overlay(held, new))
            case Add(item):
                plane = plane.with_object(item)
    return plane


def elements_of(table: Table, plane: DataPlane) -> list[Element]:
    """The elements of `plane` that live in `table`."""
    return [
        item
        for item in plane.of(Element)
        if (item.namespace, item.family, item.table) == (table.namespace, table.family, table.name)
    ]
