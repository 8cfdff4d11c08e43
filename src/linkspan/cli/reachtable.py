"""The matrix as a table of texts, with rows and columns together that say the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from linkspan.analysis.reach import HOST, INTERNET, OUTSIDE, Finding, Group

ENDS = (HOST, OUTSIDE, INTERNET)
BLOCKED, NOBODY = "-", "."
Members = tuple[str, ...]


class Table(NamedTuple):
    """Members of the rows and columns, and the texts; "" where there is nothing to ask."""

    origins: list[Members]
    targets: list[Members]
    rows: list[list[str]]

    @classmethod
    def of(
        cls, origins: Sequence[Group], targets: Sequence[Group],
        cells: Mapping[tuple[str, str], str],
    ) -> Table:  # fmt: skip
        """A table without published ports."""
        return cls(
            [one.members for one in origins],
            [one.members for one in targets],
            [[without_published(cell_text(cells, one, o)) for o in targets] for one in origins],
        )

    def merged(self) -> Table:
        """The table with those together that reach the same, are reached alike, and reach each
        other in the same way.
        """
        if self.origins != self.targets:
            return self
        rows = [list(row) for row in self.rows]
        groups = [list(group) for group in self.origins]
        place = 0
        while place < len(groups):
            other = next(
                (o for o in range(place + 1, len(groups)) if _say_the_same(rows, place, o)), None
            )
            if other is None or groups[place][0] in ENDS or groups[other][0] in ENDS:
                place += 1
                continue
            groups[place] += groups.pop(other)
            del rows[other]
            for row in rows:
                del row[other]
        members = [tuple(group) for group in groups]
        return Table(members, list(members), rows)


def _say_the_same(rows: Sequence[Sequence[str]], one: int, other: int) -> bool:
    among = {rows[one][one], rows[one][other], rows[other][one], rows[other][other]}
    if len(among) > 1:
        return False
    return all(
        rows[one][third] == rows[other][third] and rows[third][one] == rows[third][other]
        for third in range(len(rows))
        if third not in (one, other)
    )


def cell_text(cells: Mapping[tuple[str, str], str], origin: Group, target: Group) -> str:
    """What a cell says; nothing of the host to itself, and between those who are not here."""
    if origin.name == target.name == HOST:
        return ""
    if origin.name in (OUTSIDE, INTERNET) and target.name in (OUTSIDE, INTERNET):
        return ""
    return cells.get((origin.name, target.name), NOBODY)


def without_published(text: str) -> str:
    """The part of a cell about a target's own addresses."""
    if ":" not in text:
        return text
    words = [word for word in text.split(" ") if not word.lstrip("~").startswith(":")]
    return " ".join(words) or BLOCKED


def is_published(one: Finding) -> bool:
    """Whether a finding is about a port of the host that leads to a container."""
    return one.address_number is None and one.target not in ENDS
