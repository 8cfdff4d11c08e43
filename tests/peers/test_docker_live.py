"""`linkspan path --live` on a host that Docker made: iptables' rules are heard of by nf_tables."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.client import Client
from benchmarks.docker import Docker

from lab import Lab
from lab.live import ask_live
from peers.attempts import UPLINK, wire_up


def test_what_docker_publishes_and_what_it_keeps_apart(
    lab: Lab, require: Callable[..., None]
) -> None:
    require("dockerd", "docker")
    with Docker(lab, "dlive") as docker:
        outside = wire_up(lab, docker.place)
        docker.import_image()
        docker.add_network("back", "10.56.0.0/24")
        found = {}
        with Client(docker.socket) as client:
            for name, network, ports in (
                ("web", "bridge", {"80/tcp": [{"HostPort": "8080"}]}), ("db", "bridge", {}),
                ("other", "back", {}),
            ):  # fmt: skip
                body = {
                    "Image": "bench", "Cmd": ["/bin/sleep", "600"],
                    "ExposedPorts": {port: {} for port in ports},
                    "HostConfig": {"NetworkMode": network, "PortBindings": ports},
                }  # fmt: skip
                client.request("POST", f"/containers/create?name={name}", body)
                client.request("POST", f"/containers/{name}/start", {})
                found[name] = client.request("GET", f"/containers/{name}/json")
        pids = {name: state["State"]["Pid"] for name, state in found.items()}
        address = found["web"]["NetworkSettings"]["Networks"]["bridge"]["IPAddress"]
        for pid in pids.values():
            lab.listener_tcp(pid, "0.0.0.0", 80)
        before = rules(lab, docker)
        for origin, target, status in (
            (f"pid:{pids['db']}", f"{address}:80", 0),
            (f"pid:{pids['db']}", f"{address}:81", 1),
            (f"pid:{pids['other']}", f"{address}:80", 1),
            (outside.name, f"{UPLINK}:8080", 0),
            (outside.name, f"{address}:81", 1),
            ("host", f"{address}:80", 0),
        ):
            asked = ask_live(docker.place, origin, target, "--live", "--timeout", "0.4")
            assert asked.seen["as_predicted"], (origin, target, asked.difference)
            assert (origin, target, asked.status) == (origin, target, status)
            if (origin, target) == (outside.name, f"{UPLINK}:8080"):
                assert any(rule.startswith("ip nat DOCKER ") for rule in asked.rules), asked.rules
                last = [f for f in asked.seen["frames"] if f["part"] == "there"][-1]
                assert last["headers"]["destination"] == address
            if origin == f"pid:{pids['other']}":
                assert any(rule.startswith("ip filter ") for rule in asked.rules)
                assert asked.seen["hops"][-1]["observed"]["stopped_by"] is not None
        assert rules(lab, docker) == before


def rules(lab: Lab, docker: Docker) -> str:
    """All rules of the host, without their counters."""
    return lab.run(docker.place, "nft -s list ruleset").stdout
