"""A packet on its way: what it carries now, and what the kernel knows about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from linkspan.analysis.addresses import to_number, to_text
from linkspan.analysis.flow import PROTOCOL_NAMES, PROTOCOLS, WITH_PORTS, Flow

if TYPE_CHECKING:
    from linkspan.analysis.conntrack import Connection

BROADCAST = "ff:ff:ff:ff:ff:ff"
SYN, ACK = 2, 16
ECHO_REPLY, ECHO_REQUEST = {4: 0, 6: 129}, {4: 8, 6: 128}
SOLICIT, ADVERTISE = 135, 136
ANSWERS = 0x100


class Carried(NamedTuple):
    """The frame inside a tunnel's packet, and the network that it belongs to."""

    frame: Packet
    vni: int | None


class Packet:
    """One packet, changed as it goes. Links are names of the namespace that it is in.

    `input_link` and `output_link` are what rules see; in the bridge family these are ports.
    `port` is the bridge port that it came in by. `ether_type` is ip, ip6 or arp; for arp the
    addresses are those that the request is from and for.
    """

    __slots__ = (
        "anycast", "carried", "connection", "destination", "destination_mac",
        "destination_port", "direction", "ether_type", "flags", "icmp_type", "input_link",
        "late_priority", "local_link", "mark",
        "namespace", "operation", "output_link", "passed_prerouting", "port", "protocol",
        "route_kept", "source", "source_mac", "source_port", "state", "version", "vlan",
    )  # fmt: skip

    def __init__(self, namespace: str, version: int, protocol: int) -> None:
        self.namespace = namespace
        self.version = version
        self.protocol = protocol
        self.source = self.destination = 0
        self.source_port = self.destination_port = 0
        self.flags = 0
        self.icmp_type: int | None = None
        self.mark = 0
        self.ether_type = "ip" if version == 4 else "ip6"
        self.operation: int | None = None
        self.source_mac = self.destination_mac = ""
        self.vlan: int | None = None
        self.input_link: str | None = None
        self.output_link: str | None = None
        self.port: str | None = None
        self.connection: Connection | None = None
        self.direction = "original"
        self.state = "none"
        """What connection tracking made of it: none, new, established, related, invalid,
        untracked."""
        self.passed_prerouting = False
        self.late_priority = 1
        """Where a bridge's own prerouting goes on behind the IP hooks."""
        self.route_kept = False
        """It came over the loopback link, with the route that it was sent by."""
        self.local_link = ""
        """Then: the link that has the address, which is the one that its socket sees."""
        self.anycast = False
        """Its destination is an anycast address of the namespace."""
        self.carried: Carried | None = None

    def copy(self) -> Packet:
        """Another packet that is the same now."""
        other = Packet.__new__(Packet)
        for name in Packet.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def enter(self, namespace: str) -> None:
        """Forget what a link to another namespace wipes away (skb_scrub_packet)."""
        if namespace != self.namespace:
            self.mark = 0
        self.namespace = namespace
        self.forget_tracking()
        self.passed_prerouting = False
        self.route_kept = self.anycast = False
        self.port = None
        self.input_link = self.output_link = None

    def forget_tracking(self) -> None:
        """As a packet that connection tracking has not seen."""
        self.connection = None
        self.direction = "original"
        self.state = "none"

    @property
    def flow(self) -> Flow:
        """The packet's flow, as it is now."""
        with_ports = self.protocol in WITH_PORTS or self.protocol in (1, 58)
        return Flow(
            source=to_text(self.source, self.version),
            source_port=int(self.source_port) if with_ports else 0,
            destination=to_text(self.destination, self.version),
            destination_port=int(self.destination_port) if with_ports else 0,
            protocol=PROTOCOL_NAMES.get(self.protocol, str(self.protocol)),
            mark=self.mark,
            link=self.input_link,
        )

    @property
    def ends(self) -> tuple[int, int, int, int, int, int]:
        """Version, protocol, source, its port, destination, its port.

        An echo reply counts as of another protocol than its request: one to oneself has the
        same addresses in both directions.
        """
        protocol = self.protocol
        if self.icmp_type is not None and self.icmp_type == ECHO_REPLY[self.version]:
            protocol |= ANSWERS
        return (
            self.version, protocol, self.source, self.source_port, self.destination,
            self.destination_port,
        )  # fmt: skip


def first_packet(flow: Flow, namespace: str) -> Packet:
    """The packet that opens a flow: a SYN, a datagram, an echo request.

    Raises ValueError for addresses that are none, or protocols that have no number.
    """
    version = flow.version
    packet = Packet(namespace, version, protocol_number(flow.protocol, version))
    packet.source = to_number(flow.source) if flow.source is not None else 0
    packet.destination = to_number(flow.destination)
    if packet.protocol in WITH_PORTS:
        packet.source_port, packet.destination_port = flow.source_port, flow.destination_port
    elif packet.protocol in (1, 58):
        packet.icmp_type = ECHO_REQUEST[version]
        packet.source_port = packet.destination_port = flow.source_port
    packet.flags = SYN if packet.protocol == 6 else 0
    packet.mark = flow.mark
    return packet


def protocol_number(name: str, version: int) -> int:
    """The number of a protocol; icmp means the one of the IP version."""
    if name in ("icmp", "icmpv6", "ipv6-icmp"):
        return 1 if version == 4 else 58
    if name in PROTOCOLS:
        return PROTOCOLS[name]
    return int(name)
