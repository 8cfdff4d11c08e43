"""The Ethernet frames that carry DHCP: UDP between ports 68 and 67, over IPv4.

A client without an address cannot use the kernel's sockets, so header by header is ours.
"""

from __future__ import annotations

import ipaddress
import struct

import msgspec

EVERYBODY = "ff:ff:ff:ff:ff:ff"
EVERYWHERE = "255.255.255.255"
SERVER_PORT, CLIENT_PORT = 67, 68
_ethernet = struct.Struct("!6s6sH")
_ip = struct.Struct("!BBHHHBBH4s4s")
_udp = struct.Struct("!HHHH")
_IPV4, _UDP, _LIVES = 0x0800, 17, 64
_FRAGMENT = 0x3FFF
"""More fragments follow, or an offset."""


class Datagram(msgspec.Struct, frozen=True, kw_only=True):
    """A UDP datagram and how it came, or shall go."""

    payload: bytes
    source_mac: str
    source: str
    destination_mac: str = EVERYBODY
    destination: str = EVERYWHERE
    source_port: int = CLIENT_PORT
    destination_port: int = SERVER_PORT


def pack_frame(datagram: Datagram) -> bytes:
    """The frame of a datagram."""
    source, destination = _address(datagram.source), _address(datagram.destination)
    length = _udp.size + len(datagram.payload)
    ports = datagram.source_port, datagram.destination_port
    pseudo = source + destination + struct.pack("!HH", _UDP, length)
    summed = checksum(pseudo + _udp.pack(*ports, length, 0) + datagram.payload) or 0xFFFF
    lead = _ip.pack(0x45, 0, _ip.size + length, 0, 0, _LIVES, _UDP, 0, source, destination)
    lead = lead[:10] + struct.pack("!H", checksum(lead)) + lead[12:]
    head = _ethernet.pack(_mac(datagram.destination_mac), _mac(datagram.source_mac), _IPV4)
    return head + lead + _udp.pack(*ports, length, summed) + datagram.payload


def unpack_frame(frame: bytes) -> Datagram | None:
    """The datagram in a frame; None for anything else, fragments and wrong headers included.

    The checksum of UDP is not looked at: on links of one host it may not be there yet
    (the sender leaves it to hardware that never sees the packet).
    """
    if len(frame) < _ethernet.size + _ip.size + _udp.size:
        return None
    destination_mac, source_mac, kind = _ethernet.unpack_from(frame)
    version, _, total, _, fragment, _, protocol, _, source, destination = _ip.unpack_from(
        frame, _ethernet.size
    )
    size = (version & 15) * 4
    if kind != _IPV4 or version >> 4 != 4 or size < _ip.size or fragment & _FRAGMENT:
        return None
    start = _ethernet.size + size
    if protocol != _UDP or len(frame) < start + _udp.size:
        return None
    if checksum(frame[_ethernet.size : start]) != 0:
        return None
    source_port, destination_port, length, _ = _udp.unpack_from(frame, start)
    end = start + length
    if length < _udp.size or end > min(len(frame), _ethernet.size + total):
        return None
    return Datagram(
        payload=frame[start + _udp.size : end],
        source_mac=source_mac.hex(":"),
        source=str(ipaddress.IPv4Address(source)),
        destination_mac=destination_mac.hex(":"),
        destination=str(ipaddress.IPv4Address(destination)),
        source_port=source_port,
        destination_port=destination_port,
    )


def checksum(data: bytes) -> int:
    """The internet checksum (RFC 1071)."""
    padded = data if len(data) % 2 == 0 else data + b"\0"
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _address(text: str) -> bytes:
    return ipaddress.IPv4Address(text).packed


def _mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))
