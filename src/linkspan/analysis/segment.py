"""Who hears a frame: the links that share a segment, through bridges and other cables.

`spread` follows a frame that is sent to everybody, but only towards the namespaces that are
asked for: a bridge with a thousand ports is not looked at port by port.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from linkspan.analysis import bridgehooks
from linkspan.analysis.hooks import pass_device_hook
from linkspan.analysis.journey import Journey, Next
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.trace import Disposition
from linkspan.analysis.view import View
from linkspan.dataplane.links import (
    Bridge,
    Dummy,
    Ipvlan,
    Loopback,
    Macvlan,
    Tun,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.dataplane.objects import Link

_FORWARDING = 3
"""BR_STATE_FORWARDING."""


class Heard(NamedTuple):
    """A frame that was heard: where, and the frame as it was there.

    The namespace None is outside of what was observed; `link` is then the last link before.
    """

    namespace: str | None
    link: str
    frame: Packet


def port_index(view: View, place: Place, bridge: str) -> tuple[dict[str, list[str]], list[str]]:
    """The ports of a bridge: those with one namespace behind them by its name, and the others."""
    key = (place.name, bridge)
    found = view.port_indexes.get(key)
    if found is None:
        alone: dict[str, list[str]] = {}
        others: list[str] = []
        for port in place.ports[bridge]:
            peer = view.peer(port)
            if peer is None or peer.master or (peer.namespace, peer.name) in view.children:
                others.append(port.name)
            else:
                alone.setdefault(peer.namespace, []).append(port.name)
        found = view.port_indexes[key] = (alone, others)
    return found


def ports_towards(view: View, place: Place, bridge: str, wanted: frozenset[str]) -> list[str]:
    """The ports behind which one of some namespaces may be."""
    alone, others = port_index(view, place, bridge)
    found = [port for name in wanted for port in alone.get(name, ())]
    return found + others


def may_pass(place: Place, port: str | None, out: str) -> bool:
    """Whether a bridge passes frames from one port (None: its own host) out by another."""
    return why_not(place, port, out) is None


def why_not(place: Place, port: str | None, out: str) -> str | None:
    """Why a bridge does not pass a frame: "hairpin", "state", "isolated"; None if it does."""
    to = place.links[out].port
    if to is not None and to.state is not None and to.state != _FORWARDING:
        return "state"
    if port is None:
        return None
    if port == out and not (to is not None and to.hairpin):
        return "hairpin"
    from_ = place.links[port].port
    if to is not None and from_ is not None and to.isolated and from_.isolated:
        return "isolated"
    return None


def spread(
    journey: Journey, frame: Packet, link: str, wanted: frozenset[str], crossed: int = 0
) -> Iterator[Heard]:
    """Send a frame out by a link, to everybody on the segment; who hears it of those wanted."""
    view = journey.view
    place = view.place(frame.namespace)
    if not place.is_up(link) or crossed > 16:
        return
    found = place.links[link]
    frame.output_link = link
    if pass_device_hook(journey, frame, link, "egress") is not None:
        return
    if journey.stranger is not None and journey.stranger[:2] == (place.name, link):
        yield Heard(None, link, frame)
        return
    match found.kind:
        case Veth():
            peer = view.peer(found)
            if peer is None:
                yield Heard(None, link, frame)
            else:
                yield from arrive(journey, _moved(frame, peer), peer.name, wanted, crossed + 1)
        case Bridge():
            for out in ports_towards(view, place, link, wanted):
                copy = frame.copy()
                if may_pass(place, None, out) and not bridgehooks.pass_output(journey, copy, out):
                    yield from spread(journey, copy, out, wanted, crossed + 1)
        case Macvlan(mode=mode):
            if mode in (None, "bridge"):
                for sibling in siblings(view, found):
                    yield Heard(sibling.namespace, sibling.name, _moved(frame, sibling))
            yield from _through_parent(journey, frame, found, wanted, crossed)
        case Ipvlan():
            for sibling in siblings(view, found):
                yield Heard(sibling.namespace, sibling.name, _moved(frame, sibling))
            yield from _through_parent(journey, frame, found, wanted, crossed)
        case Vlan(vlan=number):
            copy = frame.copy()
            copy.vlan = number
            yield from _through_parent(journey, copy, found, wanted, crossed)
        case Vxlan():
            yield from _through_tunnel(journey, frame, found, wanted, crossed)
        case Loopback() | Dummy():
            return
        case Tun():
            yield Heard(None, link, frame)
        case _:
            yield Heard(None, link, frame)


def _moved(frame: Packet, to: Link) -> Packet:
    copy = frame.copy()
    copy.enter(to.namespace)
    return copy


def _through_parent(
    journey: Journey, frame: Packet, link: Link, wanted: frozenset[str], crossed: int
) -> Iterator[Heard]:
    parent = parent_of(journey.view, link)
    if parent is None:
        yield Heard(None, link.name, frame)
        return
    yield from spread(journey, _moved(frame, parent), parent.name, wanted, crossed + 1)


def _through_tunnel(
    journey: Journey, frame: Packet, link: Link, wanted: frozenset[str], crossed: int
) -> Iterator[Heard]:
    """Each copy goes as a UDP packet of its own, by the routes and rules of the hosts between."""
    from linkspan.analysis.tunnels import find_remotes, pack
    from linkspan.analysis.walk import walk_beside

    kind = link.kind
    assert isinstance(kind, Vxlan)
    for remote in find_remotes(journey.view, frame, link.name, kind):
        key = (frame.namespace, link.name, remote)
        if key in journey.carrying:
            continue  # the question of how to reach the end would itself go through the tunnel
        copy = frame.copy()
        step = walk_beside(journey, pack(copy, kind, remote), copy, key)
        if isinstance(step, Next):
            yield from arrive(journey, copy, step.link, wanted, crossed + 1)
        elif step.disposition in (Disposition.LEFT, Disposition.UNKNOWN):
            yield Heard(None, link.name, frame)


def arrive(
    journey: Journey, frame: Packet, link: str, wanted: frozenset[str], crossed: int
) -> Iterator[Heard]:
    """A frame comes in by a link: who behind it hears it."""
    view = journey.view
    place = view.place(frame.namespace)
    if not place.is_up(link):
        return
    frame.input_link = link
    if pass_device_hook(journey, frame, link, "ingress") is not None:
        return
    bridge = place.bridge_of(link)
    if bridge is not None:
        yield from _flood(journey, frame, bridge, link, wanted, crossed)
        return
    for child in view.children.get((place.name, link), ()):
        kind = child.kind
        if isinstance(kind, Vlan) != (frame.vlan is not None):
            continue
        if isinstance(kind, Vlan) and kind.vlan != frame.vlan:
            continue
        copy = _moved(frame, child)
        copy.vlan = None
        yield from arrive(journey, copy, child.name, wanted, crossed + 1)
    if frame.vlan is None and place.name in wanted:
        frame.input_link = link
        yield Heard(place.name, link, frame)


def _flood(
    journey: Journey, frame: Packet, bridge: str, port: str, wanted: frozenset[str], crossed: int
) -> Iterator[Heard]:
    view = journey.view
    place = view.place(frame.namespace)
    state = place.links[port].port
    if state is not None and state.state not in (None, _FORWARDING):
        return
    if bridgehooks.pass_prerouting(journey, frame, bridge, port):
        return
    if frame.passed_prerouting and bridgehooks.pass_late_prerouting(journey, frame):
        return
    if place.name in wanted and place.is_up(bridge):
        copy = frame.copy()
        if not bridgehooks.pass_input(journey, copy, port):
            copy.input_link = bridge
            yield Heard(place.name, bridge, copy)
    for out in ports_towards(view, place, bridge, wanted):
        if not may_pass(place, port, out):
            continue
        copy = frame.copy()
        if not bridgehooks.pass_forward(journey, copy, bridge, port, out):
            yield from spread(journey, copy, out, wanted, crossed + 1)


# Relations between links --------------------------------------------------------------


def parent_of(view: View, link: Link) -> Link | None:
    """The link below a macvlan, ipvlan or vlan link; None when it was not observed."""
    kind = link.kind
    if not isinstance(kind, (Macvlan, Ipvlan, Vlan)) or kind.parent is None:
        return None
    return view.link(kind.parent_namespace or link.namespace, kind.parent)


def siblings(view: View, link: Link) -> list[Link]:
    """The other links of the same kind on the same parent that hear each other."""
    kind = link.kind
    if not isinstance(kind, (Macvlan, Ipvlan)) or kind.parent is None:
        return []
    end = (kind.parent_namespace or link.namespace, kind.parent)
    return [
        child
        for child in view.children.get(end, ())
        if child is not link and type(child.kind) is type(kind) and child.up is not False
        and not (isinstance(child.kind, Macvlan) and child.kind.mode not in (None, "bridge"))
    ]  # fmt: skip
