"""Policies refuse what is asked for, record who asked, and hold in the kernel; the audit tells."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Refused
from lab.reuse import Sites
from lab.site import HOST, Site, address


@pytest.fixture
def site(sites: Sites) -> Iterator[Site]:
    with sites.borrowed() as site:
        site.network("web", "10.20.0.0/24")
        site.network("back", "10.30.0.0/24")
        yield site


def put(site: Site, name: str, *values: str) -> Any:
    status, answer = site.daemon.request("PUT", f"/v1/policies/{name}", {"values": list(values)})
    assert status == 200, answer
    return answer


def refused(site: Site, method: str, path: str, body: Any = None) -> str:
    status, answer = site.daemon.request(method, path, body)
    assert (status, answer["error"]["code"]) == (403, "policy"), answer
    return str(answer["error"]["message"])


def audit(site: Site, kind: str) -> list[dict[str, Any]]:
    return [hole for hole in site.daemon.get("/v1/audit") if hole["kind"] == kind]


class TestRefusals:
    def test_one_network(self, site: Site) -> None:
        site.sandbox("both", "web", "back")
        site.sandbox("shop", "web")
        (violation,) = put(site, "one-network")["violations"]
        assert violation["sandbox"] == "both"
        body = {"name": "more", "networks": ["web", "back"]}
        assert "one-network" in refused(site, "POST", "/v1/sandboxes", body)
        refused(site, "POST", "/v1/sandboxes/shop/networks", {"network": "back"})
        # What is there is not broken, and addresses of what was refused are free.
        assert len(site.daemon.get("/v1/sandboxes/both")["endpoints"]) == 2
        assert address(site.sandbox("next", {"network": "back", "ip": "10.30.0.3"})) == "10.30.0.3"
        site.daemon.delete("/v1/policies/one-network")
        site.daemon.post("/v1/sandboxes/shop/networks", {"network": "back"})

    def test_no_host_mode(self, site: Site) -> None:
        put(site, "no-host-mode")
        refused(site, "POST", "/v1/sandboxes", {"name": "agent", "networks": ["host"]})
        assert site.daemon.get("/v1/sandboxes") == []

    def test_published_on(self, site: Site) -> None:
        site.sandbox("shop", "web")
        put(site, "published-on", "127.0.0.1", "192.0.2.0/24")
        for port in ("8080:80", "0.0.0.0:8080:80"):
            message = refused(site, "POST", "/v1/sandboxes/shop/ports", {"ports": [port]})
            assert "like 127.0.0.1:8080:80/tcp" in message
            refused(site, "POST", "/v1/sandboxes", {"name": "other", "ports": [port]})
        for port in ("127.0.0.1:8080:80", f"{HOST}:8080:80"):
            site.daemon.post("/v1/sandboxes/shop/ports", {"ports": [port]})

    def test_it_survives_a_restart_and_attempts_are_recorded_with_who(self, site: Site) -> None:
        put(site, "one-network")
        site.daemon.restart(signal.SIGKILL)
        refused(site, "POST", "/v1/sandboxes", {"name": "more", "networks": ["web", "back"]})
        site.daemon.restart()
        (event,) = [
            e
            for e in site.daemon.stream(f"/v1/events?since={site.since}&follow=false")
            if (e["type"], e["action"]) == ("policy", "refused")
        ]
        assert (event["name"], event["attributes"]["sandbox"]) == ("one-network", "more")
        assert (event["by"]["uid"], event["by"]["pid"]) == (os.getuid(), os.getpid())
        assert site.daemon.get("/v1/policies")[0]["by"]["pid"] == os.getpid()

    def test_starting_is_asking_again(self, site: Site, require: Any) -> None:
        require("runc", "conmon")
        site.daemon.cli("run", "-d", "--name", "shop", "-p", "8080:80", "--", "sleep", "1000")
        site.daemon.cli("stop", "-t", "0", "shop")
        site.daemon.cli("policy", "set", "published-on=127.0.0.1")
        done = site.daemon.cli("start", "shop", check=False)
        assert done.returncode == 1
        assert "policy published-on=127.0.0.1 forbids port 0.0.0.0:8080:80/tcp" in done.stderr
        site.daemon.cli("policy", "unset", "published-on")
        site.daemon.cli("start", "shop")

    def test_what_is_no_policy_is_refused(self, site: Site) -> None:
        for name, values in (
            ("no-fun", []),
            ("one-network", ["x"]),
            ("published-on", []),
            ("published-on", ["here"]),
        ):
            status, answer = site.daemon.request("PUT", f"/v1/policies/{name}", {"values": values})
            assert (status, answer["error"]["code"]) == (400, "invalid")
        with pytest.raises(Refused, match="is not set"):
            site.daemon.delete("/v1/policies/one-network")


@pytest.mark.parametrize("bridge_netfilter", [False, True], ids=["nf0", "nf1"])
class TestNoRouting:
    """`member` on one network tries to reach `target` on the other through `router`, which has
    every right inside its namespace.
    """

    @pytest.fixture
    def site(self, sites: Sites, bridge_netfilter: bool) -> Iterator[Site]:
        with sites.borrowed(bridge_netfilter) as site:
            site.network("web", "10.20.0.0/24")
            site.network("back", "10.30.0.0/24")
            yield site

    @pytest.fixture
    def inside(self, site: Site) -> dict[str, Any]:
        made = {
            "router": site.sandbox("router", "web", "back"),
            "member": site.sandbox("member", "web"),
            "target": site.sandbox("target", "back"),
        }
        site.serve(made["target"], 80)
        router = made["router"]["netns"]
        site.lab.run(router, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0")
        via = address(made["router"], "web")
        site.lab.run(made["member"]["netns"], f"ip route add 10.30.0.0/24 via {via}")
        back = address(made["router"], "back")
        site.lab.run(made["target"]["netns"], f"ip route add 10.20.0.0/24 via {back}")
        return made

    def reaches(self, site: Site, inside: dict[str, Any]) -> bool:
        target = address(inside["target"])
        return site.lab.fetch(inside["member"]["netns"], target, 80, timeout=0.5).ok

    def delivers(self, site: Site, inside: dict[str, Any]) -> bool:
        """Whether a datagram gets there, whatever becomes of the answer."""
        place, target = inside["target"]["netns"], address(inside["target"])
        listener = site.lab.listener_udp(place, "0.0.0.0", 9000)
        site.lab.fetch(inside["member"]["netns"], target, 9000, "udp", timeout=0.5)
        listener.close()
        return bool(listener.seen)

    def translate(self, site: Site, inside: dict[str, Any]) -> None:
        rules = (
            "table ip own {\nchain out {\ntype nat hook postrouting priority 100;\n"
            "oifname eth1 masquerade\n}\n}\n"
        )
        site.lab.run(inside["router"]["netns"], ["nft", "-f", "-"], stdin=rules)

    def test_plain_routing_is_dropped_without_any_policy(
        self, site: Site, inside: dict[str, Any]
    ) -> None:
        assert not self.delivers(site, inside)
        assert not self.reaches(site, inside)

    def test_translation_passes_one_way_until_the_policy_is_set(
        self, site: Site, inside: dict[str, Any]
    ) -> None:
        self.translate(site, inside)
        assert self.delivers(site, inside)
        # The answer would have the target's address, on a network where it is not its own.
        assert not self.reaches(site, inside)
        router, member = inside["router"]["netns"], inside["member"]["netns"]
        site.lab.listener_tcp(router, "0.0.0.0", 81)
        talk = site.lab.connect(member, address(inside["router"], "web"), 81)
        put(site, "no-routing")
        assert not self.delivers(site, inside)
        # What is addressed to the router itself is none of this.
        assert talk.say("hello") == "hello"
        assert site.lab.fetch(router, address(inside["target"]), 80).ok
        assert site.lab.fetch(site.host, address(inside["router"], "back"), 81).ok
        # The guard outlives the daemon, and the next one knows the policy.
        site.daemon.restart(signal.SIGKILL)
        assert not self.delivers(site, inside)
        assert not any(site.daemon.post("/v1/reconcile").values())
        site.daemon.delete("/v1/policies/no-routing")
        assert self.delivers(site, inside)

    def test_it_holds_for_who_joins_later(self, site: Site, inside: dict[str, Any]) -> None:
        put(site, "no-routing")
        self.translate(site, inside)
        site.daemon.delete("/v1/sandboxes/router/networks/back")
        site.daemon.post("/v1/sandboxes/router/networks", {"network": "back", "ip": "10.30.0.2"})
        assert not self.delivers(site, inside)

    def test_a_network_that_checks_no_sources_is_refused(
        self, site: Site, inside: dict[str, Any]
    ) -> None:
        site.network("loose", "10.50.0.0/24", options={"source_check": "false"})
        put(site, "no-routing")
        message = refused(site, "POST", "/v1/sandboxes/member/networks", {"network": "loose"})
        assert "source_check" in message
        site.sandbox("alone", "loose")


class TestAudit:
    def test_it_tells_every_hole_with_who_and_when(self, site: Site) -> None:
        site.network("loose", "10.50.0.0/24", options={"source_check": "false"})
        site.network("flat", "10.60.0.0/24", options={"masquerade": "false"})
        site.sandbox("shop", "web", "back", ports=("8080:80", "127.0.0.1:9000:90/udp"))
        site.sandbox("agent", "host")
        site.sandbox("member", "web")
        site.daemon.cli("publish", "shop", f"{HOST}:8443:443")
        site.daemon.restart(signal.SIGKILL)
        ports = {hole["what"]: hole for hole in audit(site, "published_port")}
        assert {what: hole["open_to"] for what, hole in ports.items()} == {
            "port 0.0.0.0:8080:80/tcp": "whoever reaches any address of this host",
            "port 127.0.0.1:9000:90/udp": "programs of this host",
            f"port {HOST}:8443:443/tcp": f"whoever reaches {HOST}",
        }
        assert ports["port 0.0.0.0:8080:80/tcp"]["by"]["pid"] == os.getpid()
        later = ports[f"port {HOST}:8443:443/tcp"]
        assert later["by"]["pid"] not in (os.getpid(), site.daemon.pid)
        assert later["opened"] > ports["port 0.0.0.0:8080:80/tcp"]["opened"]
        assert [hole["name"] for hole in audit(site, "host_mode")] == ["agent"]
        assert [hole["name"] for hole in audit(site, "source_check_off")] == ["loose"]
        assert [hole["name"] for hole in audit(site, "masquerade_off")] == ["flat"]
        assert [hole["name"] for hole in audit(site, "members_open")] == ["web"]
        (several,) = audit(site, "several_networks")
        assert (several["name"], several["what"]) == ("shop", "is on web and back")
        assert {hole["name"] for hole in audit(site, "route_localnet")} >= {"web", "back"}
        lines = site.daemon.cli("audit").stdout.splitlines()
        assert len(lines) == len(site.daemon.get("/v1/audit"))
        assert all(" by " in line for line in lines)

    def test_what_is_closed_is_gone_from_it(self, site: Site) -> None:
        site.sandbox("shop", "web", "back", ports=("8080:80",))
        site.daemon.delete("/v1/sandboxes/shop/ports/8080")
        site.daemon.delete("/v1/sandboxes/shop/networks/back")
        assert audit(site, "published_port") == audit(site, "several_networks") == []

    def test_an_interface_that_others_opened_is_told(self, site: Site) -> None:
        site.lab.run(site.host, "sysctl -qw net.ipv4.conf.uplink.route_localnet=1")
        (found,) = [h for h in audit(site, "route_localnet") if h["name"] == "uplink"]
        assert (found["by"], found["opened"]) == (None, None)
        assert "not opened by linkspan" in site.daemon.cli("audit").stdout

    def test_a_privileged_container_is_told(self, site: Site, require: Any) -> None:
        require("runc", "conmon")
        site.daemon.cli("run", "-d", "--privileged", "--name", "root", "--", "sleep", "1000")
        assert [hole["name"] for hole in audit(site, "privileged")] == ["root"]
