"""The map of a data plane: everything once, where a network engineer looks for it."""

from __future__ import annotations

import time
from collections import Counter

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from captures import Capture
from dataplane.planes import planes
from linkspan.analysis import View
from linkspan.analysis.mapping import EdgeKind, Graph, draw_map, is_gateway, name_network
from linkspan.analysis.maptree import Branch, lay_out, shorten_all
from linkspan.dataplane import (
    Address,
    Bridge,
    DataPlane,
    FdbEntry,
    Link,
    Loopback,
    Macvlan,
    Namespace,
    Object,
    Physical,
    Route,
    Veth,
    Vlan,
    Vxlan,
)


def cable(
    namespace: str, name: str, far: str, far_name: str, master: str = "", far_master: str = ""
) -> list[Object]:
    """Both ends of a veth pair, up."""
    ends = ((namespace, name, far, far_name, master), (far, far_name, namespace, name, far_master))
    return [
        Link(
            namespace=place, name=link, master=held, up=True, carrier=True, mtu=1500,
            kind=Veth(peer_name=other, peer_namespace=there),
        )
        for place, link, there, other, held in ends
    ]  # fmt: skip


def link(name: str, kind: object, namespace: str = "host", **more: object) -> Link:
    return Link(namespace=namespace, name=name, kind=kind, **{"up": True, "master": "", **more})  # type: ignore[arg-type]


def small_host() -> list[Object]:
    """An uplink, a bridge with two containers, one of them on a second bridge as well."""
    return [
        link("lo", Loopback()),
        link("eth0", Physical()),
        Address(link="eth0", address="192.0.2.10/24"),
        Route(destination="0.0.0.0/0", gateway="192.0.2.1", link="eth0"),
        link("br0", Bridge()),
        Address(link="br0", address="10.20.0.1/24"),
        link("br1", Bridge()),
        *cable("host", "p1", "shop", "eth0", master="br0"),
        *cable("host", "p2", "db", "eth0", master="br0"),
        *cable("host", "p3", "db", "eth1", master="br1"),
        Address(namespace="shop", link="eth0", address="10.20.0.3/24"),
        Address(namespace="db", link="eth0", address="10.20.0.2/24"),
    ]


def map_of(objects: list[Object], *containers: dict[str, object]) -> Graph:
    return draw_map(View(DataPlane(objects)), containers)


def lines_of(branches: tuple[Branch, ...], depth: int = 0) -> list[str]:
    """The tree as indented names: "p1=shop/eth0", "shop/mac0", "br0", "[shop]" or "+3"."""
    found = []
    for branch in branches:
        if branch.more:
            text = f"+{branch.more}"
        elif branch.far is not None:
            text = "/".join(branch.far.end)
            if branch.link is not None:
                text = f"{branch.link.link.name}={text}"
        elif branch.link is not None:
            text = branch.link.link.name
        else:
            assert branch.entered is not None
            text = f"[{branch.entered.name}]"
        found.append("  " * depth + text)
        found += lines_of(branch.children, depth + 1)
    return found


def ends_of(branches: tuple[Branch, ...]) -> Counter[tuple[str, str]]:
    found: Counter[tuple[str, str]] = Counter()
    for branch in branches:
        found.update(branch.ends)
        found += ends_of(branch.children)
    return found


def test_a_small_host():
    trees = lay_out(map_of(small_host()))
    assert lines_of(trees) == [
        "[host]", "  eth0", "  br0", "    p2=db/eth0", "    p1=shop/eth0", "  br1",
        "    p3=db/eth1", "  lo",
    ]  # fmt: skip


def test_what_hangs_on_what():
    objects = [
        *small_host(),
        link("eth0.7", Vlan(parent="eth0", vlan=7)),
        link("eth0.8", Vlan(parent="eth0", vlan=8), master="br1"),
        link("mac0", Macvlan(parent="eth0", mode="bridge", parent_namespace="host"), "press"),
        link("vx", Vxlan(vni=7, parent="eth0", remote="192.0.2.20"), master="br1"),
        FdbEntry(link="vx", mac="02:00:00:00:00:09", remote="192.0.2.30", own=True),
    ]
    graph = map_of(objects)
    assert lines_of(lay_out(graph)) == [
        "[host]", "  eth0", "    eth0.7", "    press/mac0", "  br0", "    p2=db/eth0",
        "    p1=shop/eth0", "  br1", "    eth0.8", "    vx", "    p3=db/eth1", "  lo",
    ]  # fmt: skip
    remotes = [remote.address for remote in graph.links["host", "vx"].remotes]
    assert remotes == ["192.0.2.20", "192.0.2.30"]


