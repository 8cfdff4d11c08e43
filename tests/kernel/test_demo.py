"""The demo is a test: every claim that it makes is checked, and it leaves nothing behind."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

DEMO = Path(__file__).resolve().parents[2] / "scripts" / "demo"


@pytest.fixture(scope="module")
def told() -> subprocess.CompletedProcess[str]:
    """The whole demo, told once."""
    return subprocess.run(
        [DEMO, "--fast"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        env={key: value for key, value in os.environ.items() if key != "LINKSPAN_SOCKET"},
    )


def test_every_claim_of_the_demo_holds(told):
    assert told.returncode == 0, told.stdout[-6000:] + told.stderr[-2000:]
    assert "NOT SO" not in told.stdout
    assert "✗" not in told.stdout


def test_the_demo_tells_the_whole_story(told):
    for title in (
        *("The daemon", "published port", "refused, and why", "While it runs", "macvlan"),
        *("crash", "Nothing is left"),
    ):
        assert title in told.stdout


def test_the_demo_fits_a_terminal_and_has_no_colour_in_a_file(told):
    assert "\033" not in told.stdout
    commands = [line for line in told.stdout.splitlines() if line.startswith("  $ ")]
    assert len(commands) > 40
    assert [line for line in commands if len(line) > 100] == []


def test_a_wrong_argument_is_refused():
    done = subprocess.run([DEMO, "--slow"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "--fast" in done.stderr
