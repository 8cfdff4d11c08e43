"""Networks on a parent, from a request and a host that is a value."""

from __future__ import annotations

from typing import Any

import pytest

from linkspan.dataplane import (
    Address,
    Bridge,
    DataPlane,
    Link,
    Loopback,
    Macvlan,
    Physical,
    Route,
    Tun,
    Veth,
)
from linkspan.drivers.records import Network
from linkspan.engine.networks import draft_network
from linkspan.engine.requests import NetworkRequest, SubnetRequest
from linkspan.errors import AddressInUse, Conflict, InvalidRequest, NotFound

POOLS = ("10.200.0.0/16:24",)
MAC = "52:54:00:00:00:01"
HOST = DataPlane(
    (
        Link(name="lo", kind=Loopback(), up=True, mac="00:00:00:00:00:00", mtu=65536),
        Link(name="eth1", kind=Physical(), up=True, mac=MAC, mtu=9000),
        Link(name="eth2", kind=Physical(), up=True, mac=MAC, mtu=1500),
        Link(name="off", kind=Physical(), up=False, mac=MAC),
        Link(name="port", kind=Veth(), up=True, mac=MAC, master="br0"),
        Link(name="br0", kind=Bridge(), up=True, mac=MAC, mtu=1500),
        Link(name="docker0", kind=Bridge(), up=True, mac=MAC, mtu=1500),
        Link(name="upper", kind=Macvlan(parent="eth1"), up=True, mac=MAC),
        Link(name="tun0", kind=Tun(), up=True),
        Link(name="ours", kind=Bridge(), up=True, mac=MAC, alias="linkspan:network:1"),
        Address(link="eth1", address="192.168.7.2/24"),
        Address(link="eth1", address="fe80::1/64"),
        Address(link="docker0", address="172.17.0.1/16"),
        Route(destination="192.168.7.0/24", link="eth1"),
        Route(destination="0.0.0.0/0", gateway="192.168.7.254", link="eth1"),
    )
)


def draft(*existing: Network, driver: str = "macvlan", **more: Any) -> Network:
    options = {"parent": "eth1", **more.pop("options", {})}
    if options["parent"] == "":
        del options["parent"]
    request = NetworkRequest(name=f"n{len(existing)}", driver=driver, options=options, **more)
    return draft_network(request, existing, HOST, POOLS)


def subnet(text: str = "192.168.7.0/24", **more: Any) -> list[SubnetRequest | str]:
    return [SubnetRequest(subnet=text, **more)]


def test_subnet_gateway_and_mtu_are_the_parents() -> None:
    made = draft()
    (only,) = made.subnets
    assert (only.subnet, only.gateway, made.mtu) == ("192.168.7.0/24", "192.168.7.254", 9000)
    assert made.interface == ""


def test_a_parent_without_an_address_needs_a_subnet_stated() -> None:
    with pytest.raises(InvalidRequest, match="--subnet"):
        draft(options={"parent": "eth2"})
    # What the host has on another card is no obstacle: both may lead to one segment.
    made = draft(options={"parent": "eth2"}, subnets=subnet())
    assert made.subnets[0].gateway == "192.168.7.1"


