"""Catching the frames of one flow in a namespace, on all of its links, coming and going.

A packet socket per namespace shows what each link takes in, before any rule, and what it
sends, behind all rules (__netif_receive_skb_core and dev_queue_xmit_nit in net/core/dev.c).
The kernel filters by the sender's port, which stays what it is through most translations, and
by addresses where it may not.
"""

from __future__ import annotations

import contextlib
import ctypes
import socket
import struct
from collections.abc import Collection
from typing import NamedTuple

from linkspan.dataplane.sightings import ANSWER, ERROR, LATER, THERE, Headers, Sighting
from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import entered

_ANY_PROTOCOL = 0x0003
_OTHER_HOST, _OUTGOING = 3, 4
"""Packet types (linux/if_packet.h)."""
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_LARGEST = 256
_PROTOCOL_NUMBERS = {"tcp": 6, "udp": 17, "icmp": 1, "ipv6-icmp": 58}
_NAMES = {number: name for name, number in _PROTOCOL_NUMBERS.items()}
_ICMP = {4: 1, 6: 58}
_ECHO = {4: (8, 0), 6: (128, 129)}
_ERRORS = {4: frozenset((3, 5, 11, 12)), 6: frozenset((1, 2, 3, 4))}
_FIN, _SYN, _RESET, _ACK = 1, 2, 4, 16
_timespec = struct.Struct("@qq")

# Classic BPF (linux/filter.h).
_LOAD_BYTE, _LOAD_HALF, _LOAD_WORD, _LOAD_HALF_AT = 0x30, 0x28, 0x20, 0x48
_LOAD_HEADER_LENGTH, _JUMP_ALWAYS = 0xB1, 0x05
_AND, _JUMP_EQUAL, _JUMP_SET, _LOAD_INDEX, _RETURN = 0x54, 0x15, 0x45, 0x01, 0x06
_Line = tuple[int, int, int, int]


class Marks(NamedTuple):
    """By what packets of a flow are told from all others.

    `ports` are the sender's, also as translations change them; `pairs` are source, destination
    and its port as they are behind a translation that may give any port. For an echo the
    identifier counts as port, and the port of a pair is 0.
    """

    ports: frozenset[int]
    pairs: frozenset[tuple[str, str, int]] = frozenset()

    def by_sender(self, headers: Headers) -> bool | None:
        """Whether the flow's sender sent such a packet; None for another flow's."""
        if headers.source_port in self.ports:
            return True
        if headers.destination_port in self.ports:
            return False
        if (headers.source, headers.destination, headers.destination_port) in self.pairs:
            return True
        if (headers.destination, headers.source, headers.source_port) in self.pairs:
            return False
        return None

    def holds_echo(self, headers: Headers) -> bool:
        """Whether an echo request or reply is one of the flow's."""
        ends = headers.source, headers.destination
        near = {(*ends, 0), (*reversed(ends), 0)} & self.pairs
        return headers.source_port in self.ports or bool(near)


class Read(NamedTuple):
    """A packet taken apart. `note` tells of a reset or an ICMP error."""

    part: str
    headers: Headers
    note: str = ""


def read_packet(data: bytes, marks: Marks) -> Read | None:
    """The part that an IP packet plays in a flow.

    None for packets that are none of the flow's, or tell nothing (its data, its end).
    """
    if len(data) < 20:
        return None
    version = data[0] >> 4
    if version == 4:
        protocol, start = data[9], (data[0] & 15) * 4
        source, destination = (socket.inet_ntoa(data[n : n + 4]) for n in (12, 16))
    elif version == 6 and len(data) >= 40:
        protocol, start = data[6], 40
        source, destination = (socket.inet_ntop(socket.AF_INET6, data[n : n + 16]) for n in (8, 24))
    else:
        return None
    body = data[start:]
    if protocol == _ICMP[version]:
        return _read_icmp(version, source, destination, body, marks)
    if protocol not in (6, 17) or len(body) < 4:
        return None
    one, other = struct.unpack_from("!HH", body)
    headers = Headers(
        source=source, destination=destination, protocol=_NAMES[protocol], source_port=one,
        destination_port=other,
    )  # fmt: skip
    by_sender = marks.by_sender(headers)
    if by_sender is None:
        return None
    if protocol == 17 or len(body) < 14:  # of a TCP header an error quotes its beginning only
        return Read(THERE if by_sender else ANSWER, headers)
    return _read_tcp(headers, body[13], by_sender)


