"""Routes and rules of the rarer kinds: what is read is what `ip` shows."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from lab import Namespace
from linkspan.analysis import Disposition, Flow, View, trace_flow
from linkspan.dataplane import HOST, DataPlane, NextHop, Route, Rule
from linkspan.kernel.host import observe_host

COMMANDS = """
link set lo up
link add br0 type bridge
link set br0 up
addr add 10.1.0.1/24 dev br0
addr add fd00::1/64 dev br0 nodad
neigh add 10.1.0.8 lladdr 02:00:00:00:00:08 dev br0
neigh add 10.1.0.9 lladdr 02:00:00:00:00:09 dev br0
route add 10.40.0.0/16 tos 0x10 via 10.1.0.8
route add 10.40.0.0/16 via 10.1.0.9
-6 route add fd05::/64 via fd00::8
-6 route add fd05::/64 from fd00::/64 via fd00::9
nexthop add id 5 via 10.1.0.8 dev br0
nexthop add id 6 via 10.1.0.9 dev br0
nexthop add id 7 group 5,2/6
nexthop add id 8 blackhole
route add 10.41.0.0/16 nhid 5
route add 10.42.0.0/16 nhid 7
route add 10.43.0.0/16 nhid 8
link add vx0 type vxlan external dstport 4789
link set vx0 up
route add 10.45.0.0/16 encap ip id 7 dst 192.0.2.1 dev vx0
rule add pref 300 l3mdev
rule add pref 301 tun_id 7 table 100
rule add pref 302 suppress_ifgroup 5 table main
"""


@pytest.fixture
def place(home: Namespace) -> Namespace:
    for line in COMMANDS.strip().splitlines():
        subprocess.run(["ip", *line.split()], check=True)
    return home


def look() -> DataPlane:
    return observe_host({HOST: None}).plane


def show(words: str) -> list[Any]:
    rows = json.loads(subprocess.check_output(["ip", "-j", "-d", *words.split()]))
    assert isinstance(rows, list)
    return rows


def to(plane: DataPlane, destination: str) -> list[Route]:
    return [one for one in plane.of(Route) if one.destination == destination]


def test_a_route_for_one_type_of_service(place: Namespace) -> None:
    found = {route.tos: route.gateway for route in to(look(), "10.40.0.0/16")}
    shown = show("route show 10.40.0.0/16")
    assert found == {int(row.get("tos", "0"), 16): row["gateway"] for row in shown}
    assert found == {0x10: "10.1.0.8", 0: "10.1.0.9"}


def test_a_route_for_one_source(place: Namespace) -> None:
    found = {route.source_prefix: route.gateway for route in to(look(), "fd05::/64")}
    shown = show("-6 route show fd05::/64")
    assert found == {row.get("from"): row["gateway"] for row in shown}
    assert found == {None: "fd00::8", "fd00::/64": "fd00::9"}


@pytest.mark.parametrize("compatible", ["1", "0"])
def test_nexthop_objects_say_the_way(
    place: Namespace, compatible: str, sysctl: Callable[[str, str], None]
) -> None:
    sysctl("ipv4/nexthop_compat_mode", compatible)
    plane = look()
    (single,), (several,), (hole,) = (
        to(plane, f"10.{number}.0.0/16") for number in (41, 42, 43)
    )  # fmt: skip
    assert (single.nexthop, single.gateway, single.link) == (5, "10.1.0.8", "br0")
    assert several.nexthop == 7
    assert several.hops == (
        NextHop(gateway="10.1.0.8", link="br0", weight=2),
        NextHop(gateway="10.1.0.9", link="br0", weight=1),
    )
    assert (hole.nexthop, hole.type) == (8, "blackhole")


@pytest.fixture
def sysctl(place: Namespace) -> Callable[[str, str], None]:
    def write(path: str, value: str) -> None:
        command = f"echo {value} > /proc/sys/net/{path}"
        subprocess.run(["sh", "-c", command], check=True)

    return write


def test_a_route_that_wraps_packets(place: Namespace) -> None:
    (route,) = to(look(), "10.45.0.0/16")
    (row,) = show("route show 10.45.0.0/16")
    assert (route.encap, route.link) == (row["encap"], row["dev"]) == ("ip", "vx0")


def test_rules_with_tests_of_other_kinds(place: Namespace) -> None:
    rules = {rule.priority: rule for rule in look().of(Rule) if rule.family == "ip"}
    rows = {row["priority"]: row for row in show("rule show")}
    assert rules.keys() == rows.keys()
    assert rules[300].l3mdev
    assert "l3mdev" in json.dumps(rows[300])
    assert (rules[301].others, rules[301].table) == (("tun_id 7",), 100)
    assert rules[302].suppress_group == 5
    assert str(rows[302]["suppress_ifgroup"]) in ("5", "0x5")


# What a walk makes of them ------------------------------------------------------------


def walk(destination: str, source: str | None = None) -> Any:
    flow = Flow(destination=destination, destination_port=80, source=source)
    return trace_flow(View(look()), HOST, flow)


def text_of(answer: Any) -> str:
    return "\n".join(f"{trace.reason} {trace.hops} {trace.assumed}" for trace in answer.traces)


def test_a_walk_takes_the_route_for_all_types_of_service(place: Namespace) -> None:
    assert "gateway 10.1.0.9" in text_of(walk("10.40.0.1"))
    shown = show("route get 10.40.0.1")
    assert shown[0]["gateway"] == "10.1.0.9"


def test_a_walk_takes_the_route_for_its_source(place: Namespace) -> None:
    shown = show("-6 route get fd05::1 from fd00::1")
    assert shown[0]["gateway"] == "fd00::9"
    assert "gateway fd00::9" in text_of(walk("fd05::1", "fd00::1"))


def test_a_walk_does_not_follow_what_is_wrapped(place: Namespace) -> None:
    answer = walk("10.45.0.1")
    assert answer.first.disposition is Disposition.UNKNOWN
    assert "wraps packets (ip)" in answer.first.reason


def test_a_walk_says_what_a_rule_depends_on(place: Namespace) -> None:
    assert "tun_id 7" in text_of(walk("10.40.0.1"))
