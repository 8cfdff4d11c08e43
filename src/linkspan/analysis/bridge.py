"""A bridge passes a frame on: which port it leaves by, or that it is for the host itself."""

from __future__ import annotations

from linkspan.analysis import bridgehooks
from linkspan.analysis.addresses import to_text
from linkspan.analysis.admission import Admitted, admit
from linkspan.analysis.journey import STRANGER_MAC, Ending, Journey, Next, Outcome
from linkspan.analysis.neighbours import OUTSIDE_MAC, Unreachable, resolve
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.segment import may_pass, ports_towards, why_not
from linkspan.analysis.trace import Disposition
from linkspan.analysis.view import View
from linkspan.dataplane.links import Bridge, Veth

_FORWARDING = 3


def bridge_in(journey: Journey, packet: Packet, port: str) -> Outcome:
    """A frame comes in by a port of a bridge."""
    place = journey.place(packet)
    bridge = place.bridge_of(port)
    assert bridge is not None
    state = place.links[port].port
    if state is not None and state.state not in (None, _FORWARDING):
        return journey.end(
            Disposition.NOT_BRIDGED, packet, f"port {port} of {bridge} is not forwarding"
        )
    kind = place.links[bridge].kind
    if isinstance(kind, Bridge) and kind.vlan_filtering:
        journey.misunderstood(f"which VLANs the ports of {bridge} take")
    packet.port = port
    before = packet.destination
    ending = bridgehooks.pass_prerouting(journey, packet, bridge, port)
    if ending is None and packet.passed_prerouting:
        if packet.destination != before:
            ending = _aim_again(journey, place, packet, bridge)
        ending = ending or bridgehooks.pass_late_prerouting(journey, packet)
    if ending is not None:
        return ending
    return _pass_on(journey, place, packet, bridge, port)


def _aim_again(journey: Journey, place: Place, packet: Packet, bridge: str) -> Ending | None:
    """A new destination needs a new MAC (br_nf_pre_routing_finish): a neighbour on this very
    bridge, or the bridge itself, which then routes. IPv4 asks whether the bridge forwards even
    for what only turns around, IPv6 does not.
    """
    admitted = admit(place, packet, bridge, journey.choices, forwarding=packet.version == 6)
    if not isinstance(admitted, Admitted):
        return journey.end(admitted.disposition, packet, admitted.reason)
    way = admitted.way
    if way.type != "unicast" or way.link != bridge:
        packet.destination_mac = place.mac(bridge)
        return None
    version, address = way.gateway or (packet.version, packet.destination)
    neighbour = resolve(journey, place, bridge, version, address, packet.source)
    if isinstance(neighbour, Unreachable):
        return journey.end(Disposition.NEIGHBOUR_UNREACHABLE, packet, neighbour.reason)
    packet.destination_mac = neighbour.mac
    text = to_text(packet.destination, packet.version)
    journey.recorder.step(
        "bridge", bridge, neighbour.mac,
        f"{text} is on the bridge it came from: {bridge} turns it around without routing",
    )  # fmt: skip
    return None


def _pass_on(journey: Journey, place: Place, packet: Packet, bridge: str, port: str) -> Outcome:
    mac = packet.destination_mac
    if is_for_host(place, bridge, mac):
        ending = bridgehooks.pass_input(journey, packet, port)
        if ending is not None:
            return ending
        if not place.is_up(bridge):
            return journey.end(Disposition.LINK_DOWN, packet, f"{bridge} is down")
        journey.recorder.step("receive", bridge, f"by {port}", f"comes in by {bridge} ({port})")
        return Next("receive", packet, bridge)
    out = find_port(journey, place, packet, bridge, port)
    if isinstance(out, Ending):
        return out
    journey.recorder.step(
        "bridge", bridge, f"{port} to {out}", f"{bridge} passes it from {port} to {out}"
    )
    ending = bridgehooks.pass_forward(journey, packet, bridge, port, out)
    return ending or Next("transmit", packet, out)


def bridge_out(journey: Journey, packet: Packet, bridge: str) -> Outcome:
    """The host itself sends a frame by its bridge."""
    place = journey.place(packet)
    out = find_port(journey, place, packet, bridge, None)
    if isinstance(out, Ending):
        return out
    journey.recorder.step("bridge", bridge, f"to {out}", f"{bridge} sends it out by {out}",
                          minor=True)  # fmt: skip
    ending = bridgehooks.pass_output(journey, packet, out)
    return ending or Next("transmit", packet, out)


