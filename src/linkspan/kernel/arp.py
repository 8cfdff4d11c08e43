"""Telling neighbours which MAC an address has now, before they ask.

Without it they keep sending to the old MAC until their entry is stale: seconds to minutes.
A gratuitous ARP request (RFC 5227, section 3) or an unsolicited neighbour advertisement
(RFC 4861, section 7.2.6) is broadcast once.
"""

from __future__ import annotations

import socket
import struct

from linkspan.errors import KernelRefused
from linkspan.kernel.namespaces import entered
from linkspan.kernel.netlink.text import address_bytes, mac_bytes

_ETHERTYPE_ARP = 0x0806
_ETHERTYPE_IPV6 = 0x86DD
_BROADCAST = b"\xff" * 6
_ALL_NODES_MAC = bytes.fromhex("333300000001")
_ALL_NODES = bytes.fromhex("ff020000000000000000000000000001")
_ICMPV6 = 58
_NEIGHBOUR_ADVERTISEMENT = 136
_OVERRIDE = 0x20000000
_TARGET_LINK_ADDRESS = 2


def announce(link: str, mac: str, address: str, namespace: int | None = None) -> None:
    """Tell everybody on a link that `address` (without length) has `mac`.

    `namespace` is an open file descriptor, None for the calling thread's own. Closing the
    packet socket makes the caller wait until no processor uses it any more, about 20 ms: keep this
    off the path of an attach. Raises KernelRefused.
    """
    frame = announcement(mac, address)
    try:
        if namespace is None:
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        else:
            with entered(namespace):
                opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        with opened:
            opened.sendto(frame, (link, 0))
    except OSError as error:
        raise KernelRefused(f"announcing {address} on {link}", error.errno or 0) from error


def announcement(mac: str, address: str) -> bytes:
    """The Ethernet frame that `announce` sends."""
    hardware, data = mac_bytes(mac), address_bytes(address)
    if len(data) == 4:
        body = struct.pack("!HHBBH6s4s6s4s", 1, 0x0800, 6, 4, 1, hardware, data, bytes(6), data)
        return _BROADCAST + hardware + struct.pack("!H", _ETHERTYPE_ARP) + body
    message = struct.pack("!BBHI16s", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE, data)
    message += struct.pack("!BB6s", _TARGET_LINK_ADDRESS, 1, hardware)
    pseudo = data + _ALL_NODES + struct.pack("!I3xB", len(message), _ICMPV6)
    total = struct.pack("!H", checksum(pseudo + message))
    message = message[:2] + total + message[4:]
    header = struct.pack("!IHBB16s16s", 6 << 28, len(message), _ICMPV6, 255, data, _ALL_NODES)
    return _ALL_NODES_MAC + hardware + struct.pack("!H", _ETHERTYPE_IPV6) + header + message


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
