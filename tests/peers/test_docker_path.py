"""A host that Docker made and that has never seen linkspan: what is predicted is what happens."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.client import Client
from benchmarks.docker import Docker

from lab import Lab, Namespace
from linkspan.inventory.records import Container
from peers.attempts import FAR, STRANGER, UPLINK, Source, look_from, run_path, try_all, wire_up


class DockerHost:
    """A Docker daemon with containers: web and db on its bridge, other on a network of its own,
    side in web's namespace, near in the host's.
    """

    def __init__(self, lab: Lab, docker: Docker) -> None:
        self.lab = lab
        self.docker = docker
        self.outside: Namespace = wire_up(lab, docker.place)
        self.pids: dict[str, int] = {}
        self.addresses: dict[str, str] = {}
        docker.import_image()
        docker.add_network("back", "10.55.0.0/24")
        with Client(docker.socket) as client:
            labels = {"com.docker.compose.service": "shop", "com.docker.compose.project": "p"}
            self._run(
                client, "web", labels=labels,
                ports={"80/tcp": [("", "8080"), ("127.0.0.1", "9090")], "53/udp": [("", "5353")]},
            )  # fmt: skip
            self._run(client, "db")
            self._run(client, "other", network="back")
            self._run(client, "side", network="container:web")
            self._run(client, "near", network="host")
        for name in ("web", "db", "other"):
            for port in (80, 81):
                lab.listener_tcp(self.pids[name], "0.0.0.0", port, reply=name)
        lab.listener_udp(self.pids["web"], "0.0.0.0", 53, reply="web")
        lab.listener_udp(self.outside, FAR, 443, reply="outside")

    def _run(
        self, client: Client, name: str, network: str = "bridge",
        ports: dict[str, list[tuple[str, str]]] | None = None, labels: Any = None,
    ) -> None:  # fmt: skip
        bindings = {
            port: [{"HostIp": address, "HostPort": host_port} for address, host_port in where]
            for port, where in (ports or {}).items()
        }
        body = {
            "Image": "bench", "Cmd": ["/bin/sleep", "600"], "Labels": labels or {},
            "ExposedPorts": {port: {} for port in bindings},
            "HostConfig": {"NetworkMode": network, "PortBindings": bindings},
        }  # fmt: skip
        client.request("POST", f"/containers/create?name={name}", body)
        client.request("POST", f"/containers/{name}/start", {})
        state = client.request("GET", f"/containers/{name}/json")
        self.pids[name] = state["State"]["Pid"]
        found = state["NetworkSettings"]["Networks"].get(network, {}).get("IPAddress")
        if found:
            self.addresses[name] = found

    def path(self, *words: str, socket: str | None = None) -> Any:
        """`linkspan path` on this host: exit status, output, errors."""
        return run_path(
            ["nsenter", f"--net={self.docker.place.path}"], *words,
            environment={"LINKSPAN_DOCKER_SOCKET": socket or str(self.docker.socket)},
        )  # fmt: skip


@pytest.fixture(scope="module")
def docker_host() -> Iterator[DockerHost]:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    from benchmarks.docker import is_there

    if not is_there():
        pytest.skip("not installed: dockerd, docker (scripts/setup installs them)")
    with Lab() as lab, Docker(lab, "dpath") as docker:
        yield DockerHost(lab, docker)


def seen_containers(host: DockerHost) -> dict[str, Container]:
    found = look_from(host.docker.place).containers
    return {one.name: one for one in found if one.runtime == "docker" and one.pid is not None
            and one.pid in host.pids.values()}  # fmt: skip


def test_every_flow_goes_as_it_is_predicted(
    docker_host: DockerHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = docker_host
    monkeypatch.setenv("LINKSPAN_DOCKER_SOCKET", str(host.docker.socket))
    host.lab.listener_tcp(host.outside, "0.0.0.0", 443, reply="outside")
    host.lab.listener_tcp(host.docker.place, "0.0.0.0", 7000, reply="near")
    seen = look_from(host.docker.place)
    sources = [
        *(Source(name, host.pids[name]) for name in ("web", "db", "other")),
        Source("host", host.docker.place), Source(host.outside.name, host.outside),
    ]  # fmt: skip
    targets = [
        *((host.addresses[name], port, "tcp") for name in ("web", "db", "other")
          for port in (80, 81, 82)),
        (UPLINK, 8080, "tcp"), (UPLINK, 9090, "tcp"), ("127.0.0.1", 9090, "tcp"),
        ("127.0.0.1", 8080, "tcp"), (UPLINK, 5353, "udp"), (UPLINK, 7000, "tcp"),
        (STRANGER, 443, "tcp"), (FAR, 443, "udp"), (host.addresses["web"], 53, "udp"),
    ]  # fmt: skip
    outcomes = try_all(host.lab, seen, sources, targets)
    answered = {(one.source, one.target, one.port) for one in outcomes if one.answered}
    stranger = host.outside.name
    assert (stranger, UPLINK, 8080) in answered
    assert (stranger, UPLINK, 5353) in answered
    assert (stranger, UPLINK, 9090) not in answered
    assert ("db", host.addresses["web"], 81) in answered
    assert ("other", host.addresses["web"], 80) not in answered
    assert ("web", STRANGER, 443) in answered


def test_containers_have_their_names(
    docker_host: DockerHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINKSPAN_DOCKER_SOCKET", str(docker_host.docker.socket))
    found = seen_containers(docker_host)
    assert {name: one.namespace for name, one in found.items()} == {
        "web": "web", "db": "db", "other": "other", "side": "web", "near": "host",
    }  # fmt: skip
    web = found["web"]
    assert (web.image, web.networks, web.pid) == ("bench", ("bridge",), docker_host.pids["web"])
    assert {"0.0.0.0:8080->80/tcp", "127.0.0.1:9090->80/tcp"} < set(web.published)
    assert {"shop", "p/shop"} < set(web.aliases)


def test_a_daemon_that_does_not_answer_is_told_of_and_its_files_are_read(
    docker_host: DockerHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("LINKSPAN_DOCKER_SOCKET", str(docker_host.docker.socket))
    told = seen_containers(docker_host)
    with socket.socket(socket.AF_UNIX) as hanging:
        hanging.bind(str(tmp_path / "hangs"))
        hanging.listen()
        for path, reason in (("hangs", "does not answer within 2 s"), ("nowhere", "No such file")):
            monkeypatch.setenv("LINKSPAN_DOCKER_SOCKET", str(tmp_path / path))
            seen = look_from(docker_host.docker.place)
            assert any(reason in sentence for sentence in seen.unseen), seen.unseen
            left = seen_containers(docker_host)
            assert left.keys() == told.keys()
            for name, one in left.items():
                known = told[name]
                assert (one.namespace, one.id, one.pid, one.image, one.networks) == (
                    known.namespace, known.id, known.pid, known.image, known.networks
                )  # fmt: skip
            assert set(left["web"].published) >= set(told["web"].published) - {
                one for one in told["web"].published if one.startswith("[")
            }


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("db", "web:80"), 0, "DELIVERED"),
        (("db", "web:82"), 1, "nobody listens"),
        (("outside", f"{UPLINK}:8080"), 0, "DELIVERED"),
        (("outside", f"{UPLINK}:9090"), 1, "NOT DELIVERED"),
        (("other", "web:80"), 1, "dropped"),
        (("shop", "docker:db:80"), 0, "DELIVERED"),
        (("side", "db:80"), 0, "DELIVERED"),
        (("web", f"{FAR}:443", "--proto", "udp"), 0, "DELIVERED"),
    ],
)
def test_path_answers_both_ways(
    docker_host: DockerHost, words: tuple[str, ...], status: int, said: str
) -> None:
    done = docker_host.path(*words)
    assert (done.returncode, said in done.stdout) == (status, True), done


def test_json_and_the_beginning_of_an_id(docker_host: DockerHost) -> None:
    with Client(docker_host.docker.socket) as client:
        id = client.request("GET", "/containers/db/json")["Id"]
    done = docker_host.path("outside", f"{UPLINK}:8080", "--format", "json")
    answer = json.loads(done.stdout)
    assert (answer["disposition"], answer["namespace"]) == ("delivered", "web")
    rewrites = [one for hop in answer["hops"] for one in hop["rewrites"]]
    assert rewrites[0]["before"]["destination"] == UPLINK
    assert rewrites[0]["after"]["destination"] == docker_host.addresses["web"]
    assert answer["reply"]["flow"]["arrived"]["source"] == UPLINK
    steps = [step for hop in answer["hops"] for step in hop["steps"]]
    assert all({"kind", "object", "detail"} <= step.keys() for step in steps)
    done = docker_host.path(id[:8], "web:80", "--format", "json")
    assert json.loads(done.stdout)["hops"][0]["namespace"] == "db"
    done = docker_host.path("dbb", "web:80")
    assert done.returncode == 2
    assert "did you mean db" in done.stderr
