"""A whole host read: namespaces, links, addresses, routes, rules, settings, sockets, firewalls.

Beside it what a person would run: `ip`, `ss` and `nft` in one namespace after the other.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import (
    Goal,
    Measured,
    Row,
    Size,
    Subject,
    Timed,
    absolute,
    alternate,
    faster,
    timed,
)
from benchmarks.stage import floor_host
from lab import Lab
from lab.daemon import SOURCE

GOALS = {200: Goal(at_least=1000, aim=500), 1000: Goal(at_least=2000, aim=500)}
"""Milliseconds by number of namespaces."""
MEMORY = Goal(at_least=300, aim=150)
BY_HAND = (
    "ip -j -d addr; ip -j -d route show table all; ip -j -6 route show table all; ip -j rule; "
    "ip -j neigh; ss -Hltunp; nft -j list ruleset"
)
READ = """
import json, os, resource, sys, time
from linkspan.kernel.host import observe_host
from linkspan.kernel.machine import look_over
places = {"host": None, **json.load(sys.stdin)}
start = time.perf_counter()
machine = look_over()
seen = observe_host(places, files=machine.files)
taken = time.perf_counter() - start
spaces = {item.namespace for item in seen.plane}
assert len(spaces) == len(places), "not every namespace was read"
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([taken, len(seen.plane), peak, seen.changing]))
"""


def run(lab: Lab, size: Size) -> Subject:
    """200 and 1,000 namespaces (quick: 50 and 200) as linkspan leaves them on a network."""
    host, floor = floor_host(lab)
    counts = {200: size.choose(200, 50), 1000: size.choose(1000, 200)}
    places: dict[str, str] = {}
    rows: list[Row] = []
    notes: list[str] = []
    for target, count in counts.items():
        while len(places) < count:
            prepared = floor.prepare(len(places))
            floor.attach(prepared)
            places[f"c{len(places)}"] = prepared.path
        peaks: list[int] = []
        objects: list[int] = []

        def ours(_: int, peaks: list[int] = peaks, objects: list[int] = objects) -> float:
            taken, many, peak, changing = read_host(host.place.path, places)
            if changing:
                raise AssertionError(f"nothing changes here, but {changing} did")
            peaks.append(peak)
            objects.append(many)
            return taken

        contenders: dict[str, Timed] = {
            "linkspan": ours,
            "by hand": by_hand(host.place.path, places),
        }
        samples = alternate(contenders, size.choose(5 if target == 200 else 3, 2))
        mine = Measured.of("linkspan", samples["linkspan"])
        theirs = Measured.of("ip, ss and nft in each", samples["by hand"])
        job = f"read a host with {count:,} namespaces"
        rows.append(absolute(job, mine, GOALS[target]))
        rows.append(faster(f"{job}, beside doing it by hand", mine, theirs))
        notes.append(f"{count:,} namespaces: {objects[-1]:,} objects.")
    memory = Measured.of("linkspan", peaks, "MB")
    rows.append(absolute(f"most memory in use meanwhile, {count:,} namespaces", memory, MEMORY))
    return Subject(rows=tuple(rows), notes=tuple(notes))


def read_host(host: str, places: dict[str, str]) -> tuple[float, int, int, list[str]]:
    """Seconds, objects, bytes and what changed, in a process of its own in the host's namespace."""
    done = subprocess.run(
        ["nsenter", f"--net={host}", sys.executable, "-c", READ],
        input=json.dumps(places), capture_output=True, text=True, check=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    taken, objects, peak, changing = json.loads(done.stdout)
    return taken, objects, peak, changing


def by_hand(host: str, places: dict[str, str]) -> Timed:
    """The same with programs: a shell that goes through all namespaces."""

    def read(_: int) -> float:
        paths = "\n".join([host, *places.values()])
        script = f"while read path; do nsenter --net=$path sh -c '{BY_HAND}'; done"
        with Path(os.devnull).open("w") as nowhere:
            return timed(
                lambda: subprocess.run(
                    ["sh", "-c", script], input=paths, text=True, check=True, timeout=300,
                    stdout=nowhere, stderr=nowhere,
                )
            )  # fmt: skip

    return read
