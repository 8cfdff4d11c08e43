"""One more network for a running container: Docker's `network connect` beside our whole attach."""

from __future__ import annotations

import time

from benchmarks import docker
from benchmarks.client import Client, prepare
from benchmarks.measure import Measured, Size, Subject, Timed, alternate, faster, timed
from benchmarks.stage import QUIET, OurHost, prepare_attach, prepare_detach
from lab import Lab


def run(lab: Lab, size: Size) -> Subject:
    """Docker joins a container that runs; we make the namespace too. No ports on either side."""
    if not docker.is_there():
        note = "Docker is not installed: no comparison (scripts/bench --docker installs it)."
        return Subject(rows=(), notes=(note,))
    ours = OurHost(lab)
    attach, detach = prepare_attach("box"), prepare_detach("box")
    with docker.Docker(lab) as dockerd:
        dockerd.import_image()
        dockerd.add_network("one", "10.30.0.0/16")
        dockerd.add_network("two", "10.31.0.0/16")
        dockerd.run_container("member", "one")
        connect = prepare("POST", "/networks/two/connect", {"Container": "member"})
        disconnect = prepare("POST", "/networks/two/disconnect", {"Container": "member"})
        with Client(dockerd.socket) as theirs:

            def docker_once(_: int) -> float:
                taken = timed(lambda: theirs.ask(connect))
                theirs.ask(disconnect)
                time.sleep(QUIET)
                return taken

            def ours_once(_: int) -> float:
                taken = timed(lambda: ours.client.ask(attach))
                ours.client.ask(detach)
                time.sleep(QUIET)
                return taken

            contenders: dict[str, Timed] = {"linkspan": ours_once, "docker": docker_once}
            alternate(contenders, 2)
            samples = alternate(contenders, size.choose(20, 5))
    row = faster(
        "attach, no port; Docker joins a container that runs",
        Measured.of("linkspan", samples["linkspan"]),
        Measured.of("Docker `network connect`", samples["docker"]),
    )
    return Subject(rows=(row,))
