"""Which namespaces are behind the numbers by which others know them.

A link's other end is told as (number of its namespace, index there). Both ends of a veth
pair point at each other: so few namespaces have to be tried, and the far end is known too.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable

from linkspan.dataplane.links import Veth
from linkspan.dataplane.objects import HOST
from linkspan.errors import LinkspanError
from linkspan.kernel import namespaces
from linkspan.kernel.netlink import nsids
from linkspan.kernel.netlink.seenlinks import SeenLink
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket
from linkspan.kernel.visit import Visit

End = tuple[Visit, SeenLink]
Numbers = dict[str, dict[int, str]]
"""By namespace: number -> the namespace that it means there."""


def find_peers(visits: Iterable[Visit]) -> Numbers:
    """The namespaces behind the numbers that links of others need, as far as visited."""
    ordered = sorted(visits, key=lambda visit: visit.name != HOST)  # most peers are the host's
    pairs: defaultdict[tuple[int, int], list[End]] = defaultdict(list)
    parents: defaultdict[int, list[End]] = defaultdict(list)
    for visit in ordered:
        for seen in visit.links:
            if isinstance(seen.link.kind, Veth):
                pairs[seen.other, seen.index].append((visit, seen))
            parents[seen.index].append((visit, seen))
    found: Numbers = {visit.name: {} for visit in ordered}
    for visit in ordered:
        refused: set[int] = set()
        with _Asking(visit) as asking:
            for seen in visit.links:
                number = seen.other_namespace
                if number is None or number < 0 or number in refused or number in found[visit.name]:
                    continue
                if isinstance(seen.link.kind, Veth):
                    candidates = pairs[seen.index, seen.other]
                else:
                    candidates = parents[seen.other]
                for other, far in candidates:
                    if other is visit:
                        continue
                    if asking.number_of(other) != number:
                        continue
                    found[visit.name][number] = other.name
                    if isinstance(seen.link.kind, Veth) and far.other_namespace is not None:
                        found[other.name][far.other_namespace] = visit.name
                    break
                else:
                    refused.add(number)
    return found


def find_loose_ends(visits: Iterable[Visit], peers: Numbers) -> set[str]:
    """Namespaces that were read while a veth pair between them came or went."""
    by_name = {visit.name: visit for visit in visits}
    loose: set[str] = set()
    for visit in by_name.values():
        known = peers.get(visit.name, {})
        for seen in visit.links:
            if not isinstance(seen.link.kind, Veth) or seen.other_namespace is None:
                continue
            name = known.get(seen.other_namespace)
            other = None if name is None else by_name.get(name)
            if other is not None and seen.other not in other.numbered:
                loose |= {visit.name, other.name}
    return loose


class _Asking:
    """Asks a namespace for the numbers that it gave to others."""

    def __init__(self, visit: Visit) -> None:
        self._visit = visit
        self._opened: NetlinkSocket | None = None

    def __enter__(self) -> _Asking:
        return self

    def __exit__(self, *_: object) -> None:
        if self._opened is not None:
            self._opened.close()

    def number_of(self, other: Visit) -> int | None:
        """The number of another namespace here; None when it has none, or either is gone."""
        try:
            with _Opened(other) as descriptor:
                return nsids.find(self._socket(), descriptor.number)
        except LinkspanError:
            return None

    def _socket(self) -> NetlinkSocket:
        if self._visit.socket is not None:
            return self._visit.socket
        if self._opened is None:
            with _Opened(self._visit) as descriptor:
                self._opened = NetlinkSocket(ROUTE, descriptor.number)
        return self._opened


class _Opened:
    """A namespace's file, open for the length of a block."""

    def __init__(self, visit: Visit) -> None:
        path = visit.path
        self.number = namespaces.open_own() if path is None else namespaces.open_path(path)

    def __enter__(self) -> _Opened:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.number)
