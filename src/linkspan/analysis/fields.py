"""What a packet has: each expression of the rule language as a function of the packet.

`compile_field` gives the function and the type of its value. Functions return MISSING where
the packet has no such header (the rule then stops), UNKNOWN where a data plane cannot tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from linkspan.analysis.addresses import is_multicast
from linkspan.analysis.choices import Choices
from linkspan.analysis.conntrack import Connection
from linkspan.analysis.flow import WITH_PORTS
from linkspan.analysis.packet import ADVERTISE, BROADCAST, Packet
from linkspan.analysis.place import Place
from linkspan.analysis.routing import Query, address_type, find_way
from linkspan.analysis.traced import Traced
from linkspan.analysis.values import CT_STATES, MISSING, UNKNOWN, Value
from linkspan.dataplane.links import Loopback
from linkspan.dataplane.rules import (
    Concat,
    Ct,
    Expression,
    Fib,
    Masked,
    Meta,
    Numgen,
    Payload,
    Socket,
)

Load: TypeAlias = Callable[[Packet], Value]


class Field(NamedTuple):
    """How an expression is read, and the nftables type of what it gives."""

    load: Load
    kind: str


def compile_field(expression: Expression, place: Place) -> Field:
    """The function for an expression other than a concatenation."""
    match expression:
        case Meta(name):
            return _meta(name, place)
        case Payload(protocol, name):
            return _payload(protocol, name)
        case Ct(name, direction):
            return _tracking(name, direction)
        case Fib(result, flags):
            return _route_lookup(result, flags, place)
        case Masked(inner, mask, xor):
            field = compile_field(inner, place)
            return Field(_masked(field.load, mask, xor), field.kind)
        case Numgen() | Socket():
            return Field(_unknown, "mark" if isinstance(expression, Numgen) else "integer")
        case Concat(parts) if len(parts) == 1:
            return compile_field(parts[0], place)
        case _:
            return Field(_unknown, "integer")


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """The components of a concatenation, or the expression alone."""
    return expression.parts if isinstance(expression, Concat) else (expression,)


def _unknown(packet: Packet) -> Value:
    return UNKNOWN


def _masked(load: Load, mask: int, xor: int) -> Load:
    def masked(packet: Packet) -> Value:
        value = load(packet)
        return value & mask ^ xor if isinstance(value, int) else value

    return masked


# Metadata -----------------------------------------------------------------------------


def _meta(name: str, place: Place) -> Field:
    if name in _META:
        return _META[name]
    if name in ("ibrname", "obrname"):
        incoming = name == "ibrname"

        def bridge_name(packet: Packet) -> Value:
            link = packet.input_link if incoming else packet.output_link
            return MISSING if link is None else place.bridge_of(link) or MISSING

        return Field(bridge_name, "ifname")
    if name in ("iif", "oif"):
        return Field(_META[f"{name}name"].load, "iface_index")
    if name in ("iiftype", "oiftype"):
        incoming = name == "iiftype"

        def link_type(packet: Packet) -> Value:
            name = packet.input_link if incoming else packet.output_link
            if name is None:
                return MISSING
            link = place.links.get(name)
            kind = None if link is None else link.kind
            return "loopback" if isinstance(kind, Loopback) else "ether"

        return Field(link_type, "iface_type")
    if name in ("skuid", "skgid", "cgroup"):

        def of_socket(packet: Packet) -> Value:
            return UNKNOWN if packet.input_link is None else MISSING

        return Field(of_socket, "uid")
    return Field(_unknown, "integer")


def _packet_type(packet: Packet) -> Value:
    if packet.destination_mac == BROADCAST:
        return "broadcast"
    if is_multicast(packet.destination, packet.version):
        return "multicast"
    return "host"


_META: dict[str, Field] = {
    "iifname": Field(lambda packet: packet.input_link or "", "ifname"),
    "oifname": Field(lambda packet: packet.output_link or "", "ifname"),
    "mark": Field(lambda packet: packet.mark, "mark"),
    "l4proto": Field(
        lambda packet: MISSING if packet.ether_type == "arp" else packet.protocol, "inet_proto"
    ),
    "nfproto": Field(lambda packet: "ipv4" if packet.version == 4 else "ipv6", "nf_proto"),
    "protocol": Field(lambda packet: packet.ether_type, "ether_type"),
    "pkttype": Field(_packet_type, "pkt_type"),
    "sdifname": Field(lambda packet: "", "ifname"),
    "iifgroup": Field(lambda packet: 0, "integer"),
    "oifgroup": Field(lambda packet: 0, "integer"),
    "nftrace": Field(lambda packet: 0, "integer"),
    "secmark": Field(lambda packet: 0, "integer"),
}


# Headers ------------------------------------------------------------------------------


def _payload(protocol: str, name: str) -> Field:
    if protocol in ("ip", "ip6") and name in ("saddr", "daddr"):
        return _address(protocol, name)
    if name in ("sport", "dport"):
        return _port(protocol, name)
    found = _PAYLOAD.get((protocol, name))
    if found is not None:
        return found
    network = {"ip": "ip", "ip6": "ip6", "arp": "arp"}.get(protocol)
    numbers = {"tcp": 6, "udp": 17, "icmp": 1, "icmpv6": 58, "sctp": 132}
    number = numbers.get(protocol)

    def unread(packet: Packet) -> Value:
        if network is not None and packet.ether_type != network:
            return MISSING
        return MISSING if number is not None and packet.protocol != number else UNKNOWN

    return Field(unread, "integer")


def _address(protocol: str, name: str) -> Field:
    kind = "ipv4_addr" if protocol == "ip" else "ipv6_addr"
    if name == "saddr":
        return Field(lambda p: p.source if p.ether_type == protocol else MISSING, kind)
    return Field(lambda p: p.destination if p.ether_type == protocol else MISSING, kind)


_SOME_CHECKSUM = 0xA5C3
"""Where others have a port ICMP has a checksum: one number stands for all of them."""


def _type_and_code(packet: Packet) -> Value:
    return UNKNOWN if packet.icmp_type is None else packet.icmp_type << 8


def _port(protocol: str, name: str) -> Field:
    number = {"tcp": 6, "udp": 17, "sctp": 132, "dccp": 33, "udplite": 136}.get(protocol)
    source = name == "sport"

    def port(packet: Packet) -> Value:
        if packet.ether_type == "arp" or (number is not None and packet.protocol != number):
            return MISSING
        if packet.protocol not in WITH_PORTS:
            return _type_and_code(packet) if source else _SOME_CHECKSUM
        return packet.source_port if source else packet.destination_port

    return Field(port, "inet_service")


def _of_arp(load: Load) -> Load:
    return lambda packet: load(packet) if packet.ether_type == "arp" else MISSING


def _icmp_type(version: int) -> Load:
    def icmp_type(packet: Packet) -> Value:
        number = 1 if version == 4 else 58
        if packet.version != version or packet.protocol != number or packet.ether_type == "arp":
            return MISSING
        return UNKNOWN if packet.icmp_type is None else packet.icmp_type

    return icmp_type


def _advertised(packet: Packet) -> Value:
    """The address that neighbour discovery is about: an answer comes from it (RFC 4861, 7.2.4)."""
    if packet.version != 6 or packet.protocol != 58 or packet.ether_type == "arp":
        return MISSING
    return packet.source if packet.icmp_type == ADVERTISE else UNKNOWN


def _ether(load: Load) -> Load:
    """Link headers are there once a packet came in by a link, or leaves by a bridge's port."""

    def ether(packet: Packet) -> Value:
        return load(packet) or MISSING

    return ether


