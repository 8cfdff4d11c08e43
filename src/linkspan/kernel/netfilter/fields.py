"""What a packet has: how each expression of the rule language is loaded, and its type.

A header field can only be read when the packet has that header. `Field.needs` states it as
nft does: the network protocol ("ip", "ip6", "arp") and the transport protocol that must be
tested before, unless an earlier statement of the rule did so.
"""

from __future__ import annotations

import sys
from typing import NamedTuple

from linkspan.dataplane.rules import Concat, Ct, Expression, Fib, Masked, Meta, Payload
from linkspan.errors import Unsupported
from linkspan.kernel.netfilter import encode
from linkspan.kernel.netfilter.values import DataType, resized, type_number
from linkspan.kernel.netfilter.values import find_type as _type


class Needs(NamedTuple):
    """Protocols that a packet must have for a field to mean anything."""

    network: str | None = None
    transport: str | None = None
    ether: bool = False


class Field(NamedTuple):
    """One loadable field. `load(word)` gives the expressions that put it into a register."""

    kind: DataType
    needs: Needs
    store: tuple[str, tuple[int, ...]]
    """How: ("meta", (key,)), ("payload", (base, offset)), ("ct", (key, direction)), ..."""
    masked: tuple[int, int] | None = None

    def load(self, word: int) -> bytes:
        """The bytes that put the field into the registers from `word` on."""
        how, numbers = self.store
        if how == "meta":
            loaded = encode.load_meta(numbers[0], word)
        elif how == "payload":
            loaded = encode.load_payload(numbers[0], numbers[1], self.kind.size, word)
        elif how == "ct":
            direction = numbers[1] if numbers[1] >= 0 else None
            loaded = encode.load_ct(numbers[0], direction, word)
        else:
            loaded = encode.load_fib(numbers[0], numbers[1], word)
        if self.masked is not None:
            keep, xor = (self._pack(number) for number in self.masked)
            loaded += encode.mask(word, keep, xor)
        return loaded

    def _pack(self, number: int) -> bytes:
        return number.to_bytes(self.kind.size, sys.byteorder if self.kind.host_order else "big")


_META = {
    "protocol": (1, "ether_type"), "mark": (3, "mark"), "iif": (4, "iface_index"),
    "oif": (5, "iface_index"), "iifname": (6, "ifname"), "oifname": (7, "ifname"),
    "iiftype": (8, "iface_type"), "oiftype": (9, "iface_type"), "skuid": (10, "uid"),
    "skgid": (11, "gid"), "nfproto": (15, "nf_proto"), "l4proto": (16, "inet_proto"),
    "ibrname": (17, "ifname"), "obrname": (18, "ifname"), "pkttype": (19, "pkt_type"),
    "iifgroup": (21, "devgroup"), "oifgroup": (22, "devgroup"),
}  # fmt: skip
META_MARK, CT_MARK = 3, 3

_LINK, _NETWORK, _TRANSPORT = (
    encode.LINK_HEADER, encode.NETWORK_HEADER, encode.TRANSPORT_HEADER,
)  # fmt: skip
_IP, _IP6, _ARP = Needs("ip"), Needs("ip6"), Needs("arp")
_PAYLOAD: dict[tuple[str, str], tuple[int, int, str, Needs]] = {
    ("ether", "daddr"): (_LINK, 0, "ether_addr", Needs(ether=True)),
    ("ether", "saddr"): (_LINK, 6, "ether_addr", Needs(ether=True)),
    ("ether", "type"): (_LINK, 12, "ether_type", Needs(ether=True)),
    ("ip", "protocol"): (_NETWORK, 9, "inet_proto", _IP),
    ("ip", "saddr"): (_NETWORK, 12, "ipv4_addr", _IP),
    ("ip", "daddr"): (_NETWORK, 16, "ipv4_addr", _IP),
    ("ip6", "nexthdr"): (_NETWORK, 6, "inet_proto", _IP6),
    ("ip6", "saddr"): (_NETWORK, 8, "ipv6_addr", _IP6),
    ("ip6", "daddr"): (_NETWORK, 24, "ipv6_addr", _IP6),
    ("arp", "operation"): (_NETWORK, 6, "arp_op", _ARP),
    ("arp", "saddr ether"): (_NETWORK, 8, "ether_addr", _ARP),
    ("arp", "saddr ip"): (_NETWORK, 14, "ipv4_addr", _ARP),
    ("arp", "daddr ether"): (_NETWORK, 18, "ether_addr", _ARP),
    ("arp", "daddr ip"): (_NETWORK, 24, "ipv4_addr", _ARP),
    ("icmp", "type"): (_TRANSPORT, 0, "icmp_type", Needs("ip", "icmp")),
    ("icmpv6", "type"): (_TRANSPORT, 0, "icmpv6_type", Needs("ip6", "icmpv6")),
    ("icmpv6", "taddr"): (_TRANSPORT, 8, "ipv6_addr", Needs("ip6", "icmpv6")),
    ("tcp", "flags"): (_TRANSPORT, 13, "tcp_flag", Needs(transport="tcp")),
    **{
        (name, field): (
            _TRANSPORT, offset, "inet_service",
            Needs(transport=None if name == "th" else name),
        )
        for name in ("th", "tcp", "udp", "sctp", "dccp", "udplite")
        for field, offset in (("sport", 0), ("dport", 2))
    },
}  # fmt: skip

