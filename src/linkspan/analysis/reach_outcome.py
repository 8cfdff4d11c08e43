"""What an answer of the walk means for a cell of the matrix."""

from __future__ import annotations

import enum
from typing import NamedTuple

from linkspan.analysis.trace import GOOD, Answer, Disposition, Trace, Verdict


class Reached(enum.Enum):
    """Whether one gets through to another."""

    REACHABLE = "reachable"
    BLOCKED = "blocked"
    DEPENDS = "depends"
    """On something that a data plane does not say."""


_MEANING = {
    Verdict.DELIVERED: Reached.REACHABLE,
    Verdict.NOT_DELIVERED: Reached.BLOCKED,
    Verdict.CANNOT_SAY: Reached.DEPENDS,
}
_BY_RULE = frozenset((Disposition.DROPPED, Disposition.REJECTED))


class Outcome(NamedTuple):
    """What became of a packet and its answer; the fields of a Finding that do not say who."""

    verdict: Reached
    how: str
    disposition: Disposition
    why: str
    rule: str
    source: str
    lands: str
    depends_on: tuple[str, ...]
    not_understood: tuple[str, ...]


def judge(answer: Answer, from_outside: bool) -> Outcome:
    """The outcome of one flow. `from_outside`: it came in by a link of the host."""
    verdict = _MEANING[answer.verdict]
    first = answer.first
    failed = _failed_leg(answer)
    why = rule = ""
    disposition = first.disposition
    if failed is not None:
        word, leg = failed
        disposition = leg.disposition
        why = leg.reason if not word else f"{word}: {leg.reason}"
        rule = _deciding_rule(leg)
    elif verdict is Reached.DEPENDS:
        why = "too many ways to look at them all"
    legs = [leg for trace in answer.traces for leg in trace.legs]
    assumed: dict[str, None] = {}
    unclear: dict[str, None] = {}
    if verdict is Reached.DEPENDS:
        for leg in legs:
            assumed.update(dict.fromkeys(leg.assumed))
    for leg in legs:
        if leg.disposition is not Disposition.LEFT:  # that nothing is known beyond goes unsaid
            unclear.update(dict.fromkeys(leg.not_understood))
    lands = first.namespace if first.onward is None else first.onward.first.namespace
    return Outcome(
        verdict,
        "" if verdict is Reached.BLOCKED else _how(first, from_outside),
        disposition,
        why,
        rule,
        _seen_source(first),
        lands,
        tuple(assumed),
        tuple(unclear),
    )


def _failed_leg(answer: Answer) -> tuple[str, Trace] | None:
    """The packet that did not arrive, of the first way on which one did not; what it was."""
    for trace in answer.traces:
        if trace.good and not trace.unknown:
            continue
        for word, leg in _named_legs(trace):
            if leg.disposition not in GOOD:
                return word, leg
        if trace.onward is not None:
            found = _failed_leg(trace.onward)
            if found is not None:
                return "what the relay sends on", found[1]
    return None


def _named_legs(trace: Trace) -> list[tuple[str, Trace]]:
    found = [("", trace)]
    if trace.reply is not None:
        found.append(("the answer", trace.reply))
    later = trace.follow_up
    if later is not None:
        found.append(("the packet after the answer", later))
        if later.reply is not None:
            found.append(("the answer after it", later.reply))
    return found


def _deciding_rule(leg: Trace) -> str:
    if leg.disposition not in _BY_RULE:
        return ""
    for hop in reversed(leg.hops):
        for step in reversed(hop.steps):
            if step.kind in ("rule", "policy"):
                return step.object
    return ""


def _how(trace: Trace, from_outside: bool) -> str:
    """bridged, routed, translated, relayed, tunnelled, local or direct."""
    if trace.onward is not None:
        return "relayed"
    if any(hop.rewrites for hop in trace.hops):
        return "translated"
    kinds = {step.kind for hop in trace.hops for step in hop.steps}
    if "tunnel" in kinds:
        return "tunnelled"
    passed = trace.hops if from_outside else trace.hops[1:]
    if any(step.kind == "route" for hop in passed for step in hop.steps):
        return "routed"
    if "bridge" in kinds and len(trace.hops) > 1:
        return "bridged"
    here = {hop.namespace for hop in trace.hops}
    if not from_outside and len(here) == 1 and trace.disposition is Disposition.DELIVERED:
        return "local"
    return "direct"


def _seen_source(trace: Trace) -> str:
    """The source that the target sees: empty when it is the sender's own, always told where
    the packet leaves the host.
    """
    sent, arrived = trace.sent.source, trace.arrived.source or ""
    return "" if arrived == sent and trace.disposition is not Disposition.LEFT else arrived
