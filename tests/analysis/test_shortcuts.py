"""Long chains are looked through by value, with the same outcome as rule by rule."""

from __future__ import annotations

import random

import pytest

from linkspan.analysis import Answer, Flow, View, trace_flow
from linkspan.analysis.flow import EPHEMERAL
from linkspan.analysis.headers import Headers, prefix_intervals
from linkspan.analysis.intervals import interval
from linkspan.analysis.regions import explore_headers
from linkspan.dataplane import Chain, DataPlane, FirewallRule, Object, Table
from linkspan.dataplane.rules import Counter, Limit, Match, Meta, Opaque, Payload, Verdict
from walks.crowds import make_crowd
from walks.hosts import host

SEEDS = range(4)


def rules(rng: random.Random) -> list[FirewallRule]:
    """Runs of rules that test one field, with others in between."""
    made = []
    for _ in range(rng.randint(30, 60)):
        tests: list[object] = []
        if rng.random() < 0.2:
            tests.append(Opaque("xt match", test=True))
        if rng.random() < 0.2:
            tests.append(Limit("10/second"))
        if rng.random() < 0.3:
            tests.append(Match(Meta("iifname"), rng.choice(("br0", "eth0", "p1", "p*"))))
        if rng.random() < 0.9:
            tests.append(Match(Payload("ip", "saddr"), f"10.0.0.{rng.randint(2, 6)}"))
        if rng.random() < 0.6:
            tests.append(Match(Payload("tcp", "dport"), rng.randint(79, 83)))
        verdict = rng.choice((Verdict("accept"), Verdict("drop"), Counter(), Verdict("return")))
        made.append(FirewallRule((*tests, verdict)))  # type: ignore[arg-type]
    return made


def made_up(seed: int) -> list[Object]:
    rng = random.Random(seed)
    chains = (
        Chain(name="f", hook="forward", priority=0, rules=tuple(rules(rng))),
        Chain(name="p", hook="prerouting", priority=-10, rules=tuple(rules(rng))),
    )
    return [*host(4), Table(family="ip", name="t", chains=chains)]


def ends(answer: Answer) -> list[object]:
    return [
        (leg.disposition, leg.reason, leg.assumed, leg.not_understood,
         [step for hop in leg.hops for step in hop.steps])
        for trace in answer.traces for leg in trace.legs
    ]  # fmt: skip


def one_by_one(objects: list[Object], monkeypatch: pytest.MonkeyPatch, flows: list[object]):
    with monkeypatch.context() as patched:
        patched.setattr("linkspan.analysis.ruleset.LEAST", 1 << 30)
        slow = View(DataPlane(objects), sockets_known=True)
        return [ends(trace_flow(slow, *flow)) for flow in flows]  # type: ignore[misc]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_steps_as_rule_by_rule(seed: int, monkeypatch: pytest.MonkeyPatch):
    objects = made_up(seed)
    flows: list[object] = [
        (f"c{one}", Flow(destination=target, destination_port=port))
        for one in range(1, 5) for target in ("192.0.2.77", "10.0.0.1", "10.0.0.3")
        for port in range(79, 84)
    ]  # fmt: skip
    expected = one_by_one(objects, monkeypatch, flows)
    fast = View(DataPlane(objects), sockets_known=True)
    assert [ends(trace_flow(fast, *flow)) for flow in flows] == expected  # type: ignore[misc]
    assert len({str(one) for one in expected}) > 10


def test_the_same_on_a_host_like_dockers(monkeypatch: pytest.MonkeyPatch):
    objects = list(
        make_crowd(random.Random(1), "docker", bridges=2, size=12, odd=False).objects.values()
    )
    flows: list[object] = [
        ("host", Flow(source="192.0.2.99", link="up0", destination="192.0.2.10",
                      destination_port=port))
        for port in range(19999, 20026)
    ]  # fmt: skip
    expected = one_by_one(objects, monkeypatch, flows)
    fast = View(DataPlane(objects), sockets_known=True)
    assert [ends(trace_flow(fast, *flow)) for flow in flows] == expected  # type: ignore[misc]


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_are_as_far_as_their_answer_holds(seed: int, monkeypatch: pytest.MonkeyPatch):
    objects = made_up(seed)
    fast = View(DataPlane(objects), sockets_known=True)
    box = Headers(
        version=4, protocol=6, source=prefix_intervals("10.0.0.0/29"),
        source_port=interval(EPHEMERAL, EPHEMERAL), destination=prefix_intervals("192.0.2.64/26"),
        destination_port=interval(75, 90),
    )  # fmt: skip
    explored = explore_headers(fast, "host", box, link="p1")
    assert explored.complete
    assert len(explored.classes) > 3
    rng = random.Random(seed)
    for one in explored.classes:
        first = one.headers
        assert first.source is not None
        flow = Flow(
            source=f"10.0.0.{rng.choice([n for span in first.source for n in span]) & 255}",
            destination=f"192.0.2.{rng.choice([n for s in first.destination for n in s]) & 255}",
            destination_port=rng.choice([n for span in first.destination_port for n in span]),
            link="p1",
        )
        (legs,) = one_by_one(objects, monkeypatch, [("host", flow)])
        assert [leg[0] for leg in legs] == [leg[0] for leg in ends(one.answer)], flow  # type: ignore[index]