def test_bridges_that_a_cable_joins_show_its_ends_at_each():
    objects = [
        link("br0", Bridge()), link("br1", Bridge()), *cable("host", "a", "host", "b", "br0", "br1")
    ]  # fmt: skip
    graph = map_of(objects)
    assert lines_of(lay_out(graph)) == ["[host]", "  br0", "    a", "  br1", "    b"]
    assert [edge.kind for edge in graph.edges].count(EdgeKind.CABLE) == 1


def test_a_container_in_a_containers_namespace():
    objects = [
        *small_host(),
        link("inner", Bridge(), "shop"),
        *cable("shop", "q1", "nested", "eth0", master="inner"),
    ]
    assert "\n".join(lines_of(lay_out(map_of(objects)))).count(
        "p1=shop/eth0\n      inner\n        q1=nested/eth0"
    )


def test_a_nodes_own_bridge_may_take_the_cable_to_the_host():
    objects = [
        link("br0", Bridge()),
        link("inner", Bridge(), "node"),
        *cable("host", "p1", "node", "eth0", master="br0", far_master="inner"),
        *cable("node", "q1", "pod", "eth0", master="inner"),
    ]
    graph = map_of(objects)
    assert lines_of(lay_out(graph)) == [
        "[host]", "  br0", "    p1=node/eth0", "      inner", "        q1=pod/eth0",
    ]  # fmt: skip
    assert graph.ports["node", "inner"] == (("node", "eth0"), ("node", "q1"))


def test_what_nothing_joins_comes_last_and_islands_have_their_own_hub():
    objects = [
        Namespace(namespace="alone"), link("lo", Loopback(), "alone"),
        *cable("pod", "eth0", "node", "p1", far_master="br0"), link("br0", Bridge(), "node"),
        *small_host(),
    ]  # fmt: skip
    trees = lay_out(map_of(objects))
    assert [(tree.entered.name, tree.joined) for tree in trees if tree.entered] == [
        ("host", True), ("node", True), ("alone", False)
    ]  # fmt: skip
    assert lines_of(trees[1:2]) == ["[node]", "  br0", "    p1=pod/eth0"]


def test_what_is_referred_to_and_not_there_is_missing():
    objects = [
        link("p1", Veth(), master="br9"),
        link("mac0", Macvlan(parent="if7")),
        link("self", Bridge(), master="self"),
    ]
    links = map_of(objects).links
    assert links["host", "p1"].missing == ("master br9", "other end")
    assert links["host", "mac0"].missing == ("parent if7",)
    assert links["host", "self"].missing == ("master self",)


def test_a_cable_to_nobody_with_the_default_route_leads_outside():
    objects = [
        link("up0", Veth(), master="br0"), link("br0", Bridge()),
        Route(destination="::/0", gateway="fe80::1", link="br0"),
        Address(link="br0", address="192.0.2.10/24"),
    ]  # fmt: skip
    graph = map_of(objects)
    assert graph.links["host", "up0"].outside
    assert graph.links["host", "br0"].gateways == ("fe80::1",)
    assert not is_gateway(graph, ("host", "br0"))
    assert not map_of([link("up0", Veth())]).links["host", "up0"].outside


def test_tunnels_find_each_other():
    nodes = [
        thing
        for name, own, other in (("a", "192.0.2.1", "192.0.2.2"), ("b", "192.0.2.2", "192.0.2.1"))
        for thing in (
            link("eth0", Physical(), name),
            Address(namespace=name, link="eth0", address=f"{own}/24"),
            link("vx", Vxlan(vni=5, local=own, remote=other, parent="eth0"), name),
        )
    ]
    graph = map_of(nodes)
    assert [tree.joined for tree in lay_out(graph)] == [True, True], "each leads outside"
    tunnels = [edge for edge in graph.edges if edge.kind is EdgeKind.TUNNEL]
    assert [(edge.source, edge.target) for edge in tunnels] == [
        (("a", "vx"), ("b", "vx")), (("b", "vx"), ("a", "vx"))
    ]  # fmt: skip


def test_routed_containers_have_their_routes_at_the_cable():
    objects = [
        *cable("host", "p1", "web", "eth0"),
        Route(destination="10.9.0.2/32", link="p1", protocol=4),
        Route(destination="10.9.0.0/24", link="p1", protocol=2),
        Address(link="p1", address="10.8.0.1/24"),
        Route(destination="10.8.0.0/24", link="p1"),
        Route(destination="fe80::/64", link="p1"),
    ]
    assert map_of(objects).links["host", "p1"].routes == ("10.9.0.2/32",)


