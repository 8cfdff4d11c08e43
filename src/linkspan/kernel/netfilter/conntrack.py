"""Connection tracking: what the kernel remembers of flows, read and forgotten by filter.

Messages and attributes are those of linux/netfilter/nfnetlink_conntrack.h. A flow that is
already known keeps its translation when a map changes; for UDP, where nothing ends a flow
but silence, its entry has to be deleted (net/netfilter/nf_conntrack_netlink.c).
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable, Iterator

from linkspan.errors import KernelRefused
from linkspan.kernel.netfilter.batch import netfilter_header
from linkspan.kernel.netfilter.encode import number
from linkspan.kernel.netfilter.flows import (
    ConntrackEntry,
    ConntrackFilter,
    FlowTuple,
    describe_flow,
)
from linkspan.kernel.netfilter.values import PROTOCOLS
from linkspan.kernel.netlink.socket import NETFILTER, NetlinkSocket, Refusal
from linkspan.kernel.netlink.wire import attribute, nested, pack_message, parse_attributes

_SUBSYSTEM = 1
_CHANGE, _GET, _DELETE, _GET_STATISTICS = 0, 1, 2, 5
_ORIGINAL, _REPLY, _STATUS, _TIMEOUT, _MARK, _ID, _ZONE, _FILTER = 1, 2, 3, 7, 8, 12, 18, 25
_MARK_MASK = 21
_IP, _PROTOCOL = 1, 2
_HEADER = 4
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_ICMP_FIELDS = {1: (4, 5, 6), 58: (7, 8, 9)}
"""Attributes of id, type and code, by protocol."""
_STATUS_BITS = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 0x10, "dnat": 0x20,
    "dying": 0x200, "template": 0x800, "offload": 0x4000,
}  # fmt: skip
# Bits of CTA_FILTER_ORIG_FLAGS and CTA_FILTER_REPLY_FLAGS (nf_internals.h).
_BY_SOURCE, _BY_DESTINATION, _BY_PROTOCOL, _BY_SOURCE_PORT, _BY_DESTINATION_PORT = (
    1 << 0, 1 << 1, 1 << 3, 1 << 4, 1 << 5,
)  # fmt: skip

_u16 = struct.Struct(">H")
_FAMILY_NUMBERS = {"ip": int(socket.AF_INET), "ip6": int(socket.AF_INET6)}
_UNSPECIFIED = int(socket.AF_UNSPEC)
_FAMILY_NAMES = {number_: name for name, number_ in _FAMILY_NUMBERS.items()}
_PROTOCOL_NAMES = {number_: name for name, number_ in reversed(PROTOCOLS.items())}
_PROTOCOL_NAMES[58] = "icmpv6"


ANY = ConntrackFilter()


class Conntrack:
    """The connection tracking table of one namespace. One thread at a time may use it.

    `namespace` is an open file descriptor, None for the calling thread's own.
    """

    def __init__(self, namespace: int | None = None) -> None:
        self._socket = NetlinkSocket(NETFILTER, namespace)

    def __enter__(self) -> Conntrack:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def count(self) -> int:
        """How many flows the namespace tracks."""
        answer = self._socket.query(_request(_GET_STATISTICS, 0))
        if isinstance(answer, Refusal):
            raise answer.as_error("counting tracked flows")
        return int.from_bytes(parse_attributes(answer[1], _HEADER)[1], "big")

    def dump(self, wanted: ConntrackFilter = ANY) -> tuple[ConntrackEntry, ...]:
        """The tracked flows that a filter means; the kernel selects them where it can (5.8)."""
        try:
            rows = list(self._dump(wanted, select=True))
        except KernelRefused as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
                raise
            rows = list(self._dump(wanted, select=False))
        return tuple(rows)

    def _dump(self, wanted: ConntrackFilter, select: bool) -> Iterator[ConntrackEntry]:
        families = _families(wanted)
        if len(families) > 1 and not (select and _pack_filter(wanted, families[0])):
            families = ("any",)  # one walk through the table, which is the same for both
        for family in families:
            body = _pack_filter(wanted, family) if select and family != "any" else b""
            request = _request(_GET, _FAMILY_NUMBERS.get(family, _UNSPECIFIED), body)
            for _, payload in self._socket.dump(request, "reading tracked flows"):
                entry = read_entry(payload)
                if wanted.matches(entry):
                    yield entry

    def delete(self, entries: Iterable[ConntrackEntry]) -> int:
        """Forget these flows; how many were still there.

        Raises KernelRefused naming the flow for any refusal but that it is gone.
        """
        rows = list(entries)
        # A deletion without a tuple would empty the table: every message carries one.
        messages = [
            _request(_DELETE, _FAMILY_NUMBERS[row.family], _pack_identity(row)) for row in rows
        ]
        done = 0
        for row, refusal in zip(rows, self._socket.request(messages), strict=True):
            if refusal is None:
                done += 1
            elif refusal.errno != errno.ENOENT:
                raise refusal.as_error(f"forgetting the flow {describe_flow(row.original)}")
        return done

    def mark(self, entries: Iterable[ConntrackEntry], bits: int) -> int:
        """Set bits of these flows' marks, and leave the others; how many were still there.

        Raises KernelRefused naming the flow for any refusal but that it is gone.
        """
        rows = list(entries)
        setting = number(_MARK, bits) + number(_MARK_MASK, bits)
        messages = [
            _request(_CHANGE, _FAMILY_NUMBERS[row.family], _pack_tuples(row) + setting)
            for row in rows
        ]
        done = 0
        for row, refusal in zip(rows, self._socket.request(messages), strict=True):
            if refusal is None:
                done += 1
            elif refusal.errno != errno.ENOENT:
                raise refusal.as_error(f"marking the flow {describe_flow(row.original)}")
        return done

    def delete_matching(self, wanted: ConntrackFilter) -> int:
        """Forget all flows that a filter means; how many there were."""
        return self.delete(self.dump(wanted))


def _request(type: int, family: int, body: bytes = b"") -> bytes:
    return pack_message(_SUBSYSTEM << 8 | type, 0, 0, netfilter_header(family) + body)


def _families(wanted: ConntrackFilter) -> tuple[str, ...]:
    if wanted.family is not None:
        return (wanted.family,)
    for address in (wanted.original_source, wanted.original_destination, wanted.reply_source):
        if address is not None:
            return ("ip6",) if ":" in address else ("ip",)
    return ("ip", "ip6")


def read_entry(payload: bytes) -> ConntrackEntry:
    """An entry from a message: struct nfgenmsg and attributes."""
    found = parse_attributes(payload, _HEADER)
    family = _FAMILY_NAMES[payload[0]]
    status = _big(found.get(_STATUS, b""))
    return ConntrackEntry(
        family=family,
        original=_read_tuple(found[_ORIGINAL]),
        reply=_read_tuple(found[_REPLY]),
        status=tuple(name for name, bit in _STATUS_BITS.items() if status & bit),
        mark=_big(found.get(_MARK, b"")),
        timeout=_big(found[_TIMEOUT]) if _TIMEOUT in found else None,
        zone=_big(found.get(_ZONE, b"")),
        id=_big(found.get(_ID, b"")),
    )


def _read_tuple(payload: bytes) -> FlowTuple:
    found = parse_attributes(payload)
    addresses, ports = parse_attributes(found[_IP]), parse_attributes(found[_PROTOCOL])
    if 1 in addresses:
        source, destination = socket.inet_ntoa(addresses[1]), socket.inet_ntoa(addresses[2])
    else:
        source = socket.inet_ntop(socket.AF_INET6, addresses[3])
        destination = socket.inet_ntop(socket.AF_INET6, addresses[4])
    protocol = ports[_NUMBER][0]
    icmp = _ICMP_FIELDS.get(protocol)
    return FlowTuple(
        source=source,
        destination=destination,
        protocol=_PROTOCOL_NAMES.get(protocol) or str(protocol),
        source_port=_big(ports[_SOURCE_PORT]) if _SOURCE_PORT in ports else None,
        destination_port=_big(ports[_DESTINATION_PORT]) if _DESTINATION_PORT in ports else None,
        icmp=None if icmp is None or icmp[0] not in ports else (
            _big(ports[icmp[0]]), ports[icmp[1]][0], ports[icmp[2]][0],
        ),
    )  # fmt: skip


def _protocol_number(name: str) -> int:
    return PROTOCOLS.get(name) or int(name)


def _pack_addresses(source: str | None, destination: str | None) -> bytes:
    parts = []
    for address, v4, v6 in ((source, 1, 3), (destination, 2, 4)):
        if address is not None:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            parts.append(attribute(v6 if ":" in address else v4, socket.inet_pton(family, address)))
    return nested(_IP, *parts)


def _pack_tuple(flow: FlowTuple) -> bytes:
    protocol = _protocol_number(flow.protocol)
    parts = [attribute(_NUMBER, bytes((protocol,)))]
    if flow.source_port is not None:
        parts.append(attribute(_SOURCE_PORT, _u16.pack(flow.source_port)))
    if flow.destination_port is not None:
        parts.append(attribute(_DESTINATION_PORT, _u16.pack(flow.destination_port)))
    if flow.icmp is not None and protocol in _ICMP_FIELDS:
        identifier, type, code = _ICMP_FIELDS[protocol]
        parts += [
            attribute(identifier, _u16.pack(flow.icmp[0])),
            attribute(type, bytes((flow.icmp[1],))),
            attribute(code, bytes((flow.icmp[2],))),
        ]
    return _pack_addresses(flow.source, flow.destination) + nested(_PROTOCOL, *parts)


def _pack_tuples(entry: ConntrackEntry) -> bytes:
    body = nested(_ORIGINAL, _pack_tuple(entry.original))
    if entry.zone:
        body += attribute(_ZONE, _u16.pack(entry.zone))
    return body


def _pack_identity(entry: ConntrackEntry) -> bytes:
    body = _pack_tuples(entry)
    if entry.id:
        body += number(_ID, entry.id)
    return body


def _pack_filter(wanted: ConntrackFilter, family: str) -> bytes:
    """The attributes by which the kernel selects entries, b"" when nothing is to be selected."""
    original, original_bits = _pack_half(
        wanted.protocol, wanted.original_source, wanted.original_destination, None,
        wanted.original_destination_port,
    )  # fmt: skip
    protocol = wanted.protocol if wanted.reply_source_port is not None else None
    reply, reply_bits = _pack_half(protocol, wanted.reply_source, None, wanted.reply_source_port,
                                   None)  # fmt: skip
    if not original_bits and not reply_bits:
        return b""
    parts = [nested(_ORIGINAL, original)] if original_bits else []
    parts += [nested(_REPLY, reply)] if reply_bits else []
    flags = struct.Struct("=I")
    parts.append(
        nested(
            _FILTER,
            attribute(1, flags.pack(original_bits)),
            attribute(2, flags.pack(reply_bits)),
        )
    )
    return b"".join(parts)


def _pack_half(
    protocol: str | None,
    source: str | None,
    destination: str | None,
    source_port: int | None,
    destination_port: int | None,
) -> tuple[bytes, int]:
    """One direction's tuple and the bits of what it states.

    The kernel reads ports only together with a protocol that has them. IPv6 addresses are
    left to `ConntrackFilter.matches`: ctnetlink_filter_match_tuple compares them the wrong
    way round (seen with 6.18).
    """
    bits = 0
    parts = []
    source, destination = (
        None if address is None or ":" in address else address for address in (source, destination)
    )
    if source is not None or destination is not None:
        parts.append(_pack_addresses(source, destination))
        bits |= (_BY_SOURCE if source else 0) | (_BY_DESTINATION if destination else 0)
    if protocol is not None:
        ports = [attribute(_NUMBER, bytes((_protocol_number(protocol),)))]
        bits |= _BY_PROTOCOL
        for port, type, bit in (
            (source_port, _SOURCE_PORT, _BY_SOURCE_PORT),
            (destination_port, _DESTINATION_PORT, _BY_DESTINATION_PORT),
        ):
            if port is not None:
                ports.append(attribute(type, _u16.pack(port)))
                bits |= bit
        parts.append(nested(_PROTOCOL, *ports))
    return b"".join(parts), bits


def _big(payload: bytes) -> int:
    return int.from_bytes(payload, "big")
