"""Asking a segment whether anybody has an address, before it is used there.

IPv4 by ARP probes (RFC 5227, section 2.1), IPv6 by neighbour solicitations from the
unspecified address (RFC 4862, section 5.4). A probe claims nothing: no neighbour's cache
changes by it. The sockets are opened in a thread; whoever probes waits in an event loop.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping, Sequence

from linkspan.errors import KernelRefused
from linkspan.kernel.arp import checksum
from linkspan.kernel.namespaces import entered
from linkspan.kernel.netlink.text import address_bytes, mac_bytes, mac_text

_ETHERTYPE_ARP = 0x0806
_ETHERTYPE_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ICMPV6 = 58
_SOLICITATION, _ADVERTISEMENT = 135, 136
_SOL_PACKET = 263
_ADD_MEMBERSHIP = 1
_MR_ALLMULTI = 2
_SO_ATTACH_FILTER = 26
_LARGEST_FRAME = 2048
_arp = struct.Struct("!HHBBH6s4s6s4s")

# Classic BPF: frames whose IPv6 next header is ICMPv6 and whose type is one of the two.
_LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x30, 0x15, 0x06
_NEIGHBOURS_ONLY = (
    (_LOAD_BYTE, 0, 0, 20),
    (_JUMP_EQUAL, 0, 4, _ICMPV6),
    (_LOAD_BYTE, 0, 0, 54),
    (_JUMP_EQUAL, 1, 0, _SOLICITATION),
    (_JUMP_EQUAL, 0, 1, _ADVERTISEMENT),
    (_RETURN, 0, 0, 0x40000),
    (_RETURN, 0, 0, 0),
)


class Prober:
    """Packet sockets on one link, for some addresses. Use `send`, then `read` what came.

    `namespace` is an open file descriptor, None for the calling thread's own. Closing waits
    until no processor uses the sockets any more, about 20 ms. Raises KernelRefused.
    """

    def __init__(
        self, link: str, mac: str, addresses: Iterable[str], namespace: int | None = None
    ) -> None:
        self._link, self._mac = link, mac_bytes(mac)
        self._addresses = {address_bytes(text): text for text in addresses}
        versions = {len(data) for data in self._addresses}
        self._sockets: list[socket.socket] = []
        try:
            with contextlib.nullcontext() if namespace is None else entered(namespace):
                for length, ethertype in ((4, _ETHERTYPE_ARP), (16, _ETHERTYPE_IPV6)):
                    if length in versions:
                        self._sockets.append(_open(link, ethertype))
        except OSError as error:
            self.close()
            raise KernelRefused(f"listening on {link}", error.errno or 0) from error

    def close(self) -> None:
        """End it."""
        for opened in self._sockets:
            opened.close()

    @property
    def sockets(self) -> Sequence[socket.socket]:
        """Readable when something came."""
        return self._sockets

    def send(self) -> None:
        """Ask for every address once. Raises KernelRefused."""
        by_version = {opened.getsockname()[1]: opened for opened in self._sockets}
        for data, text in self._addresses.items():
            frame = probe(self._mac, data)
            ethertype = _ETHERTYPE_ARP if len(data) == 4 else _ETHERTYPE_IPV6
            try:
                by_version[ethertype].send(frame)
            except OSError as error:
                raise KernelRefused(
                    f"probing for {text} on {self._link}", error.errno or 0
                ) from error

    def read(self) -> Mapping[str, str]:
        """Who has claimed or asked for an address since the last call: MAC by address."""
        found: dict[str, str] = {}
        for opened in self._sockets:
            while True:
                try:
                    frame = opened.recv(_LARGEST_FRAME)
                except (BlockingIOError, InterruptedError):
                    break
                except OSError:
                    break  # the link went down or away meanwhile
                claim = read_claim(frame, self._mac)
                if claim is not None and claim[0] in self._addresses:
                    found.setdefault(self._addresses[claim[0]], mac_text(claim[1]))
        return found


def _open(link: str, ethertype: int) -> socket.socket:
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        opened.setblocking(False)
        if ethertype == _ETHERTYPE_IPV6:
            program = b"".join(struct.pack("=HBBI", *line) for line in _NEIGHBOURS_ONLY)
            _attach_filter(opened, program)
        opened.bind((link, ethertype))
        index = socket.if_nametoindex(link)
        # Another's solicitation goes to a group that this link is not in yet.
        membership = struct.pack("=iHH8s", index, _MR_ALLMULTI, 0, b"")
        opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, membership)
    except BaseException:
        opened.close()
        raise
    return opened


def _attach_filter(opened: socket.socket, program: bytes) -> None:
    import ctypes

    held = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("HL", len(program) // 8, ctypes.addressof(held))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, header)


def probe(mac: bytes, address: bytes) -> bytes:
    """The Ethernet frame that asks whether anybody has an address."""
    if len(address) == 4:
        body = _arp.pack(1, 0x0800, 6, 4, 1, mac, bytes(4), bytes(6), address)
        return _BROADCAST + mac + struct.pack("!H", _ETHERTYPE_ARP) + body
    group = bytes.fromhex("ff0200000000000000000001ff") + address[13:]
    message = struct.pack("!BBHI16s", _SOLICITATION, 0, 0, 0, address)
    pseudo = bytes(16) + group + struct.pack("!I3xB", len(message), _ICMPV6)
    message = message[:2] + struct.pack("!H", checksum(pseudo + message)) + message[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(message), _ICMPV6, 255, bytes(16), group)
    to = b"\x33\x33" + group[12:]
    return to + mac + struct.pack("!H", _ETHERTYPE_IPV6) + header + message


def read_claim(frame: bytes, own_mac: bytes) -> tuple[bytes, bytes] | None:
    """The address that a frame shows to be another's, and the MAC of whom.

    A host that answers for it or uses it has it; one that probes for it will have it soon.
    Probes of our own, which some switches send back, are nobody's.
    """
    sender = frame[6:12]
    ethertype = frame[12:14]
    if ethertype == struct.pack("!H", _ETHERTYPE_ARP) and len(frame) >= 14 + _arp.size:
        kind, protocol, _, _, _, mac, address, _, target = _arp.unpack_from(frame, 14)
        if (kind, protocol) != (1, 0x0800):
            return None
        if any(address):
            return address, mac
        return (target, mac) if mac != own_mac else None
    if (
        ethertype == struct.pack("!H", _ETHERTYPE_IPV6)
        and len(frame) >= 78
        and frame[20] == _ICMPV6
    ):
        target = frame[62:78]
        if frame[54] == _ADVERTISEMENT:
            return target, _advertised_mac(frame) or sender
        # Only one that comes from nowhere asks for itself.
        if frame[54] == _SOLICITATION and not any(frame[22:38]) and sender != own_mac:
            return target, sender
    return None


def _advertised_mac(frame: bytes) -> bytes | None:
    """The target's own link address (option 2; RFC 4861, section 4.6.1)."""
    option = frame[78:86]
    return option[2:] if option[:2] == b"\x02\x01" and len(option) == 8 else None
