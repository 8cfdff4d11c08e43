"""Where strangers are: the host's segments to the outside, and who takes frames from there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from linkspan.analysis.place import Place
from linkspan.analysis.segment import may_pass
from linkspan.analysis.view import View
from linkspan.dataplane.links import Macvlan, Other, Physical, Veth, Vlan
from linkspan.dataplane.objects import HOST, Link, Route

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
    VLANs on them, and cables whose other end was not observed. The host's uplink is one also
    where a namespace of this machine stands for the outside.
    """
    found = [
        link.name
        for link in view.place(namespace).links.values()
        if link.up is not False and _leads_out(view, link)
    ]
    uplink = find_uplink(view) if namespace == HOST else None
    if uplink is not None and uplink not in found:
        link = view.place(HOST).links[uplink]
        if link.up is not False and (not found or isinstance(link.kind, Veth)):
            found.append(uplink)
    return found


def find_uplink(view: View) -> str | None:
    """The host's link to the outside: that of its default route, else its network card."""
    if HOST not in view.namespaces:
        return None
    place = view.place(HOST)
    for route in place.of(Route):
        if route.destination in ("0.0.0.0/0", "::/0") and route.table == 254:
            link = route.link or (route.hops[0].link if route.hops else None)
            if link is not None and link in place.links:
                return _port_outside(view, place, link)
    return next((name for name in place.links if _is_outside(view, place.links[name])), None)


def _is_outside(view: View, link: Link) -> bool:
    return isinstance(link.kind, Physical) or (
        isinstance(link.kind, Veth) and view.peer(link) is None and not link.master
    )


def _port_outside(view: View, place: Place, link: str) -> str:
    """A bridge leads outside by the port that nobody observed is behind."""
    for port in place.ports.get(link, ()):
        if isinstance(port.kind, Physical) or (
            isinstance(port.kind, Veth) and view.peer(port) is None
        ):
            return port.name
    return link


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
