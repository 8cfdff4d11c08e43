"""What strangers reach on a host with 1,000 containers and 1,000 published ports, out of a file.

Each kind of host is measured in a process of its own, which also tells its memory.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, Measured, Row, Size, Subject, absolute
from benchmarks.reach import make_host
from lab import Lab
from lab.daemon import SOURCE
from linkspan.analysis import View
from linkspan.analysis.exposed import find_exposed
from linkspan.dataplane import DataPlane
from linkspan.inventory.records import HostView
from linkspan.inventory.snapshot import load, save

EXPOSURE = Goal(at_least=5, aim=1)
MEMORY = Goal(at_least=300)
_NETWORKS = 10
_STYLES = ("linkspan", "docker")
_ROUNDS = 3


def run(lab: Lab, size: Size) -> Subject:
    """All that strangers reach: 10 networks of 100 containers with 2 listening ports of both IP
    versions and a published port each.
    """
    rows: list[Row] = []
    notes: list[str] = []
    each = size.choose(100, 20)
    for style in _STYLES:
        with tempfile.TemporaryDirectory(prefix="lsb-exposed-") as folder:
            file = Path(folder) / "host.lks"
            save(HostView(plane=DataPlane(make_host(style, each))), str(file))
            found = measure_apart(file)
        name = f"{_NETWORKS * each:,} containers, rules as {style}'s"
        rows += [
            absolute(f"exposure, {name}", Measured.of("linkspan", found["seconds"], "s"), EXPOSURE),
            absolute(
                f"memory with the exposure, {name}",
                Measured.of("linkspan", [found["memory"]], "MB"), MEMORY,
            ),
        ]  # fmt: skip
        notes.append(
            f"{name}: {found['exposures']:,} ways in, found by walking {found['walks']:,} packets."
        )
    return Subject(rows=tuple(rows), notes=tuple(notes))


def measure_apart(file: Path) -> dict[str, Any]:
    """What a process that knows nothing but the file finds."""
    paths = [str(SOURCE), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.exposed", str(file)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def measure(file: str) -> dict[str, Any]:
    """Load a host, then time the exposure with all that it needs."""
    plane = load(file).plane
    seconds = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        found = find_exposed(View(plane, sockets_known=True))
        seconds.append(time.perf_counter() - start)
        assert found.complete
    return {
        "seconds": seconds,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "exposures": len(found.exposures),
        "walks": found.walks,
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