@pytest.mark.parametrize(
    ("parent", "error", "says"),
    [
        ("eth9", NotFound, "there are br0, docker0"),
        ("lo", InvalidRequest, "loopback"),
        ("off", Conflict, "ip link set off up"),
        ("port", Conflict, "parent=br0"),
        ("upper", Conflict, "link on eth1"),
        ("tun0", InvalidRequest, "no MAC"),
        ("ours", Conflict, "linkspan's own"),
        ("eth9.20", NotFound, "eth9"),
        ("off.20", Conflict, "is down"),
    ],
)
def test_a_parent_that_cannot_carry(parent: str, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        draft(options={"parent": parent}, subnets=subnet())


def test_a_vlan_that_is_not_there_is_ours_to_make() -> None:
    made = draft(options={"parent": "eth2.20"}, subnets=subnet("10.20.20.0/24"))
    assert (made.interface, made.options["parent"]) == ("eth2.20", "eth2.20")


def test_without_a_parent_it_is_internal_and_has_a_subnet_from_the_pools() -> None:
    made = draft(options={"parent": ""})
    assert made.internal
    assert made.interface == made.options["parent"] == f"lsd-{made.id[:10]}"
    assert made.subnets[0].subnet == "10.200.0.0/24"
    assert made.subnets[0].gateway is None


def test_networks_lease_from_ranges_that_are_apart() -> None:
    first = draft(subnets=subnet(ip_range="192.168.7.64/26"))
    with pytest.raises(AddressInUse, match="--ip-range"):
        draft(first, subnets=subnet())
    with pytest.raises(AddressInUse, match="network n0"):
        draft(first, subnets=subnet(ip_range="192.168.7.0/25"))
    assert draft(first, subnets=subnet(ip_range="192.168.7.128/26")).subnets[0].subnet


def test_a_subnet_behind_another_bridge_is_refused() -> None:
    with pytest.raises(AddressInUse, match="docker0"):
        draft(subnets=subnet("172.17.0.0/24"))


def test_and_a_bridge_network_keeps_clear_of_the_segment() -> None:
    first = draft(subnets=subnet("192.168.9.0/24"))
    request = NetworkRequest(name="web", subnets=["192.168.9.0/25"])
    with pytest.raises(AddressInUse, match="n0"):
        draft_network(request, [first], HOST, POOLS)


@pytest.mark.parametrize(
    ("first", "second", "says"),
    [
        ({"driver": "macvlan"}, {"driver": "ipvlan"}, "not both"),
        ({"driver": "ipvlan"}, {"driver": "macvlan"}, "not both"),
        ({"options": {"mode": "passthru"}}, {}, "passthru"),
        ({}, {"options": {"mode": "passthru"}}, "passthru"),
        ({"driver": "ipvlan"}, {"driver": "ipvlan", "options": {"flag": "vepa"}}, "one mode"),
        ({"driver": "ipvlan"}, {"driver": "ipvlan", "options": {"mode": "l3"}}, "one mode"),
    ],
)
def test_networks_that_exclude_each_other_on_a_parent(first: Any, second: Any, says: str) -> None:
    held = draft(subnets=subnet(ip_range="192.168.7.64/26"), **first)
    with pytest.raises(Conflict, match=says):
        draft(held, subnets=subnet(ip_range="192.168.7.128/26"), **second)


def test_several_ipvlan_networks_share_a_parent() -> None:
    held = draft(driver="ipvlan", options={"mode": "l3"}, subnets=subnet("10.30.0.0/24"))
    made = draft(held, driver="ipvlan", options={"mode": "l3"}, subnets=subnet("10.31.0.0/24"))
    assert made.subnets[0].gateway is None


def test_the_hosts_own_address_is_no_gateway_unless_it_is_reached() -> None:
    with pytest.raises(InvalidRequest, match="own address on eth1"):
        draft(subnets=subnet(gateway="192.168.7.2"))
    assert draft(subnets=subnet(gateway="192.168.7.2"), options={"host_access": "true"})


def test_the_host_speaks_by_its_address_on_the_parent_or_by_a_reserved_one() -> None:
    assert draft(options={"host_access": "true"}).options["host_source"] == "192.168.7.2"
    with pytest.raises(InvalidRequest, match="host_address"):
        draft(options={"parent": "eth2", "host_access": "true"}, subnets=subnet())
    given = {"host_access": "true", "host_address": "192.168.7.3"}
    made = draft(options=given)
    assert made.subnets[0].reserved == {"host_access": "192.168.7.3"}
    with pytest.raises(InvalidRequest, match="none of the network's subnets"):
        draft(options={**given, "host_address": "10.0.0.1"})


def test_an_mtu_above_the_parents_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="1500"):
        draft(options={"parent": "eth2", "mtu": "9000"}, subnets=subnet())
