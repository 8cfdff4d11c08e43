"""Asking the walk for one pair of ends: at which addresses, on which ports, with what outcome."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

from linkspan.analysis.addresses import is_loopback, to_number, to_text, version_of
from linkspan.analysis.flow import EPHEMERAL, PROTOCOLS, Flow
from linkspan.analysis.headers import Headers
from linkspan.analysis.intervals import Intervals, interval, to_intervals, to_points
from linkspan.analysis.journey import Stranger
from linkspan.analysis.place import OwnAddress
from linkspan.analysis.reach_ends import (
    INTERNET,
    OUTSIDE,
    Outside,
    is_global,
    is_private,
    listening_ports,
)
from linkspan.analysis.reach_outcome import Outcome, Reached, judge
from linkspan.analysis.regions import explore_headers
from linkspan.analysis.symmetry import Kinds
from linkspan.analysis.trace import Answer, Disposition
from linkspan.analysis.view import View
from linkspan.analysis.walk import stranger_at, trace_flow
from linkspan.dataplane.objects import HOST

Ports = tuple[tuple[int, int], ...]
ALL = interval(1, 65535)
_FEW = 2
"""Ports up to which it is quicker to ask for each than to find out which are treated alike."""
_USUAL = ("tcp", "udp")
"""Protocols by which one asks whether there is a way out; others when they are asked for."""
_LOOPBACK = ("127.0.0.1", "::1")


class Asked(NamedTuple):
    """One finding: where it was asked, and what came out. Numbers as in reach.Finding."""

    address: str
    address_number: int | None
    protocol: str
    ports: Ports
    published_number: int | None
    outcome: Outcome
    gateway_number: int | None = None


class _Told(NamedTuple):
    """An outcome with the namespaces that have the address to which it led."""

    outcome: Outcome
    aims: frozenset[str]


class Asker:
    """Asks about one host; what leads to published ports is asked once for all targets."""

    def __init__(
        self, view: View, kinds: Kinds, outside: Outside | None, protocols: tuple[str, ...],
        ports: tuple[int, ...] | None,
    ) -> None:  # fmt: skip
        self._view = view
        self._kinds = kinds
        self._outside = outside
        self._protocols = protocols
        self._ports = ports
        self._shared: dict[tuple[str, str, str], tuple[tuple[Ports, _Told], ...]] = {}
        self._owned = to_points([port for held in kinds.published.values() for port in held])

    def ask(self, origin: str, target: str) -> Iterator[Asked]:
        """All that one end finds of another: namespaces, "outside" or "internet"."""
        beyond = (OUTSIDE, INTERNET)
        if target in beyond:
            if origin not in beyond:
                yield from self._ask_out(origin, target)
            return
        if origin == target == HOST:
            return
        gateways = {one: place for place, one in enumerate(self.gateways(origin))}
        for number, address in self._addresses(origin, target):
            text = to_text(address.number, address.version)
            for protocol in self._protocols:
                wanted = self._ports
                if wanted is None:
                    place = self._view.place(target)
                    wanted = tuple(listening_ports(place, text, protocol, target != HOST))
                for ports, told in self._ask_ports(origin, text, protocol, wanted):
                    place_number = None if target == HOST else number
                    gateway = gateways.get(text) if target == HOST else None
                    yield Asked(text, place_number, protocol, ports, None, told.outcome, gateway)
        if target != HOST and origin in (HOST, *beyond):
            yield from self._ask_published(origin, target)

    def gateways(self, origin: str) -> tuple[str, ...]:
        """The host's addresses on a network that is like others."""
        bridge = self._kinds.networks.get(origin)
        if bridge is None:
            return ()
        return self._on_bridges.get(bridge, ())

    @cached_property
    def _on_bridges(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for one in self._view.place(HOST).addresses:
            found[one.link] = (*found.get(one.link, ()), to_text(one.number, one.version))
        return found

    # Where ----------------------------------------------------------------------------

    def _addresses(self, origin: str, target: str) -> Iterator[tuple[int, OwnAddress]]:
        """The addresses of a target that an origin may use, with their places."""
        versions = self._versions(origin)
        near = self._near_host(origin) if target == HOST else None
        for number, address in enumerate(self._view.place(target).addresses):
            if not is_global(address.number, address.version) or address.version not in versions:
                continue
            if near is not None and address.link not in near and not any(
                address.network == other for other in self._networks(origin)
            ):  # fmt: skip
                continue
            if origin == INTERNET and is_private(to_text(address.number, address.version)):
                if target != HOST or address.link not in self._uplinks():
                    continue
            yield number, address

    def _near_host(self, origin: str) -> frozenset[str] | None:
        """The host's links whose addresses one uses besides those of one's own networks; None
        for all of them.
        """
        return None if origin == OUTSIDE else frozenset(self._uplinks())

    def _uplinks(self) -> tuple[str, ...]:
        if self._outside is None:
            return ()
        place = self._view.place(HOST)
        name = self._outside.uplink
        return (name, place.bridge_of(name) or name)

    def _networks(self, origin: str) -> list[object]:
        if origin in (OUTSIDE, INTERNET):
            return []
        return [one.network for one in self._view.place(origin).addresses]

    def _versions(self, origin: str) -> frozenset[int]:
        """The IP versions that an end speaks."""
        outside = self._outside
        if origin in (OUTSIDE, INTERNET):
            assert outside is not None
            return frozenset(outside.beside if origin == OUTSIDE else outside.beyond)
        return frozenset(
            one.version
            for one in self._view.place(origin).addresses
            if is_global(one.number, one.version)
        )

    # Asking ---------------------------------------------------------------------------

    def _ask_out(self, origin: str, target: str) -> Iterator[Asked]:
        outside = self._outside
        assert outside is not None
        addresses = outside.beside if target == OUTSIDE else outside.beyond
        versions = self._versions(origin)
        for version, address in addresses.items():
            if version not in versions:
                continue
            stranger = None
            if target == OUTSIDE:
                stranger = stranger_at(HOST, outside.uplink, address)
            for protocol in self._protocols:
                if protocol not in _USUAL and len(self._protocols) > 1:
                    continue
                wanted = ALL if self._ports is None else to_points(self._ports)
                for ports, told in self._ask_box(origin, address, protocol, wanted, stranger):
                    yield Asked(address, None, protocol, ports, None, told.outcome)

    def _ask_published(self, origin: str, target: str) -> Iterator[Asked]:
        """The ports of the host that lead to a target: its own, and those that were not told
        apart from what others have.
        """
        for address in self._published_at(origin):
            for protocol in self._protocols:
                for number, port in enumerate(self._kinds.published.get(target, ())):
                    if self._ports is not None and port not in self._ports:
                        continue
                    told = self._ask_one(origin, address, protocol, port, None)
                    if target in told.aims:
                        yield Asked(address, None, protocol, ((port, port),), number, told.outcome)
                for ports, told in self._ask_shared(origin, address, protocol):
                    if target in told.aims:
                        yield Asked(address, None, protocol, ports, None, told.outcome)

    def _ask_shared(
        self, origin: str, address: str, protocol: str
    ) -> tuple[tuple[Ports, _Told], ...]:
        """All ports of the host that are no container's own; asked once for all targets."""
        key = (origin, address, protocol)
        found = self._shared.get(key)
        if found is None:
            wanted = ALL if self._ports is None else to_points(self._ports)
            found = self._shared[key] = tuple(
                (ports, told)
                for ports, told in self._ask_box(origin, address, protocol, wanted - self._owned)
                if told.aims - {HOST}
            )
        return found

    def _published_at(self, origin: str) -> list[str]:
        """The host's addresses at which one looks for published ports."""
        versions = self._versions(origin)
        links = self._uplinks()
        found = [
            to_text(one.number, one.version)
            for one in self._view.place(HOST).addresses
            if one.version in versions
            and is_global(one.number, one.version)
            and (one.link in links or not links)
        ]
        if origin == HOST:
            own = self._view.place(HOST).own
            found += [text for text in _LOOPBACK if (version_of(text), to_number(text)) in own]
        return found

    def _ask_ports(
        self, origin: str, address: str, protocol: str, ports: Sequence[int],
        stranger: Stranger | None = None,
    ) -> Iterator[tuple[Ports, _Told]]:  # fmt: skip
        if len(ports) > _FEW:
            return self._ask_box(origin, address, protocol, to_points(ports), stranger)
        return _together(
            (interval(port, port), self._ask_one(origin, address, protocol, port, stranger))
            for port in ports
        )

    def _ask_box(
        self, origin: str, address: str, protocol: str, ports: Intervals,
        stranger: Stranger | None = None,
    ) -> Iterator[tuple[Ports, _Told]]:  # fmt: skip
        """Ports as a set: a walk for each class of them that is treated alike."""
        namespace, source, link = self._sender(origin, address)
        version = version_of(address)
        number = to_number(address)
        box = Headers(
            version=version,
            protocol=PROTOCOLS[protocol],
            source=None if source is None else interval(to_number(source), to_number(source)),
            source_port=interval(EPHEMERAL, EPHEMERAL),
            destination=interval(number, number),
            destination_port=ports,
        )
        explored = explore_headers(self._view, namespace, box, stranger, link)
        told = [
            (one.headers.destination_port, self._told(one.answer, link)) for one in explored.classes
        ]
        told += [(rest.destination_port, _NOT_LOOKED_AT) for rest in explored.rest]
        return _together(told)

    def _sender(self, origin: str, address: str) -> tuple[str, str | None, str | None]:
        """Where packets begin: namespace, source, and the link that they come in by."""
        if origin not in (OUTSIDE, INTERNET):
            return origin, None, None
        outside = self._outside
        assert outside is not None
        known = outside.beside if origin == OUTSIDE else outside.beyond
        return HOST, known[version_of(address)], outside.uplink

    def _ask_one(
        self, origin: str, address: str, protocol: str, port: int, stranger: Stranger | None
    ) -> _Told:
        namespace, source, link = self._sender(origin, address)
        flow = Flow(
            source=source, destination=address, destination_port=port, protocol=protocol, link=link
        )
        return self._told(trace_flow(self._view, namespace, flow, stranger), link)

    def _told(self, answer: Answer, link: str | None) -> _Told:
        outcome = judge(answer, link is not None)
        behind = {name for trace in answer.traces for name in self._view.left_behind(trace)}
        if behind and outcome.verdict is Reached.REACHABLE:
            origin = answer.first.namespace
            why = f"where it leads from {origin}, which it leaves: what is beyond was not observed"
            outcome = outcome._replace(verdict=Reached.DEPENDS, why=why)
        return _Told(outcome, self._aims(answer))

    def _aims(self, answer: Answer) -> frozenset[str]:
        """The namespaces that have the address at which the packet arrived, or would have."""
        found: set[str] = set()
        for trace in answer.traces:
            end = trace if trace.onward is None else trace.onward.first
            number = to_number(end.arrived.destination)
            if is_loopback(number, end.arrived.version):
                found.add(end.namespace)
                continue
            key = (end.arrived.version, number)
            found.update(self._view.owners.get(key, ()))
        return frozenset(found)


_NOT_LOOKED_AT = _Told(
    Outcome(
        Reached.DEPENDS, "", Disposition.UNKNOWN, "too many different ways to look at them all",
        "", "", "", (), (),
    ),
    frozenset(),
)  # fmt: skip


def _together(asked: Iterable[tuple[Intervals, _Told]]) -> Iterator[tuple[Ports, _Told]]:
    """Ports with the same outcome together."""
    held: dict[_Told, list[Intervals]] = {}
    for ports, told in asked:
        held.setdefault(told, []).append(ports)
    for told, parts in held.items():
        yield tuple(to_intervals(span for part in parts for span in part)), told
