"""Between links: a frame leaves by one and comes in by another."""

from __future__ import annotations

from linkspan.analysis.hooks import pass_device_hook
from linkspan.analysis.journey import LONGEST, Journey, Next, Outcome
from linkspan.analysis.neighbours import OUTSIDE_MAC
from linkspan.analysis.packet import BROADCAST, Packet
from linkspan.analysis.place import Place
from linkspan.analysis.segment import parent_of, siblings
from linkspan.analysis.trace import Disposition
from linkspan.dataplane.links import (
    Bridge,
    Dummy,
    Ipvlan,
    Loopback,
    Macvlan,
    Other,
    Physical,
    Tun,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.dataplane.objects import Link
from linkspan.dataplane.programs import Program


def transmit(journey: Journey, packet: Packet, link: str) -> Outcome:
    """A frame leaves by a link."""
    place = journey.place(packet)
    journey.crossed += 1
    if journey.crossed > LONGEST:
        return journey.end(Disposition.LOOP, packet, "it goes in circles")
    if not place.is_up(link):
        return journey.end(Disposition.LINK_DOWN, packet, f"{link} of {place.name} is down")
    found = place.links[link]
    packet.output_link = link
    _note_programs(journey, place, link, ("egress",))
    ending = pass_device_hook(journey, packet, link, "egress")
    if ending is not None:
        return ending
    if journey.stranger is not None and journey.stranger[:2] == (place.name, link):
        return _leave(journey, packet, link)
    match found.kind:
        case Bridge():
            return Next("bridge_out", packet, link)
        case Veth():
            return _cross(journey, packet, found)
        case Macvlan():
            return _leave_macvlan(journey, packet, found)
        case Ipvlan():
            return _leave_ipvlan(journey, packet, found)
        case Vlan(vlan=number):
            parent = parent_of(journey.view, found)
            if parent is None:
                return _leave(journey, packet, link)
            packet.vlan = number
            return Next("transmit", _moved(packet, parent), parent.name)
        case Vxlan():
            return Next("tunnel", packet, link)
        case Dummy():
            return journey.end(Disposition.SWALLOWED, packet, f"{link} is a dummy link")
        case Loopback():
            return Next("take_in", packet, link)
        case Tun():
            return journey.end(
                Disposition.UNKNOWN, packet,
                f"{link} hands it to a program; what that does with it is not known",
            )  # fmt: skip
        case Physical() | None:
            return _leave(journey, packet, link)
        case Other(name):
            return journey.end(
                Disposition.UNKNOWN, packet, f"{link} is of kind {name}, which is not understood"
            )


def _note_programs(journey: Journey, place: Place, link: str, hooks: tuple[str, ...]) -> None:
    """Programs at a link may do anything to what passes it in their direction."""
    for program in place.of(Program):
        if program.link == link and program.hook in hooks:
            journey.misunderstood(f"what {program} of {place.name} does")


def _moved(packet: Packet, to: Link) -> Packet:
    """The packet in the namespace of a link below or beside: no cable wipes its state there."""
    if to.namespace != packet.namespace:
        packet.enter(to.namespace)
    return packet


def _cross(journey: Journey, packet: Packet, link: Link) -> Outcome:
    peer = journey.view.peer(link)
    if peer is None:
        return _leave(journey, packet, link.name)
    if peer.up is False:
        return journey.end(
            Disposition.LINK_DOWN, packet,
            f"{peer.name} of {peer.namespace}, the other end of {link.name}, is down",
        )  # fmt: skip
    journey.recorder.step(
        "transmit", link.name, f"to {peer.name} of {peer.namespace}",
        f"crosses from {link.name} to {peer.name} of {peer.namespace}", minor=True,
    )  # fmt: skip
    packet.enter(peer.namespace)
    journey.recorder.enter(peer.namespace)
    return Next("receive", packet, peer.name)


def _leave(journey: Journey, packet: Packet, link: str) -> Outcome:
    """It goes where nobody was observed: to a stranger, or to the wide world."""
    place = journey.place(packet)
    expected = journey.expected
    if expected is not None and expected.namespace is None:
        if expected.ends != packet.ends:
            return journey.end(
                Disposition.WRONG_ADDRESS, packet,
                f"{packet.flow} leaves by {link}: not the answer that the stranger waits for",
            )  # fmt: skip
        return journey.end(
            Disposition.DELIVERED, packet, f"leaves by {link} of {place.name} to its sender"
        )
    if expected is not None:
        return journey.end(
            Disposition.WRONG_ADDRESS, packet, f"the answer leaves by {link} of {place.name}"
        )
    target = packet.flow.destination
    if packet.destination_mac == OUTSIDE_MAC:
        journey.misunderstood(f"what is beyond {link} of {place.name}")
    return journey.end(
        Disposition.LEFT, packet,
        f"leaves by {link} of {place.name} towards {target}; beyond that nothing was observed",
    )  # fmt: skip


def _leave_macvlan(journey: Journey, packet: Packet, link: Link) -> Outcome:
    kind = link.kind
    assert isinstance(kind, Macvlan)
    if kind.mode in (None, "bridge"):
        for sibling in siblings(journey.view, link):
            if sibling.mac == packet.destination_mac:
                journey.recorder.step(
                    "transmit", link.name, f"to {sibling.name} of {sibling.namespace}",
                    f"{link.name} and {sibling.name} share {kind.parent}", minor=True,
                )  # fmt: skip
                packet.enter(sibling.namespace)
                journey.recorder.enter(sibling.namespace)
                return Next("receive", packet, sibling.name)
    parent = parent_of(journey.view, link)
    if parent is None:
        return _leave(journey, packet, link.name)
    packet.enter(parent.namespace)
    journey.recorder.enter(parent.namespace)
    journey.recorder.step(
        "transmit", parent.name, f"for {link.name}",
        f"goes out by {parent.name}, past the host's own rules",
    )  # fmt: skip
    return Next("transmit", packet, parent.name)


def _leave_ipvlan(journey: Journey, packet: Packet, link: Link) -> Outcome:
    """Links on one parent share its MAC: who has the destination address gets the packet."""
    kind = link.kind
    assert isinstance(kind, Ipvlan)
    view = journey.view
    apart = kind.flag in ("private", "vepa")
    for sibling in siblings(view, link):
        there = view.place(sibling.namespace)
        if there.has_address(packet.destination, packet.version, sibling.name) and not apart:
            packet.enter(sibling.namespace)
            journey.recorder.enter(sibling.namespace)
            return Next("receive", packet, sibling.name)
    parent = parent_of(view, link)
    if parent is None:
        return _leave(journey, packet, link.name)
    packet.enter(parent.namespace)
    journey.recorder.enter(parent.namespace)
    if kind.mode in ("l3", "l3s"):
        return Next("send", packet, "")
    return Next("transmit", packet, parent.name)


def receive(journey: Journey, packet: Packet, link: str) -> Outcome:
    """A frame comes in by a link: a port of a bridge, a link with others on it, or the host's."""
    place = journey.place(packet)
    if not place.is_up(link):
        return journey.end(Disposition.LINK_DOWN, packet, f"{link} of {place.name} is down")
    packet.input_link = link
    _note_programs(journey, place, link, ("xdp", "ingress"))
    ending = pass_device_hook(journey, packet, link, "ingress")
    if ending is not None:
        return ending
    found = place.links[link]
    children = journey.view.children.get((place.name, link), ())
    for child in children:
        if _takes(journey, packet, child):
            packet.vlan = None
            packet.enter(child.namespace)
            journey.recorder.enter(child.namespace)
            return Next("receive", packet, child.name)
    if place.bridge_of(link) is not None:
        return Next("bridge_in", packet, link)
    if found.master:
        master = place.links.get(found.master)
        kind = getattr(getattr(master, "kind", None), "name", "unknown")
        return journey.end(
            Disposition.UNKNOWN, packet,
            f"{link} belongs to {found.master} of kind {kind}, which is not understood",
        )  # fmt: skip
    mac = packet.destination_mac
    if packet.vlan is not None:
        return journey.end(
            Disposition.WRONG_ADDRESS, packet, f"nobody on {link} takes VLAN {packet.vlan}"
        )
    if mac and mac not in (place.mac(link), BROADCAST) and not isinstance(found.kind, Ipvlan):
        return journey.end(
            Disposition.WRONG_ADDRESS, packet,
            f"{link} of {place.name} has {place.mac(link)}, the frame is for {mac}",
        )  # fmt: skip
    if not isinstance(found.kind, Bridge):
        journey.recorder.step("receive", link, packet.source_mac, f"comes in by {link}")
    return Next("take_in", packet, link)


def _takes(journey: Journey, packet: Packet, child: Link) -> bool:
    """Whether a link on top of another takes a frame that came in below."""
    if child.up is False:
        return False
    match child.kind:
        case Vlan(vlan=number):
            return packet.vlan == number
        case Macvlan(mode="passthru"):
            return True
        case Macvlan():
            place = journey.view.place(child.namespace)
            return place.mac(child.name) == packet.destination_mac
        case Ipvlan():
            there = journey.view.place(child.namespace)
            return there.has_address(packet.destination, packet.version, child.name)
    return False
