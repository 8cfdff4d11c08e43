"""A process that dies between two steps leaves what a repair completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import Namespace as Place
from linkspan.dataplane import (
    Add,
    Address,
    BridgePort,
    Change,
    DataPlane,
    Link,
    Namespace,
    Route,
    Sysctl,
    Veth,
    diff,
)
from linkspan.dataplane.links import Bridge
from linkspan.kernel import failpoints, namespaces
from linkspan.kernel.apply import Kernel
from linkspan.kernel.observe import observe

PLANE = DataPlane(
    [
        Link(name="br0", kind=Bridge(), up=True, alias="linkspan:network:1"),
        Namespace(namespace="blue"),
        Link(
            name="v1",
            kind=Veth(peer_name="eth0", peer_namespace="blue", peer_up=True),
            master="br0",
            up=True,
            alias="linkspan:endpoint:1",
            port=BridgePort(hairpin=True),
        ),
        Address(namespace="blue", link="eth0", address="10.1.0.2/24"),
        Route(namespace="blue", destination="0.0.0.0/0", gateway="10.1.0.1", link="eth0"),
        Sysctl(namespace="blue", path="ipv4/conf/eth0/arp_ignore", value="1"),
    ]
)
ATTACH: Change = diff(DataPlane(), PLANE)
DETACH: Change = diff(PLANE, DataPlane())
ATTACHING = ["begin", "add.namespace", "add.link", "add.link@2", "add.address", "add.route",
             "add.sysctl", "end"]  # fmt: skip
DETACHING = ["begin", "remove.link", "remove.link@2", "remove.namespace", "end"]


def die_at(point: str, change: str, run_dir: Path) -> None:
    """Carry a change out in another process that kills itself at a point."""
    name, _, count = point.partition("@")
    script = (
        "import sys; sys.path.insert(0, sys.argv[2]); import test_failpoints as t;"
        f"t.Kernel(sys.argv[1]).apply(t.{change})"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(run_dir), str(Path(__file__).parent)],
        env={
            **os.environ,
            failpoints.VARIABLE: f"apply.{name}:kill@{count or 1}",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == -signal.SIGKILL, result.stderr


@pytest.mark.parametrize("point", ATTACHING)
def test_an_attach_that_died_is_completed_by_repair(kernel: Kernel, run_dir: Path, point: str):
    die_at(point, "ATTACH", run_dir)
    kernel.apply(ATTACH, repair=True)
    seen = observe({"host": None, "blue": kernel.place("blue").path})
    assert diff(DataPlane(item for item in seen if item.key in PLANE), PLANE) == ()


@pytest.mark.parametrize(
    ("change", "point"),
    [*(("ATTACH", point) for point in ATTACHING), *(("DETACH", point) for point in DETACHING)],
)
def test_what_died_is_cleared_away_by_removing_it_again(
    kernel: Kernel, run_dir: Path, change: str, point: str
) -> None:
    if change == "DETACH":
        kernel.apply(ATTACH)
    die_at(point, change, run_dir)
    kernel.apply(DETACH)
    assert {link.name for link in observe({"host": None}).of(Link)} == {"lo"}
    assert namespaces.held_in(str(run_dir / "netns")) == {}


@pytest.mark.parametrize("point", ["add.namespace", "add.link", "add.address", "add.route"])
def test_a_failure_between_two_steps_is_taken_back(
    kernel: Kernel, run_dir: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    monkeypatch.setenv(failpoints.VARIABLE, f"apply.{point}:raise")
    failpoints.arm_from_environment()
    try:
        with pytest.raises(failpoints.InjectedFailure):
            kernel.apply(ATTACH)
    finally:
        monkeypatch.undo()
        failpoints.arm_from_environment()
    assert {link.name for link in observe({"host": None}).of(Link)} == {"lo"}
    assert namespaces.held_in(str(run_dir / "netns")) == {}


def test_points_can_be_listed(kernel: Kernel, tmp_path: Path, monkeypatch) -> None:
    trace = tmp_path / "trace"
    monkeypatch.setenv(failpoints.TRACE_VARIABLE, str(trace))
    failpoints.arm_from_environment()
    try:
        kernel.apply((Add(Link(name="br0", kind=Bridge())),))
    finally:
        monkeypatch.undo()
        failpoints.arm_from_environment()
    assert trace.read_text().split() == ["apply.begin", "apply.add.link", "apply.end"]


def test_unarmed_points_do_nothing(home: Place) -> None:
    assert not failpoints.armed()
    failpoints.reach("apply.begin")
