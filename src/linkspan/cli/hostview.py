"""What is on this host now, for questions about it: its data plane, and whose namespaces they are.

No daemon is needed; those that answer, linkspan's and others', lend their names.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from linkspan.analysis.addresses import is_link_local, is_loopback, to_number, version_of
from linkspan.cli.whereabouts import OUTSIDE, Whereabouts, find_container
from linkspan.dataplane import HOST, Address
from linkspan.errors import DaemonUnreachable, LinkspanError, NotFound, PermissionRefused
from linkspan.inventory.naming import Named
from linkspan.inventory.records import Container, HostView
from linkspan.inventory.taking import take_inventory
from linkspan.kernel.host import choose_connected, observe_host
from linkspan.kernel.machine import FoundNamespace, look_over
from linkspan.kernel.observe import observe


def look_at_host(client: Any, ends: Iterable[Whereabouts] | None = None) -> HostView:
    """This host. With `ends`, of its plane only what cables join to them.

    `client` asks linkspan's daemon for its sandboxes. Raises NotFound and InvalidRequest for
    an end that nothing is or several are, KernelRefused and PermissionRefused.
    """
    machine = look_over()
    asked = None if ends is None else tuple(ends)
    found, spoken = _with_asked(machine.namespaces, asked or ())
    inventory = take_inventory(found, _sandboxes(client), _find_near)
    unseen = (*machine.unseen, *inventory.unseen)
    named = inventory.named
    containers = tuple(_with_spoken(named, spoken))
    about = None if asked is None else _namespaces_of(asked, containers, named.paths, unseen)
    seen = observe_host(named.paths, about, machine.files)
    system = os.uname()
    return HostView(
        plane=seen.plane, containers=containers, unseen=(*unseen, *seen.unseen),
        changing=seen.changing, paths=named.paths, taken=time.time(), host=system.nodename,
        kernel=system.release,
    )  # fmt: skip


def _sandboxes(client: Any) -> list[Any]:
    if client is None:
        return []
    try:
        rows = client.get("sandboxes")
    except DaemonUnreachable:
        from linkspan.cli.records import read_sandboxes

        return read_sandboxes()
    except LinkspanError:
        return []
    return rows if isinstance(rows, list) else []


def _find_near(
    places: Collection[tuple[tuple[int, int], str | None]],
) -> set[tuple[int, int]]:
    """Of namespaces with their files, those that cables join to one's own."""
    files = {HOST if path is None else f"{one[0]}-{one[1]}": path for one, path in places}
    try:
        near = choose_connected(files, {HOST})
    except PermissionRefused:
        return set()
    return {one for name, (one, _) in zip(files, places, strict=True) if name in near}


def _with_asked(
    found: Sequence[FoundNamespace], ends: Iterable[Whereabouts]
) -> tuple[list[FoundNamespace], dict[tuple[int, int], list[str]]]:
    """Also the namespaces that ends name by file or process, and how they are called there."""
    everyone = {one.identity: one for one in found}
    spoken: dict[tuple[int, int], list[str]] = {}
    for end in ends:
        if end.path is None:
            continue
        name, path = end.path
        try:
            status = os.stat(path)
        except PermissionError:
            raise PermissionRefused(f"{name}: {path} may not be opened: run as root") from None
        except OSError:
            raise NotFound(f"{name}: there is no network namespace at {path}") from None
        identity = status.st_dev, status.st_ino
        if identity not in everyone:
            if status.st_dev != os.stat("/proc/thread-self/ns/net").st_dev:
                raise NotFound(f"{name}: there is no network namespace at {path}")
            everyone[identity] = FoundNamespace(path=path, identity=identity, kind="named")
        spoken.setdefault(identity, []).append(name)
    return list(everyone.values()), spoken


def _with_spoken(
    named: Named, spoken: Mapping[tuple[int, int], Sequence[str]]
) -> Iterable[Container]:
    """The containers, with what their namespaces were called among their aliases."""
    words = {named.names[identity]: said for identity, said in spoken.items()}
    for one in named.containers:
        said = words.pop(one.namespace, ())
        aliases = tuple(dict.fromkeys((*one.aliases, *said)))
        yield msgspec.structs.replace(one, aliases=aliases) if said else one


def _namespaces_of(
    ends: Iterable[Whereabouts], containers: Sequence[Container],
    paths: Mapping[str, str | None], unseen: Sequence[str],
) -> set[str]:  # fmt: skip
    """The namespaces that ends name, or whose addresses they are."""
    found = set()
    wanted = set()
    for end in ends:
        if end.name is not None and end.name != OUTSIDE:
            found.add(find_container(end.name, containers, unseen).namespace)
        elif end.address is not None:
            number, version = to_number(end.address), version_of(end.address)
            if not is_loopback(number, version) and not (version == 6 and is_link_local(number, 6)):
                wanted.add((version, number))
    if wanted:
        try:
            plane = observe(paths, ("addresses",))
        except PermissionRefused:  # then only what can be read is asked
            return found
        for one in plane.of(Address):
            text = one.address.partition("/")[0]
            if (version_of(text), to_number(text)) in wanted:
                found.add(one.namespace)
    return found