_PAYLOAD: dict[tuple[str, str], Field] = {
    ("ether", "saddr"): Field(_ether(lambda packet: packet.source_mac), "ether_addr"),
    ("ether", "daddr"): Field(_ether(lambda packet: packet.destination_mac), "ether_addr"),
    ("ether", "type"): Field(
        lambda packet: "vlan" if packet.vlan is not None else packet.ether_type, "ether_type"
    ),
    ("vlan", "id"): Field(
        lambda packet: MISSING if packet.vlan is None else packet.vlan, "integer"
    ),
    ("ip", "protocol"): Field(
        lambda packet: packet.protocol if packet.ether_type == "ip" else MISSING, "inet_proto"
    ),
    ("ip6", "nexthdr"): Field(
        lambda packet: packet.protocol if packet.ether_type == "ip6" else MISSING, "inet_proto"
    ),
    ("ip", "version"): Field(lambda packet: packet.version, "integer"),
    ("arp", "operation"): Field(_of_arp(lambda packet: packet.operation or 1), "arp_op"),
    ("arp", "saddr ip"): Field(_of_arp(lambda packet: packet.source), "ipv4_addr"),
    ("arp", "daddr ip"): Field(_of_arp(lambda packet: packet.destination), "ipv4_addr"),
    ("arp", "saddr ether"): Field(_of_arp(lambda packet: packet.source_mac), "ether_addr"),
    ("arp", "daddr ether"): Field(_of_arp(lambda packet: packet.destination_mac), "ether_addr"),
    ("arp", "htype"): Field(_of_arp(lambda packet: 1), "integer"),
    ("arp", "ptype"): Field(_of_arp(lambda packet: "ip"), "ether_type"),
    ("arp", "hlen"): Field(_of_arp(lambda packet: 6), "integer"),
    ("arp", "plen"): Field(_of_arp(lambda packet: 4), "integer"),
    ("icmp", "type"): Field(_icmp_type(4), "icmp_type"),
    ("icmpv6", "type"): Field(_icmp_type(6), "icmpv6_type"),
    ("icmpv6", "taddr"): Field(_advertised, "ipv6_addr"),
    ("icmp", "code"): Field(lambda packet: 0 if packet.protocol == 1 else MISSING, "integer"),
    ("icmpv6", "code"): Field(lambda packet: 0 if packet.protocol == 58 else MISSING, "integer"),
    ("tcp", "flags"): Field(
        lambda packet: packet.flags if packet.protocol == 6 else MISSING, "tcp_flag"
    ),
}


