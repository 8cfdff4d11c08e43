"""What else can decide about packets in a namespace, and is not read: only that it is there."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator

from linkspan.errors import KernelRefused
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import NetlinkSocket

_XFRM = 6
_GETPOLICY = 21
_policy_id = struct.Struct("=64x")
"""struct xfrm_userpolicy_id (linux/xfrm.h); all zero asks for all."""
_IPVS_HEADER = 3
"""Lines in front of the services of /proc/net/ip_vs."""
_EBTABLES = frozenset(("ebtable_filter", "ebtable_nat", "ebtable_broute"))


def describe_unread() -> Iterator[str]:
    """What is in use in the calling thread's namespace and not understood, a sentence each."""
    arp = _read("/proc/thread-self/net/arp_tables_names").split()
    if arp:
        yield f"tables of the old arptables ({', '.join(arp)}) may drop ARP; they are not read"
    bridges = sorted(_EBTABLES.intersection(_modules()))
    if bridges:
        yield (
            f"the old ebtables may be in use ({', '.join(bridges)}) and drop what bridges "
            "forward; its rules are not read"
        )
    services = _read("/proc/thread-self/net/ip_vs").splitlines()[_IPVS_HEADER:]
    count = sum(not line.lstrip().startswith("->") for line in services)
    if count:
        yield f"IPVS distributes {_count(count, 'service')} to other hosts; it is not understood"
    count = _count_policies()
    if count:
        yield (
            f"{_count(count, 'IPsec polic')} may wrap or drop what they hold for; "
            "they are not understood"
        )


def _count(number: int, word: str) -> str:
    if word.endswith("c"):
        return f"{number} {word}{'y' if number == 1 else 'ies'}"
    return f"{number} {word}{'' if number == 1 else 's'}"


def _modules() -> set[str]:
    return {line.partition(" ")[0] for line in _read("/proc/modules").splitlines()}


def _count_policies() -> int:
    """IPsec policies that are not a socket's own; 0 also when they may not be read."""
    try:
        with NetlinkSocket(_XFRM, only_dumps=True) as sock:
            return len(list(sock.dump(wire.pack_message(_GETPOLICY, 0, 0, _policy_id.pack()))))
    except KernelRefused:
        return 0


def _read(path: str) -> str:
    """A small file, "" when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        parts = []
        while part := os.read(descriptor, 65536):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    finally:
        os.close(descriptor)
