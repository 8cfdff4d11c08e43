"""The difference of two planes turns one into the other, by steps a kernel can take."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataplane.legal import Illegal, carry_out
from dataplane.planes import planes
from linkspan.dataplane import (
    Add,
    Address,
    Bridge,
    BridgePort,
    DataPlane,
    Element,
    Link,
    Loopback,
    Namespace,
    Object,
    Remove,
    Replace,
    Route,
    Table,
    Veth,
    apply_to,
    creation_order,
    diff,
    falls_with,
    satisfies,
)

EMPTY = DataPlane()


def pair(name: str, peer_namespace: str = "blue", **fields: object) -> Link:
    kind = Veth(peer_name="eth0", peer_namespace=peer_namespace)
    return Link(name=name, kind=kind, **fields)  # type: ignore[arg-type]


@settings(max_examples=150, deadline=None)
@given(planes(), planes())
def test_applying_the_difference_satisfies_what_is_wanted(a: DataPlane, b: DataPlane) -> None:
    result = carry_out(a, diff(a, b))
    for item in b:
        held = result.get(item.key)
        assert held is not None, f"missing: {item}"
        assert satisfies(held, item), f"{held} does not satisfy {item}"
    assert {item.key for item in result} == {item.key for item in b}


@settings(max_examples=60, deadline=None)
@given(planes(), planes())
def test_a_second_difference_is_empty(a: DataPlane, b: DataPlane) -> None:
    assert diff(apply_to(a, diff(a, b)), b) == ()


@settings(max_examples=40, deadline=None)
@given(planes(), planes(), st.randoms(use_true_random=False))
def test_the_order_does_not_depend_on_the_order_of_the_objects(a, b, random) -> None:
    def shuffled(plane: DataPlane) -> DataPlane:
        items = list(plane)
        random.shuffle(items)
        return DataPlane(items)

    assert diff(shuffled(a), shuffled(b)) == diff(a, b)


@settings(max_examples=60, deadline=None)
@given(planes())
def test_removing_takes_along_what_falls_in_turn(plane: DataPlane) -> None:
    for gone in plane:
        expected = {gone.key}
        frontier: list[Object] = [gone]
        while frontier:
            carrier = frontier.pop()
            for item in plane:
                if item.key not in expected and falls_with(item, carrier):
                    expected.add(item.key)
                    frontier.append(item)
        left = {item.key for item in plane.without(gone.key)}
        assert left == {item.key for item in plane} - expected


@settings(max_examples=40, deadline=None)
@given(planes())
def test_a_plane_differs_from_itself_in_nothing(plane: DataPlane) -> None:
    assert diff(plane, plane) == ()


def test_the_strict_reader_refuses_an_address_before_its_link() -> None:
    with pytest.raises(Illegal):
        carry_out(EMPTY, (Add(Address(link="eth0", address="10.0.0.1/24")),))


def test_the_firewall_closes_before_the_interface_appears_and_opens_after_it_is_gone() -> None:
    table = Table(family="inet", name="linkspan")
    guard = Element(table="linkspan", set="guarded", first=("v1",))
    plane = DataPlane([table, guard, Namespace(namespace="blue"), pair("v1")])
    assert [type(op.object) for op in diff(EMPTY, plane)] == [Namespace, Table, Element, Link]
    without_pair = DataPlane([table])
    assert [op.object for op in diff(plane, without_pair)] == [
        pair("v1"),
        guard,
        Namespace(namespace="blue"),
    ]


def test_a_pair_is_removed_by_name_although_its_namespace_goes_too() -> None:
    """The namespace may live on in a process; the host's end must not."""
    plane = DataPlane([Namespace(namespace="blue"), pair("v1")])
    assert diff(plane, EMPTY) == (Remove(pair("v1")), Remove(Namespace(namespace="blue")))


def test_of_two_observed_ends_one_is_removed() -> None:
    far = Link(namespace="blue", name="eth0", kind=Veth(peer_name="v1", peer_namespace="host"))
    change = diff(DataPlane([Namespace(namespace="blue"), pair("v1"), far]),
                  DataPlane([Namespace(namespace="blue")]))  # fmt: skip
    assert len(change) == 1


