"""Printing: JSON for programs, tables for people.

Tables are plain columns, two blanks apart, so that they can be read and cut; on a terminal the
heading stands out and columns give way when the line is too short.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

SHORT_ID = 12
"""Digits of an id in a table; enough to be unique, and the same as Docker shows."""


def print_json(value: Any) -> None:
    """A value as JSON, indented for a terminal and for diff."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Rows below their headings; control characters in what others wrote are shown as such."""
    cleaned = [[clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        print_on_terminal(headings, cleaned)
    else:
        print_plain(headings, cleaned)


def print_plain(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as their longest cell."""
    lines = [list(headings), *map(list, rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(headings))]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def print_on_terminal(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """The same, drawn by rich."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for index, heading in enumerate(headings):
        # Names and ids are what people copy: they are never broken, later columns are.
        table.add_column(heading, no_wrap=index < 2, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    Console(highlight=False).print(table)


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


def render_ports(ports: Iterable[dict[str, Any]]) -> str:
    """`0.0.0.0:8080->80/tcp, [::]:9000-9010->9000-9010/udp`, "-" for none."""
    return ", ".join(map(render_port, ports)) or "-"


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


def width_of_terminal() -> int:
    """Columns of the terminal, 80 without one."""
    try:
        return os.get_terminal_size().columns
    except OSError:
        return 80
