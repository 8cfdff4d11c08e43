"""The way of a packet as text for a tired person."""

from __future__ import annotations

import textwrap

import click

from linkspan.analysis import Answer, Trace, Verdict
from linkspan.cli.tables import clean

_WIDTH = 100
_LONGEST_NAME = 24
_MOST_WAYS = 4
_TITLES = {
    Verdict.DELIVERED: "DELIVERED",
    Verdict.NOT_DELIVERED: "NOT DELIVERED",
    Verdict.CANNOT_SAY: "IT DEPENDS",
}


def print_answer(answer: Answer, origin: str, target: str, verbose: bool) -> None:
    """Print every way that differs in its end, and what they depend on."""
    first = answer.first
    click.echo(f"{clean(origin)} to {clean(target)}: {first.sent}")
    shown: set[tuple[object, ...]] = set()
    for trace in answer.traces:
        end = (trace.good, trace.disposition, trace.reason)
        if end in shown or len(shown) == _MOST_WAYS:
            continue
        shown.add(end)
        if len(answer.traces) > 1:
            click.echo("")
            _print_wrapped("  ", f"if {'; '.join(trace.assumed) or 'nothing unusual happens'}")
        print_trace(trace, verbose)
    click.echo("")
    _print_wrapped("", f"{_TITLES[answer.verdict]}: {explain_end(answer)}")
    notes = {note for trace in answer.traces for leg in trace.legs for note in leg.not_understood}
    for note in sorted(notes):
        _print_wrapped("", f"not understood: {note}")
    if not answer.complete:
        click.echo("there are more ways than were walked")


def print_trace(trace: Trace, verbose: bool) -> None:
    """The hops of a packet; of its answer's only when that gets lost, or everything is wanted."""
    _print_hops(trace, verbose)
    for title, leg in (("its answer", trace.reply), ("the packet after it", trace.follow_up)):
        if leg is not None and (verbose or leg.disposition is not trace.disposition):
            if not verbose and leg.disposition.value == "delivered":
                continue
            click.echo(f"  {title}: {leg.sent}")
            _print_hops(leg, verbose)
    if trace.onward is not None:
        click.echo(f"  which opens a connection of its own: {trace.onward.flow}")
        print_trace(trace.onward.first, verbose)


def _print_hops(trace: Trace, verbose: bool) -> None:
    width = min(max((len(hop.namespace) for hop in trace.hops), default=0), _LONGEST_NAME)
    for number, hop in enumerate(trace.hops, 1):
        name = clean(hop.namespace)
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME // 2]}..{name[-_LONGEST_NAME // 2 + 2 :]}"
        head = f"{number:3}  {name:<{width}}  "
        if not verbose:
            _print_wrapped(head, hop.line)
            continue
        click.echo(head.rstrip())
        for step in hop.steps:
            text = step.line or f"{step.object}: {step.detail}"
            _print_wrapped(f"       {'|' if step.minor else '*'} ", text)


def explain_end(answer: Answer) -> str:
    """The end in a sentence."""
    trace = answer.first
    if answer.verdict is Verdict.CANNOT_SAY:
        if not answer.complete:
            return "too much of what decides is not known"
        return "see what each way depends on"
    for leg, word in ((trace.reply, "the answer is lost"), (trace.follow_up, "what follows is")):
        if trace.disposition.value in ("delivered", "left") and leg is not None:
            if leg.disposition.value not in ("delivered", "left"):
                return f"{trace.reason}, but {word}: {leg.reason}"
    back = ", and its answer comes back" if trace.reply is not None else ""
    return f"{trace.reason}{back}"


def _print_wrapped(head: str, text: str) -> None:
    blank = " " * len(head)
    lines = textwrap.wrap(
        clean(text), _WIDTH - len(head), break_long_words=False, break_on_hyphens=False
    )
    for number, line in enumerate(lines or [""]):
        click.echo(f"{blank if number else head}{line}")
