"""A whole host as one data plane: its namespaces, and the sockets that wait in them.

`machine` says which namespaces there are; who they belong to is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import msgspec

from linkspan.dataplane import HOST, DataPlane, Link, Listener, Object, Process, Veth
from linkspan.errors import NotFound
from linkspan.kernel import namespaces, sockets
from linkspan.kernel.descriptors import OpenFiles
from linkspan.kernel.observe import PARTS, observe

_RELAYS = frozenset(("docker-proxy",))


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
    """The data plane of namespaces with their listeners, given as name -> path.

    The path None is the calling thread's own namespace, which should be called "host". With
    `about` only those namespaces, the host and all that a chain of cables joins to them are
    read. `files` is what `machine.look_over` saw a moment ago; without it processes are
    looked through again. Raises KernelRefused and PermissionRefused.
    """
    chosen = dict(places)
    if about is not None:
        near = find_connected(observe(places, ("links",)), {HOST, *about})
        chosen = {name: path for name, path in places.items() if name in near}
    plane = observe(chosen, PARTS)
    objects: list[Object] = list(plane)
    objects += _listeners(chosen, plane)
    return Observed(DataPlane(objects), (), ())


def find_connected(plane: DataPlane, start: set[str]) -> set[str]:
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
