"""Tracked flows that a change of ours made wrong, forgotten so that the next packet starts anew."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Sequence

from linkspan.drivers.records import PublishedPort
from linkspan.kernel.netfilter.conntrack import Conntrack
from linkspan.kernel.netfilter.flows import ConntrackEntry, ConntrackFilter

FEW = 8
"""Up to as many ports or addresses are asked for one by one; beyond, one reading of the whole
table is cheaper."""
FEW_FLOWS = 1000
"""Up to as many tracked flows are read all at once. A walk through the kernel's table takes
about 20 ms with the 262,144 buckets of a large host, however few flows it selects.
"""


def flush_published(ports: Sequence[PublishedPort], host_addresses: Collection[str]) -> None:
    """Forget the flows to these ports of the host. Raises KernelRefused."""
    own = frozenset(host_addresses)
    with Conntrack() as conntrack:
        for _, entries in find_published(conntrack, ports, own):
            conntrack.delete(entries)


def find_published(
    conntrack: Conntrack, ports: Sequence[PublishedPort], host_addresses: Collection[str]
) -> list[tuple[PublishedPort, set[ConntrackEntry]]]:
    """The flows to each of these ports of the host, wherever they lead. Raises KernelRefused."""
    tracked = conntrack.count()
    if tracked == 0:
        return []
    everything = conntrack.dump() if tracked <= FEW_FLOWS else None
    found = []
    for port in ports:
        candidates = (
            [entry for wanted in _filters(port) for entry in conntrack.dump(wanted)]
            if everything is None
            else [e for e in everything if _is_of(e, port)]
        )
        found.append((port, {e for e in candidates if _is_meant(e, port, host_addresses)}))
    return found


def flush_addresses(addresses: Collection[str]) -> None:
    """Forget the flows from and to addresses, also the translated ones. Raises KernelRefused."""
    wanted = frozenset(addresses)
    with Conntrack() as conntrack:
        tracked = conntrack.count()
        if tracked == 0:
            return
        if len(wanted) > FEW or tracked <= FEW_FLOWS:
            found = {entry for entry in conntrack.dump() if not wanted.isdisjoint(_ends(entry))}
        else:
            found = {
                entry
                for address in wanted
                for part in (
                    ConntrackFilter(original_source=address),
                    ConntrackFilter(original_destination=address),
                    ConntrackFilter(reply_source=address),
                )
                for entry in conntrack.dump(part)
            }
        conntrack.delete(found)


def _ends(entry: ConntrackEntry) -> tuple[str, ...]:
    return entry.original.source, entry.original.destination, entry.reply.source


def _filters(port: PublishedPort) -> Iterator[ConntrackFilter]:
    family = "ip6" if ":" in port.host_ip else "ip"
    if port.host_port_end - port.host_port >= FEW:
        yield ConntrackFilter(family=family, protocol=port.protocol)
        return
    for number in range(port.host_port, port.host_port_end + 1):
        yield ConntrackFilter(
            family=family, protocol=port.protocol, original_destination_port=number
        )


def _is_of(entry: ConntrackEntry, port: PublishedPort) -> bool:
    family = "ip6" if ":" in port.host_ip else "ip"
    return (entry.family, entry.original.protocol) == (family, port.protocol)


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
