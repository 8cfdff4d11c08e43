"""A container can only speak with the MAC and the addresses that it was given."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from lab.reuse import Sites
from lab.site import Site, address

pytestmark = pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"])
ETH_P_ALL = 3
BROADCAST = b"\xff" * 6


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def udp_frame(source_mac: str, source: str, target: str, target_mac: bytes) -> bytes:
    payload = b"spoofed!"
    udp = struct.pack("!HHHH", 4000, 4001, 8 + len(payload), 0) + payload
    header = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0,
        socket.inet_aton(source), socket.inet_aton(target),
    )  # fmt: skip
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = (
        header[:10] + struct.pack("!H", ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF) + header[12:]
    )
    return target_mac + mac(source_mac) + b"\x08\x00" + header + udp


def arp_frame(source_mac: str, claimed_mac: str, claimed: str, target: str) -> bytes:
    return (
        BROADCAST
        + mac(source_mac)
        + b"\x08\x06"
        + struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
        + mac(claimed_mac)
        + socket.inet_aton(claimed)
        + b"\0" * 6
        + socket.inet_aton(target)
    )


class Pair:
    """An attacker and a victim on one network; the attacker sends frames, the victim listens."""

    def __init__(self, site: Site) -> None:
        site.network("web", "10.20.0.0/24")
        attacker, victim = site.sandbox("attacker", "web"), site.sandbox("victim", "web")
        self.mac = attacker["endpoints"][0]["mac"]
        self.address, self.victim = address(attacker), address(victim)
        self.victim_mac = mac(victim["endpoints"][0]["mac"])
        packet = (socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.out = site.lab.socket(attacker["netns"], *packet)
        self.out.bind(("eth0", 0))
        self.ear = site.lab.socket(victim["netns"], *packet)
        self.ear.bind(("eth0", ETH_P_ALL))
        self.ear.settimeout(0.05)

    def arrives(self, frame: bytes) -> bool:
        """Whether the victim receives a frame, known by what it holds after the MACs."""
        for _ in range(3):
            self.out.send(frame)
            try:
                while True:
                    if self.ear.recv(2000)[12:].startswith(frame[12:]):
                        return True
            except TimeoutError:
                pass
        return False

    def close(self) -> None:
        self.out.close()
        self.ear.close()


@pytest.fixture
def pair(sites: Sites, bridge_netfilter: bool) -> Iterator[Pair]:
    with sites.borrowed(bridge_netfilter) as site, contextlib.closing(Pair(site)) as pair:
        yield pair


def test_its_own_address_passes(pair: Pair) -> None:
    assert pair.arrives(udp_frame(pair.mac, pair.address, pair.victim, pair.victim_mac))
    assert pair.arrives(arp_frame(pair.mac, pair.mac, pair.address, pair.victim))
    assert pair.arrives(arp_frame(pair.mac, pair.mac, "0.0.0.0", pair.victim))


def test_another_address_or_mac_does_not(pair: Pair) -> None:
    other = "02:42:0a:14:00:63"
    assert not pair.arrives(udp_frame(pair.mac, "10.20.0.99", pair.victim, pair.victim_mac))
    assert not pair.arrives(udp_frame(pair.mac, "198.51.100.7", pair.victim, pair.victim_mac))
    assert not pair.arrives(udp_frame(other, pair.address, pair.victim, pair.victim_mac))
    assert not pair.arrives(udp_frame(pair.mac, "10.20.0.1", pair.victim, BROADCAST))


def test_no_other_address_is_claimed_by_arp(pair: Pair) -> None:
    other = "02:42:0a:14:00:63"
    assert not pair.arrives(arp_frame(pair.mac, pair.mac, "10.20.0.1", pair.victim))
    assert not pair.arrives(arp_frame(pair.mac, other, pair.address, pair.victim))
    assert not pair.arrives(arp_frame(other, other, pair.address, pair.victim))


def test_other_protocols_do_not_pass(pair: Pair) -> None:
    inner = udp_frame(pair.mac, "10.20.0.99", pair.victim, pair.victim_mac)
    tagged = inner[:12] + b"\x81\x00\x00\x05" + inner[12:]
    assert not pair.arrives(tagged)
    assert not pair.arrives(inner[:12] + b"\x88\xb5" + b"hello linkspan".ljust(50, b"."))


def test_a_broadcast_does_not_come_back_to_its_sender(pair: Pair) -> None:
    frame = arp_frame(pair.mac, pair.mac, pair.address, pair.victim)
    pair.out.setblocking(False)
    assert pair.arrives(frame)
    returned = []
    try:
        while True:
            data, where = pair.out.recvfrom(2000)
            if where[2] != socket.PACKET_OUTGOING and data == frame:
                returned.append(data)
    except BlockingIOError:
        pass
    assert returned == []
