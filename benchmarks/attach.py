"""Attach and detach: a new namespace, one network, one published port."""

from __future__ import annotations

from benchmarks import cni
from benchmarks.measure import (
    Goal,
    Measured,
    Size,
    Subject,
    Timed,
    alternate,
    as_long,
    faster,
    timed,
)
from benchmarks.stage import (
    QUIET,
    OurHost,
    cni_host,
    floor_host,
    prepare_attach,
    prepare_detach,
)
from lab import Lab
from linkspan.drivers.records import PublishedPort

WARM_UP = 3


def run(lab: Lab, size: Size) -> Subject:
    """Compare with CNI's bridge and portmap, and with the kernel floor."""
    rounds = size.choose(50, 10)
    total = rounds + WARM_UP
    ours = OurHost(lab)
    floor_place, floor = floor_host(lab)
    attaches = [prepare_attach(f"c{n}", [f"{8000 + n}:80"]) for n in range(total)]
    detaches = [prepare_detach(f"c{n}") for n in range(total)]
    prepared = [
        floor.prepare(n, [PublishedPort(host_port=8000 + n, host_port_end=8000 + n, port=80)])
        for n in range(total)
    ]
    attach: dict[str, Timed] = {
        "linkspan": lambda n: timed(lambda: ours.client.ask(attaches[n])),
        "floor": lambda n: floor.attach(prepared[n]),
    }
    detach: dict[str, Timed] = {
        "linkspan": lambda n: timed(lambda: ours.client.ask(detaches[n])),
        "floor": lambda n: floor.detach(prepared[n]),
    }
    if cni.is_there():
        cni_place, peer = cni_host(lab)
        attach["cni"] = lambda n: peer.attach(n, [(8000 + n, 80)])
        detach["cni"] = lambda n: peer.detach(n, [(8000 + n, 80)])

    alternate(attach, WARM_UP)
    floor.check(prepared[0])
    # All of them do the same job: a stranger gets an answer through the published port.
    ours.expect_answer(ours.client.request("GET", "/v1/sandboxes/c0")["netns"], 80, 8000)
    floor_place.expect_answer(prepared[0].path, 80, 8000)
    if "cni" in attach:
        cni_place.expect_answer(peer.path(0), 80, 8000)

    made = alternate(attach, rounds, first_round=WARM_UP)
    removed = alternate(detach, total, pause=QUIET)
    rows = []
    for job, samples, goal, floor_goal in (
        ("attach", made, Goal(at_least=10, aim=30, higher_is_better=True), Goal(aim=2)),
        ("detach", removed, None, None),
    ):
        mine = Measured.of("linkspan", samples["linkspan"])
        if "cni" in samples:
            theirs = Measured.of("CNI bridge + portmap", samples["cni"])
            rows.append(faster(f"{job}: namespace, network, one port", mine, theirs, goal))
        bottom = Measured.of("kernel floor", samples["floor"])
        rows.append(as_long(f"{job}: namespace, network, one port", mine, bottom, floor_goal))
    notes = () if "cni" in attach else ("CNI's plugins are not installed: no comparison.",)
    return Subject(rows=tuple(rows), notes=notes)
