"""Which containers are interchangeable, and what tells them apart."""

from __future__ import annotations

import random

import pytest

from linkspan.analysis import View
from linkspan.analysis.symmetry import find_kinds
from linkspan.dataplane import (
    Address,
    BridgePort,
    Chain,
    DataPlane,
    Element,
    FdbEntry,
    FirewallRule,
    Link,
    Listener,
    Neighbour,
    Object,
    PacketSocket,
    Route,
    SetDefinition,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.programs import Program
from linkspan.dataplane.rules import (
    Concat,
    Counter,
    Masked,
    Match,
    Meta,
    Named,
    Nat,
    Payload,
    Range,
    SetOf,
    Verdict,
)
from walks.crowds import STYLES, make_crowd
from walks.hosts import container, host, view

SADDR, DADDR, DPORT = Payload("ip", "saddr"), Payload("ip", "daddr"), Payload("tcp", "dport")
FIRST, SECOND, THIRD = "10.0.0.2", "10.0.0.3", "10.0.0.4"
TRUE_MAC, GATEWAY_MAC = "02:00:00:00:00:01", "02:00:00:02:00:01"


def kinds(*objects: Object, containers: int = 4) -> list[set[str]]:
    return [set(one.members) for one in find_kinds(view(*objects, containers=containers)).kinds]


def forward(*rules: FirewallRule) -> Table:
    chain = Chain(name="f", hook="forward", rules=rules)
    return Table(family="ip", name="t", chains=(chain,))


def rule(*statements: object) -> FirewallRule:
    return FirewallRule(tuple(statements))  # type: ignore[arg-type]


def drop(*matches: Match) -> FirewallRule:
    return rule(*matches, Counter(), Verdict("drop"))


ALL = [{"c1", "c2", "c3", "c4"}]
ONE_APART = [{"c1"}, {"c2", "c3", "c4"}]
PAIRS = [{"c1", "c2"}, {"c3", "c4"}]
EACH = [{"c1"}, {"c2"}, {"c3"}, {"c4"}]


def set_table(*elements: Element, interval: bool = False) -> list[Object]:
    definition = SetDefinition(name="s", key=("ipv4_addr",), interval=interval)
    used = Chain(name="f", hook="forward", rules=(drop(Match(SADDR, Named("s"))),))
    return [Table(family="ip", name="t", chains=(used,), sets=(definition,)), *elements]


def in_set(first: str, last: str | None = None) -> Element:
    return Element(
        family="ip", table="t", set="s", first=(first,), last=None if last is None else (last,)
    )


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        ([], ALL),
        ([Sysctl(namespace="c1", path="ipv4/conf/eth0/rp_filter", value="1")], ONE_APART),
        ([Sysctl(path="ipv4/conf/p1/proxy_arp", value="1")], ONE_APART),
        ([Listener(namespace="c1", protocol="tcp", address="0.0.0.0", port=81)], ONE_APART),
        ([Listener(namespace="c1", protocol="tcp", address=FIRST, port=81),
          Listener(namespace="c2", protocol="tcp", address=SECOND, port=81)], PAIRS),
        ([Route(namespace="c1", destination="10.9.0.0/24", gateway="10.0.0.1")], ONE_APART),
        ([Route(namespace="c1", destination="10.9.0.0/24", gateway=SECOND)],
         [{"c1"}, {"c2"}, {"c3", "c4"}]),
        ([Address(namespace="c1", link="eth0", address=f"{SECOND}/16")],
         [{"c1"}, {"c2"}, {"c3", "c4"}]),
        ([forward(drop(Match(SADDR, FIRST)))], ONE_APART),
        ([forward(drop(Match(SADDR, "10.0.0.2/31")))], PAIRS),
        ([forward(drop(Match(SADDR, Range(FIRST, SECOND))))], PAIRS),
        ([forward(drop(Match(SADDR, THIRD, "<")))], [{"c1", "c2"}, {"c3"}, {"c4"}]),
        ([forward(drop(Match(SADDR, SetOf((FIRST, SECOND)))))], PAIRS),
        ([forward(drop(Match(Masked(SADDR, 1), 0)))], [{"c1", "c3"}, {"c2", "c4"}]),
        ([forward(drop(Match(Meta("iifname"), "p1")))], ONE_APART),
        ([forward(drop(Match(SADDR, FIRST), Match(DADDR, SECOND)))],
         [{"c1"}, {"c2"}, {"c3", "c4"}]),
        # Mirrored rules that decide the same, whatever their order.
        ([forward(*(drop(Match(SADDR, one)) for one in (SECOND, FIRST)))], PAIRS),
        # Behind another rule a rule may find nothing left to do.
        ([forward(drop(Match(SADDR, FIRST)), rule(Match(DPORT, 80), Verdict("accept")),
                  drop(Match(SADDR, SECOND)))], [{"c1"}, {"c2"}, {"c3", "c4"}]),
        # One of these may shadow the other: a packet from c1 to c2 meets both.
        ([forward(rule(Match(SADDR, FIRST), Verdict("accept")),
                  rule(Match(DADDR, FIRST), Verdict("drop")),
                  rule(Match(SADDR, SECOND), Verdict("accept")),
                  rule(Match(DADDR, SECOND), Verdict("drop")))], [{"c1"}, {"c2"}, {"c3", "c4"}]),
        (set_table(in_set(FIRST), in_set(SECOND)), PAIRS),
        (set_table(in_set(FIRST, SECOND), interval=True), PAIRS),
        ([Table(namespace="c1", family="ip", name="own")], ONE_APART),
        ([Program(link="p1", hook="ingress", kind="tc", name="x", id=4),
          Program(link="p2", hook="ingress", kind="tc", name="x", id=5)], PAIRS),
        ([PacketSocket(namespace="c1", protocol=3)], ALL),
        # What was learned and is true changes nothing; what is wrong or fixed may.
        ([Neighbour(link="br0", address=FIRST, mac=TRUE_MAC, state="reachable"),
          Neighbour(namespace="c2", link="eth0", address="10.0.0.1", mac=GATEWAY_MAC,
                    state="stale"),
          Neighbour(namespace="c3", link="eth0", address="10.0.77.1", mac=TRUE_MAC,
                    state="stale"),
          FdbEntry(link="p1", mac=TRUE_MAC), FdbEntry(link="p2", mac=TRUE_MAC),
          FdbEntry(link="p1", mac="02:00:00:01:00:01", permanent=True)], ALL),
        ([Neighbour(link="br0", address=FIRST, mac=GATEWAY_MAC, state="reachable")], ONE_APART),
        ([Neighbour(link="br0", address=FIRST, mac=GATEWAY_MAC, state="stale")], ALL),
        ([Neighbour(link="br0", address=FIRST, mac=GATEWAY_MAC, state="permanent")], ONE_APART),
        # Nobody is like somebody who answers for others, or has another's MAC.
        ([Sysctl(namespace="c1", path="ipv4/conf/all/proxy_arp", value="1")], ONE_APART),
        ([Link(namespace="c1", name="eth0", up=True, master="", mac="02:00:00:00:00:02",
               kind=Veth(peer_name="p1", peer_namespace="host"))], [{"c1"}, {"c2"}, {"c3", "c4"}]),
        # A translation that computes addresses: nobody is like anybody.
        ([Table(family="ip", name="n", chains=(Chain(
            name="n", hook="prerouting", type="nat", priority=-100,
            rules=(rule(Nat("dnat", "ip", address="10.0.0.0/16", flags=("prefix",))),)),))], EACH),
    ],
)  # fmt: skip
def test_what_tells_containers_apart(objects: list[Object], expected: list[set[str]]):
    assert sorted(map(sorted, kinds(*objects))) == sorted(map(sorted, expected))


