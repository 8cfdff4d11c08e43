"""Values of the rule language in a form that can be compared: numbers, or plain text.

A row of names and numbers is nftables' own (`nft describe`). Whatever cannot be known from a
data plane is UNKNOWN; a header that a packet does not have is MISSING, and stops the rule.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import TypeAlias

from linkspan.analysis.addresses import to_number, to_prefix
from linkspan.analysis.flow import PROTOCOLS
from linkspan.dataplane.objects import Part
from linkspan.dataplane.rules import Range


class Special(enum.Enum):
    """What a field can be besides a value."""

    UNKNOWN = "unknown"
    MISSING = "missing"


UNKNOWN, MISSING = Special.UNKNOWN, Special.MISSING
Value: TypeAlias = int | str | Special
Span: TypeAlias = tuple[int | str, int | str]
"""From and to, both included; equal for a single value."""

CT_STATES = {"invalid": 1, "established": 2, "related": 4, "new": 8, "untracked": 64}
CT_STATUSES = {
    "expected": 1, "seen-reply": 2, "assured": 4, "confirmed": 8, "snat": 16, "dnat": 32,
    "dying": 512,
}  # fmt: skip
TCP_FLAGS = {
    "fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ecn": 64, "cwr": 128,
}  # fmt: skip
ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5,
    "echo-request": 8, "router-advertisement": 9, "router-solicitation": 10,
    "time-exceeded": 11, "parameter-problem": 12, "timestamp-request": 13,
    "timestamp-reply": 14, "info-request": 15, "info-reply": 16, "address-mask-request": 17,
    "address-mask-reply": 18,
}  # fmt: skip
ICMPV6_TYPES = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3,
    "parameter-problem": 4, "echo-request": 128, "echo-reply": 129, "mld-listener-query": 130,
    "mld-listener-report": 131, "mld-listener-done": 132, "mld-listener-reduction": 132,
    "nd-router-solicit": 133, "nd-router-advert": 134, "nd-neighbor-solicit": 135,
    "nd-neighbor-advert": 136, "nd-redirect": 137, "router-renumbering": 138,
    "ind-neighbor-solicit": 141, "ind-neighbor-advert": 142, "mld2-listener-report": 143,
}  # fmt: skip
ETHER_TYPES: dict[Part, str] = {
    0x0800: "ip",
    0x0806: "arp",
    0x86DD: "ip6",
    0x8100: "vlan",
    0x88A8: "8021ad",
}
FIB_TYPES: dict[Part, str] = {
    0: "unspec", 1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast",
    6: "blackhole", 7: "unreachable", 8: "prohibit",
}  # fmt: skip
_PACKET_TYPES: dict[Part, str] = {
    0: "host",
    1: "broadcast",
    2: "multicast",
    3: "other",
    "unicast": "host",
}
_INTERFACE_TYPES: dict[Part, str] = {1: "ether", 772: "loopback", 65534: "none"}
_VERSIONS: dict[Part, str] = {2: "ipv4", 10: "ipv6"}
_OTHER_PROTOCOLS = {"esp": 50, "ah": 51, "comp": 108, "gre": 47, "igmp": 2, "dccp": 33,
                    "udplite": 136, "ipip": 4, "ipv6": 41}  # fmt: skip

_NUMBERS = {
    "inet_proto": {**PROTOCOLS, **_OTHER_PROTOCOLS},
    "ct_state": CT_STATES,
    "ct_status": CT_STATUSES,
    "tcp_flag": TCP_FLAGS,
    "icmp_type": ICMP_TYPES,
    "icmpv6_type": ICMPV6_TYPES,
    "arp_op": {"request": 1, "reply": 2},
    "mark": {},
    "inet_service": {},
    "integer": {},
    "uid": {"root": 0},
    "gid": {"root": 0},
}
_NAMES: Mapping[str, Mapping[Part, str]] = {
    "ether_type": {**ETHER_TYPES, "8021q": "vlan"},
    "fib_addrtype": FIB_TYPES,
    "pkt_type": _PACKET_TYPES,
    "iface_type": _INTERFACE_TYPES,
    "nf_proto": _VERSIONS,
    "ct_dir": {0: "original", 1: "reply"},
}
_BITS = frozenset(("ct_state", "ct_status", "tcp_flag"))
_SEVERAL = re.compile(r"[|,]")


@lru_cache(maxsize=65536)
def to_span(kind: str, part: Part | Range) -> Span:
    """A value, range or prefix of a type as its ends. Raises ValueError for what is none."""
    if isinstance(part, Range):
        return to_span(kind, part.first)[0], to_span(kind, part.last)[1]
    if kind in ("ipv4_addr", "ipv6_addr") and isinstance(part, str):
        if "/" in part:
            prefix = to_prefix(part)
            return prefix.network, prefix.last
        if "-" in part:
            first, _, last = part.partition("-")
            return to_number(first), to_number(last)
    value = to_value(kind, part)
    return value, value


@lru_cache(maxsize=65536)
def to_value(kind: str, part: Part) -> int | str:
    """A single value of a type. Raises ValueError for what is none."""
    if kind in ("ipv4_addr", "ipv6_addr"):
        return part if isinstance(part, int) else to_number(part)
    if kind == "ether_addr":
        return str(part).lower()
    names = _NAMES.get(kind)
    if names is not None:
        return names.get(part, str(part))
    numbers = _NUMBERS.get(kind)
    if numbers is None or isinstance(part, int):
        return part
    if part in numbers:
        return numbers[part]
    if kind in _BITS and _SEVERAL.search(part):
        bits = 0
        for name in _SEVERAL.split(part):
            bits |= int(to_value(kind, name.strip()))
        return bits
    return int(part, 0)
