"""Translating addresses: what a rule decides for a connection, and doing it to a packet.

nf_nat_core.c: destinations are translated at prerouting and output, sources at postrouting
and input; the answers the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from linkspan.analysis.addresses import to_number, to_prefix, to_text, version_of
from linkspan.analysis.conntrack import Connection, inverted
from linkspan.analysis.flow import WITH_PORTS
from linkspan.analysis.packet import Packet
from linkspan.analysis.source import select_ipv4, select_ipv6
from linkspan.analysis.traced import lies_between
from linkspan.dataplane.rules import Nat, Range

if TYPE_CHECKING:
    from linkspan.analysis.journey import Journey

_OF_DESTINATIONS = frozenset(("prerouting", "output"))
_MOST_OPTIONS = 8
_RANDOM = frozenset(("random", "fully-random"))
_BY_CHANCE = ((511, 509), (1023, 1021))
"""Ports up to the first are exchanged for others of 1 to 511, and so on; all else for _HIGH."""
_HIGH = 61001


def needs_translation(packet: Packet, hook: str) -> bool:
    """Whether the translation of this packet's connection is still open at a hook."""
    connection = packet.connection
    if connection is None or packet.state != "new" or packet.direction != "original":
        return False
    return not connection.is_settled(hook in _OF_DESTINATIONS)


def settle(journey: Journey, packet: Packet, hook: str) -> None:
    """Nothing more is decided at this hook for the connection.

    Two connections never look alike in their answers: a source port that another one has
    taken becomes a free one (nf_nat_used_tuple).
    """
    connection = packet.connection
    assert connection is not None
    destination = hook in _OF_DESTINATIONS
    connection.settle(destination)
    if destination:
        return
    taken = journey.tracker.is_taken(packet.namespace, connection.reply)
    if taken and packet.protocol in WITH_PORTS:
        version, protocol, source, source_port, target, port = connection.reply
        connection.reply = (version, protocol, source, source_port, target, port + 1)
        connection.add_status("snat")


def apply_translation(journey: Journey, packet: Packet, hook: str, by: str | None) -> None:
    """Write the addresses that the connection has on the other side into the packet."""
    connection = packet.connection
    assert connection is not None
    original = packet.direction == "original"
    wanted = inverted(connection.reply if original else connection.original)
    if hook in _OF_DESTINATIONS:
        if (packet.destination, packet.destination_port) == wanted[4:]:
            return
        before = packet.flow
        packet.destination, packet.destination_port = wanted[4], wanted[5]
        what = f"destination {before.destination} becomes {packet.flow.destination}"
        if before.destination_port != packet.flow.destination_port:
            what = f"{what}, port {packet.destination_port}"
    else:
        if (packet.source, packet.source_port) == wanted[2:4]:
            return
        before = packet.flow
        packet.source, packet.source_port = wanted[2], wanted[3]
        what = f"source {before.source} becomes {packet.flow.source}"
        if before.source_port != packet.flow.source_port:
            what = f"{what}, port {packet.source_port}"
    by = by or "connection tracking"
    journey.recorder.rewrite(by, before, packet.flow)
    journey.recorder.step("translate", by, f"{before} => {packet.flow}", f"{what} ({by})")


def translate(journey: Journey, packet: Packet, statement: Nat, row: tuple[Any, ...] | None) -> str:
    """Decide the translation of a new connection; "accept", "drop", or "continue" for no fit.

    `row` is what a map gave: an address, a port, or both.
    """
    connection = packet.connection
    if connection is None or packet.state != "new":
        return "accept"
    destination = statement.kind in ("dnat", "redirect")
    if destination == (journey.hook not in _OF_DESTINATIONS):
        return "accept"
    if connection.is_settled(destination):
        return "accept"
    address: Any = statement.address
    port: Any = statement.port
    if row is not None:
        numbers = [part for part in row if isinstance(part, int)]
        texts = [part for part in row if not isinstance(part, int)]
        address = texts[0] if texts else address
        port = numbers[0] if numbers else port
    old_address = packet.destination if destination else packet.source
    old_port = packet.destination_port if destination else packet.source_port
    if statement.kind in ("masquerade", "redirect"):
        number = _own_address(journey, packet, statement.kind)
        if number is None:
            return "drop"
    elif address is None:
        number = old_address
    else:
        found = _choose_address(journey, packet, address, old_address, destination)
        if found is None:
            return "continue"
        number = found
    new_port = _choose_port(journey, packet, statement, port, old_port)
    _bind(connection, destination, number, new_port)
    return "accept"


