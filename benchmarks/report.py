"""Results as a table for a terminal, as markdown for the docs, and as JSON."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.measure import Measured, Results, Row

DOCS = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
START = "<!-- measured: start -->"
END = "<!-- measured: end -->"
HEADINGS = ("Job", "linkspan", "Beside", "Figure", "At least", "Aim", "Result")


def write_json(results: Results, path: Path) -> None:
    """The results as JSON, indented."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(results), indent=2) + b"\n")


def print_table(rows: tuple[Row, ...]) -> str:
    """A table for a terminal, two lines a row where the peer has something to say."""
    lines = []
    for row in rows:
        lines.append(f"  {row.job}")
        lines.append(f"      {_measured(row.ours)}")
        if row.peer:
            lines.append(f"      {_measured(row.peer)}")
        goal = f"   {_goals(row)}: {row.verdict}" if row.goal else ""
        lines.append(f"      {'-> ' + _figure(row):46}{goal}".rstrip())
    return "\n".join(lines)


def write_markdown(results: Results) -> str:
    """What stands between the markers of docs/benchmarks.md."""
    facts = "; ".join(f"{name} {value}" for name, value in results.machine.items())
    lines = [f"Measured on: {facts}.", ""]
    if results.quick:
        lines += ["This was a quick run: fewer rounds and smaller numbers.", ""]
    lines += [f"| {' | '.join(HEADINGS)} |", "|---" * len(HEADINGS) + "|"]
    for row in results.rows:
        cells = (
            row.job,
            _value(row.ours),
            f"{row.peer.name}: {_value(row.peer)}" if row.peer else "",
            _figure(row),
            _at_least(row),
            _aim(row),
            f"**{row.verdict}**" if row.verdict in ("MISSED", "aim missed") else row.verdict,
        )
        lines.append(f"| {' | '.join(cells)} |")
    if results.notes:
        lines += ["", *(f"- {note}" for note in results.notes)]
    return "\n".join(lines)


def rewrite_docs(results: Results, path: Path = DOCS) -> None:
    """Replace the measured part of the page."""
    page = path.read_text()
    before, found_start, rest = page.partition(START)
    _, found_end, after = rest.partition(END)
    if not (found_start and found_end):
        raise SystemExit(f"{path} lacks the markers {START} and {END}")
    path.write_text(f"{before}{START}\n\n{write_markdown(results)}\n\n{END}{after}")


def _measured(one: Measured) -> str:
    spread = f"[{_round(one.low)} .. {_round(one.high)}]  n={one.count}" if one.count > 1 else ""
    return f"{one.name:30} {_value(one):>12}  {spread}".rstrip()


def _value(one: Measured) -> str:
    if one.median <= 0:  # a difference that is smaller than the noise
        return f"0 {one.unit} (below the noise)"
    return f"{_round(one.median)} {one.unit}"


def _figure(row: Row) -> str:
    return f"{_round(row.figure)} {row.figure_unit}" if "x" in row.figure_unit else _value(row.ours)


def _goals(row: Row) -> str:
    named = (("at least", _at_least(row)), ("aim", _aim(row)))
    return ", ".join(f"{name} {value}" for name, value in named if value)


def _at_least(row: Row) -> str:
    return _goal(row, row.goal.at_least if row.goal else None)


def _aim(row: Row) -> str:
    return _goal(row, row.goal.aim if row.goal else None)


def _goal(row: Row, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:g}{'x' if 'x' in row.figure_unit else ' ' + row.figure_unit}"


def _round(value: float) -> str:
    """Three digits that say something."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"
