"""One list of containers out of all sources, with a name for each namespace.

Who is believed first: linkspan, Docker, Podman, containerd, CNI, then the file of a namespace,
then the program in it. Two containers in one namespace are both in the list. Where containers
of several namespaces have one name, the one that is connected to this host keeps it; otherwise
all these namespaces are called RUNTIME:NAME.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from linkspan.dataplane import HOST
from linkspan.inventory.records import Container
from linkspan.inventory.sightings import Identity, Sighting, complete, identify

OUTSIDE = "outside"
_RESERVED = frozenset((HOST, OUTSIDE))
_SHORT = 12
"""Characters of an id that people are shown."""


class Found(Protocol):
    """A network namespace of the machine, as the kernel room finds it."""

    @property
    def path(self) -> str: ...
    @property
    def identity(self) -> Identity: ...
    @property
    def kind(self) -> str: ...
    @property
    def pids(self) -> tuple[int, ...]: ...


class Named(NamedTuple):
    """Who is there, and the file of each namespace by its name (None: one's own)."""

    containers: tuple[Container, ...]
    paths: dict[str, str | None]
    names: dict[Identity, str]


Near = Callable[[Collection[tuple[Identity, str | None]]], Collection[Identity]]
"""Of namespaces and their files, those that are connected to one's own."""


def name_namespaces(
    found: Iterable[Found],
    sightings: Iterable[Sighting],
    own: Identity,
    find_near: Near = lambda _: (),
) -> Named:
    """Put sightings and namespaces together. `own` is the namespace that is called "host".

    Sightings come in the order in which they are believed. Those without a living namespace
    are left out. `find_near` is asked only when two have one name.
    """
    members: dict[Identity, list[Sighting]] = {own: []}
    files: dict[Identity, str] = {}
    spaces = {one.identity: one for one in found}
    for identity, space in spaces.items():
        members.setdefault(identity, [])
        files[identity] = space.path
    for sighting in _joined(sightings):
        home = identify(sighting)
        if home is not None:
            members.setdefault(home, []).append(sighting)
            files.setdefault(home, _path_of(sighting))
    settled = {
        identity: _settled(list_, spaces.get(identity), identity == own)
        for identity, list_ in members.items()
    }
    if any(len(homes) > 1 for homes in _find_namesakes(settled).values()):
        near = find_near([(one, None if one == own else files[one]) for one in settled])
        settled = _tell_apart(settled, near)
    names = _choose_names(settled, own)
    containers = [
        _container(names[identity], one, files.get(identity), one is list_[0])
        for identity, list_ in settled.items()
        for one in list_
    ]
    ordered = sorted(names, key=lambda identity: identity != own)
    return Named(
        tuple(containers),
        {names[one]: None if one == own else files[one] for one in ordered},
        names,
    )


def _joined(sightings: Iterable[Sighting]) -> list[Sighting]:
    """Each id once, with all that any source tells of it."""
    found: dict[str, Sighting] = {}
    anonymous = []
    for one in sightings:
        if not one.id:
            anonymous.append(one)
            continue
        # nerdctl puts containerd's namespace before the id, for CNI.
        tail = one.id.rpartition("-")[2]
        id = tail if one.runtime == "cni" and tail in found else one.id
        known = found.get(id)
        found[id] = one if known is None else complete(known, one)
    return [*found.values(), *anonymous]


def _settled(members: list[Sighting], space: Found | None, is_own: bool) -> list[Sighting]:
    """The containers of one namespace, each with a name, the one that it belongs to first."""
    if is_own:
        members = [Sighting(runtime="host", name=HOST), *(one for one in members if one.id)]
    named: dict[str, Sighting] = {}
    for one in sorted(members, key=lambda one: (one.runtime != "host", one.guest)):
        name = one.name or one.id[:_SHORT]
        if not name:
            continue
        # A source without ids may tell of a container that another tells more of.
        known = named.get(name)
        if known is not None and (not known.id or not one.id):
            named[name] = complete(known, one)
        else:
            named.setdefault(name if known is None else f"{name}\0{one.id}", one)
    settled = [
        one if one.name else complete(one, Sighting(runtime=one.runtime, name=one.id[:_SHORT]))
        for one in named.values()
    ]
    if settled or space is None:
        return settled
    return [_anonymous(space)]


def _anonymous(space: Found) -> Sighting:
    """A namespace that no runtime tells of: its file's name, else its first program."""
    pid = space.pids[0] if space.pids else None
    if space.kind in ("named", "mount"):
        return Sighting(runtime=_keeper(space.path), name=os.path.basename(space.path), pid=pid)
    if pid is not None:
        return Sighting(runtime="process", name=f"{_program(pid)}-{pid}", pid=pid)
    parts = space.path.split("/")  # /proc/PID/fd/N
    if space.kind == "open-file" and len(parts) == 5 and parts[2].isdecimal():
        holder = int(parts[2])
        return Sighting(runtime="process", name=f"{_program(holder)}-{holder}-fd{parts[4]}")
    return Sighting(runtime="netns", name=space.path.replace("/", "-").strip("-"))


def _keeper(path: str) -> str:
    folder = os.path.dirname(path)
    return "linkspan" if folder.endswith("/linkspan/netns") else "netns"


def _program(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip().replace(":", "_").replace(" ", "_") or "process"
    except OSError:
        return "process"


def _find_namesakes(settled: dict[Identity, list[Sighting]]) -> dict[str, set[Identity]]:
    """For each name, the namespaces of all that have it."""
    where: dict[str, set[Identity]] = {}
    for identity, members in settled.items():
        for one in members:
            where.setdefault(one.name, set()).add(identity)
    return where


def _tell_apart(
    settled: dict[Identity, list[Sighting]], near: Collection[Identity]
) -> dict[Identity, list[Sighting]]:
    """Where one namespace of several with a name is near, the others' gets RUNTIME: before it."""
    found = {}
    where = _find_namesakes(settled)
    lonely = {name for name, homes in where.items() if sum(one in near for one in homes) == 1}
    for identity, members in settled.items():
        found[identity] = members if identity in near else [
            msgspec.structs.replace(one, name=f"{one.runtime}:{one.name}")
            if one.name in lonely and len(where[one.name]) > 1 else one
            for one in members
        ]  # fmt: skip
    return found


def _choose_names(settled: dict[Identity, list[Sighting]], own: Identity) -> dict[Identity, str]:
    """A distinct name for each namespace."""
    where = _find_namesakes(settled)
    chosen: dict[Identity, str] = {own: HOST}
    taken = Counter((HOST,))
    for identity, members in settled.items():
        if identity == own or not members:
            continue
        first = members[0]
        clear = len(where[first.name]) == 1 and first.name not in _RESERVED
        name = first.name if clear else f"{first.runtime}:{first.name}"
        if taken[name]:
            name = f"{first.runtime}:{first.id[:_SHORT]}" if first.id else name
        while taken[name]:
            taken[name] += 1
            name = f"{name}~{taken[name]}"
        taken[name] += 1
        chosen[identity] = name
    for identity in settled:
        chosen.setdefault(identity, f"namespace-{identity[1]}")
    return chosen


def _path_of(sighting: Sighting) -> str:
    return f"/proc/{sighting.pid}/ns/net" if sighting.pid is not None else sighting.path or ""


def _container(namespace: str, one: Sighting, path: str | None, is_first: bool) -> Container:
    aliases: Sequence[str] = one.aliases
    if is_first and path and not path.startswith("/proc/"):
        aliases = (*aliases, f"netns:{path}")
    return Container(
        namespace=namespace, name=one.name, runtime=one.runtime, id=one.id, pid=one.pid,
        image=one.image, aliases=tuple(aliases), networks=one.networks, published=one.published,
    )  # fmt: skip
