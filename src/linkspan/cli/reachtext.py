"""The matrix as text: small ones with ports in their cells, large ones as a list."""

from __future__ import annotations

import shutil
import string
import sys
import textwrap
from collections.abc import Iterable, Sequence

import click
from msgspec.structs import replace

from linkspan.analysis.intervals import Intervals, to_intervals, to_points
from linkspan.analysis.reach import Finding, Group, Reach, Reached
from linkspan.cli.reach import Names
from linkspan.cli.reachfacts import find_facts, where
from linkspan.cli.reachlabels import ending, label, ports_text
from linkspan.cli.reachtable import BLOCKED, ENDS, NOBODY, Table, cell_text, is_published
from linkspan.cli.tables import clean, print_table

_WIDTH = 100
_MOST_FACTS = 12
_MOST_NAMED = 5
"""Ends that are named where nothing is reachable; more are counted."""
_LETTERS = string.ascii_letters


def print_matrix(found: Reach, names: Names, only: str | None) -> None:
    """What each kind reaches of each other, the legend, and what is worth a look."""
    origins, targets = list(found.origins), list(found.targets)
    labels = {group.name: label(map(names.of, group.members)) for group in (*origins, *targets)}
    cells = _cells(found, only)
    _print_head(found)
    rows = [[cell_text(cells, one, other) for other in targets] for one in origins]
    grid = _grid([labels[one.name] for one in origins], [labels[one.name] for one in targets], rows)
    if _fits(grid):
        click.echo("\n".join(grid))
    else:
        _print_short(Table.of(origins, targets, cells).merged(), names)
        _print_published(found, names, only)
    click.echo("")
    _print_legend(found, cells, only)
    facts = list(dict.fromkeys(find_facts(found, names, labels)))
    for fact in facts[:_MOST_FACTS]:
        _wrapped("* ", fact)
    if len(facts) > _MOST_FACTS:
        click.echo(f"* and {len(facts) - _MOST_FACTS} more: -v shows all")


def _line_width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH


def _print_head(found: Reach) -> None:
    groups = {g.name: g for g in (*found.origins, *found.targets) if g.name not in ENDS}
    kinds = len(groups)
    count = len({member for group in groups.values() for member in group.members})
    words = [f"{count} container{'' if count == 1 else 's'}"]
    if kinds < count:
        words.append(f"of {kinds} kind{'' if kinds == 1 else 's'}")
    alike = len({network for group in groups.values() for network in group.networks})
    if alike:
        words.append(f"on {alike} networks that are alike")
    click.echo(" ".join(words))
    if found.uplink is not None and found.beside:
        _wrapped("", f"outside: {', '.join(found.beside.values())} on {found.uplink}")
    if found.beyond:
        _wrapped("", f"internet: {', '.join(found.beyond.values())}")
    click.echo("")


# Cells --------------------------------------------------------------------------------


def _cells(found: Reach, only: str | None) -> dict[tuple[str, str], str]:
    """The text of each cell: the ports that are reachable, in one way or another."""
    targets = {group.name: group for group in found.targets}
    held: dict[tuple[str, str], list[Finding]] = {}
    for one in found.findings:
        if one.published_number is not None:
            one = replace(one, ports=tuple(_all_ports(one, targets[one.target])))
        held.setdefault((one.origin, one.target), []).append(one)
    return {key: _cell(findings, only) for key, findings in held.items()}


def _cell(findings: list[Finding], only: str | None) -> str:
    wanted = Reached.BLOCKED if only == "blocked" else Reached.REACHABLE
    itself = [one for one in findings if one.same]
    near = [one for one in findings if not one.same and one.near is not False]
    far = [one for one in findings if one.near is False]
    text = _reached_text(near or far or itself, wanted)
    said = text
    if near and far:
        other = _reached_text(far, wanted)
        if other != text:
            said = f"{said} (other networks {other})"
    if itself and (near or far):
        own = _reached_text(itself, wanted)
        if own != text:
            said = f"{said} (itself {own})"
    return said


