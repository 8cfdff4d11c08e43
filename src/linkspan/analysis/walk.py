"""Walking a packet through a data plane, and its answer back.

`trace_flow` is what the rest uses. Each stage of the way is a function in its own module; it
gives the next stage or the end. All packets of one flow share connections and decisions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from linkspan.analysis import bridge, ip, tunnels, wires
from linkspan.analysis.addresses import to_number, to_text, version_of
from linkspan.analysis.choices import Choices, explore
from linkspan.analysis.conntrack import Tracker, inverted
from linkspan.analysis.flow import Flow
from linkspan.analysis.journey import (
    STRANGER_MAC,
    Ending,
    Journey,
    Next,
    Outcome,
    Socket,
    Stranger,
)
from linkspan.analysis.neighbours import find_for_stranger
from linkspan.analysis.packet import ACK, ECHO_REPLY, SYN, Packet, first_packet
from linkspan.analysis.recorder import Silence
from linkspan.analysis.relay import describe_relay, relayed_flow
from linkspan.analysis.routing import REFUSALS, Query, find_way_out
from linkspan.analysis.source import choose_source, select_ipv6
from linkspan.analysis.trace import GOOD, Answer, Disposition, Trace
from linkspan.analysis.traced import Region
from linkspan.analysis.view import View
from linkspan.dataplane.sockets import Listener
from linkspan.errors import NotFound

MOST_WAYS = 32
"""Ways that are walked at most; with more the answer says that it is not complete."""
_MOST_RELAYS = 5
"""Relays one behind the other; with more they are taken to lead to each other."""
_WAYS_ONWARD = 8
Relayed = tuple[tuple[str, Flow], ...]
"""The relays that a connection has come by: where each is, and the flow that it opened."""

_STAGES: Mapping[str, Callable[[Journey, Packet, str], Outcome]] = {
    "send": lambda journey, packet, link: ip.send(journey, packet, link or None),
    "take_in": ip.take_in,
    "receive": wires.receive,
    "transmit": wires.transmit,
    "bridge_in": bridge.bridge_in,
    "bridge_out": bridge.bridge_out,
    "tunnel": tunnels.enter_tunnel,
}


def stranger_at(namespace: str, link: str, address: str) -> Stranger:
    """Somebody outside with an address, on the segment of a link."""
    return Stranger(namespace, link, version_of(address), to_number(address))


class Leg(NamedTuple):
    """One packet's way: what was written down, how it ended, and the packet as it was then."""

    journey: Journey
    ending: Ending
    packet: Packet
    assumed: tuple[str, ...]


def trace_flow(
    view: View,
    namespace: str,
    flow: Flow,
    stranger: Stranger | None = None,
    limit: int = MOST_WAYS,
    relayed: Relayed = (),
    region: Region | None = None,
    towards: str | None = None,
) -> Answer:
    """Every way that the first packet of a flow can take, with its answer.

    A process in `namespace` sends it; with `flow.link` it comes in by that link from a
    stranger on its segment, and needs a source. `stranger` is somebody outside who is there
    although nobody observed him. `region` is narrowed to all headers for which the answer is
    the same; the flow is then its representative. `towards` is the MAC that a stranger's frames
    are for: that of who has the address, unless he chose another. Raises NotFound for a
    namespace or link that the plane does not have, ValueError for addresses that are none.
    """
    if namespace not in view.namespaces:
        raise NotFound(f"the data plane has no namespace {namespace!r}")
    if flow.link is not None and view.link(namespace, flow.link) is None:
        raise NotFound(f"{namespace} has no link {flow.link!r}")
    traces, complete = explore(
        lambda choices: _trace_once(
            view, namespace, flow, choices, stranger, relayed, region, towards
        ),
        limit,
    )
    return Answer(flow, tuple(traces), complete)


def _trace_once(
    view: View, namespace: str, flow: Flow, choices: Choices, stranger: Stranger | None,
    relayed: Relayed, region: Region | None, towards: str | None,
) -> Trace:  # fmt: skip
    tracker = Tracker(region is not None)
    journey = Journey(view, choices, tracker, region)
    packet = first_packet(flow, namespace)
    if region is not None:
        region.answering = False
        for name, number in region.fields.items():
            setattr(packet, name, number)
    opening = packet.copy()
    journey.stranger = stranger
    if flow.link is not None:
        journey.stranger = Stranger(namespace, flow.link, packet.version, packet.source)
        first = _enter_from_outside(journey, packet, flow.link, towards)
    else:
        first = Next("send", packet, "")
    there = _walk(journey, first)
    sent = journey.sent or flow
    opening.source = journey.source
    main = _trace(there, sent)
    if there.ending.disposition not in GOOD:
        return main
    if region is not None:
        region.begin_answer()
        if not region.follows_answers:
            return main
    reply = _answer(there, opening, flow.link)
    main = _with(main, reply=_trace(reply, reply.journey.sent or sent.inverted()))
    if reply.ending.disposition in GOOD and opening.protocol == 6:
        third = _follow_up(there, opening, flow.link, towards)
        later = _trace(third, sent)
        if third.ending.disposition in GOOD:
            data = _answer(there, opening, flow.link, ACK)
            later = _with(later, reply=_trace(data, data.journey.sent or sent.inverted()))
        main = _with(main, follow_up=later)
    relay = describe_relay(there.ending.processes)
    if relay is not None:
        main = _with(main, not_understood=(*main.not_understood, relay))
    onward = relayed_flow(there.ending.processes)
    if onward is not None:
        step = (there.ending.namespace, onward)
        if step in relayed or len(relayed) == _MOST_RELAYS:
            reason = "relays lead to each other without an end"
            return _with(main, disposition=Disposition.LOOP, reason=reason)
        further = trace_flow(view, *step, limit=_WAYS_ONWARD, relayed=(*relayed, step))
        main = _with(main, onward=further)
    return main


