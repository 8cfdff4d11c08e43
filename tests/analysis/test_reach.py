"""The matrix says of every pair what walking that very pair says."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from linkspan.analysis import Verdict, View, stranger_at, trace_flow
from linkspan.analysis.reach import HOST, Reach, Reached, find_reach
from linkspan.dataplane import Address, DataPlane, Link, Listener, Namespace, Physical
from walks.crowds import STYLES, Crowd, make_crowd
from walks.hosts import view as host_view

MEANING = {
    Verdict.DELIVERED: Reached.REACHABLE,
    Verdict.NOT_DELIVERED: Reached.BLOCKED,
    Verdict.CANNOT_SAY: Reached.DEPENDS,
}


def view_of(crowd: Crowd) -> View:
    return View(DataPlane(crowd.objects.values()), sockets_known=True)


def check(view: View, reach: Reach) -> int:
    """Walk every row, each port by itself, on a view of its own; how many were compared."""
    fresh = View(view.plane, sockets_known=True)
    done = 0
    for row in reach.rows():
        namespace, flow, to_stranger = reach.flow(row)
        stranger = None
        if to_stranger:
            assert reach.uplink is not None
            stranger = stranger_at(HOST, reach.uplink, row.address)
        for first, last in row.ports:
            for port in {first, last}:
                asked = type(flow)(
                    source=flow.source, link=flow.link, destination=flow.destination,
                    destination_port=port, protocol=flow.protocol,
                )  # fmt: skip
                answer = trace_flow(fresh, namespace, asked, stranger)
                expected = MEANING[answer.verdict]
                if expected is Reached.REACHABLE and any(map(fresh.left_behind, answer.traces)):
                    expected = Reached.DEPENDS
                assert expected is row.verdict, (
                    row, asked, [(t.disposition, t.reason, t.assumed) for t in answer.traces],
                )  # fmt: skip
                if row.verdict is Reached.BLOCKED:
                    dispositions = {leg.disposition for t in answer.traces for leg in t.legs} | {
                        leg.disposition
                        for t in answer.traces if t.onward is not None
                        for one in t.onward.traces for leg in one.legs
                    }  # fmt: skip
                    assert row.finding.disposition in dispositions
                done += 1
    return done


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("seed", range(6))
def test_every_pair_of_a_random_host(style: str, seed: int):
    crowd = make_crowd(random.Random(f"{style}{seed}"), style)
    view = view_of(crowd)
    reach = find_reach(view)
    assert check(view, reach) > 50


@pytest.mark.parametrize("style", STYLES)
def test_containers_that_are_alike_are_of_one_kind(style: str):
    crowd = make_crowd(random.Random(style), style, bridges=3, size=8, odd=False)
    view = view_of(crowd)
    reach = find_reach(view, across=False)
    sizes = Counter(len(group.members) for group in reach.origins)
    assert sizes == {8: 3, 1: 3}
    check(view, reach)


def test_whether_a_packet_that_left_comes_back_in_is_not_claimed():
    apart = [
        Namespace(namespace="apart"),
        Address(namespace="apart", link="eth0", address="10.9.0.2/24"),
        Link(namespace="apart", name="eth0", kind=Physical(), up=True, mac="02:00:00:09:00:02"),
        Listener(namespace="apart", protocol="tcp", address="0.0.0.0", port=80),
    ]
    reach = find_reach(host_view(*apart))
    assert reach.verdict("host", "apart", "tcp", 80) is Reached.DEPENDS
    (row,) = [r for r in reach.rows("host", "apart") if r.protocol == "tcp"]
    assert "beyond was not observed" in row.finding.why
