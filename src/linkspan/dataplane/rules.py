"""One language for firewall rules, whoever wrote them.

Our own tables are stated in it, foreign rulesets are read into it, and the packet walk
runs it. Names follow nftables: a rule is a row of statements, each either a test that must
hold for the next one to run, or an effect. What a reader does not understand becomes
`Opaque`, with its text: never dropped silently.
"""

from __future__ import annotations

import msgspec

from linkspan.dataplane.objects import Key, Object, Part


class _Term(msgspec.Struct, frozen=True, tag_field="is"):
    """A node of the language; `is` names it in JSON."""


# Expressions: what a packet has -------------------------------------------------------


class Meta(_Term, frozen=True, tag="meta"):
    """Packet metadata: iifname, oifname, ibrname, obrname, iif, oif, l4proto, nfproto,
    protocol, pkttype, mark, iiftype, skuid, cgroup, ...
    """

    field: str


class Payload(_Term, frozen=True, tag="payload"):
    """A header field: ("ip", "saddr"), ("th", "dport"), ("ether", "saddr"), ("arp", "saddr ip")."""

    protocol: str
    field: str


class Ct(_Term, frozen=True, tag="ct"):
    """Connection tracking: state, status, mark, direction, or a tuple's field of one
    direction ("original" or "reply"): ip saddr, ip daddr, proto-src, proto-dst, l4proto.
    """

    field: str
    direction: str | None = None


class Fib(_Term, frozen=True, tag="fib"):
    """A route look-up: result "type", "oif" or "oifname" for the key (daddr, saddr, iif, mark)."""

    result: str
    flags: tuple[str, ...]


class Socket(_Term, frozen=True, tag="socket"):
    """A field of the local socket that the packet belongs to: transparent, mark, wildcard."""

    field: str


class Numgen(_Term, frozen=True, tag="numgen"):
    """A number generated per packet: mode "inc" or "random", `offset` <= n < offset+modulus."""

    mode: str
    modulus: int
    offset: int = 0


class Masked(_Term, frozen=True, tag="masked"):
    """(expression & mask) ^ xor."""

    expression: Expression
    mask: int
    xor: int = 0


class Concat(_Term, frozen=True, tag="concat"):
    """Several expressions side by side, as the key of a set or map."""

    parts: tuple[Expression, ...]


Expression = Meta | Payload | Ct | Fib | Socket | Numgen | Masked | Concat


# Values: what it is compared with -----------------------------------------------------


class Range(_Term, frozen=True, tag="range"):
    """From `first` to `last`, both included."""

    first: Part
    last: Part


class SetOf(_Term, frozen=True, tag="set"):
    """An anonymous set: the row of values that match. In a concatenation each is a tuple."""

    values: tuple[Part | Range | tuple[Part | Range, ...], ...]


class Named(_Term, frozen=True, tag="named"):
    """A named set of the same table."""

    name: str


Value = Part | Range | SetOf | Named
"""Text with a slash is a prefix ("10.0.0.0/8"); ct state and status are names."""


# Statements ---------------------------------------------------------------------------


class Match(_Term, frozen=True, tag="match"):
    """Holds when `left` relates to `right`: "==" (also membership), "!=", "<", ">", "<=", ">="."""

    left: Expression
    right: Value
    op: str = "=="


class Flags(_Term, frozen=True, tag="flags"):
    """Holds when any of the named flags of `left` is set (ct state, ct status, tcp flags)."""

    left: Expression
    names: tuple[str, ...]
    invert: bool = False


class Verdict(_Term, frozen=True, tag="verdict"):
    """accept, drop, continue, return, jump, goto, queue; `target` the chain of the last two."""

    name: str
    target: str | None = None


class VerdictMap(_Term, frozen=True, tag="vmap"):
    """Looks `key` up and takes the verdict found; nothing found continues."""

    key: Expression
    map: str | tuple[tuple[Part | Range | tuple[Part | Range, ...], Verdict], ...]


