"""Host ports that processes of the host listen on. A published port would take their packets."""

from __future__ import annotations

import ipaddress
from bisect import bisect_left
from collections.abc import Iterable

import msgspec


class HostSocket(msgspec.Struct, frozen=True, kw_only=True):
    """A socket of a process in the host's network namespace.

    `state` is "listening", "bound" (a datagram socket that takes packets from anyone) or
    "connected"; only a connected one is no obstacle. An IPv6 wildcard that is not `v6only`
    takes IPv4 too. `process` and `pid` where they are known.
    """

    protocol: str
    address: str
    port: int
    state: str = "listening"
    v6only: bool = False
    process: str | None = None
    pid: int | None = None

    def __str__(self) -> str:
        who = self.process or "a process"
        return f"{who} (pid {self.pid})" if self.pid is not None else who


class Listeners:
    """The sockets that a published port would clash with."""

    def __init__(self, sockets: Iterable[HostSocket]) -> None:
        self._by_protocol: dict[str, list[HostSocket]] = {}
        for socket in sockets:
            if socket.state != "connected" and socket.port:
                self._by_protocol.setdefault(socket.protocol, []).append(socket)
        for listening in self._by_protocol.values():
            listening.sort(key=_port)

    def find(self, protocol: str, host_ip: str, first: int, last: int) -> HostSocket | None:
        """The lowest of these host ports that something listens on at this address."""
        listening = self._by_protocol.get(protocol, [])
        for index in range(bisect_left(listening, first, key=_port), len(listening)):
            socket = listening[index]
            if socket.port > last:
                break
            if takes_packets_of(socket, host_ip):
                return socket
        return None


def takes_packets_of(socket: HostSocket, host_ip: str) -> bool:
    """Whether a packet to `host_ip`, or to any address of that version if it is a wildcard,
    could be for this socket (the kernel's rule for a second bind, net/ipv6/inet6_hashtables.c).
    """
    own, wanted = ipaddress.ip_address(socket.address), ipaddress.ip_address(host_ip)
    if isinstance(own, ipaddress.IPv6Address):
        if own.ipv4_mapped:
            own = own.ipv4_mapped
        elif own.is_unspecified and not socket.v6only:
            return True
    if own.version != wanted.version:
        return False
    return own.is_unspecified or wanted.is_unspecified or own == wanted


def describe_listener(protocol: str, host_ip: str, socket: HostSocket) -> str:
    """One line about a clash with a socket: the port, the process, where it listens."""
    at = f" at {socket.address}" if socket.address != host_ip else ""
    return f"port {socket.port}/{protocol} on {host_ip}: {socket} listens on it{at}"


def _port(socket: HostSocket) -> int:
    return socket.port
