"""Differences of two looks at a host as text for a tired person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

import click

from linkspan.cli.tables import clean

if TYPE_CHECKING:
    from linkspan.analysis.differences import Differences, ExposureChange, FlowChange, ObjectChange
    from linkspan.cli.diff import Sides

_WIDTH = 100
_MOST_NAMES = 6
_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_WORDS = {
    "anywhere": "strangers from anywhere",
    "segment": "strangers on the segment",
    "outward": "a way out",
    "host": "the host",
    "containers": "containers",
}


def print_differences(found: Differences, sides: Sides, verbose: bool) -> None:
    """Flows first, then objects by namespace; at the end what was left out."""
    shown = [one for one in found.objects if verbose or not one.minor]
    told = {(target, one.protocol) for one in found.opened + found.closed for target in one.targets}
    exposures = [
        one
        for one in found.exposures
        if verbose or one.action == "changed" or (one.namespace, one.protocol) not in told
    ]
    if not (found.opened or found.closed or exposures or shown):
        click.echo(f"no difference between {clean(sides.texts[0])} and {clean(sides.texts[1])}")
    for title, changes in (("opened", found.opened), ("closed", found.closed)):
        if changes:
            click.echo(f"{title}:")
            for change in changes:
                _print_wrapped("  ", _flow_text(change, title == "opened"))
    if exposures:
        click.echo("exposed to strangers:")
        for exposure in exposures:
            _print_wrapped(f"  {_SIGNS[exposure.action]} ", _exposure_text(exposure))
    names = _Names(sides)
    for namespace, group in groupby(shown, key=lambda one: one.namespace):
        click.echo(f"{names.of(namespace)}:")
        for one in group:
            _print_object(one)
    left_out = len(found.objects) - len(shown)
    if left_out:
        click.echo(
            f"{left_out} more follow from these or are the kernel's own doing: -v shows them"
        )
    for note in found.notes:
        _print_wrapped("", f"note: {note}")


class _Names:
    """What a person calls namespaces."""

    def __init__(self, sides: Sides) -> None:
        self._shown: dict[str, list[str]] = {}
        for view in (sides.after, sides.before):
            for one in view.containers:
                held = self._shown.setdefault(one.namespace, [])
                if one.name not in held:
                    held.append(one.name)

    def of(self, namespace: str) -> str:
        names = self._shown.get(namespace, [])
        if namespace in names or not names:
            return clean(namespace)
        return clean(f"{namespace} ({', '.join(names)})")


def _flow_text(change: FlowChange, opened: bool) -> str:
    ports = _ports_text(change.ports)
    where = f"{_several(change.targets)} at {_several(change.addresses)}"
    maybe = " perhaps" if "depends" in (change.before, change.after) else ""
    text = (
        f"{change.protocol} {ports} of {where}{maybe}, "
        f"{'to' if opened else 'for'} {_several(change.origins)}"
    )
    return f"[{_WORDS[change.danger]}] {text}" + (f" ({change.why})" if change.why else "")


def _exposure_text(change: ExposureChange) -> str:
    ports = _ports_text(change.ports)
    text = f"{change.protocol} {ports} at {_several(change.addresses)} by {change.segment}"
    inside = _ports_text(change.own_ports)
    where = f"{change.own_address}:{inside}" if change.own_address else inside
    text += f", answered in {change.namespace} on {where}: "
    return text + f"from {change.before or 'nowhere'} -> {change.after or 'nowhere'}"


def _ports_text(ports: Sequence[tuple[int, int]]) -> str:
    return ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in ports)


def _several(names: Sequence[str]) -> str:
    if len(names) <= _MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: _MOST_NAMES - 1])} and {len(names) - _MOST_NAMES + 1} more"


def _print_object(change: ObjectChange) -> None:
    sign = _SIGNS[change.action]
    text = f"{change.place}: {change.object}" if change.kind == "firewall-rule" else change.object
    if change.action == "changed":
        text += f": {_fields_text(change)}"
    _print_wrapped(f"  {sign} ", text)


def _fields_text(change: ObjectChange) -> str:
    parts: Iterable[str] = (f"{one.field} {one.before} -> {one.after}" for one in change.fields)
    return ", ".join(parts)


def _print_wrapped(head: str, text: str) -> None:
    blank = " " * len(head)
    lines = textwrap.wrap(
        clean(text), _WIDTH - len(head), break_long_words=False, break_on_hyphens=False
    )
    for number, line in enumerate(lines or [""]):
        click.echo(f"{blank if number else head}{line}")