class Lookup(_Term, frozen=True, tag="lookup"):
    """The data that a map gives for a key; the rule stops when there is none."""

    key: Expression
    map: str | tuple[tuple[Part | Range | tuple[Part | Range, ...], Part | tuple[Part, ...]], ...]


class Nat(_Term, frozen=True, tag="nat"):
    """dnat, snat, masquerade or redirect.

    The new address and port come from fixed values or from one map whose data is an
    address, a port, or an address and a port (`lookup`). `family` is "ip" or "ip6".
    """

    kind: str
    family: str | None = None
    address: Part | Range | None = None
    port: Part | Range | None = None
    lookup: Lookup | None = None
    flags: tuple[str, ...] = ()
    """random, fully-random, persistent, prefix: the part behind an address's prefix stays"""


class Reject(_Term, frozen=True, tag="reject"):
    """Answers with an error: kind "tcp reset", or an ICMP type such as "admin-prohibited"."""

    kind: str = "port-unreachable"


class SetField(_Term, frozen=True, tag="mangle"):
    """Writes a packet's or connection's field: (old & mask) ^ value; mask 0 replaces it."""

    target: Expression
    value: int | str
    mask: int = 0


class Copy(_Term, frozen=True, tag="copy"):
    """Copies one field to another (ct mark to mark and back), through a mask."""

    target: Expression
    source: Expression
    mask: int = 0xFFFFFFFF


class Limit(_Term, frozen=True, tag="limit"):
    """Holds while a rate is not exceeded ("10/second"); over: holds when it is."""

    text: str
    over: bool = False


class Counter(_Term, frozen=True, tag="counter"):
    """Counts packets and bytes."""

    packets: int = 0
    bytes: int = 0


class Log(_Term, frozen=True, tag="log"):
    """Writes a line to the kernel's log."""

    prefix: str = ""


class Notrack(_Term, frozen=True, tag="notrack"):
    """The packet is not tracked."""


class Opaque(_Term, frozen=True, tag="opaque"):
    """Something that is not understood: `test` says whether it can stop the rule."""

    text: str
    test: bool = True


Statement = (
    Match
    | Flags
    | Verdict
    | VerdictMap
    | Nat
    | Reject
    | SetField
    | Copy
    | Limit
    | Counter
    | Log
    | Notrack
    | Opaque
)


# Tables -------------------------------------------------------------------------------


class FirewallRule(msgspec.Struct, frozen=True):
    """One rule: its statements, and how a person finds it (handle, its own text)."""

    statements: tuple[Statement, ...]
    comment: str | None = None
    handle: int | None = None
    text: str | None = None


class Chain(msgspec.Struct, frozen=True, kw_only=True):
    """A chain. A base chain has a hook, with a type (filter, nat, route) and a priority."""

    name: str
    rules: tuple[FirewallRule, ...] = ()
    hook: str | None = None
    type: str = "filter"
    priority: int = 0
    policy: str = "accept"
    device: str | None = None


class SetDefinition(msgspec.Struct, frozen=True, kw_only=True):
    """A named set (or map, when `data` is given) without its elements.

    `key` and `data` are rows of nftables type names: ipv4_addr, ipv6_addr, ether_addr,
    inet_proto, inet_service, ifname, mark, verdict. `interval` allows ranges.
    """

    name: str
    key: tuple[str, ...]
    data: tuple[str, ...] | None = None
    interval: bool = False
    size: int | None = None
    timeout: int | None = None
    dynamic: bool = False
    comment: str | None = None


class Table(Object, frozen=True, kw_only=True):
    """A firewall table with its chains and sets; elements are objects of their own."""

    order = 2
    family: str
    name: str
    chains: tuple[Chain, ...] = ()
    sets: tuple[SetDefinition, ...] = ()
    flags: tuple[str, ...] = ()
    """owner, persist, dormant"""
    origin: str = "nft"
    """nft, iptables-nft or iptables-legacy: who keeps it and how it is printed."""

    @property
    def key(self) -> Key:
        return ("table", self.namespace, self.origin, self.family, self.name)
