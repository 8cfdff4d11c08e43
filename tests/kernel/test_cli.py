"""The daemon and the command line on a real kernel: what people type, end to end."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lab import Lab
from lab.daemon import SOURCE, Daemon


@pytest.fixture
def daemon(lab: Lab) -> Daemon:
    return lab.daemon(lab.namespace("host"))


def test_a_network_and_a_sandbox_from_the_command_line(lab: Lab, daemon: Daemon):
    daemon.cli("network", "create", "web", "--subnet", "10.20.0.0/24")
    foreign = lab.namespace("ctr7")
    daemon.cli(
        *("attach", "--name", "ctr7", "--netns", foreign.path, "--network", "web"),
        *("-p", "127.0.0.1:9000:9000/udp"),
    )
    shown = daemon.cli_json("inspect", "ctr7")
    assert (shown["state"], shown["netns"]) == ("up", foreign.path)
    (endpoint,) = shown["endpoints"]
    addresses = json.loads(lab.run(foreign, "ip -json address show dev eth0").stdout)
    (found,) = [a for a in addresses[0]["addr_info"] if a["family"] == "inet"]
    assert endpoint["ipv4"] == f"{found['local']}/{found['prefixlen']}"
    assert endpoint["mac"] == addresses[0]["address"]
    assert shown["ports"] == [
        {
            "host_ip": "127.0.0.1",
            "host_port": 9000,
            "host_port_end": 9000,
            "port": 9000,
            "protocol": "udp",
        }
    ]
    assert [one["name"] for one in daemon.cli_json("ps")] == ["ctr7"]
    (port,) = daemon.cli_json("port", "ctr7")
    assert f"{port['address']}/24" == endpoint["ipv4"]
    daemon.cli("detach", "ctr7")
    left = json.loads(lab.run(foreign, "ip -json link").stdout)
    assert [link["ifname"] for link in left] == ["lo"]
    daemon.cli("network", "rm", "web")
    assert [n["name"] for n in daemon.cli_json("network", "ls")] == ["bridge", "host", "none"]


def test_a_plan_names_the_objects_and_makes_none(lab: Lab, daemon: Daemon):
    def links() -> list[tuple[str, str]]:
        # Not their states: carriers settle by themselves meanwhile.
        return [
            (link["ifname"], link["address"])
            for link in json.loads(lab.run(daemon.place, "ip -j link").stdout)
        ]

    before = links()
    planned = daemon.cli("plan", "--", "attach", "--name", "a1", "-p", "8080:80").stdout
    assert "network namespace" in planned
    assert "veth pair" in planned
    assert "default route via" in planned
    assert "8080" in planned
    as_json = daemon.cli_json("attach", "--name", "a1", "--dry-run")
    assert {step["operation"] for step in as_json} == {"create"}
    assert links() == before
    assert daemon.cli_json("ps", "-a") == []


def test_a_program_runs_in_the_network_of_a_bare_sandbox(daemon: Daemon):
    daemon.cli("attach", "--name", "bare", "--network", "bridge")
    shown = daemon.cli_json("inspect", "bare")
    done = daemon.cli("exec", "bare", "--", "ip", "-br", "address")
    assert shown["endpoints"][0]["ipv4"] in done.stdout
    assert daemon.cli("exec", "bare", "--", "sh", "-c", "exit 7", check=False).returncode == 7
    refused = daemon.cli("exec", "-u", "nobody", "bare", "true", check=False)
    assert refused.returncode == 1
    assert "only its network is entered" in refused.stderr


def test_events_tell_what_happened_and_go_on_after_an_id(daemon: Daemon):
    daemon.cli("network", "create", "web")
    daemon.cli("attach", "--name", "a1", "--network", "web")
    daemon.cli("detach", "a1")
    lines = daemon.cli("events", "--no-follow", "--format", "json").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert [e["id"] for e in events] == list(range(1, len(events) + 1))
    assert {"a1", "web"} <= {e["name"] for e in events}
    later = daemon.cli("events", "--no-follow", "--since", str(events[-2]["id"]))
    assert len(later.stdout.splitlines()) == 1


def test_a_second_daemon_in_the_namespace_is_refused_in_one_line(lab: Lab, daemon: Daemon):
    other = lab.daemon(daemon.place, start=False)
    done = subprocess.run(
        other.cli_command(
            *("daemon", "--socket", str(other.socket)),
            *("--state-dir", str(other.state_dir), "--run-dir", str(other.run_dir)),
        ),
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("linkspan: a linkspan daemon already works in this network")
    assert str(daemon.pid) in done.stderr
    assert done.stderr.count("\n") == 1
    assert not other.socket.exists()


def test_the_daemon_needs_root():
    code = (
        "import os, linkspan.cli.daemon, linkspan.cli.host, linkspan.api.logs\n"
        "import linkspan.api.rights, linkspan.engine.settings, locale\n"
        "from linkspan.cli import main\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "main(['daemon', '--state-dir', '/nonexistent/s', '--run-dir', '/nonexistent/r'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))},
    )
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_service_manager_hears_when_it_is_ready_and_when_it_stops(lab: Lab):
    path = lab.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        manager.settimeout(20)
        daemon = lab.daemon(
            lab.namespace("host"), start=False, environment={"NOTIFY_SOCKET": str(path)}
        )
        daemon.launch()
        told = manager.recv(200).decode()
        assert told.startswith("READY=1")
        assert daemon.get("/v1/health") == {"status": "ok"}
        assert f"MAINPID={daemon.pid}" in told
        assert daemon.stop() == 0
        assert manager.recv(200) == b"STOPPING=1"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_within_a_second_whoever_still_listens(daemon: Daemon, number: int):
    daemon.cli("attach", "--name", "a1")
    # Readers who would stay for ever, and one connection that says nothing.
    readers = [
        subprocess.Popen(
            daemon.cli_command("events", "--since", "0"),
            env=daemon._environment(),
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for reader in readers:
        assert reader.stdout
        assert reader.stdout.readline()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.connect(str(daemon.socket))
        daemon.get("/v1/health")
        began = time.monotonic()
        assert daemon.process
        daemon.process.send_signal(number)
        assert daemon.process.wait(5) == 0
        assert time.monotonic() - began < 1.0
    for reader in readers:
        with reader:
            assert reader.wait(5) == 0
    assert not daemon.socket.exists()
    daemon.start()
    assert daemon.cli_json("inspect", "a1")["state"] == "up"


def test_settings_come_from_a_file(lab: Lab):
    settings = lab.directory / "linkspan.toml"
    settings.write_text('default_network = "none"\n')
    daemon = lab.daemon(lab.namespace("host"), "--config", str(settings))
    daemon.cli("attach", "--name", "a1")
    assert daemon.cli_json("inspect", "a1")["endpoints"] == []
    daemon.stop()
    settings.write_text("colour = 1\n")
    daemon.launch()
    assert daemon.process
    assert daemon.process.wait(10) == 1
    assert "linkspan: settings" in daemon.process.output
    assert "Traceback" not in daemon.process.output


def test_the_log_can_be_json(lab: Lab):
    daemon = lab.daemon(lab.namespace("host"), "--log-format", "json")
    daemon.stop()
    entries = [json.loads(line) for line in daemon.log.read_text().splitlines()]
    assert {"time", "level", "logger", "message"} <= entries[0].keys()
    assert any("serves" in entry["message"] for entry in entries)


def test_the_daemon_is_small_with_100_sandboxes(daemon: Daemon):
    for number in range(100):
        daemon.post("/v1/sandboxes", {"name": f"s{number}", "ports": [f"{20000 + number}:80"]})
    text = Path(f"/proc/{daemon.pid}/smaps_rollup").read_text()
    kilobytes = int(next(line.split()[1] for line in text.splitlines() if "Pss:" in line))
    assert kilobytes < 80 * 1024


def test_purge_takes_everything_and_ends_the_daemon(lab: Lab, daemon: Daemon):
    daemon.cli("network", "create", "web")
    daemon.cli("attach", "--name", "a1", "--network", "web", "-p", "8080:80")
    planned = daemon.cli("purge", "--dry-run").stdout
    assert "firewall table inet linkspan" in planned
    assert daemon.cli_json("inspect", "a1")["state"] == "up"
    daemon.cli("purge", "--yes")
    assert daemon.process
    assert daemon.process.wait(5) == 0
    check_nothing_is_left(lab, daemon)


def test_purge_works_without_a_daemon(lab: Lab, daemon: Daemon):
    daemon.cli("attach", "--name", "a1", "-p", "8080:80")
    daemon.kill()
    unsure = daemon.cli("purge", "--yes", check=False)
    assert unsure.returncode == 1
    assert "--state-dir" in unsure.stderr
    folders = ("--state-dir", str(daemon.state_dir), "--run-dir", str(daemon.run_dir))
    daemon.cli("purge", "--yes", *folders)
    check_nothing_is_left(lab, daemon)


def check_nothing_is_left(lab: Lab, daemon: Daemon) -> None:
    links = json.loads(lab.run(daemon.place, "ip -json link").stdout)
    assert [link["ifname"] for link in links] == ["lo"]
    assert lab.run(daemon.place, "nft list ruleset").stdout == ""
    assert not daemon.state_dir.exists()
    assert not daemon.run_dir.exists()


def checks_by_name(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in found["checks"]}


def test_the_doctor_says_what_is_here_with_and_without_a_daemon(daemon: Daemon):
    found = daemon.cli_json("doctor")
    checks = checks_by_name(found)
    assert found["usable"]
    assert checks["veth links"]["state"] == "ok"
    assert checks["daemon"]["state"] == "ok"
    assert checks["rules of others"]["state"] == "ok"
    daemon.stop()
    alone = daemon.cli_json("doctor")
    assert alone["usable"]
    assert checks_by_name(alone)["daemon"]["state"] == "warning"
    text = daemon.cli("doctor").stdout
    assert text.splitlines()[-1] == "The modes null, host and bridge work here."


def test_the_doctor_names_the_rule_that_stops_us_and_a_fix_that_works(lab: Lab, daemon: Daemon):
    lab.run(daemon.place, "nft add table inet fw")
    lab.run(
        daemon.place,
        ["nft", "add chain inet fw transit { type filter hook forward priority 0; policy drop; }"],
    )
    two = [daemon.post("/v1/sandboxes", {"name": f"s{number}"}) for number in (1, 2)]
    daemon.cli("network", "create", "web", "--subnet", "10.20.0.0/24")
    outside = daemon.post(
        "/v1/sandboxes", {"name": "web1", "networks": ["web"], "ports": ["8080:80"]}
    )
    lab.listener_tcp(outside["netns"], "0.0.0.0", 80, reply="web1")
    address = "10.20.0.1"  # the host's, as everybody else would use it
    assert not lab.fetch(two[0]["netns"], address, 8080, timeout=0.5).ok
    found = daemon.cli_json("doctor")
    (check,) = [c for c in found["checks"] if c["state"] == "blocked"]
    assert check["name"] == "nft table inet fw, chain transit"
    assert "policy drop" in check["found"]
    for command in check["commands"]:
        lab.run(daemon.place, ["sh", "-c", command])
    assert lab.fetch(two[0]["netns"], address, 8080, timeout=2).reply == "web1"
    assert not [c for c in daemon.cli_json("doctor")["checks"] if c["state"] == "blocked"]
