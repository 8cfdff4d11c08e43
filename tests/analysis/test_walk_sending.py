"""What a process sends: its route and who changes it, tunnels below it, and its socket's link."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from linkspan.analysis import Disposition, Flow, Verdict, View, trace_flow
from linkspan.dataplane import (
    Address,
    Chain,
    DataPlane,
    FdbEntry,
    FirewallRule,
    Link,
    Listener,
    Namespace,
    Object,
    Physical,
    Route,
    Rule,
    Table,
    Veth,
    Vxlan,
)
from linkspan.dataplane.rules import Match, Meta, Nat, Payload, SetField
from linkspan.dataplane.rules import Verdict as Say
from walks.hosts import container_address, loopback, view

TO_C2 = Flow(destination=container_address(2), destination_port=80)


def output(*rules: FirewallRule, **chain: object) -> Table:
    made = Chain(name="out", hook="output", rules=rules, **chain)  # type: ignore[arg-type]
    return Table(family="ip", name=f"t{chain.get('priority', 0)}", chains=(made,))


# Routes that are asked again ----------------------------------------------------------


def test_a_translation_without_a_route_ends_where_it_is_made():
    lost = output(
        FirewallRule((Nat("dnat", family="ip", address="198.51.100.1"),)),
        type="nat", priority=-100,
    )  # fmt: skip
    later = output(FirewallRule((Say("drop"),)))
    nowhere = Route(destination="198.51.100.0/24", type="unreachable", link=None)
    (trace,) = trace_flow(view(lost, later, nowhere), "host", TO_C2).traces
    assert trace.disposition is Disposition.NO_ROUTE
    (trace,) = trace_flow(view(lost, later), "host", TO_C2).traces
    assert trace.disposition is Disposition.DROPPED


@pytest.mark.parametrize(
    ("kind", "end"), [("filter", Disposition.DELIVERED), ("route", Disposition.NO_ROUTE)]
)
def test_only_chains_of_type_route_ask_again_for_a_mark(kind: str, end: Disposition):
    mark = output(FirewallRule((SetField(Meta("mark"), 5),)), type=kind)
    other = output(FirewallRule(()), type="route", priority=-150)
    refuse = Rule(priority=10, mark=5, action="unreachable")
    (trace,) = trace_flow(view(mark, other, refuse), "host", TO_C2).traces
    assert trace.disposition is end


def test_asking_again_leaves_out_protocol_and_ports():
    to_c1 = output(
        FirewallRule((Nat("dnat", family="ip", address=container_address(1)),)),
        type="nat", priority=-100,
    )  # fmt: skip
    refuse = Rule(priority=10, destination=f"{container_address(1)}/32", ip_protocol=6,
                  action="unreachable")  # fmt: skip
    first = Flow(destination=container_address(1), destination_port=80)
    assert trace_flow(view(refuse), "host", first).first.disposition is Disposition.NO_ROUTE
    assert trace_flow(view(to_c1, refuse), "host", TO_C2).first.disposition is Disposition.DELIVERED


# The link of a socket -----------------------------------------------------------------


@pytest.mark.parametrize(("source", "verdict"), [
    ("10.0.0.1", Verdict.DELIVERED), ("192.0.2.10", Verdict.NOT_DELIVERED),
])  # fmt: skip
def test_a_socket_of_one_link_does_not_answer_addresses_of_another(source: str, verdict: Verdict):
    one = Listener(protocol="tcp", address="0.0.0.0", port=22, link="br0")
    flow = Flow(source=source, destination="10.0.0.1", destination_port=22)
    assert trace_flow(view(one), "host", flow).verdict is verdict


def test_a_port_by_chance_is_another_one_afterwards():
    leave = Table(
        family="ip", name="nat",
        chains=(Chain(name="post", hook="postrouting", type="nat", priority=100,
                      rules=(FirewallRule((Nat("masquerade", flags=("fully-random",)),)),)),),
    )  # fmt: skip
    flow = Flow(destination="192.0.2.77", destination_port=80, source_port=40000)
    (trace,) = trace_flow(view(leave), "c1", flow).traces
    assert trace.arrived.source == "192.0.2.10"
    assert trace.arrived.source_port not in (40000, 0)
    assert trace.arrived.source_port > 1023


# Tunnels ------------------------------------------------------------------------------


def hosts(*more: Object) -> View:
    """Two hosts on a cable, each with an end of a tunnel."""
    made: list[Object] = [
        Link(namespace="a", name="up", up=True, mac="02:00:00:00:00:0a",
             kind=Veth(peer_name="up", peer_namespace="b", peer_mac="02:00:00:00:00:0b",
                       peer_up=True)),
        Link(namespace="b", name="up", up=True, mac="02:00:00:00:00:0b",
             kind=Veth(peer_name="up", peer_namespace="a", peer_mac="02:00:00:00:00:0a",
                       peer_up=True)),
    ]  # fmt: skip
    for name, number, other in (("a", 1, 2), ("b", 2, 1)):
        made += [
            Namespace(namespace=name), loopback(name),
            Address(namespace=name, link="up", address=f"192.0.2.{number}/24"),
            Link(namespace=name, name="vx", up=True, mac=f"02:00:00:00:01:0{number}",
                 kind=Vxlan(vni=7, local=f"192.0.2.{number}", parent="up")),
            FdbEntry(namespace=name, link="vx", mac="00:00:00:00:00:00",
                     remote=f"192.0.2.{other}", own=True),
            Address(namespace=name, link="vx", address=f"10.7.0.{number}/24"),
        ]  # fmt: skip
    made.append(Listener(namespace="b", protocol="tcp", address="0.0.0.0", port=80))
    held = {item.key: item for item in (*made, *more)}
    return View(DataPlane(held.values()), sockets_known=True)


THROUGH = Flow(destination="10.7.0.2", destination_port=80)


def rules(namespace: str, hook: str, *statements: object) -> Table:
    made = Chain(name="c", hook=hook, rules=(FirewallRule(statements),))  # type: ignore[arg-type]
    return Table(namespace=namespace, family="ip", name="t", chains=(made,))


def test_a_question_through_a_tunnel_goes_as_its_packets():
    assert trace_flow(hosts(), "a", THROUGH).verdict is Verdict.DELIVERED
    closed = rules("b", "input", Match(Payload("udp", "dport"), 4789), Say("drop"))
    (trace,) = trace_flow(hosts(closed), "a", THROUGH).traces
    assert trace.disposition is Disposition.NEIGHBOUR_UNREACHABLE
    silent = rules("b", "output", Match(Payload("udp", "dport"), 4789), Say("drop"))
    (trace,) = trace_flow(hosts(silent), "a", THROUGH).traces
    assert trace.disposition is Disposition.NEIGHBOUR_UNREACHABLE


def test_a_tunnel_sends_by_the_link_that_it_was_made_on():
    elsewhere = (
        Rule(namespace="a", priority=10, destination="192.0.2.2/32", table=100),
        Route(namespace="a", destination="192.0.2.0/24", link="odd", table=100),
        Link(namespace="a", name="odd", kind=Physical(), up=True, mac="02:00:00:00:02:01"),
    )
    assert trace_flow(hosts(*elsewhere), "a", THROUGH).verdict is Verdict.DELIVERED


def test_a_mark_goes_into_the_tunnel():
    to_b = Match(Payload("ip", "daddr"), "10.7.0.2")
    mark = rules("a", "output", to_b, SetField(Meta("mark"), 5))
    tunnelled = Match(Payload("udp", "dport"), 4789)
    chain = Chain(
        name="post", hook="postrouting",
        rules=(FirewallRule((Match(Meta("mark"), 5), tunnelled, Say("drop"))),),
    )  # fmt: skip
    checked = Table(namespace="a", family="ip", name="p", chains=(chain,))
    (trace,) = trace_flow(hosts(mark, checked), "a", THROUGH).traces
    assert trace.disposition is Disposition.DROPPED


def test_a_tunnel_that_leads_to_itself_finds_nobody():
    itself = Route(namespace="a", destination="192.0.2.2/32", link="vx")
    unbound = Link(
        namespace="a", name="vx", up=True, mac="02:00:00:00:01:01",
        kind=Vxlan(vni=7, local="192.0.2.1"),
    )  # fmt: skip
    (trace,) = trace_flow(hosts(itself, unbound), "a", THROUGH).traces
    assert trace.disposition is Disposition.NEIGHBOUR_UNREACHABLE


@pytest.mark.parametrize(
    ("source", "protocol", "end"),
    [
        ("host", "tcp", Disposition.SWALLOWED),
        ("host", "udp", Disposition.DELIVERED),
        ("stranger", "tcp", Disposition.SWALLOWED),
        ("stranger", "udp", Disposition.DELIVERED),
    ],
)
def test_nobody_connects_to_an_anycast_address(source: str, protocol: str, end: Disposition):
    plane = DataPlane(
        (
            Namespace(namespace="host"),
            loopback("host"),
            Link(name="up", kind=Physical(), mac="02:00:00:00:00:01", up=True),
            Address(link="up", address="2001:db8::1/64"),
            Route(destination="2001:db8::/128", type="anycast", link="up", table=255),
            Listener(protocol=protocol, address="::", port=80),
        )
    )
    flow = Flow(destination="2001:db8::", destination_port=80, protocol=protocol)
    if source == "stranger":
        flow = replace(flow, source="2001:db8::99", link="up")
    answer = trace_flow(View(plane, sockets_known=True), "host", flow)
    assert answer.first.disposition is end
