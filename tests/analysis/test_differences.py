"""Differences of two planes: what people did, apart from what the kernel does by itself."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from dataplane.planes import planes
from linkspan.analysis.differences import KINDS, find_differences, find_object_changes
from linkspan.dataplane import (
    Address,
    Bridge,
    Chain,
    DataPlane,
    Element,
    FdbEntry,
    FirewallRule,
    Link,
    Listener,
    Loopback,
    Namespace,
    Neighbour,
    Object,
    Physical,
    Process,
    Route,
    SetDefinition,
    Sysctl,
    Table,
    Veth,
)
from linkspan.dataplane.rules import Counter, Match, Payload, Verdict

DROP = Verdict("drop")


def rule(port: int, handle: int | None = None, packets: int = 0) -> FirewallRule:
    test = Match(Payload("tcp", "dport"), port)
    return FirewallRule((test, Counter(packets, packets * 60), DROP), None, handle)


def table(*rules: FirewallRule, policy: str = "accept", sets: tuple[SetDefinition, ...] = ()):
    chain = Chain(name="input", hook="input", rules=rules, policy=policy)
    return Table(family="inet", name="filter", chains=(chain,), sets=sets)


def changes(before: list[Object], after: list[Object], minor: bool = False):
    found = find_object_changes(DataPlane(before), DataPlane(after))
    return [(one.action, one.kind, one.object) for one in found if minor or not one.minor]


@given(planes())
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_a_plane_does_not_differ_from_itself(plane: DataPlane):
    assert find_object_changes(plane, DataPlane(list(plane))) == ()


@given(planes(), planes())
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
def test_back_is_the_reverse_of_forth(one: DataPlane, other: DataPlane):
    reverse = {"added": "removed", "removed": "added", "changed": "changed"}

    def essence(a: DataPlane, b: DataPlane, turned: bool = False):
        return sorted(
            (
                reverse[c.action] if turned else c.action, c.namespace, c.kind,
                "" if c.action == "changed" else c.object,
            )
            for c in find_object_changes(a, b)
        )  # fmt: skip

    assert essence(one, other) == essence(other, one, turned=True)
    if one != other:
        assert find_object_changes(one, other)


def test_a_changed_field_is_told_before_and_after():
    found = find_object_changes(
        DataPlane([Link(name="eth0", mtu=1500, kind=Bridge(stp=False))]),
        DataPlane([Link(name="eth0", mtu=1400, kind=Bridge(stp=True))]),
    )
    (change,) = found
    assert [(one.field, one.before, one.after) for one in change.fields] == [
        ("kind.stp", "no", "yes"), ("mtu", "1500", "1400"),
    ]  # fmt: skip


def test_rules_are_compared_one_by_one_and_shown_with_their_place():
    before = DataPlane([table(rule(22, 1), rule(80, 2), rule(443, 3))])
    after = DataPlane([table(rule(22, 1, packets=7), rule(8080, 5), rule(443, 3), policy="drop")])
    found = find_object_changes(before, after)
    assert [(one.action, one.kind, one.place, one.object) for one in found] == [
        ("changed", "chain", "inet filter input", "chain inet filter input"),
        ("removed", "firewall-rule", "inet filter input handle 2", "tcp dport 80 counter drop"),
        ("added", "firewall-rule", "inet filter input handle 5", "tcp dport 8080 counter drop"),
    ]
    assert found[0].fields[0].before == "accept"
    assert not any(one.minor for one in found)


def test_what_rules_count_and_what_they_are_numbered_does_not_count():
    before, after = table(rule(22, 1)), table(rule(22, 9, packets=1000))
    assert changes([before], [after], minor=True) == []


def test_a_long_chain_with_one_rule_more_tells_that_rule():
    rules = [rule(port % 60000 + 1) for port in range(6000)]
    more = [*rules[:3000], rule(61000), *rules[3000:]]
    (change,) = find_object_changes(DataPlane([table(*rules)]), DataPlane([table(*more)]))
    assert change.object == "tcp dport 61000 counter drop"
    assert change.place == "inet filter input rule 3001"


def test_what_the_kernel_learns_is_chatter():
    for before, after in (
        ([], [Neighbour(link="eth0", address="10.0.0.1", mac="02:00:00:00:00:01", state="stale")]),
        ([], [FdbEntry(link="br0", mac="02:00:00:00:00:01")]),
        ([], [Sysctl(path="ipv4/conf/eth9/forwarding", value="0")]),
        ([Link(name="eth0", index=3)], [Link(name="eth0", index=4)]),
        (
            [Listener(protocol="tcp", address="::", port=1, processes=(Process(1, "sh"),))],
            [Listener(protocol="tcp", address="::", port=1, processes=(Process(2, "sh"),))],
        ),
    ):
        assert changes(before, after) == []
        assert len(changes(before, after, minor=True)) == 1


def test_what_people_set_is_not():
    for before, after in (
        ([], [Neighbour(link="e", address="10.0.0.1", mac="02:00:00:00:00:01", state="permanent")]),
        ([], [FdbEntry(link="br0", mac="02:00:00:00:00:01", permanent=True)]),
        ([Sysctl(path="ipv4/ip_forward", value="0")], [Sysctl(path="ipv4/ip_forward", value="1")]),
        (
            [Listener(protocol="tcp", address="::", port=1, processes=(Process(1, "sh"),))],
            [Listener(protocol="tcp", address="::", port=1, processes=(Process(2, "nc"),))],
        ),
        ([], [Element(table="t", set="s", first=("10.0.0.1",))]),
        ([], [Route(destination="10.9.0.0/16", gateway="10.0.0.1", link="eth0", protocol=3)]),
    ):
        assert len(changes(before, after)) == 1


def test_elements_that_rules_add_are_chatter():
    filled = SetDefinition(name="seen", key=("ipv4_addr",), dynamic=True)
    own = table(sets=(filled,))
    seen = Element(table="filter", set="seen", first=("10.0.0.1",))
    assert changes([own], [own, seen]) == []


def test_a_new_container_is_a_few_lines():
    inside = {"namespace": "shop"}
    new: list[Object] = [
        Namespace(**inside),
        Link(name="lo", kind=Loopback(), **inside),
        Link(name="eth0", kind=Veth(peer_name="v0", peer_namespace="host"), **inside),
        Link(name="v0", kind=Veth(peer_name="eth0", peer_namespace="shop")),
        Address(link="lo", address="127.0.0.1/8", scope="host", **inside),
        Address(link="eth0", address="10.0.0.2/24", **inside),
        Route(destination="10.0.0.0/24", link="eth0", protocol=2, **inside),
        Route(destination="10.0.0.2/32", link="eth0", table=255, protocol=2, **inside),
        Route(destination="0.0.0.0/0", gateway="10.0.0.1", link="eth0", protocol=3, **inside),
        Sysctl(path="ipv4/conf/eth0/forwarding", value="0", **inside),
        FdbEntry(link="v0", mac="02:00:00:00:00:01", permanent=True),
    ]
    assert [(action, kind) for action, kind, _ in changes([], new)] == [
        ("added", "link"), ("added", "namespace"), ("added", "address"), ("added", "route"),
    ]  # fmt: skip
    assert len(changes([], new, minor=True)) == len(new)


def test_every_kind_has_a_name():
    from dataplane.records import concrete_kinds

    assert set(KINDS) == set(concrete_kinds())


# Flows --------------------------------------------------------------------------------


def host(*more: Object) -> DataPlane:
    """A host with an uplink on 192.0.2.0/24, and a default gateway there."""
    objects: list[Object] = [
        Link(name="lo", kind=Loopback(), up=True),
        Link(name="eth0", kind=Physical(), up=True, mac="02:00:00:00:00:10"),
        Address(link="eth0", address="192.0.2.10/24"),
        Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
    ]
    return DataPlane([*objects, *more])


def listener(port: int) -> Listener:
    return Listener(protocol="tcp", address="0.0.0.0", port=port, processes=(Process(1, "sshd"),))


def test_a_socket_that_opens_is_open_to_strangers_first():
    found = find_differences(host(), host(listener(22)))
    assert found.closed == ()
    (first, *_) = found.opened
    assert (first.danger, first.targets, first.ports) == ("anywhere", ("host",), ((22, 22),))
    assert "internet" in first.origins
    assert (first.before, first.after) == ("absent", "reachable")
    assert found.significant


def test_a_rule_that_closes_says_which():
    before = host(listener(22), table())
    after = host(listener(22), table(rule(22, 4)))
    found = find_differences(before, after)
    assert found.opened == ()
    assert found.closed[0].danger == "anywhere"
    assert "inet filter input" in found.closed[0].why
    back = find_differences(after, before)
    assert [(c.targets, c.ports) for c in back.opened] == [
        (c.targets, c.ports) for c in found.closed
    ]


def test_the_most_dangerous_come_first():
    segment_only = Match(Payload("ip", "saddr"), "192.0.2.0/24", "!=")
    guarded = FirewallRule((segment_only, Match(Payload("tcp", "dport"), 80), DROP))
    found = find_differences(host(table()), host(table(guarded), listener(80), listener(22)))
    assert [(one.danger, one.origins, one.ports) for one in found.opened] == [
        ("anywhere", ("internet", "outside"), ((22, 22),)),
        ("segment", ("outside",), ((80, 80),)),
    ]


def test_more_sources_for_strangers_are_told():
    elsewhere = Match(Payload("ip", "saddr"), "10.0.0.0/8", "!=")
    guarded = FirewallRule((elsewhere, Match(Payload("tcp", "dport"), 80), DROP))
    wider = FirewallRule((Match(Payload("ip", "saddr"), "10.0.0.0/9"), DROP))
    found = find_differences(host(listener(80), table(guarded)), host(listener(80), table(wider)))
    (change,) = found.exposures
    assert (change.action, change.namespace, change.ports) == ("changed", "host", ((80, 80),))
    assert (change.before, change.after) == ("10.0.0.0/8", "anywhere but 10.0.0.0/9")


def test_chatter_alone_is_no_significant_difference():
    link = Link(name="eth1", index=4)
    found = find_differences(host(link), host(msgspec.structs.replace(link, index=5)))
    assert not found.significant
    assert found.objects


@pytest.mark.parametrize("count", [40])
def test_containers_that_are_alike_are_told_together(count: int):
    def site(port: int | None) -> DataPlane:
        objects: list[Object] = [Link(name="br0", kind=Bridge(), up=True, mac="02:00:00:00:00:01"),
                                 Address(link="br0", address="10.5.0.1/24")]  # fmt: skip
        for number in range(count):
            name, mac = f"c{number}", f"02:00:00:00:01:{number:02x}"
            objects += [
                Namespace(namespace=name),
                Link(namespace=name, name="lo", kind=Loopback(), up=True),
                Link(namespace=name, name="eth0", up=True, mac=mac,
                     kind=Veth(peer_name=f"v{number}", peer_namespace="host")),
                Link(name=f"v{number}", up=True, master="br0", mac=f"02:00:00:00:02:{number:02x}",
                     kind=Veth(peer_name="eth0", peer_namespace=name)),
                Address(namespace=name, link="eth0", address=f"10.5.0.{number + 2}/24"),
                Route(namespace=name, destination="0.0.0.0/0", gateway="10.5.0.1", link="eth0"),
            ]  # fmt: skip
            if port is not None:
                objects.append(
                    Listener(namespace=name, protocol="tcp", address="0.0.0.0", port=port)
                )
        return host(*objects)

    found = find_differences(site(80), site(81))
    between = [one for one in found.opened if "c0" in one.targets and "c0" in one.origins]
    assert len(between) == 1
    assert len(between[0].targets) == count
    assert between[0].ports == ((81, 81),)
    assert [one.ports for one in found.closed if "c0" in one.targets] == [
        ((80, 80),) for _ in [one for one in found.closed if "c0" in one.targets]
    ]


def test_one_more_address_of_an_exposed_socket_closes_nothing():
    before = host(listener(22))
    after = before.with_object(Address(link="eth0", address="192.0.2.77/24"))
    changes = find_differences(before, after).exposures
    assert [(one.action, one.addresses, one.ports) for one in changes] == [
        ("added", ("192.0.2.77",), ((22, 22),))
    ]
