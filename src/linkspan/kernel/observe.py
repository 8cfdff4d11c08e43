"""Reading the data plane that a host really has, whoever made it.

One netlink socket a namespace, one dump a part; no other program is run. A namespace that
vanishes meanwhile is left out altogether.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from functools import partial
from typing import Final

from linkspan.dataplane.objects import HOST, Key, Link, Namespace, Object
from linkspan.dataplane.plane import DataPlane
from linkspan.errors import NotFound
from linkspan.kernel import namespaces, settings
from linkspan.kernel.netlink import (
    addresses,
    fdb,
    links,
    neighbours,
    nsids,
    routes,
    rules,
    seenlinks,
)
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket, Refusal
from linkspan.kernel.netlink.text import FAMILIES

PARTS: Final = (
    "links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls", "firewall",
)  # fmt: skip
ENDPOINT_SETTINGS: Final = "endpoint settings"
"""A part besides: of the settings only those of links that drivers state inside sandboxes."""


def observe(places: Mapping[str, str | None], parts: Collection[str] = PARTS) -> DataPlane:
    """The objects of some namespaces, given as name -> path of a file that holds it.

    The path None is the calling thread's own namespace; the name "host" is the usual one
    for it. `parts` are some of PARTS. Peers of veth pairs are named when both ends are in
    one of `places`. Neighbours that need no resolution are left out, as `ip` does; of two
    routes that differ only in what a plane does not hold the first one, which the kernel
    uses, is kept. Raises KernelRefused and PermissionRefused.
    """
    visits: list[_Visit] = []
    for name, path in places.items():
        try:
            visits.append(_Visit(name, path, places, parts))
        except NotFound:
            continue
    found: dict[Key, Object] = {}
    everywhere = {visit.name: visit.numbered for visit in visits}
    for visit in visits:
        for item in visit.objects(everywhere):
            found.setdefault(item.key, item)
    return DataPlane(found.values())


def observe_link(name: str) -> Link | None:
    """One link of the calling thread's namespace, without what refers to other links; None
    when there is none. Raises KernelRefused.
    """
    with NetlinkSocket(ROUTE) as sock:
        answer = sock.query(links.get(name))
    if isinstance(answer, Refusal):
        if answer.errno == errno.ENODEV:
            return None
        raise answer.as_error(f"looking at link {name}")
    return seenlinks.decode(answer[1], HOST).link


class _Visit:
    """What was read in one namespace, while it was open."""

    def __init__(
        self, name: str, path: str | None, places: Mapping[str, str | None], parts: Collection[str]
    ) -> None:
        self.name = name
        self._parts = parts
        descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
        try:
            self.namespace = Namespace(
                namespace=name, path=path, inode=namespaces.identity(descriptor)
            )
            with NetlinkSocket(ROUTE, descriptor) as sock:
                self._read_links(sock)
                self._peers = _find_namespaces(sock, name, self._needed_nsids(), places)
                self._rest = list(self._read_rest(sock, descriptor))
        finally:
            os.close(descriptor)

    def _read_links(self, sock: NetlinkSocket) -> None:
        rows = sock.dump(links.list_all(), f"reading links of namespace {self.name}")
        self._links = [seenlinks.decode(payload, self.name) for _, payload in rows]
        self.numbered = seenlinks.number_links(self._links)

    def _needed_nsids(self) -> set[int]:
        if "links" not in self._parts:
            return set()
        return {
            seen.other_namespace
            for seen in self._links
            if seen.other_namespace is not None and seen.other_namespace >= 0
        }

    def _read_rest(self, sock: NetlinkSocket, descriptor: int) -> Iterator[Object]:
        name_of = self.name_of
        read = partial(_read, sock, self.name)
        parts = self._parts
        if "addresses" in parts:
            yield from read(
                (addresses.list_all(),), lambda p: addresses.decode(p, self.name, name_of)
            )
        if "routes" in parts:
            yield from read(
                [routes.list_all(family) for family in FAMILIES],
                lambda p: routes.decode(p, self.name, name_of),
            )
        if "rules" in parts:
            yield from read(
                [rules.list_all(family) for family in FAMILIES],
                lambda p: rules.decode(p, self.name),
            )
        if "neighbours" in parts:
            yield from read(
                [neighbours.list_all(f, proxies) for f in FAMILIES for proxies in (False, True)],
                lambda p: neighbours.decode(p, self.name, name_of),
            )
        if "fdb" in parts:
            yield from read((fdb.list_all(),), lambda p: fdb.decode(p, self.name, name_of))
        if "sysctls" in parts:
            yield from settings.read_general(self.name, descriptor)
            for seen in self._links:
                yield from settings.read_link(seen, self.name)
        elif ENDPOINT_SETTINGS in parts and self.name != HOST:
            for seen in self._links:
                yield from settings.read_link(seen, self.name, settings.ENDPOINT)
        if "firewall" in parts:
            yield from _read_firewall(self.name, descriptor)

    def name_of(self, index: int) -> str:
        """The name of a link; one that is gone again is called by its number."""
        link = self.numbered.get(index)
        return f"if{index}" if link is None else link.name

    def objects(self, everywhere: Mapping[str, Mapping[int, Link]]) -> Iterator[Object]:
        """Everything that was asked for; `everywhere` are the links of all namespaces."""
        yield self.namespace
        if "links" in self._parts:
            yield from seenlinks.complete_links(self._links, self.name, self._peers, everywhere)
        yield from self._rest


def _read(
    sock: NetlinkSocket,
    name: str,
    requests: Iterable[bytes],
    decode: Callable[[bytes], Object | None],
) -> Iterator[Object]:
    for request in requests:
        for _, payload in sock.dump(request, f"reading namespace {name}"):
            item = decode(payload)
            if item is not None:
                yield item


def _find_namespaces(
    sock: NetlinkSocket, own: str, needed: set[int], places: Mapping[str, str | None]
) -> dict[int, str]:
    """Which of `places` the numbers mean that this namespace gave to others."""
    found: dict[int, str] = {}
    candidates = sorted(places, key=lambda name: name != HOST)  # most peers are the host's
    for name in candidates:
        if len(found) == len(needed):
            break
        if name == own:
            continue
        path = places[name]
        try:
            descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
        except NotFound:
            continue
        try:
            nsid = nsids.find(sock, descriptor)
        finally:
            os.close(descriptor)
        if nsid in needed:
            found.setdefault(nsid, name)
    return found


def _read_firewall(name: str, descriptor: int) -> Iterator[Object]:
    from linkspan.kernel.netfilter.foreign import read_firewall

    yield from read_firewall(name, descriptor)
