"""What was found to be exposed, gathered into few records: neighbouring ports and addresses that
lead to the same socket are one.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import msgspec

from linkspan.analysis.headers import ALL_PORTS, Headers, address_texts
from linkspan.analysis.intervals import Intervals, simplify, to_intervals
from linkspan.analysis.openers import Opened, UsedRule
from linkspan.analysis.trace import Confidence
from linkspan.dataplane.sockets import Process

Ports = tuple[tuple[int, int], ...]
_FEW = 4
"""Ranges of which one would rather hear what is not among them."""


class Addresses(msgspec.Struct, frozen=True):
    """A set of addresses: `kind` is any, all-but or only; `ranges` are prefixes, addresses and
    ranges of addresses as text (for all-but those that are left out).
    """

    kind: str
    ranges: tuple[str, ...] = ()

    def __str__(self) -> str:
        if self.kind == "any":
            return "anywhere"
        text = ", ".join(self.ranges) or "nowhere"
        return text if self.kind == "only" else f"anywhere but {text}"


class Exposure(msgspec.Struct, frozen=True, kw_only=True):
    """Packets from strangers that arrive at one socket, or at several that are alike.

    They come in by `segment` in frames for the namespace `towards`, to `addresses` and `ports`,
    from `sources`, and from `pretended` of the addresses that belong to the host's own side;
    `source_ports` is empty for any. `namespace` has the socket, at
    `own_address` (empty: at the address that was asked for) and `own_ports`. `answered` is
    yes, no, some (only some of the sources get an answer) or depends, and `answered_sources`
    who gets one, as far as that was followed. `relays_to` is where a local relay leads on.
    """

    segment: str
    towards: str
    version: int
    protocol: str
    addresses: tuple[str, ...]
    ports: Ports
    sources: Addresses
    pretended: Addresses
    source_ports: Ports = ()
    namespace: str
    own_address: str
    own_ports: Ports
    processes: tuple[Process, ...]
    answered: str
    answered_sources: Addresses
    opened_by: str
    opened_how: str
    rules: tuple[UsedRule, ...]
    relays_to: str = ""
    confidence: Confidence
    depends_on: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """Packets from strangers on a segment that arrive at no socket, and the reason."""

    segment: str
    version: int
    protocol: str
    addresses: tuple[str, ...]
    ports: Ports
    sources: Addresses
    reason: str


class Passage(Outline, frozen=True, kw_only=True):
    """Packets that a host passes on from a segment to where nobody was observed."""


class Unclear(Outline, frozen=True, kw_only=True):
    """Packets of which it cannot be said where they end."""


class Target(NamedTuple):
    """Where packets arrive, and how: what one record is about."""

    segment: str
    towards: str
    protocol: str
    namespace: str
    own_address: str
    processes: tuple[Process, ...]
    opened_by: str
    relays_to: str
    confidence: Confidence
    depends_on: tuple[str, ...]
    not_understood: tuple[str, ...]


class Asked(NamedTuple):
    """The sources that were asked about: those that strangers have, and those of the host's own
    side that they can only pretend to have.
    """

    usual: Intervals
    pretended: Intervals


class Arrival(NamedTuple):
    """One class of packets that arrive. `answered` are the sources that get an answer,
    `answers` what became of the answers that were followed; `own_port` is None for the port
    that was asked for.
    """

    target: Target
    headers: Headers
    asked: Asked
    own_port: int | None
    answered: Intervals
    answers: str
    opened: Opened
    rules: tuple[UsedRule, ...]


def gather(arrivals: Iterable[Arrival]) -> tuple[Exposure, ...]:
    """One record for what belongs together: first sources, then ports, then addresses."""
    held = list(arrivals)
    held = _join(held, _same_but_source, _join_sources)
    held = _join_adjacent_ports(held)
    held = _join(held, _same_but_destination, _join_destinations)
    records = [_as_exposure(one) for one in held]
    records.sort(key=_order)
    return tuple(records)


def describe_sources(values: Intervals, asked: Intervals, version: int) -> Addresses:
    """Addresses beside all that were asked about; others do not matter."""
    values &= asked
    if values == asked:
        return Addresses("any" if asked else "only")
    others = simplify(asked - values, asked)
    few = simplify(values, asked)
    if values and len(others) <= _FEW and others.count < values.count:
        return Addresses("all-but", tuple(address_texts(others, version)))
    return Addresses("only", tuple(address_texts(few, version)))


def _join(
    arrivals: list[Arrival], alike: Callable[[Arrival], Hashable],
    join: Callable[[Arrival, Arrival], Arrival],
) -> list[Arrival]:  # fmt: skip
    held: dict[Hashable, Arrival] = {}
    for one in arrivals:
        key = alike(one)
        before = held.get(key)
        held[key] = one if before is None else join(before, one)
    return list(held.values())


def _same_but_source(one: Arrival) -> Hashable:
    box = one.headers
    return (
        one.target, box.version, box.source_port, box.destination, box.destination_port,
        one.own_port, one.asked,
    )  # fmt: skip


def _join_sources(one: Arrival, other: Arrival) -> Arrival:
    source = _source(one) | _source(other)
    # What an ordinary stranger meets is told; who pretends to be another one may meet more.
    usual, odd = (one, other) if _is_usual(one) or not _is_usual(other) else (other, one)
    return usual._replace(
        headers=msgspec.structs.replace(one.headers, source=source),
        answered=usual.answered | odd.answered,
    )


def _is_usual(one: Arrival) -> bool:
    return _source(one).meets(one.asked.usual)


def _source(one: Arrival) -> Intervals:
    assert one.headers.source is not None
    return one.headers.source


def _same_but_destination(one: Arrival) -> Hashable:
    box = one.headers
    return (
        one.target, box.version, box.source_port, box.source, box.destination_port, one.own_port,
        one.answered, one.asked, one.opened.by,
    )  # fmt: skip


def _join_destinations(one: Arrival, other: Arrival) -> Arrival:
    destination = one.headers.destination | other.headers.destination
    return one._replace(headers=msgspec.structs.replace(one.headers, destination=destination))


def _join_adjacent_ports(arrivals: list[Arrival]) -> list[Arrival]:
    """Ports beside each other that keep their number or all get the same one."""
    rows: dict[Hashable, list[Arrival]] = {}
    for one in arrivals:
        box = one.headers
        key = (
            one.target, box.version, box.source_port, box.source, box.destination, one.answered,
            one.answers, one.asked, _own_port_rule(one), tuple(rule.object for rule in one.rules),
        )  # fmt: skip
        rows.setdefault(key, []).append(one)
    return [joined for row in rows.values() for joined in _join_row(row)]


def _own_port_rule(one: Arrival) -> Hashable:
    """How the own port follows from the one asked for: the same, a distance, or one for all."""
    if one.own_port is None:
        return "same"
    ports = one.headers.destination_port
    return one.own_port - ports.first if ports.count == 1 else ("all", one.own_port)


def _join_row(row: list[Arrival]) -> list[Arrival]:
    row.sort(key=lambda one: one.headers.destination_port.first)
    found: list[Arrival] = []
    for one in row:
        before = found[-1] if found else None
        ports = one.headers.destination_port
        if before is None or before.headers.destination_port.last + 1 != ports.first:
            found.append(one)
            continue
        joined = before.headers.destination_port | ports
        found[-1] = before._replace(
            headers=msgspec.structs.replace(before.headers, destination_port=joined)
        )
    return found


def _as_exposure(one: Arrival) -> Exposure:
    box, target = one.headers, one.target
    ports = box.destination_port
    own = ports
    if one.own_port is not None:
        # A row of single ports that moved by one distance, or all to one port.
        shift = one.own_port - ports.first
        spread = isinstance(_own_port_rule(one), tuple)
        own = to_intervals(
            [(one.own_port, one.own_port)] if spread
            else [(first + shift, last + shift) for first, last in ports]
        )  # fmt: skip
    return Exposure(
        segment=target.segment,
        towards=target.towards,
        version=box.version,
        protocol=target.protocol,
        addresses=tuple(address_texts(box.destination, box.version)),
        ports=tuple(ports),
        sources=describe_sources(_source(one), one.asked.usual, box.version),
        pretended=describe_sources(_source(one), one.asked.pretended, box.version),
        source_ports=() if box.source_port == ALL_PORTS else tuple(box.source_port),
        namespace=target.namespace,
        own_address=target.own_address,
        own_ports=tuple(own),
        processes=target.processes,
        answered=one.answers,
        answered_sources=describe_sources(one.answered, one.asked.usual, box.version),
        opened_by=target.opened_by,
        opened_how=one.opened.how,
        rules=one.rules,
        relays_to=target.relays_to,
        confidence=target.confidence,
        depends_on=target.depends_on,
        not_understood=target.not_understood,
    )


def _order(one: Exposure) -> tuple[object, ...]:
    return (one.segment, one.version, one.protocol, one.ports, one.addresses, one.namespace)
