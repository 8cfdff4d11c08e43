"""Sockets that wait for packets: listening TCP and SCTP, bound UDP (NETLINK_SOCK_DIAG).

The kernel tells a socket's inode, not its process: that is found by looking through
/proc/*/fd, which takes milliseconds, and only when somebody asks.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Collection, Iterable, Iterator
from socket import AF_INET, AF_INET6, inet_pton
from typing import NamedTuple

import msgspec

from linkspan.errors import KernelRefused
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import SOCK_DIAG, NetlinkSocket
from linkspan.kernel.netlink.text import address_text

_BY_FAMILY, _DESTROY = 20, 21
_EVERY_STATE = 0xFFFFFFFF
_ANY_COOKIE = 0xFFFFFFFF
_V6ONLY = 11
_LISTEN = 10
_CLOSE = 7
_PROTOCOLS = {"tcp": (6, _LISTEN), "udp": (17, _CLOSE), "sctp": (132, _LISTEN)}
"""Number of the protocol, and the state of a socket that takes packets from anybody."""

# struct inet_diag_req_v2 and inet_diag_msg (linux/inet_diag.h); ports in network order.
_request = struct.Struct("=BBBxI48x")
_start = struct.Struct("=BBBxI")
_identity = struct.Struct("=2s2s16s16sIII")
"""struct inet_diag_sockid"""
# struct packet_diag_req and packet_diag_msg (linux/packet_diag.h).
_tap_request = struct.Struct("=BxxxxxxxI8x")
_tap_answer = struct.Struct("=BBHIII")
_AF_PACKET = 17
_answer = struct.Struct("=BBBB2s2s16s16sI8xIIIII")


class BoundSocket(msgspec.Struct, frozen=True, kw_only=True):
    """A socket that takes packets to a port from anybody who can send there.

    `state` is "listening" or, for datagrams, "bound". An IPv6 wildcard without `v6only`
    takes IPv4 packets too. `link` is the index of the link that it is bound to, 0 for any.
    """

    protocol: str
    address: str
    port: int
    state: str
    v6only: bool = False
    link: int = 0
    inode: int = 0
    uid: int = 0


class Tap(NamedTuple):
    """A socket that sees whole frames of an Ethernet type (3 for all), on one link or, with
    index 0, on all.
    """

    protocol: int
    link: int
    inode: int


class Process(msgspec.Struct, frozen=True):
    """A process by its number and the name of its program (/proc/PID/comm)."""

    pid: int
    name: str


def list_bound(
    namespace: int | None = None, protocols: Iterable[str] = ("tcp", "udp", "sctp")
) -> list[BoundSocket]:
    """The sockets of a namespace that wait for packets.

    `namespace` is an open file descriptor, None for the calling thread's own. A protocol
    that the kernel cannot list (it is not built in, or a module that nobody uses) has none.
    Raises KernelRefused.
    """
    with NetlinkSocket(SOCK_DIAG, namespace) as sock:
        return read_bound(sock, protocols)


def read_bound(
    sock: NetlinkSocket,
    protocols: Iterable[str] = ("tcp", "udp", "sctp"),
    absent: set[str] | None = None,
) -> list[BoundSocket]:
    """`list_bound` by a socket that is open already. `absent` gathers protocols that the kernel
    cannot list, so that it need not be asked again in the next namespace.
    """
    found: list[BoundSocket] = []
    for protocol in protocols:
        if absent is not None and protocol in absent:
            continue
        number, state = _PROTOCOLS[protocol]
        for family in (AF_INET, AF_INET6):
            request = wire.pack_message(
                _BY_FAMILY, 0, 0, _request.pack(family, number, 0, 1 << state)
            )
            try:
                rows = sock.dump(request, f"listing {protocol} sockets")
            except KernelRefused:
                if protocol == "sctp":
                    if absent is not None:
                        absent.add(protocol)
                    break
                raise
            found += (_decode(protocol, payload) for _, payload in rows)
    return found


def read_taps(sock: NetlinkSocket) -> list[Tap]:
    """The sockets of a namespace that see whole frames; none where the kernel cannot list them."""
    try:
        rows = sock.dump(wire.pack_message(_BY_FAMILY, 0, 0, _tap_request.pack(_AF_PACKET, 1)))
    except KernelRefused:
        return []
    found = []
    for _, payload in rows:
        _, _, protocol, inode, _, _ = _tap_answer.unpack_from(payload)
        info = wire.parse_attributes(payload, _tap_answer.size).get(0, b"")
        found.append(Tap(protocol, wire.read_u32(info[:4]) if len(info) >= 4 else 0, inode))
    return found


def _decode(protocol: str, payload: bytes) -> BoundSocket:
    family, state, _, _, port, _, source, _, link, _, _, _, uid, inode = _answer.unpack_from(
        payload
    )
    v6only = wire.parse_attributes(payload, _answer.size).get(_V6ONLY)
    return BoundSocket(
        protocol=protocol,
        address=address_text(source if family == AF_INET6 else source[:4]),
        port=int.from_bytes(port, "big"),
        state="listening" if state == _LISTEN else "bound",
        v6only=bool(v6only and v6only[0]),
        link=link,
        inode=inode,
        uid=uid,
    )


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A TCP connection as one end sees it."""

    address: str
    port: int
    remote_address: str
    remote_port: int


def break_connections(connections: Iterable[Connection], namespace: int | None = None) -> bool:
    """End TCP connections at the end that is in a namespace: its program gets an error, and
    the other end a reset. Those that are no more do not matter.

    Returns False when this kernel cannot do that (CONFIG_INET_DIAG_DESTROY).
    Raises KernelRefused.
    """
    with NetlinkSocket(SOCK_DIAG, namespace) as sock:
        for one in connections:
            family = AF_INET6 if ":" in one.address else AF_INET
            identity = _identity.pack(
                one.port.to_bytes(2, "big"),
                one.remote_port.to_bytes(2, "big"),
                inet_pton(family, one.address),
                inet_pton(family, one.remote_address),
                0,
                _ANY_COOKIE,
                _ANY_COOKIE,
            )
            body = _start.pack(family, _PROTOCOLS["tcp"][0], 0, _EVERY_STATE) + identity
            (refusal,) = sock.request([wire.pack_message(_DESTROY, 0, 0, body)])
            if refusal is None or refusal.errno == errno.ENOENT:
                continue
            if refusal.errno == errno.EOPNOTSUPP:
                return False
            raise refusal.as_error(
                f"ending the connection of {one.remote_address} port {one.remote_port} "
                f"to {one.address} port {one.port}"
            )
    return True


def find_processes(inodes: Collection[int]) -> dict[int, list[Process]]:
    """The processes that hold sockets, by the sockets' inodes.

    Needs root to see other users' processes. Those that end meanwhile are left out.
    """
    wanted = {f"socket:[{inode}]": inode for inode in inodes}
    found: dict[int, list[Process]] = {}
    if not wanted:
        return found
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        held = {wanted[target] for target in _descriptors(name) if target in wanted}
        if held:
            process = Process(int(name), _program(name))
            for inode in held:
                found.setdefault(inode, []).append(process)
    return found


def _descriptors(pid: str) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        try:
            yield os.readlink(f"{folder}/{name}")
        except OSError:
            continue


def _program(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm") as file:
            return file.read().strip()
    except OSError:
        return ""
