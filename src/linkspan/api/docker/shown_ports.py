"""Published ports as Docker shows them: one by one, also those of a range."""

from __future__ import annotations

import msgspec

from linkspan.drivers.records import PublishedPort


class PortSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One published port."""

    host_ip: str = msgspec.field(name="IP")
    port: int = msgspec.field(name="PrivatePort")
    host_port: int = msgspec.field(name="PublicPort")
    protocol: str = msgspec.field(name="Type")


class PortBinding(msgspec.Struct, frozen=True, rename="pascal"):
    """Where on the host a port is published; Docker writes the number as text."""

    host_ip: str
    host_port: str


def list_ports(ports: tuple[PublishedPort, ...]) -> list[PortSummary]:
    """Published ports one by one, as Docker lists ranges too."""
    return [
        PortSummary(
            host_ip=one.host_ip,
            port=one.port + offset,
            host_port=one.host_port + offset,
            protocol=one.protocol,
        )
        for one in ports
        for offset in range(one.host_port_end - one.host_port + 1)
    ]


def bind_ports(ports: tuple[PublishedPort, ...]) -> dict[str, list[PortBinding]]:
    """Published ports by what they lead to, "80/tcp"."""
    bindings: dict[str, list[PortBinding]] = {}
    for one in list_ports(ports):
        there = bindings.setdefault(f"{one.port}/{one.protocol}", [])
        there.append(PortBinding(one.host_ip, str(one.host_port)))
    return bindings
