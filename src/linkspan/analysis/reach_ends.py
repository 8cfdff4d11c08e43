"""Both ends of what may be asked: containers, the host, a stranger beside it, the wide world."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from linkspan.analysis.addresses import (
    Prefix,
    is_link_local,
    is_loopback,
    to_number,
    to_prefix,
    to_text,
    version_of,
)
from linkspan.analysis.choices import Choices
from linkspan.analysis.place import Place
from linkspan.analysis.routing import REFUSALS, Query, find_way
from linkspan.analysis.segments import find_uplink
from linkspan.analysis.view import View
from linkspan.dataplane.objects import HOST
from linkspan.dataplane.sockets import Listener

OUTSIDE, INTERNET = "outside", "internet"
_DOCUMENTATION = {
    4: ("203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "198.18.0.0/15"),
    6: ("2001:db8:ffff::/48", "3fff::/20"),
}
"""Addresses that nobody has: RFC 5737, RFC 2544; RFC 3849, RFC 9637."""
_PRIVATE = tuple(
    to_prefix(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10",
                 "169.254.0.0/16", "fc00::/7", "fec0::/10")
)  # fmt: skip
"""RFC 1918, 6598, 3927, 4193, 3879."""
_MOST_TRIED = 4096


class Outside(NamedTuple):
    """Who is not on the host: by IP version a neighbour's address on the segment of `uplink`,
    and an address beyond the default gateway. Versions that the uplink does not have are left
    out.
    """

    uplink: str
    beside: dict[int, str]
    beyond: dict[int, str]


def find_outside(
    view: View, mentioned: frozenset[tuple[int, int]], uplink: str | None = None
) -> Outside | None:
    """The outside of a host; None when nothing leads there. `mentioned` are addresses that
    mean something to somebody: strangers have others.
    """
    uplink = uplink or find_uplink(view)
    if uplink is None:
        return None
    place = view.place(HOST)
    links = (uplink, place.bridge_of(uplink) or uplink)
    beside: dict[int, str] = {}
    beyond: dict[int, str] = {}
    own = [one for one in place.addresses if is_global(one.number, one.version)]
    for version in (4, 6):
        networks = [one.network for one in own if one.link in links and one.version == version]
        for network in networks:
            found = _free_address(view, network, mentioned)
            if found is not None and version not in beside:
                beside[version] = found
        far = _far_address(view, version, mentioned)
        if networks and far is not None and _has_way(place, far, links):
            beyond[version] = far
    return Outside(uplink, beside, beyond)


def _free_address(view: View, network: Prefix, mentioned: frozenset[tuple[int, int]]) -> str | None:
    for number in _some_of(network):
        key = (network.version, number)
        if key not in view.owners and key not in mentioned:
            return to_text(number, network.version)
    return None


def _some_of(network: Prefix) -> Iterator[int]:
    """Addresses of a network from its end, without the broadcast address."""
    last = network.last - (1 if network.version == 4 else 0)
    return iter(range(last, max(network.network, last - _MOST_TRIED), -1))


def _far_address(view: View, version: int, mentioned: frozenset[tuple[int, int]]) -> str | None:
    """An address that is on no network of anybody here."""
    networks = {
        one.network
        for name in view.namespaces
        for one in view.place(name).addresses
        if one.version == version and one.network.length
    }
    for text in _DOCUMENTATION[version]:
        prefix = to_prefix(text)
        number = prefix.network + 77
        if not any(one.holds(number) for one in networks) and (version, number) not in mentioned:
            return to_text(number, version)
    return None


def _has_way(place: Place, address: str, links: tuple[str, ...]) -> bool:
    """Whether the host knows a way to an address by these links."""
    way = find_way(place, Query(version_of(address), to_number(address)), Choices())
    return way is not None and way.type not in REFUSALS and way.link in links


def is_global(number: int, version: int) -> bool:
    """Whether others than neighbours can send to an address at all."""
    return not is_loopback(number, version) and not is_link_local(number, version)


def is_private(address: str) -> bool:
    """Whether the internet does not route to an address."""
    version, number = version_of(address), to_number(address)
    return any(one.version == version and one.holds(number) for one in _PRIVATE)


def listening_ports(place: Place, address: str, protocol: str, relays: bool) -> list[int]:
    """The ports on which a namespace waits for what is sent to one of its addresses.
    `relays`: also those whose program only passes on.
    """
    version, number = version_of(address), to_number(address)
    found = set()
    for (name, port), listeners in place.listeners.items():
        if name == protocol and any(
            _takes(listener, version, number) and (relays or not _is_relay(listener))
            for listener in listeners
        ):
            found.add(port)
    return sorted(found)


def _takes(listener: Listener, version: int, number: int) -> bool:
    own_version, own = version_of(listener.address), to_number(listener.address)
    if own == 0:
        return own_version == version or (own_version == 6 and listener.dual_stack)
    if (own_version, own) == (version, number):
        return True
    return own_version == 6 and version == 4 and own == 0xFFFF00000000 | number


def _is_relay(listener: Listener) -> bool:
    return any(process.name == "docker-proxy" for process in listener.processes)
