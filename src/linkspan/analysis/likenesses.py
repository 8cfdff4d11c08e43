"""What is alike on a host with many containers: one of each kind is asked for, and what it is told
is told for the others in their own words.

Strangers are asked about with the addresses and published ports of one container of a kind; a
second one stands for those whose addresses a stranger pretends to have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from linkspan.analysis.addresses import to_number, version_of
from linkspan.analysis.headers import Headers
from linkspan.analysis.intervals import Intervals, interval, to_points
from linkspan.analysis.symmetry import Kinds, find_kinds
from linkspan.analysis.view import View
from linkspan.dataplane.objects import HOST
from linkspan.dataplane.sockets import Listener

LEAST_NAMESPACES = 24
"""Namespaces from which it is quicker to find out first who is alike."""
_LEAST_MEMBERS = 4


class Alike(NamedTuple):
    """Namespaces of one kind. `rows` are their own addresses, a row for each place that an
    address has in all of them: version, and the numbers in the order of the members; `ports`
    their published ports likewise.
    """

    members: tuple[str, ...]
    rows: tuple[tuple[int, tuple[int, ...]], ...]
    ports: tuple[tuple[int, ...], ...]


class Likenesses:
    """The kinds of a view as far as strangers can do with one of each."""

    def __init__(self, view: View) -> None:
        # A published port is asked about at one number only: nobody else may listen there.
        listening = {item.port for item in view.plane.of(Listener) if item.namespace != HOST}
        kinds = find_kinds(view)
        self._alike = [
            one
            for kind in kinds.kinds
            if len(kind.members) >= _LEAST_MEMBERS
            and (one := _compare(view, kinds, kind.members, listening)) is not None
        ]
        self._of = {one.members[0]: one for one in self._alike}
        self.others = frozenset(name for one in self._alike for name in one.members[1:])
        """The namespaces that are not asked about."""
        self._ports = to_points(
            port for one in self._alike for row in one.ports for port in row[1:]
        )
        self._targets = self._addresses(1)
        self._senders = self._addresses(2)
        self._all = {
            (place, number): to_points(row[1])
            for place, one in enumerate(self._alike)
            for number, row in enumerate(one.rows)
        }

    def _addresses(self, first: int) -> dict[int, Intervals]:
        return {
            version: to_points(
                number
                for one in self._alike
                for its, numbers in one.rows
                if its == version
                for number in numbers[first:]
            )
            for version in (4, 6)
        }

    def reduce(self, box: Headers) -> Headers:
        """What has to be asked for of some headers."""
        assert box.source is not None
        return msgspec.structs.replace(
            box,
            source=box.source - self._senders[box.version],
            destination=box.destination - self._targets[box.version],
            destination_port=box.destination_port - self._ports,
        )

    def extend(self, box: Headers) -> Headers:
        """Headers as they were asked for, with all that is alike."""
        destination, ports = box.destination, box.destination_port
        for place, one in enumerate(self._alike):
            for number, (version, numbers) in enumerate(one.rows):
                if version == box.version and numbers[0] in destination:
                    destination |= self._all[place, number]
            for row in one.ports:
                if row[0] in ports:
                    ports |= to_points(row)
        return msgspec.structs.replace(
            box, source=self._extend_source(box, None), destination=destination,
            destination_port=ports,
        )  # fmt: skip

    def _extend_source(self, box: Headers, but: Alike | None) -> Intervals:
        source = box.source
        assert source is not None
        for place, one in enumerate(self._alike):
            for number, (version, numbers) in enumerate(one.rows):
                if one is not but and version == box.version and numbers[0] in source:
                    source |= self._all[place, number]
        return source

    def tell_apart(self, namespace: str, box: Headers) -> Iterator[tuple[str, Headers]]:
        """What was told of headers that lead to a namespace, for each that is like it, itself
        first: headers of its own.
        """
        one = self._of.get(namespace) or self._named_by(box)
        if one is None:
            yield namespace, self.extend(box)
            return
        base = self._extend_source(box, one)
        assert box.source is not None
        mine: list[tuple[int, ...]] = []
        for version, numbers in one.rows:
            if version != box.version:
                continue
            own, other = numbers[0] in box.source, numbers[1] in box.source
            base = (base | to_points(numbers)) if other else base - to_points(numbers[:2])
            if own != other:
                mine.append((*numbers,) if own else tuple(-1 - number for number in numbers))
        for place, member in enumerate(one.members):
            source = base
            for row in mine:
                number = row[place]
                if number >= 0:
                    source |= interval(number, number)
                else:
                    source = source.without(-1 - number, -1 - number)
            yield member, msgspec.structs.replace(
                box,
                source=source,
                destination=_swap(
                    box.destination, [row for version, row in one.rows if version == box.version],
                    place,
                ),
                destination_port=_swap(box.destination_port, one.ports, place),
            )  # fmt: skip

    def _named_by(self, box: Headers) -> Alike | None:
        """The kind of whose first member a single port or address is."""
        for one in self._alike:
            if box.destination_port.count == 1 and any(
                row[0] in box.destination_port for row in one.ports
            ):
                return one
            if box.destination.count == 1 and any(
                version == box.version and numbers[0] in box.destination
                for version, numbers in one.rows
            ):
                return one
        return None

    def counterpart(self, namespace: str, member: str, other: str) -> str:
        """Another namespace as it is for a member: itself, or the member when it stood for it."""
        held = self._of.get(namespace)
        return member if held is not None and other == namespace else other


def _swap(values: Intervals, rows: list[tuple[int, ...]] | tuple[tuple[int, ...], ...],
          place: int) -> Intervals:  # fmt: skip
    """Values with those of one member instead of the first one's."""
    if place == 0:
        return values
    for row in rows:
        if row[0] in values:
            values = values.without(row[0], row[0]) | interval(row[place], row[place])
    return values


def _compare(
    view: View, kinds: Kinds, members: tuple[str, ...], listening: set[int]
) -> Alike | None:
    """The kind, None where its members share what has to be theirs alone."""
    held = [kinds.addresses.get(name, ()) for name in members]
    published = [kinds.published.get(name, ()) for name in members]
    if len({len(row) for row in held}) != 1 or len({len(row) for row in published}) != 1:
        return None
    rows: list[tuple[int, tuple[int, ...]]] = []
    for texts in zip(*held, strict=True):
        if len(set(texts)) == 1:
            continue
        version = version_of(texts[0])
        numbers = tuple(map(to_number, texts))
        if any(set(view.owners[version, n]) != {m} for n, m in zip(numbers, members, strict=True)):
            return None
        rows.append((version, numbers))
    ports = tuple(zip(*published, strict=True))
    if any(len(set(row)) != len(row) or listening & set(row) for row in ports):
        return None
    return Alike(members, tuple(rows), ports)
