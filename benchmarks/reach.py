"""Who reaches whom among 1,000 containers, and one path there: on a host out of a file.

Each kind of host is measured in a process of its own, which also tells its memory.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measure import Goal, Measured, Row, Size, Subject, absolute
from lab import Lab
from lab.daemon import SOURCE
from linkspan.analysis import Flow, View, trace_flow
from linkspan.analysis.reach import Reached, find_reach
from linkspan.dataplane import DataPlane, Link, Object, Sysctl
from linkspan.inventory.records import HostView
from linkspan.inventory.snapshot import load, save
from linkspan.kernel.settings import IPV4, IPV6
from walks.crowds import GROUPED, make_crowd

MATRIX = Goal(at_least=5, aim=1)
PATH = Goal(at_least=20)
MEMORY = Goal(at_least=300)
_NETWORKS = 10
_STYLES = ("linkspan", "docker")
_SMALL = 5
"""Members of a network where there are many networks, as compose projects make them."""
_ROUNDS = 5


def run(lab: Lab, size: Size) -> Subject:
    """The matrix of 10 networks of 100 containers and of 200 networks of 5, every one with 2
    listening ports of both IP versions and a published port; a path between two of them.
    """
    rows: list[Row] = []
    notes: list[str] = []
    each = size.choose(100, 20)
    cases = [(style, _NETWORKS, each) for style in _STYLES]
    cases += [(style, size.choose(200, 50), _SMALL) for style in ("linkspan", GROUPED)]
    for style, networks, each in cases:
        with tempfile.TemporaryDirectory(prefix="lsb-reach-") as folder:
            file = Path(folder) / "host.lks"
            objects = make_host(style, each, networks)
            save(HostView(plane=DataPlane(objects)), str(file))
            found = measure_apart(file)
        name = f"{networks * each:,} containers on {networks} networks, rules as {style}'s"
        rows += [
            absolute(f"matrix, {name}", Measured.of("linkspan", found["matrix"], "s"), MATRIX),
            absolute(
                f"path on a loaded host, {name}", Measured.of("linkspan", found["path"]), PATH
            ),
            absolute(
                f"memory with the matrix, {name}",
                Measured.of("linkspan", [found["memory"]], "MB"),
                MEMORY,
            ),
        ]
        notes.append(
            f"{name}: {len(objects):,} objects, {found['kinds']} kinds, {found['pairs']} findings "
            f"told for {found['cells']:,} pairs of containers."
        )
    return Subject(rows=tuple(rows), notes=tuple(notes))


def make_host(style: str, each: int, networks: int = _NETWORKS) -> list[Object]:
    """A host as it is observed: with the settings of every link."""
    made = make_crowd(random.Random(style), style, bridges=networks, size=each, odd=False)
    held = dict(made.objects)
    for link in [item for item in held.values() if isinstance(item, Link)]:
        for version, names in ((4, IPV4), (6, IPV6)):
            for name in names:
                one = Sysctl(
                    namespace=link.namespace,
                    path=f"ipv{version}/conf/{link.name}/{name}",
                    value="1" if name == "forwarding" and link.namespace == "host" else "0",
                )
                held.setdefault(one.key, one)
    return list(held.values())


def measure_apart(file: Path) -> dict[str, Any]:
    """What a process that knows nothing but the file finds."""
    paths = [str(SOURCE), *(path for path in sys.path if path)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.reach", str(file)],
        stdout=subprocess.PIPE, text=True, check=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(file: str) -> dict[str, Any]:
    """Load a host, then time the matrix with all that it needs, and a path."""
    plane = load(file).plane
    matrix, path = [], []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        view = View(plane, sockets_known=True)
        reach = find_reach(view)
        matrix.append(time.perf_counter() - start)
    group = reach.origins[0]
    for number in range(_ROUNDS):
        view = View(plane, sockets_known=True)
        other = number + _ROUNDS
        flow = Flow(destination=group.addresses[other][1], destination_port=80)
        start = time.perf_counter()
        answer = trace_flow(view, group.members[number], flow)
        path.append(time.perf_counter() - start)
        told = reach.verdict(
            group.members[number], group.members[other], "tcp", 80, flow.destination
        )
        assert (told is Reached.REACHABLE) == answer.first.good
    sizes = {group.name: len(group.members) for group in (*reach.origins, *reach.targets)}
    return {
        "matrix": matrix,
        "path": path,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "kinds": len(reach.origins),
        "pairs": len(reach.findings),
        "cells": sum(
            sizes[one.origin] * (1 if one.same else sizes[one.target]) for one in reach.findings
        ),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1])))
