"""One nf_tables transaction: messages that the kernel carries out together or not at all.

A batch is one datagram between NFNL_MSG_BATCH_BEGIN and NFNL_MSG_BATCH_END
(nfnetlink_rcv_batch in net/netfilter/nfnetlink.c). The kernel reports every message that
fails and then undoes all of them. It answers before the send call returns; only the last
message asks for an acknowledgement, so that an answer always comes.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

from linkspan.errors import KernelRefused
from linkspan.kernel.netlink import wire
from linkspan.kernel.netlink.socket import NetlinkSocket, Overrun, read_refusal

SUBSYSTEM = 10
"""NFNL_SUBSYS_NFTABLES"""
_BATCH_BEGIN, _BATCH_END = 0x10, 0x11
_MESSAGE_OFFSET = 2
"""NLMSGERR_ATTR_OFFS: where in the message the refused attribute starts."""
_USUAL_SIZE = 64 << 10
"""Bytes that fit any socket's send buffer."""
_TRIES = 20
_PASSING = (errno.EAGAIN, errno.ENOBUFS, errno.EINTR, 512)
"""512 is ERESTART, which the kernel lets out when another transaction came between."""

FAMILIES = {"inet": 1, "ip": 2, "arp": 3, "netdev": 5, "bridge": 7, "ip6": 10}
FAMILY_NAMES = {number: name for name, number in FAMILIES.items()}

# nf_tables message types (linux/netfilter/nf_tables.h).
NEW_TABLE, GET_TABLE, DELETE_TABLE = 0, 1, 2
NEW_CHAIN, GET_CHAIN, DELETE_CHAIN = 3, 4, 5
NEW_RULE, GET_RULE, DELETE_RULE = 6, 7, 8
NEW_SET, GET_SET, DELETE_SET = 9, 10, 11
NEW_ELEMENT, GET_ELEMENT, DELETE_ELEMENT = 12, 13, 14
NEW_GENERATION, GET_GENERATION = 15, 16
DESTROY_ELEMENT = 30
"""Since Linux 6.3; to remove what is not there is no error."""

_header_u32 = struct.Struct("=I")


class Message(NamedTuple):
    """One message of a batch. `describe` names what the attribute at an offset is about."""

    type: int
    flags: int
    family: int
    body: bytes
    describe: Callable[[int], str]


class Failure(NamedTuple):
    """A message that the kernel refused. `place` counts from 0, -1 stands for the whole batch."""

    place: int
    errno: int
    offset: int
    detail: str


def netfilter_header(family: int, resource: int = 0) -> bytes:
    """The header struct nfgenmsg: family, version 0, resource id in network order."""
    return struct.pack(">BBH", family, 0, resource)


def pack_request(type: int, family: int, body: bytes = b"", flags: int = 0) -> bytes:
    """A single nf_tables request, outside a batch: for dumps and queries."""
    return wire.pack_message(SUBSYSTEM << 8 | type, flags, 0, netfilter_header(family) + body)


def send_batch(sock: NetlinkSocket, messages: Sequence[Message]) -> tuple[Failure, ...]:
    """Carry out the messages as one transaction; what the kernel refused, () for done.

    Passing failures (another transaction came between, no memory for an instant) are tried
    again. Raises KernelRefused when the datagram cannot be sent.
    """
    failures: tuple[Failure, ...] = ()
    for _ in range(_TRIES):
        failures = _send_once(sock, messages)
        if not failures or failures[0].errno not in _PASSING:
            return failures
    return failures


def _send_once(sock: NetlinkSocket, messages: Sequence[Message]) -> tuple[Failure, ...]:
    first = sock.next_sequence(len(messages) + 2)
    last = first + len(messages)
    edge = netfilter_header(0, SUBSYSTEM)
    parts = [wire.pack_message(_BATCH_BEGIN, wire.REQUEST, first, edge)]
    for number, message in enumerate(messages, first + 1):
        flags = message.flags | wire.REQUEST | (wire.ACK if number == last else 0)
        body = netfilter_header(message.family) + message.body
        parts.append(wire.pack_message(SUBSYSTEM << 8 | message.type, flags, number, body))
    parts.append(wire.pack_message(_BATCH_END, wire.REQUEST, last + 1, edge))
    data = b"".join(parts)
    if len(data) > _USUAL_SIZE:
        sock.set_send_buffer(2 * len(data))
    try:
        sock.send(data)
    except OSError as error:
        raise KernelRefused(
            f"sending {len(data)} bytes of firewall changes", error.errno or 0
        ) from error
    try:
        return _collect(sock, first, last)
    except Overrun:
        # Nothing tells whether it was done. Doing it twice is the same as doing it once.
        return (Failure(-1, errno.ENOBUFS, 0, "the kernel's answer was lost"),)


def _collect(sock: NetlinkSocket, first: int, last: int) -> tuple[Failure, ...]:
    failures: list[Failure] = []
    while True:
        for type, flags, number, payload in wire.parse_messages(sock.receive()):
            if type != wire.ERROR or not first <= number <= last:
                continue
            refusal = read_refusal(flags, payload)
            if refusal is not None:
                offset = _refused_offset(flags, payload)
                failures.append(Failure(number - first - 1, refusal.errno, offset, refusal.detail))
            if number in (first, last):
                return tuple(sorted(failures))


def _refused_offset(flags: int, payload: bytes) -> int:
    """Offset of the refused attribute in its message, 0 when the kernel did not say."""
    if not flags & wire.ACK_ATTRIBUTES:
        return 0
    start = 20 if flags & wire.CAPPED else 4 + (_header_u32.unpack_from(payload, 4)[0] + 3 & ~3)
    found = wire.parse_attributes(payload, start).get(_MESSAGE_OFFSET)
    return _header_u32.unpack(found)[0] if found else 0
