"""With IPv6, too, a container can only speak with its own addresses, and routes for nobody."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator

import pytest

from lab import Lab
from lab.reuse import Sites
from lab.site import IPV6, Site

pytestmark = pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"])
ETH_P_ALL = 3
ALL_NODES, ALL_MLD = "ff02::1", "ff02::16"
SOLICITATION, ADVERTISEMENT, ROUTER, REDIRECT, MLD2, ECHO = 135, 136, 134, 137, 143, 128
HOP_BY_HOP, ICMPV6 = 0, 58


def packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6, address)


def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def message(
    source_mac: str, source: str, target: str, type: int, body: bytes, options: bytes = b""
) -> bytes:
    """A frame with an ICMPv6 message, to the multicast MAC of its target; `options` is a
    hop-by-hop header before it, without its first byte.
    """
    icmp = struct.pack("!BBH", type, 0, 0) + body
    pseudo = packed(source) + packed(target) + struct.pack("!I3xB", len(icmp), ICMPV6)
    icmp = icmp[:2] + struct.pack("!H", checksum(pseudo + icmp)) + icmp[4:]
    payload = bytes([ICMPV6]) + options + icmp if options else icmp
    header = struct.pack("!IHBB", 6 << 28, len(payload), HOP_BY_HOP if options else ICMPV6, 255)
    to = b"\x33\x33" + packed(target)[12:] if target.startswith("ff") else b"\xff" * 6
    return to + mac(source_mac) + b"\x86\xdd" + header + packed(source) + packed(target) + payload


def advertisement(source_mac: str, source: str, claimed: str, options: bytes = b"") -> bytes:
    """An unsolicited neighbour advertisement: `claimed` is at this MAC."""
    body = struct.pack("!I", 0x20000000) + packed(claimed) + b"\x02\x01" + mac(source_mac)
    return message(source_mac, source, ALL_NODES, ADVERTISEMENT, body, options)


def solicitation(source_mac: str, source: str, wanted: str) -> bytes:
    """Who has `wanted`? From `::` it says: I am about to use it."""
    group = socket.inet_ntop(socket.AF_INET6, packed("ff02::1:ff00:0")[:13] + packed(wanted)[13:])
    return message(source_mac, source, group, SOLICITATION, bytes(4) + packed(wanted))


PADDING = bytes([0, 1, 4, 0, 0, 0, 0])
"""The rest of a hop-by-hop header that says nothing (PadN)."""


class Pair:
    """An attacker and a victim on one network; the attacker sends frames, the victim listens."""

    def __init__(self, site: Site, subnet: str) -> None:
        self.site = site
        site.network("web", subnet)
        self.attacker, victim = site.sandbox("attacker", "web"), site.sandbox("victim", "web")
        self.mac = self.attacker["endpoints"][0]["mac"]
        self.victim_place = victim["netns"]
        if ":" in subnet:
            self.address, self.victim = IPV6.of(self.attacker), IPV6.of(victim)
        packet = (socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.out = site.lab.socket(self.attacker["netns"], *packet)
        self.out.bind(("eth0", 0))
        self.ear = site.lab.socket(victim["netns"], *packet)
        self.ear.bind(("eth0", ETH_P_ALL))
        self.ear.settimeout(0.05)

    @property
    def link_local(self) -> str:
        """The address that the kernel makes from the attacker's MAC."""
        raw = mac(self.mac)
        return socket.inet_ntop(
            socket.AF_INET6,
            packed("fe80::")[:8] + bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:],
        )

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
    with (
        sites.borrowed(bridge_netfilter) as site,
        contextlib.closing(Pair(site, IPV6.subnet(20))) as pair,
    ):
        yield pair


def test_its_own_addresses_pass(pair: Pair) -> None:
    for own in (pair.address, pair.link_local):
        assert pair.arrives(message(pair.mac, own, ALL_NODES, ECHO, bytes(4)))
        assert pair.arrives(advertisement(pair.mac, own, own))
        assert pair.arrives(solicitation(pair.mac, own, pair.victim))
    # From one of its own, about another of its own.
    assert pair.arrives(advertisement(pair.mac, pair.link_local, pair.address))


def test_another_address_or_mac_does_not(pair: Pair) -> None:
    other = "02:42:0a:14:00:63"
    for source_mac, source in (
        (pair.mac, IPV6.outside(20)),
        (pair.mac, IPV6.gateway(20)),
        (pair.mac, "2001:db8:7::7"),
        (pair.mac, "fe80::1"),
        (pair.mac, "::1"),
        (other, pair.address),
        (other, pair.link_local),
    ):
        assert not pair.arrives(message(source_mac, source, ALL_NODES, ECHO, bytes(4)))


