"""Tracked flows as records, and filters that say which of them are meant."""

from __future__ import annotations

import msgspec


class FlowTuple(msgspec.Struct, frozen=True, kw_only=True):
    """One direction of a flow. Ports are None for protocols without; `icmp` is (id, type, code)."""

    source: str
    destination: str
    protocol: str
    """tcp, udp, sctp, icmp, icmpv6, ..., or a number as text."""
    source_port: int | None = None
    destination_port: int | None = None
    icmp: tuple[int, int, int] | None = None


class ConntrackEntry(msgspec.Struct, frozen=True, kw_only=True):
    """A tracked flow: as it was first seen, and as its answers look on the wire.

    `timeout` in seconds, None when the kernel did not say; `status` are names as in
    `ct status` (assured, dnat, ...); `id` tells two flows of one tuple apart.
    """

    family: str
    original: FlowTuple
    reply: FlowTuple
    status: tuple[str, ...] = ()
    mark: int = 0
    timeout: int | None = None
    zone: int = 0
    id: int = 0


class ConntrackFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which entries are meant: all stated fields must hold, None matches anything."""

    family: str | None = None
    """ip or ip6; follows from any stated address."""
    protocol: str | None = None
    original_source: str | None = None
    original_destination: str | None = None
    original_destination_port: int | None = None
    reply_source: str | None = None
    reply_source_port: int | None = None
    status: tuple[str, ...] = ()
    """Names that must all be set."""
    mark: int = 0
    """Bits of the mark that must all be set."""

    def matches(self, entry: ConntrackEntry) -> bool:
        """Whether an entry is meant."""
        original, reply = entry.original, entry.reply
        return (
            self.family in (None, entry.family)
            and self.protocol in (None, original.protocol)
            and self.original_source in (None, original.source)
            and self.original_destination in (None, original.destination)
            and self.original_destination_port in (None, original.destination_port)
            and self.reply_source in (None, reply.source)
            and self.reply_source_port in (None, reply.source_port)
            and set(self.status) <= set(entry.status)
            and entry.mark & self.mark == self.mark
        )


def describe_flow(flow: FlowTuple) -> str:
    """A flow as messages name it."""
    if flow.source_port is None:
        return f"{flow.protocol} {flow.source} to {flow.destination}"
    return (
        f"{flow.protocol} {flow.source} port {flow.source_port} to {flow.destination} "
        f"port {flow.destination_port}"
    )
