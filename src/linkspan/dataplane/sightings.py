"""What was seen of one real flow on its way: frames on links, rules that held, its end.

Plain facts, whoever saw them; what they mean beside a prediction is said elsewhere.
"""

from __future__ import annotations

import msgspec

THERE, ANSWER, LATER, ERROR = "there", "answer", "later", "error"
"""Parts of a flow: its first packet, what comes back, the packet after that (a TCP sender's
ACK), and an ICMP error about it."""


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses and ports of a packet. Of an ICMP echo both ports are its identifier.

    `protocol` is tcp, udp, icmp, ipv6-icmp or a number as text.
    """

    source: str
    destination: str
    protocol: str
    source_port: int = 0
    destination_port: int = 0

    def __str__(self) -> str:
        if self.protocol not in ("tcp", "udp"):
            return f"{self.source} -> {self.destination}"
        return (
            f"{_join(self.source, self.source_port)} -> "
            f"{_join(self.destination, self.destination_port)}"
        )


def _join(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A frame on a link. `at` is in seconds since 1970; `note` tells of resets and errors.

    A `stray` frame is for another MAC than the link's: usual at a bridge's port, elsewhere one
    that a bridge sent to all.
    """

    namespace: str
    link: str
    outgoing: bool
    part: str
    headers: Headers
    at: float
    stray: bool = False
    note: str = ""


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """A rule that held, or a chain's policy, as the kernel told it.

    `verdict` is accept, drop, continue, jump CHAIN, goto CHAIN, return, queue or stolen;
    `kind` rule, policy or return. `handle` is None for a policy.
    """

    namespace: str
    part: str
    family: str
    table: str
    chain: str
    handle: int | None
    kind: str
    verdict: str
    in_link: str | None = None
    out_link: str | None = None
    headers: Headers | None = None
    at: float = 0.0
    """When it was heard of, shortly behind its happening."""

    @property
    def chain_object(self) -> str:
        """The chain as explanations name it."""
        return f"{self.family} {self.table} {self.chain}"

    @property
    def object(self) -> str:
        """The rule, or the chain of a policy, as explanations name it."""
        if self.handle is None:
            return self.chain_object
        return f"{self.chain_object} handle {self.handle}"


class Tracked(msgspec.Struct, frozen=True, kw_only=True):
    """What connection tracking held of the flow in a namespace."""

    namespace: str
    original: Headers
    reply: Headers
    status: tuple[str, ...] = ()


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How the attempt ended for its sender.

    `kind` is connected, answered, refused (a reset, or for a datagram the error of a closed
    port), icmp-error, not-sent (the sender's own kernel refuses) or no-answer. `by` is the
    address of who told, where somebody did.
    """

    kind: str
    detail: str
    by: str | None = None


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """All that was seen of one flow.

    In `watched` namespaces frames were looked at, in `traced` ones also rules. `unseen` says
    in sentences what could not be looked at; `left_over` what could not be removed again.
    """

    sent: Headers
    outcome: Outcome
    sightings: tuple[Sighting, ...] = ()
    rulings: tuple[Ruling, ...] = ()
    tracked: tuple[Tracked, ...] = ()
    watched: tuple[str, ...] = ()
    traced: tuple[str, ...] = ()
    unseen: tuple[str, ...] = ()
    left_over: tuple[str, ...] = ()
