"""The matrix of a host that linkspan made against real connections, every one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lab.reuse import Sites
from lab.site import HOST as HOST_ADDRESS
from lab.site import NEIGHBOUR, Site
from linkspan.analysis import View
from linkspan.analysis.reach import HOST, INTERNET, OUTSIDE, Reach, Reached, Row, find_reach
from linkspan.cli.client import Client
from linkspan.cli.hostview import look_at_host
from linkspan.cli.whereabouts import Whereabouts
from linkspan.kernel import namespaces

WEB, BACK, DARK, APART = "web", "back", "dark", "apart"
ON = {
    "web1": (WEB,), "web2": (WEB,), "web3": (WEB,), "back1": (BACK,), "back2": (BACK,),
    "dark1": (DARK,), "dark2": (DARK,), "apart1": (APART,), "apart2": (APART,),
    "both": (WEB, BACK),
}  # fmt: skip


@pytest.fixture(params=[True, False], ids=["bridge-nf-call", "no-bridge-nf-call"])
def site(sites: Sites, request: pytest.FixtureRequest) -> Iterator[Site]:
    with sites.borrowed(request.param) as made:
        made.network(WEB, "10.20.0.0/24")
        made.network(BACK, "10.21.0.0/24")
        made.network(DARK, "10.22.0.0/24", internal=True)
        made.network(APART, "10.23.0.0/24", options={"icc": "false"})
        boxes: dict[str, Any] = {}
        for number, (name, networks) in enumerate(ON.items()):
            ports: tuple[str, ...] = (f"{8000 + number}:80",) if name.startswith("web") else ()
            if name == "back1":
                ports = ("127.0.0.1:9090:80", "80:80")
            on = [{"network": network} for network in networks]
            boxes[name] = made.sandbox(name, *on, ports=ports)
            made.serve(boxes[name], 80)
            if name.startswith("back"):
                made.serve(boxes[name], 53, "udp")
        made.lab.listener_tcp(made.host, "0.0.0.0", 22, reply="host")
        for subnet in ("10.20.0.0/14", "172.16.0.0/12"):
            made.lab.route(made.neighbour, subnet, "via", HOST_ADDRESS)
        made.boxes = boxes  # type: ignore[attr-defined]
        yield made


def look(site: Site) -> tuple[View, Reach]:
    boxes: dict[str, Any] = site.boxes  # type: ignore[attr-defined]
    with namespaces.opened(site.host.path) as descriptor, namespaces.entered(descriptor):
        ends = [Whereabouts(name, name=name) for name in boxes]
        seen = look_at_host(Client(str(site.daemon.socket)), ends)
    view = View(seen.plane, sockets_known=True)
    return view, find_reach(view, containers=list(boxes))


def test_every_connection_does_what_the_matrix_says(site: Site):
    boxes: dict[str, Any] = site.boxes  # type: ignore[attr-defined]
    _, reach = look(site)
    places = {name: row["netns"] for name, row in boxes.items()}
    # The neighbour is the stranger: on the same segment, with another address.
    places |= {HOST: site.host, OUTSIDE: site.neighbour}
    rows = [row for row in reach.rows() if row.origin in places and row.target in places]
    rows = [row for row in rows if row.target != OUTSIDE and ":" not in row.address]

    def attempt(row: Row) -> str | None:
        got = site.lab.fetch(
            places[row.origin], row.address, row.ports[0][0], row.protocol, timeout=0.8
        )
        if got.ok is (row.verdict is Reached.REACHABLE):
            return None
        return f"{row.origin} to {row.target} {row.address}:{row.ports}: {got}, {row.finding}"

    with ThreadPoolExecutor(16) as pool:
        wrong = [one for one in pool.map(attempt, rows) if one]
    assert wrong == []
    asked = {(row.origin, row.target) for row in rows}
    assert {(one, other) for one in boxes for other in boxes} <= asked
    assert {(one, name) for one in (HOST, OUTSIDE) for name in boxes} <= asked
    outcomes = {row.verdict for row in rows}
    assert outcomes == {Reached.REACHABLE, Reached.BLOCKED}


def test_the_kinds_are_those_of_the_networks(site: Site):
    _, reach = look(site)
    kinds = {frozenset(group.members) for group in reach.origins if group.name in ON}
    assert frozenset(("web1", "web2", "web3")) in kinds
    assert frozenset(("dark1", "dark2")) in kinds
    assert frozenset(("apart1", "apart2")) in kinds
    # One of these is published, and one member is on two networks.
    assert {frozenset(("back1",)), frozenset(("back2",)), frozenset(("both",))} <= kinds
    assert reach.verdict("web1", "web3", "tcp", 80) is Reached.REACHABLE
    assert reach.verdict("apart1", "apart2", "tcp", 80) is Reached.BLOCKED
    assert reach.verdict(OUTSIDE, "web2", "tcp", 8001, HOST_ADDRESS) is Reached.REACHABLE
    assert reach.verdict(OUTSIDE, "web2", "tcp", 8000, HOST_ADDRESS) is None
    assert reach.verdict(HOST, "back1", "tcp", 9090, "127.0.0.1") is Reached.REACHABLE
    # The neighbour is the default gateway, and does not forward.
    (out,) = (row.finding for row in reach.rows("web1", INTERNET) if row.protocol == "tcp")
    assert (out.verdict, out.disposition.value) == (Reached.BLOCKED, "not-forwarded")
    (out,) = (row.finding for row in reach.rows("dark1", INTERNET) if row.protocol == "tcp")
    assert out.disposition.value in ("rejected", "no-route")


def test_the_command_shows_the_matrix_and_why(site: Site):
    done = site.daemon.cli("reach", "web1", "back2", "-v")
    assert "rejected with admin-prohibited by inet linkspan refuse" in done.stdout
    shown = json.loads(
        site.daemon.cli("reach", OUTSIDE, "web2", "--only", "reachable", "--format", "json").stdout
    )
    found = [(one["address"], one["ports"], one["how"]) for one in shown["pairs"]]
    assert (HOST_ADDRESS, [[8001, 8001]], "translated") in found
    assert shown["outside"]["link"] == "uplink"
    assert NEIGHBOUR not in shown["outside"]["addresses"]
    done = site.daemon.cli("reach", "wbe1", check=False)
    assert done.returncode == 2
    assert "did you mean web1" in done.stderr
