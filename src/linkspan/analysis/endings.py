"""How a packet ended, as was seen: in words, beside what was predicted, and for the flow."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from linkspan.analysis.trace import Disposition, Trace, Verdict
from linkspan.analysis.view import View
from linkspan.analysis.visits import Visit, find_deciding_rule, see_visits
from linkspan.dataplane.sightings import ANSWER, LATER, THERE, Observation

TOLD = frozenset(("refused", "icmp-error", "not-sent"))
"""Ends of an attempt at which somebody said no."""
REACHED = frozenset(("connected", "answered"))
HANDLE = " handle "
"""What the name of a rule has that the kernel can tell of."""
_WORDS_OF_A_CHAIN = 3


class Match(enum.Enum):
    """How a part of the prediction fares beside what was seen."""

    SAME = "same"
    DIFFERS = "differs"
    UNSEEN = "not-observable"


def observed_end(part: str, other: Visit, seen: Observation) -> str:
    """The end of a packet's last visit, in words."""
    if other.stopped_by is not None:
        told = f", {_tell(seen)}" if part == THERE and seen.outcome.kind in TOLD else ""
        return f"stopped by {other.stopped_by}{told}"
    if other.left_by is not None:
        if part == THERE and seen.outcome.kind in (*TOLD, *REACHED):
            return f"leaves by {other.left_by}; {_tell(seen)}"
        return f"leaves by {other.left_by}"
    if part == THERE:
        return f"arrives; {_tell(seen)}" if other.came_by else _tell(seen)
    return "arrives" if other.came_by else "is never seen to leave"


def _tell(seen: Observation) -> str:
    by = f" from {seen.outcome.by}" if seen.outcome.by else ""
    return f"{seen.outcome.detail}{by}"


def match_end(part: str, trace: Trace, other: Visit, seen: Observation) -> Match:
    """Whether a packet's end, seen at its last visit, is the one that a walk says."""
    kind = seen.outcome.kind
    disposition = trace.disposition
    if disposition is Disposition.UNKNOWN:
        return Match.UNSEEN
    if disposition is Disposition.LEFT:
        return Match.SAME if other.left_by is not None else Match.DIFFERS
    if disposition in (Disposition.DROPPED, Disposition.REJECTED):
        return _match_drop(part, trace, other, seen)
    if other.stopped_by is not None:
        return Match.DIFFERS
    if part != THERE:
        return Match.SAME
    if disposition is Disposition.DELIVERED:
        # That a program gets a packet shows only when something comes back.
        return Match.DIFFERS if kind in TOLD and trace.reply is None else _told_early(other, seen)
    if disposition is Disposition.REFUSED:
        return Match.SAME if kind in ("refused", "no-answer") else Match.DIFFERS
    return Match.DIFFERS if kind in REACHED else Match.SAME


def _told_early(other: Visit, seen: Observation) -> Match:
    """A packet that arrived where it should, and was refused there: nobody took it."""
    if seen.outcome.kind in ("refused", "not-sent"):
        return Match.DIFFERS
    if seen.outcome.kind == "icmp-error":
        return Match.DIFFERS if other.came_by is None else Match.UNSEEN
    return Match.SAME


def _match_drop(part: str, trace: Trace, other: Visit, seen: Observation) -> Match:
    rule = find_deciding_rule(trace)
    audible = rule is not None and _can_be_heard(rule)
    if other.stopped_by is not None:
        if audible and other.stopped_by != rule:
            return Match.DIFFERS
    elif other.namespace in seen.traced and audible:
        return Match.DIFFERS  # its rules were heard, and none stopped it
    if part != THERE:
        return Match.SAME
    if seen.outcome.kind in REACHED:
        return Match.DIFFERS
    if trace.disposition is Disposition.DROPPED:
        return Match.SAME if seen.outcome.kind in ("no-answer", "not-sent") else Match.DIFFERS
    # Whether the sender hears of a rejection depends on the way back, and on rate limits.
    return Match.SAME


def _can_be_heard(rule: str) -> bool:
    """Whether the kernel's trace names what stopped the packet: a rule by its handle, or the
    policy of a chain.
    """
    return HANDLE in rule or len(rule.split()) == _WORDS_OF_A_CHAIN


def has_arrived(view: View, trace: Trace, there: Sequence[Visit], seen: Observation) -> bool | None:
    """Whether the flow works, by what was seen; None where that cannot be said."""
    kind = seen.outcome.kind
    if kind == "answered":
        return True
    if kind in TOLD:
        return False
    if kind == "connected":
        if _is_lost(view, there, seen):
            return False
        # The connection that a relay opens then is another one.
        relayed = trace.onward is None or trace.onward.verdict is Verdict.DELIVERED
        return True if relayed else None
    if trace.sent.protocol != "udp" or not there or _is_stopped(THERE, seen):
        return False
    # Not every program answers a datagram; an answer that was seen and got lost is one.
    if _is_stopped(ANSWER, seen) or any(one.part == ANSWER for one in seen.sightings):
        return False
    last = there[-1]
    if trace.disposition is Disposition.LEFT and last.left_by is not None:
        return None
    return trace.good and last.namespace == trace.namespace and last.left_by is None


def _is_lost(view: View, there: Sequence[Visit], seen: Observation) -> bool:
    """Whether what follows the answer does not get as far as the first packet got."""
    if _is_stopped(LATER, seen):
        return True
    later = see_visits(view, None, seen.sightings, seen.rulings, LATER)
    if not later or not there or there[-1].namespace not in seen.watched:
        return False
    return later[-1].namespace != there[-1].namespace


def _is_stopped(part: str, seen: Observation) -> bool:
    return any((one.part, one.verdict) == (part, "drop") for one in seen.rulings)
