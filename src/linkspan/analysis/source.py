"""Which of its addresses a namespace puts into a packet.

IPv4: inet_select_addr (net/ipv4/devinet.c). IPv6: RFC 6724, section 5, the rules that depend
on addresses and links.
"""

from __future__ import annotations

from linkspan.analysis.addresses import WIDTH, Prefix, is_link_local, to_number, to_prefix
from linkspan.analysis.place import OwnAddress, Place
from linkspan.analysis.routing import Way
from linkspan.analysis.traced import Traced

_SCOPES = {"global": 0, "site": 200, "link": 253, "host": 254, "nowhere": 255}


def choose_source(place: Place, way: Way, destination: int, version: int) -> int | None:
    """The source address of a packet that a process sends without naming one."""
    if way.route is not None and way.route.source is not None:
        return to_number(way.route.source)
    if way.type == "local":
        return destination
    if way.link is None:
        return None
    if version == 6:
        return select_ipv6(place, way.link, destination)
    if way.route is None:
        return select_ipv4(place, way.link, None, 253)  # by its socket's link alone
    near = destination if way.gateway is None else way.gateway[1]
    link_scope = way.gateway is None and _has_only_link_scope(way)
    return select_ipv4(place, way.link, near, 253 if link_scope else 0)


def _has_only_link_scope(way: Way) -> bool:
    return way.route is not None and way.route.scope == "link"


def select_ipv4(place: Place, link: str, near: int | None, scope: int = 0) -> int | None:
    """The primary address of a link in the network of `near`; else its first, else another's.

    `scope` is the widest reach that the address must have: 0 global, 253 the link.
    """
    first: int | None = None
    for address in place.by_link.get((link, 4), ()):
        if address.secondary or _SCOPES.get(address.scope, 0) > scope:
            continue
        if near is None or address.network.holds(near):
            return address.number
        if first is None:
            first = address.number
    if first is not None:
        return first
    for address in place.addresses:
        if address.version != 4 or address.secondary or address.link == link:
            continue
        if _SCOPES.get(address.scope, 0) <= scope and address.scope != "link":
            return address.number
    return None


def select_ipv6(place: Place, link: str, destination: int) -> int | None:
    """The source for a destination: same address, fitting scope, the link's own, longest match."""
    if isinstance(destination, Traced):
        return place.divide(
            ("source", link), 6, lambda number: select_ipv6(place, link, number),
            lambda: _edges_of_ipv6(place, link),
        ).find(destination)  # fmt: skip
    wanted_link_scope = is_link_local(destination, 6)
    best: OwnAddress | None = None
    best_score: tuple[object, ...] = ()
    own = _own_of_ipv6(place, link)
    # A link's own address wins over those of others, but for a destination that is one of these.
    every = not own or (6, destination) in place.own
    for address in place.addresses if every else place.by_link[link, 6]:
        if address.version != 6:
            continue
        link_local = is_link_local(address.number, 6)
        on_link = address.link == link
        if link_local and not on_link:
            continue
        if wanted_link_scope and not on_link:
            continue
        same = address.number == destination
        # Rule 2: the smallest scope that still reaches; a smaller one only for lack of others.
        reaches = not link_local or wanted_link_scope
        tight = link_local == wanted_link_scope
        score = (
            same,
            address.scope != "host" or destination == 1,
            reaches,
            tight,
            on_link,
            _label(address.number) == _label(destination),
            min(_common_bits(address.number, destination), address.network.length),
        )
        if best is None or score > best_score:
            best, best_score = address, score
    if best is None or (best.scope == "host" and destination != 1):
        return None
    return best.number


def _own_of_ipv6(place: Place, link: str) -> bool:
    """Whether a link has an address that reaches beyond it."""
    return any(
        one.scope != "host" and not is_link_local(one.number, 6)
        for one in place.by_link.get((link, 6), ())
    )


def _edges_of_ipv6(place: Place, link: str) -> set[int]:
    """Where the choice of a source can change: what is alike in more bits, and the labels."""
    prefixes = [prefix for prefix, _ in _LABELS]
    own = _own_of_ipv6(place, link)
    for one in place.addresses:
        if one.version == 6 and own and one.link != link:
            prefixes.append(Prefix(6, one.number, WIDTH[6]))
        elif one.version == 6:
            prefixes += [
                Prefix(6, one.number >> free << free, WIDTH[6] - free) for free in range(WIDTH[6])
            ]
    return {edge for prefix in prefixes for edge in prefix.edges}


def _common_bits(one: int, other: int) -> int:
    return WIDTH[6] - (one ^ other).bit_length()


_LABELS = (
    (to_prefix("::1/128"), 0),
    (to_prefix("fc00::/7"), 13),
    (to_prefix("2002::/16"), 2),
    (to_prefix("2001::/32"), 5),
)
"""The policy table of RFC 6724, section 2.1, as far as it tells addresses in use apart."""


def _label(number: int) -> int:
    return next((label for prefix, label in _LABELS if prefix.holds(number)), 1)
