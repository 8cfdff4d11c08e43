"""What linkspan reads equals what pyroute2 and iproute2 read, object by object."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pyroute2 import IPRoute

from lab import Namespace as Place
from linkspan.dataplane import (
    Address,
    Bridge,
    DataPlane,
    FdbEntry,
    Link,
    Loopback,
    Macvlan,
    Neighbour,
    Other,
    Route,
    Rule,
    Sysctl,
    Tun,
    Veth,
    Vxlan,
)
from linkspan.kernel.observe import observe

ip_commands = """
link set lo up
link add br0 type bridge stp_state 1 forward_delay 400 ageing_time 6000 mcast_snooping 0
link set br0 up alias linkspan:network:1
link add v0 type veth peer name eth0 netns {far}
link set v0 master br0 up promisc on
link set v0 type bridge_slave hairpin on isolated on learning off flood off
link add va mtu 1300 type veth peer name vb
link set va addrgenmode none
link add mac0 link br0 type macvlan mode vepa
link add vx0 type vxlan id 42 local 10.1.0.1 dstport 4789 nolearning
link add vx1 type vxlan id 43 group 239.1.1.1 dev br0 dstport 8472
link add vx6 type vxlan id 44 local fd00::1 remote fd00::2 dstport 4789
link add ifb7 type ifb
tuntap add tun7 mode tun
tuntap add tap7 mode tap
link set vx0 up
link set va up
addr add 10.1.0.1/24 brd + dev br0
addr add 10.1.2.2/24 dev br0 scope link
addr add 10.9.0.1 peer 10.9.0.2/32 dev va noprefixroute
addr add fd00::1/64 dev br0 nodad
addr add fd00::5 peer fd00::6/128 dev br0 nodad
addr add 127.0.0.11/32 dev lo scope host
route add 10.2.0.0/16 via 10.1.0.9 metric 7 mtu 1400
route add default via 10.1.0.9 src 10.1.0.1 proto static
route add 10.3.0.0/16 nexthop via 10.1.0.8 weight 2 nexthop via 10.1.0.9 dev br0 weight 5
route add 10.4.0.0/16 via 192.0.2.1 dev br0 onlink table 100000
route add blackhole 10.5.0.0/16
route add unreachable 10.6.0.0/16 metric 9
route add prohibit 10.7.0.0/16 table 100
route add throw 10.8.0.0/16 table 100
route add 10.10.0.0/16 via inet6 fd00::9 dev br0
-6 route add fd02::/64 via fd00::9 metric 5
-6 route add fd03::/64 nexthop via fd00::8 dev br0 nexthop via fd00::9 dev br0 weight 3
-6 route add blackhole fd04::/64
-6 route add default via fd00::9 dev br0 table 1000
rule add pref 100 from 10.2.0.0/16 to 10.3.0.0/16 iif br0 table 100000
rule add pref 101 fwmark 0x10/0xf0 table 100 protocol 108
rule add pref 102 fwmark 7 oif lo table 100
rule add pref 103 not from 10.2.0.0/16 tos 0x10 unreachable
rule add pref 104 uidrange 1000-1001 ipproto tcp sport 1-9 dport 80 table 100
rule add pref 105 table main suppress_prefixlength 0
rule add pref 106 goto 32766
-6 rule add pref 107 from fd02::/64 table 1000
neigh add 10.1.0.7 lladdr 02:00:00:00:00:07 dev br0 nud permanent
neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 dev br0 nud stale
neigh add fd00::7 lladdr 02:00:00:00:00:07 dev br0
neigh add proxy 10.1.0.99 dev br0
"""

NETWORKS = {"global": 0, "link": 253, "host": 254, "site": 200, "nowhere": 255}


@pytest.fixture
def plane(home: Place, netns: Callable[[str], Place]) -> DataPlane:
    """A namespace full of objects of every kind that this kernel has."""
    far = netns("far")
    for line in ip_commands.strip().splitlines():
        subprocess.run(["ip", *line.format(far=far.name).split()], check=True)
    for words in (
        "fdb add 02:00:00:00:00:17 dev v0 master static",
        "fdb add 02:00:00:00:00:18 dev vx0 dst 192.0.2.1 self permanent",
        "fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.2 self permanent",
        "fdb append 00:00:00:00:00:00 dev vx0 dst 192.0.2.3 self permanent",
    ):
        subprocess.run(["bridge", *words.split()], check=True)
    return observe({"host": None, "far": far.path})


@pytest.fixture
def oracle(plane: DataPlane) -> Iterator[IPRoute]:
    with IPRoute() as opened:
        yield opened


def show(words: str) -> Any:
    return json.loads(subprocess.check_output(["ip", "-j", "-d", "-N", *words.split()]))


def here(plane: DataPlane, kind: type) -> list[Any]:
    return [item for item in plane.of(kind) if item.namespace == "host"]


def test_links(plane: DataPlane, oracle: IPRoute) -> None:
    held = {link.index: link for link in here(plane, Link)}
    names = {row["index"]: row.get("ifname") for row in oracle.get_links()}
    assert {index: link.name for index, link in held.items()} == names
    modes = {row["ifindex"]: row["inet6_addr_gen_mode"] for row in show("link show")}
    for row in oracle.get_links():
        link = held[row["index"]]
        assert link.mac == row.get("address")
        assert link.mtu == row.get("mtu")
        assert link.up == bool(row["flags"] & 1)
        assert link.promiscuous == bool(row["flags"] & 0x100)
        assert link.carrier == bool(row.get("carrier"))
        assert link.alias == (row.get("ifalias") or "")
        assert link.master == names.get(row.get("master"), "")
        assert link.ipv6_link_local == (modes[row["index"]] != "none")
        kind = row.get(("linkinfo", "kind"))
        data = row.get(("linkinfo", "data"))
        match link.kind:
            case Loopback():
                assert kind is None
            case Bridge(stp=stp, forward_delay=delay, ageing=ageing, multicast_snooping=snooping):
                assert kind == "bridge"
                assert stp == bool(data.get("br_stp_state"))
                assert delay == round(data.get("br_forward_delay") / 100)
                assert ageing == round(data.get("br_ageing_time") / 100)
                assert snooping == bool(data.get("br_mcast_snooping"))
                assert link.kind.netfilter_ip == bool(data.get("br_nf_call_iptables"))
                assert link.kind.vlan_filtering == bool(data.get("br_vlan_filtering"))
            case Veth(peer_index=peer):
                assert (kind, peer) == ("veth", row.get("link"))
            case Macvlan(mode=mode, parent=parent):
                assert kind == "macvlan"
                assert mode == data.get("macvlan_mode")
                assert parent == names[row.get("link")]
            case Vxlan():
                assert kind == "vxlan"
                assert link.kind.vni == data.get("vxlan_id")
                assert link.kind.port == data.get("vxlan_port")
                assert link.kind.learning == bool(data.get("vxlan_learning"))
                assert link.kind.local == (data.get("vxlan_local") or data.get("vxlan_local6"))
                assert link.kind.remote == (data.get("vxlan_group") or data.get("vxlan_group6"))
                assert link.kind.parent == names.get(data.get("vxlan_link"))
            case Tun(tap=tap):
                assert kind == "tun"
                assert tap == (link.name == "tap7")
            case Other(name=name):
                assert kind == name == "ifb"
        port = row.get(("linkinfo", "slave_data"))
        assert (link.port is None) == (port is None)
        if link.port is not None:
            assert link.port.hairpin == bool(port.get("IFLA_BRPORT_MODE"))
            assert link.port.isolated == bool(port.get("IFLA_BRPORT_ISOLATED"))
            assert link.port.learning == bool(port.get("IFLA_BRPORT_LEARNING"))
            assert link.port.flood == bool(port.get("IFLA_BRPORT_UNICAST_FLOOD"))
            assert link.port.state == port.get("IFLA_BRPORT_STATE")


def test_peers_are_found_across_namespaces(plane: DataPlane) -> None:
    near = plane.get(("link", "host", "v0"))
    far = plane.get(("link", "far", "eth0"))
    assert isinstance(near, Link)
    assert isinstance(far, Link)
    assert isinstance(near.kind, Veth)
    assert isinstance(far.kind, Veth)
    assert (near.kind.peer_namespace, near.kind.peer_name) == ("far", "eth0")
    assert (far.kind.peer_namespace, far.kind.peer_name) == ("host", "v0")
    assert (near.kind.peer_mac, near.kind.peer_mtu, near.kind.peer_up) == (
        far.mac, far.mtu, far.up,
    )  # fmt: skip
    alone = plane.get(("link", "host", "va"))
    assert isinstance(alone, Link)
    assert isinstance(alone.kind, Veth)
    assert (alone.kind.peer_namespace, alone.kind.peer_name) == ("host", "vb")


def test_a_peer_in_a_namespace_that_is_not_looked_at_has_only_a_number(plane: DataPlane) -> None:
    near = observe({"host": None}).get(("link", "host", "v0"))
    assert isinstance(near, Link)
    assert isinstance(near.kind, Veth)
    assert (near.kind.peer_namespace, near.kind.peer_name) == (None, None)
    assert near.kind.peer_index


def test_addresses(plane: DataPlane, oracle: IPRoute) -> None:
    names = {row["index"]: row.get("ifname") for row in oracle.get_links()}
    expected = set()
    for row in oracle.get_addr():
        far, near = row.get("address"), row.get("local") or row.get("address")
        flags = row.get("flags")
        expected.add(
            (
                names[row["index"]],
                f"{near}/{row['prefixlen']}",
                row["scope"],
                row.get("broadcast"),
                far if far != near else None,
                bool(flags & 0x02),
                bool(flags & 0x200),
            )
        )
    assert {
        (a.link, a.address, NETWORKS[a.scope], a.broadcast, a.peer, a.nodad, a.noprefixroute)
        for a in here(plane, Address)
    } == expected


def test_routes(plane: DataPlane, oracle: IPRoute) -> None:
    names = {row["index"]: row.get("ifname") for row in oracle.get_links()}
    types = {1: "unicast", 2: "local", 3: "broadcast", 4: "anycast", 5: "multicast",
             6: "blackhole", 7: "unreachable", 8: "prohibit", 9: "throw"}  # fmt: skip
    expected = set()
    for row in oracle.get_routes():
        if row["family"] not in (2, 10) or row["flags"] & 0x200:
            continue
        zero = "0.0.0.0" if row["family"] == 2 else "::"
        via = row.get("via")
        hops = tuple(
            (hop.get("gateway"), names[hop["oif"]], hop["hops"] + 1)
            for hop in row.get("multipath") or ()
        )
        metrics = row.get("metrics")
        expected.add(
            (
                f"{row.get('dst') or zero}/{row['dst_len']}",
                row.get("gateway") or (via["addr"] if via else None),
                names.get(row.get("oif")),
                row.get("table"),
                row.get("priority") or 0,
                types[row["type"]],
                row.get("prefsrc"),
                row["scope"],
                row["proto"],
                bool(row["flags"] & 4),
                metrics.get("mtu") if metrics else None,
                hops,
            )
        )
    found = {
        (
            r.destination, r.gateway, r.link, r.table, r.metric, r.type, r.source,
            NETWORKS[r.scope], r.protocol, r.onlink, r.mtu,
            tuple((hop.gateway, hop.link, hop.weight) for hop in r.hops or ()),
        )
        for r in here(plane, Route)
    }  # fmt: skip
    assert found == expected
    assert {r.type for r in here(plane, Route)} >= {
        "unicast", "local", "broadcast", "multicast", "blackhole", "unreachable", "prohibit",
        "throw",
    }  # fmt: skip


def test_rules(plane: DataPlane, oracle: IPRoute) -> None:
    actions = {1: "lookup", 2: "goto", 6: "blackhole", 7: "unreachable", 8: "prohibit"}
    expected = set()
    for family, number in (("ip", 2), ("ip6", 10)):
        for row in oracle.get_rules(family=number):
            mask, suppress = row.get("fwmask"), row.get("suppress_prefixlen")
            source, destination = row.get("src"), row.get("dst")
            expected.add(
                (
                    family,
                    row.get("priority") or 0,
                    f"{source}/{row['src_len']}" if source else None,
                    f"{destination}/{row['dst_len']}" if destination else None,
                    row.get("iifname"),
                    row.get("oifname"),
                    row.get("fwmark"),
                    None if mask == 0xFFFFFFFF else mask,
                    row.get("table") if row["action"] == 1 else None,
                    actions[row["action"]],
                    bool(row["flags"] & 2),
                    row["tos"],
                    row.get("protocol"),
                    None if suppress == 0xFFFFFFFF else suppress,
                    row.get("ip_proto"),
                )
            )
    assert {
        (
            r.family, r.priority, r.source, r.destination, r.input_link, r.output_link, r.mark,
            r.mark_mask, r.table, r.action.split()[0], r.invert, r.tos, r.protocol,
            r.suppress_prefix_length, r.ip_protocol,
        )
        for r in here(plane, Rule)
    } == expected  # fmt: skip


def test_what_only_iproute2_says_of_rules(plane: DataPlane) -> None:
    by_priority = {rule.priority: rule for rule in here(plane, Rule)}
    rows = {row["priority"]: row for row in show("rule show")}
    assert (rows[104]["uid_start"], rows[104]["uid_end"]) == by_priority[104].uid_range
    assert (rows[104]["sport_start"], rows[104]["sport_end"]) == by_priority[104].source_ports
    assert (rows[104]["dport"],) * 2 == by_priority[104].destination_ports
    assert f"goto {rows[106]['goto']}" == by_priority[106].action


def test_neighbours(plane: DataPlane, oracle: IPRoute) -> None:
    names = {row["index"]: row.get("ifname") for row in oracle.get_links()}
    states = {1: "incomplete", 2: "reachable", 4: "stale", 8: "delay", 16: "probe", 32: "failed",
              128: "permanent"}  # fmt: skip
    expected = {
        (names[row["ifindex"]], row.get("dst"), row.get("lladdr"), states[row["state"]], False)
        for family in (2, 10)
        for row in oracle.get_neighbours(family=family)
        if not row["state"] & 0x40
    }
    found = {(n.link, n.address, n.mac, n.state, n.proxy) for n in here(plane, Neighbour)}
    assert found == expected | {("br0", "10.1.0.99", None, None, True)}


def test_forwarding_entries(plane: DataPlane) -> None:
    rows = json.loads(subprocess.check_output(["bridge", "-j", "-d", "fdb", "show"]))
    expected = {
        (row["ifname"], row["mac"], row.get("vlan"), row.get("dst"),
         row["state"] == "permanent", "self" in row["flags"])
        for row in rows
    }  # fmt: skip
    assert {
        (entry.link, entry.mac, entry.vlan, entry.remote, entry.permanent, entry.own)
        for entry in here(plane, FdbEntry)
    } == expected


def test_settings_are_those_of_proc(plane: DataPlane) -> None:
    settings = here(plane, Sysctl)
    assert {setting.path.split("/")[2] for setting in settings if "/conf/" in setting.path} >= {
        "all", "default", "lo", "br0", "v0",
    }  # fmt: skip
    for setting in settings:
        with open("/proc/sys/net/" + setting.path) as file:
            assert setting.value == " ".join(file.read().split()), setting.path


def test_a_vanished_namespace_is_left_out(home: Place) -> None:
    plane = observe({"host": None, "gone": "/run/netns/never-was"})
    assert {item.namespace for item in plane} == {"host"}
