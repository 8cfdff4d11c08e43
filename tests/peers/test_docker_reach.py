"""The matrix of a host that Docker made, against real connections."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from linkspan.analysis import View
from linkspan.analysis.reach import HOST, OUTSIDE, Reached, Row, find_reach
from peers.attempts import UPLINK, look_from
from peers.test_docker_path import DockerHost, docker_host

__all__ = ["docker_host"]


def test_every_connection_does_what_the_matrix_says(
    docker_host: DockerHost,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = docker_host
    monkeypatch.setenv("LINKSPAN_DOCKER_SOCKET", str(host.docker.socket))
    seen = look_from(host.docker.place)
    names = ["web", "db", "other"]
    reach = find_reach(View(seen.plane, sockets_known=True), containers=names)
    places = {name: host.pids[name] for name in names}
    places |= {HOST: host.docker.place, OUTSIDE: host.outside}
    rows = [
        row
        for row in reach.rows()
        if row.origin in places and row.target in places and row.target != OUTSIDE
        if ":" not in row.address and row.verdict is not Reached.DEPENDS
    ]

    def attempt(row: Row) -> str | None:
        got = host.lab.fetch(
            places[row.origin], row.address, row.ports[0][0], row.protocol, timeout=1.0
        )
        if got.ok is (row.verdict is Reached.REACHABLE):
            return None
        return f"{row.origin} to {row.target} {row.address}:{row.ports}: {got}, {row.finding}"

    with ThreadPoolExecutor(16) as pool:
        wrong = [one for one in pool.map(attempt, rows) if one]
    assert wrong == []
    assert {(one, other) for one in names for other in names} <= {
        (row.origin, row.target) for row in rows
    }
    assert reach.verdict("db", "web", "tcp", 80) is Reached.REACHABLE
    assert reach.verdict("other", "web", "tcp", 80) is Reached.BLOCKED
    assert reach.verdict(OUTSIDE, "web", "tcp", 8080, UPLINK) is Reached.REACHABLE
    assert reach.verdict(OUTSIDE, "web", "tcp", 9090, UPLINK) is not Reached.REACHABLE
    assert reach.verdict(HOST, "web", "tcp", 9090, "127.0.0.1") is Reached.REACHABLE
