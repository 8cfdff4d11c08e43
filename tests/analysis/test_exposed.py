"""What strangers reach on made-up hosts, and that nothing else arrives."""

from __future__ import annotations

import random

import pytest

from linkspan.analysis import Confidence, Disposition, Flow, View, exposed, trace_flow
from linkspan.analysis.addresses import to_number, to_text
from linkspan.analysis.exposed import Exposed, find_exposed
from linkspan.analysis.exposures import Addresses, Exposure
from linkspan.analysis.headers import prefix_intervals
from linkspan.analysis.intervals import interval
from linkspan.dataplane import (
    Address,
    BridgePort,
    Chain,
    DataPlane,
    FirewallRule,
    Link,
    Listener,
    Macvlan,
    Namespace,
    Object,
    Process,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.rules import Limit, Match, Meta, Nat, Payload, Verdict
from linkspan.drivers import firewall as layout
from linkspan.errors import NotFound
from walks.crowds import make_crowd
from walks.hosts import container_address, loopback, view

HOST_MAC = "02:00:09:00:00:01"


def ask(*objects: Object, **options: object) -> Exposed:
    return find_exposed(view(*objects), **options)  # type: ignore[arg-type]


def only(found: Exposed) -> Exposure:
    (one,) = found.exposures
    return one


def rule(*statements: object) -> FirewallRule:
    return FirewallRule(statements, handle=7)  # type: ignore[arg-type]


def chain(hook: str, *rules: FirewallRule, name: str | None = None, **options: object) -> Chain:
    return Chain(name=name or hook, hook=hook, rules=rules, **options)  # type: ignore[arg-type]


def drop_forwarded(*rules: FirewallRule) -> Table:
    return Table(
        family="ip", name="filter", chains=(chain("forward", *rules, policy="drop"),)
    )  # fmt: skip


def dnat(port: int, address: str, to: int, table: str = "nat", name: str = "DOCKER") -> Table:
    jump = rule(Verdict("jump", name))
    translate = rule(Match(Payload("tcp", "dport"), port), Nat("dnat", "ip", address, to))
    return Table(
        family="ip", name=table,
        chains=(
            chain("prerouting", jump, type="nat", priority=-100),
            Chain(name=name, rules=(translate,)),
        ),
    )  # fmt: skip


# What is exposed ----------------------------------------------------------------------


def test_without_a_firewall_containers_are_reached_by_their_own_address():
    found = ask()
    assert [(one.addresses, one.ports, one.namespace) for one in found.exposures] == [
        ((container_address(1),), ((80, 80),), "c1"), ((container_address(2),), ((80, 80),), "c2"),
    ]  # fmt: skip
    first = found.exposures[0]
    assert (first.opened_by, first.answered, first.sources.kind) == ("no firewall", "yes", "any")
    assert first.processes == (Process(101, "web"),)
    assert found.complete
    assert found.segments == ("eth0",)


def test_a_policy_that_accepts_is_said():
    allow = Table(family="ip", name="filter", chains=(
        chain("forward", rule(Match(Payload("ip", "saddr"), "198.51.100.1"), Verdict("drop"))),
    ))  # fmt: skip
    one = ask(allow).exposures[0]
    assert one.opened_by == "no rule"
    assert one.sources == Addresses("all-but", ("198.51.100.1",))


def test_a_host_process_is_exposed_at_all_its_addresses():
    found = ask(
        drop_forwarded(),
        Listener(protocol="tcp", address="0.0.0.0", port=22, processes=(Process(9, "sshd"),)),
        Listener(protocol="udp", address="192.0.2.10", port=53),
        Listener(protocol="tcp", address="127.0.0.1", port=631),
    )
    assert [(one.protocol, one.addresses, one.ports) for one in found.exposures] == [
        ("tcp", ("10.0.0.1", "192.0.2.10"), ((22, 22),)),
        ("udp", ("192.0.2.10",), ((53, 53),)),
    ]
    assert {one.opened_by for one in found.exposures} == {"host process"}


def test_nothing_exposed_is_an_answer():
    found = ask(drop_forwarded())
    assert found.exposures == ()
    assert found.complete


def test_loopback_is_reached_where_route_localnet_lets_it():
    closed = (drop_forwarded(), Listener(protocol="tcp", address="127.0.0.1", port=631))
    assert ask(*closed).exposures == ()
    one = only(ask(*closed, Sysctl(path="ipv4/conf/eth0/route_localnet", value="1")))
    assert (one.addresses, one.ports, one.namespace) == (("127.0.0.1",), ((631, 631),), "host")


def test_sources_of_containers_can_be_pretended():
    mine = rule(Match(Payload("ip", "saddr"), "10.0.0.0/16"), Verdict("accept"))
    one = ask(drop_forwarded(mine)).exposures[0]
    assert one.sources == Addresses("only")
    assert one.pretended.kind != "only"
    assert one.answered == "no"
    strict = Sysctl(path="ipv4/conf/eth0/rp_filter", value="1")
    assert ask(drop_forwarded(mine), strict).exposures == ()


def test_macvlan_containers_answer_past_the_hosts_rules():
    mac = "02:00:00:00:09:01"
    one = only(
        ask(
            drop_forwarded(), Namespace(namespace="m1"), loopback("m1"),
            Link(namespace="m1", name="eth0", up=True, mac=mac, master="",
                 kind=Macvlan(mode="bridge", parent="eth0", parent_namespace="host")),
            Address(namespace="m1", link="eth0", address="192.0.2.50/24"),
            Listener(namespace="m1", protocol="tcp", address="0.0.0.0", port=80),
        )
    )  # fmt: skip
    assert (one.addresses, one.towards, one.namespace) == (("192.0.2.50",), "m1", "m1")
    assert (one.opened_by, one.answered, one.answered_sources.kind) == ("own link", "some", "only")


def test_a_bridged_uplink_leads_to_the_containers_themselves():
    found = ask(
        drop_forwarded(),
        Link(name="eth0", up=True, master="br0", mac="02:00:00:02:00:02", port=BridgePort()),
    )
    assert {(one.namespace, one.towards, one.opened_by) for one in found.exposures} == {
        ("c1", "c1", "own link"), ("c2", "c2", "own link"),
    }  # fmt: skip


# Who opened it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("table", "name", "maker"),
    [("nat", "DOCKER", "docker"), ("nat", "CNI-DN-1f2e3d", "cni portmap"),
     ("netavark", "nv_1_10_0_0_0_nm16_dnat", "netavark"), ("nat", "NETAVARK-DN-1D8", "netavark"),
     ("nat", "KUBE-SERVICES", "kube-proxy"), ("mine", "holes", "rule of ip mine")],
)  # fmt: skip
def test_whose_rule_it_is(table: str, name: str, maker: str):
    to_web = Match(Payload("tcp", "dport"), 80)
    to_first = Match(Payload("ip", "daddr"), container_address(1))
    accept = rule(Match(Meta("oifname"), "br0"), to_web, to_first, Verdict("accept"))
    found = ask(drop_forwarded(accept), dnat(8080, container_address(1), 80, table, name))
    one = next(one for one in found.exposures if one.ports == ((8080, 8080),))
    assert one.opened_by == maker
    assert (one.namespace, one.own_address, one.own_ports) == (
        "c1", container_address(1), ((80, 80),)
    )  # fmt: skip
    assert [used.does for used in one.rules] == ["dnat", "accept"]
    assert one.rules[0].object == f"ip {table} {name} handle 7"


