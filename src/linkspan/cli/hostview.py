"""What is on this host now, for questions about it: namespaces by name, and their data plane.

No daemon is needed; where one answers, its sandboxes lend their names.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from linkspan.dataplane import HOST, DataPlane, Link, Listener, Object, Process, Veth
from linkspan.errors import LinkspanError, NotFound
from linkspan.inventory.records import Container, HostView
from linkspan.kernel import namespaces, sockets
from linkspan.kernel.observe import PARTS, observe

if TYPE_CHECKING:
    from linkspan.cli.whereabouts import Whereabouts

_FOLDERS = ("/run/netns", "/run/docker/netns")
_RELAYS = frozenset(("docker-proxy",))


class Seen(NamedTuple):
    """A host's data plane, and the namespaces in it by name -> path (None: one's own)."""

    plane: DataPlane
    places: Mapping[str, str | None]


class Places(NamedTuple):
    """Namespaces by name -> path (None: one's own), and what else they were called."""

    paths: dict[str, str | None]
    aliases: dict[str, str]


def find_places(client: Any, asked: Iterable[tuple[str, str]] = ()) -> Places:
    """Every namespace of the machine that has a name, a file or a process, once each.

    `client` asks the daemon for its sandboxes; `asked` are names and paths that somebody
    used: aliases where the namespace has a better name. Without root some stay unseen.
    Raises NotFound for a path in `asked` that holds none.
    """
    paths: dict[str, str | None] = {HOST: None}
    names = {_identity_of("/proc/thread-self/ns/net"): HOST}
    aliases: dict[str, str] = {}
    for name, path in (*_sandboxes(client), *_named()):
        with contextlib.suppress(OSError):
            if names.setdefault(_identity_of(path), name) == name:
                paths.setdefault(name, path)
    for name, path in asked:
        try:
            identity = _identity_of(path)
        except OSError:
            raise NotFound(f"{name}: there is no network namespace at {path}") from None
        known = names.setdefault(identity, name)
        paths.setdefault(known, path)
        aliases[name] = known
    for name, path in _of_processes():
        with contextlib.suppress(OSError):
            if names.setdefault(_identity_of(path), name) == name:
                paths.setdefault(name, path)
    return Places(paths, aliases)


def look_at_host(client: Any, ends: Iterable[Whereabouts] | None) -> HostView:
    """This host as a HostView; with `ends`, only what cables join to them."""
    asked = [one.path for one in ends or () if one.path is not None]
    places = find_places(client, asked)
    about = places.paths if ends is None else _namespaces_of(ends, places)
    seen = observe_host(places.paths, about)
    spoken: dict[str, list[str]] = {}
    for alias, name in places.aliases.items():
        spoken.setdefault(name, []).append(alias)
    containers = tuple(
        Container(
            namespace=name, name=name, runtime=_runtime_of(name),
            aliases=tuple(spoken.get(name, ())),
        )
        for name in places.paths
    )  # fmt: skip
    return HostView(
        plane=seen.plane, containers=containers, paths=dict(seen.places), taken=time.time(),
        host=os.uname().nodename, kernel=os.uname().release,
    )  # fmt: skip


def _namespaces_of(ends: Iterable[Whereabouts], places: Places) -> set[str]:
    names = {places.aliases.get(one.name, one.name) for one in ends if one.name is not None}
    return {name for name in names if name in places.paths}


def _runtime_of(name: str) -> str:
    if name == HOST:
        return "host"
    return "process" if name.startswith("pid:") else "netns"


def observe_host(places: Mapping[str, str | None], about: Iterable[str]) -> Seen:
    """The data plane of the namespaces in `about` and of all that have a cable to them.

    Raises KernelRefused and PermissionRefused.
    """
    cables = observe(places, ("links",))
    near = _connected(cables, {HOST, *about})
    chosen = {name: path for name, path in places.items() if name in near}
    plane = observe(chosen, PARTS)
    objects: list[Object] = list(plane)
    objects += _listeners(chosen, plane)
    return Seen(DataPlane(objects), chosen)


def _identity_of(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_dev, status.st_ino


def _sandboxes(client: Any) -> list[tuple[str, str]]:
    if client is None:
        return []
    try:
        rows = client.get("sandboxes")
    except LinkspanError:
        return []
    return [(row["name"], row["netns"]) for row in rows if row.get("netns")]


def _named() -> list[tuple[str, str]]:
    found = []
    for folder in _FOLDERS:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        found += [(name, os.path.join(folder, name)) for name in names]
    return found


def _of_processes() -> list[tuple[str, str]]:
    pids = sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())
    return [(f"pid:{pid}", f"/proc/{pid}/ns/net") for pid in pids]


def _connected(plane: DataPlane, start: set[str]) -> set[str]:
    """The namespaces that a chain of cables joins to some of them."""
    neighbours: dict[str, set[str]] = {}
    for link in plane.of(Link):
        kind = link.kind
        far = kind.peer_namespace if isinstance(kind, Veth) else None
        far = far or getattr(kind, "parent_namespace", None)
        if far is not None and far != link.namespace:
            neighbours.setdefault(link.namespace, set()).add(far)
            neighbours.setdefault(far, set()).add(link.namespace)
    found, waiting = set(start), list(start)
    while waiting:
        for name in neighbours.get(waiting.pop(), ()):
            if name not in found:
                found.add(name)
                waiting.append(name)
    return found


def _listeners(places: Mapping[str, str | None], plane: DataPlane) -> list[Listener]:
    """The waiting sockets of all namespaces, with their processes."""
    bound: list[tuple[str, sockets.BoundSocket]] = []
    for name, path in places.items():
        try:
            descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
        except NotFound:
            continue
        try:
            bound += [(name, one) for one in sockets.list_bound(descriptor)]
        finally:
            os.close(descriptor)
    holders = sockets.find_processes({one.inode for _, one in bound})
    names = {(link.namespace, link.index): link.name for link in plane.of(Link)}
    found: dict[object, Listener] = {}
    for name, one in bound:
        processes = tuple(
            Process(holder.pid, holder.name, _arguments(holder))
            for holder in holders.get(one.inode, ())
        )
        listener = Listener(
            namespace=name,
            protocol=one.protocol,
            address=one.address,
            port=one.port,
            link=names.get((name, one.link)) if one.link else None,
            dual_stack=":" in one.address and not one.v6only,
            processes=processes,
        )
        held = found.get(listener.key)
        if held is not None:
            listener = msgspec.structs.replace(listener, processes=held.processes + processes)
        found[listener.key] = listener
    return list(found.values())


def _arguments(process: sockets.Process) -> tuple[str, ...]:
    """What relays were started with: it says where they lead. Others' stay their own."""
    if process.name not in _RELAYS:
        return ()
    try:
        with open(f"/proc/{process.pid}/cmdline", "rb") as file:
            return tuple(file.read().decode(errors="replace").split("\0"))
    except OSError:
        return ()
