"""The real docker command line manages our networks and sees our sandboxes."""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.processes import wait_until
from lab.site import HOST, Site, address


def command_lines() -> list[str]:
    """Every docker command line of this machine: Debian's, and one that was put beside it."""
    found = (shutil.which("docker", path=place) for place in ("/usr/bin", os.environ["PATH"]))
    return sorted({os.path.realpath(one) for one in found if one})


class Docker:
    """A docker command line that talks to a site's daemon."""

    def __init__(self, program: str, site: Site, directory: Path) -> None:
        self.program = program
        self.site = site
        self.directory = directory

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "DOCKER_CONFIG": str(self.directory),
            "DOCKER_HOST": f"unix://{self.site.daemon.socket}",
            "TZ": "UTC",
        }

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [self.program, *arguments],
            capture_output=True,
            text=True,
            timeout=20,
            env=self.environment,
        )
        if check:
            assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
        return done

    def __call__(self, *arguments: str) -> str:
        """What a command writes; it must succeed."""
        return self.run(*arguments).stdout.strip()

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments))

    def refused(self, *arguments: str) -> str:
        """What a command that must fail says about it."""
        done = self.run(*arguments, check=False)
        assert done.returncode != 0, done.stdout
        return done.stderr.strip()


@pytest.fixture(params=command_lines() or ["docker"], ids=lambda path: path.replace("/", "-")[1:])
def docker(
    request: pytest.FixtureRequest, lab: Lab, require: Callable[..., None], tmp_path: Path
) -> Docker:
    require("docker")
    return Docker(request.param, Site(lab), tmp_path)


def test_version_info_and_an_empty_host(docker: Docker) -> None:
    server = docker.json("version", "--format", "{{json .Server}}")
    assert server["Platform"]["Name"] == "linkspan"
    assert (server["ApiVersion"], server["MinAPIVersion"]) == ("1.52", "1.40")
    assert "Server: linkspan" in docker("version")
    info = docker.json("info", "--format", "{{json .}}")
    assert info["Containers"] == info["Images"] == 0
    assert info["DockerRootDir"] == str(docker.site.daemon.state_dir)
    assert {"bridge", "host", "null"} <= set(info["Plugins"]["Network"])
    assert f" Network: {' '.join(info['Plugins']['Network'])}\n" in docker("info")
    assert docker("network", "ls", "--format", "{{.Name}} {{.Driver}} {{.Scope}}").splitlines() == [
        "bridge bridge local",
        "host host local",
        "none null local",
    ]
    assert docker("ps", "-aq") == ""


def test_a_network_with_everything_is_created_inspected_and_removed(docker: Docker) -> None:
    identity = docker(
        *("network", "create", "--driver", "bridge", "--internal", "--label", "team=shop"),
        *("--subnet", "10.20.0.0/24", "--ip-range", "10.20.0.128/25", "--gateway", "10.20.0.9"),
        *("--aux-address", "nas=10.20.0.130", "--attachable"),
        *("-o", "com.docker.network.bridge.name=shop0", "-o", "com.docker.network.driver.mtu=1400"),
        *("-o", "com.docker.network.bridge.enable_icc=false", "web"),
    )
    (shown,) = docker.json("network", "inspect", "--verbose", "web")
    assert (shown["Id"], shown["Name"], shown["Scope"]) == (identity, "web", "local")
    assert shown["IPAM"]["Config"] == [
        {
            "Subnet": "10.20.0.0/24",
            "IPRange": "10.20.0.128/25",
            "Gateway": "10.20.0.9",
            "AuxiliaryAddresses": {"nas": "10.20.0.130"},
        }
    ]
    assert shown["Options"] == {
        "com.docker.network.bridge.name": "shop0",
        "com.docker.network.driver.mtu": "1400",
        "com.docker.network.bridge.enable_icc": "false",
    }
    assert shown["Labels"] == {"team": "shop"}
    assert (shown["Internal"], shown["Attachable"], shown["EnableIPv6"]) == (True, True, False)
    assert shown["Containers"] == {}
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", shown["Created"])
    ours = docker.site.daemon.get("/v1/networks/web")
    assert (ours["interface"], ours["mtu"], ours["options"]["icc"]) == ("shop0", 1400, "false")
    link = docker.site.lab.run(docker.site.host, "ip -j link show shop0").stdout
    assert json.loads(link)[0]["mtu"] == 1400
    assert docker("network", "rm", "web") == "web"
    assert docker("network", "ls", "-q", "--filter", "name=web") == ""


