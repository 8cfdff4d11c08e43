"""Classes of packets: every packet of a class goes the way of the one that was walked."""

from __future__ import annotations

import random

import pytest

from linkspan.analysis import Answer, Flow, View, trace_flow
from linkspan.analysis.addresses import to_number, to_text
from linkspan.analysis.flow import PROTOCOL_NAMES
from linkspan.analysis.headers import ALL_ADDRESSES, FIELDS, Headers, intersect
from linkspan.analysis.intervals import Intervals, interval, to_points
from linkspan.analysis.regions import Explored, explore_headers
from linkspan.dataplane import Address, DataPlane
from walks.crowds import make_crowd
from walks.hosts import container_address, view
from walks.worlds import WIDE, make_world

LIKELY_PORTS = [22, 53, 80, 81, 8080, 8081, 20001]
UPLINK_MAC = "02:00:09:00:00:01"


def outcome(answer: Answer) -> object:
    """All of an answer that is the same for the packets of a class."""
    return (
        answer.verdict, answer.complete,
        [[(leg.disposition, leg.namespace, leg.processes) for leg in trace.legs]
         for trace in answer.traces],
    )  # fmt: skip


def size(box: Headers) -> int:
    sides = [getattr(box, name) for name in FIELDS]
    found = 1
    for side in sides:
        found *= 1 if side is None else side.count
    return found


def any_of(rng: random.Random, values: Intervals, likely: list[int]) -> int:
    """A value: one that means something to somebody, an end of a range, or any."""
    known = [number for number in likely if number in values]
    if known and rng.random() < 0.5:
        return rng.choice(known)
    first, last = rng.choice(list(values))
    return rng.choice((first, last, rng.randint(first, last)))


class Asking:
    """A question to a view, and what concrete packets say to it."""

    def __init__(self, rng: random.Random, view: View, addresses: list[str], version: int) -> None:
        self.rng = rng
        self.view = view
        self.version = version
        self.likely = [to_number(one) for one in addresses if (":" in one) == (version == 6)]
        self.members = 0

    def check(
        self, namespace: str, link: str | None, source: Intervals | None, protocol: int,
        towards: str | None = None, most: int = 150,
    ) -> None:  # fmt: skip
        box = Headers(
            version=self.version, protocol=protocol, source=source,
            destination=ALL_ADDRESSES[self.version],
        )  # fmt: skip
        preferred = {
            "destination": self.rng.choice(self.likely), "source": self.rng.choice(self.likely),
            "destination_port": self.rng.choice(LIKELY_PORTS),
        }  # fmt: skip
        found = explore_headers(
            self.view, namespace, box, link=link, towards=towards, preferred=preferred, most=most
        )
        self.is_disjoint_and_whole(box, found)
        for headers, answer in self.rng.sample(found.classes, min(len(found.classes), 120)):
            for _ in range(2):
                flow = self.member(headers, protocol, link)
                got = trace_flow(self.view, namespace, flow, towards=towards)
                assert outcome(got) == outcome(answer), (flow, answer.flow, str(headers))
                self.members += 1

    def is_disjoint_and_whole(self, box: Headers, found: Explored) -> None:
        parts = [one.headers for one in found.classes] + found.rest
        assert sum(map(size, parts)) == size(box)
        for _ in range(200):
            one, other = self.rng.choice(parts), self.rng.choice(parts)
            assert one is other or intersect(one, other) is None

    def member(self, box: Headers, protocol: int, link: str | None) -> Flow:
        rng, likely = self.rng, self.likely
        source = None if box.source is None else any_of(rng, box.source, likely)
        return Flow(
            source=None if source is None else to_text(source, box.version),
            source_port=any_of(rng, box.source_port, LIKELY_PORTS),
            destination=to_text(any_of(rng, box.destination, likely), box.version),
            destination_port=any_of(rng, box.destination_port, LIKELY_PORTS),
            protocol=PROTOCOL_NAMES[protocol],
            link=link,
        )


@pytest.mark.parametrize("part", range(10))
def test_random_worlds(part: int):
    for seed in (*range(part * 2, part * 2 + 2), *range(WIDE + part * 2, WIDE + part * 2 + 2)):
        rng = random.Random(seed)
        world = make_world(seed)
        plane = DataPlane([*world.objects(), *world.listeners])
        topology = world.topology
        seen = View(plane, sockets_known=True)
        asking = Asking(rng, seen, topology.everything(), topology.version)
        namespace = rng.choice(topology.namespaces)
        links = [name for name in seen.place(namespace).links if name != "lo"]
        if links:
            asking.check(namespace, rng.choice(links), ALL_ADDRESSES[topology.version], 6)
        asking.check(namespace, None, None, rng.choice((6, 17)))
        assert asking.members > 10, f"seed {seed}"


@pytest.mark.parametrize("style", ["none", "linkspan", "docker", "cni"])
def test_hosts_with_containers(style: str):
    for seed in range(3):
        rng = random.Random(seed)
        crowd = make_crowd(rng, style)
        objects = list(crowd.objects.values())
        own = [one.address.partition("/")[0] for one in objects if isinstance(one, Address)]
        seen = View(DataPlane(objects), sockets_known=True)
        version = rng.choice((4, 4, 6))
        asking = Asking(rng, seen, own, version)
        towards = rng.choice((None, UPLINK_MAC))
        asking.check("host", "up0", ALL_ADDRESSES[version], rng.choice((6, 17)), towards)
        asking.check("c1", None, None, 6)


def test_a_plain_host_is_a_handful_of_classes():
    box = Headers(
        version=4, protocol=6, destination=to_points([to_number(container_address(2))])
    )  # fmt: skip
    found = explore_headers(view(), "c1", box)
    assert found.complete
    assert sorted((list(one.headers.destination_port), one.answer.verdict.value)
                  for one in found.classes) == [
        ([(0, 79), (81, 65535)], "not-delivered"), ([(80, 80)], "delivered"),
    ]  # fmt: skip


def test_what_was_not_looked_at_is_said():
    box = Headers(
        version=4, protocol=6, source=ALL_ADDRESSES[4], destination=ALL_ADDRESSES[4],
        source_port=interval(50000, 50000),
    )  # fmt: skip
    found = explore_headers(view(), "host", box, link="eth0", most=3)
    assert not found.complete
    assert sum(size(one.headers) for one in found.classes) < size(box)
    assert sum(map(size, found.rest)) == size(box) - sum(size(c.headers) for c in found.classes)