def _read_tcp(headers: Headers, flags: int, by_sender: bool) -> Read | None:
    if flags & _SYN:
        return Read(ANSWER if flags & _ACK else THERE, headers)
    if flags & _RESET:
        return None if by_sender else Read(ANSWER, headers, "reset")
    if by_sender and not flags & _FIN and flags & _ACK:
        return Read(LATER, headers)
    return None


def _read_icmp(
    version: int, source: str, destination: str, body: bytes, marks: Marks
) -> Read | None:
    if len(body) < 8:
        return None
    kind, code = body[0], body[1]
    name = _NAMES[_ICMP[version]]
    if kind in _ECHO[version]:
        number = int.from_bytes(body[4:6], "big")
        headers = Headers(
            source=source, destination=destination, protocol=name, source_port=number,
            destination_port=number,
        )  # fmt: skip
        if not marks.holds_echo(headers):
            return None
        return Read(THERE if kind == _ECHO[version][0] else ANSWER, headers)
    if kind not in _ERRORS[version]:
        return None
    inner = read_packet(body[8:], marks) if len(body) > 8 else None
    headers = Headers(source=source, destination=destination, protocol=name)
    about = "" if inner is None else f" about {inner.headers}"
    return Read(ERROR, headers, f"{describe_error(version, kind, code)}{about}")


_WORDS = {
    (4, 3, 0): "net-unreachable", (4, 3, 1): "host-unreachable", (4, 3, 2): "prot-unreachable",
    (4, 3, 3): "port-unreachable", (4, 3, 4): "fragmentation-needed",
    (4, 3, 9): "net-prohibited", (4, 3, 10): "host-prohibited", (4, 3, 13): "admin-prohibited",
    (4, 11, 0): "time-exceeded", (6, 1, 0): "no-route", (6, 1, 1): "admin-prohibited",
    (6, 1, 3): "addr-unreachable", (6, 1, 4): "port-unreachable", (6, 1, 5): "policy-fail",
    (6, 1, 6): "reject-route", (6, 2, 0): "packet-too-big", (6, 3, 0): "time-exceeded",
}  # fmt: skip


def describe_error(version: int, kind: int, code: int) -> str:
    """An ICMP error by the word that `nft` has for it (RFC 792, RFC 4443)."""
    word = _WORDS.get((version, kind, code))
    return f"ICMP {word}" if word else f"ICMP type {kind} code {code}"


# The kernel's filter -------------------------------------------------------------------


def make_filter(version: int, protocol: str, marks: Marks) -> bytes:
    """Classic BPF for packets that begin with their IP header: the flow and errors about it."""
    lines: list[_Line] = []
    nibble = 0x40 if version == 4 else 0x60
    lines += [(_LOAD_BYTE, 0, 0, 0), (_AND, 0, 0, 0xF0), (_JUMP_EQUAL, 1, 0, nibble), _DROP]
    if version == 4:
        lines += [(_LOAD_HALF, 0, 0, 6), (_JUMP_SET, 0, 1, 0x1FFF), _DROP]
        lines.append((_LOAD_HEADER_LENGTH, 0, 0, 0))
        next_header, quoted = 9, 8 + 20
    else:
        lines.append((_LOAD_INDEX, 0, 0, 40))
        next_header, quoted = 6, 8 + 40
    echo = protocol in ("icmp", "ipv6-icmp")
    direct = [4] if echo else [0, 2]
    errors = _port_tests([quoted + offset for offset in direct], marks.ports)
    own = _port_tests(direct, marks.ports) + _pair_tests(version, echo, marks)
    own = own + errors if echo else own
    number = _ICMP[version] if echo else _PROTOCOL_NUMBERS[protocol]
    lines += [(_LOAD_BYTE, 0, 0, next_header), (_JUMP_EQUAL, 1, 0, number)]
    lines += [(_JUMP_ALWAYS, 0, 0, len(own)), *own]
    if not echo:
        lines += [(_LOAD_BYTE, 0, 0, next_header), (_JUMP_EQUAL, 1, 0, _ICMP[version])]
        lines += [(_JUMP_ALWAYS, 0, 0, len(errors)), *errors]
    lines.append(_DROP)
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


