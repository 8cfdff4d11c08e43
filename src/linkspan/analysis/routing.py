"""Where the kernel sends a packet: policy rules and routing tables (fib_lookup, RFC 1812).

The order is the kernel's (net/core/fib_rules.c, net/ipv4/fib_trie.c, net/ipv6/ip6_fib.c):
rules by priority; in a table the longest prefix first, among equals the lowest metric.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

from linkspan.analysis.addresses import is_multicast, to_number, to_prefix, to_text, version_of
from linkspan.analysis.choices import Choices
from linkspan.analysis.place import Place
from linkspan.analysis.tables import Table
from linkspan.analysis.traced import Traced, lies_between
from linkspan.dataplane.objects import NextHop, Route, Rule

LOOPBACK = "lo"
REFUSALS = frozenset(("blackhole", "unreachable", "prohibit"))


class Query(NamedTuple):
    """What a route is looked up for. `input_link` is "lo" for what a process sends."""

    version: int
    destination: int
    source: int | None = None
    input_link: str = LOOPBACK
    output_link: str | None = None
    mark: int = 0
    protocol: int | None = None
    source_port: int | None = None
    destination_port: int | None = None
    any_own: bool = False
    """It does not matter to the asker which local route it is: for traced addresses."""


class Way(NamedTuple):
    """The route that was found. `type` is the route's; `length` that of its prefix.

    `gateway` is version and number of the next router, None when the destination itself is
    on the link. `of` says which route or rule decided, for a person.
    """

    type: str
    link: str | None
    gateway: tuple[int, int] | None
    route: Route | None
    length: int
    of: str


def find_way(place: Place, query: Query, choices: Choices) -> Way | None:
    """The way for a packet, None when no route holds its destination."""
    skip_to = -1
    for rule in place.rules[query.version]:
        if rule.priority < skip_to or not _rule_holds(rule, query):
            continue
        if _is_unclear(rule, query) and not choices.choose(
            f"whether rule {rule.priority} holds ({_unclear_tests(rule)})",
            (True, False), ("it holds", "it does not hold"),
        ):  # fmt: skip
            continue
        if rule.action == "nop":
            continue
        if rule.action.startswith("goto "):
            skip_to = int(rule.action.split()[1])
            continue
        if rule.action in REFUSALS:
            return Way(rule.action, None, None, None, 0, f"rule {rule.priority} {rule.action}")
        if rule.table is None:
            continue
        way = find_in_table(place, query, rule.table, choices)
        if way is None or way.type == "throw":
            continue
        suppressed = rule.suppress_prefix_length
        if suppressed is not None and way.length <= suppressed:
            continue
        return way
    return None


def find_way_out(place: Place, query: Query, choices: Choices) -> Way | None:
    """The way for what a process sends: IPv4 takes everything else to be on a socket's own link
    ("apparently, routing tables are wrong": ip_route_output_key_hash_rcu).
    """
    way = find_way(place, query, choices)
    bound = query.output_link
    if bound is not None and query.version == 4 and (way is None or way.type in REFUSALS):
        return Way("unicast", bound, None, None, 0, f"the socket is bound to {bound}")
    return way


def find_in_table(place: Place, query: Query, table: int, choices: Choices) -> Way | None:
    """The way that one table gives; None when it has none."""
    held = place.tables.get((query.version, table))
    if held is None:
        return None
    destination = query.destination
    if isinstance(destination, Traced):
        _narrow(place, held, destination, query, table)
        destination = int(destination)
    for length, route in _applicable(held.candidates(destination, query.version), query):
        if route.type in REFUSALS or route.type == "throw":
            bound = query.output_link
            if query.version == 6 and bound is not None and (route.link or LOOPBACK) != bound:
                continue  # RT6_LOOKUP_F_IFACE: such a route is one of lo
            return Way(route.type, None, None, route, length, describe_route(route))
        hops = _usable_hops(place, route, query)
        if not hops:
            continue
        hop = choices.choose(
            f"which way of the multipath route {route.destination} the kernel takes",
            hops,
            [f"{one.gateway or 'directly'} by {one.link}" for one in hops],
        )
        gateway = None
        if hop.gateway is not None and hop.gateway not in ("0.0.0.0", "::"):
            gateway = (version_of(hop.gateway), to_number(hop.gateway))
        return Way(route.type, hop.link, gateway, route, length, describe_route(route, hop))
    return None


def _narrow(place: Place, held: Table, destination: Traced, query: Query, table: int) -> None:
    """Narrow to the destinations for which the table has the same routes."""
    version, any_own = query.version, query.any_own

    def routes(number: int) -> tuple[Hashable, ...]:
        found: list[Hashable] = []
        for _, route in held.candidates(number, version):
            if any_own and route.type in ("local", "broadcast") and not route.hops:
                usable = route.link is None or place.is_up(route.link)
                found.append((route.type, usable))
                if usable:
                    break
            else:
                found.append(route)
        return tuple(found)

    place.divide(("routes", table, any_own), version, routes).find(destination)


def _applicable(rows: Iterable[tuple[int, Route]], query: Query) -> Iterable[tuple[int, Route]]:
    """Without routes for other packets than plain ones, and for other sources.

    Of equal destinations the route for the narrowest source comes first (ip6_fib.c).
    """
    rows = list(rows)
    if not any(route.tos or route.source_prefix for _, route in rows):
        return rows
    kept = [
        (length, route)
        for length, route in rows
        if not route.tos
        and (route.source_prefix is None or _lies_in(route.source_prefix, query.source))
    ]
    kept.sort(key=lambda row: (-row[0], -_length_of(row[1].source_prefix)))
    return kept


def _length_of(prefix: str | None) -> int:
    return -1 if prefix is None else to_prefix(prefix).length


def _usable_hops(place: Place, route: Route, query: Query) -> list[NextHop]:
    hops = list(route.hops) if route.hops else [NextHop(gateway=route.gateway, link=route.link)]
    usable = []
    for hop in hops:
        link = hop.link
        if link is None and hop.gateway is not None:
            link = _link_towards(place, hop.gateway)
            hop = NextHop(gateway=hop.gateway, link=link, weight=hop.weight)
        if link is not None and not place.is_up(link):
            continue
        # A socket's link is asked of local routes too: who listens on one link does not answer
        # the namespace's own address on another (fib_lookup_good_nhc, rt6_score_route).
        if query.output_link is not None and link != query.output_link:
            continue
        usable.append(hop)
    return usable


def _link_towards(place: Place, gateway: str) -> str | None:
    """The link whose network holds a gateway, for a described route that names no link."""
    number, version = to_number(gateway), version_of(gateway)
    for address in place.addresses:
        if address.version == version and address.network.holds(number):
            return address.link
    return None


def _rule_holds(rule: Rule, query: Query) -> bool:
    holds = (
        (rule.input_link is None or rule.input_link == query.input_link)
        and (rule.output_link is None or rule.output_link == query.output_link)
        and _mark_holds(rule, query.mark)
        and (rule.source is None or _lies_in(rule.source, query.source))
        and (rule.destination is None or _lies_in(rule.destination, query.destination))
        and rule.tos == 0
        and (query.input_link == LOOPBACK or rule.uid_range is None or rule.uid_range[0] == 0)
        and (rule.ip_protocol is None or rule.ip_protocol == query.protocol)
        and _ports_hold(rule.source_ports, query.source_port)
        and _ports_hold(rule.destination_ports, query.destination_port)
    )
    return holds != rule.invert


def _is_unclear(rule: Rule, query: Query) -> bool:
    """Whether a rule asks for more than is known of a packet; only senders have a user."""
    sent = query.input_link == LOOPBACK
    return bool(rule.others or (rule.uid_range and sent) or rule.suppress_group is not None)


def _unclear_tests(rule: Rule) -> str:
    words = list(rule.others)
    if rule.uid_range is not None:
        words.append(f"uidrange {rule.uid_range[0]}-{rule.uid_range[1]}")
    if rule.suppress_group is not None:
        words.append(f"suppress_ifgroup {rule.suppress_group}")
    return ", ".join(words)


def _mark_holds(rule: Rule, mark: int) -> bool:
    if rule.mark is None:
        return True
    mask = 0xFFFFFFFF if rule.mark_mask is None else rule.mark_mask
    return mark & mask == rule.mark & mask


def _lies_in(text: str, number: int | None) -> bool:
    prefix = to_prefix(text)
    return prefix.length == 0 or (number is not None and prefix.holds(number))


def _ports_hold(ports: tuple[int, int] | None, port: int | None) -> bool:
    return ports is None or (port is not None and lies_between(port, *ports))


def describe_route(route: Route, hop: NextHop | None = None) -> str:
    """A route as `ip route` prints it."""
    name = "default" if route.destination in ("0.0.0.0/0", "::/0") else route.destination
    words = [name] if route.type == "unicast" else [route.type, name]
    hop = hop or NextHop(gateway=route.gateway, link=route.link)
    if hop.gateway:
        words += ["via", hop.gateway]
    if hop.link:
        words += ["dev", hop.link]
    if route.table not in (254, 255):
        words += ["table", str(route.table)]
    return " ".join(words)


def address_type(place: Place, number: int, version: int, link: str | None = None) -> str:
    """What an address is to a namespace: local, broadcast, multicast or unicast.

    Only the local table is asked (inet_dev_addr_type), with `link` only that link's routes.
    """
    if isinstance(number, Traced):
        place.divide(
            ("type", link), version, lambda other: address_type(place, other, version, link)
        ).find(number)
        number = int(number)
    if version == 4 and (number == 0xFFFFFFFF or number >> 24 == 0):
        return "broadcast"
    if is_multicast(number, version):
        return "multicast"
    table = place.tables.get((version, 255))
    if table is not None:
        for _, route in table.candidates(number, version):
            if link is None or route.link == link:
                return route.type
            return "unicast"
    return "unicast"


def describe_next(way: Way, destination: int, version: int) -> str:
    """The next machine on the way: "gateway 10.0.0.1", or the destination itself."""
    if way.gateway is None:
        return f"{to_text(destination, version)}, which is on that link"
    return f"gateway {to_text(way.gateway[1], way.gateway[0])}"
