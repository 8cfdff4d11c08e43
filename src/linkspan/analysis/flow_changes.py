"""Which flows a change opens and closes: two matrices of who reaches whom, compared.

Containers that are interchangeable before and after are compared once, by one pair of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, TypeVar

import msgspec

from linkspan.analysis.reach import (
    HOST,
    INTERNET,
    OUTSIDE,
    Finding,
    Group,
    Reach,
    Reached,
    Row,
    find_reach,
)
from linkspan.analysis.view import View
from linkspan.dataplane.sockets import Listener

DANGERS = ("anywhere", "segment", "outward", "host", "containers")
"""To whom something is open, the most dangerous first: to strangers from anywhere, to those on
the host's segment; a way out for a container; to the host; to other containers."""
_LEVELS = {Reached.BLOCKED: 0, Reached.DEPENDS: 1, Reached.REACHABLE: 2}
T = TypeVar("T")
Cell = tuple[str, str]
"""Address and protocol."""


class FlowChange(msgspec.Struct, frozen=True, kw_only=True):
    """A port that some reach after a change and did not before, or the other way round.

    Every one of `origins` and of `targets` is meant (but none to itself); `addresses` are
    those of the first target. `before` and `after` are reachable, depends, blocked, or absent:
    nobody listened there. `why` says how the packet comes there, or what stops it.
    """

    danger: str
    origins: tuple[str, ...]
    targets: tuple[str, ...]
    addresses: tuple[str, ...]
    protocol: str
    ports: tuple[tuple[int, int], ...]
    before: str
    after: str
    why: str = ""


class FlowChanges(NamedTuple):
    """Both directions, and what could not be compared."""

    opened: tuple[FlowChange, ...]
    closed: tuple[FlowChange, ...]
    notes: tuple[str, ...]


def find_flow_changes(
    before: View, after: View, containers: Iterable[str] | None = None
) -> FlowChanges:
    """Compare who reaches whom; `containers` are the namespaces to compare, all by default."""
    wanted = None if containers is None else set(containers)
    # Elsewhere nobody listens, before as after.
    targets = {item.namespace for view in (before, after) for item in view.plane.of(Listener)}
    targets |= before.planned | after.planned
    sides = tuple(_Side(view, wanted, targets) for view in (before, after))
    kinds = _kinds(sides[0], sides[1])
    asked = {name for side in sides for group in side.reach.targets for name in group.members}
    found: list[FlowChange] = []
    for target in kinds:
        if target[0] not in asked:
            continue
        for origin in kinds:
            pair = _pair(origin, target)
            if pair is not None:
                found += _compare(sides[0].cells(*pair), sides[1].cells(*pair), origin, target)
    merged = _merge(found)
    merged.sort(key=_order)
    rank = {reached.value: level for reached, level in _LEVELS.items()} | {"absent": 0}
    opened = tuple(one for one in merged if rank[one.after] > rank[one.before])
    closed = tuple(one for one in merged if rank[one.after] < rank[one.before])
    planned = sorted(after.planned | before.planned)
    notes = tuple(
        f"which sockets will listen in {name} is not known: flows to it are asked for its "
        "published ports alone"
        for name in planned
    )
    return FlowChanges(opened, closed, notes)


class _Side:
    """One matrix, with its findings by the groups that they are of."""

    def __init__(self, view: View, containers: set[str] | None, targets: set[str]) -> None:
        names = [
            name
            for name in view.namespaces
            if name != HOST and (containers is None or name in containers)
        ]
        aimed = (*(name for name in names if name in targets), HOST, OUTSIDE, INTERNET)
        self.reach: Reach = find_reach(
            view, names,
            targets=[name for name in aimed if name != HOST or HOST in view.namespaces],
            across=False,
        )  # fmt: skip
        self.group: dict[str, Group] = {
            name: group
            for group in (*self.reach.origins, *self.reach.targets)
            for name in group.members
        }
        self._findings: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
        for finding in self.reach.findings:
            if not finding.same:
                self._findings[finding.origin, finding.target].append(finding)

    def facts(self, name: str) -> tuple[str, tuple[str, ...], tuple[int, ...]] | None:
        """The group of an end, and its own addresses and published ports."""
        group = self.group.get(name)
        if group is None:
            return None
        place = self._places[name]
        return group.name, _at(group.addresses, place), _at(group.published, place)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {
            name: place for group in self.group.values() for place, name in enumerate(group.members)
        }

    def cells(self, origin: str, target: str) -> dict[Cell, list[Row]]:
        """What one end finds of another, by address and protocol."""
        found: dict[Cell, list[Row]] = {}
        one, other = self.group.get(origin), self.group.get(target)
        if one is None or other is None:
            return found
        findings = self._findings.get((one.name, other.name))
        if not findings:
            return found
        some = msgspec.structs.replace(
            self.reach, origins=(one,), targets=(other,), findings=tuple(findings)
        )
        for row in some.rows(origin, target):
            found.setdefault((row.address, row.protocol), []).append(row)
        return found


