"""The way of a packet as text for a tired person.

A line a hop, its parts on lines of their own where they would not fit; the rule that decides
stands once, in the last paragraph, with who wrote it and what can be done.
"""

from __future__ import annotations

import shutil
import textwrap

import click

from linkspan.analysis import Answer, Hop, Trace, Verdict, View
from linkspan.analysis.trace import GOOD
from linkspan.cli.pathadvice import advise
from linkspan.cli.tables import clean

_WIDEST = 100
_NARROWEST = 60
_LONGEST_NAME = 24
_MOST_WAYS = 4
_TITLES = {
    Verdict.DELIVERED: "DELIVERED",
    Verdict.NOT_DELIVERED: "NOT DELIVERED",
    Verdict.CANNOT_SAY: "IT DEPENDS",
}


def print_answer(
    answer: Answer, view: View, origin: str, target: str, verbose: bool, doubted: bool = False
) -> None:
    """Print every way that differs in its end, and what they depend on.

    `doubted`: what was not seen may decide otherwise.
    """
    first = answer.first
    click.echo(f"{clean(origin)} to {clean(target)}: {first.sent}")
    shown: set[tuple[object, ...]] = set()
    several = len({(trace.good, trace.disposition, trace.reason) for trace in answer.traces}) > 1
    for trace in answer.traces:
        end = (trace.good, trace.disposition, trace.reason)
        if end in shown or len(shown) == _MOST_WAYS:
            continue
        shown.add(end)
        if several:
            click.echo("")
            _print_wrapped("  ", f"if {'; '.join(trace.assumed) or 'nothing unusual happens'}")
        print_trace(trace, verbose)
        if several:
            word = "then it is delivered" if trace.good else "then it is not delivered"
            _print_wrapped("       ", f"{word}: {_explain_trace(trace)}")
    click.echo("")
    title = f"{'AS FAR AS IT WAS SEEN ' if doubted else ''}{_TITLES[answer.verdict]}"
    _print_wrapped("", f"{title}: {explain_end(answer)}")
    for line in advise(answer, view):
        _print_wrapped("  ", line)
    notes = {note for trace in answer.traces for leg in trace.legs for note in leg.not_understood}
    for note in sorted(notes):
        _print_wrapped("", f"not understood: {note}")
    if not answer.complete:
        click.echo("there are more ways than were walked")


def print_trace(trace: Trace, verbose: bool) -> None:
    """The hops of a packet; of its answer's only when that gets lost, or everything is wanted."""
    _print_hops(trace, verbose)
    for title, leg in (("its answer", trace.reply), ("the packet after it", trace.follow_up)):
        if leg is not None and (verbose or leg.disposition not in GOOD):
            click.echo(f"  {title}: {leg.sent}")
            _print_hops(leg, verbose)
    if trace.onward is not None:
        click.echo(f"  which opens a connection of its own: {trace.onward.first.sent}")
        print_trace(trace.onward.first, verbose)


def _print_hops(trace: Trace, verbose: bool) -> None:
    width = min(max((len(hop.namespace) for hop in trace.hops), default=0), _LONGEST_NAME)
    for number, hop in enumerate(trace.hops, 1):
        name = clean(hop.namespace)
        if len(name) > _LONGEST_NAME:
            name = f"{name[: _LONGEST_NAME // 2]}..{name[-_LONGEST_NAME // 2 + 2 :]}"
        head = f"{number:3}  {name:<{width}}  "
        if not verbose:
            _print_hop(head, hop, trace.reason)
            continue
        click.echo(head.rstrip())
        for step in hop.steps:
            text = step.line or f"{step.object}: {step.detail}"
            _print_wrapped(f"       {'|' if step.minor else '*'} ", text)


def _print_hop(head: str, hop: Hop, reason: str) -> None:
    """What happens in a hop; the text of the rule that ends it comes later, once."""
    parts = [step.line for step in hop.steps if not step.minor and step.line]
    if parts and parts[-1] == reason:
        parts[-1] = reason.partition(": ")[0]
    line = "; ".join(parts)
    if len(head) + len(line) <= _width():
        click.echo(head + clean(line))
        return
    for number, part in enumerate(parts):
        _print_wrapped(" " * len(head) if number else head, part)


def explain_end(answer: Answer) -> str:
    """The end in a sentence."""
    if answer.verdict is Verdict.CANNOT_SAY:
        if not answer.complete:
            return "too much of what decides is not known"
        return "see what each way depends on"
    return _explain_trace(answer.first)


def _explain_trace(trace: Trace) -> str:
    for leg, word in ((trace.reply, "the answer is lost"), (trace.follow_up, "what follows is")):
        if trace.disposition in GOOD and leg is not None and leg.disposition not in GOOD:
            return f"{trace.reason}, but {word}: {leg.reason}"
    onward = trace.onward
    if onward is not None and onward.verdict is Verdict.NOT_DELIVERED:
        return f"{trace.reason}, but its own connection fails: {explain_end(onward)}"
    back = ", and its answer comes back" if trace.reply is not None else ""
    return f"{trace.reason}{back}"


def _print_wrapped(head: str, text: str) -> None:
    blank = " " * len(head)
    lines = textwrap.wrap(
        clean(text), _width() - len(head), break_long_words=False, break_on_hyphens=False
    )
    for number, line in enumerate(lines or [""]):
        click.echo(f"{blank if number else head}{line}")


def _width() -> int:
    """Columns to write: the terminal's, in reason; what goes to a file has the most."""
    return max(_NARROWEST, min(_WIDEST, shutil.get_terminal_size((_WIDEST, 0)).columns))