def test_a_bridge_has_the_name_of_the_network_that_all_its_containers_are_on():
    shop = {"namespace": "shop", "name": "shop", "networks": ("web",)}
    db = {"namespace": "db", "name": "db", "networks": ("web", "back")}
    graph = map_of(small_host(), shop, db)
    assert name_network(graph, ("host", "br0")) == "web"
    assert name_network(graph, ("host", "br1")) is None, "web or back: nobody knows"
    assert (
        name_network(
            map_of(small_host(), {**shop, "networks": ("web", "lan")}, db), ("host", "br0")
        )
        is None
    )


def crowd(count: int) -> list[Object]:
    """Containers on one bridge; the one numbered 17 is down inside."""
    objects: list[Object] = [link("br0", Bridge())]
    for number in range(count):
        near, far = cable("host", f"p{number}", f"c{number}", "eth0", master="br0")
        if number == 17:
            far = msgspec.structs.replace(far, up=False)
        address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}/8"
        objects += [near, far, Address(namespace=f"c{number}", link="eth0", address=address)]
    return objects


def test_of_many_alike_a_few_are_shown_and_the_odd_one_is_among_them():
    trees = lay_out(map_of(crowd(300)))
    shown = lines_of(shorten_all(trees))
    assert shown == [
        "[host]", "  br0",
        *(f"    p{n}=c{n}/eth0" for n in range(5)), "    +294",
        "    p17=c17/eth0",
    ]  # fmt: skip
    assert len(ends_of(trees)) == 601


@st.composite
def tangles(draw: st.DrawFn) -> DataPlane:
    """Links that refer to each other in any way, also in ways that no kernel has."""
    places = ["host", "a", "b", "c"]
    ends = [(place, f"l{number}") for place in places for number in range(draw(st.integers(0, 4)))]
    objects: list[Object] = [Namespace(namespace=place) for place in places]
    for namespace, name in ends:
        there, other = draw(st.sampled_from(ends))
        master = draw(st.sampled_from(["", "gone", *(n for p, n in ends if p == namespace)]))
        kind = draw(
            st.sampled_from(
                (
                    Bridge(), Physical(), Veth(), Veth(peer_name=other, peer_namespace=there),
                    Macvlan(parent=other, parent_namespace=there), Vlan(parent=other),
                    Vxlan(parent=other, vni=1, remote="192.0.2.1"),
                )
            )
        )  # fmt: skip
        objects.append(Link(namespace=namespace, name=name, kind=kind, master=master))
    return DataPlane(objects)


@settings(max_examples=100, deadline=None)
@given(st.one_of(planes(), tangles()))
def test_every_link_is_in_the_tree_once(plane: DataPlane):
    view = View(plane)
    graph = draw_map(view)
    there = {(place, name) for place in view.namespaces for name in view.place(place).links}
    assert {(item.namespace, item.name) for item in plane.of(Link)} <= there
    assert set(graph.links) == there
    trees = lay_out(graph)
    assert ends_of(trees) == Counter(dict.fromkeys(there, 1))
    roots = [tree.entered.name for tree in trees if tree.entered and tree.home]
    assert len(roots) == len(set(roots))


def test_namespaces_nested_without_end_are_all_shown():
    objects: list[Object] = []
    for number in range(200):
        objects += cable(f"n{number}", "down", f"n{number + 1}", "up")
    trees = lay_out(map_of(objects))
    assert ends_of(trees) == Counter(dict.fromkeys(map_of(objects).links, 1))
    assert len(trees) > 1


def test_a_thousand_containers_are_laid_out_at_once():
    graph = map_of(crowd(1000))
    begun = time.process_time()
    assert len(lay_out(graph)) == 1
    assert time.process_time() - begun < 2


def test_hosts_that_others_made():
    docker = map_of(Capture("dockerd-29.7.2-nftables").objects)
    lines = lines_of(lay_out(docker))
    assert lines[:2] == ["[host]", "  lan0"]
    assert sorted(line.split("=")[1] for line in lines if "=" in line) == [
        "api/eth0", "api/eth1", "db/eth0", "legacy/eth0", "ni/eth0", "rt/eth0", "web/eth0"
    ]  # fmt: skip
    assert not any(mapped.missing or mapped.routes for mapped in docker.links.values())
    assert docker.links["host", "lan0"].gateways == ("192.0.2.20",)
    flannel = map_of(Capture("flannel-0.28.9-vxlan-nft").objects)
    tunnels = [edge for edge in flannel.edges if edge.kind is EdgeKind.TUNNEL]
    assert {(edge.source, edge.target) for edge in tunnels} == {
        (("node1", "flannel.1"), ("node2", "flannel.1")),
        (("node2", "flannel.1"), ("node1", "flannel.1")),
    }
    assert flannel.links["node1", "flannel.1"].routes == ("10.77.41.0/24",)
