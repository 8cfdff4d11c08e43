"""What is exposed, as people read it: a table, and for -v what let each in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from linkspan.analysis.exposed import Exposed
from linkspan.analysis.exposures import Addresses, Exposure, Passage, Ports, Unclear
from linkspan.analysis.headers import ALL_PORTS
from linkspan.analysis.intervals import range_text
from linkspan.cli.inhabitants import name_namespaces
from linkspan.cli.tables import clean, print_table
from linkspan.dataplane import HOST, Address
from linkspan.drivers.loopback6 import STAND_IN
from linkspan.inventory.records import HostView

_FEW = 3
_LOCAL = frozenset(("fe80::/10", STAND_IN))
"""Sources that never come from elsewhere than the segment, or from nowhere at all: the discard
prefix, of which linkspan keeps one for itself. Not worth a word."""
_HEADINGS = ("ADDRESS", "PORT", "PROTO", "FROM", "ANSWERS", "OPENED BY")


def print_exposed(found: Exposed, host: HostView, verbose: bool) -> None:
    """The table, a line or more of what it does not show, and what could not be said."""
    names = name_namespaces(host)
    own = {item.address.partition("/")[0]: item.link for item in host.plane.of(Address)
           if item.namespace == HOST}  # fmt: skip
    several = len(found.segments) > 1
    if not found.exposures:
        click.echo(f"Strangers on {_listed(found.segments)} reach nothing.")
    elif verbose:
        for one in found.exposures:
            _print_detailed(one, names, own, several)
    else:
        headings = ("SEGMENT", *_HEADINGS) if several else _HEADINGS
        print_table(headings, [_row(one, names, own, several) for one in found.exposures])
    _print_notes(found)


def _row(
    one: Exposure, names: dict[str, str], own: dict[str, str], several: bool
) -> tuple[str, ...]:
    row = (
        addresses_text(one, own), ports_text(one.ports), one.protocol, from_text(one),
        answers_text(one, names), opened_text(one),
    )  # fmt: skip
    return (one.segment, *row) if several else row


def addresses_text(one: Exposure, own: dict[str, str]) -> str:
    """The destinations: the segment's own address first; many are counted."""
    ordered = sorted(one.addresses, key=lambda text: own.get(text) != one.segment)
    if len(ordered) <= _FEW:
        return ", ".join(ordered)
    return f"{ordered[0]} and {len(ordered) - 1} more"


def ports_text(ports: Ports) -> str:
    """Ports and ranges, or "any"."""
    if ports == tuple(ALL_PORTS):
        return "any"
    return ", ".join(range_text(first, last) for first, last in ports)


def from_text(one: Exposure) -> str:
    """Who reaches it; what needs another's address is said to be pretended."""
    if not one.sources.ranges and one.sources.kind == "only":
        return f"pretended {_short(one.pretended)}"
    text = _short(one.sources)
    if one.source_ports:
        text += f", from port {ports_text(one.source_ports)}"
    return text


def _short(addresses: Addresses) -> str:
    if addresses.kind == "any":
        return "anywhere"
    ranges = [text for text in addresses.ranges if addresses.kind == "only" or text not in _LOCAL]
    if addresses.kind != "only" and not ranges:
        return "anywhere"
    if len(ranges) > _FEW:
        ranges = [*ranges[: _FEW - 1], f"{len(ranges) - _FEW + 1} more"]
    text = ", ".join(ranges) or "nowhere"
    return text if addresses.kind == "only" else f"anywhere but {text}"


_NO_ANSWER = {
    "no": "no answer comes back", "some": "some get an answer", "depends": "answer depends",
}  # fmt: skip


def answers_text(one: Exposure, names: dict[str, str]) -> str:
    """Who takes the packets, at which port, and whether he can answer."""
    name = names.get(one.namespace, one.namespace)
    text = name
    if one.own_ports != one.ports or one.namespace != HOST:
        text += f":{ports_text(one.own_ports)}"
    process = one.processes[0].name if one.processes else ""
    if process:
        text += f" {clean(process)}"
    if one.relays_to:
        where, lost, _ = one.relays_to.partition(", which it does not reach")
        text += f" -> {where}{', not reached' if lost else ''}"
    if one.answered in _NO_ANSWER:
        text += f" ({_NO_ANSWER[one.answered]})"
    return text


def opened_text(one: Exposure) -> str:
    """Who opened it, with a mark when that is not sure."""
    text = one.opened_by
    if one.confidence.value == "depends":
        text += " (it depends)"
    return text


def _print_detailed(
    one: Exposure, names: dict[str, str], own: dict[str, str], several: bool
) -> None:
    at = f" on {one.segment}" if several else ""
    click.echo(
        f"{addresses_text(one, own)} port {ports_text(one.ports)}/{one.protocol}{at}, "
        f"from {from_text(one)}"
    )
    where = f" at {one.own_address}" if one.own_address else ""
    click.echo(f"  answers    {answers_text(one, names)}{where}")
    click.echo(f"  opened by  {opened_text(one)}: {one.opened_how}")
    if one.answered != "no" and one.answered_sources.kind != "any":
        click.echo(f"  answered   {one.answered_sources}")
    for rule in one.rules:
        element = f"  ({rule.element})" if rule.element else ""
        place = "" if rule.namespace == HOST else f"{names.get(rule.namespace, rule.namespace)}: "
        click.echo(f"  {rule.does:<10} {place}{rule.object}: {rule.text}{element}")
    for text in one.depends_on:
        click.echo(f"  depends on {text}")
    for text in one.not_understood:
        click.echo(f"  not understood: {text}")
    click.echo()


def _print_notes(found: Exposed) -> None:
    for one in found.forwarded:
        click.echo(f"Passed on: {_outline(one)}: {one.reason}.")
    for unclear in found.unclear:
        click.echo(f"Cannot say: {_outline(unclear)}: {unclear.reason}.")
    for left in found.rest:
        click.echo(f"Not looked at: {left}.")
    not_understood = dict.fromkeys(t for one in found.exposures for t in one.not_understood)
    for text in not_understood:
        click.echo(f"Not understood: {text}")


def _outline(one: Passage | Unclear) -> str:
    addresses = _few(one.addresses)
    return (
        f"{one.protocol} to {addresses} port {ports_text(one.ports)} "
        f"from {_short(one.sources)} by {one.segment}"
    )


def _few(texts: Sequence[str]) -> str:
    if len(texts) <= _FEW:
        return ", ".join(texts)
    return f"{', '.join(texts[:_FEW])} and {len(texts) - _FEW} more"


def _listed(names: Iterable[str]) -> str:
    return " and ".join(names)