def test_no_other_address_is_claimed(pair: Pair) -> None:
    for claimed in (IPV6.gateway(20), pair.victim, IPV6.outside(20), "fe80::1"):
        for source in (pair.address, pair.link_local):
            assert not pair.arrives(advertisement(pair.mac, source, claimed))
            # Nor behind a header that only says that there is nothing to say.
            assert not pair.arrives(advertisement(pair.mac, source, claimed, PADDING))
    assert pair.arrives(advertisement(pair.mac, pair.address, pair.address, PADDING))


def test_duplicates_of_its_own_addresses_alone_are_looked_for(pair: Pair) -> None:
    assert pair.arrives(solicitation(pair.mac, "::", pair.address))
    assert pair.arrives(solicitation(pair.mac, "::", pair.link_local))
    # The owner of another address would take it for a duplicate of its own.
    assert not pair.arrives(solicitation(pair.mac, "::", pair.victim))
    assert not pair.arrives(solicitation(pair.mac, "::", IPV6.gateway(20)))


def test_from_no_address_it_joins_groups_and_nothing_else(pair: Pair) -> None:
    report = struct.pack("!HHBBH16s", 0, 1, 4, 0, 0, packed("ff02::1:ff00:2"))
    assert pair.arrives(message(pair.mac, "::", ALL_MLD, MLD2, report))
    assert pair.arrives(message(pair.mac, pair.link_local, ALL_MLD, MLD2, report))
    # As the kernel sends it, with a router alert.
    alert = bytes([0, 5, 2, 0, 0, 1, 0])
    assert pair.arrives(message(pair.mac, "::", ALL_MLD, MLD2, report, alert))
    assert not pair.arrives(message(pair.mac, "::", ALL_NODES, ECHO, bytes(4)))


def test_it_advertises_no_router_and_redirects_nobody(pair: Pair) -> None:
    router = struct.pack("!BBHII", 64, 0, 1800, 0, 0)
    redirect = bytes(4) + packed(pair.address) + packed("2001:db8:9::9")
    for source in (pair.address, pair.link_local):
        for options in (b"", PADDING):
            assert not pair.arrives(message(pair.mac, source, ALL_NODES, ROUTER, router, options))
            assert not pair.arrives(
                message(pair.mac, source, ALL_NODES, REDIRECT, redirect, options)
            )


def test_nobody_takes_a_router_from_a_network_without_checks(
    lab: Lab, bridge_netfilter: bool
) -> None:
    """Where sources are not checked, the endpoint's own setting is left."""
    site = Site(lab, bridge_netfilter)
    site.network("loose", IPV6.subnet(30), options={"source_check": "false"})
    one, two = site.sandbox("one", "loose"), site.sandbox("two", "loose")
    setting = "sysctl -n net.ipv6.conf.eth0.accept_ra"
    assert lab.run(two["netns"], setting).stdout.strip() == "0"
    bridge = site.daemon.get("/v1/networks/loose")["interface"]
    assert lab.run(site.host, setting.replace("eth0", bridge)).stdout.strip() == "0"
    assert one["state"] == "up"
    # Somebody changes it; a reconciliation puts it back.
    lab.run(two["netns"], "sysctl -qw net.ipv6.conf.eth0.accept_ra=1")
    site.daemon.post("/v1/reconcile", {})
    assert lab.run(two["netns"], setting).stdout.strip() == "0"


def test_a_network_without_ipv6_carries_none(lab: Lab, bridge_netfilter: bool) -> None:
    pair = Pair(Site(lab, bridge_netfilter), "10.20.0.0/24")
    try:
        network = pair.site.daemon.get("/v1/networks/web")
        for place, link in (
            (pair.site.host, network["interface"]),
            (pair.attacker["netns"], "eth0"),
        ):
            assert lab.run(place, ["ip", "-6", "address", "show", "dev", link]).stdout == ""
        for frame in (
            message(pair.mac, pair.link_local, ALL_NODES, ECHO, bytes(4)),
            message(pair.mac, "fd00::7", ALL_NODES, ECHO, bytes(4)),
            solicitation(pair.mac, "::", pair.link_local),
            advertisement(pair.mac, pair.link_local, pair.link_local),
            message(pair.mac, "::", ALL_MLD, MLD2, bytes(4)),
        ):
            assert not pair.arrives(frame)
    finally:
        pair.close()
