"""What packets can carry: boxes of sources, destinations and ports.

`Headers` are those of one IP version and protocol: a set of sources, source ports, destinations
and destination ports, in every combination.
"""

from __future__ import annotations

import msgspec

from linkspan.analysis.addresses import WIDTH, to_prefix, to_text
from linkspan.analysis.intervals import Intervals, interval, range_text

ALL_PORTS = interval(0, 65535)
ALL_ADDRESSES = {version: interval(0, (1 << width) - 1) for version, width in WIDTH.items()}
FIELDS = ("destination", "destination_port", "source", "source_port")
"""The fields of a box, in the order in which it is taken apart: what is special about a source
is then looked at only for the destinations and ports where it is."""


def prefix_intervals(text: str) -> Intervals:
    """The addresses of a prefix. Raises ValueError for what is none."""
    prefix = to_prefix(text)
    return interval(prefix.network, prefix.last)


# Text ---------------------------------------------------------------------------------


def port_texts(ports: Intervals) -> list[str]:
    """Ports and ranges of ports: "80", "8000-8099"."""
    return [range_text(first, last) for first, last in ports]


def address_texts(addresses: Intervals, version: int) -> list[str]:
    """Addresses, prefixes, and ranges where no single prefix fits: "10.0.0.0/8",
    "10.0.0.1-10.0.0.6".
    """
    return [_addresses_text(first, last, version) for first, last in addresses]


def _addresses_text(first: int, last: int, version: int) -> str:
    if first == last:
        return to_text(first, version)
    size = last - first + 1
    if size & (size - 1) == 0 and first % size == 0:
        return f"{to_text(first, version)}/{WIDTH[version] - size.bit_length() + 1}"
    return f"{to_text(first, version)}-{to_text(last, version)}"


# Boxes --------------------------------------------------------------------------------


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """Headers of one IP version and protocol number: any source of these with any port of
    these, and so on. `source` is None where the sender's kernel chooses it.
    """

    version: int
    protocol: int
    destination: Intervals
    source: Intervals | None = None
    source_port: Intervals = ALL_PORTS
    destination_port: Intervals = ALL_PORTS

    @property
    def empty(self) -> bool:
        """Whether no packet has such headers."""
        return not all(
            field is None or field.edges
            for field in (self.source, self.source_port, self.destination, self.destination_port)
        )

    def holds(self, source: int | None, source_port: int, destination: int, port: int) -> bool:
        """Whether a packet's headers are among these."""
        return (
            (self.source is None or (source is not None and source in self.source))
            and source_port in self.source_port
            and destination in self.destination
            and port in self.destination_port
        )

    def __str__(self) -> str:
        source = "?" if self.source is None else ",".join(address_texts(self.source, self.version))
        return (
            f"{self.protocol}: {source} : {','.join(port_texts(self.source_port))} -> "
            f"{','.join(address_texts(self.destination, self.version))} : "
            f"{','.join(port_texts(self.destination_port))}"
        )


def subtract(box: Headers, taken: Headers) -> list[Headers]:
    """What is left of a box without another one of the same version and protocol, as disjoint
    boxes.
    """
    if intersect(box, taken) is None:
        return [box]
    left: list[Headers] = []
    for name in FIELDS:
        held, gone = getattr(box, name), getattr(taken, name)
        if held is None or gone is None:
            continue
        rest = held - gone
        if rest.edges:
            left.append(msgspec.structs.replace(box, **{name: rest}))
            box = msgspec.structs.replace(box, **{name: held & gone})
    return left


def intersect(box: Headers, other: Headers) -> Headers | None:
    """What two boxes of the same version and protocol share, None for nothing."""
    changes: dict[str, Intervals] = {}
    for name in FIELDS:
        one, two = getattr(box, name), getattr(other, name)
        if one is None or two is None:
            continue
        changes[name] = one & two
        if not changes[name].edges:
            return None
    return msgspec.structs.replace(box, **changes)
