"""The IP layer of a namespace: sending, taking in, routing on."""

from __future__ import annotations

from linkspan.analysis import delivery, tunnels
from linkspan.analysis.addresses import is_loopback, is_multicast, to_text
from linkspan.analysis.admission import Admitted, admit
from linkspan.analysis.flow import WITH_PORTS
from linkspan.analysis.hooks import pass_hook
from linkspan.analysis.journey import Ending, Journey, Next, Outcome
from linkspan.analysis.neighbours import Unreachable, resolve
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.routing import REFUSALS, Query, Way, describe_next, find_way, find_way_out
from linkspan.analysis.ruleset import HookEntry
from linkspan.analysis.source import choose_source, select_ipv6
from linkspan.analysis.trace import Disposition
from linkspan.dataplane.objects import Route

GROUPS_ARE_NOT_WALKED = "packets to groups and broadcasts are not walked"

OWN = frozenset(("local", "anycast"))
"""Routes to the namespace itself."""

_CONNECTING = frozenset((*WITH_PORTS, 1))


def send(journey: Journey, packet: Packet, bound: str | None = None) -> Outcome:
    """A process sends: route, source address, output and postrouting hooks, neighbour.

    `bound` is the link that the socket is bound to.
    """
    place = journey.place(packet)
    journey.recorder.enter(place.name)
    packet.input_link = None
    way = _choose_way(journey, place, packet, bound)
    if isinstance(way, Ending):
        return way
    if journey.sent is None:
        journey.sent, journey.source = packet.flow, packet.source
        journey.first_way = way
    packet.output_link = "lo" if way.type in OWN else way.link
    _tell_route(journey, packet, way, "sends")
    journey.way = way
    router = _Router(place, bound, packet)
    ending = pass_hook(journey, packet, packet.ether_type, "output", after=router)
    if ending is not None:
        return ending
    if router.way is not None:
        way = router.way
        packet.output_link = "lo" if way.type in OWN else way.link
        _tell_route(journey, packet, way, "now sends")
    return _leave(journey, packet, way)


def _choose_way(journey: Journey, place: Place, packet: Packet, bound: str | None) -> Way | Ending:
    """The route that a packet's socket has; the packet gets a source where it has none."""
    kept, journey.kept_way = journey.kept_way, None
    if kept is not None:
        return kept
    source = packet.source or None
    if source is None and packet.version == 6:
        source = _source_without_route(journey, place, packet, bound)
        packet.source = source or 0
    unbound = journey.connected_unbound and packet.carried is None
    way = _route_output(journey, place, packet, None if unbound else source, bound)
    if isinstance(way, Ending) or source is not None:
        return way
    chosen = choose_source(place, way, packet.destination, packet.version)
    if chosen is None:
        return journey.end(
            Disposition.NO_ROUTE, packet, f"{place.name} has no address to send from"
        )
    packet.source = chosen
    if packet.version == 4 and packet.protocol in _CONNECTING and packet.carried is None:
        # A connecting socket asks again, now with its address (ip_route_connect); ping connects.
        return _route_output(journey, place, packet, chosen, bound)
    return way


class _Router:
    """Routes a packet again where the output hook changed what its route depends on
    (ip_route_me_harder): behind chains of type route what they changed, and behind the
    translation a new destination. Where that fails the packet ends there.
    """

    def __init__(self, place: Place, bound: str | None, packet: Packet) -> None:
        self._place, self._bound = place, bound
        self._before = self._seen(packet)
        self.way: Way | None = None
        """The way that was found last; None when nothing was asked."""

    @staticmethod
    def _seen(packet: Packet) -> tuple[int, int, int]:
        return packet.source, packet.destination, packet.mark

    def __call__(self, journey: Journey, packet: Packet, entry: HookEntry) -> Ending | None:
        before, self._before = self._before, self._seen(packet)
        if entry.kind == "translate":
            changed = packet.destination != before[1]
        else:
            routes = entry.chain is not None and entry.chain.chain.type == "route"
            changed = routes and before != self._before
        if not changed:
            return None
        place = self._place
        # IPv4 leaves protocol and ports out of this question.
        way = _route_output(
            journey, place, packet, packet.source, self._bound, with_ports=packet.version == 6
        )
        if isinstance(way, Ending):
            return way
        self.way = way
        return None


def _source_without_route(
    journey: Journey, place: Place, packet: Packet, bound: str | None
) -> int | None:
    """An IPv6 route that refuses counts as none until an address is chosen: with it another
    policy rule may hold (ip6_dst_lookup_tail).
    """
    query = Query(6, packet.destination, output_link=bound, mark=packet.mark)
    way = find_way(place, query, journey.choices)
    if way is not None and way.type not in REFUSALS:
        return None
    return select_ipv6(place, "lo", packet.destination)


