"""Routing tables of one namespace, and what the kernel adds to a plane by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linkspan.analysis.addresses import (
    WIDTH,
    Prefix,
    is_link_local,
    is_loopback,
    to_prefix,
    version_of,
)
from linkspan.dataplane.objects import Address, Route

if TYPE_CHECKING:
    from linkspan.analysis.place import Place

LOCAL, MAIN, DEFAULT = 255, 254, 253


class Table:
    """Routes of one table and version: by length of prefix, then by network."""

    __slots__ = ("by_length", "lengths")

    def __init__(self) -> None:
        self.by_length: dict[int, dict[int, list[Route]]] = {}
        self.lengths: list[int] = []

    def add(self, route: Route, prefix: Prefix) -> None:
        """Keep a route; of several to one prefix the one of lowest metric is first."""
        same_length = self.by_length.get(prefix.length)
        if same_length is None:
            same_length = self.by_length[prefix.length] = {}
            self.lengths = sorted(self.by_length, reverse=True)
        routes = same_length.setdefault(prefix.network, [])
        routes.append(route)
        if len(routes) > 1:
            routes.sort(key=lambda one: one.metric)

    def edges(self, version: int) -> set[int]:
        """Where its prefixes begin, and the numbers behind them."""
        width = WIDTH[version]
        return {
            edge
            for length, networks in self.by_length.items()
            for network in networks
            for edge in (network, network + (1 << width - length))
        }

    def candidates(self, number: int, version: int) -> list[tuple[int, Route]]:
        """The routes that hold an address with their lengths: most specific first."""
        found: list[tuple[int, Route]] = []
        width = WIDTH[version]
        for length in self.lengths:
            free = width - length
            for route in self.by_length[length].get(number >> free << free, ()):
                found.append((length, route))
        return found


def usual_scope(number: int, version: int) -> str:
    """The scope that the kernel gives an address that is stated without one."""
    if is_loopback(number, version):
        return "host"
    return "link" if version == 6 and is_link_local(number, version) else "global"


def kernel_routes(place: Place) -> list[Route]:
    """The routes that the kernel makes of addresses, for a plane that does not state them."""
    found: list[Route] = []
    for item in place.of(Address):
        if not place.is_up(item.link):
            continue
        text, _, bits = item.address.partition("/")
        whole = WIDTH[version_of(text)]
        network = to_prefix(f"{item.peer}/{bits}" if item.peer else item.address)
        found.append(
            Route(
                namespace=place.name, destination=f"{text}/{whole}", link=item.link, table=LOCAL,
                type="local", source=text, protocol=2,
            )
        )  # fmt: skip
        if network.length < whole and not item.noprefixroute:
            found.append(
                Route(
                    namespace=place.name,
                    destination=f"{item.peer or text}/{bits}",
                    link=item.link,
                    source=text,
                    protocol=2,
                )
            )
    if place.links.get("lo") is not None and place.is_up("lo"):
        for destination in ("127.0.0.0/8", "127.0.0.1/32", "::1/128"):
            found.append(
                Route(
                    namespace=place.name, destination=destination, link="lo", table=LOCAL,
                    type="local", protocol=2,
                )
            )  # fmt: skip
    return found
