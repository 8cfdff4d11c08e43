"""A prediction and what was seen of it, side by side for a person."""

from __future__ import annotations

import shutil
import textwrap

import click

from linkspan.analysis import Answer
from linkspan.analysis.comparing import Aspect, Comparison, Row
from linkspan.analysis.endings import Match
from linkspan.cli.tables import clean
from linkspan.dataplane.sightings import ANSWER, LATER, THERE, Observation

_NARROWEST, _WIDEST = 72, 140
_LONGEST_NAME = 16
_SIGNS = {Match.SAME: "=", Match.DIFFERS: "X", Match.UNSEEN: "?"}
_PARTS = {
    THERE: "the packet", ANSWER: "its answer", LATER: "the packet after it",
}  # fmt: skip
_SENT = {
    "tcp": "one connection, reset as soon as it stands", "udp": "one datagram of one byte",
    "icmp": "one echo request",
}  # fmt: skip
_TITLES = {True: "DELIVERED", False: "NOT DELIVERED", None: "IT CANNOT BE SAID"}


def print_comparison(
    answer: Answer, seen: Observation, comparison: Comparison, origin: str, target: str,
    verbose: bool,
) -> None:  # fmt: skip
    """Print every hop predicted and observed, what differs, and how it ended.

    Without `verbose` the answer's hops are shown only where they differ, and of rules that
    fit only how many they are.
    """
    width = min(max(shutil.get_terminal_size((100, 24)).columns, _NARROWEST), _WIDEST)
    what = _SENT.get(answer.flow.protocol, "one packet")
    click.echo(f"{clean(origin)} to {clean(target)}: {seen.sent} {answer.flow.protocol}")
    _print_wrapped("sent: ", what, width)
    if len(answer.traces) > 1:
        ways = answer.traces[comparison.way].assumed
        said = "; ".join(ways) or "nothing unusual happens"
        _print_wrapped("prediction: ", f"{len(answer.traces)} ways; this one if {said}", width)
    _print_rows(comparison, width, verbose)
    click.echo("")
    _print_verdict(answer, seen, comparison, width)


def _print_rows(comparison: Comparison, width: int, verbose: bool) -> None:
    rows = comparison.rows
    longest = max((len(row.namespace) for row in rows), default=0)
    names = min(longest, _LONGEST_NAME)
    column = (width - names - 12) // 2
    head = f"{'':{names + 8}}"
    click.echo("")
    click.echo(f"{head}{'predicted':<{column}}  observed")
    part = THERE
    number = 0
    for row in rows:
        if row.part != part:
            part, number = row.part, 0
            later = [one for one in rows if one.part == part]
            if not verbose and all(one.match is not Match.DIFFERS for one in later):
                signs = {one.match for one in later}
                sign = _SIGNS[Match.SAME if Match.SAME in signs else Match.UNSEEN]
                said = "the same" if sign == "=" else _first_observed(later)
                way = " > ".join(clean(one.namespace) for one in later)
                texts = (f"{_PARTS[part]}: {way}", said)
                _print_pair(f"   {'':<{names}}  {sign}  ", *texts, column)
            else:
                click.echo(f"  {_PARTS[part]}:")
        shown = part == THERE or verbose or any(
            one.part == part and one.match is Match.DIFFERS for one in rows
        )  # fmt: skip
        number += 1
        if shown:
            _print_row(row, number, names, column, verbose)


def _first_observed(rows: list[Row]) -> str:
    return next((a.observed for row in rows for a in row.aspects if a.observed), "not seen")


def _print_row(row: Row, number: int, names: int, column: int, verbose: bool) -> None:
    name = clean(row.namespace)
    if len(name) > names:
        name = f"{name[: names - 2]}.."
    head = f"{number:3} {name:<{names}}"
    for aspect in row.aspects:
        one, other = _texts(aspect, verbose)
        _print_pair(f"{head} {_SIGNS[aspect.match]}  ", one, other, column)
        head = " " * len(head)


def _texts(aspect: Aspect, verbose: bool) -> tuple[str, str]:
    if aspect.kind != "rules" or verbose or aspect.match is Match.DIFFERS:
        head = "rules: " if aspect.kind == "rules" else ""
        return f"{head}{aspect.predicted}", f"{head}{aspect.observed}"
    count = len([rule for rule in aspect.predicted.split(", ") if rule])
    said = f"{count} rule{'' if count == 1 else 's'} hold{'s' if count == 1 else ''}"
    return said, "the same" if aspect.match is Match.SAME else aspect.observed


def _print_pair(head: str, one: str, other: str, column: int) -> None:
    lines = [_wrap(one, column), _wrap(other, column)]
    for number in range(max(map(len, lines))):
        left, right = (text[number] if number < len(text) else "" for text in lines)
        shown = head if number == 0 else " " * len(head)
        click.echo(f"{shown}{left:<{column}}  {right}".rstrip())


def _wrap(text: str, width: int) -> list[str]:
    return textwrap.wrap(clean(text), width, break_on_hyphens=False) or [""]


def _print_verdict(answer: Answer, seen: Observation, found: Comparison, width: int) -> None:
    by = f" (from {seen.outcome.by})" if seen.outcome.by else ""
    _print_wrapped("", f"{_TITLES[found.arrived]}: {seen.outcome.detail}{by}", width)
    first = found.first_difference
    if first is None:
        rest = ""
        if found.not_observable:
            rest = f"; what is marked ? could not be observed ({found.not_observable})"
        _print_wrapped("", f"AS PREDICTED{rest}", width)
    else:
        where = f"{_PARTS[first.part]} in {first.namespace}"
        aspect = next(a for a in first.aspects if a.match is Match.DIFFERS)
        _print_wrapped(
            "", f"DIFFERS from the prediction, first for {where}: predicted {aspect.predicted!r}, "
            f"observed {aspect.observed!r}", width,
        )  # fmt: skip
        _print_wrapped(
            "  ", "Either the host changed meanwhile (try again), something outside of this host "
            "decides, or the prediction is wrong: then `linkspan snapshot save FILE` keeps what "
            "a report needs.", width,
        )  # fmt: skip
    for remark in found.remarks:
        _print_wrapped("note: ", remark, width)
    for sentence in seen.unseen:
        _print_wrapped("not seen: ", sentence, width)
    for sentence in seen.left_over:
        _print_wrapped("LEFT OVER: ", sentence, width)


def _print_wrapped(head: str, text: str, width: int) -> None:
    for number, line in enumerate(_wrap(text, width - len(head))):
        click.echo(f"{' ' * len(head) if number else head}{line}")
