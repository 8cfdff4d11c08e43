"""Containers on a physical segment by macvlan: addresses, routes, who has an address already."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab import Lab, Refused
from lab.places import run_ip
from lab.processes import wait_until
from lab.segment import (
    HOST,
    NEIGHBOUR,
    NEIGHBOUR6,
    OUTSIDE,
    RANGE,
    ROUTER,
    SUBNET,
    SUBNET6,
    Segment,
)


@pytest.fixture
def segment(lab: Lab) -> Segment:
    return Segment(lab)


def ip(segment: Segment, where: Any, words: str) -> Any:
    return json.loads(segment.lab.run(where, f"ip -j -d {words}").stdout or "[]")


def address(sandbox: Any, version: int = 4) -> str:
    return str(sandbox["endpoints"][0][f"ipv{version}"]).split("/")[0]


def mac_of(segment: Segment, where: Any, name: str) -> str:
    return str(ip(segment, where, f"link show {name}")[0]["address"])


def test_a_container_is_on_the_segment(segment: Segment) -> None:
    segment.network("lan")
    web = segment.sandbox("web", "lan")
    (link,) = ip(segment, web["netns"], "link show eth0")
    assert link["linkinfo"]["info_kind"] == "macvlan"
    assert link["linkinfo"]["info_data"]["mode"] == "bridge"
    assert link["ifalias"] == f"linkspan:endpoint:{web['endpoints'][0]['id']}"
    assert link["address"] == web["endpoints"][0]["mac"]
    (default,) = ip(segment, web["netns"], "route show default")
    assert (default["gateway"], default["dev"]) == (ROUTER, "eth0")
    assert address(web) == "192.168.7.64"
    assert segment.reaches(segment.neighbour, address(web))
    assert segment.reaches(web["netns"], OUTSIDE)
    # Not translated: the other end sees the container itself.
    segment.lab.listener_tcp(segment.outside, OUTSIDE, 80, reply="outside")
    assert segment.lab.fetch(web["netns"], OUTSIDE, 80).seen == address(web)


def test_both_ip_versions_and_nothing_that_routers_announce(segment: Segment) -> None:
    segment.network("lan", subnets=[{"subnet": SUBNET, "ip_range": RANGE}, {"subnet": SUBNET6}])
    segment.network("four", subnets=[{"subnet": SUBNET, "ip_range": "192.168.7.128/26"}])
    web, old = segment.sandbox("web", "lan"), segment.sandbox("old", "four")
    assert segment.reaches(web["netns"], NEIGHBOUR6)
    assert segment.reaches(segment.neighbour, address(web, 6))
    setting = "sysctl -n net.ipv6.conf.eth0."
    assert segment.lab.run(web["netns"], setting + "accept_ra").stdout.strip() == "0"
    assert segment.lab.run(old["netns"], setting + "disable_ipv6").stdout.strip() == "1"
    assert segment.daemon.post("/v1/reconcile")["repaired"] == []


def test_subnet_and_gateway_are_the_parents_where_none_are_stated(segment: Segment) -> None:
    made = segment.network("lan", subnets=[])
    assert [(s["subnet"], s["gateway"]) for s in made["subnets"]] == [(SUBNET, ROUTER)]


def test_an_address_that_somebody_has_is_passed_over(segment: Segment) -> None:
    segment.lab.address(segment.neighbour, "eth0", "192.168.7.64/24")
    segment.lab.address(segment.neighbour, "eth0", "192.168.7.65/24")
    segment.network("lan")
    assert address(segment.sandbox("web", "lan")) == "192.168.7.66"
    taken = {"network": "lan", "ip": "192.168.7.65"}
    with pytest.raises(Refused) as refused:
        segment.sandbox("other", taken)
    assert refused.value.code == "address_in_use"
    assert mac_of(segment, segment.neighbour, "eth0") in refused.value.message
    assert [one["name"] for one in segment.daemon.get("/v1/sandboxes")] == ["web"]
    assert len(os.listdir(segment.daemon.run_dir / "netns")) == 1


def test_an_ipv6_address_that_somebody_has_is_passed_over(segment: Segment) -> None:
    segment.lab.address(segment.neighbour, "eth0", "fd00:7::3/64")
    segment.network("lan", subnets=[{"subnet": SUBNET, "ip_range": RANGE}, {"subnet": SUBNET6}])
    with pytest.raises(Refused) as refused:
        segment.sandbox("web", {"network": "lan", "ipv6": "fd00:7::3"})
    assert mac_of(segment, segment.neighbour, "eth0") in refused.value.message
    # The router has the first one, the host the second, and the neighbour the third.
    assert address(segment.sandbox("web", "lan"), 6) == "fd00:7::4"


def test_the_hosts_own_address_is_never_used(segment: Segment) -> None:
    segment.network("lan", subnets=[{"subnet": SUBNET}])
    with pytest.raises(Refused, match="this host itself"):
        segment.sandbox("web", {"network": "lan", "ip": HOST})
    # The first free one is the host's: passed over as well, and the router's was never tried.
    assert address(segment.sandbox("web", "lan")) == "192.168.7.3"


def test_with_dad_off_nobody_is_asked(segment: Segment) -> None:
    segment.lab.address(segment.neighbour, "eth0", "192.168.7.64/24")
    segment.network("lan", options={"dad": "off"})
    assert address(segment.sandbox("web", "lan")) == "192.168.7.64"


def test_a_claimed_address_on_connect_leaves_everything_as_it_was(segment: Segment) -> None:
    segment.network("lan")
    web = segment.sandbox("web", "none")
    segment.lab.address(segment.neighbour, "eth0", "192.168.7.70/24")
    wish = {"network": "lan", "ip": "192.168.7.70"}
    with pytest.raises(Refused, match="in use on eth1"):
        segment.daemon.post("/v1/sandboxes/web/networks", wish)
    assert [link["ifname"] for link in ip(segment, web["netns"], "link")] == ["lo"]
    joined = segment.daemon.post("/v1/sandboxes/web/networks", {"network": "lan"})
    assert segment.reaches(web["netns"], NEIGHBOUR)
    segment.daemon.delete("/v1/sandboxes/web/networks/lan")
    assert [link["ifname"] for link in ip(segment, web["netns"], "link")] == ["lo"]
    assert joined["endpoints"]


def test_neighbours_hear_of_a_new_mac_at_once(segment: Segment) -> None:
    segment.network("lan")
    wish = {"network": "lan", "ip": "192.168.7.77"}
    segment.sandbox("web", wish)
    assert segment.reaches(segment.neighbour, "192.168.7.77")
    segment.daemon.delete("/v1/sandboxes/web")
    segment.sandbox("web", {**wish, "mac": "02:00:00:00:00:77"})

    def learned() -> bool:
        (entry,) = ip(segment, segment.neighbour, "neighbour show 192.168.7.77")
        return bool(entry.get("lladdr") == "02:00:00:00:00:77")

    wait_until(learned, "the neighbour's entry", 3)


@pytest.mark.parametrize(
    ("parent", "says"),
    [
        ("eth7", "no interface eth7"),
        ("lo", "loopback"),
        ("down0", "is down"),
        ("port0", "port of br9"),
        ("eth1@", "expected"),
    ],
)
def test_a_parent_that_cannot_carry_is_refused(segment: Segment, parent: str, says: str) -> None:
    host = segment.host.name
    run_ip("-n", host, "link", "add", "down0", "type", "veth", "peer", "name", "port0")
    run_ip("-n", host, "link", "add", "br9", "type", "bridge")
    run_ip("-n", host, "link", "set", "port0", "master", "br9", "up")
    if parent == "eth1@":
        parent = "eth 1"
    with pytest.raises(Refused, match=says):
        segment.network("lan", options={"parent": parent})
    assert "lan" not in [one["name"] for one in segment.daemon.get("/v1/networks")]


def test_a_parent_that_another_program_took_is_refused(segment: Segment) -> None:
    host, other = segment.host.name, segment.lab.namespace("other").name
    words = f"-n {host} link add link eth1 name theirs netns {other} type macvlan mode passthru"
    run_ip(*words.split())
    with pytest.raises(Refused, match="passthru") as refused:
        segment.network("lan")
    assert refused.value.code == "conflict"
    assert not [n for n in ip(segment, segment.host, "link") if n["ifname"].startswith("ls")
                and n["ifname"] != "linkspan0"]  # fmt: skip


def test_passthru_is_for_one(segment: Segment) -> None:
    segment.network("lan", options={"mode": "passthru"})
    web = segment.sandbox("web", "lan")
    assert web["endpoints"][0]["mac"] == mac_of(segment, segment.host, "eth1")
    assert mac_of(segment, web["netns"], "eth0") == web["endpoints"][0]["mac"]
    assert segment.reaches(web["netns"], NEIGHBOUR)
    with pytest.raises(Refused, match="web has its parent eth1 to itself"):
        segment.sandbox("second", "lan")
    with pytest.raises(Refused, match="another parent"):
        segment.network("more", subnets=[{"subnet": SUBNET, "ip_range": "192.168.7.128/26"}])
    segment.daemon.delete("/v1/sandboxes/web")
    segment.sandbox("second", "lan")


def test_networks_share_a_subnet_with_ranges_of_their_own(segment: Segment) -> None:
    segment.network("lan")
    with pytest.raises(Refused, match="--ip-range") as refused:
        segment.network("second")
    assert refused.value.code == "address_in_use"
    segment.network("second", subnets=[{"subnet": SUBNET, "ip_range": "192.168.7.128/26"}])
    one, two = segment.sandbox("one", "lan"), segment.sandbox("two", "second")
    assert segment.reaches(one["netns"], address(two))


def test_a_port_is_not_published_where_the_address_is_reached_directly(segment: Segment) -> None:
    segment.network("lan")
    with pytest.raises(Refused, match=r"reached at 192\.168\.7\.64"):
        segment.sandbox("web", "lan", ports=["8080:80"])


def test_on_a_bridge_as_well_a_published_port_leads_there(segment: Segment) -> None:
    segment.network("lan")
    body = {"name": "back", "subnets": [{"subnet": "10.20.0.0/24"}]}
    segment.daemon.post("/v1/networks", body)
    web = segment.sandbox(
        "web", {"network": "lan", "gateway_priority": 5}, "back", ports=["8080:80"]
    )
    segment.lab.listener_tcp(web["netns"], "0.0.0.0", 80, reply="web")
    (default,) = ip(segment, web["netns"], "route show default")
    assert default["gateway"] == ROUTER
    assert segment.lab.fetch(segment.neighbour, HOST, 8080).reply == "web"
    assert segment.lab.fetch(segment.neighbour, address(web), 80).reply == "web"
    assert segment.lab.fetch(segment.outside, address(web), 80).reply == "web"


def test_a_parent_that_goes_is_told_and_comes_back(segment: Segment) -> None:
    segment.network("lan")
    web = segment.sandbox("web", "lan")
    run_ip("-n", segment.host.name, "link", "set", "eth1", "down")
    segment.wait_for_state("lan", "parent eth1 is down")
    with pytest.raises(Refused, match="is down"):
        segment.sandbox("late", "lan")
    run_ip("-n", segment.host.name, "link", "set", "eth1", "up")
    segment.wait_for_state("lan", "up")
    assert segment.reaches(web["netns"], NEIGHBOUR)
    run_ip("-n", segment.switch.name, "link", "set", "host-eth1", "down")
    segment.wait_for_state("lan", "no carrier")
    run_ip("-n", segment.host.name, "link", "delete", "eth1")
    segment.wait_for_state("lan", "does not exist")
    assert [link["ifname"] for link in ip(segment, web["netns"], "link")] == ["lo"]
    segment.cable(segment.host, "eth1", f"{HOST}/24")
    segment.wait_for_state("lan", "up")
    wait_until(lambda: segment.reaches(web["netns"], NEIGHBOUR), "the link to be back", 8)
    events = segment.daemon.stream("/v1/events?since=0&follow=false")
    said = [(e["action"], e["attributes"].get("state")) for e in events if e["name"] == "lan"]
    assert ("interrupted", "parent eth1 does not exist") in said
    assert said[-1] == ("restored", "up")


def test_the_host_has_its_own_way_when_asked(segment: Segment) -> None:
    segment.network("lan")
    web = segment.sandbox("web", "lan")
    assert not segment.reaches(segment.host, address(web))
    segment.daemon.delete("/v1/sandboxes/web")
    segment.daemon.delete("/v1/networks/lan")
    made = segment.network("lan", options={"host_access": "true"})
    assert made["options"]["host_source"] == HOST
    web = segment.sandbox("web", "lan")
    assert segment.reaches(segment.host, address(web))
    assert segment.reaches(web["netns"], HOST)
    shim = f"lsh-{made['id'][:10]}"
    routes = ip(segment, segment.host, f"route show dev {shim}")
    assert [(r["dst"], r["prefsrc"]) for r in routes] == [(address(web), HOST)]
    holes = [h for h in segment.daemon.get("/v1/audit") if h["kind"] == "host_access"]
    assert [h["name"] for h in holes] == ["lan"]
    segment.daemon.delete("/v1/sandboxes/web")
    assert ip(segment, segment.host, f"route show dev {shim}") == []
    segment.daemon.delete("/v1/networks/lan")
    assert shim not in [link["ifname"] for link in ip(segment, segment.host, "link")]


def test_what_was_deleted_behind_our_back_is_made_again(segment: Segment) -> None:
    made = segment.network("lan", options={"host_access": "true"})
    web = segment.sandbox("web", "lan")
    segment.lab.run(web["netns"], "ip link delete eth0")
    report = segment.daemon.post("/v1/reconcile")
    assert any("eth0" in line for line in report["added"])
    assert segment.reaches(web["netns"], NEIGHBOUR)
    run_ip("-n", segment.host.name, "link", "delete", f"lsh-{made['id'][:10]}")
    wait_until(lambda: segment.reaches(segment.host, address(web)), "the host's way back", 8)


def test_a_daemon_that_was_killed_takes_up_and_takes_back(segment: Segment) -> None:
    segment.network("lan")
    web = segment.sandbox("web", "lan")
    before = ip(segment, web["netns"], "link show eth0")
    segment.daemon.kill()
    assert segment.reaches(web["netns"], NEIGHBOUR)
    segment.daemon.start()
    assert ip(segment, web["netns"], "link show eth0") == before
    assert segment.daemon.post("/v1/reconcile")["added"] == []


def test_a_brought_namespace_is_given_back_without_our_link(segment: Segment) -> None:
    segment.network("lan")
    place = segment.lab.namespace("brought")
    segment.sandbox("web", "lan", netns=place.path)
    assert segment.reaches(place, NEIGHBOUR)
    done = segment.daemon.purge()
    assert done.returncode == 0
    assert [link["ifname"] for link in ip(segment, place, "link")] == ["lo"]


def test_many_attach_at_once(segment: Segment) -> None:
    segment.network("lan")
    for number in range(70, 74):
        segment.lab.address(segment.neighbour, "eth0", f"192.168.7.{number}/24")
    with ThreadPoolExecutor(12) as clients:
        list(clients.map(lambda number: segment.sandbox(f"web{number}", "lan"), range(12)))
    found = {address(one) for one in segment.daemon.get("/v1/sandboxes")}
    assert len(found) == 12
    assert not found & {f"192.168.7.{number}" for number in range(70, 74)}


def test_a_subnet_behind_a_foreign_bridge_is_refused(segment: Segment) -> None:
    run_ip("-n", segment.host.name, "link", "add", "br9", "type", "bridge")
    segment.lab.address(segment.host, "br9", "172.30.0.1/24")
    with pytest.raises(Refused, match="br9"):
        segment.network("lan", subnets=[{"subnet": "172.30.0.0/24"}])


def test_the_hosts_own_address_is_no_gateway(segment: Segment) -> None:
    with pytest.raises(Refused, match="own address on eth1"):
        segment.network("lan", subnets=[{"subnet": SUBNET, "gateway": HOST}])


def test_dockers_names_for_all_of_it(segment: Segment) -> None:
    config = {
        "Subnet": SUBNET,
        "Gateway": ROUTER,
        "IPRange": RANGE,
        "AuxiliaryAddresses": {"printer": "192.168.7.64"},
    }
    body = {
        "Name": "lan",
        "Driver": "macvlan",
        "Options": {"parent": "eth1", "macvlan_mode": "private"},
        "IPAM": {"Config": [config]},
    }
    segment.daemon.post("/v1.43/networks/create", body)
    web = segment.sandbox("web", "lan")
    assert address(web) == "192.168.7.65"
    (link,) = ip(segment, web["netns"], "link show eth0")
    assert link["linkinfo"]["info_data"]["mode"] == "private"


def test_from_the_command_line(segment: Segment) -> None:
    words = "network create lan -d macvlan -o parent=eth1 --ip-range 192.168.7.64/26"
    done = segment.daemon.cli(*words.split(), "--aux-address", "printer=192.168.7.64")
    assert done.returncode == 0, done.stderr
    assert address(segment.sandbox("web", "lan")) == "192.168.7.65"
    segment.daemon.cli("detach", "web")
    plan = segment.daemon.cli("plan", "--", "attach", "--name", "web", "--network", "lan")
    assert "macvlan eth0 (bridge) on eth1 of the host" in plan.stdout


def test_killed_while_it_asked_it_leaves_no_link(segment: Segment) -> None:
    segment.network("lan", options={"dad": "full"})
    place = segment.lab.namespace("brought")

    def attach() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            segment.sandbox("web", "lan", netns=place.path)

    asking = threading.Thread(target=attach)
    asking.start()
    wait_until(lambda: len(ip(segment, place, "link")) == 2, "the link", 5)
    assert ip(segment, place, "address show eth0")[0]["addr_info"] == []
    segment.daemon.kill()
    asking.join(10)
    segment.daemon.start()
    assert [link["ifname"] for link in ip(segment, place, "link")] == ["lo"]
    assert segment.daemon.get("/v1/sandboxes") == []
