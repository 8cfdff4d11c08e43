"""macvlan and ipvlan as descriptions: what is stated, and what is refused without a kernel."""

from __future__ import annotations

from typing import Any

import pytest

from linkspan.dataplane import HOST, Address, DataPlane, Dummy, Link, Route, Sysctl, Vlan
from linkspan.drivers.records import Endpoint, Network, Sandbox, Subnet
from linkspan.drivers.registry import driver
from linkspan.drivers.sandbox import describe_sandbox, gateway_endpoint, publishing_endpoint
from linkspan.drivers.underlay import split_vlan
from linkspan.errors import InvalidRequest

ID = "ab" * 32


def network(kind: str = "macvlan", **more: Any) -> Network:
    options = {"parent": "eth1", **more.pop("options", {})}
    draft = Network(
        id=ID,
        name="lan",
        driver=kind,
        subnets=more.pop("subnets", (Subnet(subnet="192.168.7.0/24", gateway="192.168.7.1"),)),
        options=options,
        **more,
    )
    return driver(kind).validate(draft)


def endpoint(number: int = 0, **more: Any) -> Endpoint:
    values: dict[str, Any] = {
        "id": f"e{number}",
        "network": ID,
        "interface": f"eth{number}",
        "ipv4": "192.168.7.64/24",
        "mac": "02:00:00:00:00:01",
        "gateway": "192.168.7.1",
    }
    return Endpoint(**{**values, **more})


def plane(made: Network, *endpoints: Endpoint) -> DataPlane:
    sandbox = Sandbox(id="box", name="box", netns="/run/x", state="up", endpoints=endpoints)
    return describe_sandbox(sandbox, {ID: made})


def link_of(found: DataPlane) -> Link:
    item = found.get(("link", "box", "eth0"))
    assert isinstance(item, Link)
    return item


@pytest.mark.parametrize("mode", ["bridge", "private", "vepa"])
def test_a_macvlan_link_is_stated_in_the_sandbox_with_its_parent_in_the_host(mode: str) -> None:
    link = link_of(plane(network(options={"mode": mode}), endpoint()))
    kind: Any = link.kind
    assert (kind.parent, kind.parent_namespace, kind.mode) == ("eth1", HOST, mode)
    assert (link.mac, link.up, link.alias) == ("02:00:00:00:00:01", True, "linkspan:endpoint:e0")
    assert link.mtu is None


def test_in_passthru_the_mac_is_the_parents() -> None:
    assert link_of(plane(network(options={"mode": "passthru"}), endpoint())).mac is None


@pytest.mark.parametrize(
    ("options", "mode", "flag"),
    [
        ({}, "l2", "bridge"),
        ({"mode": "l3"}, "l3", "bridge"),
        ({"ipvlan_mode": "l3s", "ipvlan_flag": "vepa"}, "l3s", "vepa"),
        ({"flag": "private"}, "l2", "private"),
    ],
)
def test_ipvlan_has_mode_and_flag_under_both_names(
    options: dict[str, str], mode: str, flag: str
) -> None:
    link = link_of(plane(network("ipvlan", options=options), endpoint()))
    kind: Any = link.kind
    assert (kind.mode, kind.flag, kind.parent_namespace) == (mode, flag, HOST)
    assert link.mac is None


def test_docker_calls_the_mode_otherwise() -> None:
    assert network(options={"macvlan_mode": "vepa"}).options["mode"] == "vepa"
    with pytest.raises(InvalidRequest, match="twice"):
        network(options={"macvlan_mode": "vepa", "mode": "vepa"})


def test_a_routed_parent_gives_a_device_route() -> None:
    found = plane(
        network("ipvlan", options={"mode": "l3"}), endpoint(gateway=None, device_route=True)
    )
    route = found.get(("route", "box", 254, "0.0.0.0/0", 0, None))
    assert isinstance(route, Route)
    assert (route.gateway, route.link, route.scope) == (None, "eth0", "link")


