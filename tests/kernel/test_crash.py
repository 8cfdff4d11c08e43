"""kill -9 between every two steps of attach, connect and detach: what is stored is right again
after the next start, and nothing is left of what is not.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.site import HOST, Site

Request = tuple[str, str, Any]
SHOP = {
    "name": "shop",
    "networks": ["web", "back"],
    "ports": ["8080:80", "9000-9010:9000-9010/udp"],
}
ATTACH: Request = ("POST", "/v1/sandboxes", SHOP)
DETACH: Request = ("DELETE", "/v1/sandboxes/shop", None)
CONNECT: Request = ("POST", "/v1/sandboxes/base/networks", {"network": "back"})
DISCONNECT: Request = ("DELETE", "/v1/sandboxes/base/networks/back", None)


@pytest.fixture
def site(lab: Lab) -> Site:
    site = Site(lab)
    site.network("web", "10.20.0.0/24")
    site.network("back", "10.30.0.0/24")
    site.serve(site.sandbox("base", "web", ports=("7000:80",)), 80)
    return site


def snapshot(site: Site) -> dict[str, Any]:
    """Everything in the kernel that could be ours, without what differs from one to the next."""

    def read(where: Any, command: str) -> Any:
        return json.loads(site.lab.run(where, command).stdout or "[]")

    sandboxes = site.daemon.get("/v1/sandboxes")
    names = {s["id"]: s["name"] for s in sandboxes}
    ports = {e["host_interface"]: f"{s['name']}:{e['interface']}"
             for s in sandboxes for e in s["endpoints"]}  # fmt: skip
    macs = {e["mac"]: f"{s['name']}:{e['interface']}" for s in sandboxes for e in s["endpoints"]}
    addresses = {e["ipv4"].split("/")[0]: f"{s['name']}:{e['interface']}"
                 for s in sandboxes for e in s["endpoints"]}  # fmt: skip

    def rename(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: rename(item) for key, item in value.items()}
        if isinstance(value, list):
            return sorted((rename(item) for item in value), key=repr)
        for table in (ports, macs, addresses):
            if value in table:
                return table[value]
        return value

    elements = {
        (entry["set" if "set" in entry else "map"]["family"], name): rename(
            (entry.get("set") or entry.get("map")).get("elem", [])
        )
        for family in ("inet", "bridge")
        for entry in json.loads(
            site.lab.run(site.host, f"nft -j list table {family} linkspan").stdout
        )["nftables"]
        if "set" in entry or "map" in entry
        for name in [(entry.get("set") or entry.get("map"))["name"]]
    }
    namespaces = {path.name for path in (site.daemon.run_dir / "netns").iterdir()}
    inside = {
        s["name"]: {
            "addresses as told": sorted(
                f"{link['ifname']} {a['local']}/{a['prefixlen']}"
                for link in read(s["netns"], "ip -j address")
                for a in link["addr_info"]
                if a["family"] == "inet"
            )
            == sorted(
                ["lo 127.0.0.1/8", *(f"{e['interface']} {e['ipv4']}" for e in s["endpoints"])]
            ),
            "routes": sorted(
                f"{r['dst']} {r.get('gateway')} {r['dev']} {r.get('table', 'main')}"
                for r in read(s["netns"], "ip -j route show table all proto 108")
            ),
            "rules": len(read(s["netns"], "ip -j rule")),
        }
        for s in sandboxes
    }
    return {
        "sandboxes": {s["name"]: (s["state"], [e["network"] for e in s["endpoints"]], s["ports"])
                      for s in sandboxes},
        "namespaces": sorted(names.get(name, f"unknown {name}") for name in namespaces),
        "links": sorted(
            ports.get(link["ifname"], link["ifname"]) + f" {link.get('master')}"
            for link in read(site.host, "ip -j -d link")
        ),
        "elements": elements,
        "inside": inside,
    }  # fmt: skip


def points_of(site: Site, request: Request, trace: Path) -> list[tuple[str, int]]:
    """The points that the daemon reaches for a request, each with how often it came by. Where it
    comes by more than twice, the first and the last time.
    """
    site.daemon.restart(environment={"LINKSPAN_FAILPOINT_TRACE": str(trace)})
    trace.write_text("")  # without those of its start
    status, answer = site.daemon.request(*request)
    assert status < 300, answer
    seen: Counter[str] = Counter()
    points: dict[str, list[tuple[str, int]]] = {}
    for name in trace.read_text().splitlines():
        seen[name] += 1
        points.setdefault(name, []).append((name, seen[name]))
    trace.unlink()
    return [point for row in points.values() for point in (row[0], row[-1])[: len(row)]]


@pytest.mark.parametrize(
    ("does", "undoes"), [(ATTACH, DETACH), (CONNECT, DISCONNECT)], ids=["attach", "connect"]
)
def test_killed_between_any_two_steps(
    site: Site, tmp_path: Path, does: Request, undoes: Request
) -> None:
    without = snapshot(site)
    there = points_of(site, does, tmp_path / "trace")
    with_it = snapshot(site)
    back = points_of(site, undoes, tmp_path / "trace")
    assert snapshot(site) == without
    assert len(there) > 5
    assert len(back) > 3

    site.daemon.restart(environment=heed_orders(site))
    talk = site.lab.connect(site.neighbour, HOST, 7000)
    outcomes: Counter[str] = Counter()
    for request, points in ((does, there), (undoes, back)):
        for name, count in points:
            is_there = snapshot(site) == with_it
            if is_there != (request is undoes):
                status, _ = site.daemon.request(*(does if request is undoes else undoes))
                assert status < 300
            kill_at(site, request, name, count)
            assert talk.say("still there?") == "still there?", f"cut at {name}"
            found = snapshot(site)
            assert found in (without, with_it), f"after a kill at {name} ({count})"
            outcomes[f"{request[0]} {'done' if found == with_it else 'undone'}"] += 1
            assert not any(site.daemon.post("/v1/reconcile").values()), f"after a kill at {name}"
    # A request that never returned is undone, unless it only changed what was known already.
    assert outcomes["POST undone" if does is ATTACH else "POST done"] > 3, outcomes
    assert outcomes["DELETE done"] > 3, outcomes


def order_of(site: Site) -> Path:
    """The file that says at which point the daemon dies."""
    return site.daemon.directory / "failpoint"


def heed_orders(site: Site) -> dict[str, str]:
    """The variable of a daemon that can be told to die."""
    return {"LINKSPAN_FAILPOINT": f"@{order_of(site)}"}


def kill_at(site: Site, request: Request, name: str, count: int) -> None:
    """Let a daemon that heeds orders die at a point of a request, and start it again."""
    order_of(site).write_text(f"{name}:kill@{count}")
    with contextlib.suppress(OSError, http.client.HTTPException):
        site.daemon.request(*request)
    process = site.daemon.process
    assert process is not None
    assert process.wait(10) == -signal.SIGKILL, f"{name} ({count}) was not reached"
    order_of(site).unlink()
    site.daemon.start(heed_orders(site))


@pytest.mark.parametrize("point", ["attach.stored", "apply.add.rule", "attach.applied"])
def test_a_brought_namespace_is_left_as_it_was(site: Site, point: str) -> None:
    brought = site.lab.namespace("brought")
    site.lab.run(brought, "ip link add own type veth peer name peer")

    def look() -> list[str]:
        return [
            site.lab.run(brought, f"ip -brief {what}").stdout for what in ("link", "rule", "route")
        ]

    before = look()
    site.daemon.restart(environment=heed_orders(site))
    kill_at(site, ("POST", "/v1/sandboxes", {**SHOP, "netns": brought.path}), point, 1)
    assert look() == before
    assert [s["name"] for s in site.daemon.get("/v1/sandboxes")] == ["base"]
    assert not any(site.daemon.post("/v1/reconcile").values())
    # And one that was there stays, whatever end the daemon has.
    site.daemon.post("/v1/sandboxes", {**SHOP, "netns": brought.path})
    there = look()
    site.daemon.kill()
    site.daemon.start()
    assert look() == there
    site.daemon.delete("/v1/sandboxes/shop")
    assert look() == before
