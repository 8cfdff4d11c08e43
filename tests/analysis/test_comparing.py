"""A prediction beside made-up sightings: what is the same, and what is called a difference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from linkspan.analysis import Answer, Flow, View, trace_flow
from linkspan.analysis.comparing import Comparison, compare
from linkspan.analysis.endings import Match
from linkspan.analysis.visits import predict_visits
from linkspan.dataplane import Route, Sysctl, Table
from linkspan.dataplane.rules import Chain, FirewallRule, Nat, Payload, Verdict
from linkspan.dataplane.rules import Match as Comparing
from linkspan.dataplane.sightings import (
    ANSWER,
    LATER,
    THERE,
    Headers,
    Observation,
    Outcome,
    Ruling,
    Sighting,
)
from walks.hosts import GATEWAY, view

SERVER = "10.0.0.3"
NAMES = ("host", "c1", "c2")


def ask(made: View, port: int = 80, protocol: str = "tcp", target: str = SERVER) -> Answer:
    return trace_flow(
        made, "c1", Flow(destination=target, destination_port=port, protocol=protocol)
    )


def frames(answer: Answer, part: str, trace: Any, start: float) -> list[Sighting]:
    """The frames that would be seen if all went as a walk says."""
    found = []
    for visit in predict_visits(trace):
        for link, outgoing, headers in (
            (visit.came_by, False, visit.entered), (visit.left_by, True, visit.left),
        ):  # fmt: skip
            if link is not None:
                assert isinstance(headers, Headers)
                found.append(
                    Sighting(namespace=visit.namespace, link=link, outgoing=outgoing, part=part,
                             headers=headers, at=start + len(found) / 1e6)
                )  # fmt: skip
    return found


def seen_as_said(answer: Answer, outcome: str = "connected", rulings: Sequence[Ruling] = ()):
    trace = answer.first
    sightings = frames(answer, THERE, trace, 1.0)
    if trace.reply is not None:
        sightings += frames(answer, ANSWER, trace.reply, 2.0)
    if trace.follow_up is not None:
        sightings += frames(answer, LATER, trace.follow_up, 3.0)
    return Observation(
        sent=sightings[0].headers, outcome=Outcome(kind=outcome, detail=outcome),
        sightings=tuple(sightings), rulings=tuple(rulings), watched=NAMES, traced=NAMES,
    )  # fmt: skip


def kinds(found: Comparison) -> list[str]:
    assert found.first_difference is not None
    return [a.kind for a in found.first_difference.aspects if a.match is Match.DIFFERS]


def ruling(handle: int | None, verdict: str, part: str = THERE, chain: str = "forward") -> Ruling:
    return Ruling(
        namespace="host", part=part, family="bridge", table="t", chain=chain, handle=handle,
        kind="policy" if handle is None else "rule", verdict=verdict, in_link="p1",
    )  # fmt: skip


def with_rule(verdict: str, port: int = 80, hook: str = "forward", **more: Any) -> View:
    test = Comparing(Payload("tcp", "dport"), port)
    rule = FirewallRule((test, more.get("statement", Verdict(verdict))), handle=7)
    kind, priority = more.get("type", "filter"), more.get("priority", -200)
    chain = Chain(name=hook, hook=hook, type=kind, priority=priority, rules=(rule,))
    family = more.get("family", "bridge")
    return view(Table(family=family, name="t", chains=(chain,)))


def test_what_goes_as_it_was_said_is_the_same():
    made = view()
    answer = ask(made)
    found = compare(made, "c1", answer, seen_as_said(answer))
    assert found.as_predicted
    assert found.arrived is True
    assert found.not_observable == 0
    assert [row.part for row in found.rows] == [THERE] * 3 + [ANSWER] * 3 + [LATER] * 3
    assert {row.match for row in found.rows} == {Match.SAME}


@pytest.mark.parametrize("cut", range(1, 4))
def test_a_packet_that_gets_less_far_differs_where_it_stays_away(cut: int):
    made = view()
    answer = ask(made)
    whole = seen_as_said(answer)
    seen = msgspec.structs.replace(
        whole, sightings=whole.sightings[:cut], outcome=Outcome(kind="no-answer", detail="")
    )
    found = compare(made, "c1", answer, seen)
    assert found.arrived is False
    assert kinds(found) == ["way"]
    assert found.first_difference is not None
    assert found.first_difference.namespace == ("host", "host", "c2")[cut - 1]


def test_another_address_behind_a_translation_differs():
    made = view()
    answer = ask(made)
    whole = seen_as_said(answer)
    turned = [
        msgspec.structs.replace(
            one, headers=msgspec.structs.replace(one.headers, source="192.0.2.10")
        )
        if (one.part, one.namespace, one.outgoing) == (THERE, "host", True) else one
        for one in whole.sightings
    ]  # fmt: skip
    found = compare(made, "c1", answer, msgspec.structs.replace(whole, sightings=tuple(turned)))
    assert kinds(found) == ["headers"]


def test_the_port_that_a_translation_takes_is_nobody_s_prediction():
    statement = Nat("snat", address="192.0.2.10")
    made = with_rule(
        "", family="ip", hook="postrouting", priority=100, statement=statement, type="nat"
    )
    answer = ask(made, target="192.0.2.99")
    assert answer.first.disposition.value == "left"
    whole = seen_as_said(answer)
    *before, out = [one for one in whole.sightings if one.part == THERE]
    assert out.headers.source == "192.0.2.10"
    for changes, match in (
        ({}, Match.SAME), ({"source_port": 1024}, Match.UNSEEN),
        ({"source": "192.0.2.11"}, Match.DIFFERS),
    ):  # fmt: skip
        headers = msgspec.structs.replace(out.headers, **changes)
        seen = msgspec.structs.replace(
            whole, sightings=(*before, msgspec.structs.replace(out, headers=headers))
        )
        row = compare(made, "c1", answer, seen).rows[1]
        assert next(a.match for a in row.aspects if a.kind == "headers") is match


@pytest.mark.parametrize(
    ("stopped_by", "match"),
    [((7,), Match.SAME), ((8,), Match.DIFFERS), ((), Match.DIFFERS)],
    ids=["the rule", "another rule", "no rule"],
)
def test_a_drop_is_the_same_only_by_the_same_rule(stopped_by: tuple[int, ...], match: Match):
    made = with_rule("drop")
    answer = ask(made)
    assert answer.first.disposition.value == "dropped-by-rule"
    rulings = [ruling(handle, "drop") for handle in stopped_by]
    found = compare(made, "c1", answer, seen_as_said(answer, "no-answer", rulings))
    assert found.rows[-1].match is match
    assert found.arrived is False


def test_rules_that_cannot_be_heard_are_not_observable():
    made = with_rule("drop")
    answer = ask(made)
    seen = msgspec.structs.replace(seen_as_said(answer, "no-answer"), traced=("c1", "c2"))
    found = compare(made, "c1", answer, seen)
    assert found.as_predicted
    assert found.not_observable == 1


def test_a_drop_that_was_not_predicted_names_its_rule():
    made = view()
    answer = ask(made)
    whole = seen_as_said(answer, "no-answer", [ruling(9, "drop")])
    seen = msgspec.structs.replace(whole, sightings=whole.sightings[:2])
    first = compare(made, "c1", answer, seen).first_difference
    assert first is not None
    assert first.observed is not None
    assert first.observed.stopped_by == "bridge t forward handle 9"


def test_counting_rules_that_a_walk_passes_by_are_no_difference():
    made = view()
    answer = ask(made)
    found = compare(made, "c1", answer, seen_as_said(answer, rulings=[ruling(3, "continue")]))
    assert found.as_predicted


def test_a_packet_that_is_sent_again_counts_once():
    made = view()
    answer = ask(made, port=81)
    whole = seen_as_said(answer, "refused")
    again = tuple(msgspec.structs.replace(one, at=one.at + 1.1) for one in whole.sightings)
    seen = msgspec.structs.replace(whole, sightings=whole.sightings + again)
    assert compare(made, "c1", answer, seen).as_predicted


def test_a_packet_that_goes_in_circles_is_seen_to_do_so():
    made = view(Route(namespace="c2", destination="0.0.0.0/0", gateway=GATEWAY),
                Sysctl(namespace="c2", path="ipv4/ip_forward", value="1"),
                Route(destination="198.51.100.0/24", gateway=SERVER, link="br0"))  # fmt: skip
    answer = ask(made, target="198.51.100.1")
    assert answer.first.disposition.value == "loop"
    whole = seen_as_said(answer, "icmp-error")
    found = compare(made, "c1", answer, whole)
    assert found.as_predicted, found.first_difference
    once = msgspec.structs.replace(whole, sightings=whole.sightings[:5])
    assert not compare(made, "c1", answer, once).as_predicted


def test_copies_that_a_bridge_sends_to_all_are_no_way():
    made = view(containers=3)
    answer = ask(made)
    whole = seen_as_said(answer)
    out = next(one for one in whole.sightings if one.namespace == "host" and one.outgoing)
    copy = msgspec.structs.replace(out, link="p3", at=out.at - 1e-7)
    stray = msgspec.structs.replace(
        copy, namespace="c3", link="eth0", outgoing=False, stray=True, at=out.at + 1e-7
    )
    sightings = tuple(sorted((*whole.sightings, copy, stray), key=lambda one: one.at))
    seen = msgspec.structs.replace(whole, sightings=sightings, watched=(*NAMES, "c3"))
    found = compare(made, "c1", answer, seen)
    assert found.as_predicted, found.first_difference


def test_silence_after_a_datagram_has_two_meanings():
    made = view()
    answer = ask(made, port=81, protocol="udp")
    assert compare(made, "c1", answer, seen_as_said(answer, "refused")).arrived is False
    lost = msgspec.structs.replace(
        seen_as_said(answer, "no-answer"), sightings=seen_as_said(answer).sightings[:2]
    )
    assert compare(made, "c1", answer, lost).arrived is False


def test_the_way_that_fits_is_chosen():
    made = view()
    answer = ask(made)
    other = ask(with_rule("drop"))
    both = Answer(answer.flow, (*other.traces, *answer.traces))
    found = compare(made, "c1", both, seen_as_said(answer))
    assert (found.way, found.as_predicted) == (1, True)