def _with(trace: Trace, **changes: object) -> Trace:
    return msgspec.structs.replace(trace, **changes)


def _walk(journey: Journey, first: Next) -> Leg:
    """Go from stage to stage until the end."""
    before = len(journey.choices.made)
    step: Outcome = first
    packet = first.packet
    while isinstance(step, Next):
        packet = step.packet
        journey.recorder.enter(packet.namespace)
        step = _STAGES[step.stage](journey, packet, step.link)
    return Leg(journey, step, packet, journey.choices.assumed()[before:])


def walk_beside(
    journey: Journey, step: Outcome, carried: Packet, key: tuple[str, str, str]
) -> Outcome:
    """Walk the packet that carries another, of a question that is asked beside the way, until
    that comes out of it again, or the end.
    """
    journey.tracker.walked_beside += 1
    aside = _again(journey)
    aside.stranger = journey.stranger
    aside.recorder = Silence()
    aside.carrying = journey.carrying | {key}
    while isinstance(step, Next) and step.packet is not carried:
        step = _STAGES[step.stage](aside, step.packet, step.link)
    return step


def _again(before: Journey) -> Journey:
    """The journey of another packet of the same flow."""
    return Journey(before.view, before.choices, before.tracker, before.region)


def _enter_from_outside(
    journey: Journey, packet: Packet, link: str, towards: str | None = None
) -> Next:
    if journey.sent is None:
        journey.sent, journey.source = packet.flow, packet.source
    packet.source_mac = STRANGER_MAC
    packet.destination_mac = towards or find_for_stranger(
        journey, link, packet.version, packet.destination
    )
    return Next("receive", packet, link)


def _answer(there: Leg, opening: Packet, came_by: str | None, flags: int = SYN | ACK) -> Leg:
    """The way of the answer: from the socket that got the packet, or back in from outside."""
    arrived = there.packet
    journey = _again(there.journey)
    from_outside = came_by is not None
    journey.expected = Socket(None if from_outside else opening.namespace, inverted(opening.ends))
    packet = Packet(arrived.namespace, arrived.version, arrived.protocol)
    _, _, packet.source, packet.source_port, packet.destination, packet.destination_port = inverted(
        arrived.ends
    )
    packet.flags = flags if packet.protocol == 6 else 0
    if arrived.icmp_type is not None:
        packet.icmp_type = ECHO_REPLY[packet.version]
    journey.stranger = there.journey.stranger
    if there.ending.disposition is Disposition.LEFT:
        link = arrived.output_link or ""
        journey.stranger = Stranger(arrived.namespace, link, packet.version, packet.source)
        journey.sent = packet.flow
        packet.source_mac, packet.destination_mac = STRANGER_MAC, arrived.source_mac
        packet.vlan = arrived.vlan
        return _walk(journey, Next("receive", packet, link))
    listener = there.journey.listener
    _choose_own_source(journey, packet, listener)
    return _walk(journey, Next("send", packet, (listener and listener.link) or ""))


def _choose_own_source(journey: Journey, packet: Packet, listener: Listener | None) -> None:
    """A datagram socket of all addresses may answer from another address than it was asked at,
    and by another way: unless its program takes care, the kernel chooses both.
    """
    if packet.protocol != 17 or listener is None or to_number(listener.address) != 0:
        return
    place = journey.place(packet)
    query = Query(
        packet.version, packet.destination, protocol=17, output_link=listener.link,
    )  # fmt: skip
    way = find_way_out(place, query, journey.choices)
    refused = way is None or way.type in REFUSALS
    if packet.version == 6 and refused:
        # A first answer that is an error counts as none: the address is chosen without a link.
        usual = select_ipv6(place, "lo", packet.destination)
    else:
        usual = (
            None if way is None else choose_source(place, way, packet.destination, packet.version)
        )
    if usual is None:
        return
    same = find_way_out(place, query._replace(source=packet.source), journey.choices)
    asked, own = (to_text(number, packet.version) for number in (packet.source, usual))
    careless = usual == packet.source and same == way
    if not careless:
        careless = journey.choices.choose(
            f"from which address the program in {place.name} answers",
            (True, False),
            (f"{own}, which the kernel chooses", f"{asked}, which it was asked at"),
        )
    if careless:
        packet.source = usual
        journey.connected_unbound = not refused


def _follow_up(there: Leg, opening: Packet, came_by: str | None, towards: str | None) -> Leg:
    """The first packet after the answer: what is allowed for a new flow only stops it."""
    journey = _again(there.journey)
    packet = opening.copy()
    packet.flags = ACK
    left = there.ending.disposition is Disposition.LEFT
    journey.expected = Socket(None if left else there.packet.namespace, there.packet.ends)
    journey.stranger = there.journey.stranger
    if came_by is not None:
        return _walk(journey, _enter_from_outside(journey, packet, came_by, towards))
    # Its socket has the route of the first one, and does not ask again (__sk_dst_check).
    journey.kept_way = there.journey.first_way
    return _walk(journey, Next("send", packet, ""))


def _trace(leg: Leg, sent: Flow) -> Trace:
    return Trace(
        disposition=leg.ending.disposition,
        reason=leg.ending.reason,
        hops=leg.journey.recorder.hops(),
        sent=sent,
        arrived=leg.packet.flow,
        namespace=leg.ending.namespace,
        processes=leg.ending.processes,
        assumed=leg.assumed,
        not_understood=tuple(leg.journey.recorder.not_understood),
    )
