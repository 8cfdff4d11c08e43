"""What a namespace does with a packet that arrives for an address: take it, route it on, or not.

IPv4 follows ip_route_input_slow and fib_validate_source (net/ipv4/route.c, fib_frontend.c):
martians, reverse path filter, accept_local, route_localnet, forwarding of the link.
"""

from __future__ import annotations

from typing import NamedTuple

from linkspan.analysis.addresses import (
    is_link_local,
    is_loopback,
    is_multicast,
    is_this_network,
    to_text,
)
from linkspan.analysis.choices import Choices
from linkspan.analysis.intervals import Intervals, interval, to_intervals
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.routing import REFUSALS, Query, Way, find_in_table, find_way
from linkspan.analysis.tables import LOCAL
from linkspan.analysis.trace import Disposition
from linkspan.analysis.traced import Traced

_MARTIANS = ((1, 0xFFFFFF), (0xE0000000, 0xEFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF))
"""0.0.0.0/8 but its first address, 224.0.0.0/4, 255.255.255.255."""
_LOOPBACK = (0x7F000000, 0x7FFFFFFF)


class Admitted(NamedTuple):
    """The packet may go on: by this way, or to a socket here when the way is local."""

    way: Way


class Refused(NamedTuple):
    """The packet is not taken."""

    disposition: Disposition
    reason: str


def admit(
    place: Place, packet: Packet, link: str, choices: Choices, forwarding: bool = False
) -> Admitted | Refused:
    """What becomes of a packet that came in by a link, by its addresses now.

    With `forwarding` an IPv6 packet counts as if this namespace forwarded.
    """
    if packet.version == 6:
        return _admit_ipv6(place, packet, link, choices, forwarding)
    source, destination = packet.source, packet.destination
    if is_multicast(source, 4) or (is_this_network(source) and source != 0):
        return _martian(packet, link, f"source {to_text(source, 4)}")
    if is_multicast(destination, 4):
        return Admitted(Way("broadcast", link, None, None, 32, "broadcast"))
    if is_this_network(destination):
        return _martian(packet, link, f"destination {to_text(destination, 4)}")
    local_network = place.either(link, "route_localnet")
    if is_loopback(destination, 4) and not local_network:
        return _martian(packet, link, f"destination {to_text(destination, 4)}")
    if is_loopback(source, 4) and not local_network:
        return _martian(packet, link, f"source {to_text(source, 4)}")
    way = find_way(place, _query(packet, link), choices)
    forwards = place.forwards(link, 4)
    if way is None or way.type in REFUSALS:
        if not forwards:
            return _not_forwarding(place, link, 4)
        return _no_route(place, packet, way)
    if way.type == "broadcast":
        return Admitted(way)
    if way.type == "local":
        return _check_source(place, packet, link, "lo") or Admitted(way)
    if not forwards:
        return _not_forwarding(place, link, 4)
    if way.type != "unicast":
        return _martian(packet, link, f"destination {to_text(destination, 4)}")
    return _check_source(place, packet, link, way.link) or Admitted(way)


def _query(packet: Packet, link: str) -> Query:
    return Query(
        packet.version, packet.destination, packet.source, link, None, packet.mark,
        packet.protocol, packet.source_port, packet.destination_port, any_own=True,
    )  # fmt: skip


def _martian(packet: Packet, link: str, what: str) -> Refused:
    return Refused(
        Disposition.MARTIAN, f"the kernel takes no packet with {what} from {link} (martian)"
    )


def _not_forwarding(place: Place, link: str, version: int) -> Refused:
    setting = f"net.ipv4.conf.{link}.forwarding" if version == 4 else "net.ipv6.conf.all.forwarding"
    return Refused(
        Disposition.NOT_FORWARDED,
        f"not for {place.name} itself, and it does not forward ({setting} is 0)",
    )


def _no_route(place: Place, packet: Packet, way: Way | None) -> Refused:
    address = to_text(packet.destination, packet.version)
    if way is not None:
        return Refused(Disposition.NO_ROUTE, f"{way.of} refuses {address} in {place.name}")
    return Refused(Disposition.NO_ROUTE, f"{place.name} has no route to {address}")


def _check_source(place: Place, packet: Packet, link: str, out: str | None) -> Refused | None:
    """fib_validate_source: whether such a source may come in by this link."""
    if not isinstance(packet.source, Traced) or place.has_own_rules:
        return _check_plain_source(place, packet, link, out)
    plain = packet.copy()

    def refusal(source: int) -> Disposition | None:
        plain.source = source
        refused = _check_plain_source(place, plain, link, out)
        return None if refused is None else refused.disposition

    # Without rules of its own a namespace looks only at the source, and whether it turns back.
    place.divide(("source", link, link == out), 4, refusal).find(packet.source)
    plain.source = int(packet.source)
    return _check_plain_source(place, plain, link, out)


