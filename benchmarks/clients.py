"""Many sandboxes from several clients at once, against one after another."""

from __future__ import annotations

import time

from benchmarks.measure import Goal, Measured, Size, Subject, alternate, faster, timed
from benchmarks.places import at_once
from benchmarks.stage import OurHost, prepare_attach, prepare_detach
from lab import Lab

CLIENTS = 8


def run(lab: Lab, size: Size) -> Subject:
    """200 sandboxes (quick: 48): total times."""
    count = size.choose(200, 48)
    ours = OurHost(lab)
    connections = [ours.connect() for _ in range(CLIENTS)]
    attaches = [prepare_attach(f"c{n}", [f"{8000 + n}:80"]) for n in range(count)]
    detaches = [prepare_detach(f"c{n}") for n in range(count)]

    def ask_all(requests: list[bytes], share: int) -> None:
        for request in requests[share::CLIENTS]:
            connections[share].ask(request)

    def together(requests: list[bytes]) -> None:
        at_once([lambda s=s: ask_all(requests, s) for s in range(CLIENTS)])  # type: ignore[misc]

    def one_by_one(requests: list[bytes]) -> None:
        for request in requests:
            connections[0].ask(request)

    removed: dict[str, list[float]] = {"together": [], "one by one": []}

    def measure_together(_: int) -> float:
        taken = timed(lambda: together(attaches))
        removed["together"].append(timed(lambda: together(detaches)))
        time.sleep(0.5)
        return taken

    def measure_one_by_one(_: int) -> float:
        taken = timed(lambda: one_by_one(attaches))
        removed["one by one"].append(timed(lambda: one_by_one(detaches)))
        time.sleep(0.5)
        return taken

    made = alternate(
        {"together": measure_together, "one by one": measure_one_by_one}, size.choose(5, 2)
    )
    for connection in connections:
        connection.close()
    goal = Goal(at_least=1.0, aim=1.3, higher_is_better=True)
    return Subject(
        rows=tuple(
            faster(
                f"{job} {count} sandboxes, {CLIENTS} clients at once",
                Measured.of("at once", samples["together"]),
                Measured.of("one after another", samples["one by one"]),
                goal if job == "attach" else None,
            )
            for job, samples in (("attach", made), ("detach", removed))
        )
    )