def _reached_text(findings: list[Finding], wanted: Reached) -> str:
    """Ports at a target's own addresses, then those of the host that lead there."""
    parts = []
    for published in (False, True):
        rows = [one for one in findings if is_published(one) is published]
        for protocol in ("tcp", "udp", "sctp"):
            mine = [one for one in rows if one.protocol == protocol]
            sure = [one for one in mine if one.verdict is wanted]
            perhaps = [one for one in mine if one.verdict is Reached.DEPENDS]
            known = to_intervals(span for one in sure for span in one.ports)
            open_ = to_intervals(span for one in perhaps for span in one.ports) - known
            parts += _port_words(known, protocol, published)
            parts += [f"~{word}" for word in _port_words(open_, protocol, published)]
    return " ".join(_shortened(parts)) or (BLOCKED if findings else NOBODY)


def _shortened(parts: list[str]) -> list[str]:
    """Each word once; "all" where every port of TCP and UDP is meant."""
    words = list(dict.fromkeys(parts))
    if "all" in words and "all/udp" in words:
        words.remove("all/udp")
    elif "all" in words:
        words[words.index("all")] = "all/tcp"
    return words


def _port_words(ports: Intervals, protocol: str, published: bool) -> list[str]:
    mark = ":" if published else ""
    return [f"{mark}{text}{ending(protocol)}" for text in ports_text(list(ports))]


# Drawing ------------------------------------------------------------------------------


def _fits(grid: Sequence[str]) -> bool:
    return max(map(len, grid), default=0) <= _line_width()