def _at(values: tuple[tuple[T, ...], ...], place: int) -> tuple[T, ...]:
    return values[place] if place < len(values) else ()


def _kinds(before: _Side, after: _Side) -> list[tuple[str, ...]]:
    """Ends that are interchangeable on both sides, and kept or lost what is theirs alike."""
    found: defaultdict[object, list[str]] = defaultdict(list)
    for name in dict.fromkeys((*before.group, *after.group)):
        one, other = before.facts(name), after.facts(name)
        kept = one is not None and other is not None and one[1:] == other[1:]
        found[one and one[0], other and other[0], kept].append(name)
    return [tuple(names) for names in found.values()]


def _pair(origin: tuple[str, ...], target: tuple[str, ...]) -> tuple[str, str] | None:
    for one in origin[:2]:
        for other in target[:2]:
            if one != other:
                return one, other
    return None


def _compare(
    before: dict[Cell, list[Row]],
    after: dict[Cell, list[Row]],
    origins: tuple[str, ...],
    targets: tuple[str, ...],
) -> Iterator[FlowChange]:
    for cell in dict.fromkeys((*before, *after)):
        for first, last, old, new in _spans(before.get(cell, []), after.get(cell, [])):
            was, now = (_LEVELS[one.verdict] if one is not None else 0 for one in (old, new))
            if was == now:
                continue
            yield FlowChange(
                danger=_danger(origins[0], targets[0]),
                origins=origins,
                targets=targets,
                addresses=(cell[0],),
                protocol=cell[1],
                ports=((first, last),),
                before=old.verdict.value if old is not None else "absent",
                after=new.verdict.value if new is not None else "absent",
                why=_why(new, now),
            )


def _spans(
    before: list[Row], after: list[Row]
) -> Iterator[tuple[int, int, Row | None, Row | None]]:
    """The ports of both sides, cut where either changes."""
    edges = {
        edge for row in (*before, *after) for first, last in row.ports for edge in (first, last + 1)
    }
    cuts = sorted(edges)
    for first, end in pairwise(cuts):
        old, new = (_row_at(rows, first) for rows in (before, after))
        if old is not None or new is not None:
            yield first, end - 1, old, new


def _row_at(rows: list[Row], port: int) -> Row | None:
    """Of several rows with a port the one that gets furthest."""
    having = [row for row in rows if any(first <= port <= last for first, last in row.ports)]
    return max(having, key=lambda row: _LEVELS[row.verdict], default=None)


def _why(row: Row | None, level: int) -> str:
    if row is None:
        return "nobody listens there any more"
    finding = row.finding
    if not level:
        return finding.why
    depends = f"; depends on {'; '.join(finding.depends_on)}" if finding.depends_on else ""
    return f"{finding.how}{depends}"


def _danger(origin: str, target: str) -> str:
    if origin == INTERNET:
        return "anywhere"
    if origin == OUTSIDE:
        return "segment"
    if target in (INTERNET, OUTSIDE):
        return "outward"
    return "host" if origin == HOST else "containers"


def _merge(changes: list[FlowChange]) -> list[FlowChange]:
    """One change for all addresses, then origins, then ports that share the rest."""
    for field in ("addresses", "origins", "ports"):
        held: dict[object, FlowChange] = {}
        for change in changes:
            rest = tuple(
                getattr(change, name)
                for name in change.__struct_fields__
                if name not in (field, "danger" if field == "origins" else "")
            )
            known = held.get(rest)
            if known is None:
                held[rest] = change
                continue
            both = tuple(dict.fromkeys((*getattr(known, field), *getattr(change, field))))
            danger = min(known.danger, change.danger, key=DANGERS.index)
            held[rest] = msgspec.structs.replace(known, danger=danger, **{field: both})
        changes = list(held.values())
    return [
        msgspec.structs.replace(
            one, ports=_joined(one.ports), origins=tuple(sorted(one.origins, key=_stranger_first))
        )
        for one in changes
    ]


def _joined(ports: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    found: list[tuple[int, int]] = []
    for first, last in sorted(ports):
        if found and found[-1][1] + 1 >= first:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return tuple(found)


def _stranger_first(name: str) -> tuple[int, str]:
    order = (INTERNET, OUTSIDE, HOST)
    return (order.index(name) if name in order else len(order), name)


def _order(change: FlowChange) -> tuple[object, ...]:
    return DANGERS.index(change.danger), change.targets, change.protocol, change.ports
