"""The hooks that a bridge runs on a frame, and the IP hooks that br_netfilter adds to them.

net/bridge/br_netfilter_hooks.c: at prerouting and at forwarding the IP hooks run behind the
bridge's own chains below priority 0, and behind those of priority 0 that are younger than the
first bridge. At forwarding a frame that took that way passes the older ones of priority 0 by.
IP rules see the bridge as link, not its ports.
"""

from __future__ import annotations

from linkspan.analysis.hooks import pass_hook
from linkspan.analysis.journey import Ending, Journey
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.dataplane.links import Bridge

_DIVERTED = 0
"""NF_BR_PRI_BRNF: where br_netfilter hangs."""


def calls_ip_hooks(place: Place, bridge: str, packet: Packet) -> bool:
    """Whether frames of this bridge pass the hooks of IP (arptables for ARP)."""
    kind = place.links[bridge].kind
    own: bool | None = None
    name = {"ip": "ip", "ip6": "ip6", "arp": "arp"}[packet.ether_type]
    if isinstance(kind, Bridge):
        own = {"ip": kind.netfilter_ip, "ip6": kind.netfilter_ip6, "arp": None}[name]
    return bool(own) or bool(place.number(f"bridge/bridge-nf-call-{name}tables"))


def pass_prerouting(journey: Journey, packet: Packet, bridge: str, port: str) -> Ending | None:
    """The hooks at which a frame comes in, without what has to follow a new destination."""
    place = journey.place(packet)
    packet.input_link, packet.output_link = port, None
    calls = packet.ether_type != "arp" and calls_ip_hooks(place, bridge, packet)
    if not calls:
        return pass_hook(journey, packet, "bridge", "prerouting")
    packet.late_priority = _DIVERTED + int(_are_chains_first(journey, packet, "prerouting"))
    ending = pass_hook(
        journey, packet, "bridge", "prerouting", last_priority=packet.late_priority - 1
    )
    if ending is not None:
        return ending
    packet.input_link = bridge
    ending = pass_hook(journey, packet, packet.ether_type, "prerouting")
    packet.input_link = port
    packet.passed_prerouting = True
    return ending


def _are_chains_first(journey: Journey, packet: Packet, hook: str) -> bool:
    """Whether chains of br_netfilter's own priority run before it: those that are younger than
    the first bridge of the namespace, with which it came.
    """
    entries = journey.ruleset(packet.namespace).hook("bridge", hook)
    if not any(entry.priority == _DIVERTED for entry in entries):
        return True
    older = "they run behind the IP hooks" if hook == "prerouting" else "the frame passes them by"
    return journey.choices.choose(
        f"when the bridge chains of priority {_DIVERTED} in {packet.namespace} were made",
        (True, False),
        ("after its first bridge: they run before the IP hooks",
         f"before its first bridge: {older}"),
    )  # fmt: skip


def pass_late_prerouting(journey: Journey, packet: Packet) -> Ending | None:
    """The bridge's chains behind br_netfilter's."""
    return pass_hook(journey, packet, "bridge", "prerouting", first_priority=packet.late_priority)


def pass_input(journey: Journey, packet: Packet, port: str) -> Ending | None:
    """The hook of frames for the bridge's own host."""
    packet.input_link, packet.output_link = port, None
    return pass_hook(journey, packet, "bridge", "input")


def pass_forward(
    journey: Journey, packet: Packet, bridge: str, port: str, out: str
) -> Ending | None:
    """The hooks of a frame that goes from one port to another."""
    place = journey.place(packet)
    packet.input_link, packet.output_link = port, out
    diverted = packet.passed_prerouting
    if packet.ether_type == "arp":
        diverted = calls_ip_hooks(place, bridge, packet)
    last: int | None = None
    if diverted:
        last = _DIVERTED - 1 + int(_are_chains_first(journey, packet, "forward"))
    ending = pass_hook(journey, packet, "bridge", "forward", last_priority=last)
    if ending is not None:
        return ending
    if diverted:
        if packet.ether_type == "arp":
            ending = pass_hook(journey, packet, "arp", "forward")
        else:
            packet.input_link = packet.output_link = bridge
            ending = pass_hook(journey, packet, packet.ether_type, "forward")
            packet.input_link, packet.output_link = port, out
        if ending is None:
            ending = pass_hook(journey, packet, "bridge", "forward", first_priority=_DIVERTED + 1)
        if ending is not None:
            return ending
    packet.input_link = None
    ending = pass_hook(journey, packet, "bridge", "postrouting")
    if ending is None and diverted and packet.ether_type != "arp":
        packet.output_link = bridge
        journey.way = None
        ending = pass_hook(journey, packet, packet.ether_type, "postrouting")
        if ending is None:
            journey.tracker.confirm(packet)
    return ending


def pass_output(journey: Journey, packet: Packet, out: str) -> Ending | None:
    """The hooks of a frame that the bridge's own host sends by a port."""
    packet.input_link, packet.output_link = None, out
    ending = pass_hook(journey, packet, "bridge", "output")
    return ending or pass_hook(journey, packet, "bridge", "postrouting")
