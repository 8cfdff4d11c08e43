"""What became of a packet: hops of steps, and how it ended."""

from __future__ import annotations

import enum

import msgspec

from linkspan.analysis.flow import Flow
from linkspan.dataplane.sockets import Process


class Disposition(enum.Enum):
    """How the way of a packet ended."""

    DELIVERED = "delivered"
    LEFT = "left"
    """It left what was observed by a link to the outside."""
    REFUSED = "refused"
    """It arrived where nobody listens."""
    DROPPED = "dropped-by-rule"
    REJECTED = "rejected"
    """A rule dropped it and told the sender."""
    NO_ROUTE = "no-route"
    NOT_FORWARDED = "not-forwarded"
    """It arrived at a host that does not forward."""
    MARTIAN = "martian"
    """The kernel does not take such addresses on that link."""
    REVERSE_PATH = "reverse-path"
    """rp_filter: the way back leads elsewhere."""
    NEIGHBOUR_UNREACHABLE = "neighbour-unreachable"
    ISOLATED = "isolated"
    """Two isolated ports of a bridge."""
    NOT_BRIDGED = "not-bridged"
    """A bridge does not pass it on: hairpin, port state, unknown MAC."""
    WRONG_ADDRESS = "wrong-address"
    """A frame for another MAC, or an answer that belongs to no socket."""
    LINK_DOWN = "link-down"
    SWALLOWED = "swallowed"
    """A dummy link takes it and does nothing."""
    LOOP = "loop"
    UNKNOWN = "unknown"
    """It cannot be said: something that is not understood decides."""


GOOD = frozenset((Disposition.DELIVERED, Disposition.LEFT))


class Step(msgspec.Struct, frozen=True):
    """One thing that happened: `object` names what did it so that a person finds it.

    `line` explains it in a sentence; `minor` steps change nothing and are for who wants all.
    """

    kind: str
    object: str
    detail: str
    line: str
    minor: bool = False


class Rewrite(msgspec.Struct, frozen=True):
    """A translation: the flow before and after, and what did it."""

    by: str
    before: Flow
    after: Flow


class Hop(msgspec.Struct, frozen=True):
    """All that happened in one namespace before the packet went on."""

    namespace: str
    steps: tuple[Step, ...]
    rewrites: tuple[Rewrite, ...] = ()

    @property
    def line(self) -> str:
        """The hop in one sentence."""
        lines = [step.line for step in self.steps if not step.minor and step.line]
        return "; ".join(lines)


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """One way that a packet can take, to its end.

    `sent` and `arrived` are the flow at both ends. `assumed` lists what had to be assumed
    for this way ("depends on"), `not_understood` what was passed over. `reply` is the way of
    the answer where there is one, `follow_up` that of the first packet after it (TCP).
    `onward` is the connection that a local relay then opens.
    """

    disposition: Disposition
    reason: str
    hops: tuple[Hop, ...]
    sent: Flow
    arrived: Flow
    namespace: str
    processes: tuple[Process, ...] = ()
    assumed: tuple[str, ...] = ()
    not_understood: tuple[str, ...] = ()
    reply: Trace | None = None
    follow_up: Trace | None = None
    onward: Answer | None = None

    @property
    def good(self) -> bool:
        """Whether the packet arrives, its answer comes back, and a relay reaches its end."""
        if self.disposition not in GOOD:
            return False
        if any(leg.disposition not in GOOD for leg in self.legs):
            return False
        return self.onward is None or self.onward.verdict is not Verdict.NOT_DELIVERED

    @property
    def legs(self) -> tuple[Trace, ...]:
        """The packet's own way, and those of the packets after it."""
        later = (self.reply, self.follow_up)
        return (self, *(leg for one in later if one is not None for leg in one.legs))

    @property
    def unknown(self) -> bool:
        """Whether one of its packets ends where nothing can be said."""
        if any(leg.disposition is Disposition.UNKNOWN for leg in self.legs):
            return True
        return self.onward is not None and self.onward.verdict is Verdict.CANNOT_SAY


class Verdict(enum.Enum):
    """The answer in a word."""

    DELIVERED = "delivered"
    NOT_DELIVERED = "not-delivered"
    CANNOT_SAY = "cannot-say"


class Confidence(enum.Enum):
    """How sure the answer is."""

    CERTAIN = "certain"
    ASSUMED = "assumed"
    """All ways that were found agree, but something was assumed or not understood."""
    DEPENDS = "depends"
    """The ways that were found do not agree."""


class Answer(msgspec.Struct, frozen=True):
    """All ways that a packet can take. `complete`: there are no more than these."""

    flow: Flow
    traces: tuple[Trace, ...]
    complete: bool = True

    @property
    def verdict(self) -> Verdict:
        """Delivered and answered in every case, in none, or it depends."""
        if not self.complete or any(trace.unknown for trace in self.traces):
            return Verdict.CANNOT_SAY
        good = {trace.good for trace in self.traces}
        if len(good) > 1:
            return Verdict.CANNOT_SAY
        return Verdict.DELIVERED if good == {True} else Verdict.NOT_DELIVERED

    @property
    def confidence(self) -> Confidence:
        """How sure the verdict is."""
        if self.verdict is Verdict.CANNOT_SAY:
            return Confidence.DEPENDS
        legs = [leg for trace in self.traces for leg in trace.legs]
        if any(leg.assumed or leg.not_understood for leg in legs):
            return Confidence.ASSUMED
        return Confidence.CERTAIN

    @property
    def first(self) -> Trace:
        """The way that is shown first: where nothing unusual is assumed."""
        return self.traces[0]