def test_routers_on_the_segment_announce_nothing_to_it() -> None:
    four = {s.path: s.value for s in plane(network(), endpoint()).of(Sysctl)}
    both = {s.path: s.value for s in plane(network(), endpoint(ipv6="fd00::2/64")).of(Sysctl)}
    assert four == {"ipv6/conf/eth0/disable_ipv6": "1"}
    assert both == {"ipv6/conf/eth0/accept_ra": "0"}


def test_the_host_has_routes_to_exactly_the_members() -> None:
    made = network(options={"host_access": "true", "host_source": "192.168.7.2"})
    found = plane(made, endpoint(ipv6="fd00::2/64"))
    routes = [r for r in found.of(Route) if r.namespace == HOST]
    assert [(r.destination, r.source, r.link) for r in routes] == [
        ("192.168.7.64/32", "192.168.7.2", f"lsh-{ID[:10]}"),
        ("fd00::2/128", None, f"lsh-{ID[:10]}"),
    ]
    assert not [r for r in plane(network(), endpoint()).of(Route) if r.namespace == HOST]


def test_the_hosts_link_has_an_address_where_one_was_stated() -> None:
    made = network(options={"host_access": "true", "host_address": "192.168.7.3, fd00::3"})
    found = driver("macvlan").describe_network(made)
    assert {a.address for a in found.of(Address)} == {"192.168.7.3/32", "fd00::3/128"}


@pytest.mark.parametrize(
    ("kind", "options", "says"),
    [
        ("macvlan", {"mode": "l2"}, "bridge, private, vepa, passthru"),
        ("ipvlan", {"mode": "bridge"}, "l2, l3, l3s"),
        ("macvlan", {"flag": "vepa"}, "no option 'flag'"),
        ("macvlan", {"dad": "often"}, "probe"),
        ("macvlan", {"host_access": "true", "mode": "private"}, "not private"),
        ("macvlan", {"host_address": "192.168.7.3"}, "host_access=true"),
        ("ipvlan", {"host_access": "true"}, "host_address=ADDRESS"),
        ("macvlan", {"host_access": "true", "host_address": "10.0.0.1,10.0.0.2"}, "one address"),
    ],
)
def test_what_cannot_be_is_refused(kind: str, options: dict[str, str], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        network(kind, options=options)


def test_a_vlan_link_belongs_to_the_parent_and_not_to_one_network() -> None:
    one = network(options={"parent": "eth1.20"}, interface="eth1.20")
    (link,) = driver("macvlan").describe_network(one).of(Link)
    assert link.kind == Vlan(parent="eth1", vlan=20)
    assert link.alias == "linkspan:parent:eth1.20"
    assert not list(driver("macvlan").describe_network(network()).of(Link))


def test_without_a_parent_there_is_a_dummy() -> None:
    made = network(options={"parent": "lsd-1"}, interface="lsd-1")
    (link,) = (
        driver("ipvlan" if made.driver == "ipvlan" else "macvlan").describe_network(made).of(Link)
    )
    assert (link.name, link.kind) == ("lsd-1", Dummy())


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("eth1.20", ("eth1", 20)),
        ("br.lan.4094", ("br.lan", 4094)),
        ("eth1.4095", None),
        ("eth1.0", None),
        ("eth1", None),
        (".20", None),
    ],
)
def test_names_of_vlan_links(name: str, parts: Any) -> None:
    assert split_vlan(name) == parts


def test_ports_lead_to_the_endpoint_that_hangs_on_the_host() -> None:
    on_segment = endpoint(0, gateway_priority=5)
    hung = endpoint(1, host_interface="lsv1", gateway="10.20.0.1", ipv4="10.20.0.2/24")
    box = Sandbox(id="box", name="box", endpoints=(on_segment, hung))
    assert gateway_endpoint(box) == on_segment
    assert publishing_endpoint(box) == hung
    alone = Sandbox(id="box", name="box", endpoints=(on_segment,))
    assert publishing_endpoint(alone) is None