_CT = {
    "state": (0, "ct_state", 0), "direction": (1, "ct_dir", 0), "status": (2, "ct_status", 0),
    "mark": (3, "mark", 0), "l3proto": (7, "nf_proto", 0), "l4proto": (10, "inet_proto", 0),
    "protocol": (10, "inet_proto", 0), "proto-src": (11, "inet_service", 0),
    "proto-dst": (12, "inet_service", 0), "zone": (17, "integer", 2),
    "ip saddr": (19, "ipv4_addr", 0), "ip daddr": (20, "ipv4_addr", 0),
    "ip6 saddr": (21, "ipv6_addr", 0), "ip6 daddr": (22, "ipv6_addr", 0),
}  # fmt: skip
_CT_ONE_WAY = ("proto-src", "proto-dst", "ip saddr", "ip daddr", "ip6 saddr", "ip6 daddr")

_FIB_RESULTS = {"oif": (1, "iface_index"), "oifname": (2, "ifname"), "type": (3, "fib_addrtype")}
_FIB_FLAGS = {"saddr": 1, "daddr": 2, "mark": 4, "iif": 8, "oif": 16}


def find_field(expression: Expression) -> Field:
    """How an expression other than a concatenation is loaded.

    Raises Unsupported with the expression's text when linkspan has no code for it.
    """
    match expression:
        case Meta(field) if field in _META:
            key, name = _META[field]
            return Field(_type(name), Needs(), ("meta", (key,)))
        case Payload(protocol, field) if (protocol, field) in _PAYLOAD:
            base, offset, name, needs = _PAYLOAD[protocol, field]
            return Field(_type(name), needs, ("payload", (base, offset)))
        case Ct(field, direction) if field in _CT and (
            (direction in ("original", "reply")) or (direction is None and field not in _CT_ONE_WAY)
        ):
            key, name, size = _CT[field]
            kind = resized(_type(name), size) if size else _type(name)
            way = -1 if direction is None else int(direction == "reply")
            return Field(kind, Needs(), ("ct", (key, way)))
        case Fib(result, flags) if result in _FIB_RESULTS and set(flags) <= set(_FIB_FLAGS):
            number, name = _FIB_RESULTS[result]
            bits = sum(_FIB_FLAGS[flag] for flag in flags)
            return Field(_type(name), Needs(), ("fib", (number, bits)))
        case Masked(inner, mask, xor) if not isinstance(inner, (Concat, Masked)):
            return find_field(inner)._replace(masked=(mask, xor))
    raise Unsupported(f"no code to load this from a packet: {expression}")


def parts_of(expression: Expression) -> tuple[Expression, ...]:
    """The components of a concatenation, or the expression alone.

    A concatenation of one part is that part.
    """
    return expression.parts if isinstance(expression, Concat) else (expression,)


def key_types(expression: Expression) -> tuple[str, ...]:
    """The nftables types of an expression's components, for the key of a set."""
    names = tuple(find_field(part).kind.name for part in parts_of(expression))
    type_number(names)
    return names
