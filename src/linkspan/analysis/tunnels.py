"""VXLAN: a frame inside a UDP packet of the host's own (RFC 7348)."""

from __future__ import annotations

from linkspan.analysis.addresses import to_number, version_of
from linkspan.analysis.flow import join
from linkspan.analysis.journey import Journey, Next, Outcome
from linkspan.analysis.packet import BROADCAST, Carried, Packet
from linkspan.analysis.trace import Disposition
from linkspan.analysis.view import View
from linkspan.dataplane.links import Vxlan

_PORT = 4789
_SOME_PORT = 49152
"""Tunnels send from a port that they reckon from what is inside (udp_flow_src_port): one of the
usual range of ports stands for all.
"""


def enter_tunnel(journey: Journey, packet: Packet, link: str) -> Outcome:
    """A frame leaves by a vxlan link: packed, and sent to the end that has its MAC."""
    place = journey.place(packet)
    kind = place.links[link].kind
    assert isinstance(kind, Vxlan)
    remotes = find_remotes(journey.view, packet, link, kind)
    if not remotes:
        return journey.end(
            Disposition.NOT_BRIDGED, packet,
            f"{link} of {place.name} knows no tunnel end with {packet.destination_mac}",
        )  # fmt: skip
    remote = journey.choices.choose(f"which tunnel end of {link} has the MAC", remotes, remotes)
    journey.recorder.step(
        "tunnel", link, f"to {remote}",
        f"{link} packs it for {join(remote, kind.port or _PORT)} (VXLAN {kind.vni})",
    )  # fmt: skip
    return pack(packet, kind, remote)


def pack(packet: Packet, kind: Vxlan, remote: str) -> Next:
    """The UDP packet for a tunnel's end, ready to be sent with the frame inside: it is the same
    packet with its mark (vxlan_xmit_one), bound to the link that the tunnel was made on.
    """
    outer = Packet(packet.namespace, version_of(remote), 17)
    outer.source = to_number(kind.local) if kind.local else 0
    outer.destination, outer.destination_port = to_number(remote), kind.port or _PORT
    outer.source_port = _SOME_PORT
    outer.mark = packet.mark
    outer.carried = Carried(packet, kind.vni)
    return Next("send", outer, kind.parent or "")


def find_remotes(view: View, packet: Packet, link: str, kind: Vxlan) -> list[str]:
    """The tunnel ends that a frame is packed for; where one of several takes it, all that may."""
    entries = view.place(packet.namespace).tunnel_entries.get(link, [])
    mac = packet.destination_mac
    exact = [entry.remote for entry in entries if entry.mac == mac and entry.remote]
    if exact:
        return exact
    found = [e.remote for e in entries if e.mac == "00:00:00:00:00:00" and e.remote]
    if kind.remote and kind.remote not in found:
        found.append(kind.remote)
    if len(found) < 2 or mac == BROADCAST:
        return found
    # Sent to all: the end behind which the MAC is takes it.
    places = {namespace for namespace, _ in view.by_mac.get(mac, ())}
    with_mac = [
        remote
        for remote in found
        if places & set(view.owners.get((version_of(remote), to_number(remote)), ()))
    ]
    return with_mac or found


def leave_tunnel(journey: Journey, packet: Packet, carried: Carried) -> Outcome:
    """The UDP packet has arrived: the frame goes on at the vxlan link of that network."""
    place = journey.place(packet)
    for link in journey.view.tunnels:
        kind = link.kind
        if link.namespace != place.name or link.up is False or not isinstance(kind, Vxlan):
            continue
        if kind.vni == carried.vni and (kind.port or _PORT) == packet.destination_port:
            frame = carried.frame
            frame.enter(place.name)
            frame.mark = packet.mark
            journey.recorder.step(
                "tunnel", link.name, f"VXLAN {kind.vni}", f"is unpacked by {link.name}"
            )
            return Next("receive", frame, link.name)
    return journey.end(
        Disposition.REFUSED, packet, f"{place.name} has no link of VXLAN {carried.vni}"
    )
