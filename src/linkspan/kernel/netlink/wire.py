"""The bytes of netlink messages and attributes (RFC 3549; linux/netlink.h).

A message is a 16-byte header (length, type, flags, sequence number, port id), a fixed part
that its type defines, and attributes. An attribute is a length, a type and a payload, each
padded to four bytes. Numbers are in host order except where a function says otherwise.

This is the hot path of every change, so bytes are made once, joined once, and read from
the buffer they arrived in.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from typing import Final, Literal

# Flags of a message header.
REQUEST = 0x1
MULTI = 0x2
ACK = 0x4
ECHO = 0x8
DUMP_INTERRUPTED = 0x10
DUMP = 0x300
REPLACE = 0x100
EXCLUDE = 0x200
CREATE = 0x400
APPEND = 0x800
# Flags of an answer (type ERROR).
CAPPED = 0x100
ACK_ATTRIBUTES = 0x200

# Types that are the same in every netlink family.
NOOP = 1
ERROR = 2
DONE = 3
OVERRUN = 4

NESTED = 0x8000
"""Flag of an attribute's type: the payload is attributes."""
_TYPE_MASK = 0x3FFF

HEADER_SIZE = 16
ORDER: Final[Literal["little", "big"]] = sys.byteorder
"""The byte order of this machine."""
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")

_pack_header = _HEADER.pack
_unpack_header = _HEADER.unpack_from
_pack_attribute = _ATTRIBUTE.pack
_unpack_attribute = _ATTRIBUTE.unpack_from
_pack_u8 = struct.Struct("=HHBxxx").pack
_pack_u16 = struct.Struct("=HHHxx").pack
_pack_u16_big = struct.Struct("=HH2sxx").pack
_pack_u32 = struct.Struct("=HHI").pack
_pack_s32 = struct.Struct("=HHi").pack
_pack_u64 = struct.Struct("=HHQ").pack


def pack_message(type: int, flags: int, sequence: int, payload: bytes) -> bytes:
    """One message. `payload` is the fixed part and the attributes.

    Give sequence 0 to messages for `NetlinkSocket.request` and `dump`: they number them.
    """
    return _pack_header(HEADER_SIZE + len(payload), type, flags, sequence, 0) + payload


def attribute(type: int, payload: bytes) -> bytes:
    """One attribute, padded."""
    size = len(payload)
    return _pack_attribute(size + 4, type) + payload + _PADDING[size & 3]


def nested(type: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes; sets the flag NLA_F_NESTED."""
    payload = b"".join(parts)
    return _pack_attribute(len(payload) + 4, type | NESTED) + payload


def attribute_u8(type: int, value: int) -> bytes:
    """An attribute of one byte."""
    return _pack_u8(5, type, value)


def attribute_u16(type: int, value: int) -> bytes:
    """An attribute of two bytes, in host order."""
    return _pack_u16(6, type, value)


def attribute_u16_big(type: int, value: int) -> bytes:
    """An attribute of two bytes, in network order (ports, ethertypes)."""
    return _pack_u16_big(6, type, value.to_bytes(2, "big"))


def attribute_u32(type: int, value: int) -> bytes:
    """An attribute of four bytes, in host order."""
    return _pack_u32(8, type, value)


def attribute_s32(type: int, value: int) -> bytes:
    """An attribute of a signed number of four bytes, in host order."""
    return _pack_s32(8, type, value)


def attribute_u64(type: int, value: int) -> bytes:
    """An attribute of eight bytes, in host order."""
    return _pack_u64(12, type, value)


def attribute_text(type: int, value: str) -> bytes:
    """An attribute of text with its terminating zero byte."""
    return attribute(type, value.encode() + b"\0")


def parse_messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """The messages of one datagram: (type, flags, sequence, payload)."""
    start, end = 0, len(data)
    while end - start >= HEADER_SIZE:
        size, type, flags, sequence, _ = _unpack_header(data, start)
        if size < HEADER_SIZE or size > end - start:
            raise ValueError(f"netlink message of {size} bytes in {end - start} bytes")
        yield type, flags, sequence, data[start + HEADER_SIZE : start + size]
        start += (size + 3) & ~3


def parse_attributes(data: bytes, start: int = 0) -> dict[int, bytes]:
    """The attributes from offset `start` to the end of `data`, by type without its flags.

    Of several attributes with one type the last is kept: use `iterate_attributes` for lists.
    """
    found: dict[int, bytes] = {}
    end = len(data) - 3
    while start < end:
        size, type = _unpack_attribute(data, start)
        if size < 4:
            break
        found[type & _TYPE_MASK] = data[start + 4 : start + size]
        start += (size + 3) & ~3
    return found


def iterate_attributes(data: bytes, start: int = 0) -> Iterator[tuple[int, bytes]]:
    """The attributes from offset `start` to the end of `data`, in order: (type, payload)."""
    end = len(data) - 3
    while start < end:
        size, type = _unpack_attribute(data, start)
        if size < 4:
            break
        yield type & _TYPE_MASK, data[start + 4 : start + size]
        start += (size + 3) & ~3


def pack_u32s(*values: int) -> bytes:
    """Numbers of four bytes in host order, side by side (parts of fixed headers)."""
    return struct.pack(f"={len(values)}I", *values)


def read_u16(payload: bytes) -> int:
    """A number of two bytes in host order."""
    return int.from_bytes(payload[:2], ORDER)


def read_u32(payload: bytes) -> int:
    """A number of four bytes in host order."""
    return int.from_bytes(payload[:4], ORDER)


def read_s32(payload: bytes) -> int:
    """A signed number of four bytes in host order."""
    return int.from_bytes(payload[:4], ORDER, signed=True)


def read_text(payload: bytes) -> str:
    """Text up to its zero byte."""
    return payload.rstrip(b"\0").decode(errors="surrogateescape")
