"""Memory of the daemon with many sandboxes; dockerd's beside it, where that is installed."""

from __future__ import annotations

import re
from pathlib import Path

from benchmarks import docker
from benchmarks.measure import Goal, Measured, Row, Size, Subject, absolute
from benchmarks.stage import OurHost
from lab import Lab, places

GOAL = Goal(at_least=80, aim=50)


def run(lab: Lab, size: Size) -> Subject:
    """Resident and proportional set sizes with 100 sandboxes."""
    count = size.choose(100, 20)
    ours = OurHost(lab)
    empty = read_memory(ours.daemon.pid)["Rss"]
    for number in range(count):
        ours.attach(f"c{number}", [f"{8000 + number}:80"])
    used = read_memory(ours.daemon.pid)
    beside = [
        read_memory(pid)["Pss"]
        for pid in places.processes_in({places.identity_of(ours.place)})
        if pid != ours.daemon.pid
    ]
    notes = [
        f"The daemon's other processes there ({len(beside)}): proportional set size "
        f"{sum(beside) / 1e6:.0f} MB.",
        f"The daemon's memory before the first sandbox: {empty / 1e6:.0f} MB; proportional set "
        f"size with {count} sandboxes: {used['Pss'] / 1e6:.0f} MB.",
    ]
    mine = Measured.of("linkspan", [used["Rss"]], "MB")
    peer = None
    if docker.is_there():
        with docker.Docker(lab) as dockerd:
            theirs = dockerd.processes()
            sizes = {name: read_memory(pid) for name, pid in theirs.items()}
        peer = Measured.of("dockerd, no containers", [sizes["dockerd"]["Rss"]], "MB")
        notes += [
            f"{name}, idle: resident {one['Rss'] / 1e6:.0f} MB, proportional "
            f"{one['Pss'] / 1e6:.0f} MB."
            for name, one in sizes.items()
        ]
    row: Row = absolute(f"resident memory of the daemon, {count} sandboxes", mine, GOAL, peer)
    return Subject(rows=(row,), notes=tuple(notes))


def read_memory(pid: int) -> dict[str, int]:
    """Rss and Pss of a process in bytes (proc_pid_smaps_rollup)."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.findall(r"^(Rss|Pss):\s+(\d+) kB", text, re.M)
    return {name: int(kilobytes) * 1024 for name, kilobytes in found}
