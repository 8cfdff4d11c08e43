"""Networks that are alike answer for each other, and only those."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from analysis.test_reach import check, view_of
from linkspan.analysis import View
from linkspan.analysis.reach import Reached, find_reach
from linkspan.analysis.symmetry import find_kinds
from linkspan.dataplane import (
    Address,
    Chain,
    DataPlane,
    FirewallRule,
    Listener,
    Neighbour,
    Object,
    Route,
    Rule,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.objects import Link
from linkspan.dataplane.rules import Match, Meta, Nat, Payload, Range, SetOf, Statement, Verdict
from walks.crowds import GROUPED, STYLES, Crowd, address, mac, make_crowd

SADDR, DADDR = Payload("ip", "saddr"), Payload("ip", "daddr")
IN, OUT = Meta("iifname"), Meta("oifname")
ALIKE = ("none", "linkspan", GROUPED, "cni")
"""Styles whose rules treat networks alike; Docker's old ones depend on the networks' order."""


def table(*rules: tuple[Statement, ...], hook: str = "forward", kind: str = "filter") -> Table:
    chain = Chain(
        name="c", hook=hook, type=kind, priority=-10, rules=tuple(map(FirewallRule, rules))
    )
    return Table(family="ip", name=f"odd-{hook}", chains=(chain,))


def odd_networks(crowd: Crowd) -> list[list[Object]]:
    """What may hold for some networks of a crowd and not for others."""
    first, last = crowd.members[0], crowd.members[-1]
    own, other = address(first, 0), address(last, last.bridges[0])
    drop, accept, subnet = Verdict("drop"), Verdict("accept"), "10.20.0.0/16"
    return [
        [table((Match(IN, "br0"), Match(OUT, "br0"), drop))],
        [table((Match(IN, "br1"), Match(OUT, "br1", "!="), drop))],
        [table(*((Match(IN, f"br{one}"), Match(OUT, f"br{one}"), drop)
                 for one in range(crowd.bridges)))],
        [table(*((Match(IN, f"br{one}"), Verdict(("accept", "drop")[one % 2]))
                 for one in range(crowd.bridges)))],
        [table((Match(SADDR, subnet), Match(DADDR, "10.21.0.0/16"), drop))],
        [table((Match(SADDR, "10.20.0.0/15"), drop))],
        [table((Match(SADDR, Range("10.20.0.0", "10.20.255.255")), drop))],
        [table((Match(DADDR, "10.21.0.0/28"), drop))],
        [table((Match(DADDR, "10.21.0.0", "<"), drop))],
        [table((Match(SADDR, SetOf(("10.20.0.0/16", "10.21.0.0/16"))), drop))],
        [table((Match(IN, SetOf(("br0", "br1"))), drop))],
        [table((Match(IN, "br1*"), drop))],
        [table((Match(SADDR, subnet), accept), (Match(OUT, "br1"), drop))],
        [table((Match(SADDR, own), Match(OUT, "br1"), drop))],
        [table((Match(SADDR, subnet), Nat("snat", "ip", address="10.20.0.99")),
               hook="postrouting", kind="nat")],
        [table(*((Match(SADDR, f"10.{20 + one}.0.0/16"), Match(OUT, f"br{one}", "!="),
                  Nat("snat", "ip", address="10.20.0.99")) for one in range(crowd.bridges)),
               hook="postrouting", kind="nat")],
        [table(*((Match(SADDR, f"10.{20 + one}.0.0/16"), Match(OUT, f"br{one}", "!="),
                  Nat("snat", "ip", address=f"10.{20 + one}.0.1")) for one in range(crowd.bridges)),
               hook="postrouting", kind="nat")],
        [Route(destination="10.21.0.0/24", type="unreachable")],
        [Route(destination="10.77.0.0/16", gateway=own, link="br0")],
        [Rule(priority=50, source="10.21.0.0/16", action="prohibit")],
        [Rule(priority=50, source=f"10.{20 + one}.0.0/16", action="prohibit")
         for one in range(crowd.bridges)],
        [Sysctl(path="ipv4/conf/br0/forwarding", value="0")],
        [Sysctl(path="ipv4/conf/br1/rp_filter", value="1")],
        [Sysctl(path="ipv4/conf/all/rp_filter", value="1")],
        [Listener(protocol="udp", address=f"10.{20 + one}.0.1", port=53)
         for one in range(crowd.bridges)],
        [Listener(protocol="tcp", address="10.20.0.1", port=8080)],
        [Address(link="br0", address="10.21.0.200/16")],
        [Address(link="up0", address="10.21.0.201/32")],
        [Address(namespace=first.name, link="eth0", address=f"{other}/16")],
        [Address(namespace=first.name, link="eth0", address="10.90.0.3/24")],
        [Address(namespace=first.name, link="eth0", address="fd00:99::3/64")],
        [Neighbour(link="br0", address=own, mac=mac(last, last.bridges[0]), state="permanent")],
        [Link(name="veth9", up=True, master="br0", mac="02:00:0a:00:00:01",
              kind=Veth(peer_name="eth9", peer_namespace=last.name)),
         Link(namespace=last.name, name="eth9", up=True, master="", mac="02:00:0a:00:00:02",
              kind=Veth(peer_name="veth9", peer_namespace="host")),
         Address(namespace=last.name, link="eth9", address="10.20.0.240/16")],
    ]  # fmt: skip


def crowd_of(style: str, bridges: int = 4, size: int = 2) -> Crowd:
    return make_crowd(random.Random(style), style, bridges=bridges, size=size, odd=False)


def sizes(view: View) -> Counter[int]:
    return Counter(len(one.members) for one in find_kinds(view, across=True).kinds)


@pytest.mark.parametrize("style", ALIKE)
def test_members_of_networks_that_are_alike_are_of_one_kind(style: str):
    crowd = crowd_of(style)
    view = view_of(crowd)
    reach = find_reach(view)
    assert Counter(len(group.members) for group in reach.origins) == {8: 1, 1: 3}
    assert check(view, reach) > 400
    assert {one.near for one in reach.findings if one.origin == one.target == "c1"} == {
        None, True, False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("style", "number"),
    [(style, n) for n in range(33) for place, style in enumerate(ALIKE) if (n + place) % 2 == 0],
)
def test_what_holds_for_one_network_is_not_told_of_others(style: str, number: int):
    crowd = crowd_of(style, bridges=3)
    things = odd_networks(crowd)
    assert len(things) == 33
    crowd.put(*things[number])
    view = view_of(crowd)
    check(view, find_reach(view))


@pytest.mark.parametrize("style", [*STYLES, GROUPED])
@pytest.mark.parametrize("seed", range(4))
def test_networks_of_random_hosts(style: str, seed: int):
    rng = random.Random(f"networks{style}{seed}")
    crowd = make_crowd(rng, style, bridges=rng.randint(3, 5), odd=True)
    if rng.random() < 0.5:
        crowd.put(*rng.choice(odd_networks(crowd)))
    view = view_of(crowd)
    check(view, find_reach(view))


def test_a_rule_for_one_network_leaves_the_others_alike():
    crowd = crowd_of("linkspan")
    crowd.put(table((Match(IN, "br1"), Match(OUT, "br1"), Verdict("drop"))))
    assert sizes(view_of(crowd)) == {6: 1, 2: 1}


def test_networks_of_unequal_sizes_are_not_alike():
    crowd = crowd_of("none", bridges=3)
    objects = [one for one in crowd.objects.values() if one.namespace != "c6"]
    objects = [one for one in objects if getattr(one, "name", "") != "v2c6"]
    assert sizes(View(DataPlane(objects), sockets_known=True)) == {4: 1, 1: 1}


def test_each_member_is_asked_about_its_own_gateway():
    crowd = crowd_of("none", bridges=3)
    crowd.put(*(Listener(protocol="tcp", address=f"10.{20 + one}.0.1", port=53)
                for one in range(3)))  # fmt: skip
    reach = find_reach(view_of(crowd), protocols=["tcp"])
    asked = {row.address for row in reach.rows("c5", "host") if row.address.startswith("10.")}
    assert asked == {"10.22.0.1"}
    assert reach.verdict("c5", "host", "tcp", 53) is Reached.REACHABLE


@pytest.mark.parametrize("style", ALIKE)
def test_hundreds_of_networks_are_one_kind(style: str):
    crowd = crowd_of(style, bridges=100)
    assert len(sizes(view_of(crowd))) <= 2
