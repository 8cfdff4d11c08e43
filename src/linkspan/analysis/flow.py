"""What is sent: one packet of a flow, as its sender or a stranger puts it on the way."""

from __future__ import annotations

import msgspec

from linkspan.analysis.addresses import version_of

PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132}
PROTOCOL_NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "ipv6-icmp", 132: "sctp"}
WITH_PORTS = frozenset((6, 17, 33, 132, 136))
"""Protocols whose header begins with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite."""
EPHEMERAL = 49152
"""The source port of a flow that names none: the first dynamic one (RFC 6335)."""


class Flow(msgspec.Struct, frozen=True, kw_only=True):
    """A 5-tuple with marks, and the link that it comes in by.

    Without `source` the sender's kernel chooses one. For ICMP the "ports" are the echo
    identifier. `link` is None where a process sends.
    """

    destination: str
    destination_port: int = 0
    source: str | None = None
    source_port: int = EPHEMERAL
    protocol: str = "tcp"
    mark: int = 0
    link: str | None = None

    @property
    def version(self) -> int:
        """4 or 6."""
        return version_of(self.destination)

    def inverted(self) -> Flow:
        """The flow of the answer."""
        return Flow(
            source=self.destination,
            source_port=self.destination_port,
            destination=self.source or "",
            destination_port=self.source_port,
            protocol=self.protocol,
        )

    def __str__(self) -> str:
        source = "?" if self.source is None else self.source
        if self.protocol not in ("tcp", "udp", "sctp"):
            return f"{source} -> {self.destination} {self.protocol}"
        return (
            f"{join(source, self.source_port)} -> "
            f"{join(self.destination, self.destination_port)} {self.protocol}"
        )


def join(address: str, port: int) -> str:
    """Address and port as people write them: IPv6 in brackets."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
