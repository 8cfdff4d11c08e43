"""From the ports of a request to published ports that clash with nothing."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from linkspan.drivers.records import PublishedPort
from linkspan.engine.publishing.index import WILDCARDS, Holding, PortIndex, describe_clash
from linkspan.engine.publishing.sockets import HostSocket, Listeners, describe_listener
from linkspan.engine.publishing.specification import PortSpecification, parse_port
from linkspan.errors import Exhausted, InvalidRequest, PortInUse


def assign_ports(
    texts: Sequence[str],
    index: PortIndex,
    listeners: Listeners,
    *,
    host_addresses: Collection[str],
    port_range: tuple[int, int],
    every_address: Sequence[str] = ("0.0.0.0",),
) -> tuple[PublishedPort, ...]:
    """What the ports of one request are published as; nothing is entered into `index` yet.

    `host_addresses` are all addresses of the host. A free host port comes from `port_range`
    (both ends included): the lowest free one after the one chosen last. Where no host address
    is stated, the same port is published on each of `every_address`.

    Raises:
        InvalidRequest: a text is wrong, its host address is none of this host's, or two of the
            texts clash.
        PortInUse: a host port is published already, or a process listens on it; names who.
        Exhausted: there is no free host port in `port_range`.
    """
    wishes = [parse_port(text) for text in texts]
    for wish in wishes:
        check_host_address(wish, host_addresses)
    request = PortIndex()
    found: dict[int, list[PublishedPort]] = {}
    # Those that leave us no choice come first, so that a chosen port keeps clear of them.
    for number in sorted(range(len(wishes)), key=lambda n: not wishes[n].is_fixed):
        wish = wishes[number]
        addresses = every_address if wish.host_ip is None else (wish.host_ip,)
        if wish.is_fixed:
            assert wish.host_port is not None
            first = wish.host_port
            refuse_clash(wish, addresses, request, index, listeners)
        else:
            first = choose_free(wish, addresses, (request, index, listeners), index, port_range)
        found[number] = [
            PublishedPort(
                host_ip=address,
                host_port=first,
                host_port_end=first + wish.length - 1,
                port=wish.port,
                protocol=wish.protocol,
            )
            for address in addresses
        ]
        for port in found[number]:
            request.add(port, wish.text)
    return tuple(port for number in range(len(wishes)) for port in found[number])


def check_host_address(wish: PortSpecification, host_addresses: Collection[str]) -> None:
    """Raise InvalidRequest, with those there are, when the host address is none of the host's."""
    if wish.host_ip is None or wish.host_ip in WILDCARDS.values():
        return
    if wish.host_ip in host_addresses or ipaddress.ip_address(wish.host_ip).is_loopback:
        return
    own = [a for a in host_addresses if (":" in a) == (":" in wish.host_ip)]
    raise InvalidRequest(
        f"port {wish.text!r}: {wish.host_ip} is not an address of this host, which has "
        f"{', '.join(own) or 'none of that kind'}"
    )


def refuse_clash(
    wish: PortSpecification,
    addresses: Sequence[str],
    request: PortIndex,
    index: PortIndex,
    listeners: Listeners,
) -> None:
    """Raise an error that names what already has one of the fixed host ports."""
    assert wish.host_port is not None
    assert wish.host_port_end is not None
    first, last = wish.host_port, wish.host_port_end
    for address in addresses:
        same = request.find(wish.protocol, address, first, last)
        if same is not None:
            raise InvalidRequest(
                f"ports {same.holder!r} and {wish.text!r} of this request both take host port "
                f"{max(first, same.first)}/{wish.protocol}"
            )
        held = index.find(wish.protocol, address, first, last)
        if held is not None:
            clash = describe_clash(wish.protocol, address, first, held)
            raise PortInUse(f"{clash}; choose another host port")
        socket = listeners.find(wish.protocol, address, first, last)
        if socket is not None:
            clash = describe_listener(wish.protocol, address, socket)
            raise PortInUse(f"{clash}; stop it, or choose another host port")


def choose_free(
    wish: PortSpecification,
    addresses: Sequence[str],
    sources: Sequence[PortIndex | Listeners],
    index: PortIndex,
    port_range: tuple[int, int],
) -> int:
    """The first of as many free host ports in a row as `wish` needs, free on all `addresses`.

    Raises:
        PortInUse: the stated range of host ports has none.
        Exhausted: `port_range` has none.
    """
    if wish.host_port is not None and wish.host_port_end is not None:
        low, high = wish.host_port, wish.host_port_end
        free = find_free(wish, addresses, sources, low, high)
        if free is None:
            raise PortInUse(
                f"port {wish.text!r}: all host ports from {low} to {high} are published or "
                "listened on; widen the range"
            )
        return free
    low, high = port_range
    start = index.cursor + 1 if low <= index.cursor < high else low
    free = find_free(wish, addresses, sources, start, high)
    if free is None:
        free = find_free(wish, addresses, sources, low, high)
    if free is None:
        raise Exhausted(
            f"port {wish.text!r}: no {wish.length} free host port{'s'[: wish.length > 1]} from "
            f"{low} to {high}; state a host port, or widen port_range in the settings"
        )
    index.cursor = free + wish.length - 1
    return free


def find_free(
    wish: PortSpecification,
    addresses: Sequence[str],
    sources: Sequence[PortIndex | Listeners],
    low: int,
    high: int,
) -> int | None:
    """The lowest host port from which on enough are free, all within `low` to `high`."""
    first = low
    while first + wish.length - 1 <= high:
        last = first + wish.length - 1
        taken = [
            last_of(found)
            for address in addresses
            for source in sources
            if (found := source.find(wish.protocol, address, first, last)) is not None
        ]
        if not taken:
            return first
        first = max(taken) + 1
    return None


def last_of(found: Holding | HostSocket) -> int:
    """The last host port that this has."""
    return found.last if isinstance(found, Holding) else found.port
