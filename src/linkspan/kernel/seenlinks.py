"""From links as one dump shows them to links whose peers, parents and masters have names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from linkspan.dataplane.links import Ipvlan, LinkKind, Macvlan, Veth, Vlan, Vxlan
from linkspan.dataplane.objects import Link
from linkspan.kernel.netlink.links import SeenLink


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
            kind = _complete_kind(link.kind, row.other, place, everywhere)
            if kind is not link.kind:
                changes["kind"] = kind
        yield msgspec.structs.replace(link, **changes) if changes else link


def _complete_kind(
    kind: LinkKind | None,
    other: int,
    place: str | None,
    everywhere: Mapping[str, Mapping[int, Link]],
) -> LinkKind | None:
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
                }
            return msgspec.structs.replace(kind, **changes)
        case Macvlan() | Ipvlan() | Vlan() | Vxlan():
            return msgspec.structs.replace(kind, parent=far.name if far else f"if{other}")
    return kind
