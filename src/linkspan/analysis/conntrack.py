"""Connection tracking: what a namespace remembers of the packets that passed it.

Each namespace has its own table. The first packet of a flow makes a connection, translations
are decided for that packet only and kept for the rest (net/netfilter/nf_conntrack_core.c).
"""

from __future__ import annotations

from linkspan.analysis.packet import ACK, ANSWERS, ECHO_REPLY, ECHO_REQUEST, SYN, Packet
from linkspan.analysis.traced import is_traced
from linkspan.analysis.values import CT_STATUSES

Ends = tuple[int, int, int, int, int, int]
"""Version, protocol, source, its port, destination, its port: see Packet.ends."""
_DONE = {False: 1 << 7, True: 1 << 8}
"""Bits of ct status for sources and destinations that are decided (IPS_*_NAT_DONE)."""


class Connection:
    """A tracked flow: what its packets look like in both directions, before translation."""

    __slots__ = ("mark", "original", "reply", "seen_reply", "status")

    def __init__(self, original: Ends) -> None:
        self.original = original
        self.reply = inverted(original)
        self.mark = 0
        self.status = 0
        self.seen_reply = False

    def add_status(self, name: str) -> None:
        """Set a status bit by its name: snat, dnat, ..."""
        self.status |= CT_STATUSES[name]

    def is_settled(self, destination: bool) -> bool:
        """Whether its translation of destinations, or else of sources, is decided."""
        return bool(self.status & _DONE[destination])

    def settle(self, destination: bool) -> None:
        """Its translation of destinations, or else of sources, stays as it is now."""
        self.status |= _DONE[destination]


def inverted(ends: Ends) -> Ends:
    """The ends of the answer."""
    version, protocol, source, source_port, destination, destination_port = ends
    if protocol & ~ANSWERS in (1, 58):
        protocol ^= ANSWERS
    return version, protocol, destination, destination_port, source, source_port


class Tracker:
    """The connection tables of all namespaces, and the neighbours that they learned meanwhile."""

    def __init__(self, traced: bool = False) -> None:
        self.traced = traced
        self.walked_beside = 0
        """Outer packets of questions that went through tunnels. They leave connections behind:
        the same question may be answered otherwise the next time."""
        self._neighbours: dict[tuple[str, str, int], list[tuple[int, str]]] = {}
        """Who has asked, by namespace, link and version: addresses and MACs, the last one first."""
        self._tables: dict[str, dict[Ends, tuple[Connection, str]]] = {}

    def learn(self, namespace: str, link: str, version: int, address: int, mac: str) -> None:
        """Somebody with an address has asked: his MAC is known there now."""
        self._neighbours.setdefault((namespace, link, version), []).insert(0, (address, mac))

    def learned(self, namespace: str, link: str, version: int, address: int) -> str | None:
        """The MAC of who has asked there before, from an address."""
        for known, mac in self._neighbours.get((namespace, link, version), ()):
            if known == address:
                return mac
        return None

    def see(self, packet: Packet) -> None:
        """Find or make the connection of a packet, and say what it is in it."""
        if packet.state not in ("none",):
            return
        if packet.protocol == 58 and packet.icmp_type not in (128, 129):
            packet.state = "untracked"  # neighbour discovery and its like
            return
        table = self._tables.setdefault(packet.namespace, {})
        ends = packet.ends
        found = table.get(ends) if not self.traced else _find_traced(table, ends)
        if found is not None:
            connection, direction = found
            packet.connection, packet.direction = connection, direction
            if direction == "reply":
                connection.seen_reply = True
                connection.add_status("seen-reply")
            packet.state = "established" if connection.seen_reply else "new"
            return
        if not _may_begin(packet):
            packet.state = "invalid"
            return
        packet.connection, packet.direction = Connection(packet.ends), "original"
        packet.state = "new"

    def is_taken(self, namespace: str, ends: Ends) -> bool:
        """Whether a connection of a namespace has these ends in one of its directions."""
        table = self._tables.get(namespace, {})
        if self.traced:
            return _find_traced(table, ends) is not None
        return ends in table

    def confirm(self, packet: Packet) -> None:
        """Remember the connection of a packet that has passed all hooks here."""
        connection = packet.connection
        if connection is None:
            return
        connection.add_status("confirmed")
        table = self._tables.setdefault(packet.namespace, {})
        if self.traced:
            # A packet from an address and port to themselves is its own answer. Where one is
            # delivered that is asked for (see delivery); these keys ask nothing.
            for ends, direction in (
                (connection.original, "original"), (connection.reply, "reply")
            ):  # fmt: skip
                if all(_plain(ends) != _plain(one) for one in table):
                    table[_Key(ends)] = (connection, direction)
            return
        table.setdefault(connection.original, (connection, "original"))
        table.setdefault(connection.reply, (connection, "reply"))


class _Key(tuple[int, int, int, int, int, int]):
    """Ends with traced numbers, told apart by what they are, not by their values."""

    __slots__ = ()

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other


def _plain(ends: Ends) -> tuple[int, ...]:
    return tuple(map(int, ends))


def _find_traced(
    table: dict[Ends, tuple[Connection, str]], ends: Ends
) -> tuple[Connection, str] | None:
    """The entry with the same ends. Numbers that came from the same header are the same for
    all packets; only where nothing else tells two ends apart are traced numbers compared.
    """
    for held, found in table.items():
        if all(
            one is other or (not is_traced(one, other) and one == other)
            for one, other in zip(held, ends, strict=True)
        ):
            return found
    for held, found in table.items():
        pairs = tuple(zip(held, ends, strict=True))
        if any(not is_traced(one, other) and one != other for one, other in pairs):
            continue
        if all(one is other or one == other for one, other in pairs):
            return found
    return None


def _may_begin(packet: Packet) -> bool:
    """Whether a connection can begin with such a packet."""
    if packet.protocol == 6:
        # A lone ACK is picked up (nf_conntrack_tcp_loose), an answer to nothing is not.
        return packet.flags & (SYN | ACK) != SYN | ACK
    if packet.icmp_type is not None:
        return packet.icmp_type == ECHO_REQUEST[packet.version]
    return packet.icmp_type != ECHO_REPLY[packet.version]