def _route_output(
    journey: Journey,
    place: Place,
    packet: Packet,
    source: int | None,
    bound: str | None,
    with_ports: bool = True,
) -> Way | Ending:
    version = packet.version
    if is_multicast(packet.destination, version):
        return journey.end(Disposition.UNKNOWN, packet, GROUPS_ARE_NOT_WALKED)
    query = Query(version, packet.destination, source, output_link=bound, mark=packet.mark)
    if with_ports:
        query = query._replace(
            protocol=packet.protocol, source_port=packet.source_port,
            destination_port=packet.destination_port,
        )  # fmt: skip
    way = find_way_out(place, query, journey.choices)
    address = to_text(packet.destination, version)
    if way is None or way.type in REFUSALS:
        why = "has no route to" if way is None else f"refuses by {way.of} to send to"
        return journey.end(Disposition.NO_ROUTE, packet, f"{place.name} {why} {address}")
    if way.type == "broadcast":
        return journey.end(Disposition.UNKNOWN, packet, GROUPS_ARE_NOT_WALKED)
    if source is not None and is_loopback(source, version) and way.type != "local":
        bound_to_lo = way.link == "lo"
        if version == 4 and not bound_to_lo and not place.either(way.link or "", "route_localnet"):
            return journey.end(
                Disposition.MARTIAN, packet,
                f"{to_text(source, version)} may not leave by {way.link} (route_localnet is 0)",
            )  # fmt: skip
    return way


def _tell_route(journey: Journey, packet: Packet, way: Way, verb: str) -> None:
    flow = packet.flow
    if way.type in OWN:
        line = f"{verb} {flow} to itself"
    else:
        near = describe_next(way, packet.destination, packet.version)
        line = f"{verb} {flow} by {way.link} to {near}"
    journey.recorder.step("route", way.of, f"out by {packet.output_link}", line)


def take_in(journey: Journey, packet: Packet, link: str) -> Outcome:
    """A packet arrives at the IP layer by a link: prerouting, then here or on."""
    place = journey.place(packet)
    packet.input_link, packet.output_link = link, None
    stack = packet.ether_type
    ipv6_loopback = packet.version == 6 and not packet.route_kept and (
        is_loopback(packet.source, 6) or is_loopback(packet.destination, 6)
    )  # fmt: skip
    if ipv6_loopback:
        return journey.end(
            Disposition.MARTIAN, packet, f"the kernel takes no packet with ::1 from {link}"
        )
    if not packet.passed_prerouting:
        ending = pass_hook(journey, packet, stack, "prerouting")
        if ending is not None:
            return ending
    packet.passed_prerouting = False
    if packet.route_kept:
        return _deliver(journey, packet, link)
    admitted = admit(place, packet, link, journey.choices)
    if not isinstance(admitted, Admitted):
        return journey.end(admitted.disposition, packet, admitted.reason)
    way = admitted.way
    if way.type in OWN:
        packet.anycast = way.type == "anycast"
        return _deliver(journey, packet, link)
    if way.type != "unicast":
        return journey.end(Disposition.UNKNOWN, packet, GROUPS_ARE_NOT_WALKED)
    packet.output_link = way.link
    near = describe_next(way, packet.destination, packet.version)
    journey.recorder.step(
        "route", way.of, f"out by {way.link}", f"routes it out by {way.link} to {near}"
    )
    ending = pass_hook(journey, packet, stack, "forward")
    return ending or _leave(journey, packet, way)


def _deliver(journey: Journey, packet: Packet, link: str) -> Outcome:
    ending = pass_hook(journey, packet, packet.ether_type, "input")
    if ending is not None:
        return ending
    journey.tracker.confirm(packet)
    if packet.carried is not None:
        return tunnels.leave_tunnel(journey, packet, packet.carried)
    # Sockets see the link that has the address, not lo (ip_route_output_key_hash_rcu).
    return delivery.deliver(journey, packet, packet.local_link if packet.route_kept else link)


def _leave(journey: Journey, packet: Packet, way: Way) -> Outcome:
    """Postrouting, then on to the link with the neighbour's MAC."""
    place = journey.place(packet)
    journey.way = way
    ending = pass_hook(journey, packet, packet.ether_type, "postrouting")
    if ending is not None:
        return ending
    journey.tracker.confirm(packet)
    if way.type in OWN:
        packet.route_kept, packet.local_link = True, way.link or "lo"
        packet.anycast = way.type == "anycast"
        packet.source_mac = packet.destination_mac = ""
        return Next("take_in", packet, "lo")
    if way.route is not None and _wraps(way.route):
        return journey.end(
            Disposition.UNKNOWN, packet,
            f"{way.of} wraps packets ({_wraps(way.route)}); where these go is not known",
        )  # fmt: skip
    link = way.link or ""
    if not place.is_up(link):
        return journey.end(Disposition.LINK_DOWN, packet, f"{link} of {place.name} is down")
    version, address = way.gateway or (packet.version, packet.destination)
    neighbour = resolve(journey, place, link, version, address, packet.source)
    if isinstance(neighbour, Unreachable):
        return journey.end(Disposition.NEIGHBOUR_UNREACHABLE, packet, neighbour.reason)
    journey.recorder.step("neighbour", link, neighbour.mac, neighbour.how, minor=True)
    packet.source_mac, packet.destination_mac = place.mac(link), neighbour.mac
    packet.port = None
    return Next("transmit", packet, link)


def _wraps(route: Route) -> str | None:
    """What a route wraps packets in by itself, or one of its ways does."""
    return route.encap or next((hop.encap for hop in route.hops or () if hop.encap), None)
