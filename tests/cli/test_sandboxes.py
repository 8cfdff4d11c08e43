"""attach, detach, ps, inspect, port, events and the rest of what is about sandboxes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from api.served import Served
from linkspan.engine.runtime.log import LogEntry


def test_a_namespace_is_attached_listed_and_detached(invoke: Any):
    done = invoke(
        *("attach", "--name", "ctr7", "--netns", "/run/netns/ctr7", "--network", "bridge"),
        *("-p", "8080:80", "--label", "a=b"),
    )
    assert done.status == 0
    assert len(done.out.strip()) == 64
    table = invoke("ps")
    assert table.lines[0].split() == [
        "ID", "NAME", "STATE", "NETWORKS", "PORTS", "COMMAND", "AGE",
    ]  # fmt: skip
    assert "bridge 172.20.0.2" in table.lines[1]
    assert "0.0.0.0:8080->80/tcp" in table.lines[1]
    shown = invoke("inspect", "ctr7")
    assert "/run/netns/ctr7" in shown.out
    assert invoke("detach", "ctr7").out == "ctr7\n"
    assert invoke("ps", "--format", "json").json == []


def test_a_bare_name_of_a_namespace_is_one_of_ip_netns(invoke: Any):
    shown = invoke("attach", "--name", "a1", "--netns", "blue", "--format", "json").json
    assert shown["netns"] == "/run/netns/blue"


def test_a_relative_path_of_a_namespace_is_from_here(
    invoke: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    shown = invoke("attach", "--name", "a1", "--netns", "./ns", "--format", "json").json
    assert shown["netns"] == str(tmp_path / "ns")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ip", "10.0.0.1"),
        ("--network", "a", "--network", "b", "--ip", "10.0.0.1"),
        ("--network", "a:"),
        ("--network", "a:colour=red"),
        ("--network", "a:priority=high"),
        ("--netns", "a", "--pid", "1"),
        ("--pid", "x"),
    ],
)
def test_wrong_usage_ends_with_2(invoke: Any, arguments: tuple[str, ...]):
    assert invoke("attach", *arguments).status == 2


def test_inspect_finds_sandboxes_and_networks(invoke: Any):
    invoke("attach", "--name", "shop")
    both = invoke("inspect", "shop", "bridge", "--format", "json").json
    assert [one["name"] for one in both] == ["shop", "bridge"]
    assert invoke("inspect", "shop", "--format", "json").json["state"] == "up"
    missing = invoke("inspect", "nobody")
    assert (missing.status, missing.err) == (
        1,
        "linkspan: there is no sandbox or network 'nobody'\n",
    )
    assert invoke("inspect", "bridge", "--type", "sandbox").status == 1


def test_port_shows_where_each_leads(invoke: Any):
    invoke("attach", "--name", "shop", "-p", "8080:80", "-p", "53:53/udp")
    rows = [line.split() for line in invoke("port", "shop").lines[1:]]
    assert rows == [
        ["0.0.0.0:8080", "172.20.0.2:80", "tcp", "shop", "bridge"],
        ["0.0.0.0:53", "172.20.0.2:53", "udp", "shop", "bridge"],
    ]
    found = invoke("port", "--format", "json").json
    assert [one["address"] for one in found] == ["172.20.0.2", "172.20.0.2"]


def test_events_of_the_past_are_lines(invoke: Any):
    invoke("network", "create", "web")
    invoke("attach", "--name", "shop")
    lines = invoke("events", "--since", "0", "--no-follow").lines
    assert [line.partition(", by ")[0].split()[2:] for line in lines] == [
        ["network", "web", "created"],
        ["sandbox", "shop", "created"],
    ]
    as_json = invoke("events", "--no-follow", "--format", "json").lines
    assert [json.loads(line)["name"] for line in as_json] == ["web", "shop"]
    assert len(invoke("events", "--since", "1", "--no-follow").lines) == 1


def test_a_container_in_the_background_is_created_and_started(invoke: Any):
    done = invoke("run", "-d", "--name", "shop", "-e", "A=1", "--", "sleep", "9")
    assert done.status == 0
    assert len(done.out.strip()) == 64
    (shown,) = invoke("ps", "--format", "json").json
    assert shown["container"]["command"] == ["sleep", "9"]
    assert shown["container"]["status"] == "running"
    assert "sleep 9" in invoke("ps").out
    assert invoke("rm", "shop").status == 1
    assert invoke("stop", "-t", "1", "shop").out == "shop\n"
    assert invoke("ps").lines[1:] == []
    assert "exited (143)" in invoke("ps", "-a").out
    assert invoke("rm", "-f", "shop").out == "shop\n"


def test_options_of_the_command_are_not_ours(invoke: Any):
    invoke("run", "-d", "--name", "one", "ls", "--format", "-d")
    invoke("run", "-d", "--name", "two", "--", "ls", "--", "-x")
    shown = invoke("ps", "--format", "json").json
    assert [one["container"]["command"] for one in shown] == [
        ["ls", "--format", "-d"],
        ["ls", "--", "-x"],
    ]


def test_a_run_can_be_planned(invoke: Any, served: Served):
    planned = invoke("plan", "--", "run", "--rm", "-d", "--network", "bridge", "--", "true")
    assert planned.status == 0
    assert planned.out.startswith("create veth pair")
    assert invoke("run", "--dry-run", "true").out == planned.out
    assert served.engine.sandboxes() == []
    invoke("run", "-d", "--name", "shop", "true")
    assert invoke("stop", "shop", "--dry-run").out == ("stop container shop, killed after 10 s\n")


def test_logs_go_where_they_were_written(invoke: Any, served: Served):
    invoke("run", "-d", "--name", "shop", "true")
    second = 10**9
    served.engine.containers.written = [
        LogEntry(1_800_000_000 * second, "stdout", b"out\n"),
        LogEntry(1_800_000_001 * second, "stderr", b"\xfferr\n"),
    ]
    import os
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "linkspan", "logs", "shop"],
        capture_output=True,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        timeout=20,
    )
    assert (done.stdout, done.stderr) == (b"out\n", b"\xfferr\n")
    with_times = invoke("logs", "--timestamps", "--tail", "2", "shop")
    assert with_times.out == "2027-01-15T08:00:00Z out\n"


def test_control_characters_of_others_do_not_reach_the_terminal(invoke: Any):
    invoke("run", "-d", "--name", "shop", "--", "echo", "\x1b[2Jx")
    assert "\x1b" not in invoke("ps").out
    assert "\x1b" not in invoke("inspect", "shop").out
