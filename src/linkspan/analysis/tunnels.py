"""VXLAN: a frame inside a UDP packet of the host's own (RFC 7348)."""

from __future__ import annotations

from linkspan.analysis.addresses import to_number, version_of
from linkspan.analysis.flow import join
from linkspan.analysis.journey import Journey, Next, Outcome
from linkspan.analysis.packet import BROADCAST, Carried, Packet
from linkspan.analysis.trace import Disposition
from linkspan.dataplane.links import Vxlan

_PORT = 4789


def enter_tunnel(journey: Journey, packet: Packet, link: str) -> Outcome:
    """A frame leaves by a vxlan link: packed, and sent to the end that has its MAC."""
    place = journey.place(packet)
    kind = place.links[link].kind
    assert isinstance(kind, Vxlan)
    remotes = _remotes(journey, packet, link, kind)
    if not remotes:
        return journey.end(
            Disposition.NOT_BRIDGED, packet,
            f"{link} of {place.name} knows no tunnel end with {packet.destination_mac}",
        )  # fmt: skip
    remote = journey.choices.choose(f"which tunnel end of {link} has the MAC", remotes, remotes)
    port = kind.port or _PORT
    journey.recorder.step(
        "tunnel", link, f"to {remote}",
        f"{link} packs it for {join(remote, port)} (VXLAN {kind.vni})",
    )  # fmt: skip
    outer = Packet(place.name, version_of(remote), 17)
    outer.source = to_number(kind.local) if kind.local else 0
    outer.destination, outer.destination_port = to_number(remote), port
    outer.source_port = 0
    outer.carried = Carried(packet, kind.vni)
    return Next("send", outer, "")


def _remotes(journey: Journey, packet: Packet, link: str, kind: Vxlan) -> list[str]:
    entries = journey.place(packet).tunnel_entries.get(link, [])
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
    view = journey.view
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
            journey.recorder.step(
                "tunnel", link.name, f"VXLAN {kind.vni}", f"is unpacked by {link.name}"
            )
            return Next("receive", frame, link.name)
    return journey.end(
        Disposition.REFUSED, packet, f"{place.name} has no link of VXLAN {carried.vni}"
    )
