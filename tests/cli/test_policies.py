"""Publishing, policies and the audit, as a person types them."""

from __future__ import annotations

import os
from typing import Any

import pytest

from linkspan.cli.policy import read_policies


def test_ports_are_published_and_closed_while_it_runs(invoke: Any):
    invoke("attach", "--name", "web", "-p", "8080:80")
    done = invoke("publish", "web", "8443:443", "53:53/udp")
    assert (done.status, done.lines) == (
        0,
        ["0.0.0.0:8443 -> 172.20.0.2:443/tcp", "0.0.0.0:53 -> 172.20.0.2:53/udp"],
    )
    assert invoke("unpublish", "web", "8443", "53/udp").status == 0
    left = invoke("inspect", "web", "--format", "json").json["ports"]
    assert [port["host_port"] for port in left] == [8080]
    missing = invoke("unpublish", "web", "8443")
    assert (missing.status, missing.err) == (
        1,
        "linkspan: port 8443/tcp is not published by web; it publishes 0.0.0.0:8080:80/tcp\n",
    )


def test_a_policy_is_set_listed_and_unset(invoke: Any):
    invoke("attach", "--name", "web", "-p", "8080:80")
    done = invoke("policy", "set", "no-routing", "published-on=127.0.0.1,192.0.2.10")
    assert done.status == 0
    assert done.lines == [
        "published-on is violated already: port 0.0.0.0:8080:80/tcp of web",
    ]
    shown = {one["name"]: one for one in invoke("policy", "ls", "--format", "json").json}
    assert shown["published-on"]["values"] == ["127.0.0.1", "192.0.2.10"]
    assert shown["published-on"]["violations"][0]["sandbox"] == "web"
    assert shown["no-routing"]["by"]["uid"] == os.getuid()
    heading, first, _ = invoke("policy", "ls").lines
    assert heading.split() == ["POLICY", "VALUES", "SET", "BY", "VIOLATED", "BY"]
    assert first.startswith("no-routing")
    assert invoke("policy", "unset", "no-routing", "published-on").status == 0
    assert invoke("policy", "ls", "--format", "json").json == []
    assert invoke("policy", "unset", "no-routing").status == 1
    assert "choose one-network" in invoke("policy", "set", "no-fun").err


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (("one-network",), [("one-network", [])]),
        (("published-on=127.0.0.1", "::1"), [("published-on", ["127.0.0.1", "::1"])]),
        (("published-on=10.0.0.1,10.0.0.2",), [("published-on", ["10.0.0.1", "10.0.0.2"])]),
        (("no-fun", "one-network"), [("no-fun", []), ("one-network", [])]),
    ],
)
def test_policies_are_read(given: tuple[str, ...], read: list[tuple[str, list[str]]]):
    assert read_policies(given) == read


def test_the_audit_is_a_line_a_hole(invoke: Any):
    invoke("attach", "--name", "web", "-p", "8080:80")
    (line,) = invoke("audit").lines
    assert line.startswith(
        "published_port  web: port 0.0.0.0:8080:80/tcp; open to whoever reaches any address of "
        "this host; opened 2027-01-15T08:00:00Z by "
    )
    (hole,) = invoke("audit", "--format", "json").json
    assert (hole["kind"], hole["name"]) == ("published_port", "web")


def test_wishes_at_a_network_and_beside_it_are_the_same(invoke: Any, served: Any):
    def plan(*words: str) -> Any:
        return invoke("attach", "--dry-run", *words)

    assert (
        plan("--network", "bridge:ip=172.20.0.9,alias=a,alias=b,mac=02:00:00:00:00:01").status == 0
    )
    assert plan("--network", "bridge:gw-priority=-3,ip6=fd00::9").status == 0
    assert plan("--network", "bridge", "--ip6", "fd00::9", "--alias", "a").status == 0
    assert "belong to a network" in plan("--alias", "a").err
    assert plan("--network", "bridge:alias=").status == 2
