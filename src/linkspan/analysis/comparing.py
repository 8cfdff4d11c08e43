"""A prediction beside what was seen of the real packet: what is the same, what differs.

`compare` is what the rest uses. Pure: an Answer and an Observation in, a Comparison out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest

import msgspec

from linkspan.analysis.endings import (
    HANDLE,
    REACHED,
    TOLD,
    Match,
    has_arrived,
    match_end,
    observed_end,
)
from linkspan.analysis.trace import GOOD, Answer, Disposition, Trace
from linkspan.analysis.view import View
from linkspan.analysis.visits import Visit, goes_in_circles, predict_visits, see_visits
from linkspan.dataplane.sightings import ANSWER, LATER, THERE, Headers, Observation, Ruling

_A_RANGE = "a translation"
"""How a walk notes that a translation takes one of many addresses or ports."""
_PASSING = frozenset(("continue", "return"))


class Aspect(msgspec.Struct, frozen=True):
    """One statement about a hop: `kind` is way, headers, rules or end."""

    kind: str
    predicted: str
    observed: str
    match: Match


class Row(msgspec.Struct, frozen=True):
    """A hop, predicted and observed; one of them may be missing."""

    part: str
    namespace: str
    predicted: Visit | None
    observed: Visit | None
    aspects: tuple[Aspect, ...]

    @property
    def match(self) -> Match:
        """The worst of its aspects."""
        found = {aspect.match for aspect in self.aspects}
        if Match.DIFFERS in found:
            return Match.DIFFERS
        return Match.SAME if Match.SAME in found else Match.UNSEEN


class Comparison(msgspec.Struct, frozen=True):
    """All hops of the packet, of its answer, and of what follows, beside the best fitting way.

    `way` is the number of that way among the answer's. `arrived` says by what was seen
    whether the flow works: None where that cannot be said.
    """

    way: int
    rows: tuple[Row, ...]
    arrived: bool | None
    remarks: tuple[str, ...] = ()

    @property
    def as_predicted(self) -> bool:
        """Whether nothing that was seen differs from what was predicted."""
        return self.first_difference is None

    @property
    def first_difference(self) -> Row | None:
        """The first hop that differs."""
        return next((row for row in self.rows if row.match is Match.DIFFERS), None)

    @property
    def not_observable(self) -> int:
        """How many statements could not be checked."""
        return sum(a.match is Match.UNSEEN for row in self.rows for a in row.aspects)


def compare(view: View, namespace: str, answer: Answer, seen: Observation) -> Comparison:
    """Lay an answer beside what was seen of the flow that was sent from `namespace`.

    Of several ways the one with the fewest differences counts.
    """
    there = see_visits(view, namespace, seen.sightings, seen.rulings, THERE)
    best: Comparison | None = None
    fewest = 0
    for number, trace in enumerate(answer.traces):
        rows = _compare_legs(view, trace, there, seen)
        differences = sum(a.match is Match.DIFFERS for row in rows for a in row.aspects)
        if best is None or differences < fewest:
            arrived = has_arrived(view, trace, there, seen)
            best = Comparison(number, rows, arrived, _remark(trace, seen))
            fewest = differences
    assert best is not None
    return best


def _compare_legs(
    view: View, trace: Trace, there: tuple[Visit, ...], seen: Observation
) -> tuple[Row, ...]:
    rows = _compare_leg(THERE, trace, there, seen)
    if any(row.match is Match.DIFFERS for row in rows) or trace.disposition not in GOOD:
        return tuple(rows)
    if trace.reply is not None:
        origin = None if trace.disposition is Disposition.LEFT else trace.namespace
        back = see_visits(view, origin, seen.sightings, seen.rulings, ANSWER)
        if _is_silent(back):
            rows.append(_silent_row(trace, trace.reply, seen))
        else:
            rows += _compare_leg(ANSWER, trace.reply, back, seen)
    if trace.follow_up is not None and seen.outcome.kind == "connected":
        first = there[0].namespace if there else trace.namespace
        later = see_visits(view, first, seen.sightings, seen.rulings, LATER)
        rows += _compare_leg(LATER, trace.follow_up, later, seen)
    return tuple(rows)


def _is_silent(visits: Sequence[Visit]) -> bool:
    return not any(v.came_by or v.left_by or v.rules or v.stopped_by for v in visits)


def _silent_row(trace: Trace, reply: Trace, seen: Observation) -> Row:
    """Nothing was seen of an answer from where the packet arrived."""
    kind = seen.outcome.kind
    predicted, observed = "an answer comes back", "nothing was seen of it"
    match = Match.UNSEEN
    if reply.disposition not in GOOD:
        predicted = reply.reason
        if all(visit.left_by is None for visit in predict_visits(reply)):
            match = Match.DIFFERS if kind in REACHED else Match.SAME
    elif kind in REACHED:
        match, observed = Match.SAME, seen.outcome.detail
    elif kind in TOLD:
        # Who says no beyond what was observed says nothing of the prediction.
        local = trace.disposition is Disposition.DELIVERED
        match, observed = Match.DIFFERS if local else Match.UNSEEN, seen.outcome.detail
    elif trace.sent.protocol == "tcp" and trace.disposition is Disposition.DELIVERED:
        match = Match.DIFFERS  # a kernel answers at once; a program may not
    return Row(ANSWER, trace.namespace, None, None, (Aspect("end", predicted, observed, match),))


# Hops -----------------------------------------------------------------------------------


def _compare_leg(part: str, trace: Trace, visits: Sequence[Visit], seen: Observation) -> list[Row]:
    predicted = predict_visits(trace)
    watched = [visit for visit in predicted if visit.namespace in seen.watched]
    rows: list[Row] = []
    circles = trace.disposition is Disposition.LOOP and goes_in_circles(seen.sightings, part)
    if circles:  # the last visit is where it came by again
        watched, visits = watched[: len(visits) - 1], visits[:-1]
    pairs = list(zip_longest(watched, visits))
    for number, (one, other) in enumerate(pairs):
        last = number == len(pairs) - 1 and not circles
        rows.append(_compare_visits(part, trace, one, other, seen, last))
        if rows[-1].match is Match.DIFFERS:
            break  # what comes behind a difference is another way
    if circles:
        aspect = Aspect("end", trace.reason, "goes in circles", Match.SAME)
        rows.append(Row(part, trace.namespace, None, None, (aspect,)))
    if len(watched) < len(predicted):
        rows += [
            Row(part, v.namespace, v, None, (Aspect("way", _way(v), "", Match.UNSEEN),))
            for v in predicted
            if v.namespace not in seen.watched
        ]
    return rows


def _compare_visits(
    part: str, trace: Trace, one: Visit | None, other: Visit | None, seen: Observation, last: bool
) -> Row:
    if one is None:
        assert other is not None
        aspect = Aspect("way", trace.reason, _way(other), Match.DIFFERS)
        return Row(part, other.namespace, None, other, (aspect,))
    if other is None:
        unseen = trace.disposition is Disposition.UNKNOWN
        aspect = Aspect(
            "way", _way(one), "is never seen there", Match.UNSEEN if unseen else Match.DIFFERS
        )
        return Row(part, one.namespace, one, None, (aspect,))
    if one.namespace != other.namespace:
        aspect = Aspect("way", _way(one), f"{other.namespace}: {_way(other)}", Match.DIFFERS)
        return Row(part, one.namespace, one, other, (aspect,))
    aspects = [_compare_ways(trace, one, other, last), *_compare_headers(part, trace, one, other)]
    aspects += _compare_rules(part, one, other, seen)
    if last:
        aspects.append(_compare_ends(part, trace, other, seen))
    return Row(part, one.namespace, one, other, tuple(aspects))


def _compare_ways(trace: Trace, one: Visit, other: Visit, last: bool) -> Aspect:
    same = one.came_by in (None, other.came_by)
    if last and trace.disposition is Disposition.UNKNOWN:
        return Aspect("way", _way(one), _way(other), Match.UNSEEN if same else Match.DIFFERS)
    same = same and (one.left_by == other.left_by or (one.left_by is None and not last))
    return Aspect("way", _way(one), _way(other), Match.SAME if same else Match.DIFFERS)


def _compare_headers(part: str, trace: Trace, one: Visit, other: Visit) -> list[Aspect]:
    found: list[Aspect] = []
    if one.came_by is not None and other.came_by is not None and one.entered != other.entered:
        found.append(_headers(part, trace, one.entered, other.entered))
    if one.left is not None and other.left is not None:
        changed = one.entered != one.left or one.left != other.left
        if changed:
            found.append(_headers(part, trace, one.left, other.left))
    return found


def _headers(part: str, trace: Trace, one: Headers | None, other: Headers | None) -> Aspect:
    match = Match.SAME if one == other else Match.DIFFERS
    if one is not None and other is not None and match is Match.DIFFERS:
        # Which port or identifier a translation takes for the sender's only the kernel knows.
        free = msgspec.structs.replace(other, source_port=one.source_port)
        if one.protocol not in ("tcp", "udp"):
            free = msgspec.structs.replace(free, destination_port=one.destination_port)
        elif part == ANSWER:
            free = msgspec.structs.replace(other, destination_port=one.destination_port)
        open_ended = any(text.startswith(_A_RANGE) for text in trace.not_understood)
        match = Match.UNSEEN if free == one or open_ended else match
    return Aspect("headers", f"as {one}", f"as {other}", match)


def _compare_rules(part: str, one: Visit, other: Visit, seen: Observation) -> list[Aspect]:
    if one.namespace not in seen.traced:
        if not one.rules:
            return []
        return [Aspect("rules", _list(one.rules), "rules are not seen here", Match.UNSEEN)]
    nameable = [rule for rule in one.rules if HANDLE in rule]
    weighty = _deciding(part, one.namespace, seen.rulings)
    missing = [rule for rule in nameable if rule not in other.rules]
    extra = [rule for rule in other.rules if rule in weighty and rule not in one.rules]
    if missing or extra:
        texts = _list(missing) or "no more", _list(extra) or "without these"
        return [Aspect("rules", *texts, Match.DIFFERS)]
    if not one.rules:
        return []
    if not nameable:
        return [Aspect("rules", _list(one.rules), _list(other.rules), Match.UNSEEN)]
    held = [rule for rule in other.rules if rule in nameable]
    return [Aspect("rules", _list(nameable), _list(held), Match.SAME)]


def _deciding(part: str, namespace: str, rulings: Iterable[Ruling]) -> set[str]:
    """Rules that did more than count or log."""
    return {
        one.object
        for one in rulings
        if (one.part, one.namespace) == (part, namespace) and one.verdict not in _PASSING
    }


def _list(rules: Sequence[str]) -> str:
    return ", ".join(rules)


def _compare_ends(part: str, trace: Trace, other: Visit, seen: Observation) -> Aspect:
    observed = observed_end(part, other, seen)
    return Aspect("end", trace.reason, observed, match_end(part, trace, other, seen))


def _way(visit: Visit) -> str:
    came = f"in by {visit.came_by}" if visit.came_by else ""
    left = f"out by {visit.left_by}" if visit.left_by else ""
    return ", ".join(part for part in (came, left) if part) or "no link crossed"


def _remark(trace: Trace, seen: Observation) -> tuple[str, ...]:
    found: list[str] = []
    if trace.onward is not None:
        found.append(f"the connection that the relay opens, {trace.onward.flow}, is not followed")
    if trace.not_understood:
        found += [f"not understood: {one}" for one in trace.not_understood]
    for one in seen.tracked:
        turned = (one.reply.destination, one.reply.source)
        if turned != (one.original.source, one.original.destination) or (
            one.reply.source_port != one.original.destination_port
        ):
            found.append(
                f"connection tracking of {one.namespace}: {one.original}; answers {one.reply}"
            )
    return tuple(found)