# Connection tracking ------------------------------------------------------------------


def _state(packet: Packet) -> Value:
    return CT_STATES.get(packet.state, CT_STATES["invalid"])


def _status(packet: Packet) -> Value:
    return MISSING if packet.connection is None else packet.connection.status


def _connection_mark(packet: Packet) -> Value:
    return MISSING if packet.connection is None else packet.connection.mark


def _tracking(name: str, direction: str | None) -> Field:
    if name in _TRACKING:
        return _TRACKING[name]

    def ends(packet: Packet, connection: Connection) -> tuple[int, ...]:
        way = direction or packet.direction
        return connection.original if way == "original" else connection.reply

    places = {"saddr": 2, "proto-src": 3, "daddr": 4, "proto-dst": 5}
    word = name.rpartition(" ")[2]
    if word not in places:
        return Field(_unknown, "integer")
    place = places[word]
    version = {"ip": 4, "ip6": 6}.get(name.partition(" ")[0])
    kind = "inet_service" if version is None else "ipv4_addr" if version == 4 else "ipv6_addr"
    if word in ("saddr", "daddr") and version is None:
        kind = "ipv4_addr"

    def part(packet: Packet) -> Value:
        connection = packet.connection
        if connection is None or version not in (None, packet.version):
            return MISSING
        return ends(packet, connection)[place]

    return Field(part, kind)


_TRACKING: dict[str, Field] = {
    "state": Field(_state, "ct_state"),
    "status": Field(_status, "ct_status"),
    "mark": Field(_connection_mark, "mark"),
    "direction": Field(
        lambda packet: MISSING if packet.connection is None else packet.direction, "ct_dir"
    ),
    "l4proto": Field(
        lambda packet: MISSING if packet.connection is None else packet.protocol, "inet_proto"
    ),
    "protocol": Field(
        lambda packet: MISSING if packet.connection is None else packet.protocol, "inet_proto"
    ),
    "l3proto": Field(
        lambda packet: (
            MISSING if packet.connection is None else ("ipv4" if packet.version == 4 else "ipv6")
        ),
        "nf_proto",
    ),
    "zone": Field(lambda packet: 0, "integer"),
    "helper": Field(lambda packet: MISSING, "integer"),
}


# Routes -------------------------------------------------------------------------------


def _route_lookup(result: str, flags: tuple[str, ...], place: Place) -> Field:
    """`fib`: the type of an address, or the link that leads to it (nft_fib_ipv4.c)."""

    def bound(packet: Packet) -> str | None:
        if "iif" in flags:
            return packet.input_link
        return packet.output_link if "oif" in flags else None

    def asked(packet: Packet) -> int:
        return packet.source if "saddr" in flags else packet.destination

    if result == "type":

        def type_of(packet: Packet) -> Value:
            if packet.ether_type == "arp":
                return MISSING
            return address_type(place, asked(packet), packet.version, bound(packet))

        return Field(type_of, "fib_addrtype")

    def link_of(packet: Packet) -> str:
        if packet.input_link == "lo":
            return "lo"
        number = asked(packet)
        if isinstance(number, Traced) and place.routes_by_address[packet.version]:
            plain = packet.copy()

            def answer(address: int) -> str:
                plain.source = plain.destination = address
                return route_link(plain)

            return place.divide(("fib", flags, bound(packet)), packet.version, answer).find(number)
        return route_link(packet)

    def route_link(packet: Packet) -> str:
        others = packet.destination if "saddr" in flags else packet.source
        query = Query(
            packet.version, asked(packet), others, mark=packet.mark if "mark" in flags else 0
        )
        way = find_way(place, query, Choices())
        if way is None or way.type != "unicast" or way.link is None:
            return ""
        wanted = bound(packet)
        if wanted is None or way.link == wanted:
            return way.link
        hops = () if way.route is None else way.route.hops or ()
        return wanted if any(hop.link == wanted for hop in hops) else ""

    if result == "present":
        return Field(lambda packet: 1 if link_of(packet) else 0, "integer")
    if result == "oifname":
        return Field(link_of, "ifname")
    return Field(link_of, "iface_index")
