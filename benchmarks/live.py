"""A running sandbox: connected to a second network, and a port opened and closed.

Docker connects and disconnects too. It cannot publish on a container that runs, so there is no
peer for that.
"""

from __future__ import annotations

import time

from benchmarks import docker
from benchmarks.client import Client, prepare
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
from benchmarks.stage import QUIET, OurHost
from lab import Lab

SECOND = "second"
FIVE_TIMES = Goal(at_least=5.0, higher_is_better=True)
FIVE_MS = Goal(at_least=5.0)


def run(lab: Lab, size: Size) -> Subject:
    """Both jobs on one sandbox of ours that publishes a port already."""
    ours = OurHost(lab)
    ours.daemon.post("/v1/networks", {"name": SECOND, "subnets": [{"subnet": "10.31.0.0/16"}]})
    sandbox = ours.attach("box", ["8080:80"])
    ours.expect_answer(sandbox["netns"], 80, 8080)
    published, cutting = _publish(ours, sandbox["netns"], size)
    connected, notes = _connect(lab, ours, size)
    return Subject(rows=(*published, *connected), notes=(cutting, *notes))


def _publish(ours: OurHost, inside: str, size: Size) -> tuple[tuple[Row, ...], str]:
    publish = prepare("POST", "/v1/sandboxes/box/ports", {"ports": ["8443:443"]})
    unpublish = prepare("DELETE", "/v1/sandboxes/box/ports/8443/tcp")
    cut = prepare("DELETE", "/v1/sandboxes/box/ports/8443/tcp?now=true")
    ours.client.ask(publish)
    ours.expect_answer(inside, 443, 8443)
    ours.client.ask(cut)
    samples: dict[str, list[float]] = {"publish": [], "unpublish": [], "now": []}
    for number in range(size.choose(100, 20)):
        samples["publish"].append(timed(lambda: ours.client.ask(publish)))
        kind, request = ("unpublish", unpublish) if number % 2 else ("now", cut)
        samples[kind].append(timed(lambda request=request: ours.client.ask(request)))  # type: ignore[misc]
    rows = (
        absolute("publish a port of a running container", _of(samples["publish"]), FIVE_MS),
        absolute("unpublish it", _of(samples["unpublish"]), FIVE_MS),
    )
    return rows, (
        f"unpublish with --now: {_of(samples['now']).median:.0f} ms, for the kernel's whole table "
        "of connections is read (one of all namespaces, and of a size that goes with the memory)."
    )


def _of(samples: list[float]) -> Measured:
    return Measured.of("linkspan", samples)


def _connect(lab: Lab, ours: OurHost, size: Size) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    if not docker.is_there():
        note = "Docker is not installed: no comparison (scripts/bench --docker installs it)."
        return (), (note,)
    join = prepare("POST", "/v1/sandboxes/box/networks", {"network": SECOND})
    leave = prepare("DELETE", f"/v1/sandboxes/box/networks/{SECOND}")
    with docker.Docker(lab) as dockerd:
        dockerd.import_image()
        dockerd.add_network("one", "10.30.0.0/16")
        dockerd.add_network("two", "10.31.0.0/16")
        dockerd.run_container("member", "one")
        their_join = prepare("POST", "/networks/two/connect", {"Container": "member"})
        their_leave = prepare("POST", "/networks/two/disconnect", {"Container": "member"})
        with Client(dockerd.socket) as theirs:

            def ours_once(_: int) -> float:
                taken = timed(lambda: (ours.client.ask(join), ours.client.ask(leave)))
                time.sleep(QUIET)
                return taken

            def docker_once(_: int) -> float:
                taken = timed(lambda: (theirs.ask(their_join), theirs.ask(their_leave)))
                time.sleep(QUIET)
                return taken

            contenders: dict[str, Timed] = {"linkspan": ours_once, "docker": docker_once}
            alternate(contenders, 2)
            samples = alternate(contenders, size.choose(20, 5))
    row = faster(
        "connect a running container to a second network, and disconnect it",
        Measured.of("linkspan", samples["linkspan"]),
        Measured.of("Docker", samples["docker"]),
        FIVE_TIMES,
    )
    return (row,), ()
