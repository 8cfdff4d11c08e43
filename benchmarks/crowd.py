"""One more endpoint on a network that has many already."""

from __future__ import annotations

import time

from benchmarks.floor import FloorHost
from benchmarks.measure import Goal, Measured, Size, Subject, Timed, alternate, as_long, timed
from benchmarks.places import at_once
from benchmarks.stage import QUIET, OurHost, floor_host, prepare_attach, prepare_detach
from lab import Lab

CLIENTS = 4
WARM_UP = 2


def run(lab: Lab, size: Size) -> Subject:
    """The 1,000th endpoint (quick: the 200th), against the floor at the same count."""
    count = size.choose(1000, 200)
    rounds = size.choose(25, 8)
    ours = OurHost(lab)
    _, floor = floor_host(lab)
    last = count - 1

    def fill(share: int) -> None:
        with ours.connect() as connection:
            for number in range(share, last, CLIENTS):
                connection.ask(prepare_attach(f"c{number}"))

    first = alternate_pair(ours, floor_attacher(floor, 0), "c0", WARM_UP, rounds)
    at_once([lambda share=share: fill(share) for share in range(CLIENTS)])  # type: ignore[misc]
    for number in range(last):
        floor.attach(floor.prepare(number))
    full = alternate_pair(ours, floor_attacher(floor, last), f"c{last}", WARM_UP, rounds)

    rows = []
    for job, samples, goal in (
        ("attach the first endpoint of a network", first, None),
        (f"attach the {count:,}th endpoint of a network", full, Goal(at_least=2, aim=1.3)),
    ):
        rows.append(
            as_long(
                job,
                Measured.of("linkspan", samples["linkspan"]),
                Measured.of("kernel floor", samples["floor"]),
                goal,
            )
        )
    return Subject(rows=tuple(rows))


def floor_attacher(floor: FloorHost, number: int) -> Timed:
    """Attaches endpoint `number` by prepared bytes and detaches it off the clock."""
    prepared = floor.prepare(number)

    def attach(_: int) -> float:
        taken = floor.attach(prepared)
        time.sleep(QUIET)
        floor.detach(prepared)
        return taken

    return attach


def alternate_pair(
    ours: OurHost, floor: Timed, name: str, warm_up: int, rounds: int
) -> dict[str, list[float]]:
    """Samples of attaching one endpoint, ours and the floor's in turn."""
    attach, detach = prepare_attach(name), prepare_detach(name)

    def ours_attach(_: int) -> float:
        taken = timed(lambda: ours.client.ask(attach))
        time.sleep(QUIET)
        ours.client.ask(detach)
        return taken

    contenders = {"linkspan": ours_attach, "floor": floor}
    alternate(contenders, warm_up, pause=QUIET)
    return alternate(contenders, rounds, pause=QUIET)
