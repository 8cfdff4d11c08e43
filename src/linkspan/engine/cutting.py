"""Cutting flows off: those that a published port let in, when it is to be closed for them too.

To forget a flow is not enough. The kernel takes a TCP connection up again in the middle, and
where the container speaks first and both port numbers are the same, masquerading gives it the
very ports that the client knows. So the flow keeps its entry, which is marked, and the
firewall's chain `cut` answers whatever either end still sends. Where the kernel can, the
container's end is ended at once as well, and both learn of it without sending anything.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Sequence

from linkspan.drivers.marks import CUT_MARK
from linkspan.drivers.records import PublishedPort
from linkspan.engine.flows import find_published
from linkspan.errors import LinkspanError
from linkspan.kernel import namespaces
from linkspan.kernel.netfilter.conntrack import Conntrack
from linkspan.kernel.netfilter.flows import ConntrackEntry, ConntrackFilter
from linkspan.kernel.sockets import Connection, break_connections

HostPort = tuple[str, int]
"""A protocol and a port of the host."""


def cut_published(
    leads: Sequence[tuple[PublishedPort, str]], host_addresses: Collection[str], netns: str
) -> set[HostPort]:
    """Cut the flows off that came by published ports to an address of a container each.

    `netns` is the path of the container's namespace. Returns the host ports that had any.
    Raises KernelRefused.
    """
    own = frozenset(host_addresses)
    with Conntrack() as conntrack:
        found = [
            entry
            for port, address in leads
            for entry in find_published(conntrack, port, own)
            if _leads_to(entry, port, address)
        ]
        conntrack.mark(found, CUT_MARK)
    connections = [_inner_end(entry) for entry in found if entry.original.protocol == "tcp"]
    if connections:
        # A namespace that has vanished meanwhile has no connections.
        with contextlib.suppress(LinkspanError), namespaces.opened(netns) as descriptor:
            break_connections(connections, descriptor)
    return _host_ports(found)


def find_cut() -> set[HostPort]:
    """The host ports of which the kernel still knows flows that were cut off."""
    with Conntrack() as conntrack:
        return _host_ports(conntrack.dump(ConntrackFilter(mark=CUT_MARK)))


def forget_cut(ports: Iterable[PublishedPort], host_addresses: Collection[str]) -> None:
    """Forget flows that were cut off, so that a new one may have the same port numbers."""
    own = frozenset(host_addresses)
    with Conntrack() as conntrack:
        for port in ports:
            known = find_published(conntrack, port, own)
            conntrack.delete(entry for entry in known if entry.mark & CUT_MARK)


def _leads_to(entry: ConntrackEntry, port: PublishedPort, address: str) -> bool:
    asked, answering = entry.original.destination_port, entry.reply
    return (
        asked is not None
        and answering.source == address
        and answering.source_port == port.port + asked - port.host_port
    )


def _inner_end(entry: ConntrackEntry) -> Connection:
    answers = entry.reply
    assert answers.source_port is not None
    assert answers.destination_port is not None
    return Connection(
        address=answers.source,
        port=answers.source_port,
        remote_address=answers.destination,
        remote_port=answers.destination_port,
    )


def _host_ports(entries: Iterable[ConntrackEntry]) -> set[HostPort]:
    return {
        (entry.original.protocol, entry.original.destination_port)
        for entry in entries
        if entry.original.destination_port is not None
    }
