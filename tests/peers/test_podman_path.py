"""Hosts that Podman made, with both of its backends: what is predicted is what happens."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator

import pytest

from lab import Lab, Namespace
from lab.processes import wait_until
from peers.attempts import FAR, STRANGER, UPLINK, Source, look_from, run_path, try_all, wire_up
from peers.podman_host import IMAGE, Podman


class PodmanHost:
    """web with ports published, db beside it, side in web's namespace, near in the host's."""

    def __init__(self, lab: Lab, podman: Podman) -> None:
        self.lab = lab
        self.podman = podman
        self.outside: Namespace = wire_up(lab, podman.place)
        ports = ("8080:80", "127.0.0.1:9090:80", "5353:53/udp")
        published = [word for port in ports for word in ("--publish", port)]
        made = {
            "web": podman.run("web", *published),
            "db": podman.run("db"),
            "side": podman.run("side", "--network", "container:web"),
            "near": podman.run("near", "--network", "host"),
        }
        self.ids = {name: one["Id"] for name, one in made.items()}
        self.pids = {name: one["State"]["Pid"] for name, one in made.items()}
        self.addresses = {
            name: made[name]["NetworkSettings"]["Networks"]["podman"]["IPAddress"]
            for name in ("web", "db")
        }
        for name in ("web", "db"):
            for port in (80, 81):
                lab.listener_tcp(self.pids[name], "0.0.0.0", port, reply=name)
        lab.listener_udp(self.pids["web"], "0.0.0.0", 53, reply="web")
        lab.listener_tcp(self.outside, "0.0.0.0", 443, reply="outside")
        lab.listener_udp(self.outside, FAR, 443, reply="outside")
        lab.listener_tcp(podman.place, "0.0.0.0", 7000, reply="near")


@pytest.fixture(scope="module", params=["netavark", "cni"])
def podman_host(request: pytest.FixtureRequest) -> Iterator[PodmanHost]:
    if os.geteuid() != 0:
        pytest.skip("needs root for network namespaces")
    needed = ["podman", "runc", *(["/usr/lib/podman/netavark"] if "neta" in request.param else [])]
    missing = [name for name in needed if not shutil.which(name)]
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)} (scripts/setup installs them)")
    with Lab() as lab, Podman(lab, request.param) as podman:
        yield PodmanHost(lab, podman)


def test_every_flow_goes_as_it_is_predicted(podman_host: PodmanHost) -> None:
    host = podman_host
    seen = look_from(host.podman.place)
    names = {one.pid: one.namespace for one in seen.containers if one.pid is not None}
    sources = [
        *(Source(names[host.pids[name]], host.pids[name]) for name in ("web", "db")),
        Source("host", host.podman.place), Source(host.outside.name, host.outside),
    ]  # fmt: skip
    targets = [
        *((host.addresses[name], port, "tcp") for name in ("web", "db") for port in (80, 81, 82)),
        (UPLINK, 8080, "tcp"), (UPLINK, 9090, "tcp"), ("127.0.0.1", 9090, "tcp"),
        ("127.0.0.1", 8080, "tcp"), (UPLINK, 5353, "udp"), (UPLINK, 7000, "tcp"),
        (STRANGER, 443, "tcp"), (FAR, 443, "udp"), (host.addresses["web"], 53, "udp"),
    ]  # fmt: skip
    outcomes = try_all(host.lab, seen, sources, targets)
    answered = {(one.source, one.target, one.port) for one in outcomes if one.answered}
    stranger = host.outside.name
    assert (stranger, UPLINK, 8080) in answered
    assert (stranger, UPLINK, 9090) not in answered
    assert ("host", "127.0.0.1", 9090) in answered
    assert ("db", host.addresses["web"], 81) in answered
    assert ("db", FAR, 443) in answered


def test_containers_have_their_names_without_any_daemon(podman_host: PodmanHost) -> None:
    seen = look_from(podman_host.podman.place)
    found = {one.name: one for one in seen.containers if one.id in podman_host.ids.values()}
    assert {name: one.namespace for name, one in found.items()} == {
        "web": "web", "db": "db", "side": "web", "near": "host",
    }  # fmt: skip
    for name, one in found.items():
        assert (one.runtime, one.id, one.pid, one.image) == (
            "podman", podman_host.ids[name], podman_host.pids[name], f"{IMAGE}:latest"
        )  # fmt: skip


def test_its_api_tells_networks_and_ports(
    podman_host: PodmanHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    podman = podman_host.podman
    path = podman_host.lab.directory / "podman.sock"
    serving = ["podman", *podman._options, "system", "service", "--time", "20", f"unix://{path}"]
    with subprocess.Popen([*podman.enter, *serving], stderr=subprocess.DEVNULL) as service:
        try:
            wait_until(path.exists, "Podman's API to be served")
            monkeypatch.setenv("LINKSPAN_PODMAN_SOCKET", str(path))
            seen = look_from(podman.place)
        finally:
            service.terminate()
            path.unlink(missing_ok=True)
    web = next(one for one in seen.containers if one.id == podman_host.ids["web"])
    assert web.networks == ("podman",)
    assert set(web.published) == {
        "0.0.0.0:8080->80/tcp", "127.0.0.1:9090->80/tcp", "0.0.0.0:5353->53/udp",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("db", "web:80"), 0, "DELIVERED"),
        (("podman:db", "side:82"), 1, "nobody listens"),
        (("outside", f"{UPLINK}:8080"), 0, "DELIVERED"),
        (("outside", f"{UPLINK}:9090"), 1, "NOT DELIVERED"),
        (("web", f"{FAR}:443", "--proto", "udp"), 0, "DELIVERED"),
    ],
)
def test_path_answers_both_ways(
    podman_host: PodmanHost, words: tuple[str, ...], status: int, said: str
) -> None:
    done = run_path(podman_host.podman.enter, *words)
    assert (done.returncode, said in done.stdout) == (status, True), done
