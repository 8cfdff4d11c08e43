"""A daemon in the lab: its own paths, clients, crashes, and an end that leaves nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from lab import DaemonDied, Lab, Refused


def test_a_daemon_answers_by_api_and_command_line(lab: Lab):
    daemon = lab.daemon(lab.namespace("host"))
    made = daemon.post("/v1/networks", {"name": "web", "subnets": [{"subnet": "10.20.0.0/24"}]})
    assert made["name"] == "web"
    assert "web" in [network["name"] for network in daemon.cli_json("network", "ls")]
    daemon.delete("/v1/networks/web")
    with pytest.raises(Refused) as refusal:
        daemon.get("/v1/networks/web")
    assert (refusal.value.status, refusal.value.code) == (404, "not_found")
    assert "web" in refusal.value.message


def test_a_killed_daemon_starts_again_and_remembers(lab: Lab):
    daemon = lab.daemon(lab.namespace("host"))
    daemon.post("/v1/networks", {"name": "web", "subnets": [{"subnet": "10.20.0.0/24"}]})
    before = daemon.pid
    daemon.restart(signal.SIGKILL)
    assert daemon.pid != before
    assert daemon.get("/v1/networks/web")["name"] == "web"


def test_a_second_daemon_in_the_namespace_is_refused(lab: Lab):
    host = lab.namespace("host")
    lab.daemon(host)
    with pytest.raises(DaemonDied, match="already"):
        lab.daemon(host)


def test_a_lab_with_sandboxes_leaves_nothing(lab: Lab):
    with Lab() as inner:
        host = inner.namespace("host")
        daemon = inner.daemon(host)
        netns = daemon.post("/v1/sandboxes", {"name": "shop", "networks": ["bridge"]})["netns"]
        assert os.path.exists(netns)
        daemon.kill()
    assert not inner.directory.exists()
    assert inner.mark not in Path("/proc/self/mountinfo").read_text()
    assert not os.path.exists(host.path)
