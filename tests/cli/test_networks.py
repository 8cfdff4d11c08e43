"""`linkspan network`: what people type, and what they read."""

from __future__ import annotations

from typing import Any

import pytest

from api.served import Served


def test_a_network_is_created_listed_shown_and_removed(invoke: Any):
    created = invoke("network", "create", "web", "--subnet", "10.20.0.0/24", "--label", "team=shop")
    assert created.status == 0
    assert len(created.out.strip()) == 64
    listed = invoke("network", "ls")
    assert listed.lines[0].split() == [
        "ID", "NAME", "DRIVER", "SUBNETS", "INTERFACE", "MEMBERS", "WAY", "OUT",
    ]  # fmt: skip
    row = next(line for line in listed.lines if " web " in line)
    assert row.split()[0] == created.out[:12]
    assert "10.20.0.0/24" in row
    shown = invoke("network", "inspect", "web")
    assert "10.20.0.0/24, gateway 10.20.0.1" in shown.out
    assert "team=shop" in shown.out
    removed = invoke("network", "rm", "web")
    assert (removed.status, removed.out) == (0, "web\n")
    assert invoke("network", "ls", "--format", "json").json[-1]["name"] != "web"


def test_lists_are_arrays_and_one_thing_is_an_object(invoke: Any):
    assert [one["name"] for one in invoke("network", "ls", "--format", "json").json] == [
        "bridge", "host", "none",
    ]  # fmt: skip
    assert invoke("network", "inspect", "host", "--format", "json").json["driver"] == "host"
    several = invoke("network", "inspect", "host", "none", "--format", "json").json
    assert [one["name"] for one in several] == ["host", "none"]
    ids = invoke("network", "ls", "-q").lines
    assert all(len(one) == 64 for one in ids)
    assert invoke("network", "ls", "-q", "--format", "json").json == ids


def test_gateways_and_ranges_go_to_the_subnet_they_lie_in(invoke: Any, served: Served):
    seen: list[Any] = []
    create = served.engine.create_network

    async def remember(request: Any, **more: Any) -> Any:
        seen.append(request)
        return await create(request, **more)

    served.engine.create_network = remember  # type: ignore[method-assign]
    done = invoke(
        *("network", "create", "dual", "--internal", "-o", "icc=false"),
        *("--subnet", "10.21.0.0/24", "--subnet", "fd00:21::/64"),
        *("--gateway", "fd00:21::99", "--gateway", "10.21.0.9"),
        *("--ip-range", "10.21.0.128/25", "--reserve", "printer=10.21.0.7"),
    )
    assert done.status == 0
    four, six = seen[0].subnets
    assert (four.subnet, four.gateway, four.ip_range) == (
        "10.21.0.0/24",
        "10.21.0.9",
        "10.21.0.128/25",
    )
    assert four.reserved == {"printer": "10.21.0.7"}
    assert (six.subnet, six.gateway, six.ip_range) == ("fd00:21::/64", "fd00:21::99", None)
    assert (seen[0].internal, seen[0].options) == (True, {"icc": "false"})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--gateway", "10.0.0.1"),
        ("--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24", "--gateway", "10.3.0.1"),
        ("--subnet", "10.1.0.0/24", "--subnet", "10.2.0.0/24", "--gateway", "nonsense"),
        ("--subnet", "10.1.0.0/24", "--gateway", "10.1.0.1", "--gateway", "10.1.0.2"),
        ("--label", "=x"),
        ("--label", "a=1", "--label", "a=2"),
        ("--colour", "red"),
    ],
)
def test_wrong_usage_ends_with_2(invoke: Any, arguments: tuple[str, ...]):
    done = invoke("network", "create", "web", *arguments)
    assert (done.status, done.out) == (2, "")
    assert "Usage: linkspan network create" in done.err


def test_a_refusal_is_one_line_and_ends_with_1(invoke: Any):
    done = invoke("network", "create", "bridge")
    assert (done.status, done.out) == (1, "")
    assert done.err == "linkspan: a network named bridge exists already\n"


def test_several_are_all_tried_and_the_failures_told_in_one_line(invoke: Any):
    invoke("network", "create", "web")
    done = invoke("network", "rm", "nobody", "web", "neither")
    assert (done.status, done.out) == (1, "web\n")
    assert done.err.count("\n") == 1
    assert "nobody" in done.err
    assert "neither" in done.err


def test_dry_run_and_plan_say_the_same_and_do_nothing(invoke: Any, served: Served):
    dry = invoke("network", "create", "web", "--dry-run")
    assert dry.status == 0
    assert dry.out.startswith("create veth ls-web")
    assert invoke("plan", "--", "network", "create", "web").out == dry.out
    assert invoke("plan", "network", "create", "web").out == dry.out
    as_json = invoke("plan", "--", "network", "create", "web", "--format", "json").json
    assert as_json[0]["operation"] == "create"
    assert len(served.engine.networks()) == 3


def test_what_changes_nothing_cannot_be_planned(invoke: Any):
    done = invoke("plan", "--", "network", "ls")
    assert done.status == 2
    assert "`linkspan network ls` changes nothing" in done.err


def test_members_are_connected_and_disconnected(invoke: Any):
    invoke("network", "create", "web")
    invoke("attach", "--name", "shop")
    assert invoke("network", "connect", "web", "shop").status == 0
    shown = invoke("network", "inspect", "web").out
    assert "shop" in shown
    assert invoke("network", "rm", "web").status == 1
    assert invoke("network", "disconnect", "web", "shop").status == 0
    assert invoke("network", "prune").out == "web\n"
