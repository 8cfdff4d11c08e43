"""Published ports as elements of the constant maps: one hash element a port, one interval
element a range whose numbers are the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from linkspan.dataplane import Element
from linkspan.drivers import firewall
from linkspan.drivers.loopback6 import describe_answering
from linkspan.drivers.records import PublishedPort

EVERY_ADDRESS = ("0.0.0.0", "::")


def describe_direct(ports: Iterable[PublishedPort], address: str) -> Iterator[Element]:
    """The set elements that open a container's own ports at its own `address`.

    Ports inside that meet or overlap become one element: the kernel takes no two that do.
    None for a port that is published on one address of the host: nobody sends there.
    """
    spans = sorted(
        (port.protocol, port.port, port.port_end) for port in ports if port.host_ip in EVERY_ADDRESS
    )
    merged: list[tuple[str, int, int]] = []
    for protocol, first, last in spans:
        if merged and merged[-1][0] == protocol and first <= merged[-1][2] + 1:
            merged[-1] = (protocol, merged[-1][1], max(last, merged[-1][2]))
        else:
            merged.append((protocol, first, last))
    for protocol, first, last in merged:
        yield firewall.inet(
            "direct6" if ":" in address else "direct",
            *(address, protocol, first),
            last=(address, protocol, last),
        )


def describe_published(port: PublishedPort, address: str) -> Iterator[Element]:
    """The elements that lead `port` to a container's `address` of the same family."""
    yield from describe_answering(port)
    six = "6" if ":" in address else ""
    everywhere = port.host_ip in EVERY_ADDRESS
    prefix: tuple[str, ...] = () if everywhere else (port.host_ip,)
    at = "" if everywhere else "_at"
    if port.host_port == port.port and port.host_port_end > port.host_port:
        yield firewall.inet(
            f"ranges{at}{six}",
            *prefix,
            port.protocol,
            port.host_port,
            last=(*prefix, port.protocol, port.host_port_end),
            data=(address,),
        )
        return
    for offset in range(port.host_port_end - port.host_port + 1):
        yield firewall.inet(
            f"ports{at}{six}",
            *prefix,
            port.protocol,
            port.host_port + offset,
            data=(address, port.port + offset),
        )
