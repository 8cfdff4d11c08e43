"""Links as the kernel shows them: from bytes to records with the names of other links.

A message refers to a link's master, parent and peer by number, and to the peer's namespace
by a number too; what these mean is known when all links of all namespaces are read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from linkspan.dataplane.links import (
    Ipvlan,
    LinkKind,
    Loopback,
    Macvlan,
    Physical,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.dataplane.objects import BridgePort, Link
from linkspan.kernel.netlink import linkkinds, links, wire
from linkspan.kernel.netlink.text import mac_text


class SeenLink(msgspec.Struct, frozen=True):
    """A link as one dump shows it: what refers to other links is still a number."""

    link: Link
    """Without peer, parent and master."""
    index: int
    master: int
    """Index of the master, 0 for none."""
    other: int
    """Index of the peer or parent (IFLA_LINK), 0 for none."""
    other_namespace: int | None
    """Number by which this namespace knows the one of `other`; None is this one."""
    attributes: dict[int, bytes]
    """Everything the kernel said."""


def read_info(payload: bytes) -> tuple[int, int, int]:
    """The fixed part of a link's message: family, index, flags (IFF_*)."""
    family, _, index, flags, _ = links.info.unpack_from(payload)
    return family, index, flags


def decode(payload: bytes, namespace: str) -> SeenLink:
    """A link from the payload of an RTM_NEWLINK message."""
    _, index, flags = read_info(payload)
    attributes = wire.parse_attributes(payload, links.INFO_SIZE)
    get = attributes.get
    info: Mapping[int, bytes] = {}
    parent = 0
    if (linkinfo := get(links.LINKINFO)) is not None:
        info = wire.parse_attributes(linkinfo)
    if links.INFO_KIND in info:
        data = wire.parse_attributes(info.get(links.INFO_DATA, b""))
        kind = linkkinds.decode(wire.read_text(info[links.INFO_KIND]), data)
        parent = linkkinds.parent_of(kind, data)
    else:
        kind = Loopback() if flags & links.LOOPBACK else Physical()
    port = None
    if info.get(links.INFO_SLAVE_KIND) == b"bridge\0" and links.INFO_SLAVE_DATA in info:
        port = _decode_port(wire.parse_attributes(info[links.INFO_SLAVE_DATA]))
    mac, alias = get(links.ADDRESS), get(links.IFALIAS)
    carrier, netnsid = get(links.CARRIER), get(links.LINK_NETNSID)
    link = Link(
        namespace=namespace,
        name=wire.read_text(attributes[links.IFNAME]),
        kind=kind,
        mac=mac_text(mac) if mac else None,
        mtu=wire.read_u32(attributes[links.MTU]),
        up=bool(flags & links.UP),
        master="",
        alias=wire.read_text(alias) if alias else "",
        port=port,
        ipv6_link_local=_link_local(get(links.AF_SPEC)),
        promiscuous=bool(flags & links.PROMISCUOUS),
        index=index,
        carrier=bool(carrier[0]) if carrier else None,
    )
    other = get(links.LINK)
    return SeenLink(
        link,
        index,
        wire.read_u32(attributes[links.MASTER]) if links.MASTER in attributes else 0,
        parent or (wire.read_u32(other) if other else 0),
        wire.read_s32(netnsid) if netnsid else None,
        attributes,
    )


def _decode_port(data: Mapping[int, bytes]) -> BridgePort:
    values = {name: bool(data[type][0]) for name, type in links.PORT_FLAGS if type in data}
    state = data[links.PORT_STATE][0] if links.PORT_STATE in data else None
    return BridgePort(state=state, **values)


def _link_local(af_spec: bytes | None) -> bool | None:
    if af_spec is None:
        return None
    inet6 = wire.parse_attributes(af_spec).get(links.AF_INET6)
    if inet6 is None:
        return False  # no IPv6 here: switched off, or the MTU is too small for it
    mode = wire.parse_attributes(inet6).get(links.ADDR_GEN_MODE)
    return None if mode is None else mode[0] != links.NONE


def number_links(seen: Iterable[SeenLink]) -> dict[int, Link]:
    """Links by their numbers."""
    return {row.index: row.link for row in seen}


def complete_links(
    seen: Iterable[SeenLink],
    namespace: str,
    peers: Mapping[int, str],
    everywhere: Mapping[str, Mapping[int, Link]],
) -> Iterator[Link]:
    """The links of one namespace with all that refers to other links.

    `peers` names the namespaces behind the numbers that this one gave to others,
    `everywhere` has the links of every namespace that was read, by their numbers.
    """
    own = everywhere[namespace]
    for row in seen:
        link = row.link
        changes: dict[str, object] = {}
        if row.master:
            changes["master"] = own[row.master].name if row.master in own else f"if{row.master}"
        if row.other:
            place = namespace if row.other_namespace is None else peers.get(row.other_namespace)
            kind = _complete_kind(link, row.other, place, everywhere)
            if kind is not link.kind:
                changes["kind"] = kind
        yield msgspec.structs.replace(link, **changes) if changes else link


def _complete_kind(
    link: Link,
    other: int,
    place: str | None,
    everywhere: Mapping[str, Mapping[int, Link]],
) -> LinkKind | None:
    kind = link.kind
    far = None if place is None else everywhere.get(place, {}).get(other)
    match kind:
        case Veth():
            changes: dict[str, object] = {"peer_namespace": place, "peer_index": other}
            if far is not None:
                changes |= {
                    "peer_name": far.name,
                    "peer_mac": far.mac,
                    "peer_mtu": far.mtu,
                    "peer_up": far.up,
                    "peer_ipv6_link_local": far.ipv6_link_local,
                }
            return msgspec.structs.replace(kind, **changes)
        case Macvlan() | Ipvlan() | Vlan():
            elsewhere = place if place != link.namespace else None
            parent = far.name if far else f"if{other}"
            return msgspec.structs.replace(kind, parent=parent, parent_namespace=elsewhere)
        case Vxlan():
            return msgspec.structs.replace(kind, parent=far.name if far else f"if{other}")
    return kind
