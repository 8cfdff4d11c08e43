"""The nouns of a Linux data plane: frozen records, one class a kind of kernel object.

A field that is None means "not stated": an observed object states everything that was
read, a described one only what its driver asks for. `key` is an object's identity: two
objects with one key are the same thing in two states.

Addresses, prefixes and MACs are text in canonical form ("10.20.0.2", "10.20.0.0/24",
"02:42:0a:14:00:02"), as a person and `ip` write them. Namespaces are named by a short
text that the observer or the engine chose; "host" is the one the host itself lives in.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from linkspan.dataplane.links import LinkKind

HOST = "host"
Key = tuple[str | int | tuple[object, ...] | None, ...]


class Object(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One kernel object in one namespace."""

    order: ClassVar[int] = 0
    """Creation order between kinds: lower is made first and removed last."""

    namespace: str = HOST

    @property
    def key(self) -> Key:
        """Identity: equal for two states of one thing."""
        raise NotImplementedError


class Namespace(Object, frozen=True, kw_only=True):
    """A network namespace. `namespace` is its name; `path` a file that holds it."""

    order: ClassVar[int] = 0
    path: str | None = None
    inode: int | None = None
    planned: bool | None = None
    """It exists in a plan alone: which programs will listen in it is not known."""

    @property
    def key(self) -> Key:
        return ("namespace", self.namespace)


class BridgePort(msgspec.Struct, frozen=True, kw_only=True):
    """What a link is set to as a port of a bridge (IFLA_BRPORT_*)."""

    hairpin: bool | None = None
    isolated: bool | None = None
    learning: bool | None = None
    flood: bool | None = None
    state: int | None = None


class Link(Object, frozen=True, kw_only=True):
    """A network interface. `kind` carries what only its kind has.

    `mtu` in bytes; `master` the name of the bridge (or bond, vrf) it is enslaved to, ""
    for none; `index` and `carrier` are only ever observed.
    """

    order: ClassVar[int] = 4
    name: str
    kind: LinkKind | None = None
    mac: str | None = None
    mtu: int | None = None
    up: bool | None = None
    master: str | None = None
    alias: str | None = None
    port: BridgePort | None = None
    ipv6_link_local: bool | None = None
    """False: the kernel makes no link-local address here (addr_gen_mode none)."""
    promiscuous: bool | None = None
    index: int | None = None
    carrier: bool | None = None

    @property
    def key(self) -> Key:
        return ("link", self.namespace, self.name)


class Address(Object, frozen=True, kw_only=True):
    """An address on a link, with prefix length ("10.20.0.2/24")."""

    order: ClassVar[int] = 5
    link: str
    address: str
    scope: str | None = None
    """global, link, host, site"""
    broadcast: str | None = None
    peer: str | None = None
    nodad: bool | None = None
    noprefixroute: bool | None = None

    @property
    def key(self) -> Key:
        return ("address", self.namespace, self.link, self.address)


class NextHop(msgspec.Struct, frozen=True, kw_only=True):
    """One of several ways of a multipath route."""

    gateway: str | None = None
    link: str | None = None
    weight: int = 1
    encap: str | None = None
    """As in Route."""


class Route(Object, frozen=True, kw_only=True):
    """A route of one table. `destination` is a prefix; "0.0.0.0/0" or "::/0" the default.

    `protocol` is the number of RTA protocol (2 kernel, 3 boot, 4 static, ours 0x6c);
    `type` unicast, local, broadcast, blackhole, unreachable, prohibit, throw, ...
    """

    order: ClassVar[int] = 6
    destination: str
    gateway: str | None = None
    link: str | None = None
    table: int = 254
    metric: int = 0
    type: str = "unicast"
    source: str | None = None
    scope: str | None = None
    protocol: int | None = None
    onlink: bool | None = None
    mtu: int | None = None
    hops: tuple[NextHop, ...] | None = None
    tos: int = 0
    """The route holds only for packets with this type of service (IPv4); 0 for all."""
    source_prefix: str | None = None
    """The route holds only for packets from there (IPv6); None for all."""
    encap: str | None = None
    """What the packet is wrapped in by the route itself: mpls, ip, ip6, seg6, bpf, xfrm, ..."""
    nexthop: int | None = None
    """Number of the nexthop object that says the way; the way itself is stated too."""

    @property
    def key(self) -> Key:
        # One destination can be reached over several links at one metric in IPv6 and, for
        # local and broadcast routes, in IPv4; the link tells those apart.
        link = self.link if ":" in self.destination or self.table == 255 else None
        key: Key = ("route", self.namespace, self.table, self.destination, self.metric, link)
        return (*key, self.tos, self.source_prefix) if self.tos or self.source_prefix else key


