"""`linkspan exposed` on a host that only Docker made: a real stranger reaches what it says."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from lab.daemon import SOURCE
from linkspan.analysis.addresses import to_number
from linkspan.analysis.headers import prefix_intervals
from linkspan.analysis.intervals import interval
from peers.attempts import STRANGER, UPLINK
from peers.test_docker_path import DockerHost, docker_host

__all__ = ["docker_host"]
SILENCE = 0.4


@pytest.fixture(scope="module")
def found(docker_host: DockerHost) -> Any:
    host = docker_host
    host.lab.listener_tcp(host.docker.place, "0.0.0.0", 7001, reply="near")
    for network in ("172.17.0.0/16", "10.55.0.0/24"):
        host.lab.route(host.outside, network, "via", UPLINK)
    done = host.lab.run(
        host.docker.place,
        ["env", f"PYTHONPATH={SOURCE}", f"LINKSPAN_DOCKER_SOCKET={host.docker.socket}",
         sys.executable, "-m", "linkspan", "exposed", "--link", "uplink", "--format", "json"],
        timeout=60,
    )  # fmt: skip
    return json.loads(done.stdout)


def is_said(found: Any, target: str, port: int, protocol: str) -> bool:
    def holds(ranges: list[str], number: int) -> bool:
        for text in ranges:
            first, dash, last = text.partition("-")
            values = interval(to_number(first), to_number(last)) if dash else prefix_intervals(text)
            if number in values:
                return True
        return False

    return any(
        one["protocol"] == protocol and one["ip"] == 4
        and holds(one["addresses"], to_number(target))
        and any(first <= port <= last for first, last in one["ports"])
        and (one["answered_from"]["kind"] == "any"
             or holds(one["answered_from"]["ranges"], to_number(STRANGER))
             == (one["answered_from"]["kind"] == "only"))
        for one in found["exposed"]
    )  # fmt: skip


def test_a_stranger_finds_what_is_exposed(docker_host: DockerHost, found: Any) -> None:
    host = docker_host
    wrong, answered = [], 0
    for target in (UPLINK, *host.addresses.values()):
        for protocol, ports in (("tcp", (80, 81, 7001, 8080, 9090)), ("udp", (53, 5353))):
            for port in ports:
                got = host.lab.fetch(host.outside, target, port, protocol, timeout=SILENCE).ok
                if got != is_said(found, target, port, protocol):
                    wrong.append((target, port, protocol, got))
                answered += got
    assert wrong == []
    assert answered >= 3


def test_docker_opened_it(docker_host: DockerHost, found: Any) -> None:
    rows = [one for one in found["exposed"] if one["ports"] == [[8080, 8080]] and one["ip"] == 4]
    makers = {one["opened_by"] for one in rows if one["answers"]["namespace"] != "host"}
    assert makers == {"docker"}
    names = {one["answers"]["name"] for one in rows}
    assert any("web" in name for name in names)
