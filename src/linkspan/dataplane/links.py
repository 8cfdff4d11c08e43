"""Kinds of links and what only they have. Numbers and names are the kernel's (if_link.h)."""

from __future__ import annotations

import msgspec


class _Kind(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind"):
    """One kind of link; None in a field means not stated."""


class Loopback(_Kind, frozen=True, tag="loopback"):
    """lo."""


class Physical(_Kind, frozen=True, tag="physical"):
    """A device without link information: a network card, or a virtual machine's."""


class Bridge(_Kind, frozen=True, tag="bridge"):
    """A Linux bridge. Times in seconds."""

    stp: bool | None = None
    forward_delay: int | None = None
    ageing: int | None = None
    multicast_snooping: bool | None = None
    vlan_filtering: bool | None = None
    netfilter_ip: bool | None = None
    """The bridge's own nf_call_iptables: bridged IPv4 passes the IP hooks."""
    netfilter_ip6: bool | None = None


class Veth(_Kind, frozen=True, tag="veth"):
    """One end of a virtual cable. The peer is another Link, in `peer_namespace`.

    A described pair is stated once, at the end that stays with the host; `peer` then says
    how the other end is made.
    """

    peer_name: str | None = None
    peer_namespace: str | None = None
    peer_mac: str | None = None
    peer_mtu: int | None = None
    peer_up: bool | None = None
    peer_ipv6_link_local: bool | None = None
    peer_index: int | None = None
    """Index of the peer in its namespace; only observed."""


class Macvlan(_Kind, frozen=True, tag="macvlan"):
    """A link with a MAC of its own on a parent: bridge, private, vepa, passthru, source."""

    parent: str | None = None
    mode: str | None = None
    parent_namespace: str | None = None
    """Namespace of the parent when it is not this link's own."""


class Ipvlan(_Kind, frozen=True, tag="ipvlan"):
    """A link that shares its parent's MAC: l2, l3 or l3s; flag bridge, private or vepa."""

    parent: str | None = None
    mode: str | None = None
    flag: str | None = None
    parent_namespace: str | None = None
    """Namespace of the parent when it is not this link's own."""


class Vlan(_Kind, frozen=True, tag="vlan"):
    """An 802.1Q sub-interface."""

    parent: str | None = None
    vlan: int | None = None
    parent_namespace: str | None = None
    """Namespace of the parent when it is not this link's own."""


class Vxlan(_Kind, frozen=True, tag="vxlan"):
    """A VXLAN tunnel end (VTEP)."""

    vni: int | None = None
    local: str | None = None
    remote: str | None = None
    parent: str | None = None
    port: int | None = None
    learning: bool | None = None


class Tun(_Kind, frozen=True, tag="tun"):
    """A TUN or TAP device."""

    tap: bool | None = None


class Dummy(_Kind, frozen=True, tag="dummy"):
    """A device that swallows everything."""


class Other(_Kind, frozen=True, tag="other"):
    """A kind that linkspan has no record for; `name` is the kernel's."""

    name: str


LinkKind = (
    Loopback | Physical | Bridge | Veth | Macvlan | Ipvlan | Vlan | Vxlan | Tun | Dummy | Other
)