def _grid(
    labels: Sequence[str], heads: Sequence[str], rows: Sequence[Sequence[str]], gap: str = "  "
) -> list[str]:
    lines = [["from \\ to", *heads]]
    lines += [[name, *row] for name, row in zip(labels, rows, strict=True)]
    widths = [max(len(line[place]) for line in lines) for place in range(len(heads) + 1)]
    return [
        gap.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def _print_short(table: Table, names: Names) -> None:
    """What does not fit with its own words: without published ports and with what is alike in
    this respect together; else a letter for each set of ports and numbers for the names above;
    else a list.
    """
    said = [label(map(names.of, group)) for group in table.origins]
    to = [label(map(names.of, group)) for group in table.targets]
    grid = _grid(said, to, table.rows)
    if _fits(grid):
        click.echo("\n".join(grid))
        return
    texts = dict.fromkeys(text for row in table.rows for text in row)
    plain = ("", BLOCKED, NOBODY)
    letters = dict(zip((text for text in texts if text not in plain), _LETTERS, strict=False))
    codes = {**letters, **{text: text for text in plain}}
    heads = [
        group[0][:3] if group[0] in ENDS else str(number)
        for number, group in enumerate(table.targets, 1)
    ]
    numbered = [
        f"     {text}"
        if group[0] in ENDS or group not in table.targets
        else f"{table.targets.index(group) + 1:>3}  {text}"
        for group, text in zip(table.origins, said, strict=True)
    ]
    grid = _grid(numbered, heads, [[codes.get(text, "") for text in r] for r in table.rows], " ")
    if len(codes) < len(texts) or not _fits(grid):
        _print_lists(table, said, to)
        return
    click.echo("\n".join(grid))
    for number, (group, text) in enumerate(zip(table.targets, to, strict=True), 1):
        if group not in table.origins:
            _wrapped(f"{number:>3}  ", text)
    click.echo("")
    for text, letter in letters.items():
        _wrapped(f"{letter}  ", text)


def _print_published(found: Reach, names: Names, only: str | None) -> None:
    """Ports of the host that lead to containers, by who gets through."""
    wanted = Reached.BLOCKED if only == "blocked" else Reached.REACHABLE
    targets = {group.name: group for group in found.targets}
    origins: dict[tuple[str, Intervals, str], list[str]] = {}
    for one in found.findings:
        if is_published(one) and one.verdict is wanted:
            key = (one.target, _all_ports(one, targets[one.target]), one.protocol)
            held = origins.setdefault(key, [])
            if one.origin not in held:
                held.append(one.origin)
    rows: dict[tuple[str, str], list[tuple[Group, Intervals]]] = {}
    for (target, ports, protocol), who in origins.items():
        rows.setdefault((", ".join(who), protocol), []).append((targets[target], ports))
    for (who_text, protocol), parts in rows.items():
        if len(parts) > _MOST_FACTS:
            everybody = dict.fromkeys(member for group, _ in parts for member in group.members)
            spans = to_intervals(span for _, ports in parts for span in ports)
            said = [_published_text(spans, protocol, everybody, names)]
        else:
            said = [_published_text(ports, protocol, g.members, names) for g, ports in parts]
        click.echo("")
        _wrapped(f"from {who_text}  ", "; ".join(said))


def _published_text(ports: Intervals, protocol: str, members: Iterable[str], names: Names) -> str:
    text = ",".join(ports_text(list(ports)))
    return f":{text}{ending(protocol)} {label(map(names.of, members))}"


def _all_ports(one: Finding, target: Group) -> Intervals:
    """The ports of a finding, of all members together."""
    if one.published_number is None:
        return to_intervals(one.ports)
    return to_points(ports[one.published_number] for ports in target.published)


def _print_lists(table: Table, said: Sequence[str], to: Sequence[str]) -> None:
    """A block for each origin, or for several that find the same: ports, and who has them."""
    blocks: dict[tuple[tuple[str, tuple[str, ...]], ...], list[str]] = {}
    for group, name, row in zip(table.origins, said, table.rows, strict=True):
        held: dict[str, list[str]] = {}
        for other, target, text in zip(table.targets, to, row, strict=True):
            if not text or text == NOBODY:
                continue
            if other == group:
                target = "itself" if len(group) == 1 else "each other"
            held.setdefault(text, []).append(target)
        key = tuple((text, tuple(ends)) for text, ends in sorted(held.items(), key=_last_nothing))
        blocks.setdefault(key, []).append(name)
    for block, names in blocks.items():
        _wrapped("", f"from {'; '.join(names)}")
        width = min(max((len(text) for text, _ in block), default=0), 30)
        for text, ends in block:
            if text == BLOCKED and len(ends) > _MOST_NAMED:
                ends = (f"{len(ends)} others",)
            _wrapped(f"  {text:<{width}}  ", "; ".join(ends))


def _last_nothing(item: tuple[str, list[str]]) -> bool:
    return item[0] == BLOCKED


def _print_legend(found: Reach, cells: dict[tuple[str, str], str], only: str | None) -> None:
    texts = " ".join(cells.values())
    what = "blocked" if only == "blocked" else "reachable"
    words = [f"80 a port that is {what} (tcp)"]
    if any(is_published(one) for one in found.findings):
        words.append(":8080 a port of the host that leads there")
    if "~" in texts:
        words.append("~80 it depends")
    if "all" in texts.split():
        words.append("all every port of TCP and UDP")
    words.append(f"{BLOCKED} none of those that listen")
    words.append(f"{NOBODY} nothing to ask")
    _wrapped("", ", ".join(words))


def _wrapped(head: str, text: str) -> None:
    lines = textwrap.wrap(
        clean(text), max(_line_width() - len(head), 20), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip
    for number, line in enumerate(lines or [""]):
        click.echo(f"{' ' * len(head) if number else head}{line}".rstrip())


# Everything ---------------------------------------------------------------------------


def print_details(found: Reach, names: Names, one_pair: bool) -> None:
    """Each address and protocol by itself, with the way or what blocks it."""
    labels = {
        group.name: label(map(names.of, group.members))
        for group in (*found.origins, *found.targets)
    }
    rows = []
    for one in found.findings:
        to = "itself" if one.same else labels[one.target]
        if one.near is not None and not one_pair:
            to = f"{to}, {'on its network' if one.near else 'on another network'}"
        way = one.how if one.verdict is Reached.REACHABLE else one.why
        if one.verdict is Reached.DEPENDS:
            way = f"depends on {'; '.join(one.depends_on) or one.why}"
        if one.source:
            way = f"{way}, as {one.source}"
        if one.lands:
            way = f"{way}, ends in {names.of(one.lands)}"
        rows.append(
            (labels[one.origin], to, where(one).removeprefix("at "), one.verdict.value, way)
        )
    if not rows:
        click.echo("nothing to ask: nobody listens" if one_pair else "nothing of that kind")
        return
    print_table(("FROM", "TO", "ADDRESS", "", "HOW OR WHY"), rows)
