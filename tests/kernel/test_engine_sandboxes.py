"""Sandboxes on a real kernel: made namespaces, brought ones, host mode, several networks."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab import Namespace, Refused
from lab.processes import Process, wait_until
from lab.reuse import Sites
from lab.site import HOST, NEIGHBOUR, Site, address


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        site.network("web", "10.20.0.0/24")
        yield site


def ip(site: Site, where: Any, words: str) -> Any:
    return json.loads(site.lab.run(where, f"ip -j {words}").stdout or "[]")


def addresses(site: Site, where: Any) -> dict[str, list[str]]:
    return {
        link["ifname"]: [
            f"{a['local']}/{a['prefixlen']}" for a in link["addr_info"] if a["family"] == "inet"
        ]
        for link in ip(site, where, "address")
    }


def test_what_is_answered_is_what_the_kernel_has(site: Site) -> None:
    sandbox = site.sandbox("shop", {"network": "web", "ip": "10.20.0.77"}, ports=("8080:80",))
    (endpoint,) = sandbox["endpoints"]
    assert (sandbox["state"], endpoint["ipv4"]) == ("up", "10.20.0.77/24")
    assert addresses(site, sandbox["netns"]) == {"lo": ["127.0.0.1/8"], "eth0": ["10.20.0.77/24"]}
    (default,) = ip(site, sandbox["netns"], "route show default")
    assert default["gateway"] == endpoint["gateway"] == "10.20.0.1"
    (link,) = ip(site, sandbox["netns"], "link show eth0")
    assert link["address"] == endpoint["mac"]
    site.daemon.delete("/v1/sandboxes/shop")
    assert not os.path.exists(sandbox["netns"])
    assert not [n for n in addresses(site, site.host) if n.startswith("lsv")]


@pytest.mark.parametrize(
    ("wish", "code", "says"),
    [
        ({"ip": "10.20.0.1"}, "invalid", "the gateway"),
        ({"ip": "10.20.0.255"}, "invalid", "broadcast"),
        ({"ip": "10.21.0.2"}, "invalid", "not inside"),
        ({"ip": "10.20.0.2"}, "address_in_use", "shop"),
        ({"ip": "fd00::2"}, "invalid", "ipv6"),
        ({"mac": "01:00:5e:00:00:01"}, "invalid", "multicast"),
        ({"mac": "rubbish"}, "invalid", "no MAC"),
        ({"mac": "02:42:0A:14:00:02"}, "address_in_use", "shop"),
    ],
)
def test_a_wish_that_cannot_be_is_refused_with_the_reason(
    site: Site, wish: dict[str, str], code: str, says: str
) -> None:
    site.sandbox("shop", "web")
    with pytest.raises(Refused) as refused:
        site.sandbox("other", {"network": "web", **wish})
    assert refused.value.code == code
    assert says in refused.value.message
    assert [s["name"] for s in site.daemon.get("/v1/sandboxes")] == ["shop"]


def test_a_fixed_mac_is_the_links_and_neighbours_learn_of_it(site: Site) -> None:
    first = site.sandbox("first", {"network": "web", "ip": "10.20.0.9"})
    member = site.sandbox("member", "web")
    site.serve(first, 80)
    assert site.lab.fetch(member["netns"], "10.20.0.9", 80).ok
    site.daemon.delete("/v1/sandboxes/first")
    mac = "02:00:00:00:00:09"
    second = site.sandbox("second", {"network": "web", "ip": "10.20.0.9", "mac": mac})
    assert second["endpoints"][0]["mac"] == mac

    def learned() -> bool:
        known = ip(site, member["netns"], "neigh show 10.20.0.9")
        return [n.get("lladdr") for n in known] == [mac]

    wait_until(learned, "the member to learn the new MAC without asking")


def sleeper(site: Site, where: Any, command: str) -> Process:
    """A process that has come to where it sleeps."""
    process = site.lab.spawn(where, command)
    program = Path(f"/proc/{process.pid}/comm")
    wait_until(lambda: program.read_text() == "sleep\n", f"{command} to sleep")
    return process


class TestBroughtNamespace:
    @pytest.fixture
    def place(self, site: Site) -> Namespace:
        return site.lab.namespace("brought")

    def test_only_our_links_come_and_go(self, site: Site, place: Namespace) -> None:
        site.lab.run(place, "ip link add eth0 type veth peer name own0")
        site.lab.run(place, "ip address add 203.0.113.1/24 dev eth0")
        before = addresses(site, place)
        sandbox = site.sandbox("ctr7", "web", netns=place.path, ports=("9000:9000/udp",))
        assert sandbox["endpoints"][0]["interface"] == "eth1"
        assert addresses(site, place) == {**before, "eth1": ["10.20.0.2/24"]}
        site.serve(sandbox, 9000, "udp")
        assert site.lab.fetch(site.neighbour, HOST, 9000, "udp").seen == NEIGHBOUR
        site.daemon.delete("/v1/sandboxes/ctr7")
        assert addresses(site, place) == before
        assert os.path.exists(place.path)

    def test_its_own_default_route_stays_and_ours_serves_our_address(
        self, site: Site, place: Namespace
    ) -> None:
        other = site.lab.namespace("other")
        site.lab.veth(place, "net0", "203.0.113.2/24", other, "eth0", "203.0.113.1/24")
        site.lab.route(place, "default", "via", "203.0.113.1")
        sandbox = site.sandbox("ctr7", "web", netns=place.path, ports=("8080:80",))
        (default,) = ip(site, place, "route show default")
        assert default["gateway"] == "203.0.113.1"
        site.serve(sandbox, 80)
        assert site.lab.fetch(site.neighbour, HOST, 8080).seen == NEIGHBOUR
        site.daemon.delete("/v1/sandboxes/ctr7")
        assert len(ip(site, place, "rule")) == 3

    def test_it_can_be_named_by_a_process(self, site: Site, place: Namespace) -> None:
        process = sleeper(site, place, "sleep 1000")
        sandbox = site.sandbox("ctr7", "web", pid=process.pid)
        assert sandbox["pid"] == process.pid
        assert addresses(site, place)["eth0"] == ["10.20.0.2/24"]

    def test_one_that_vanishes_is_gone_and_gives_everything_back(self, site: Site) -> None:
        process = sleeper(site, site.host, "unshare --net sleep 1000")
        wish = {"network": "web", "ip": "10.20.0.50"}
        site.sandbox("ctr7", wish, pid=process.pid, ports=("8080:80",))
        process.kill()
        wait_until(
            lambda: site.daemon.get("/v1/sandboxes/ctr7")["state"] == "gone", "it to be gone"
        )
        again = site.sandbox("next", wish, ports=("8080:80",))
        assert address(again) == "10.20.0.50"
        assert "gone" in [
            e["action"]
            for e in site.daemon.stream(f"/v1/events?since={site.since}&follow=false")
            if e["name"] == "ctr7"
        ]
        site.daemon.delete("/v1/sandboxes/ctr7")
        site.daemon.delete("/v1/sandboxes/next")
        site.daemon.delete("/v1/networks/web")

    def test_what_is_no_namespace_to_attach_is_refused(self, site: Site, place: Namespace) -> None:
        site.sandbox("first", "web", netns=place.path)
        for body, says in (
            ({"netns": place.path}, "first"),
            ({"netns": "/proc/self/ns/net"}, "the host's own"),
            ({"pid": site.daemon.pid}, "the host's own"),
            ({"netns": "/etc/hostname"}, "/etc/hostname"),
            ({"netns": "/nowhere"}, "/nowhere"),
            ({"netns": "relative"}, "absolute"),
            ({"pid": 2**22 + 1}, "no process"),
            ({"netns": place.path, "pid": 1}, "not both"),
        ):
            with pytest.raises(Refused) as refused:
                site.sandbox("second", "web", **body)
            assert says in refused.value.message, body

    def test_its_path_may_go_while_a_process_is_still_inside(
        self, site: Site, place: Namespace
    ) -> None:
        process = sleeper(site, place, "sleep 1000")
        site.sandbox("ctr7", "web", netns=place.path)
        site.lab.run(site.host, f"umount {place.path}")
        os.unlink(place.path)
        assert site.daemon.post("/v1/reconcile")["gone"] == []
        assert site.daemon.get("/v1/sandboxes/ctr7")["netns"] == f"/proc/{process.pid}/ns/net"


def test_host_mode_stands_alone(site: Site) -> None:
    sandbox = site.sandbox("agent", "host")
    assert (sandbox["netns"], sandbox["endpoints"]) == ("", [])
    for more, says in (
        ({"networks": ["host", "web"]}, "cannot be combined"),
        ({"networks": ["none", "web"]}, "cannot be combined"),
        ({"networks": ["host"], "ports": ["80:80"]}, "host's own ports"),
        ({"networks": ["none"], "ports": ["80:80"]}, "gateway"),
        ({"networks": ["web", "web"]}, "twice"),
    ):
        with pytest.raises(Refused) as refused:
            site.daemon.post("/v1/sandboxes", more)
        assert says in refused.value.message
    with pytest.raises(Refused, match="own network"):
        site.daemon.post("/v1/sandboxes/agent/networks", {"network": "web"})
    site.daemon.delete("/v1/sandboxes/agent")


def test_none_has_loopback_alone_and_can_be_connected_later(site: Site) -> None:
    sandbox = site.sandbox("quiet", "none")
    assert addresses(site, sandbox["netns"]) == {"lo": ["127.0.0.1/8"]}
    site.daemon.post("/v1/sandboxes/quiet/networks", {"network": "web"})
    assert addresses(site, sandbox["netns"])["eth0"] == ["10.20.0.2/24"]


def test_published_ports_follow_the_gateway(site: Site) -> None:
    site.network("back", "10.30.0.0/24")
    site.network("inner", "10.40.0.0/24", internal=True)
    with pytest.raises(Refused, match="gateway"):
        site.sandbox("hidden", "inner", ports=("8081:80",))
    shop = site.sandbox("shop", "web", "inner", ports=("8080:80", "9000:9000/udp"))
    site.serve(shop, 80)
    site.serve(shop, 9000, "udp")

    def answers() -> bool:
        return (
            site.lab.fetch(site.neighbour, HOST, 8080).ok
            and site.lab.fetch(site.neighbour, HOST, 9000, "udp").ok
        )

    assert answers()
    higher = {"network": "back", "gateway_priority": 10}
    site.daemon.post("/v1/sandboxes/shop/networks", higher)
    assert ip(site, shop["netns"], "route show default")[0]["gateway"] == "10.30.0.1"
    assert answers()
    site.daemon.delete("/v1/sandboxes/shop/networks/back")
    assert ip(site, shop["netns"], "route show default")[0]["gateway"] == "10.20.0.1"
    assert answers()
    assert len(ip(site, shop["netns"], "rule")) == 3


def test_a_udp_flow_from_before_the_mapping_follows_it(site: Site) -> None:
    with site.lab.socket(site.neighbour, kind=socket.SOCK_DGRAM) as client:
        client.bind((NEIGHBOUR, 40000))
        client.settimeout(5)
        # The first datagram makes an entry that leads to the host itself.
        client.sendto(b"nobody there", (HOST, 9000))
        shop = site.sandbox("shop", "web", ports=("9000:9000/udp",))
        site.serve(shop, 9000, "udp")
        client.sendto(b"hello", (HOST, 9000))
        assert client.recv(100)
        # And from the old container to the new one.
        site.daemon.delete("/v1/sandboxes/shop")
        other = site.sandbox("other", "web", ports=("9000:9000/udp",))
        site.serve(other, 9000, "udp")
        client.sendto(b"hello", (HOST, 9000))
        assert b"other" in client.recv(100)


def test_a_failure_leaves_nothing(site: Site) -> None:
    site.daemon.stop()
    site.daemon.start({"LINKSPAN_FAILPOINT": "attach.applied:raise"})
    before = addresses(site, site.host)
    status, _ = site.daemon.request(
        "POST", "/v1/sandboxes", {"name": "shop", "networks": ["web"], "ports": ["8080:80"]}
    )
    assert status == 500
    assert addresses(site, site.host) == before
    assert site.daemon.get("/v1/sandboxes") == []
    assert list((site.daemon.run_dir / "netns").iterdir()) == []
    assert not any(site.daemon.post("/v1/reconcile").values())
    assert site.sandbox("shop", "web", ports=("8080:80",))["state"] == "up"
