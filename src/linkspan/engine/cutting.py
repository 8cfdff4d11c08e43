"""Cutting flows off: those that a published port let in, when it is to be closed for them too.

To forget a flow is not enough. The kernel takes a TCP connection up again in the middle, and
where the container speaks first and both port numbers are the same, masquerading gives it the
very ports that the client knows. So the flow keeps its entry, which is marked, and the
firewall's chain `cut` answers whatever either end still sends. Where the kernel can, the
container's end is ended at once as well, and both learn of it without sending anything.
"""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Collection, Iterable, Iterator, Sequence

import msgspec

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


class Lead(msgspec.Struct, frozen=True, kw_only=True):
    """Where a published port leads: an address of a container, with the length of its subnet's
    prefix. `routed`: it is asked for by that address, not by the host's.
    """

    port: PublishedPort
    inside: str
    routed: bool = False


def cut_published(
    leads: Sequence[Lead], host_addresses: Collection[str], netns: str
) -> set[HostPort]:
    """Cut off the flows that came in by published ports.

    `netns` is the path of the container's namespace. Returns the ports that had any, as they
    were asked for. Raises KernelRefused.
    """
    own = frozenset(host_addresses)
    with Conntrack() as conntrack:
        found = [
            *_find_translated(conntrack, [lead for lead in leads if not lead.routed], own),
            *(e for lead in leads if lead.routed for e in _find_routed(conntrack, lead, own)),
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
        for _, entries in find_published(conntrack, list(ports), own):
            conntrack.delete(entry for entry in entries if entry.mark & CUT_MARK)


def _find_translated(
    conntrack: Conntrack, leads: Sequence[Lead], own: frozenset[str]
) -> Iterator[ConntrackEntry]:
    found = find_published(conntrack, [lead.port for lead in leads], own)
    for lead, (port, entries) in zip(leads, found, strict=False):
        address = lead.inside.split("/")[0]
        for entry in entries:
            asked = entry.original.destination_port
            assert asked is not None
            inside = port.port + asked - port.host_port
            if (entry.reply.source, entry.reply.source_port) == (address, inside):
                yield entry


def _find_routed(conntrack: Conntrack, lead: Lead, own: frozenset[str]) -> Iterator[ConntrackEntry]:
    """Those of the host and of the container's own network came without its being published."""
    interface = ipaddress.ip_interface(lead.inside)
    wanted = ConntrackFilter(protocol=lead.port.protocol, original_destination=str(interface.ip))
    for entry in conntrack.dump(wanted):
        asked = entry.original
        if (
            asked.destination_port is not None
            and lead.port.port <= asked.destination_port <= lead.port.port_end
            and asked.source not in own
            and ipaddress.ip_address(asked.source) not in interface.network
        ):
            yield entry


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
