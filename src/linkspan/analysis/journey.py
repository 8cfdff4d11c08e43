"""What all parts of a walk share: the view, decisions, connections, and where it can end."""

from __future__ import annotations

from typing import Any, NamedTuple

from linkspan.analysis.choices import Choices
from linkspan.analysis.conntrack import Ends, Tracker
from linkspan.analysis.flow import Flow
from linkspan.analysis.packet import Packet
from linkspan.analysis.place import Place
from linkspan.analysis.recorder import Recorder
from linkspan.analysis.routing import Way
from linkspan.analysis.ruleset import Ruleset
from linkspan.analysis.trace import Disposition
from linkspan.analysis.traced import Region
from linkspan.analysis.view import View
from linkspan.dataplane.rules import Nat
from linkspan.dataplane.sockets import Listener, Process

LONGEST = 64
"""Links that a packet may cross before it counts as looping: the usual first TTL."""
STRANGER_MAC = "mac-of-a-stranger"


class Stranger(NamedTuple):
    """Somebody outside, on the segment of a link."""

    namespace: str
    link: str
    version: int
    address: int


class Socket(NamedTuple):
    """A socket that waits for the packets of one flow: where it is, and the ends it takes."""

    namespace: str | None
    """None: a stranger's."""
    ends: Ends


class Ending(NamedTuple):
    """How a packet ended, and why, in words."""

    disposition: Disposition
    reason: str
    namespace: str
    processes: tuple[Process, ...] = ()


class Next(NamedTuple):
    """Where a packet goes next: `stage` is a function of the walk's parts by its name."""

    stage: str
    packet: Packet
    link: str
    way: Way | None = None


Outcome = Ending | Next


class Journey:
    """One packet under way, with what earlier packets of its flow left behind."""

    def __init__(
        self, view: View, choices: Choices, tracker: Tracker, region: Region | None = None
    ) -> None:
        self.view = view
        self.choices = choices
        self.tracker = tracker
        self.recorder = Recorder()
        self.stranger: Stranger | None = None
        self.expected: Socket | None = None
        """The socket that the packet is for, when it is not the first of its flow."""
        self.sent: Flow | None = None
        """The flow as its sender sent it, with the address that its kernel chose."""
        self.source: int = 0
        """That address as a number."""
        self.first_way: Way | None = None
        """The way that the first packet of a process was routed."""
        self.kept_way: Way | None = None
        """The route that the packet's socket has kept from the packets before."""
        self.connected_unbound = False
        """The packet's socket connected without an address, and keeps the route that this gave
        (IPv6; an IPv4 socket asks again with the address)."""
        self.listener: Listener | None = None
        """The socket that the packet was given to."""
        self.hook = ""
        self.way: Way | None = None
        """The way of the packet that is being sent: what masquerading asks for."""
        self.crossed = 0
        self.carrying: frozenset[tuple[str, str, str]] = frozenset()
        """Tunnel ends that a question is just packed for: namespace, link and remote."""
        self.region = region
        """What headers this walk is for, when it is for more than one packet."""

    def place(self, packet: Packet) -> Place:
        """The namespace that a packet is in."""
        return self.view.place(packet.namespace)

    def ruleset(self, namespace: str) -> Ruleset:
        """The firewall of a namespace."""
        return self.view.ruleset(namespace)

    def rewritten(self, before: Flow, after: Flow, by: str) -> None:
        """Write down that a rule changed a packet's headers, past connection tracking."""
        if before != after:
            self.recorder.rewrite(by, before, after)
            self.recorder.step(
                "translate", by, f"{before} => {after}", f"becomes {after} ({by})"
            )  # fmt: skip

    def misunderstood(self, what: str) -> None:
        """Note what was passed over without being understood."""
        self.recorder.misunderstood(what)

    def translate(self, packet: Packet, statement: Nat, to: tuple[Any, ...] | None) -> str:
        """Carry out a translation; "accept", or "drop" where there is no address for it."""
        from linkspan.analysis.translation import translate

        return translate(self, packet, statement, to)

    def end(self, disposition: Disposition, packet: Packet, reason: str,
            processes: tuple[Process, ...] = ()) -> Ending:  # fmt: skip
        """The end of the way; written down as the last step."""
        kind = "deliver" if disposition.value in ("delivered", "left") else "end"
        self.recorder.enter(packet.namespace)
        self.recorder.step(kind, packet.namespace, disposition.value, reason)
        return Ending(disposition, reason, packet.namespace, processes)
