"""The bytes of the kernel floor's messages, packed before any clock starts.

Packed by hand (linux/rtnetlink.h, linux/if_link.h, linux/netfilter/nf_tables.h), so that the
floor owes nothing to the codec that it is the measure of.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from linkspan.dataplane import Element
from linkspan.drivers.firewall import TABLES

_NEWLINK, _DELLINK, _NEWADDR, _NEWROUTE = 16, 17, 20, 24
_REQUEST, _ACK, _EXCLUSIVE, _CREATE = 1, 4, 0x200, 0x400
_UP = 1
_ROUTE_PROTOCOL = 0x6C
_NEW_ELEMENTS, _DELETE_ELEMENTS = 10 << 8 | 12, 10 << 8 | 14
_BATCH_BEGIN, _BATCH_END = 16, 17
_FAMILIES = {"inet": 1, "bridge": 7}
_PROTOCOLS = {"tcp": 6, "udp": 17, "sctp": 132}
INSIDE_INDEX = 2
"""What a fresh namespace calls its first link after lo; checked once, in `FloorHost.check`."""


def _message(kind: int, flags: int, sequence: int, payload: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, sequence, 0) + payload


def _attribute(kind: int, payload: bytes) -> bytes:
    padding = bytes(-len(payload) % 4)
    return struct.pack("=HH", 4 + len(payload), kind) + payload + padding


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, struct.pack("=I", value))


def _link_header(flags: int = 0) -> bytes:
    return struct.pack("=BxHiII", 0, 0, 0, flags, flags)


def pack_links(port: str, bridge: int, mtu: int, mac: bytes, alias: str) -> tuple[bytes, int]:
    """A veth pair with its port on the bridge; and where the namespace's descriptor goes."""
    marker = 0x5EED5EED
    peer = (
        _link_header()  # a veth cannot be up before its pair is complete (veth_open)
        + _text(3, "eth0")
        + _attribute(1, mac)
        + _number(4, mtu)
        + _number(28, marker)
    )
    info = _text(1, "veth") + _attribute(2, _attribute(1, peer))
    create = _message(
        _NEWLINK,
        _REQUEST | _CREATE | _EXCLUSIVE,
        1,
        _link_header() + _text(3, port) + _number(4, mtu) + _number(10, bridge)
        + _attribute(18, info),
    )  # fmt: skip
    hairpin = _attribute(18, _text(4, "bridge") + _attribute(5, _attribute(4, b"\1")))
    no_link_local = _attribute(26, _attribute(socket.AF_INET6, _attribute(8, b"\1")))
    settings = _message(
        _NEWLINK,
        _REQUEST,
        2,
        _link_header() + _text(3, port) + _text(20, alias) + hairpin + no_link_local,
    )
    up = _message(_NEWLINK, _REQUEST | _ACK, 3, _link_header(_UP) + _text(3, port))
    data = create + settings + up
    return data, data.index(struct.pack("=I", marker))


def pack_inside(address: str, length: int, gateway: str) -> bytes:
    """Both links up, the address, and the default route."""
    packed = socket.inet_aton(address)
    up = b"".join(
        _message(_NEWLINK, _REQUEST, 1, struct.pack("=BxHiII", 0, 0, index, _UP, _UP))
        for index in (1, INSIDE_INDEX)
    )
    new_address = _message(
        _NEWADDR,
        _REQUEST | _CREATE | _EXCLUSIVE,
        2,
        struct.pack("=BBBBI", socket.AF_INET, length, 0, 0, INSIDE_INDEX)
        + _attribute(2, packed)
        + _attribute(1, packed),
    )
    route = _message(
        _NEWROUTE,
        _REQUEST | _ACK | _CREATE | _EXCLUSIVE,
        3,
        struct.pack("=BBBBBBBBI", socket.AF_INET, 0, 0, 0, 254, _ROUTE_PROTOCOL, 0, 1, 0)
        + _attribute(5, socket.inet_aton(gateway))
        + _number(4, INSIDE_INDEX),
    )
    return up + new_address + route


def pack_elements(elements: Sequence[Element], *, add: bool) -> bytes:
    """One transaction that adds or deletes elements; those of one set share messages."""
    kind = _NEW_ELEMENTS if add else _DELETE_ELEMENTS
    by_set: dict[tuple[str, str, str], list[bytes]] = {}
    for element in elements:
        place = (element.family, element.table, element.set)
        by_set.setdefault(place, []).append(_pack_element(element, add))
    bodies: list[bytes] = []
    for (family, table, set_name), items in by_set.items():
        head = struct.pack(">BBH", _FAMILIES[family], 0, 0) + _text(1, table) + _text(2, set_name)
        step = 400
        for start in range(0, len(items), step):
            listed = b"".join(items[start : start + step])
            bodies.append(head + _attribute(3 | 0x8000, listed))
    edge = struct.pack(">BBH", 0, 0, 10)
    flags = _REQUEST | (_CREATE if add else 0)
    messages = [_message(_BATCH_BEGIN, _REQUEST, 0, edge)]
    for number, body in enumerate(bodies, 1):
        ack = _ACK if number == len(bodies) else 0
        messages.append(_message(kind, flags | ack, number, body))
    messages.append(_message(_BATCH_END, _REQUEST, len(bodies) + 1, edge))
    return b"".join(messages)


_DEFINITIONS = {(table.family, table.name, one.name): one for table in TABLES for one in table.sets}


def _pack_element(element: Element, with_data: bool) -> bytes:
    definition = _DEFINITIONS[element.family, element.table, element.set]
    concatenated = len(definition.key) > 1
    parts = [_value(1, _pack_key(definition.key, element.first, concatenated))]
    if definition.interval:
        # A concatenation keeps both ends in one element (nft_set_pipapo.c).
        assert concatenated, "the floor knows only intervals of concatenations"
        last = element.last or element.first
        parts.append(_value(10, _pack_key(definition.key, last, concatenated)))
    if with_data and definition.data is not None:
        assert element.data is not None
        parts.append(_value(2, _pack_key(definition.data, element.data, len(definition.data) > 1)))
    return _attribute(1 | 0x8000, b"".join(parts))


def _value(kind: int, data: bytes) -> bytes:
    return _attribute(kind | 0x8000, _attribute(1, data))


def _pack_key(types: Sequence[str], parts: Sequence[object], padded: bool) -> bytes:
    packed = b""
    for kind, part in zip(types, parts, strict=True):
        one = _pack_part(kind, str(part))
        packed += one + bytes(-len(one) % 4) if padded else one
    return packed


def _pack_part(kind: str, text: str) -> bytes:
    match kind:
        case "ifname":
            return text.encode().ljust(16, b"\0")
        case "ether_addr":
            return bytes.fromhex(text.replace(":", ""))
        case "ipv4_addr":
            return socket.inet_aton(text)
        case "inet_proto":
            return bytes([_PROTOCOLS[text]])
        case "inet_service":
            return struct.pack(">H", int(text))
    raise ValueError(f"the floor does not know the type {kind}")


def pack_link_removal(port: str) -> bytes:
    """The message that deletes a link by name."""
    return _message(_DELLINK, _REQUEST | _ACK, 1, bytes(16) + _text(3, port))
