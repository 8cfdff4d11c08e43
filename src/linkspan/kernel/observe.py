"""Reading the data plane that a host really has, whoever made it.

One netlink socket a namespace, one dump a part; no other program is run. A namespace that
vanishes meanwhile is left out altogether.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from linkspan.dataplane.objects import HOST, Key, Link, Object
from linkspan.dataplane.plane import DataPlane
from linkspan.errors import NotFound
from linkspan.kernel import namespaces
from linkspan.kernel.netlink import links, seenlinks
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket, Refusal
from linkspan.kernel.peers import find_peers
from linkspan.kernel.visit import ENDPOINT_SETTINGS, Visit

__all__ = ["ENDPOINT_SETTINGS", "PARTS", "observe", "observe_link"]

PARTS: Final = (
    "links", "addresses", "routes", "rules", "neighbours", "fdb", "sysctls", "firewall",
)  # fmt: skip
_MOST_OPEN: Final = 128
"""Sockets that stay open until peers are found; others are opened again where needed."""


def observe(places: Mapping[str, str | None], parts: Collection[str] = PARTS) -> DataPlane:
    """The objects of some namespaces, given as name -> path of a file that holds it.

    The path None is the calling thread's own namespace; the name "host" is the usual one
    for it. `parts` are some of PARTS. Peers of veth pairs are named when both ends are in
    one of `places`. Neighbours that need no resolution are left out, as `ip` does; of two
    routes that differ only in what a plane does not hold the first one, which the kernel
    uses, is kept. Raises KernelRefused and PermissionRefused.
    """
    found: dict[Key, Object] = {}
    with contextlib.ExitStack() as stack:
        visits: list[Visit] = []
        for name, path in places.items():
            try:
                visit = Visit(name, path, parts)
            except NotFound:
                continue
            stack.callback(visit.close)
            visits.append(visit)
            if len(visits) > _MOST_OPEN:
                visit.close()
        everywhere = {visit.name: visit.numbered for visit in visits}
        peers = find_peers(visits) if "links" in parts else {}
        for visit in visits:
            for item in visit.objects(peers.get(visit.name, {}), everywhere):
                found.setdefault(item.key, item)
            if "firewall" in parts:
                for item in _read_firewall(visit.name, places[visit.name]):
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


def _read_firewall(name: str, path: str | None) -> Iterator[Object]:
    from linkspan.kernel.netfilter.foreign import read_firewall

    if path is None:
        yield from read_firewall(name)
        return
    with contextlib.suppress(NotFound), namespaces.opened(path) as descriptor:
        yield from read_firewall(name, descriptor)
