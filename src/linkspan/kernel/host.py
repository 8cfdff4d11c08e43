"""A whole host as one data plane: its namespaces, and the sockets that wait in them.

`machine` says which namespaces there are; who they belong to is not known here. What changes
while it is read is read again a few times; what still changes then is named.
"""

from __future__ import annotations

import contextlib
import gc
import resource
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from linkspan.dataplane.objects import HOST, Key, Object
from linkspan.dataplane.plane import DataPlane
from linkspan.errors import KernelRefused, NotFound, PermissionRefused
from linkspan.kernel import programs
from linkspan.kernel.descriptors import OpenFiles
from linkspan.kernel.listeners import find_sockets
from linkspan.kernel.observe import PARTS
from linkspan.kernel.peers import Numbers, find_loose_ends, find_peers
from linkspan.kernel.visit import FullVisit, Shared, Visit

ALL_PARTS: Final = (*PARTS, "sockets", "programs")
_TRIES = 4
"""How often a namespace that changes is read."""
_RESERVED = 256
"""Open files that are left to the rest of the process."""
_NAMED = 3
"""Namespaces that a sentence names; of the others it says how many."""


class Observed(NamedTuple):
    """A host as it was read.

    `unseen` says in a sentence each what could not be read and why; `changing` are the names
    of namespaces that still changed after they had been read several times.
    """

    plane: DataPlane
    unseen: tuple[str, ...]
    changing: tuple[str, ...]


def observe_host(
    places: Mapping[str, str | None],
    about: Iterable[str] | None = None,
    files: OpenFiles | None = None,
) -> Observed:
    """The data plane of namespaces with sockets and programs, given as name -> path.

    The path None is the calling thread's own namespace, which should be called "host". With
    `about` only those namespaces, the host and all that a chain of cables joins to them are
    read. `files` is what `machine.look_over` saw a moment ago; without it processes are looked
    through again. Namespaces that vanish meanwhile are left out; what may not be read, or
    whose program is missing, is told in `unseen`. Raises KernelRefused.
    """
    with _without_collector():
        programs.forget()
        unseen = _Unseen()
        if about is not None:
            places = choose_connected(places, {HOST, *about})
        with _Reading(places, ALL_PARTS, unseen) as reading:
            reading.read()
            objects = reading.objects()
            objects += find_sockets(reading.visits.values(), files)
            rules, also_changing = _read_rules(reading, unseen)
            objects += rules
        for visit in reading.visits.values():
            unseen.sentences += visit.unread
        unseen.sentences += programs.describe_others()
        found: dict[Key, Object] = {}
        for item in objects:
            found.setdefault(item.key, item)
        return Observed(
            DataPlane(found.values()),
            tuple(unseen.tell()),
            tuple(sorted(reading.changing | also_changing)),
        )


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Records are made by the hundred thousand, and none of them in circles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class _Unseen:
    """What could not be read, gathered by reason."""

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self._by_reason: dict[tuple[str, str], list[str]] = {}

    def add(self, name: str, what: str, why: str) -> None:
        """Of one namespace."""
        names = self._by_reason.setdefault((what, why), [])
        if name not in names:
            names.append(name)

    def tell(self) -> Iterator[str]:
        """A sentence for each reason."""
        for (what, why), names in self._by_reason.items():
            named = ", ".join(names[:_NAMED])
            if len(names) > _NAMED:
                named += f" and {len(names) - _NAMED} more"
            yield f"{what} of {named} could not be read: {why}"
        yield from self.sentences


class _Reading:
    """Visits to namespaces, made again until nothing changes between them."""

    def __init__(
        self, places: Mapping[str, str | None], parts: Collection[str], unseen: _Unseen
    ) -> None:
        self._places = places
        self._parts = parts
        self._unseen = unseen
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        self._most_open = max(soft - _RESERVED, 16)
        self._shared = Shared()
        self.visits: dict[str, FullVisit] = {}
        self.peers: Numbers = {}
        self.changing: set[str] = set()

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        for visit in self.visits.values():
            visit.close()

    def read(self) -> None:
        """Visit all, and those that changed meanwhile again."""
        waiting: Collection[str] = list(self._places)
        for _ in range(_TRIES):
            for name in waiting:
                self._visit(name)
            self.peers = find_peers(self.visits.values())
            waiting = self._outdated()
            if not waiting:
                break
        self.changing = set(waiting)

    def _outdated(self) -> list[str]:
        changed = {name for name, visit in self.visits.items() if visit.changed()}
        changed |= find_loose_ends(self.visits.values(), self.peers)
        return [name for name in self._places if name in changed]

    def _visit(self, name: str) -> None:
        before = self.visits.pop(name, None)
        if before is not None:
            before.close()
        try:
            visit = FullVisit(name, self._places[name], self._parts, self._shared)
        except NotFound:
            return
        except PermissionRefused:
            self._unseen.add(name, "The namespace", "run as root")
            return
        except KernelRefused as error:
            self._unseen.add(name, "The namespace", str(error))
            return
        if len(self.visits) >= self._most_open:
            visit.let_go()
        self.visits[name] = visit
        if "firewall" in visit.closed:
            self._unseen.add(name, "The firewall", "run as root")
        if "sockets" in visit.closed:
            self._unseen.add(name, "The sockets", "this kernel cannot list them (inet_diag)")

    def objects(self) -> list[Object]:
        """What was read, with all that refers to other namespaces."""
        everywhere = {name: visit.numbered for name, visit in self.visits.items()}
        return [
            item
            for name, visit in self.visits.items()
            for item in visit.objects(self.peers.get(name, {}), everywhere)
        ]


def _read_rules(reading: _Reading, unseen: _Unseen) -> tuple[list[Object], set[str]]:
    """The firewalls of the namespaces that have any, and which of them kept changing."""
    from linkspan.kernel.netfilter import rulesets

    waiting = {
        name: visit for name, visit in reading.visits.items() if visit.tables or visit.legacy
    }
    found: dict[str, rulesets.Ruleset] = {}
    for _ in range(_TRIES):
        if not waiting:
            break
        wanted = [
            rulesets.Wanted(name, visit.path, visit.tables, visit.legacy)
            for name, visit in waiting.items()
        ]
        found |= rulesets.read_rulesets(wanted)
        waiting = {name: visit for name, visit in waiting.items() if visit.rules_changed()}
    for name, ruleset in found.items():
        for why in ruleset.failed:
            unseen.add(name, "The rules", why)
    return [item for ruleset in found.values() for item in ruleset.objects], set(waiting)


def choose_connected(places: Mapping[str, str | None], start: set[str]) -> dict[str, str | None]:
    """The places that a chain of cables joins to some of them."""
    visits: list[Visit] = []
    for name, path in places.items():
        try:
            visit = Visit(name, path, ("links",))
        except (NotFound, PermissionRefused):
            continue
        visit.close()
        visits.append(visit)
    neighbours: dict[str, set[str]] = {}
    for name, numbers in find_peers(visits).items():
        for far in numbers.values():
            neighbours.setdefault(name, set()).add(far)
            neighbours.setdefault(far, set()).add(name)
    found, waiting = set(start), list(start)
    while waiting:
        for name in neighbours.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return {name: path for name, path in places.items() if name in found}
