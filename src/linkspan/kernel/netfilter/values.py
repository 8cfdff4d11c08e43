"""The data types of nftables and the bytes of their values.

Type numbers, sizes and byte orders are those that the `nft` program keeps in a set's
description (enum datatypes in nftables' include/datatype.h), so that it lists our sets with
their types. Values of host order types are packed in the machine's order, all others in
network order; in an interval set everything is in network order, since the kernel compares
byte by byte.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Mapping
from typing import NamedTuple

from linkspan.dataplane.objects import Part
from linkspan.errors import InvalidRequest

_TYPE_BITS = 6
"""Bits of one type in the number of a concatenation (nftables: TYPE_BITS)."""
IFNAME_SIZE = 16
VERDICT_TYPE = 0xFFFFFF00
"""NFT_DATA_VERDICT: the data type of a verdict map."""


class DataType(NamedTuple):
    """One nftables type. `size` in bytes."""

    name: str
    number: int
    size: int
    host_order: bool
    encode: Callable[[Part], bytes]
    decode: Callable[[bytes], Part]

    @property
    def padded(self) -> int:
        """Size in registers of four bytes."""
        return (self.size + 3) & ~3


def _refuse(kind: str, part: Part) -> InvalidRequest:
    return InvalidRequest(f"{part!r} is not a value of the nftables type {kind}")


def _text_type(
    name: str,
    number: int,
    size: int,
    pack: Callable[[str], bytes],
    unpack: Callable[[bytes], str],
) -> DataType:
    def encode(part: Part) -> bytes:
        try:
            packed = pack(part)  # type: ignore[arg-type]
        except (OSError, ValueError, TypeError, AttributeError):
            raise _refuse(name, part) from None
        if len(packed) != size:
            raise _refuse(name, part)
        return packed

    return DataType(name, number, size, False, encode, unpack)


def _number_type(
    name: str,
    number: int,
    size: int,
    *,
    host_order: bool = False,
    names: Mapping[str, int] | None = None,
) -> DataType:
    """A type of whole numbers, some of which have names; the first name of two is printed."""
    by_name = dict(names or {})
    order = sys.byteorder if host_order else "big"
    by_number: dict[bytes, Part] = {}
    for text, value in by_name.items():
        by_number.setdefault(value.to_bytes(size, order), text)
    by_text: dict[Part, bytes] = {
        text: value.to_bytes(size, order) for text, value in by_name.items()
    }

    def encode(part: Part) -> bytes:
        found = by_text.get(part)
        if found is not None:
            return found
        try:
            return int(part).to_bytes(size, order)
        except (ValueError, OverflowError):
            raise _refuse(name, part) from None

    def decode(data: bytes) -> Part:
        found = by_number.get(data)
        return int.from_bytes(data, order) if found is None else found

    return DataType(name, number, size, host_order, encode, decode)


def _pack_ifname(text: str) -> bytes:
    packed = text.encode()
    if not 0 < len(packed) < IFNAME_SIZE:
        raise ValueError
    return packed.ljust(IFNAME_SIZE, b"\0")


def _unpack_ifname(data: bytes) -> str:
    return data.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _pack_ipv6(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, text)


def _unpack_ipv6(data: bytes) -> str:
    return socket.inet_ntop(socket.AF_INET6, data)


def _pack_ipv4(text: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, text)


def _pack_mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def _unpack_mac(data: bytes) -> str:
    return data.hex(":")


CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUSES = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 0x10, "dnat": 0x20,
    "dying": 0x200,
}  # fmt: skip
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128}
ETHER_TYPES = {
    "ip": 0x0800, "arp": 0x0806, "ip6": 0x86DD, "vlan": 0x8100, "8021q": 0x8100, "8021ad": 0x88A8,
}  # fmt: skip
PROTOCOLS = {
    "tcp": 6, "udp": 17, "sctp": 132, "icmp": 1, "ipv6-icmp": 58, "icmpv6": 58, "igmp": 2,
    "dccp": 33, "udplite": 136, "esp": 50, "ah": 51, "comp": 108, "gre": 47,
}  # fmt: skip
_ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5,
    "echo-request": 8, "router-advertisement": 9, "router-solicitation": 10,
    "time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13,
    "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17,
    "address-mask-reply": 18,
}  # fmt: skip
_ICMPV6_TYPES = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3,
    "parameter-problem": 4, "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130,
    "mld-listener-report": 131, "mld-listener-done": 132, "nd-router-solicit": 133,
    "nd-router-advert": 134, "nd-neighbor-solicit": 135, "nd-neighbor-advert": 136,
    "nd-redirect": 137, "router-renumbering": 138, "mld2-listener-report": 143,
}  # fmt: skip
_FIB_TYPES = {
    "unspec": 0, "unicast": 1, "local": 2, "broadcast": 3, "anycast": 4, "multicast": 5,
    "blackhole": 6, "unreachable": 7, "prohibit": 8,
}  # fmt: skip


def _pack_verdict(part: Part) -> bytes:
    raise _refuse("verdict", part)  # pragma: no cover - verdicts are nested attributes


TYPES: dict[str, DataType] = {
    kind.name: kind
    for kind in (
        DataType("verdict", 1, 4, True, _pack_verdict, lambda data: data.hex()),
        _number_type("nf_proto", 2, 1, host_order=True, names={"ipv4": 2, "ipv6": 10}),
        _number_type("integer", 4, 4),
        _text_type("ipv4_addr", 7, 4, _pack_ipv4, socket.inet_ntoa),
        _text_type("ipv6_addr", 8, 16, _pack_ipv6, _unpack_ipv6),
        _text_type("ether_addr", 9, 6, _pack_mac, _unpack_mac),
        _number_type("ether_type", 10, 2, names=ETHER_TYPES),
        _number_type("arp_op", 11, 2, names={"request": 1, "reply": 2}),
        _number_type("inet_proto", 12, 1, names=PROTOCOLS),
        _number_type("inet_service", 13, 2),
        _number_type("icmp_type", 14, 1, names=_ICMP_TYPES),
        _number_type("tcp_flag", 15, 1, host_order=True, names=TCP_FLAGS),
        _number_type("mark", 19, 4, host_order=True),
        _number_type("iface_index", 20, 4, host_order=True, names={"lo": 1}),
        _number_type("iface_type", 21, 2, host_order=True, names={"ether": 1, "loopback": 772}),
        _number_type("uid", 24, 4, host_order=True),
        _number_type("gid", 25, 4, host_order=True),
        _number_type("ct_state", 26, 4, host_order=True, names=CT_STATES),
        _number_type("ct_dir", 27, 1, host_order=True, names={"original": 0, "reply": 1}),
        _number_type("ct_status", 28, 4, host_order=True, names=CT_STATUSES),
        _number_type("icmpv6_type", 29, 1, names=_ICMPV6_TYPES),
        _number_type(
            "pkt_type", 31, 1, host_order=True,
            names={"host": 0, "unicast": 0, "broadcast": 1, "multicast": 2, "other": 3},
        ),
        _number_type("devgroup", 35, 4, host_order=True, names={"default": 0}),
        _number_type("fib_addrtype", 38, 4, host_order=True, names=_FIB_TYPES),
        _text_type("ifname", 41, IFNAME_SIZE, _pack_ifname, _unpack_ifname),
    )
}  # fmt: skip
"""Every type that linkspan can compare with or keep in a set, by nftables' name."""

