"""Where a packet can go two ways: every way is tried, by walking again from the start.

The walk asks `choose` wherever something outside the data plane decides. A run follows a row
of decisions and takes the first option after that; what it did not take becomes the beginning
of other runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Made(NamedTuple):
    """A decision: its question, which option was taken of how many, and how that is said."""

    question: str
    taken: int
    options: int
    label: str


class Choices:
    """The decisions of one run. `beginning` fixes the first ones."""

    def __init__(self, beginning: Sequence[int] = ()) -> None:
        self._beginning = beginning
        self.made: list[Made] = []

    def choose(self, question: str, options: Sequence[T], labels: Sequence[str]) -> T:
        """One of the options. A single option is no decision."""
        if len(options) == 1:
            return options[0]
        place = len(self.made)
        taken = self._beginning[place] if place < len(self._beginning) else 0
        self.made.append(Made(question, taken, len(options), labels[taken]))
        return options[taken]

    def assumed(self) -> tuple[str, ...]:
        """What this run assumes, one text a decision."""
        return tuple(f"{made.question}: {made.label}" for made in self.made)


def explore(run: Callable[[Choices], R], limit: int) -> tuple[list[R], bool]:
    """The results of all runs, the one without any deviation first.

    No more than `limit` runs; the second value says whether that were all.
    """
    waiting: deque[tuple[int, ...]] = deque([()])
    found: list[R] = []
    while waiting:
        if len(found) == limit:
            return found, False
        beginning = waiting.popleft()
        choices = Choices(beginning)
        found.append(run(choices))
        taken = tuple(made.taken for made in choices.made)
        for place in range(len(beginning), len(taken)):
            waiting.extend(
                (*taken[:place], other) for other in range(1, choices.made[place].options)
            )
    return found, True
