"""Docker's SDK for Python manages our networks and sees our sandboxes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab.site import HOST, Site

docker = pytest.importorskip("docker")


@pytest.fixture
def site(lab: Lab) -> Site:
    return Site(lab)


@pytest.fixture(params=["auto", "1.40", "1.52"])
def client(request: pytest.FixtureRequest, site: Site) -> Iterator[Any]:
    made = docker.DockerClient(base_url=f"unix://{site.daemon.socket}", version=request.param)
    yield made
    made.close()


def test_the_daemon_answers_and_tells_of_itself(site: Site, client: Any) -> None:
    assert client.ping() is True
    assert client.version()["ApiVersion"] == "1.52"
    site.sandbox("shop", "none")
    info = client.info()
    assert (info["Containers"], info["ContainersRunning"], info["OSType"]) == (1, 1, "linux")


def test_a_network_is_made_changed_and_removed(site: Site, client: Any) -> None:
    pool = docker.types.IPAMPool(
        subnet="10.20.0.0/24", gateway="10.20.0.9", aux_addresses={"nas": "10.20.0.5"}
    )
    web = client.networks.create(
        "web",
        driver="bridge",
        ipam=docker.types.IPAMConfig(pool_configs=[pool]),
        options={"com.docker.network.driver.mtu": "1400"},
        labels={"team": "shop"},
        attachable=True,
        check_duplicate=True,
    )
    assert web.attrs["IPAM"]["Config"] == [
        {
            "Subnet": "10.20.0.0/24",
            "Gateway": "10.20.0.9",
            "AuxiliaryAddresses": {"nas": "10.20.0.5"},
        }
    ]
    assert web.attrs["Options"] == {"com.docker.network.driver.mtu": "1400"}
    assert (web.attrs["Labels"], web.attrs["Attachable"]) == ({"team": "shop"}, True)
    assert client.networks.get(web.id[:10]).name == "web"
    assert site.daemon.get("/v1/networks/web")["mtu"] == 1400
    shop = site.sandbox("shop", "bridge")
    web.connect("shop", ipv4_address="10.20.0.7", aliases=["cart"], mac_address="02:00:00:00:00:07")
    web.reload()
    assert [one.name for one in web.containers] == ["shop"]
    member = web.attrs["Containers"][shop["id"]]
    assert (member["IPv4Address"], member["MacAddress"]) == ("10.20.0.7/24", "02:00:00:00:00:07")
    inside = site.lab.run(shop["netns"], "ip -br link show eth1").stdout
    assert "02:00:00:00:00:07" in inside
    web.disconnect("shop", force=True)
    web.reload()
    assert web.containers == []
    web.remove()
    with pytest.raises(docker.errors.NotFound):
        client.networks.get("web")


def test_networks_are_listed_and_pruned(site: Site, client: Any) -> None:
    for name in ("web", "website"):
        client.networks.create(name, labels={"name": name})
    found = {n.name for n in client.networks.list(names=["web"])}
    assert found == {"web", "website"}
    assert [n.name for n in client.networks.list(filters={"label": "name=web"})] == ["web"]
    assert [n.name for n in client.networks.list(filters={"driver": "host"})] == ["host"]
    custom = client.networks.list(greedy=True, filters={"type": "custom", "dangling": True})
    assert [(n.name, n.attrs["Containers"]) for n in custom] == [("web", {}), ("website", {})]
    assert client.networks.prune({"label": "name=web"}) == {"NetworksDeleted": ["web"]}
    assert client.networks.prune() == {"NetworksDeleted": ["website"]}


def test_sandboxes_are_containers(site: Site, client: Any) -> None:
    made = site.sandbox("shop", "bridge", ports=("8080:80",), labels={"team": "x"})
    site.sandbox("alone", "none")
    assert [one.name for one in client.containers.list()] == ["alone", "shop"]
    (shop,) = client.containers.list(filters={"label": "team=x", "network": "bridge"})
    assert (shop.id, shop.status, shop.labels) == (made["id"], "running", {"team": "x"})
    assert shop.ports == {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]}
    networks = shop.attrs["NetworkSettings"]["Networks"]
    assert networks["bridge"]["MacAddress"] == made["endpoints"][0]["mac"]
    site.serve(made, 80)
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"
    with pytest.raises(docker.errors.NotFound):
        client.containers.get("nono")


def test_errors_are_the_sdks(site: Site, client: Any) -> None:
    client.networks.create("web")
    site.sandbox("shop", "web")
    with pytest.raises(docker.errors.APIError, match="already exists") as refused:
        client.networks.create("web")
    assert refused.value.status_code == 409
    with pytest.raises(docker.errors.APIError, match="active endpoints") as refused:
        client.networks.get("web").remove()
    assert refused.value.status_code == 403
    with pytest.raises(docker.errors.APIError, match=r"'com\.example\.colour'") as refused:
        client.networks.create("x", options={"com.example.colour": "red"})
    assert refused.value.status_code == 400
    with pytest.raises(docker.errors.APIError, match="is not supported") as refused:
        client.images.list()
    assert refused.value.status_code == 501


def test_a_version_that_is_not_spoken_is_refused(site: Site) -> None:
    old = docker.APIClient(f"unix://{site.daemon.socket}", version="1.30")
    with old, pytest.raises(docker.errors.APIError, match="too old"):
        old.networks()


def test_events_arrive_while_they_happen(site: Site, client: Any) -> None:
    stream = client.events(decode=True, filters={"type": "network"})
    told: list[Any] = []

    def listen() -> None:
        for message in stream:
            told.append(message)
            if message["Action"] == "destroy":
                break

    listener = threading.Thread(target=listen)
    listener.start()
    client.networks.create("web").remove()
    listener.join(10)
    assert not listener.is_alive()
    assert [one["Action"] for one in told] == ["create", "destroy"]
    assert {one["Actor"]["Attributes"]["name"] for one in told} == {"web"}
    stream.close()


def test_events_of_the_past_end_by_themselves(site: Site, client: Any) -> None:
    began = int(time.time())
    client.networks.create("web")
    past = list(client.events(since=began, until=int(time.time()) + 1, decode=True))
    assert [one["Action"] for one in past if one["Actor"]["Attributes"]["name"] == "web"] == [
        "create"
    ]
