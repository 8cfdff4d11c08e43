"""Plans in words."""

from __future__ import annotations

import pytest

from linkspan.dataplane import (
    Add,
    Address,
    Bridge,
    Element,
    Link,
    Macvlan,
    Namespace,
    Operation,
    Remove,
    Replace,
    Route,
    Rule,
    Sysctl,
    Table,
    Veth,
    Vlan,
)
from linkspan.engine.plans import Plan, describe_operation

PAIR = Veth(peer_name="eth0", peer_namespace="s", peer_mac="02:42:0a:14:00:02")


@pytest.mark.parametrize(
    ("operation", "text"),
    [
        (Add(Link(name="br", kind=Bridge(), mtu=1500, up=True)), "create bridge br, mtu 1500, up"),
        (
            Add(Link(name="lsv0", kind=PAIR, master="br")),
            "create veth pair lsv0 to eth0 in sandbox shop (MAC 02:42:0a:14:00:02), port of br",
        ),
        (Remove(Namespace(namespace="s")), "remove network namespace of sandbox shop"),
        (
            Add(Address(namespace="s", link="eth0", address="10.0.0.2/24")),
            "create address 10.0.0.2/24 on eth0, in sandbox shop",
        ),
        (
            Add(Route(destination="0.0.0.0/0", gateway="10.0.0.1", link="eth0", table=7)),
            "create default route via 10.0.0.1 dev eth0, table 7",
        ),
        (
            Add(Link(namespace="s", name="eth0", mac="02:00:00:00:00:01", up=True,
                     kind=Macvlan(parent="eth1", mode="vepa", parent_namespace="host"))),
            "create macvlan eth0 (vepa) on eth1 of the host (MAC 02:00:00:00:00:01), up, "
            "in sandbox shop",
        ),
        (
            Add(Link(name="eth1.20", kind=Vlan(parent="eth1", vlan=20))),
            "create VLAN 20 of eth1 as eth1.20",
        ),
        (
            Add(Rule(priority=100, source="10.0.0.2/32", table=7)),
            "create routing rule 100: from 10.0.0.2/32 look up table 7",
        ),
        (
            Replace(Sysctl(path="ipv4/ip_forward", value="0"),
                    Sysctl(path="ipv4/ip_forward", value="1")),
            "change setting net/ipv4/ip_forward = 1 (value was 0)",
        ),
        (
            Replace(Link(name="a", up=False, mtu=9000), Link(name="a", up=True)),
            "change interface a, up (up was False)",
        ),
        (
            Add(Element(table="linkspan", set="ports", first=("tcp", 80), data=("10.0.0.2", 80))),
            "create element tcp . 80 : 10.0.0.2 . 80 of firewall map inet linkspan ports",
        ),
        (
            Add(Element(table="linkspan", set="ranges", first=("tcp", 1), last=("tcp", 9),
                        data=("10.0.0.2",))),
            "create element tcp . 1 to tcp . 9 : 10.0.0.2 of firewall map inet linkspan ranges",
        ),
        (Remove(Table(family="inet", name="linkspan")), "remove firewall table inet linkspan"),
    ],
)  # fmt: skip
def test_an_operation_in_words(operation: Operation, text: str) -> None:
    assert describe_operation(operation, {"s": "shop"}) == text


def test_a_plan_is_a_line_an_operation() -> None:
    plan = Plan((Add(Namespace(namespace="s" * 64)), Add(Link(name="a"))))
    assert str(plan).splitlines() == plan.lines()
    assert plan.lines()[0] == f"create network namespace of sandbox {'s' * 12}"
    assert str(Plan(())) == "nothing to change"
