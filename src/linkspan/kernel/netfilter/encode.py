"""The bytes of nf_tables expressions, the instructions that rules are made of.

One function an expression; attribute numbers are those of linux/netfilter/nf_tables.h.
Registers are counted here in words of four bytes: `register` gives the kernel's number.
"""

from __future__ import annotations

import struct
import sys
from typing import Final

from linkspan.kernel.netlink.wire import attribute, attribute_text, nested

EQUAL, NOT_EQUAL, LESS, LESS_EQUAL, GREATER, GREATER_EQUAL = range(6)
LINK_HEADER, NETWORK_HEADER, TRANSPORT_HEADER = range(3)
SNAT, DNAT = 0, 1

LITTLE: Final = sys.byteorder == "little"
_u32 = struct.Struct(">I").pack
_u64 = struct.Struct(">Q").pack


def number(type: int, value: int) -> bytes:
    """An attribute of four bytes in network order, as nf_tables has them."""
    return attribute(type, _u32(value))


def register(word: int) -> int:
    """The kernel's number of the register that starts at a word (enum nft_registers)."""
    return 1 + word // 4 if word % 4 == 0 else 8 + word


def value(type: int, data: bytes) -> bytes:
    """A constant (NFTA_DATA_VALUE)."""
    return nested(type, attribute(1, data))


def expression(name: str, *attributes: bytes) -> bytes:
    """One list item: an expression's name and its attributes."""
    return nested(1, attribute_text(1, name), nested(2, *attributes))


def load_meta(key: int, word: int) -> bytes:
    """Packet metadata into a register (enum nft_meta_keys)."""
    return expression("meta", number(2, key), number(1, register(word)))


def store_meta(key: int, word: int) -> bytes:
    """A register into packet metadata."""
    return expression("meta", number(2, key), number(3, register(word)))


def load_payload(base: int, offset: int, size: int, word: int) -> bytes:
    """Header bytes into a register."""
    return expression(
        "payload", number(1, register(word)), number(2, base), number(3, offset), number(4, size)
    )


def store_port(offset: int, checksum_offset: int, word: int) -> bytes:
    """A register into a port of the transport header, whose checksum is put right."""
    return expression(
        "payload", number(5, register(word)), number(2, TRANSPORT_HEADER), number(3, offset),
        number(4, 2), number(6, 1), number(7, checksum_offset), number(8, 0),
    )  # fmt: skip


def store_address(offset: int, size: int, word: int) -> bytes:
    """A register into an address of an IPv6 header, which has no checksum of its own; those
    of TCP, UDP and ICMPv6 cover addresses and are put right (NFT_PAYLOAD_L4CSUM_PSEUDOHDR).
    """
    return expression(
        "payload", number(5, register(word)), number(2, NETWORK_HEADER), number(3, offset),
        number(4, size), number(6, 0), number(7, 0), number(8, 1),
    )  # fmt: skip


def load_ct(key: int, direction: int | None, word: int) -> bytes:
    """A connection's field into a register (enum nft_ct_keys); direction 0 original, 1 reply."""
    way = b"" if direction is None else attribute(3, bytes((direction,)))
    return expression("ct", number(2, key), number(1, register(word)), way)


def store_ct(key: int, word: int) -> bytes:
    """A register into a connection's field."""
    return expression("ct", number(2, key), number(4, register(word)))


def load_fib(result: int, flags: int, word: int) -> bytes:
    """The answer of a route look-up into a register."""
    return expression("fib", number(3, flags), number(2, result), number(1, register(word)))


def compare(word: int, op: int, data: bytes) -> bytes:
    """Stops the rule unless the register relates to `data`."""
    return expression("cmp", number(1, register(word)), number(2, op), value(3, data))


def outside(word: int, first: bytes, last: bytes) -> bytes:
    """Stops the rule when the register lies in a range (NFT_RANGE_NEQ)."""
    return expression(
        "range", number(1, register(word)), number(2, 1), value(3, first), value(4, last)
    )


def mask(word: int, mask_bytes: bytes, xor: bytes) -> bytes:
    """Set a register to (register & mask) ^ xor."""
    return expression(
        "bitwise", number(1, register(word)), number(2, register(word)),
        number(3, len(mask_bytes)), value(4, mask_bytes), value(5, xor),
    )  # fmt: skip


def to_network_order(word: int, size: int) -> bytes:
    """Swap a number of `size` bytes in a register, where the machine's order is another."""
    return expression(
        "byteorder", number(1, register(word)), number(2, register(word)), number(3, 1),
        number(4, size), number(5, size),
    )  # fmt: skip


def constant(word: int, data: bytes) -> bytes:
    """A constant into a register."""
    return expression("immediate", number(1, register(word)), value(2, data))


def verdict(data: bytes) -> bytes:
    """Ends the rule with a verdict; `data` is the packed verdict."""
    return expression("immediate", number(1, 0), nested(2, data))


def look_up(name: str, set_id: int, word: int, *, result: int | None = None,
            invert: bool = False) -> bytes:  # fmt: skip
    """Look a key up in a set; `result` is the register number for a map's data, 0 a verdict."""
    parts = [attribute_text(1, name), number(2, register(word))]
    if result is not None:
        parts.append(number(3, result))
    if set_id:
        parts.append(number(4, set_id))
    if invert:
        parts.append(number(5, 1))
    return expression("lookup", *parts)


def nat(kind: int, family: int, address: tuple[int | None, int | None],
        port: tuple[int | None, int | None], flags: int) -> bytes:  # fmt: skip
    """Translate to the addresses and ports in registers (lowest and highest, words)."""
    parts = [number(1, kind), number(2, family)]
    for type, word in zip((3, 4, 5, 6), (*address, *port), strict=True):
        if word is not None:
            parts.append(number(type, register(word)))
    if flags:
        parts.append(number(7, flags))
    return expression("nat", *parts)


def masquerade(flags: int, port: tuple[int | None, int | None]) -> bytes:
    """Translate the source to the address of the interface that it leaves by."""
    parts = [number(1, flags)] if flags else []
    parts += [number(t, register(w)) for t, w in zip((2, 3), port, strict=True) if w is not None]
    return expression("masq", *parts)


def redirect(flags: int, port: tuple[int | None, int | None]) -> bytes:
    """Translate the destination to the host itself."""
    parts = [number(t, register(w)) for t, w in zip((1, 2), port, strict=True) if w is not None]
    if flags:
        parts.append(number(3, flags))
    return expression("redir", *parts)


def reject(type: int, code: int | None) -> bytes:
    """Answer with an error (enum nft_reject_types); a TCP reset has no code."""
    if code is None:
        return expression("reject", number(1, type))
    return expression("reject", number(1, type), attribute(2, bytes((code,))))


def count(packets: int, size: int) -> bytes:
    """Count packets and bytes."""
    if not packets and not size:
        return expression("counter")
    return expression("counter", attribute(1, _u64(size)), attribute(2, _u64(packets)))


def log(prefix: str) -> bytes:
    """Write a line to the kernel's log."""
    return expression("log", attribute_text(2, prefix)) if prefix else expression("log")


def limit(rate: int, seconds: int, burst: int, over: bool) -> bytes:
    """Hold while a rate of packets is not exceeded; `over`: when it is."""
    return expression(
        "limit", attribute(1, _u64(rate)), attribute(2, _u64(seconds)), number(3, burst),
        number(4, 0), number(5, int(over)),
    )  # fmt: skip


def notrack() -> bytes:
    """Leave the packet out of connection tracking."""
    return expression("notrack")