def test_our_own_publication_names_its_element():
    found = ask(
        *layout.TABLES, layout.inet("bridges", "br0"), layout.inet("open", "br0", "br0"),
        layout.inet("ports", "tcp", 8080, data=(container_address(1), 80)),
        layout.inet("ports", "tcp", 8081, data=(container_address(2), 81)),
    )  # fmt: skip
    one = only(found)
    assert (one.opened_by, one.namespace, one.ports) == ("linkspan", "c1", ((8080, 8080),))
    assert one.rules[0].element == f"ports: tcp . 8080 : {container_address(1)} . 80"


def test_dockers_relay_is_named_with_where_it_leads():
    words = ("-proto", "tcp", "-container-ip", container_address(1), "-container-port", "80")
    one = only(
        ask(
            drop_forwarded(),
            Listener(protocol="tcp", address="192.0.2.10", port=8080,
                     processes=(Process(7, "docker-proxy", words),)),
        )
    )  # fmt: skip
    assert (one.opened_by, one.relays_to) == ("docker-proxy", f"{container_address(1)}:80 in c1")


def test_ports_in_a_row_are_one():
    found = ask(
        drop_forwarded(),
        *(Listener(protocol="tcp", address="192.0.2.10", port=port, processes=(Process(5, "ftp"),))
          for port in (21, 5000, 5001, 5002)),
    )  # fmt: skip
    assert [one.ports for one in found.exposures] == [((21, 21),), ((5000, 5002),)]


def test_what_depends_is_said():
    limited = rule(Limit("10/second"), Verdict("accept"))
    one = ask(drop_forwarded(limited)).exposures[0]
    assert one.confidence is Confidence.DEPENDS
    assert any("limit" in text for text in one.depends_on)


