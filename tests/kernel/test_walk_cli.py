"""`linkspan path` on a host that linkspan made: what it says is what happens."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from lab.reuse import Sites
from lab.site import HOST, Site, address
from linkspan.analysis import Flow, Verdict, View, trace_flow
from linkspan.cli.client import Client
from linkspan.cli.hostview import look_at_host
from linkspan.cli.whereabouts import Whereabouts
from linkspan.kernel import namespaces


@pytest.fixture(params=[True, False], ids=["bridge-nf-call", "no-bridge-nf-call"])
def site(sites: Sites, request: pytest.FixtureRequest) -> Iterator[Site]:
    with sites.borrowed(request.param) as made:
        made.network("web", "10.20.0.0/24")
        made.network("back", "10.21.0.0/24")
        shop = made.sandbox("shop", {"network": "web"}, ports=("8080:80", "127.0.0.1:9090:80"))
        db = made.sandbox("db", {"network": "web"})
        other = made.sandbox("other", {"network": "back"})
        for sandbox in (shop, db, other):
            made.serve(sandbox, 80)
        made.sandboxes = {"shop": shop, "db": db, "other": other}  # type: ignore[attr-defined]
        yield made


def ask(site: Site, *words: str) -> tuple[int, Any]:
    done = site.daemon.cli("path", *words, "--format", "json", check=False)
    return done.returncode, json.loads(done.stdout)


def test_what_it_says_is_what_happens(site: Site):
    sandboxes: dict[str, Any] = site.sandboxes  # type: ignore[attr-defined]
    with namespaces.opened(site.host.path) as descriptor, namespaces.entered(descriptor):
        ends = [Whereabouts(name, name=name) for name in sandboxes]
        seen = look_at_host(Client(str(site.daemon.socket)), ends)
        view = View(seen.plane, sockets_known=True)
    sources: dict[str, Any] = {name: row["netns"] for name, row in sandboxes.items()}
    sources |= {"host": site.host, site.neighbour.name: site.neighbour}
    targets = [
        *((address(row), port) for row in sandboxes.values() for port in (80, 81)),
        (HOST, 8080), (HOST, 9090), (HOST, 8081), ("127.0.0.1", 9090), ("127.0.0.1", 8080),
    ]  # fmt: skip
    wrong = []
    for name, place in sources.items():
        for target, port in targets:
            answer = trace_flow(view, name, Flow(destination=target, destination_port=port))
            fetched = site.lab.fetch(place, target, port, timeout=0.4)
            if fetched.ok != (answer.verdict is Verdict.DELIVERED):
                wrong.append((name, target, port, fetched, answer.verdict, answer.first.reason))
    assert wrong == []
    assert len(sources) * len(targets) == 55


def test_the_answer_for_people_names_the_rule(site: Site):
    done = site.daemon.cli("path", "shop", "other:80", check=False)
    assert done.returncode == 1
    assert "NOT DELIVERED: rejected with admin-prohibited by inet linkspan refuse" in done.stdout
    lines = [line for line in done.stdout.splitlines() if re.match(r" {0,2}\d+  \S", line)]
    assert [line.split()[1] for line in lines[:2]] == ["shop", "host"]


def test_a_stranger_and_a_namespace_by_its_file(site: Site):
    status, answer = ask(site, "outside", f"{HOST}:8080")
    assert (status, answer["namespace"]) == (0, "shop")
    assert answer["reply"]["flow"]["arrived"]["source"] == HOST
    path = site.sandboxes["shop"]["netns"]  # type: ignore[attr-defined]
    status, answer = ask(site, f"netns:{path}", "db:80")
    assert (status, [hop["namespace"] for hop in answer["hops"]]) == (0, ["shop", "host", "db"])


def test_outside_has_a_port_at_both_ends(site: Site):
    pairs = ((("shop", "outside:443"), "shop"), (("outside:5000", "shop:80"), "host"))
    for words, namespace in pairs:
        _, answer = ask(site, *words)
        assert answer["hops"][0]["namespace"] == namespace
    assert answer["flow"]["sent"]["source_port"] == 5000
    assert answer["unseen"] == [one for one in answer["unseen"] if "even root" in one]
    assert answer["changing"] == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("shp", "db:80"), "no container or namespace 'shp'; did you mean shop"),
        (("shop", "db:0"), "'0' is no port"),
        (("shop", "10.20.0.300:80"), "'10.20.0.300:80' is no address"),
        (("shop", "db:80", "--proto", "icmp"), "icmp takes no port"),
        (("shop", "db", "--proto", "tcp"), "tcp needs a port"),
        (("outside", "outside:80"), "does not come by this host"),
        (("netns:/nowhere", "db:80"), "no network namespace at /nowhere"),
    ],
)
def test_wrong_usage_is_status_2(site: Site, words: tuple[str, ...], said: str):
    done: subprocess.CompletedProcess[str] = site.daemon.cli("path", *words, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_names_are_asked_through_our_own_rules(site: Site):
    done = site.daemon.cli("path", "shop", "127.0.0.11:53", "--proto", "udp", check=False)
    assert done.returncode == 0, done.stdout
    assert "127.0.0.11:30053" in done.stdout
    assert "not understood" not in done.stdout


def test_the_last_lines_say_who_decides(site: Site):
    done = site.daemon.cli("path", "shop", "other:80", check=False)
    assert "linkspan's own rule in host" in done.stdout
    assert done.stdout.count("reject with icmpx admin-prohibited") == 1
    done = site.daemon.cli("path", "shop", "db:81", check=False)
    assert "Start a program on port 81/tcp in db" in " ".join(done.stdout.split())