def test_ports_of_a_bridge_tell_containers_apart():
    made = view(containers=3, p1=BridgePort(isolated=True))
    assert [set(one.members) for one in find_kinds(made).kinds] == [{"c1"}, {"c2", "c3"}]


def published(*ports: tuple[int, str]) -> list[Object]:
    """Ports of the host that a map leads to containers."""
    key, data = ("inet_proto", "inet_service"), ("ipv4_addr", "inet_service")
    lead = rule(
        Nat("dnat", "ip", lookup=_lookup()),
    )
    chain = Chain(name="p", hook="prerouting", type="nat", priority=-100, rules=(lead,))
    definition = SetDefinition(name="m", key=key, data=data)
    return [
        Table(family="ip", name="p", chains=(chain,), sets=(definition,)),
        *(
            Element(family="ip", table="p", set="m", first=("tcp", port), data=(address, 80))
            for port, address in ports
        ),
    ]


def _lookup() -> object:
    from linkspan.dataplane.rules import Lookup

    return Lookup(Concat((Meta("l4proto"), Payload("th", "dport"))), "m")


def test_published_ports_are_a_containers_own_as_its_address_is():
    found = find_kinds(view(*published((9001, FIRST), (9002, SECOND)), containers=4))
    assert [set(one.members) for one in found.kinds] == PAIRS
    assert (found.published["c1"], found.published["c2"]) == ((9001,), (9002,))


def test_a_port_that_means_something_to_others_is_no_containers_own():
    listener = Listener(namespace="c4", protocol="tcp", address="0.0.0.0", port=9001)
    made = view(*published((9001, FIRST), (9002, SECOND)), listener, containers=4)
    assert [set(one.members) for one in find_kinds(made).kinds] == [{"c1"}, {"c2"}, {"c3"}, {"c4"}]
    apart = forward(rule(Match(DPORT, Range(9002, 9010)), Verdict("drop")))
    made = view(*published((9001, FIRST), (9002, SECOND)), apart, containers=4)
    assert [set(one.members) for one in find_kinds(made).kinds] == [{"c1"}, {"c2"}, {"c3", "c4"}]


@pytest.mark.parametrize("style", STYLES)
def test_the_order_of_a_plane_does_not_matter(style: str):
    crowd = make_crowd(random.Random(7), style, bridges=2, size=5, odd=False)
    objects = list(crowd.objects.values())
    expected = {one.members for one in find_kinds(View(DataPlane(objects))).kinds}
    assert sorted(map(len, expected)) == [5, 5]
    # Addresses keep their order: the kernel prefers the first of a link.
    addresses = [one for one in objects if isinstance(one, Address)]
    others = [one for one in objects if not isinstance(one, Address)]
    random.Random(8).shuffle(others)
    objects = [*others, *addresses]
    found = {tuple(sorted(one.members)) for one in find_kinds(View(DataPlane(objects))).kinds}
    assert {tuple(sorted(members)) for members in expected} == found


def test_a_thousand_containers_are_one_kind():
    made = View(DataPlane([*host(1000)]), sockets_known=True)
    assert [len(one.members) for one in find_kinds(made).kinds] == [1000]


def test_only_those_asked_for_are_compared():
    made = View(DataPlane([*host(2), *container(3)]), sockets_known=True)
    assert [one.members for one in find_kinds(made, ["c1", "c3"]).kinds] == [("c1", "c3")]
