"""Connection tracking: what a namespace remembers of the packets that passed it.

Each namespace has its own table. The first packet of a flow makes a connection, translations
are decided for that packet only and kept for the rest (net/netfilter/nf_conntrack_core.c).
"""

from __future__ import annotations

from linkspan.analysis.packet import ACK, ECHO_REPLY, ECHO_REQUEST, SYN, Packet
from linkspan.analysis.values import CT_STATUSES

Ends = tuple[int, int, int, int, int, int]
"""Version, protocol, source, its port, destination, its port."""


class Connection:
    """A tracked flow: what its packets look like in both directions, before translation."""

    __slots__ = (
        "destination_done", "mark", "original", "reply", "seen_reply", "source_done", "status",
    )  # fmt: skip

    def __init__(self, original: Ends) -> None:
        self.original = original
        self.reply = inverted(original)
        self.mark = 0
        self.status = 0
        self.seen_reply = False
        self.source_done = False
        self.destination_done = False

    def add_status(self, name: str) -> None:
        """Set a status bit by its name: snat, dnat, ..."""
        self.status |= CT_STATUSES[name]


def inverted(ends: Ends) -> Ends:
    """The ends of the answer."""
    version, protocol, source, source_port, destination, destination_port = ends
    return version, protocol, destination, destination_port, source, source_port


class Tracker:
    """The connection tables of all namespaces, and the neighbours that they learned meanwhile."""

    def __init__(self) -> None:
        self.neighbours: dict[tuple[str, str, int, int], str] = {}
        """MACs of who has asked, by namespace, link, version and address."""
        self._tables: dict[str, dict[Ends, tuple[Connection, str]]] = {}

    def see(self, packet: Packet) -> None:
        """Find or make the connection of a packet, and say what it is in it."""
        if packet.state not in ("none",):
            return
        if packet.protocol == 58 and packet.icmp_type not in (128, 129):
            packet.state = "untracked"  # neighbour discovery and its like
            return
        table = self._tables.setdefault(packet.namespace, {})
        found = table.get(packet.ends)
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
        return ends in self._tables.get(namespace, ())

    def confirm(self, packet: Packet) -> None:
        """Remember the connection of a packet that has passed all hooks here."""
        connection = packet.connection
        if connection is None:
            return
        connection.add_status("confirmed")
        table = self._tables.setdefault(packet.namespace, {})
        table.setdefault(connection.original, (connection, "original"))
        table.setdefault(connection.reply, (connection, "reply"))


def _may_begin(packet: Packet) -> bool:
    """Whether a connection can begin with such a packet."""
    if packet.protocol == 6:
        # A lone ACK is picked up (nf_conntrack_tcp_loose), an answer to nothing is not.
        return packet.flags & (SYN | ACK) != SYN | ACK
    if packet.icmp_type is not None:
        return packet.icmp_type == ECHO_REQUEST[packet.version]
    return packet.icmp_type != ECHO_REPLY[packet.version]
