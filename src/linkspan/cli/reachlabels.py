"""Short names for many containers, and short texts for many ports."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MOST_PARTS = 2
_MOST_NAMES = 3
_ALL_PORTS = ((1, 65535), (0, 65535))


def label(names: Iterable[str]) -> str:
    """One text for several names: "web", "web1..web300 (300)", "db, web1..web3 (4)"."""
    sorted_names = sorted(names, key=natural)
    if len(sorted_names) == 1:
        return sorted_names[0]
    parts = _runs(sorted_names)
    if len(sorted_names) <= _MOST_NAMES and len(parts) > _MOST_PARTS:
        return ", ".join(sorted_names)
    text = ", ".join(parts[:_MOST_PARTS])
    if len(parts) > _MOST_PARTS:
        text += ", .."
    return f"{text} ({len(sorted_names)})"


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """For sorting: web2 before web10."""
    return tuple(
        (text, int(number) if number else -1)
        for text, number in re.findall(r"([^0-9]*)([0-9]*)", name)
    )


def _runs(names: Sequence[str]) -> list[str]:
    """Names that differ in their last number alone, and that by one, as a range."""
    runs: list[list[str]] = []
    for name in names:
        if runs and _follows(runs[-1][-1], name):
            runs[-1].append(name)
        else:
            runs.append([name])
    return [
        part
        for run in runs
        for part in ([f"{run[0]}..{run[-1]}"] if len(run) > _MOST_PARTS else run)
    ]


def _follows(one: str, other: str) -> bool:
    first, second = (re.fullmatch(r"(.*?)([0-9]+)", name) for name in (one, other))
    return (
        first is not None
        and second is not None
        and first[1] == second[1]
        and int(first[2]) + 1 == int(second[2])
    )


def ports_text(spans: Sequence[tuple[int, int]]) -> list[str]:
    """Sorted ranges of ports as people write them; "all" for every one, the rest counted where
    there are many.
    """
    joined: list[list[int]] = []
    for first, last in spans:
        if joined and first <= joined[-1][1] + 1:
            joined[-1][1] = max(joined[-1][1], last)
        else:
            joined.append([first, last])
    if any((first, last) in _ALL_PORTS for first, last in joined):
        return ["all"]
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in joined]
    most = 6
    if len(texts) > most:
        return [*texts[: most - 1], f"+{len(texts) - most + 1}"]
    return texts


def ending(protocol: str) -> str:
    """What follows a port: nothing for TCP."""
    return "" if protocol == "tcp" else f"/{protocol}"