def test_too_much_to_look_at_is_said():
    found = find_exposed(view(containers=30), most=5)
    assert not found.complete
    assert found.rest


def test_a_link_that_is_not_there():
    with pytest.raises(NotFound):
        find_exposed(view(), link="eth9")
    with pytest.raises(NotFound):
        find_exposed(View(DataPlane([Namespace(namespace="host"), loopback("host")])))


# Nothing more, nothing less -----------------------------------------------------------


def holds(texts: tuple[str, ...], number: int) -> bool:
    for text in texts:
        first, dash, last = text.partition("-")
        values = interval(to_number(first), to_number(last)) if dash else prefix_intervals(text)
        if number in values:
            return True
    return False


def among(addresses: Addresses, number: int) -> bool:
    if addresses.kind == "any":
        return True
    return holds(addresses.ranges, number) == (addresses.kind == "only")


@pytest.mark.parametrize("style", ["none", "linkspan", "docker", "cni"])
@pytest.mark.parametrize("seed", range(4))
def test_a_packet_arrives_where_something_is_exposed_and_nowhere_else(style: str, seed: int):
    rng = random.Random(seed)
    crowd = make_crowd(rng, style)
    objects = list(crowd.objects.values())
    seen = View(DataPlane(objects), sockets_known=True)
    found = find_exposed(seen)
    assert found.complete
    own = [one.address.partition("/")[0] for one in objects if isinstance(one, Address)]
    ports = [22, 53, 80, 443, 8080, 20001, 31000, *(port for one in found.exposures
                                                  for port in one.ports[0])]  # fmt: skip
    arrived = 0
    for _ in range(400):
        destination = rng.choice(own)
        version = 6 if ":" in destination else 4
        usual = ("192.0.2.77", "203.0.113.5", "8.8.8.8") if version == 4 else ("2001:db8:1::77",
                                                                             "2a00::1")  # fmt: skip
        flow = Flow(
            source=rng.choice(usual), source_port=rng.randint(1024, 65535), link="up0",
            destination=destination, destination_port=rng.choice(ports),
            protocol=rng.choice(("tcp", "tcp", "udp")),
        )  # fmt: skip
        answer = trace_flow(seen, "host", flow, towards=HOST_MAC)
        reached = {
            trace.namespace for trace in answer.traces if trace.disposition is Disposition.DELIVERED
        }
        source, target = to_number(flow.source or ""), to_number(destination)
        said = {
            one.namespace
            for one in found.exposures
            if one.version == version and one.protocol == flow.protocol
            and holds(one.addresses, target) and among(one.sources, source)
            and any(first <= flow.destination_port <= last for first, last in one.ports)
        }  # fmt: skip
        assert reached == said, (flow, to_text(target, version))
        arrived += bool(reached)
    assert arrived > 5


@pytest.mark.parametrize("style", ["none", "linkspan", "docker", "cni"])
@pytest.mark.parametrize("odd", [True, False], ids=["odd", "alike"])
def test_asking_for_one_of_a_kind_finds_the_same(
    style: str, odd: bool, monkeypatch: pytest.MonkeyPatch
):
    saved = 0
    for seed in range(4):
        crowd = make_crowd(random.Random(seed), style, bridges=2, size=6, odd=odd)
        plane = DataPlane(crowd.objects.values())
        monkeypatch.setattr(exposed, "LEAST_NAMESPACES", 1000)
        one_by_one = find_exposed(View(plane, sockets_known=True))
        monkeypatch.setattr(exposed, "LEAST_NAMESPACES", 0)
        by_kind = find_exposed(View(plane, sockets_known=True))
        assert by_kind.exposures == one_by_one.exposures, f"seed {seed}"
        assert by_kind.complete
        saved += one_by_one.walks - by_kind.walks
    assert odd or saved > 0


def test_a_namespace_may_stand_for_the_outside() -> None:
    objects = [
        Link(name="eth0", kind=Veth(peer_name="eth0", peer_namespace="beside"), up=True,
             mac=HOST_MAC),
        Namespace(namespace="beside"),
        Link(namespace="beside", name="eth0", up=True, mac="02:00:09:00:00:77",
             kind=Veth(peer_name="eth0", peer_namespace="host")),
        Listener(protocol="tcp", address="0.0.0.0", port=22),
    ]  # fmt: skip
    found = ask(*objects)
    assert found.segments == ("eth0",)
    assert any(one.ports == ((22, 22),) and one.namespace == "host" for one in found.exposures)
