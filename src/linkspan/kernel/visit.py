"""What one network namespace holds, read in one visit by netlink: no program is started.

The thread enters the namespace, opens its sockets there, asks for one part after the other
and goes home. What refers to other namespaces is completed by `peers`.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, Final, TypeVar

import msgspec

from linkspan.dataplane.links import Bridge, Loopback, Veth
from linkspan.dataplane.objects import HOST, Link, Namespace, Object, Route
from linkspan.dataplane.programs import Program
from linkspan.errors import KernelRefused, NotFound
from linkspan.kernel import namespaces, programs, settings, sockets
from linkspan.kernel.netfilter import observed
from linkspan.kernel.netfilter.legacy import list_legacy_tables
from linkspan.kernel.netlink import (
    addresses,
    fdb,
    links,
    neighbours,
    nexthops,
    routes,
    rules,
    seenlinks,
)
from linkspan.kernel.netlink.seenlinks import SeenLink
from linkspan.kernel.netlink.socket import NETFILTER, ROUTE, SOCK_DIAG, NetlinkSocket
from linkspan.kernel.unread import describe_unread

ENDPOINT_SETTINGS = "endpoint settings"
"""A part besides: of the settings only those of links that drivers state inside sandboxes."""

_GROUPS = (
    0x1 | 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400  # link, tc, ipv4 address, route and rule, ipv6
    | 1 << 18 | 1 << 23 | 1 << 24  # ipv6 rule, ipv4 and ipv6 settings
)  # fmt: skip
"""Notifications (RTNLGRP_*) that mean that what was read is outdated. Neighbours come and go."""
_TRIES = 3
_UNKNOWN: Final = object()

T = TypeVar("T", bound=Object)


class Shared:
    """What need not be done again in each of many namespaces."""

    def __init__(self) -> None:
        self.alike: dict[tuple[bytes, int], Any] = {}
        """Routes and rules by the bytes that say them and how links are called there."""
        self.namings: dict[tuple[tuple[int, str], ...], int] = {}
        """A number for each way that links are called by their numbers."""
        self.absent: set[str] = set()
        """Protocols whose sockets this kernel cannot list."""


class Visit:
    """One namespace as it was read. Close it when peers are known.

    `path` None is the calling thread's own namespace. `parts` are those of `observe`.
    `shared` is what visits to many namespaces have in common. Raises NotFound and
    PermissionRefused when the namespace cannot be opened, KernelRefused.
    """

    def __init__(
        self, name: str, path: str | None, parts: Collection[str], shared: Shared | None = None
    ) -> None:
        self._shared = shared or Shared()
        self.name = name
        self.path = path
        self._parts = parts
        self._inconsistent = False
        self.socket: NetlinkSocket | None = None
        self.rest: list[Object] = []
        descriptor = namespaces.open_own() if path is None else namespaces.open_path(path)
        try:
            self.namespace = Namespace(
                namespace=name, path=path, inode=namespaces.identity(descriptor)
            )
            # One's own namespace needs no entering, and so no right to do that.
            with contextlib.nullcontext() if path is None else namespaces.entered(descriptor):
                self._read()
        except BaseException:
            self.close()
            raise
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Close the socket; closing twice is fine."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None

    def _read(self) -> None:
        self.socket = NetlinkSocket(ROUTE, groups=self._groups)
        self._read_links()
        self.rest += self._read_parts()

    @property
    def _groups(self) -> int:
        return 0

    def _dump(self, request: bytes) -> Iterable[tuple[int, bytes]]:
        assert self.socket is not None
        return self.socket.dump(request, f"reading namespace {self.name}")

    def _read_links(self) -> None:
        self.links: list[SeenLink] = [
            seenlinks.decode(payload, self.name) for _, payload in self._dump(links.list_all())
        ]
        self.numbered: dict[int, Link] = seenlinks.number_links(self.links)
        names = tuple((number, link.name) for number, link in self.numbered.items())
        self._naming = self._shared.namings.setdefault(names, len(self._shared.namings))

    def _read_parts(self) -> Iterator[Object]:
        parts = self._parts
        if "addresses" in parts:
            yield from self._objects(
                (addresses.list_all(),), lambda p: addresses.decode(p, self.name, self.name_of)
            )
        if "routes" in parts:
            yield from self._read_routes()
        if "rules" in parts:
            for _, payload in self._dump(rules.list_all(0)):
                rule = self._decode_once(payload, lambda p: rules.decode(p, self.name))
                if rule is not None:
                    yield rule
        if "neighbours" in parts:
            yield from self._objects(
                [neighbours.list_all(0, proxies) for proxies in (False, True)],
                lambda p: neighbours.decode(p, self.name, self.name_of),
            )
        if "fdb" in parts and self._has_forwarding():
            yield from self._objects(
                (fdb.list_all(),), lambda p: fdb.decode(p, self.name, self.name_of)
            )
        if "sysctls" in parts:
            yield from self._read_settings()
        elif ENDPOINT_SETTINGS in parts and self.name != HOST:
            for seen in self.links:
                yield from settings.read_link(seen, self.name, settings.ENDPOINT)

    def _objects(
        self, requests: Iterable[bytes], decode: Callable[[bytes], Object | None]
    ) -> Iterator[Object]:
        for request in requests:
            for _, payload in self._dump(request):
                item = decode(payload)
                if item is not None:
                    yield item

    def _decode_once(self, payload: bytes, decode: Callable[[bytes], T | None]) -> T | None:
        """What `decode` makes of a message, or what it made of the same one elsewhere."""
        # The same numbers mean the same links where all links are called alike.
        key = (payload, self._naming)
        known: T | None = self._shared.alike.get(key, _UNKNOWN)
        if known is _UNKNOWN:
            known = self._shared.alike[key] = decode(payload)
        return None if known is None else msgspec.structs.replace(known, namespace=self.name)

    def _read_routes(self) -> list[Route]:
        found = [
            route
            for _, payload in self._dump(routes.list_all(0))
            if (
                route := self._decode_once(
                    payload, lambda p: routes.decode(p, self.name, self.name_of)
                )
            )
            is not None
        ]
        if nexthops.needs_objects(found):
            rows = self._dump(nexthops.list_all())
            known = dict(nexthops.decode(payload, self.name_of) for _, payload in rows)
            found = [nexthops.complete(route, known) for route in found]
        return found

    def _has_forwarding(self) -> bool:
        return True

    def _read_settings(self) -> Iterator[Object]:
        yield from settings.read_general(self.name)
        for seen in self.links:
            yield from settings.read_link(seen, self.name)

    def name_of(self, index: int) -> str:
        """The name of a link; one that is gone again is called by its number."""
        link = self.numbered.get(index)
        return f"if{index}" if link is None else link.name

    def objects(
        self, peers: Mapping[int, str], everywhere: Mapping[str, Mapping[int, Link]]
    ) -> Iterator[Object]:
        """Everything that was asked for; `everywhere` are the links of all namespaces, `peers`
        the names of those that this one knows by number.
        """
        yield self.namespace
        if "links" in self._parts:
            yield from seenlinks.complete_links(self.links, self.name, peers, everywhere)
        yield from self.rest


class FullVisit(Visit):
    """A visit that also looks for sockets, programs and rules, and notices what changes.

    What could not be read is said in `closed` ("firewall", "sockets"). `tables` and `legacy`
    are the firewall's tables by name: what they say only programs print. `unread` is what
    else decides about the host's packets, a sentence each.
    """

    def __init__(
        self, name: str, path: str | None, parts: Collection[str], shared: Shared | None = None
    ) -> None:
        self.bound: list[sockets.BoundSocket] = []
        self.taps: list[sockets.Tap] = []
        self.tables: tuple[tuple[str, str], ...] = ()
        self.legacy: dict[str, tuple[str, ...]] = {}
        self.generation = 0
        self.closed: list[str] = []
        self.unread: tuple[str, ...] = ()
        super().__init__(name, path, parts, shared)

    def _read(self) -> None:
        super()._read()
        if "sockets" in self._parts:
            self._read_sockets()
        if "programs" in self._parts:
            self.rest += self._read_programs()
        if "firewall" in self._parts:
            self._look_for_tables()
            if self.name == HOST:
                self.unread = tuple(describe_unread())

    @property
    def _groups(self) -> int:
        return _GROUPS

    def _dump(self, request: bytes) -> list[tuple[int, bytes]]:
        assert self.socket is not None
        found, consistent = self.socket.read(request, f"reading namespace {self.name}", _TRIES)
        if not consistent:
            self._inconsistent = True
        return found

    def changed(self) -> bool:
        """Whether anything changed since reading began, or was read in two states."""
        heard = self.socket is not None and self.socket.overtaken()
        found, self._inconsistent = self._inconsistent or heard, False
        return found

    def rules_changed(self) -> bool:
        """Whether the firewall is another than when it was looked at before; looks again."""
        before = (self.generation, self.tables, self.legacy)
        try:
            with contextlib.ExitStack() as stack:
                if self.path is not None:
                    descriptor = stack.enter_context(namespaces.opened(self.path))
                    stack.enter_context(namespaces.entered(descriptor))
                self._look_for_tables()
        except NotFound:
            return False
        return before != (self.generation, self.tables, self.legacy)

    def let_go(self) -> None:
        """Close the socket, keeping in mind what it noticed."""
        self._inconsistent = self.changed()
        self.close()

    def _has_forwarding(self) -> bool:
        """Links that are alone have only the addresses that they listen to, all alike."""
        return not all(
            isinstance(seen.link.kind, (Veth, Loopback)) and not seen.master for seen in self.links
        )

    def _read_settings(self) -> Iterator[Object]:
        assert self.socket is not None
        if self.name == HOST:
            yield from settings.read_general(self.name)
        else:
            has_bridge = any(isinstance(seen.link.kind, Bridge) for seen in self.links)
            yield from settings.read_switches(self.name, self.socket, has_bridge)
        for seen in self.links:
            yield from settings.read_link(seen, self.name)

    def _read_sockets(self) -> None:
        try:
            with NetlinkSocket(SOCK_DIAG, only_dumps=True) as sock:
                self.bound = sockets.read_bound(sock, absent=self._shared.absent)
                self.taps = sockets.read_taps(sock)
        except KernelRefused:
            self.closed.append("sockets")

    def _read_programs(self) -> Iterator[Program]:
        assert self.socket is not None
        for seen in self.links:
            yield from programs.read_xdp(seen, self.name)
        yield from programs.read_filters(self._dump, self.name, self.name_of)
        yield from programs.read_tcx(self.links, self.name)

    def _look_for_tables(self) -> None:
        try:
            with NetlinkSocket(NETFILTER, only_dumps=True) as sock:
                self.tables = observed.list_tables(sock)
                if self.tables:
                    self.generation = observed.read_generation(sock)
        except KernelRefused as error:
            # Without nf_tables in the kernel there are no rules of it.
            if error.errno in (errno.EPERM, errno.EACCES):
                self.closed.append("firewall")
        self.legacy = list_legacy_tables()
