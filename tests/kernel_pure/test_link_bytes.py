"""Links on the wire, against the bytes of pyroute2: also kinds that this kernel lacks."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg

from linkspan.dataplane import (
    Bridge,
    BridgePort,
    Dummy,
    Ipvlan,
    Link,
    Loopback,
    Macvlan,
    Other,
    Physical,
    Tun,
    Veth,
    Vlan,
    Vxlan,
)
from linkspan.errors import InvalidRequest
from linkspan.kernel.netlink import links, seenlinks, wire


def index_of(name: str) -> int:
    return {"eth0": 7, "br0": 8}[name]


def read_by_pyroute2(message: bytes) -> Any:
    decoded = ifinfmsg(message)
    decoded.decode()
    return decoded


def bytes_of_pyroute2(attributes: list[Any], flags: int = 0, index: int = 9) -> bytes:
    message = ifinfmsg()
    message["index"], message["flags"] = index, flags
    message["attrs"] = [("IFLA_IFNAME", "x0"), ("IFLA_MTU", 1500), *attributes]
    message.encode()
    return bytes(message.data[wire.HEADER_SIZE :])


def info(kind: str, *data: tuple[str, Any]) -> list[Any]:
    rows = [("IFLA_INFO_KIND", kind)]
    if data:
        rows.append(("IFLA_INFO_DATA", {"attrs": list(data)}))
    return [("IFLA_LINKINFO", {"attrs": rows})]


KINDS = [
    (Ipvlan(mode="l3s"), "ipvlan", {"IFLA_IPVLAN_MODE": 2}),
    (Ipvlan(mode="l2"), "ipvlan", {"IFLA_IPVLAN_MODE": 0}),
    (Vlan(vlan=100), "vlan", {"IFLA_VLAN_ID": 100}),
    (Macvlan(mode="passthru"), "macvlan", {"IFLA_MACVLAN_MODE": "passthru"}),
    (Vxlan(vni=42, local="192.0.2.1", remote="192.0.2.2", port=4789, learning=False), "vxlan",
     {"IFLA_VXLAN_ID": 42, "IFLA_VXLAN_LOCAL": "192.0.2.1", "IFLA_VXLAN_GROUP": "192.0.2.2",
      "IFLA_VXLAN_PORT": 4789, "IFLA_VXLAN_LEARNING": 0}),
    (Vxlan(vni=42, local="fd00::1", remote="fd00::2", port=1, learning=True), "vxlan",
     {"IFLA_VXLAN_ID": 42, "IFLA_VXLAN_LOCAL6": "fd00::1", "IFLA_VXLAN_GROUP6": "fd00::2",
      "IFLA_VXLAN_PORT": 1, "IFLA_VXLAN_LEARNING": 1}),
    (Dummy(), "dummy", {}),
    (Other(name="wireguard"), "wireguard", {}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "data"), KINDS, ids=lambda x: str(x)[:30])
def test_what_we_write_pyroute2_reads(kind: Any, name: str, data: dict[str, Any]) -> None:
    (message,) = links.create(Link(name="x0", kind=kind), index_of)
    decoded = read_by_pyroute2(message)
    linkinfo = decoded.get_attr("IFLA_LINKINFO")
    assert linkinfo.get_attr("IFLA_INFO_KIND") == name
    found = linkinfo.get_attr("IFLA_INFO_DATA")
    held = {key: found.get_attr(key) for key in data} if data else {}
    assert held == data


@pytest.mark.parametrize(("kind", "name", "data"), KINDS, ids=lambda x: str(x)[:30])
def test_what_pyroute2_writes_we_read(kind: Any, name: str, data: dict[str, Any]) -> None:
    payload = bytes_of_pyroute2(info(name, *data.items()))
    assert seenlinks.decode(payload, "host").link.kind == kind


def test_a_parent_is_a_number() -> None:
    for kind in (Macvlan(parent="eth0"), Ipvlan(parent="eth0"), Vlan(parent="eth0", vlan=5)):
        (message,) = links.create(Link(name="x0", kind=kind), index_of)
        assert read_by_pyroute2(message).get_attr("IFLA_LINK") == 7
    (message,) = links.create(Link(name="x0", kind=Vxlan(parent="eth0", vni=1)), index_of)
    data = read_by_pyroute2(message).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert data.get_attr("IFLA_VXLAN_LINK") == 7


def test_a_pair_is_made_with_its_far_end_in_another_namespace() -> None:
    kind = Veth(peer_name="eth0", peer_mac="02:00:00:00:00:09", peer_mtu=1400, peer_up=True)
    first, *_ = links.create(Link(name="v1", kind=kind, mtu=1400, master="br0"), index_of, 33)
    decoded = read_by_pyroute2(first)
    assert decoded.get_attr("IFLA_MASTER") == 8
    data = decoded.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    peer = data.get_attr("VETH_INFO_PEER")
    assert peer.get_attr("IFLA_IFNAME") == "eth0"
    assert peer.get_attr("IFLA_ADDRESS") == "02:00:00:00:00:09"
    assert peer.get_attr("IFLA_MTU") == 1400
    assert peer.get_attr("IFLA_NET_NS_FD") == 33


def test_a_link_is_brought_up_at_once_unless_it_must_have_no_link_local_address() -> None:
    (message,) = links.create(Link(name="x0", kind=Bridge(), up=True), index_of)
    assert read_by_pyroute2(message)["flags"] == 1
    made, settings, up = links.create(
        Link(name="x0", kind=Bridge(), up=True, ipv6_link_local=False), index_of
    )
    assert [read_by_pyroute2(m)["flags"] for m in (made, settings, up)] == [0, 0, 1]


def test_settings_follow_in_a_message_of_their_own() -> None:
    link = Link(name="x0", kind=Bridge(), alias="linkspan:x", port=BridgePort(hairpin=True))
    made, settings = links.create(link, index_of)
    assert read_by_pyroute2(made).get_attr("IFLA_IFALIAS") is None
    decoded = read_by_pyroute2(settings)
    assert decoded.get_attr("IFLA_IFALIAS") == "linkspan:x"
    port = decoded.get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_SLAVE_DATA")
    assert port.get_attr("IFLA_BRPORT_MODE") == 1


def test_a_change_says_only_what_differs() -> None:
    old = Link(name="x0", kind=Bridge(stp=False, ageing=300), mtu=1500, up=True, master="br0",
               alias="a", port=BridgePort(hairpin=True), ipv6_link_local=False)  # fmt: skip
    assert links.change(old, old, index_of) == []
    (message,) = links.change(old, Link(name="x0", mtu=1400), index_of)
    decoded = read_by_pyroute2(message)
    assert {name for name, _ in decoded["attrs"]} == {"IFLA_IFNAME", "IFLA_MTU"}
    (message,) = links.change(old, Link(name="x0", kind=Bridge(stp=True, ageing=300)), index_of)
    data = read_by_pyroute2(message).get_attr("IFLA_LINKINFO").get_attr("IFLA_INFO_DATA")
    assert [name for name, _ in data["attrs"]] == ["IFLA_BR_STP_STATE"]
    (message,) = links.change(old, Link(name="x0", up=False), index_of)
    assert read_by_pyroute2(message)["flags"] == 0
    assert read_by_pyroute2(message)["change"] == 1
    (message,) = links.change(old, Link(name="x0", master=""), index_of)
    assert read_by_pyroute2(message).get_attr("IFLA_MASTER") == 0


def test_a_port_that_moves_gets_its_settings_again() -> None:
    old = Link(name="x0", master="eth0", port=BridgePort(hairpin=True))
    new = Link(name="x0", master="br0", port=BridgePort(hairpin=True))
    moved, settings = links.change(old, new, index_of)
    assert read_by_pyroute2(moved).get_attr("IFLA_MASTER") == 8
    assert read_by_pyroute2(settings).get_attr("IFLA_LINKINFO") is not None


def test_links_without_a_kind() -> None:
    payload = bytes_of_pyroute2([("IFLA_ADDRESS", "52:54:00:00:00:01")], flags=1)
    seen = seenlinks.decode(payload, "host")
    assert seen.link.kind == Physical()
    assert (seen.link.mac, seen.link.up, seen.index) == ("52:54:00:00:00:01", True, 9)
    assert seenlinks.decode(bytes_of_pyroute2([], flags=8), "host").link.kind == Loopback()


def test_the_flag_of_an_ipvlan_which_pyroute2_does_not_know() -> None:
    for flag, number in (("bridge", 0), ("private", 1), ("vepa", 2)):
        kind = Ipvlan(mode="l3", flag=flag)
        (message,) = links.create(Link(name="x0", kind=kind, mtu=1500), index_of)
        assert wire.attribute_u16(2, number) in message  # IFLA_IPVLAN_FLAGS, if_link.h
        assert seenlinks.decode(message[wire.HEADER_SIZE :], "host").link.kind == kind


def test_a_tap_is_told_from_a_tun() -> None:
    for number, tap in ((1, False), (2, True)):
        payload = bytes_of_pyroute2(info("tun", ("IFLA_TUN_TYPE", number)))
        assert seenlinks.decode(payload, "host").link.kind == Tun(tap=tap)


@pytest.mark.parametrize("kind", [Macvlan(mode="bridged"), Ipvlan(mode="l4"), Ipvlan(flag="x")])
def test_a_mode_that_does_not_exist_is_refused_by_name(kind: Any) -> None:
    with pytest.raises(InvalidRequest, match="use one of"):
        links.create(Link(name="x0", kind=kind), index_of)


def test_what_cannot_be_made_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="physical link cannot be made"):
        links.create(Link(name="x0", kind=Physical()), index_of)