class Rule(Object, frozen=True, kw_only=True):
    """A policy routing rule (`ip rule`). Prefixes and names as text, None for any."""

    order: ClassVar[int] = 7
    priority: int
    family: str = "ip"
    """ip or ip6"""
    source: str | None = None
    destination: str | None = None
    input_link: str | None = None
    output_link: str | None = None
    mark: int | None = None
    mark_mask: int | None = None
    table: int | None = None
    action: str = "lookup"
    invert: bool = False
    tos: int = 0
    protocol: int | None = None
    suppress_prefix_length: int | None = None
    uid_range: tuple[int, int] | None = None
    ip_protocol: int | None = None
    source_ports: tuple[int, int] | None = None
    destination_ports: tuple[int, int] | None = None
    l3mdev: bool = False
    """The table is that of the VRF that the packet comes from or leaves by."""
    suppress_group: int | None = None
    """Routes that leave by a link of this group do not count."""
    others: tuple[str, ...] = ()
    """Tests that linkspan cannot make, by name and number ("tun_id 7")."""

    @property
    def key(self) -> Key:
        return (
            "rule", self.namespace, self.family, self.priority, self.source, self.destination,
            self.input_link, self.output_link, self.mark, self.mark_mask, self.table, self.action,
            self.invert, self.tos, *self.others,
        )  # fmt: skip


class Neighbour(Object, frozen=True, kw_only=True):
    """An entry of the neighbour table: which MAC an address has on a link."""

    order: ClassVar[int] = 8
    link: str
    address: str
    mac: str | None = None
    state: str | None = None
    """permanent, reachable, stale, delay, probe, failed, incomplete, noarp"""
    proxy: bool = False

    @property
    def key(self) -> Key:
        return ("neighbour", self.namespace, self.link, self.address, self.proxy)


class FdbEntry(Object, frozen=True, kw_only=True):
    """A forwarding entry of a bridge or of a vxlan link: which port or VTEP has a MAC."""

    order: ClassVar[int] = 9
    link: str
    mac: str
    vlan: int | None = None
    remote: str | None = None
    """Address of the remote VTEP (vxlan)."""
    permanent: bool | None = None
    own: bool = False
    """The entry is in the link's own table (NTF_SELF), not in its master's."""

    @property
    def key(self) -> Key:
        return ("fdb", self.namespace, self.link, self.mac, self.vlan, self.remote, self.own)


class Sysctl(Object, frozen=True, kw_only=True):
    """A kernel setting of a namespace: path below /proc/sys/net ("ipv4/conf/eth0/forwarding")."""

    order: ClassVar[int] = 10
    path: str
    value: str

    @property
    def key(self) -> Key:
        return ("sysctl", self.namespace, self.path)


Part = str | int
"""One component of a set key or of map data: an address, MAC, name or protocol is text, a
port, mark or index a number, a verdict "accept", "drop", "jump NAME" or "goto NAME"."""


class Element(Object, frozen=True, kw_only=True):
    """An element of an nftables set or map.

    `first` is the key, one part a component; `last` the inclusive end of a range (the same
    number of parts), None for a single value; `data` what a map gives.
    """

    order: ClassVar[int] = 3
    family: str = "inet"
    table: str
    set: str
    first: tuple[Part, ...]
    last: tuple[Part, ...] | None = None
    data: tuple[Part, ...] | None = None

    @property
    def key(self) -> Key:
        return ("element", self.namespace, self.family, self.table, self.set, self.first, self.last)
