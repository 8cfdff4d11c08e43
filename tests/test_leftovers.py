"""The comparison that ends a test run tells our leftovers from other people's things."""

from __future__ import annotations

import subprocess
import sys

import leftovers
from lab.processes import wait_until


def test_only_what_is_new_counts():
    before = {"links": {"link eth0": True}}
    after = {"links": {"link eth0": True, "link veth9": True}}
    assert leftovers.compare(before, after, strict=False) == (["link veth9"], [])
    assert leftovers.compare(after, before, strict=False) == ([], [])


def test_a_neighbours_namespace_counts_only_where_the_machine_is_ours():
    after = {"namespaces": {"namespace theirs": False, "namespace lst-1-host": True}}
    ours, others = leftovers.compare({}, after, strict=False)
    assert (ours, others) == (["namespace lst-1-host"], ["namespace theirs"])
    assert leftovers.compare({}, after, strict=True)[1] == []


def test_a_process_of_this_run_is_found_by_its_environment(monkeypatch):
    monkeypatch.setattr(leftovers, "MARK", "mark-of-a-test")
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, env={"X": "mark-of-a-test"}
    )

    def is_found() -> bool:
        found = leftovers.find_processes()
        return any(ours and f"process {child.pid}:" in name for name, ours in found.items())

    try:
        # Between fork and exec it still has our own environment.
        wait_until(is_found, "the child in the list of leftovers")
    finally:
        child.kill()
        child.wait()
    assert not [name for name in leftovers.find_processes() if f" {child.pid}:" in name]