_BY_NUMBER = {kind.number: kind for kind in TYPES.values()}


def find_type(name: str) -> DataType:
    """The type of this name. Raises InvalidRequest for one that is not known."""
    try:
        return TYPES[name]
    except KeyError:
        known = ", ".join(sorted(TYPES))
        raise InvalidRequest(f"nftables type {name!r} is not known; known are {known}") from None


def resized(kind: DataType, size: int) -> DataType:
    """A whole-number type of another size: header fields that have no type of their own."""
    return _number_type(kind.name, kind.number, size, host_order=kind.host_order)


def type_number(names: tuple[str, ...]) -> int:
    """NFTA_SET_KEY_TYPE of a row of types: six bits each, the first one highest."""
    number = 0
    for name in names:
        number = number << _TYPE_BITS | find_type(name).number
    return number


def type_names(number: int) -> tuple[str, ...] | None:
    """The row of types behind a key type number, None when one of them is not known."""
    names: list[str] = []
    while number:
        kind = _BY_NUMBER.get(number & (1 << _TYPE_BITS) - 1)
        if kind is None:
            return None
        names.insert(0, kind.name)
        number >>= _TYPE_BITS
    return tuple(names)


def split_prefix(part: Part, kind: DataType) -> tuple[bytes, bytes] | None:
    """First and last address of a prefix ("10.20.0.0/24"), None when `part` is none."""
    if not isinstance(part, str) or "/" not in part or kind.name not in ("ipv4_addr", "ipv6_addr"):
        return None
    text, _, bits = part.partition("/")
    packed = kind.encode(text)
    width = kind.size * 8
    if not bits.isdecimal() or int(bits) > width:
        raise _refuse(kind.name, part)
    free = (1 << width - int(bits)) - 1
    value = int.from_bytes(packed, "big")
    return (value & ~free).to_bytes(kind.size, "big"), (value | free).to_bytes(kind.size, "big")


def prefix_mask(part: Part, kind: DataType) -> tuple[bytes, bytes, int]:
    """(network address, mask, prefix length) of a prefix. `part` must be one."""
    ends = split_prefix(part, kind)
    assert ends is not None and isinstance(part, str)
    bits = int(part.partition("/")[2])
    width = kind.size * 8
    mask = ((1 << width) - 1) ^ ((1 << width - bits) - 1)
    return ends[0], mask.to_bytes(kind.size, "big"), bits


def join_range(first: bytes, last: bytes, kind: DataType) -> str | None:
    """The range as a prefix or a single address, None when it is neither."""
    if first == last:
        return str(kind.decode(first))
    if kind.name not in ("ipv4_addr", "ipv6_addr"):
        return None
    low, high = int.from_bytes(first, "big"), int.from_bytes(last, "big")
    size = high - low + 1
    if size & size - 1 or low & size - 1:
        return None
    return f"{kind.decode(first)}/{kind.size * 8 - size.bit_length() + 1}"
