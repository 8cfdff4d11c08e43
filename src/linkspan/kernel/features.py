"""What this kernel can do, found by trying it in a namespace that nobody else sees.

Asking for a feature may load the kernel module that has it, as its first use would.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import msgspec

from linkspan.dataplane.diff import Add
from linkspan.dataplane.links import (
    Bridge,
    Dummy,
    Ipvlan,
    LinkKind,
    Macvlan,
    Other,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.dataplane.objects import Link
from linkspan.dataplane.rules import Table
from linkspan.errors import KernelRefused, LinkspanError, PermissionRefused
from linkspan.kernel.netfilter.firewall import Firewall
from linkspan.kernel.netlink import links
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket

T = TypeVar("T")

_CLONE_NEWNET = 0x40000000
_PARENT = "probe0"
_ABSENT = (errno.EOPNOTSUPP, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENOENT, errno.ENODEV)

LINK_KINDS: dict[str, LinkKind] = {
    "bridge": Bridge(),
    "macvlan": Macvlan(parent=_PARENT, mode="bridge"),
    "ipvlan": Ipvlan(parent=_PARENT, mode="l2"),
    "vlan": Vlan(parent=_PARENT, vlan=7),
    "vxlan": Vxlan(vni=7, port=4789),
    "dummy": Dummy(),
    "wireguard": Other(name="wireguard"),
    "vrf": Other(name="vrf"),
    "ifb": Other(name="ifb"),
}
"""Kinds of links to try besides veth, which all of them begin with."""


class Finding(msgspec.Struct, frozen=True):
    """Whether a feature is there; `detail` is the kernel's own reason where it is not.

    `present` None means that it could not be found out.
    """

    present: bool | None
    detail: str = ""


class Features(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    links: dict[str, Finding]
    """By kind."""
    firewall: Finding
    """Whether the kernel takes every table that it was tried with."""
    firewall_ownership: Finding
    """Whether tables can belong to a socket (Linux 6.9), so that another's flush misses them."""
    ipv6: Finding
    sctp: Finding
    bridge_hooks: str | None
    """Value of bridge-nf-call-iptables in a new namespace; None without br_netfilter."""


def probe_features(tables: Sequence[Table]) -> Features:
    """Try everything, the firewall with these tables.

    Raises:
        PermissionRefused: this process may not make a network namespace.
    """

    def probe(namespace: int) -> Features:
        return Features(
            links=dict(probe_links(namespace)),
            firewall=probe_tables(namespace, tables),
            firewall_ownership=probe_ownership(namespace),
            ipv6=probe_ipv6(),
            sctp=probe_socket(socket.AF_INET, socket.SOCK_STREAM, 132),
            bridge_hooks=read_setting("bridge/bridge-nf-call-iptables"),
        )

    return in_scratch_namespace(probe)


def in_scratch_namespace(function: Callable[[int], T]) -> T:
    """Call with a descriptor of a new network namespace, on a thread that is in it.

    The namespace goes with the thread and the descriptor.

    Raises:
        PermissionRefused: this process may not make a network namespace.
    """
    results: list[T] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.unshare(_CLONE_NEWNET) != 0:
                raise PermissionRefused(
                    f"making a network namespace: {os.strerror(ctypes.get_errno())}; run as root"
                )
            descriptor = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            try:
                results.append(function(descriptor))
            finally:
                os.close(descriptor)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work, name="probe")
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def probe_links(namespace: int) -> Iterator[tuple[str, Finding]]:
    """Try every kind of link, each with a parent where it needs one."""
    with NetlinkSocket(ROUTE, namespace) as sock:
        parent = Link(name=_PARENT, kind=Veth(peer_name="probe1"), up=True)
        yield "veth", try_link(sock, parent)
        for number, (name, kind) in enumerate(LINK_KINDS.items()):
            yield name, try_link(sock, Link(name=f"try{number}", kind=kind))


def try_link(sock: NetlinkSocket, link: Link) -> Finding:
    """Make a link."""

    def index_of(name: str) -> int:
        return socket.if_nametoindex(name)

    try:
        messages = links.create(link, index_of)
    except OSError as error:
        return Finding(None, f"nothing to try it on: {error.strerror}")
    refusals = sock.request(messages)
    refusal = next((one for one in refusals if one is not None), None)
    if refusal is None:
        return Finding(True)
    detail = refusal.detail or os.strerror(refusal.errno)
    # A kind that exists refuses what it lacks in other words: the VRF wants a table, for one.
    known = refusal.errno not in (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
    if known:
        return Finding(True, detail)
    return Finding(False if refusal.errno == errno.EOPNOTSUPP else None, detail)


def probe_tables(namespace: int, tables: Sequence[Table]) -> Finding:
    """Load tables."""
    try:
        with Firewall(namespace, own=False) as firewall:
            firewall.transaction([Add(table) for table in tables])
    except KernelRefused as error:
        return Finding(None if error.errno in (errno.EPERM, errno.EACCES) else False, str(error))
    except LinkspanError as error:
        return Finding(False, str(error))
    return Finding(True)


def probe_ownership(namespace: int) -> Finding:
    """Make a table that belongs to its socket and outlives it."""
    try:
        with Firewall(namespace) as firewall:
            return Finding(firewall.supports_owner())
    except LinkspanError as error:
        return Finding(None, str(error))


def probe_ipv6() -> Finding:
    """Open an IPv6 socket, and see that addresses can be had."""
    found = probe_socket(socket.AF_INET6, socket.SOCK_DGRAM, 0)
    if not found.present:
        return Finding(found.present, f"{found.detail}: started with ipv6.disable=1?")
    if read_setting("ipv6/conf/default/disable_ipv6") == "1":
        return Finding(False, "net.ipv6.conf.default.disable_ipv6 is 1")
    return found


def probe_socket(family: int, kind: int, protocol: int) -> Finding:
    """Open a socket of a protocol."""
    try:
        socket.socket(family, kind, protocol).close()
    except OSError as error:
        return Finding(False if error.errno in _ABSENT else None, error.strerror or "")
    return Finding(True)


def read_setting(path: str) -> str | None:
    """A setting below /proc/sys/net in the calling thread's namespace; None if there is none."""
    with contextlib.suppress(OSError), open(f"/proc/sys/net/{path}") as file:
        return file.read().strip()
    return None