def test_a_network_of_two_families(docker: Docker) -> None:
    subnets = ("--subnet", "10.20.0.0/24", "--subnet", "fd00:20::/64")
    docker("network", "create", "--ipv6", *subnets, "both")
    (both,) = docker.json("network", "inspect", "both")
    assert both["EnableIPv6"] is True
    assert {one["Subnet"]: one["Gateway"] for one in both["IPAM"]["Config"]} == {
        "10.20.0.0/24": "10.20.0.1",
        "fd00:20::/64": "fd00:20::1",
    }
    docker("network", "create", "--ipv6", "chosen")
    (chosen,) = docker.json("network", "inspect", "chosen")
    subnets = [ipaddress.ip_network(one["Subnet"]) for one in chosen["IPAM"]["Config"]]
    assert [one.version for one in subnets] == [4, 6]
    assert subnets[1].subnet_of(ipaddress.ip_network("fd00::/8"))
    said = docker.refused("network", "create", "--subnet", "fd00:30::/64", "half")
    assert "subnet fd00:30::/64 is IPv6" in said


def test_a_sandbox_is_connected_and_disconnected_while_it_runs(docker: Docker) -> None:
    site = docker.site
    docker("network", "create", "--subnet", "10.20.0.0/24", "front")
    docker("network", "create", "--subnet", "10.30.0.0/24", "back")
    shop = site.sandbox("shop", "front")
    peer = site.sandbox("peer", "back")
    site.serve(shop, 80)
    docker("network", "connect", "--ip", "10.30.0.200", "--alias", "cart", "back", "shop")
    answer = site.lab.fetch(peer["netns"], "10.30.0.200", 80)
    assert (answer.ok, answer.reply, answer.seen) == (True, "shop", address(peer))
    (shown,) = docker.json("inspect", "shop")
    there = shown["NetworkSettings"]["Networks"]
    assert sorted(there) == ["back", "front"]
    assert there["back"]["IPAMConfig"] == {"IPv4Address": "10.30.0.200"}
    assert (there["back"]["IPAddress"], there["back"]["IPPrefixLen"]) == ("10.30.0.200", 24)
    assert there["back"]["Aliases"] == ["cart"]
    if "DNSNames" in there["back"]:  # a command line from 25.0 on shows it
        assert there["back"]["DNSNames"] == ["shop", "cart", shop["id"][:12]]
    assert there["front"]["Gateway"] == "10.20.0.1"
    (back,) = docker.json("network", "inspect", "back")
    members = {one["Name"]: one["IPv4Address"] for one in back["Containers"].values()}
    assert members == {"shop": "10.30.0.200/24", "peer": f"{address(peer)}/24"}
    assert set(back["Containers"]) == {shop["id"], peer["id"]}
    assert "has active endpoints" in docker.refused("network", "rm", "back")
    docker("network", "disconnect", "back", "shop")
    assert not site.lab.fetch(peer["netns"], "10.30.0.200", 80, timeout=0.5).ok
    docker("network", "disconnect", "--force", "back", "peer")
    assert docker("network", "rm", "back") == "back"


def test_sandboxes_are_listed_with_ports_states_and_filters(docker: Docker) -> None:
    site = docker.site
    docker("network", "create", "front")
    shop = site.sandbox("shop", "front", ports=("8080:80", "5000-5002:5000-5002/udp"))
    site.sandbox("alone", "none", labels={"team": "x"})
    names = ("ps", "--format", "{{.Names}}")
    assert docker(*names).splitlines() == ["alone", "shop"]
    assert docker(*names, "--filter", "network=front") == "shop"
    assert docker(*names, "--filter", "network=none") == "alone"
    assert docker(*names, "--filter", "label=team=x") == "alone"
    assert docker(*names, "--filter", "name=^sh") == "shop"
    assert docker(*names, "--filter", "status=exited") == ""
    assert docker(*names, "--last", "1") == "alone"
    assert docker("ps", "-q", "--no-trunc", "--filter", f"id={shop['id'][:12]}") == shop["id"]
    row = "{{.State}}|{{.Status}}|{{.Ports}}|{{.Networks}}"
    state, status, ports, networks = docker("ps", "--filter", "name=shop", "--format", row).split(
        "|"
    )
    assert (state, networks) == ("running", "front")
    assert status.startswith("Up ")
    assert "0.0.0.0:8080->80/tcp" in ports
    assert "5000-5002->5000-5002/udp" in ports
    assert docker("port", "shop", "80/tcp").splitlines()[0] == "0.0.0.0:8080"
    assert docker("inspect", "-f", "{{.HostConfig.NetworkMode}}", "alone") == "none"
    site.serve(shop, 80)
    assert site.lab.fetch(site.neighbour, HOST, 8080).reply == "shop"