_DROP: _Line = (_RETURN, 0, 0, 0)
_TAKE: _Line = (_RETURN, 0, 0, _LARGEST)


def _port_tests(offsets: list[int], ports: Collection[int]) -> list[_Line]:
    """Takes the packet when a half word behind the IP header is one of the ports."""
    lines: list[_Line] = []
    for offset in offsets:
        lines.append((_LOAD_HALF_AT, 0, 0, offset))
        for port in sorted(ports):
            lines += [(_JUMP_EQUAL, 0, 1, port), _TAKE]
    return lines


def _pair_tests(version: int, echo: bool, marks: Marks) -> list[_Line]:
    """Takes packets between two addresses, of which the last four bytes are compared."""
    from_offset, to_offset = (12, 16) if version == 4 else (20, 36)
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    lines: list[_Line] = []
    for source, destination, port in sorted(marks.pairs):
        ends = [
            int.from_bytes(socket.inet_pton(family, one)[-4:], "big")
            for one in (source, destination)
        ]
        for (one, other), port_offset in ((ends, 2), (reversed(ends), 0)):
            tests = [] if echo else [(_LOAD_HALF_AT, 0, 0, port_offset), (_JUMP_EQUAL, 0, 1, port)]
            lines += [
                (_LOAD_WORD, 0, 0, from_offset), (_JUMP_EQUAL, 0, 3 + len(tests), one),
                (_LOAD_WORD, 0, 0, to_offset), (_JUMP_EQUAL, 0, 1 + len(tests), other),
                *tests, _TAKE,
            ]  # fmt: skip
    return lines


class Capture:
    """The frames of a flow in one namespace, from now until it is closed.

    `namespace` is an open descriptor, `name` what sightings call it. Closing waits until no
    processor uses the socket any more, about 20 ms. Raises KernelRefused.
    """

    def __init__(
        self, namespace: int, name: str, version: int, protocol: str, marks: Marks
    ) -> None:
        self.name = name
        self._marks = marks
        try:
            with entered(namespace):
                self._socket = socket.socket(
                    socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ANY_PROTOCOL)
                )
            try:
                self._socket.setblocking(False)
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                _attach(self._socket, make_filter(version, protocol, marks))
            except BaseException:
                self._socket.close()
                raise
        except OSError as error:
            raise KernelRefused(f"listening in {name}", error.errno or 0) from error

    def fileno(self) -> int:
        """Readable when something was seen."""
        return self._socket.fileno()

    def close(self) -> None:
        """End it; twice is fine."""
        self._socket.close()

    def read(self) -> list[Sighting]:
        """What was seen since the last call, without waiting."""
        found: list[Sighting] = []
        while True:
            try:
                data, extra, _, address = self._socket.recvmsg(_LARGEST, 128)
            except (BlockingIOError, InterruptedError):
                return found
            except OSError:
                return found  # a link went down meanwhile
            read = read_packet(data, self._marks)
            if read is not None:
                found.append(
                    Sighting(
                        namespace=self.name, link=address[0], outgoing=address[2] == _OUTGOING,
                        part=read.part, headers=read.headers, at=_time_of(extra),
                        stray=address[2] == _OTHER_HOST, note=read.note,
                    )
                )  # fmt: skip


def _time_of(extra: list[tuple[int, int, bytes]]) -> float:
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= _timespec.size:
            seconds, nanoseconds = _timespec.unpack_from(data)
            return float(seconds) + float(nanoseconds) / 1e9
    return 0.0


def _attach(opened: socket.socket, program: bytes) -> None:
    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HL", len(program) // 8, ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)
    with contextlib.suppress(OSError):  # what came before there was a filter
        while True:
            opened.recv(1)