def is_for_host(place: Place, bridge: str, mac: str) -> bool:
    """Whether frames to a MAC are for the bridge's own host: its MAC, or that of a port."""
    if mac == place.mac(bridge):
        return True
    if any(port.mac == mac for port in place.ports[bridge]):
        return True
    entry = place.forwarding_entries.get((bridge, mac))
    return entry is not None and bool(entry.permanent)


def find_port(
    journey: Journey, place: Place, packet: Packet, bridge: str, port: str | None
) -> str | Ending:
    """The port that a frame leaves by; the end where no port passes it to its MAC."""
    mac = packet.destination_mac
    entry = place.forwarding_entries.get((bridge, mac))
    behind = _ports_with(journey, place, bridge, mac)
    learned = None
    if entry is not None and entry.link != bridge and not entry.permanent:
        learned = entry.link
    settings = {one.name: one.port for one in place.ports[bridge] if one.port is not None}
    deaf = [out for out in behind if out in settings and settings[out].learning is False]
    # Who answers is learned, also where an entry says otherwise; a port that does not learn
    # leaves the entry as it is, or the frame to be sent out by all ports (br_handle_frame_finish).
    if learned is not None and (learned in behind or len(deaf) == len(behind)):
        behind = [learned]
    elif learned is None and deaf == behind != []:
        behind = [out for out in deaf if settings[out].flood is not False]
        if not behind:
            return journey.end(
                Disposition.NOT_BRIDGED, packet,
                f"port {deaf[0]} of {bridge} does not learn and gets no unknown frames (flood)",
            )  # fmt: skip
    passing = [out for out in behind if may_pass(place, port, out)]
    if passing:
        return journey.choices.choose(f"behind which port of {bridge} {mac} is", passing, passing)
    if not behind:
        return journey.end(
            Disposition.NOT_BRIDGED, packet, f"nobody behind {bridge} of {place.name} has {mac}"
        )
    why = why_not(place, port, behind[0])
    if why == "isolated":
        return journey.end(
            Disposition.ISOLATED, packet,
            f"{port} and {behind[0]} are isolated ports of {bridge}",
        )  # fmt: skip
    if why == "hairpin":
        return journey.end(
            Disposition.NOT_BRIDGED, packet,
            f"{bridge} sends nothing back by {port} (no hairpin)",
        )  # fmt: skip
    return journey.end(
        Disposition.NOT_BRIDGED, packet, f"port {behind[0]} of {bridge} is not forwarding"
    )


def _ports_with(journey: Journey, place: Place, bridge: str, mac: str) -> list[str]:
    """The ports behind which a MAC is; ports to the outside when nobody observed has it."""
    view = journey.view
    owners = frozenset(namespace for namespace, _ in view.by_mac.get(mac, ()))
    if mac.startswith("mac-of-") and mac not in (STRANGER_MAC, OUTSIDE_MAC):
        owners = frozenset(view.namespaces)
    found: list[str] = []
    outside: list[str] = []
    for name in ports_towards(view, place, bridge, owners):
        where = _leads_to(journey, place.name, name, mac, frozenset(((place.name, bridge),)))
        if where is True:
            found.append(name)
        elif where is None:
            outside.append(name)
    return found or outside


def _leads_to(
    journey: Journey, namespace: str, port: str, mac: str, seen: frozenset[tuple[str, str]]
) -> bool | None:
    """Whether a MAC is behind a link; None when that leads outside of what was observed."""
    view = journey.view
    stranger = journey.stranger
    if stranger is not None and stranger[:2] == (namespace, port):
        return True if mac == STRANGER_MAC else None
    link = view.link(namespace, port)
    if link is None:
        return None
    if not isinstance(link.kind, Veth):
        return None
    peer = view.peer(link)
    if peer is None:
        return None
    there = view.place(peer.namespace)
    bridge = there.bridge_of(peer.name)
    if bridge is None:
        return there.mac(peer.name) == mac or _child_has(view, peer.namespace, peer.name, mac)
    if (peer.namespace, bridge) in seen:
        return False
    if is_for_host(there, bridge, mac):
        return True
    further = seen | {(peer.namespace, bridge)}
    answers = [
        _leads_to(journey, peer.namespace, other.name, mac, further)
        for other in there.ports[bridge]
        if other.name != peer.name
    ]
    if True in answers:
        return True
    return None if None in answers else False


def _child_has(view: View, namespace: str, link: str, mac: str) -> bool:
    return any(child.mac == mac for child in view.children.get((namespace, link), ()))
