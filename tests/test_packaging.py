"""The scripts explain themselves, and the unit keeps its promise: a restart touches no packet."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    path for path in (ROOT / "scripts").iterdir() if path.is_file() and not path.suffix
)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_says_what_it_does(script: Path):
    assert os.access(script, os.X_OK)
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 0
    assert f"scripts/{script.name}" in done.stdout


@pytest.mark.parametrize(
    "script", [*SCRIPTS, ROOT / "scripts/lib.sh", ROOT / ".ci/run"], ids=lambda path: path.name
)
def test_a_script_parses(script: Path):
    done = subprocess.run(["bash", "-n", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def unit_settings() -> dict[str, str]:
    """The settings of the unit, without its sections."""
    text = (ROOT / "packaging/linkspan.service").read_text()
    return dict(re.findall(r"^(\w+)=(.*)$", text, re.M))


def test_the_unit_stops_the_daemon_alone():
    settings = unit_settings()
    assert settings["Type"] == "notify"
    assert settings["KillMode"] == "process"
    assert settings["Delegate"] == "yes"
    assert settings["Restart"] == "on-failure"


def test_the_unit_shares_the_hosts_mounts():
    # systemd.exec(5): each of these gives a service a mount namespace of its own, or removes
    # its folder when it stops.
    hiding = re.compile(r"Private|Protect|ReadOnly|ReadWrite|Inaccessible|Bind|RuntimeDirectory")
    assert [name for name in unit_settings() if hiding.match(name)] == []
