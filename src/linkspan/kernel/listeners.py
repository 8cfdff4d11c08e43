"""Sockets that were seen in namespaces, with the processes that hold them."""

from __future__ import annotations

from collections.abc import Iterable

from linkspan.dataplane.objects import Object
from linkspan.dataplane.sockets import Listener, PacketSocket, Process
from linkspan.kernel.descriptors import OpenFiles, read_open_files
from linkspan.kernel.visit import FullVisit

_RELAYS = frozenset(("docker-proxy",))
"""Programs whose arguments say where they lead. Those of others stay their own."""


def find_sockets(visits: Iterable[FullVisit], files: OpenFiles | None = None) -> list[Object]:
    """The waiting sockets of namespaces, and those that see whole frames.

    Sockets that share all but their number are one. `files` is who holds which socket; where
    it is older than a socket, processes are looked through again.
    """
    visits = list(visits)
    inodes = {one.inode for visit in visits for one in visit.bound}
    inodes |= {tap.inode for visit in visits for tap in visit.taps}
    holders = _Holders(inodes - {0}, files)  # the kernel's own sockets have none
    found: dict[object, tuple[Listener | PacketSocket, list[int]]] = {}
    for visit in visits:
        for one in visit.bound:
            listener = Listener(
                namespace=visit.name,
                protocol=one.protocol,
                address=one.address,
                port=one.port,
                link=visit.name_of(one.link) if one.link else None,
                dual_stack=":" in one.address and not one.v6only,
            )
            found.setdefault(listener.key, (listener, []))[1].append(one.inode)
        for tap in visit.taps:
            link = visit.name_of(tap.link) if tap.link else None
            seeing = PacketSocket(namespace=visit.name, protocol=tap.protocol, link=link)
            found.setdefault(seeing.key, (seeing, []))[1].append(tap.inode)
    return [holders.complete(item, inodes) for item, inodes in found.values()]


class _Holders:
    """Processes by the sockets that they hold."""

    def __init__(self, inodes: set[int], files: OpenFiles | None) -> None:
        self._known: dict[int, Process | None] = {}
        if inodes and (files is None or not inodes <= files.sockets.keys()):
            files = read_open_files()
        self._sockets = {} if files is None else files.sockets

    def complete(self, item: Listener | PacketSocket, inodes: list[int]) -> Object:
        """The socket with its processes, each once."""
        pids = dict.fromkeys(pid for inode in inodes for pid in self._sockets.get(inode, ()))
        processes = tuple(process for pid in pids if (process := self._process(pid)) is not None)
        if not processes:
            return item
        if isinstance(item, PacketSocket):
            return PacketSocket(
                namespace=item.namespace, protocol=item.protocol, link=item.link,
                processes=processes,
            )  # fmt: skip
        return Listener(
            namespace=item.namespace, protocol=item.protocol, address=item.address,
            port=item.port, link=item.link, dual_stack=item.dual_stack, processes=processes,
        )  # fmt: skip

    def _process(self, pid: int) -> Process | None:
        if pid not in self._known:
            self._known[pid] = _describe(pid)
        return self._known[pid]


def _describe(pid: int) -> Process | None:
    """A process by its number; None when it ended."""
    try:
        with open(f"/proc/{pid}/comm", errors="replace") as file:
            name = file.read().strip()
    except OSError:
        return None
    arguments: tuple[str, ...] = ()
    if name in _RELAYS:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                arguments = tuple(file.read().decode(errors="replace").split("\0"))
        except OSError:
            return None
    return Process(pid, name, arguments)
