"""Tracked flows that a change of ours made wrong, forgotten so that the next packet starts anew."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence

from linkspan.drivers.records import PublishedPort
from linkspan.kernel.netfilter.conntrack import Conntrack
from linkspan.kernel.netfilter.flows import ConntrackEntry, ConntrackFilter

FEW = 16
"""Up to as many ports are asked for one by one; beyond, one reading of the table is cheaper."""
FEW_FLOWS = 1000
"""Up to as many tracked flows are read all at once. A walk through the kernel's table takes
about 20 ms with the 262,144 buckets of a large host, however few flows it selects.
"""


def flush_published(ports: Sequence[PublishedPort], host_addresses: Collection[str]) -> None:
    """Forget the flows to these ports of the host. Raises KernelRefused."""
    own = frozenset(host_addresses)
    with Conntrack() as conntrack:
        for port in ports:
            found = {
                entry
                for wanted in _filters(port)
                for entry in conntrack.dump(wanted)
                if _is_meant(entry, port, own)
            }
            conntrack.delete(found)


def flush_addresses(addresses: Sequence[str]) -> None:
    """Forget the flows from and to addresses, also the translated ones. Raises KernelRefused."""
    with Conntrack() as conntrack:
        tracked = conntrack.count()
        if tracked == 0:
            return
        if tracked <= FEW_FLOWS:
            conntrack.delete(_find_in_one_reading(conntrack, frozenset(addresses)))
            return
        for address in addresses:
            found = {
                *conntrack.dump(ConntrackFilter(original_source=address)),
                *conntrack.dump(ConntrackFilter(original_destination=address)),
                *conntrack.dump(ConntrackFilter(reply_source=address)),
            }
            conntrack.delete(found)


def _find_in_one_reading(
    conntrack: Conntrack, addresses: frozenset[str]
) -> Iterator[ConntrackEntry]:
    for family in sorted({"ip6" if ":" in address else "ip" for address in addresses}):
        for entry in conntrack.dump(ConntrackFilter(family=family)):
            named = (entry.original.source, entry.original.destination, entry.reply.source)
            if not addresses.isdisjoint(named):
                yield entry


def _filters(port: PublishedPort) -> Iterator[ConntrackFilter]:
    family = "ip6" if ":" in port.host_ip else "ip"
    if port.host_port_end - port.host_port >= FEW:
        yield ConntrackFilter(family=family, protocol=port.protocol)
        return
    for number in range(port.host_port, port.host_port_end + 1):
        yield ConntrackFilter(
            family=family, protocol=port.protocol, original_destination_port=number
        )


def _is_meant(entry: ConntrackEntry, port: PublishedPort, own: Collection[str]) -> bool:
    asked = entry.original
    if asked.destination_port is None:
        return False
    if not port.host_port <= asked.destination_port <= port.host_port_end:
        return False
    if port.host_ip not in ("0.0.0.0", "::"):
        return asked.destination == port.host_ip
    # Flows of containers to the same port of other hosts are none of this one's.
    return asked.destination in own or ipaddress.ip_address(asked.destination).is_loopback