def test_a_container_that_we_run(docker: Docker, require: Callable[..., None]) -> None:
    require("runc", "conmon")
    daemon = docker.site.daemon
    daemon.cli("run", "-d", "--name", "shop", "--label", "team=x", "--", "sleep", "300")
    (shown,) = docker.json("inspect", "shop")
    assert (shown["Path"], shown["Args"]) == ("sleep", ["300"])
    assert shown["State"]["Running"] is True
    assert os.path.exists(f"/proc/{shown['State']['Pid']}/ns/net")
    assert shown["Config"]["Labels"] == {"team": "x"}
    command = docker("ps", "--format", "{{.Command}} {{.Status}}")
    assert command.startswith('"sleep 300" Up ')
    daemon.cli("kill", "shop")
    wait_until(lambda: docker("ps", "-q") == "", "the container to end")
    status = docker("ps", "-a", "--filter", "name=shop", "--format", "{{.State}} {{.Status}}")
    assert re.match(r"exited Exited \(137\) .* ago", status)
    daemon.cli("rm", "shop")


def test_what_is_in_the_way_is_said(docker: Docker) -> None:
    docker("network", "create", "--subnet", "10.20.0.0/24", "web")
    docker.site.sandbox("shop", "web")
    for words, said in (
        (("network", "create", "web"), "network with name web already exists"),
        (("network", "create", "bridge"), "predefined"),
        (("network", "create", "--subnet", "10.20.0.0/25", "x"), "10.20.0.0/24 of network web"),
        (("network", "create", "--subnet", "10.20.0.7/24", "x"), "10.20.0.0/24"),
        (("network", "create", "-d", "no-such", "x"), "'no-such'"),
        (("network", "create", "-o", "com.example.colour=red", "x"), "'com.example.colour'"),
        (("network", "create", "--config-only", "x"), "ConfigOnly"),
        (("network", "create", "--ipam-opt", "colour=red", "x"), "'colour'"),
        (("network", "rm", "none"), "pre-defined"),
        (("network", "rm", "nono"), "nono"),
        (("network", "inspect", "nono"), "nono"),
        (("network", "connect", "web", "nono"), "No such container: nono"),
        (("network", "connect", "nono", "shop"), "network nono not found"),
        (("network", "connect", "web", "shop"), "already exists in network web"),
        (("network", "connect", "--link", "db", "bridge", "shop"), "Links"),
        (("network", "disconnect", "bridge", "shop"), "is not connected to network bridge"),
        (("network", "ls", "--filter", "colour=red"), "colour"),
        (("inspect", "nono"), "No such object"),
        (("run", "busybox"), "is not supported"),
        (("images",), "is not supported"),
        (("rm", "shop"), "is not supported"),
        (("volume", "ls"), "is not supported"),
    ):
        assert said.lower() in docker.refused(*words).lower(), words
    docker("network", "connect", "--ip", "172.20.0.77", "bridge", "shop")
    other = docker.site.sandbox("other", "none")
    message = docker.refused("network", "connect", "--ip", "172.20.0.77", "bridge", other["name"])
    assert "172.20.0.77" in message


