"""Sockets that wait for packets, as part of a data plane."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from linkspan.dataplane.objects import Key, Object


class Process(msgspec.Struct, frozen=True):
    """A process by its number, the name of its program (/proc/PID/comm) and its arguments."""

    pid: int
    name: str
    arguments: tuple[str, ...] = ()


class PacketSocket(Object, frozen=True, kw_only=True):
    """A socket that sees whole frames, besides whoever they are for (AF_PACKET): tcpdump, a
    DHCP client. It changes nothing about where packets go.

    `protocol` is an Ethernet type, 0x0003 for all; `link` the name of the one link that it
    looks at, None for all.
    """

    order: ClassVar[int] = 11
    protocol: int
    link: str | None = None
    processes: tuple[Process, ...] = ()

    @property
    def key(self) -> Key:
        return ("packet-socket", self.namespace, self.protocol, self.link)


class Listener(Object, frozen=True, kw_only=True):
    """A socket that takes packets from anybody who can send there.

    `address` is text, "0.0.0.0" or "::" for all; `link` the name of the link that the socket
    is bound to, None for any; `dual_stack` says that a socket of "::" takes IPv4 too. Several
    sockets that share all of this (SO_REUSEPORT) are one Listener with all their processes.
    """

    order: ClassVar[int] = 11
    protocol: str
    """tcp, udp or sctp"""
    address: str
    port: int
    link: str | None = None
    dual_stack: bool = False
    processes: tuple[Process, ...] = ()

    @property
    def key(self) -> Key:
        return (
            "listener", self.namespace, self.protocol, self.address, self.port, self.link,
            self.dual_stack,
        )  # fmt: skip
