"""ipvlan, VLAN links and dummy parents, on a kernel that has them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lab import Lab, Refused
from lab.places import run_ip
from lab.segment import HOST, NEIGHBOUR, RANGE, ROUTER, SUBNET, Segment

DOCS = Path(__file__).resolve().parents[2] / "docs/networks/ipvlan.md"
BEGIN, END = "<!-- reach: begin -->\n", "<!-- reach: end -->\n"
SECOND = {"subnet": SUBNET, "gateway": ROUTER, "ip_range": "192.168.7.128/26"}
REACHED = {
    "l2": "yes yes no yes",
    "l3, neighbours with a route": "yes yes no yes",
}


@pytest.fixture(scope="module")
def whole() -> Iterator[Segment]:
    """One for all: in an emulated machine a daemon takes long to start."""
    with Lab() as lab:
        yield Segment(lab)


@pytest.fixture
def segment(whole: Segment) -> Iterator[Segment]:
    """The segment without networks of ours, before and after."""
    yield whole
    daemon = whole.daemon
    for sandbox in daemon.get("/v1/sandboxes"):
        daemon.delete(f"/v1/sandboxes/{sandbox['name']}")
    for network in daemon.get("/v1/networks"):
        if network["driver"] in ("macvlan", "ipvlan"):
            daemon.delete(f"/v1/networks/{network['name']}")


def ip(segment: Segment, where: Any, words: str) -> Any:
    return json.loads(segment.lab.run(where, f"ip -j -d {words}").stdout or "[]")


def address(sandbox: Any) -> str:
    return str(sandbox["endpoints"][0]["ipv4"]).split("/")[0]


def names(segment: Segment) -> list[str]:
    return [link["ifname"] for link in ip(segment, segment.host, "link")]


def judge(segment: Segment, web: Any, peers: list[tuple[Any, str]]) -> list[str]:
    """Whether packets go to and fro between a container and each of these."""

    def one(peer: tuple[Any, str]) -> str:
        place, there = peer
        ways = segment.reaches(web["netns"], there), segment.reaches(place, address(web))
        return {(True, True): "yes", (False, False): "no"}.get(ways, f"one way {ways}")

    with ThreadPoolExecutor(len(peers)) as pool:
        return list(pool.map(one, peers))


def members(segment: Segment, options: dict[str, str], subnets: list[Any]) -> tuple[Any, Any, Any]:
    """Two members of one network, and one of a second network on the same parent."""
    segment.network("lan", "ipvlan", options=options, subnets=subnets[:1])
    segment.network("second", "ipvlan", options=options, subnets=subnets[1:])
    return (
        segment.sandbox("web", "lan"),
        segment.sandbox("other", "lan"),
        segment.sandbox("third", "second"),
    )


def test_ipvlan_l2_is_on_the_segment(segment: Segment) -> None:
    first = {"subnet": SUBNET, "gateway": ROUTER, "ip_range": RANGE}
    web, other, third = members(segment, {}, [first, SECOND])
    (link,) = ip(segment, web["netns"], "link show eth0")
    assert link["linkinfo"]["info_kind"] == "ipvlan"
    assert link["linkinfo"]["info_data"]["mode"] == "l2"
    (parent,) = ip(segment, segment.host, "link show eth1")
    assert link["address"] == parent["address"] == web["endpoints"][0]["mac"]
    (default,) = ip(segment, web["netns"], "route show default")
    assert default["gateway"] == ROUTER
    peers = [
        (other["netns"], address(other)),
        (third["netns"], address(third)),
        (segment.host, HOST),
        (segment.neighbour, NEIGHBOUR),
    ]
    assert judge(segment, web, peers) == REACHED["l2"].split()
    assert segment.daemon.post("/v1/reconcile")["added"] == []


@pytest.mark.parametrize("mode", ["l3", "l3s"])
def test_ipvlan_l3_is_routed_by_its_parent(segment: Segment, mode: str) -> None:
    subnets = [{"subnet": "10.30.0.0/24"}, {"subnet": "10.31.0.0/24"}]
    web, other, third = members(segment, {"mode": mode}, subnets)
    (default,) = ip(segment, web["netns"], "route show default")
    assert (default.get("gateway"), default["dev"]) == (None, "eth0")
    assert web["endpoints"][0]["gateway"] is None
    run_ip("-n", segment.neighbour.name, "route", "replace", "10.30.0.0/23", "via", HOST)
    peers = [
        (other["netns"], address(other)),
        (third["netns"], address(third)),
        (segment.neighbour, NEIGHBOUR),
    ]
    assert judge(segment, web, peers) == ["yes", "yes", "yes"]
    assert segment.daemon.post("/v1/reconcile")["added"] == []


@pytest.mark.parametrize("flag", ["private", "vepa"])
def test_members_are_apart_by_the_flag(segment: Segment, flag: str) -> None:
    segment.network("lan", "ipvlan", options={"flag": flag})
    web, other = segment.sandbox("web", "lan"), segment.sandbox("other", "lan")
    peers = [(other["netns"], address(other)), (segment.neighbour, NEIGHBOUR)]
    assert judge(segment, web, peers) == ["no", "yes"]


def test_an_address_that_somebody_has_is_seen_from_the_parent(segment: Segment) -> None:
    here = ("192.168.7.64/24", "dev", "eth0")
    run_ip("-n", segment.neighbour.name, "address", "add", *here)
    try:
        segment.network("lan", "ipvlan")
        assert address(segment.sandbox("web", "lan")) == "192.168.7.65"
        (card,) = ip(segment, segment.neighbour, "link show eth0")
        with pytest.raises(Refused, match=card["address"]):
            segment.sandbox("other", {"network": "lan", "ip": "192.168.7.64"})
    finally:
        run_ip("-n", segment.neighbour.name, "address", "delete", *here)


def test_a_parent_has_one_mode_for_all(segment: Segment) -> None:
    segment.network("lan", "ipvlan")
    with pytest.raises(Refused, match="one mode and flag"):
        segment.network("more", "ipvlan", options={"mode": "l3"}, subnets=[SECOND])
    with pytest.raises(Refused, match="macvlan or ipvlan, not both"):
        segment.network("more", subnets=[SECOND])


def test_another_programs_ipvlan_is_left_as_it_is(segment: Segment) -> None:
    other = segment.lab.namespace("other")
    theirs = ("link", "eth1", "name", "theirs", "netns", other.name, "type", "ipvlan", "mode", "l2")
    run_ip("-n", segment.host.name, "link", "add", *theirs)
    try:
        wish = {"options": {"mode": "l3"}, "subnets": [{"subnet": "10.30.0.0/24"}]}
        with pytest.raises(Refused, match="taken"):
            segment.network("lan", "ipvlan", **wish)
        (link,) = ip(segment, other, "link show theirs")
        assert link["linkinfo"]["info_data"]["mode"] == "l2"
    finally:
        run_ip("-n", other.name, "link", "delete", "theirs")


def test_the_host_has_its_own_way_when_asked(segment: Segment) -> None:
    with pytest.raises(Refused, match="host_address"):
        segment.network("lan", "ipvlan", options={"host_access": "true"})
    access = {"host_access": "true", "host_address": "192.168.7.100"}
    segment.network("lan", "ipvlan", options=access)
    web = segment.sandbox("web", "lan")
    assert segment.reaches(segment.host, address(web))
    assert segment.reaches(web["netns"], "192.168.7.100")


def test_a_vlan_link_is_made_and_removed_with_its_last_network(segment: Segment) -> None:
    neighbour = segment.neighbour.name
    for words in (
        "link add link eth0 name eth0.20 type vlan id 20",
        "address add 10.20.20.9/24 dev eth0.20",
        "link set eth0.20 up",
    ):
        run_ip("-n", neighbour, *words.split())
    ranges = ("10.20.20.64/26", "10.20.20.128/26")
    for driver, part in zip(("one", "two"), ranges, strict=True):
        subnet = {"subnet": "10.20.20.0/24", "gateway": "10.20.20.1", "ip_range": part}
        segment.network(driver, options={"parent": "eth1.20"}, subnets=[subnet])
    web = segment.sandbox("web", "one")
    assert segment.reaches(web["netns"], "10.20.20.9")
    (link,) = ip(segment, segment.host, "link show eth1.20")
    assert link["linkinfo"]["info_data"]["id"] == 20
    segment.daemon.delete("/v1/sandboxes/web")
    segment.daemon.delete("/v1/networks/one")
    assert "eth1.20" in names(segment)
    segment.daemon.delete("/v1/networks/two")
    assert "eth1.20" not in names(segment)


def test_a_vlan_link_of_somebody_else_stays(segment: Segment) -> None:
    host = segment.host.name
    link = ("link", "eth1", "name", "eth1.30", "type", "vlan", "id", "30")
    run_ip("-n", host, "link", "add", *link)
    run_ip("-n", host, "link", "set", "eth1.30", "up")
    subnet = {"subnet": "10.20.30.0/24"}
    segment.network("lan", options={"parent": "eth1.30"}, subnets=[subnet])
    segment.daemon.delete("/v1/networks/lan")
    assert "eth1.30" in names(segment)


def test_a_vlan_link_that_is_deleted_is_made_again_with_all_on_it(segment: Segment) -> None:
    subnet = {"subnet": "10.20.20.0/24"}
    segment.network("lan", options={"parent": "eth1.20"}, subnets=[subnet])
    one, two = segment.sandbox("one", "lan"), segment.sandbox("two", "lan")
    run_ip("-n", segment.host.name, "link", "delete", "eth1.20")
    segment.daemon.post("/v1/reconcile")
    segment.wait_for_state("lan", "up")
    assert segment.reaches(one["netns"], address(two))


@pytest.mark.parametrize("driver", ["macvlan", "ipvlan"])
def test_without_a_parent_it_leads_nowhere(segment: Segment, driver: str) -> None:
    body = {"name": "inner", "driver": driver, "subnets": [{"subnet": "10.40.0.0/24"}]}
    made = segment.daemon.post("/v1/networks", body)
    assert made["internal"] is True
    one, two = segment.sandbox("one", "inner"), segment.sandbox("two", "inner")
    assert segment.reaches(one["netns"], address(two))
    assert ip(segment, one["netns"], "route show default") == []
    for name in ("one", "two"):
        segment.daemon.delete(f"/v1/sandboxes/{name}")
    segment.daemon.delete("/v1/networks/inner")
    assert made["interface"] not in names(segment)


def test_the_table_in_the_docs_is_what_is_tested() -> None:
    text = DOCS.read_text()
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in written]
    assert {row[0]: " ".join(row[1:]) for row in rows} == REACHED