def refused_sources(place: Place, link: str) -> Intervals:
    """The IPv4 sources that a namespace takes from a link for no destination at all but groups
    and broadcasts, as far as that depends on nothing else.
    """
    refused = to_intervals(_MARTIANS)
    if not place.either(link, "route_localnet"):
        refused |= interval(*_LOOPBACK)
    if place.has_own_rules:
        return refused
    packet = Packet(place.name, 4, 0)
    found: Intervals | None = None
    for out in (link, "lo"):

        def refusal(source: int, out: str = out) -> Disposition | None:
            packet.source = source
            answer = _check_plain_source(place, packet, link, out)
            return None if answer is None else answer.disposition

        sets = place.divide(("source", link, link == out), 4, refusal).sets()
        some = to_intervals(
            span for answer, values in sets.items() if answer is not None for span in values
        )
        found = some if found is None else found & some
    return refused if found is None else refused | found


def _check_plain_source(place: Place, packet: Packet, link: str, out: str | None) -> Refused | None:
    strictness = place.highest(link, "rp_filter")
    takes_own = place.either(link, "accept_local")
    redirects = place.either(link, "send_redirects")
    if not strictness and (link != out or not redirects):
        if takes_own:
            return None
        if not (place.has_own_local_routes or place.has_own_rules):
            return _own_source(place, packet) if _is_own(place, packet) else None
    use_mark = place.either(link, "src_valid_mark")
    query = Query(
        4, packet.source, packet.destination, out if out not in (None, "lo") else "lo",
        mark=packet.mark if use_mark else 0, protocol=packet.protocol,
        source_port=packet.destination_port, destination_port=packet.source_port,
    )  # fmt: skip
    back = find_way(place, query, Choices())
    address = to_text(packet.source, 4)
    refused = Refused(
        Disposition.REVERSE_PATH,
        f"{address} is not reached by {link}: rp_filter drops what comes from there",
    )
    if back is None or back.type in REFUSALS:
        return refused if strictness else None
    if back.type != "unicast" and not (back.type == "local" and takes_own):
        return _own_source(place, packet)
    hops = () if back.route is None else back.route.hops or ()
    if link == back.link or any(hop.link == link for hop in hops):
        return None
    if back.type == "local" and link == "lo":
        return None
    if not place.by_link.get((link, 4)):
        return refused if strictness else None
    return refused if strictness == 1 else None


def _is_own(place: Place, packet: Packet) -> bool:
    if place.has_address(packet.source, packet.version):
        return True
    way = find_in_table(place, Query(packet.version, packet.source), LOCAL, Choices())
    return way is not None and way.type == "local"


def _own_source(place: Place, packet: Packet) -> Refused:
    address = to_text(packet.source, packet.version)
    return Refused(
        Disposition.MARTIAN,
        f"{address} is {place.name}'s own address: the kernel takes it from no link (martian)",
    )


# IPv6 ---------------------------------------------------------------------------------


def _admit_ipv6(
    place: Place, packet: Packet, link: str, choices: Choices, forwarding: bool
) -> Admitted | Refused:
    for word, number in (("source", packet.source), ("destination", packet.destination)):
        if is_loopback(number, 6):
            return _martian(packet, link, f"{word} {to_text(number, 6)}")
    if is_multicast(packet.source, 6):
        return _martian(packet, link, f"source {to_text(packet.source, 6)}")
    if place.number(f"ipv6/conf/{link}/disable_ipv6"):
        return Refused(Disposition.MARTIAN, f"IPv6 is switched off on {link} (disable_ipv6)")
    if is_multicast(packet.destination, 6):
        return Admitted(Way("multicast", link, None, None, 128, "multicast"))
    query = _query(packet, link)
    if is_link_local(packet.destination, 6):
        if place.has_address(packet.destination, 6, link):
            return Admitted(Way("local", "lo", None, None, 128, "local"))
        return Refused(Disposition.NOT_FORWARDED, "link-local addresses are not routed")
    forwards = forwarding or place.forwards(link, 6)
    way = find_way(place, query, choices)
    if way is None or way.type in REFUSALS:
        if not forwards:
            return _not_forwarding(place, link, 6)
        return _no_route(place, packet, way)
    if way.type in ("local", "anycast"):
        return Admitted(way)
    if not forwards:
        return _not_forwarding(place, link, 6)
    if is_link_local(packet.source, 6) or packet.source == 0:
        return Refused(
            Disposition.NOT_FORWARDED, f"source {to_text(packet.source, 6)} is not routed on"
        )
    return Admitted(way)
