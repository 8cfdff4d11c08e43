"""Printing: JSON for programs, tables for people.

Tables are plain columns, two blanks apart, so that they can be read and cut; on a terminal the
heading stands out and columns give way when the line is too short.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias

import click

Cell: TypeAlias = str | Sequence[str]
"""What stands in a cell: a text, or several of the same kind."""

COMMAND = "COMMAND"
SHORTEST_COMMAND = 10
GAP = 2
"""Blanks between two columns."""

SHORT_ID = 12
"""Digits of an id in a table; enough to be unique, and the same as Docker shows."""


def print_json(value: Any) -> None:
    """A value as JSON, indented for a terminal and for diff."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Rows below their headings; control characters in what others wrote are shown as such."""
    if sys.stdout.isatty():
        print_on_terminal(headings, rows)
    else:
        print_plain(headings, [[join_cell(cell, ", ") for cell in row] for row in rows])


def join_cell(cell: Cell, separator: str) -> str:
    """The text of a cell, "-" for an empty one."""
    parts = [cell] if isinstance(cell, str) else cell
    return separator.join(map(clean, parts)) or "-"


def print_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_on_terminal(headings: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """The same, drawn by rich: several things in a cell below each other, the heading bold.

    Where the line is too short, commands are cut. Nothing else is: it is there to be copied.
    """
    from shutil import get_terminal_size

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    texts = [[join_cell(cell, "\n") for cell in row] for row in rows]
    # rich would cut ids rather than write beyond the edge, so it is told of a wider terminal.
    texts, width = fit_commands(headings, texts, get_terminal_size().columns)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for heading in headings:
        table.add_column(heading, no_wrap=True)
    for row in texts:
        table.add_row(*(Text(text, style=STATE_STYLES.get(text, "")) for text in row))
    Console(highlight=False, width=width).print(table)


def fit_commands(
    headings: Sequence[str], rows: Sequence[Sequence[str]], width: int
) -> tuple[list[list[str]], int]:
    """The rows with their commands cut to what `width` leaves, and the width they take."""
    lines = [list(headings), *map(list, rows)]
    widths = [
        max(len(part) for line in lines for part in line[i].split("\n"))
        for i in range(len(headings))
    ]
    total = sum(widths) + GAP * (len(widths) - 1)
    if COMMAND in headings and total > width:
        place = headings.index(COMMAND)
        room = max(SHORTEST_COMMAND, widths[place] - (total - width))
        total -= max(0, widths[place] - room)
        for line in lines[1:]:
            if len(line[place]) > room:
                line[place] = line[place][: room - 1] + "\N{HORIZONTAL ELLIPSIS}"
    return lines[1:], max(total, width)


STATE_STYLES = {
    "up": "green",
    "running": "green",
    "ok": "green",
    "gone": "red",
    "missing": "yellow",
    "blocked": "red",
    "exited": "dim",
    "-": "dim",
}


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line."""
    pairs = [(name, clean(value)) for name, value in fields]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        click.echo(f"{name + ':':<{width + 1}}  {value}".rstrip())


def clean(text: str) -> str:
    """Without control characters, which could rewrite what else is on a terminal."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def shorten(identifier: str) -> str:
    """The first digits of an id."""
    return identifier[:SHORT_ID]


def render_port(port: dict[str, Any]) -> str:
    """One published port and where it leads."""
    return f"{render_host(port)}->{render_span(*inside_of(port))}/{port['protocol']}"


def render_host(port: dict[str, Any]) -> str:
    """The outer side of a published port: `0.0.0.0:8080`."""
    address = f"[{port['host_ip']}]" if ":" in port["host_ip"] else port["host_ip"]
    return f"{address}:{render_span(port['host_port'], port['host_port_end'])}"


def inside_of(port: dict[str, Any]) -> tuple[int, int]:
    """First and last port inside."""
    return port["port"], port["port"] + port["host_port_end"] - port["host_port"]


def render_span(first: int, last: int) -> str:
    """`80`, or `8000-8010`."""
    return f"{first}" if first == last else f"{first}-{last}"


def render_age(created: str) -> str:
    """How long ago an RFC 3339 time was: `12 s`, `5 min`, `3 h`, `12 d`."""
    import time

    seconds = max(0, int(time.time() - parse_time(created)))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (size == 60 and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def render_actor(by: dict[str, Any] | None) -> str:
    """Who asked for something: `alice as root (pid 4711, linkspan)`; "" for nobody."""
    if by is None:
        return ""
    user = by["user"] or f"user {by['uid']}"
    name = f"{by['login']} as {user}" if by["login"] not in (None, user) else user
    return f"{name} (pid {by['pid']}{', ' + by['program'] if by['program'] else ''})"


def parse_time(text: str) -> float:
    """Unix seconds of an RFC 3339 time in UTC."""
    import calendar
    import time

    return float(calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")))


def print_plan(plan: dict[str, Any], output: str = "table") -> None:
    """What would be done, a line each."""
    if output == "json":
        print_json(plan["plan"])
        return
    for step in plan["plan"]:
        click.echo(clean(step["text"]))
    if not plan["plan"]:
        click.echo("nothing to change on the host")


def is_plan(answer: Any) -> bool:
    """Whether the daemon answered with a plan."""
    return isinstance(answer, dict) and answer.keys() == {"plan"}