def test_the_far_end_of_a_wanted_pair_is_not_removed() -> None:
    far = Link(namespace="blue", name="eth0", kind=Veth(peer_name="v1", peer_namespace="host"))
    assert diff(DataPlane([pair("v1"), far]), DataPlane([pair("v1")])) == ()


def test_a_port_moves_to_a_new_bridge_after_that_is_made() -> None:
    old = DataPlane([Link(name="a", kind=Bridge()), pair("v1", master="a")])
    new = DataPlane([Link(name="z", kind=Bridge()), pair("v1", master="z")])
    verbs = [type(op) for op in diff(old, new)]
    assert verbs == [Remove, Add, Replace]


def test_the_far_end_is_changed_in_place() -> None:
    def with_mtu(mtu: int) -> Link:
        return Link(name="v1", kind=Veth(peer_name="eth0", peer_namespace="b", peer_mtu=mtu))

    change = diff(DataPlane([with_mtu(1400)]), DataPlane([with_mtu(1500)]))
    assert change == (Replace(with_mtu(1400), with_mtu(1500)),)


def test_a_table_is_replaced_with_its_elements_in_one_run() -> None:
    def table(*flags: str) -> Table:
        return Table(family="inet", name="linkspan", flags=flags)

    elements = [Element(table="linkspan", set="ports", first=(port,)) for port in (80, 81)]
    change = diff(DataPlane([table(), *elements]), DataPlane([table("owner"), elements[0]]))
    assert change == (Replace(table(), table("owner")), Add(elements[0]))


def test_a_gateway_is_known_before_the_route_through_it() -> None:
    default = Route(destination="0.0.0.0/0", gateway="169.254.1.1", link="eth0")
    way = Route(destination="169.254.1.1/32", link="eth0", scope="link")
    assert creation_order([default, way]) == [way, default]


def sandbox(number: int) -> list[Object]:
    name = f"sandbox{number}"
    address, mac = f"10.20.{number >> 8}.{number & 255}", f"02:42:0a:14:{number:04x}"
    elements = [
        Element(table="linkspan", set="ports", first=("tcp", number), data=(address, 80)),
        Element(table="linkspan", set="local", first=("tcp", number), data=(address,)),
        Element(family="bridge", table="linkspan", set="macs", first=(f"v{number}", mac)),
        Element(family="bridge", table="linkspan", set="checked", first=(f"v{number}",)),
        Element(family="bridge", table="linkspan", set="sources", first=(f"v{number}", address)),
    ]  # fmt: skip
    return [
        Namespace(namespace=name),
        Link(namespace=name, name="lo", kind=Loopback(), up=True),
        Link(
            name=f"v{number}",
            kind=Veth(peer_name="eth0", peer_namespace=name, peer_mac=mac, peer_up=True),
            master="br0",
            up=True,
            alias=f"linkspan:endpoint:{number}",
            port=BridgePort(hairpin=True),
        ),
        Address(namespace=name, link="eth0", address=f"{address}/16"),
        Route(namespace=name, destination="0.0.0.0/0", gateway="10.20.0.1", link="eth0"),
        *elements,
    ]


def best_of(times: int, *arguments: DataPlane) -> float:
    def once() -> float:
        start = time.process_time()
        diff(*arguments)
        return time.process_time() - start

    return min(once() for _ in range(times))


@pytest.mark.parametrize("way", ["making", "removing", "comparing"])
def test_time_grows_in_proportion_to_the_plane(way: str) -> None:
    """Eight times the objects may take forty times as long, not sixty-four times."""

    def measure(sandboxes: int) -> float:
        base = [Link(name="br0", kind=Bridge()), Table(family="inet", name="linkspan"),
                Table(family="bridge", name="linkspan")]  # fmt: skip
        plane = DataPlane([*base, *(item for n in range(sandboxes) for item in sandbox(n))])
        if way == "making":
            return best_of(7, EMPTY, plane)
        return best_of(7, plane, EMPTY if way == "removing" else plane)

    measure(10)
    assert measure(400) < 40 * measure(50)
