r"""DNS messages as bytes: questions read by hand, answers built from parts.

Names are in wire form (RFC 1035, section 3.1) and lower case where they are looked up:
b"\x02db\x04shop\x00". Nothing here knows what is asked for.
"""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

A, PTR, HINFO, TXT, AAAA, SRV, OPT, IXFR, AXFR, ANY = 1, 12, 13, 16, 28, 33, 41, 251, 252, 255
INTERNET = 1
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16
HEADER = 12
LARGEST_NAME = 255
SMALLEST_LIMIT = 512
"""What every client takes by UDP (RFC 1035, section 2.3.4)."""
LARGEST_UDP = 4096
"""More is not sent in a datagram, whatever a client offers to take."""
BLOCKED, PROHIBITED, NETWORK_ERROR = 15, 18, 23
"""Extended DNS errors (RFC 8914, section 4)."""

_counts = struct.Struct(">HHHH")
_two = struct.Struct(">HH")
_record = struct.Struct(">HHIH")
_NAME_POINTER = b"\xc0\x0c"
"""The name of the question, wherever an answer needs it (RFC 1035, section 4.1.4)."""


class Malformed(Exception):
    """A message that cannot be understood."""


class Edns(NamedTuple):
    """What a client's OPT record says (RFC 6891)."""

    size: int
    version: int
    dnssec: bool
    has_options: bool


class Question(NamedTuple):
    """A well-formed question. `wire` is the whole message, `end` where its question ends."""

    wire: bytes
    name: bytes
    type: int
    klass: int
    end: int
    edns: Edns | None

    @property
    def limit(self) -> int:
        """The largest datagram that the client takes, in bytes."""
        if self.edns is None:
            return SMALLEST_LIMIT
        return min(max(self.edns.size, SMALLEST_LIMIT), LARGEST_UDP)


def read_question(wire: bytes) -> Question:
    """Read a query with one question. Raises Malformed; looks at neither id nor opcode."""
    if len(wire) < HEADER:
        raise Malformed
    questions, answers, authorities, additional = _counts.unpack_from(wire, 4)
    if questions != 1 or answers or authorities or additional > 2:
        raise Malformed
    try:
        end = _skip_plain_name(wire, HEADER)
        type, klass = _two.unpack_from(wire, end)
        name = wire[HEADER:end].lower()
        end += 4
        edns, rest = None, end
        for _ in range(additional):
            start = rest
            rest = skip_name(wire, start)
            kind, size, ttl, length = _record.unpack_from(wire, rest)
            rest += 10 + length
            if kind == OPT:
                if edns is not None or wire[start]:
                    raise Malformed
                edns = Edns(size, ttl >> 16 & 0xFF, bool(ttl & 0x8000), bool(length))
    except (IndexError, struct.error):
        raise Malformed from None
    if rest != len(wire):
        raise Malformed
    return Question(wire, name, type, klass, end, edns)


def _skip_plain_name(wire: bytes, start: int) -> int:
    """Where an uncompressed name ends. Raises Malformed, IndexError."""
    position = start
    while length := wire[position]:
        if length > 63:
            raise Malformed
        position += length + 1
    if position + 1 - start > LARGEST_NAME:
        raise Malformed
    return position + 1


def skip_name(wire: bytes, start: int) -> int:
    """Where a name ends in its place, be it compressed or not. Raises Malformed, IndexError."""
    position = start
    while length := wire[position]:
        if length >= 0xC0:
            return position + 2
        if length > 63:
            raise Malformed
        position += length + 1
    return position + 1


def encode_name(text: str) -> bytes | None:
    """A name in wire form and lower case; None when DNS cannot say it."""
    parts = []
    for label in text.rstrip(".").split("."):
        data = label.lower().encode("utf-8")
        if not 0 < len(data) < 64:
            return None
        parts.append(bytes((len(data),)) + data)
    wire = b"".join(parts) + b"\0"
    return wire if len(wire) <= LARGEST_NAME else None


def labels_of(name: bytes) -> list[bytes]:
    """The labels of a well-formed name."""
    labels, position = [], 0
    while length := name[position]:
        labels.append(name[position + 1 : position + 1 + length])
        position += length + 1
    return labels


def reverse_name(address: str) -> bytes:
    """The name that is asked for to find out whose an address is."""
    wire = encode_name(ipaddress.ip_address(address).reverse_pointer)
    assert wire is not None
    return wire


def read_reverse_name(name: bytes) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """The address, or the prefix, that a reverse name stands for; None for other names."""
    labels = labels_of(name)
    try:
        if labels[-2:] == [b"in-addr", b"arpa"] and 2 < len(labels) <= 6:
            octets = [int(label) for label in labels[-3::-1]]
            number = int.from_bytes(bytes(octets + [0] * (4 - len(octets))), "big")
            return ipaddress.IPv4Network((number, 8 * len(octets)))
        if labels[-2:] == [b"ip6", b"arpa"] and 2 < len(labels) <= 34:
            digits = b"".join(labels[-3::-1])
            if len(digits) != len(labels) - 2:
                return None
            return ipaddress.IPv6Network((int(digits.ljust(32, b"0"), 16), 4 * len(digits)))
    except ValueError:
        pass
    return None


def encode_address(address: str) -> bytes:
    """The data of an A or AAAA record."""
    return ipaddress.ip_address(address).packed


def record(type: int, ttl: int, data: bytes, owner: bytes = _NAME_POINTER) -> bytes:
    """One record of class IN; its owner is the name asked for unless stated."""
    return owner + _record.pack(type, INTERNET, ttl, len(data)) + data


def compose(
    question: Question,
    code: int,
    answers: list[bytes],
    additional: list[bytes],
    limit: int,
    authoritative: bool = True,
    error: int | None = None,
) -> bytes:
    """A whole answer but for its first two bytes, the id.

    What does not fit into `limit` bytes is left out: additional records silently, answers
    with the mark that says so (TC). `error` is an extended DNS error, told to clients that
    know EDNS.
    """
    wire = question.wire
    option = _compose_option(question, code, error)
    room = limit - question.end - len(option)
    size, kept = 0, 0
    for answer in answers:
        size += len(answer)
        if size > room:
            break
        kept += 1
    truncated = kept < len(answers)
    if truncated or size + sum(map(len, additional)) > room:
        additional = []
    flags = 0x8080 | wire[2] << 8 & 0x7900 | wire[3] & 0x10 | code & 15
    flags |= (0x0400 if authoritative else 0) | (0x0200 if truncated else 0)
    return b"".join(
        (
            struct.pack(">HHHHH", flags, 1, kept, 0, len(additional) + (1 if option else 0)),
            wire[HEADER : question.end],
            *answers[:kept],
            *additional,
            option,
        )
    )


def _compose_option(question: Question, code: int, error: int | None) -> bytes:
    if question.edns is None:
        return b""
    data = b"" if error is None else struct.pack(">HHH", 15, 2, error)
    ttl = code >> 4 << 24 | (0x8000 if question.edns.dnssec else 0)
    return b"\0" + _record.pack(OPT, LARGEST_UDP, ttl, len(data)) + data


def compose_bare(wire: bytes, code: int) -> bytes:
    """An answer without anything, for messages that cannot be understood; with its id."""
    return wire[:2] + bytes((0x80 | wire[2] & 0x79, 0x80 | code)) + bytes(8)
