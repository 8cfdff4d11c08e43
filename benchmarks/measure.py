"""What was measured, side by side, and the goals it is judged by. Times are in seconds inside."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

Timed = Callable[[int], float]
"""Does its job once and returns the seconds that it took; takes the number of the round."""

_SCALES = {"ms": 1e3, "us": 1e6, "s": 1.0, "MB": 1e-6, "per s": 1.0}


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One contender's samples of one job. `median`, `low` and `high` are in `unit`.

    `low` and `high` are the first and the last decile.
    """

    name: str
    unit: str
    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, name: str, samples: Sequence[float], unit: str = "ms") -> Measured:
        """Summarise samples that are in seconds, bytes or per second."""
        scaled = sorted(sample * _SCALES[unit] for sample in samples)
        tenth = len(scaled) // 10
        return cls(
            name=name,
            unit=unit,
            median=statistics.median(scaled),
            low=scaled[tenth],
            high=scaled[-1 - tenth],
            count=len(scaled),
        )


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """What a figure should be: `at_least` must be reached, `aim` is hoped for."""

    at_least: float | None = None
    aim: float | None = None
    higher_is_better: bool = False

    def judge(self, figure: float) -> str:
        """In words: whether the figure reaches the goal."""
        if self.aim is not None and self._reached(figure, self.aim):
            return "aim met"
        if self.at_least is None:
            return "aim missed"
        return "met" if self._reached(figure, self.at_least) else "MISSED"

    def _reached(self, figure: float, goal: float) -> bool:
        return figure >= goal if self.higher_is_better else figure <= goal


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the results: a job, ours, a peer's, and the figure that is judged.

    `figure` is in `figure_unit`: "x faster" (the peer's time by ours), "x as long" (ours by
    the peer's), or the unit of the measurement itself.
    """

    job: str
    ours: Measured
    peer: Measured | None = None
    figure: float
    figure_unit: str
    goal: Goal | None = None

    @property
    def verdict(self) -> str:
        """In words: whether the goal was reached; "" where there is none."""
        return self.goal.judge(self.figure) if self.goal else ""


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Everything of one run. `machine` says what it ran on, by subject."""

    machine: dict[str, str]
    quick: bool
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


class Subject(msgspec.Struct, frozen=True, kw_only=True):
    """What one benchmark module found out."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How much to do: the full measure, or a quick look."""

    quick: bool = False

    def choose(self, full: int, quick: int) -> int:
        """A number of rounds or things."""
        return quick if self.quick else full


def faster(job: str, ours: Measured, peer: Measured, goal: Goal | None = None) -> Row:
    """A row that is judged by how many times faster than the peer ours is."""
    return Row(
        job=job,
        ours=ours,
        peer=peer,
        figure=peer.median / ours.median,
        figure_unit="x faster",
        goal=goal,
    )


def as_long(job: str, ours: Measured, peer: Measured, goal: Goal | None = None) -> Row:
    """A row that is judged by how many times as long as the peer ours takes."""
    return Row(
        job=job,
        ours=ours,
        peer=peer,
        figure=ours.median / peer.median,
        figure_unit="x as long",
        goal=goal,
    )


def absolute(job: str, ours: Measured, goal: Goal, peer: Measured | None = None) -> Row:
    """A row that is judged by our own figure."""
    return Row(job=job, ours=ours, peer=peer, figure=ours.median, figure_unit=ours.unit, goal=goal)


def alternate(
    contenders: Mapping[str, Timed],
    rounds: int,
    *,
    first_round: int = 0,
    pause: float = 0.0,
) -> dict[str, list[float]]:
    """Let contenders do their job in turn, `rounds` times, and return each one's samples.

    Every other round goes backwards, so that nobody always follows the same neighbour.
    `pause` seconds between jobs let the kernel's own workers finish what a job left them
    (namespaces are freed in the background).
    """
    samples: dict[str, list[float]] = {name: [] for name in contenders}
    order = list(contenders)
    gc.collect()
    gc.disable()
    try:
        for number in range(first_round, first_round + rounds):
            for name in order:
                samples[name].append(contenders[name](number))
                if pause:
                    time.sleep(pause)
            order.reverse()
    finally:
        gc.enable()
    return samples


def timed(job: Callable[[], object]) -> float:
    """The seconds that a job takes."""
    start = time.perf_counter()
    job()
    return time.perf_counter() - start
