"""The command line as a whole process: start, ask the daemon, print, end."""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks import docker
from benchmarks.measure import Goal, Measured, Size, Subject, Timed, absolute, alternate, timed
from benchmarks.places import linkspan_command
from benchmarks.stage import OurHost
from lab import Lab
from lab.daemon import SOURCE

GOAL = Goal(at_least=150, aim=80)


def run(lab: Lab, size: Size) -> Subject:
    """`linkspan network ls`, a Python that does nothing, and `docker network ls`."""
    ours = OurHost(lab)
    environment = {
        **os.environ,
        "LINKSPAN_SOCKET": str(ours.daemon.socket),
        "PYTHONPATH": str(SOURCE),
    }

    def program(command: list[str]) -> Timed:
        def start(_: int) -> float:
            return timed(
                lambda: subprocess.run(
                    command, check=True, env=environment, stdout=subprocess.DEVNULL, timeout=30
                )
            )

        return start

    contenders = {
        "linkspan": program([*linkspan_command(), "network", "ls"]),
        "python": program([sys.executable, "-c", "pass"]),
    }
    rounds = size.choose(20, 6)
    peer = None
    if docker.is_there():
        with docker.Docker(lab) as dockerd:
            contenders["docker"] = program([*dockerd.command, "network", "ls"])
            alternate(contenders, 2)
            samples = alternate(contenders, rounds)
        peer = Measured.of("docker network ls", samples["docker"])
    else:
        alternate(contenders, 2)
        samples = alternate(contenders, rounds)
    bare = Measured.of("python -c pass", samples["python"])
    mine = Measured.of("linkspan", samples["linkspan"])
    return Subject(
        rows=(absolute("`linkspan network ls`, the whole process", mine, GOAL, peer),),
        notes=(f"Of that, Python itself takes {bare.median:.0f} ms (`python -c pass`).",),
    )