def _bind(connection: Connection, destination: bool, address: int, port: int) -> None:
    version, protocol, source, source_port, target, target_port = connection.reply
    if destination:
        changed = (source, source_port) != (address, port)
        connection.reply = (version, protocol, address, port, target, target_port)
    else:
        changed = (target, target_port) != (address, port)
        connection.reply = (version, protocol, source, source_port, address, port)
    connection.settle(destination)
    if changed:
        connection.add_status("dnat" if destination else "snat")


def _own_address(journey: Journey, packet: Packet, kind: str) -> int | None:
    """The address that masquerade or redirect takes: one of the link's own."""
    place = journey.place(packet)
    if kind == "redirect":
        if journey.hook == "output":
            return to_number("127.0.0.1" if packet.version == 4 else "::1")
        link = packet.input_link or ""
        for address in place.by_link.get((link, packet.version), ()):
            if packet.version == 4 or address.scope in ("global", "site"):
                return address.number
        return None
    link = packet.output_link or ""
    if packet.version == 6:
        return select_ipv6(place, link, packet.destination)
    way = journey.way
    near = packet.destination
    if way is not None and way.gateway is not None and way.link == link:
        near = way.gateway[1]
    return select_ipv4(place, link, near)


def _choose_address(
    journey: Journey, packet: Packet, address: str | Range, old: int, destination: bool
) -> int | None:
    """One of the addresses that a rule allows; None when they are of the other IP version.

    A source in the range stays as it is, a destination does not (get_unique_tuple).
    """
    if isinstance(address, Range):
        first, last = to_number(str(address.first)), to_number(str(address.last))
        version = version_of(str(address.first))
    elif "-" in address:
        low, _, high = address.partition("-")
        first, last, version = to_number(low), to_number(high), version_of(low)
    elif "/" in address:
        prefix = to_prefix(address)
        if prefix.version != packet.version:
            return None
        return prefix.network | (old & (prefix.last ^ prefix.network))
    else:
        first = last = to_number(address)
        version = version_of(address)
    if version != packet.version:
        return None
    if first == last:
        return first
    if not destination and lies_between(old, first, last):
        return old
    options = [first + step for step in range(min(last - first + 1, _MOST_OPTIONS))]
    if last - first >= _MOST_OPTIONS:
        journey.misunderstood(f"a translation may take any of {last - first + 1} addresses")
        owned = [
            number for number, _ in journey.view.owned(version) if first <= number <= last
        ]  # fmt: skip
        # They are in order: the first that nobody has is where they leave a gap.
        free = next((n for n, held in enumerate(owned, first) if n != held), first + len(owned))
        options = [*owned, *([free] if free <= last else [])]
    return journey.choices.choose(
        "which address a translation takes", options, [to_text(o, version) for o in options]
    )


def _choose_by_chance(old: int) -> int:
    """The port that a random translation takes, by what it was: one of its range stands for all
    (nf_nat_l4proto_unique_tuple).
    """
    for last, taken in _BY_CHANCE:
        if lies_between(old, 0, last):
            return taken
    return _HIGH


def _choose_port(
    journey: Journey, packet: Packet, statement: Nat, port: int | str | Range | None, old: int
) -> int:
    if packet.protocol not in WITH_PORTS:
        return old
    by_chance = statement.kind in ("snat", "masquerade") and _RANDOM & set(statement.flags)
    if port is None:
        return _choose_by_chance(old) if by_chance else old
    if isinstance(port, str) and "-" in port:
        low, _, high = port.partition("-")
        port = Range(int(low), int(high))
    if isinstance(port, Range):
        first, last = int(port.first), int(port.last)
        if not by_chance and lies_between(old, first, last):
            return old
        if 0 < last - first < _MOST_OPTIONS:
            ports = range(first, last + 1)
            return journey.choices.choose(
                "which port a translation takes", ports, [str(one) for one in ports]
            )
        if first != last:
            journey.misunderstood(f"a translation takes a port from {first} to {last}")
        return first
    return int(port)
