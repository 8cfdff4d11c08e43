"""`linkspan exposed` on hosts in the kernel: a real stranger reaches what it says, and no more."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest

from lab import Lab
from lab.reuse import Sites
from lab.site import HOST, NEIGHBOUR, Site, address
from linkspan.analysis.addresses import to_number
from linkspan.analysis.headers import prefix_intervals
from linkspan.analysis.intervals import interval

SILENCE = 0.4
"""Seconds after which nobody answers any more; what does answer does so at once."""
PUBLISHED = ("8080:80", "127.0.0.1:9090:80", "9000-9002:7000-7002")


@pytest.fixture(params=[True, False], ids=["bridge-nf-call", "no-bridge-nf-call"])
def site(sites: Sites, request: pytest.FixtureRequest) -> Iterator[Site]:
    with sites.borrowed(request.param) as made:
        made.network("web", "10.20.0.0/24")
        made.network("back", "10.21.0.0/24")
        shop = made.sandbox("shop", {"network": "web"}, ports=PUBLISHED)
        db = made.sandbox("db", {"network": "back"})
        for sandbox in (shop, db):
            for port in (80, 7001):
                made.serve(sandbox, port)
        made.serve(shop, 80, "udp")
        made.lab.listener_tcp(made.host, "0.0.0.0", 2222, reply="host")
        made.lab.listener_tcp(made.host, "127.0.0.1", 2223, reply="host")
        made.lab.listener_udp(made.host, HOST, 5353, reply="host")
        for subnet in ("10.20.0.0/24", "10.21.0.0/24"):
            made.lab.route(made.neighbour, subnet, "via", HOST)
        made.sandboxes = {"shop": shop, "db": db}  # type: ignore[attr-defined]
        yield made


def ask(site: Site, *words: str) -> Any:
    done = site.daemon.cli("exposed", "--link", "uplink", *words, "--format", "json")
    return json.loads(done.stdout)


def holds(ranges: list[str], number: int) -> bool:
    for text in ranges:
        first, dash, last = text.partition("-")
        values = interval(to_number(first), to_number(last)) if dash else prefix_intervals(text)
        if number in values:
            return True
    return False


def is_said(found: Any, target: str, port: int, protocol: str, source: str) -> bool:
    """Whether an answer tells that a stranger reaches something there, and hears of it."""
    for one in found["exposed"]:
        senders = one["answered_from"]
        heard = senders["kind"] == "any" or (
            holds(senders["ranges"], to_number(source)) == (senders["kind"] == "only")
        )
        if (
            one["protocol"] == protocol
            and one["ip"] == 4
            and holds(one["addresses"], to_number(target))
            and any(first <= port <= last for first, last in one["ports"])
            and heard
        ):
            return True
    return False


def probe_all(site: Site, found: Any) -> int:
    """Compare with real packets of the neighbour; how many were answered."""
    sandboxes: dict[str, Any] = site.sandboxes  # type: ignore[attr-defined]
    targets = [HOST, "10.20.0.1", *(address(row) for row in sandboxes.values())]
    wrong = []
    answered = 0
    for target in targets:
        for protocol, ports in (
            ("tcp", (80, 2222, 2223, 7001, 8080, 8081, 9000, 9001, 9090)), ("udp", (80, 5353)),
        ):  # fmt: skip
            for port in ports:
                got = site.lab.fetch(site.neighbour, target, port, protocol, timeout=SILENCE).ok
                if got != is_said(found, target, port, protocol, NEIGHBOUR):
                    wrong.append((target, port, protocol, got))
                answered += got
    assert wrong == []
    return answered


def test_what_it_says_is_what_a_stranger_finds(site: Site):
    found = ask(site)
    assert found["complete"]
    assert probe_all(site, found) > 5
    shop = next(one for one in found["exposed"] if one["ports"] == [[8080, 8080]])
    assert (shop["opened_by"], shop["answers"]["name"], shop["answered"]) == (
        "linkspan", "shop", "yes"
    )  # fmt: skip
    assert any("8080" in rule["element"] for rule in shop["rules"])


def test_holes_that_others_made_are_found(site: Site):
    shop = address(site.sandboxes["shop"])  # type: ignore[attr-defined]
    rules = (
        "table ip mine {\nchain pre { type nat hook prerouting priority -110; "
        f"tcp dport 8081 dnat to {shop}:80; }}\n"
        "chain in { type filter hook input priority 0; "
        f"ip saddr {NEIGHBOUR} tcp dport 2222 drop; }}\n}}\n"
    )
    site.lab.run(site.host, ["nft", "-f", "-"], stdin=rules)
    try:
        found = ask(site)
        probe_all(site, found)
        assert is_said(found, HOST, 8081, "tcp", NEIGHBOUR)
        assert not is_said(found, HOST, 2222, "tcp", NEIGHBOUR)
        assert is_said(found, HOST, 2222, "tcp", "203.0.113.5")
        hole = next(one for one in found["exposed"] if [8081, 8081] in one["ports"])
        assert hole["opened_by"] == "rule of ip mine"
    finally:
        site.lab.run(site.host, ["nft", "delete", "table", "ip", "mine"])


def test_every_member_of_a_range_is_alike(lab: Lab):
    """Random rules on a host that nobody manages: members of each range get what it says."""
    rng = random.Random(7)
    host, stranger = lab.namespace("host"), lab.namespace("stranger")
    lab.veth(host, "up0", ("192.0.2.10/24",), stranger, "eth0", ("192.0.2.20/24",))
    ports = sorted(rng.sample(range(2000, 2040), 8))
    for port in ports:
        lab.listener_tcp(host, "0.0.0.0", port, reply="host")
    first, last = sorted(rng.sample(range(2000, 2040), 2))
    rules = (
        "table inet guard {\nset odd { type inet_service; elements = { "
        f"{', '.join(map(str, ports[::3]))} }} }}\n"
        "chain in { type filter hook input priority 0; policy drop; "
        f"tcp dport @odd drop; tcp dport {first}-{last} accept; "
        f"ip saddr 192.0.2.0/27 tcp dport >= {ports[-2]} accept; }}\n}}\n"
    )
    lab.run(host, ["nft", "-f", "-"], stdin=rules)
    found = look(lab, host)
    for port in range(2000, 2040):
        got = lab.fetch(stranger, "192.0.2.10", port, timeout=SILENCE).ok
        assert got == is_said(found, "192.0.2.10", port, "tcp", "192.0.2.20"), (port, rules)
    assert found["exposed"]


def look(lab: Lab, host: Any) -> Any:
    """What is exposed on a host without a daemon."""
    done = lab.run(host, [*python(), "exposed", "--link", "up0", "--format", "json"])
    return json.loads(done.stdout)


def python() -> list[str]:
    import sys

    from lab.daemon import SOURCE

    return ["env", f"PYTHONPATH={SOURCE}", "LINKSPAN_SOCKET=/nowhere", sys.executable, "-m",
            "linkspan"]  # fmt: skip
