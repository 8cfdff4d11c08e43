"""Where strangers are: the host's segments to the outside, and who takes frames from there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from linkspan.analysis.segment import may_pass
from linkspan.analysis.view import View
from linkspan.dataplane.links import Macvlan, Other, Physical, Veth, Vlan
from linkspan.dataplane.objects import HOST, Link

_BUNDLES = frozenset(("bond", "team"))


class Receiver(NamedTuple):
    """Who takes the frames for a MAC on a segment: a link of a namespace, or a bridge there."""

    mac: str
    namespace: str
    link: str
    bridged: bool
    """A bridge is on the way to it."""


def find_segments(view: View, namespace: str = HOST) -> list[str]:
    """The links of a namespace behind which strangers can be: network cards, bundles of them,
    VLANs on them, and cables whose other end was not observed.
    """
    return [
        link.name
        for link in view.place(namespace).links.values()
        if link.up is not False and _leads_out(view, link)
    ]


def _leads_out(view: View, link: Link) -> bool:
    place = view.place(link.namespace)
    match link.kind:
        case Physical() | None:
            return not link.master or place.bridge_of(link.name) is not None
        case Veth():
            return view.peer(link) is None
        case Other(name):
            return name in _BUNDLES
        case Vlan(parent=parent, parent_namespace=elsewhere) if parent is not None:
            below = view.link(elsewhere or link.namespace, parent)
            return below is not None and _leads_out(view, below)
    return False


def find_receivers(view: View, namespace: str, link: str) -> list[Receiver]:
    """Everybody to whom a stranger on a link's segment can send frames, once a MAC."""
    found: dict[str, Receiver] = {}
    for one in _behind(view, namespace, link, False, set()):
        found.setdefault(one.mac, one)
    return list(found.values())


def _behind(
    view: View, namespace: str, link: str, bridged: bool, seen: set[tuple[str, str]]
) -> Iterator[Receiver]:
    place = view.place(namespace)
    if (namespace, link) in seen or not place.is_up(link):
        return
    seen.add((namespace, link))
    bridge = place.bridge_of(link)
    if bridge is None:
        yield Receiver(place.mac(link), namespace, link, bridged)
        for child in view.children.get((namespace, link), ()):
            # A macvlan link has a MAC of its own; ipvlan links share that of their parent.
            if isinstance(child.kind, Macvlan) and child.up is not False:
                yield from _behind(view, child.namespace, child.name, bridged, seen)
        return
    yield Receiver(place.mac(bridge), namespace, bridge, True)
    for port in place.ports[bridge]:
        if port.name == link or not may_pass(place, link, port.name):
            continue
        peer = view.peer(port)
        if peer is not None:
            yield from _behind(view, peer.namespace, peer.name, True, seen)