def test_networks_are_filtered_and_pruned(docker: Docker) -> None:
    for name, label in (("web", "team=shop"), ("web-two", "keep=1"), ("used", "team=shop")):
        docker("network", "create", "--label", label, name)
    docker.site.sandbox("shop", "used")
    names = ("network", "ls", "--format", "{{.Name}}", "--filter")
    assert docker(*names, "name=^web$") == "web"
    assert docker(*names, "name=web").splitlines() == ["web", "web-two"]
    assert docker(*names, "label=team=shop").splitlines() == ["used", "web"]
    assert docker(*names, "driver=null") == "none"
    assert docker(*names, "type=custom").splitlines() == ["used", "web", "web-two"]
    assert docker(*names, "dangling=true").splitlines() == ["web", "web-two"]
    assert docker(*names, "scope=swarm") == ""
    identity = docker("network", "ls", "-q", "--no-trunc", "--filter", "name=^web$")
    assert docker(*names, f"id={identity[:12]}") == "web"
    assert docker("network", "inspect", "-f", "{{.Name}}", identity[:12]) == "web"
    assert docker("network", "prune", "-f", "--filter", "until=1h") == ""
    pruned = docker("network", "prune", "-f", "--filter", "label!=keep")
    assert pruned.splitlines() == ["Deleted Networks:", "web"]
    assert docker("network", "prune", "-f").splitlines() == ["Deleted Networks:", "web-two"]
    assert docker(*names, "type=custom") == "used"


def test_events_of_the_past_and_as_they_happen(docker: Docker) -> None:
    began = f"{time.time():.3f}"
    listening = docker.site.lab.spawn(
        docker.site.host,
        [docker.program, "events", "--format", "{{.Type}} {{.Action}} {{.Actor.Attributes.name}}",
         "--since", began, "--filter", "type=network"],
        docker.environment,
    )  # fmt: skip
    docker("network", "create", "web")
    sandbox = docker.site.sandbox("shop", "none")
    docker("network", "connect", "web", "shop")
    docker("network", "disconnect", "web", "shop")
    docker("network", "rm", "web")
    wanted = ["create", "connect", "disconnect", "destroy"]
    expected = [f"network {action} web" for action in wanted]
    wait_until(lambda: listening.output.splitlines() == expected, "docker events to tell all")
    until = f"{time.time():.3f}"
    past = docker("events", "--since", began, "--until", until, "--format", "{{json .}}")
    told = [json.loads(line) for line in past.splitlines()]
    assert [one["Action"] for one in told if one["Type"] == "network"] == wanted
    assert [one["Action"] for one in told if one["Type"] == "container"] == ["create", "start"]
    connected = next(one for one in told if one["Action"] == "connect")
    assert connected["Actor"]["Attributes"]["container"] == sandbox["id"]
    only = docker(
        *("events", "--since", began, "--until", until, "--filter", "container=shop"),
        *("--format", "{{.Action}}"),
    )
    assert only.splitlines() == ["create", "start"]
    # Without a format, each kind of message is printed in words.
    assert " network create " in docker("events", "--since", began, "--until", until)


def test_a_restart_of_the_daemon_ends_the_stream_and_keeps_the_past(docker: Docker) -> None:
    began = f"{time.time():.3f}"
    docker("network", "create", "web")
    listening = docker.site.lab.spawn(
        docker.site.host, [docker.program, "events", "--since", began], docker.environment
    )
    wait_until(lambda: "network create" in listening.output, "docker events to tell")
    docker.site.daemon.restart()
    wait_until(lambda: not listening.running, "docker events to end")
    past = docker("events", "--since", began, "--until", f"{time.time():.3f}")
    assert len(re.findall(r"network create \w+ \(name=web", past)) == 1


def test_dockers_option_names_mean_the_same_here(docker: Docker) -> None:
    written = {
        "com.docker.network.bridge.enable_ip_masquerade": "false",
        "com.docker.network.bridge.gateway_mode_ipv4": "routed",
        "com.docker.network.bridge.gateway_mode_ipv6": "nat",
        "com.docker.network.bridge.host_binding_ipv4": "127.0.0.1",
    }
    options = [word for name, value in written.items() for word in ("-o", f"{name}={value}")]
    docker("network", "create", "--ipv6", "--subnet", "fd00:20::/64", *options, "web")
    assert docker.json("network", "inspect", "-f", "{{json .Options}}", "web") == written
    ours = docker.site.daemon.get("/v1/networks/web")["options"]
    assert ours == {
        "masquerade": "false",
        "gateway_mode_ipv4": "routed",
        "gateway_mode_ipv6": "nat",
        "host_binding": "127.0.0.1",
    }
    said = docker.refused(
        "network", "create", "-o", "com.docker.network.bridge.enable_icc=perhaps", "x"
    )
    assert "com.docker.network.bridge.enable_icc='perhaps'" in said
