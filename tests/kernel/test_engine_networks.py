"""Networks on a real kernel: what is made, what is refused and why, and what is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Refused
from lab.reuse import Sites
from lab.site import Site


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        yield site


def links(site: Site) -> dict[str, Any]:
    found = json.loads(site.lab.run(site.host, "ip -j -d address").stdout)
    return {link["ifname"]: link for link in found}


def test_three_networks_exist_from_the_start_and_stay(site: Site) -> None:
    networks = {n["name"]: n for n in site.daemon.get("/v1/networks")}
    assert {n: networks[n]["driver"] for n in networks} == {
        "bridge": "bridge",
        "host": "host",
        "none": "null",
    }
    assert links(site)["linkspan0"]["linkinfo"]["info_kind"] == "bridge"
    for name in networks:
        with pytest.raises(Refused) as refused:
            site.daemon.delete(f"/v1/networks/{name}")
        assert (refused.value.status, refused.value.code) == (409, "network_in_use")
    before = {n["id"] for n in networks.values()}
    site.daemon.restart()
    assert {n["id"] for n in site.daemon.get("/v1/networks")} == before


def test_a_subnet_from_the_pools_avoids_what_the_host_has_and_routes(site: Site) -> None:
    site.lab.run(site.host, "ip route add 172.20.1.0/24 via 192.0.2.20")
    site.lab.run(site.host, "ip address add 172.20.2.7/32 dev uplink")
    found = [site.network(name)["subnets"][0]["subnet"] for name in ("one", "two")]
    # 172.20.0.0/24 is that of the network bridge.
    assert found == ["172.20.3.0/24", "172.20.4.0/24"]


@pytest.mark.parametrize(
    ("subnet", "names"),
    [
        ("10.20.0.128/25", "network web"),
        ("10.0.0.0/8", "network web"),
        ("192.0.2.0/25", "192.0.2.10/24 of uplink"),
        ("198.51.100.0/24", "a route by uplink"),
    ],
)
def test_an_overlap_is_refused_by_name(site: Site, subnet: str, names: str) -> None:
    site.lab.run(site.host, "ip route add 198.51.100.0/24 via 192.0.2.20")
    site.network("web", "10.20.0.0/24")
    with pytest.raises(Refused) as refused:
        site.network("other", subnet)
    assert refused.value.code == "address_in_use"
    assert names in refused.value.message
    assert len(site.daemon.get("/v1/networks")) == 4


def test_a_subnet_inside_a_wider_route_through_a_gateway_is_what_was_asked_for(
    site: Site,
) -> None:
    site.lab.run(site.host, "ip route add 10.0.0.0/8 via 192.0.2.20")
    assert site.network("web", "10.20.0.0/24")["subnets"][0]["gateway"] == "10.20.0.1"


def test_its_bridge_has_the_underlays_mtu_and_the_gateways_address(site: Site) -> None:
    site.lab.run(site.host, "ip link set uplink mtu 1400")
    network = site.network("web", "10.20.0.0/24")
    bridge = links(site)[network["interface"]]
    assert bridge["mtu"] == 1400
    assert [a["local"] for a in bridge["addr_info"] if a["family"] == "inet"] == ["10.20.0.1"]
    assert network["mtu"] == 1400
    assert bridge["ifalias"] == f"linkspan:network:{network['id']}"


def test_a_network_in_use_is_not_removed_and_prune_leaves_it(site: Site) -> None:
    site.network("web", "10.20.0.0/24")
    site.network("idle", "10.30.0.0/24")
    site.sandbox("shop", "web")
    with pytest.raises(Refused, match="shop") as refused:
        site.daemon.delete("/v1/networks/web")
    assert refused.value.code == "network_in_use"
    site.daemon.post("/v1/networks/prune")
    names = {n["name"] for n in site.daemon.get("/v1/networks")}
    assert names == {"bridge", "host", "none", "web"}
    site.daemon.delete("/v1/sandboxes/shop")
    interface = site.daemon.get("/v1/networks/web")["interface"]
    site.daemon.delete("/v1/networks/web")
    assert interface not in links(site)


def test_a_bridge_name_that_is_taken_is_refused(site: Site) -> None:
    site.network("web", options={"bridge": "br-web"})
    with pytest.raises(Refused, match="network web"):
        site.network("other", options={"bridge": "br-web"})
    with pytest.raises(Refused, match="not linkspan's"):
        site.network("other", options={"bridge": "uplink"})


def test_a_dry_run_makes_nothing_and_says_what_it_would(site: Site) -> None:
    before = links(site).keys()
    body = {"name": "web", "subnets": ["10.20.0.0/24"]}
    plan = site.daemon.post("/v1/networks?dry_run=true", body)["plan"]
    text = "\n".join(step["text"] for step in plan)
    assert "create bridge ls-" in text
    assert "address 10.20.0.1/24" in text
    assert links(site).keys() == before
    assert len(site.daemon.get("/v1/networks")) == 3


def test_a_network_keeps_its_mtu_when_its_last_member_leaves(site: Site) -> None:
    network = site.network("small", "10.60.0.0/24", options={"mtu": "1400"})
    shown = ["ip", "-o", "link", "show", network["interface"]]
    site.sandbox("only", "small")
    site.daemon.delete("/v1/sandboxes/only?force=true")
    assert "mtu 1400 " in site.lab.run(site.host, shown).stdout
