"""`linkspan diff`: what differs between two looks at a host, and what that opens and closes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from linkspan.cli.looking import CANNOT_SAY, Looking, WrongWordsError, print_gaps
from linkspan.cli.state import format_option, reads
from linkspan.cli.tables import print_json

if TYPE_CHECKING:
    from linkspan.analysis.differences import Differences
    from linkspan.inventory.records import HostView

NOW = "now"


class Sides(NamedTuple):
    """Two looks at a host, and how they were asked for."""

    before: HostView
    after: HostView
    texts: tuple[str, str]


@click.command()
@click.argument("before", metavar="BEFORE")
@click.argument("after", metavar="[AFTER]", required=False)
@click.option(
    "--plan", "plans", metavar='"COMMAND"', multiple=True,
    help="AFTER is what this linkspan command makes of it. May be given several times.",
)  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Show also what the kernel sets by itself.")
@format_option
@reads
def diff(before: str, after: str | None, plans: tuple[str, ...], verbose: bool, output: str) -> int:
    """Show what differs between two looks at a host, and which flows that opens and closes.

    BEFORE and AFTER are each a file of `linkspan snapshot save`, or `now`: this host. Without
    AFTER it is `now`, with --plan BEFORE itself after that command. Flows come first, the most
    dangerous at the top. Nothing is sent and nothing is changed. Needs root for `now`, no
    daemon.

    Exit status: 0 no difference, 1 differences, 3 it cannot be said, 2 wrong usage.

    \b
    linkspan diff before.lks now
    linkspan diff before.lks after.lks --format json
    linkspan diff now --plan 'network create x --internal'
    linkspan diff before.lks --plan 'run --name web2 --network front -p 8080:80'
    """
    from linkspan.errors import InvalidRequest, LinkspanError, NotFound

    try:
        sides = find_sides(before, after, plans)
    except (NotFound, InvalidRequest) as error:
        raise WrongWordsError(error.message) from None
    except LinkspanError as error:
        click.echo(f"linkspan: {' '.join(error.message.split())}", err=True)
        return CANNOT_SAY
    found = compare(sides.before, sides.after)
    if output == "json":
        print_json(as_json(found, sides, verbose))
    else:
        from linkspan.cli.difftext import print_differences

        print_differences(found, sides, verbose)
    for view in {id(view): view for view in (sides.before, sides.after)}.values():
        print_gaps(view)
    if found.significant or (verbose and found.objects):
        return 1
    return CANNOT_SAY if not sides.after.plane and sides.after.unseen else 0


def find_sides(before: str, after: str | None, plans: tuple[str, ...]) -> Sides:
    """The two looks that are meant. Raises as Looking.whole does."""
    if after is None:
        after = before if plans else NOW
    if after == before and not plans:
        raise click.UsageError(f"{before} is compared with itself; name two, or a --plan")
    first = _look(before)
    second = first if after == before else _look(after)
    texts = before, after
    if plans:
        from linkspan.cli.planning import apply_plans

        second = apply_plans(second, plans)
        texts = before, f"{after}, after `{'`, `'.join(plans)}`"
    return Sides(first, second, texts)


def _look(text: str) -> HostView:
    return Looking(None if text == NOW else text).whole()


def compare(before: HostView, after: HostView) -> Differences:
    """The differences of two looks, with the flows of everybody's namespaces."""
    from linkspan.analysis.differences import find_differences

    containers = {one.namespace for view in (before, after) for one in view.containers}
    found = find_differences(before.plane, after.plane, containers or None)
    if before.host != after.host:
        import msgspec

        note = f"these are two hosts: {before.host or '-'} and {after.host or '-'}"
        return msgspec.structs.replace(found, notes=(note, *found.notes))
    return found


def as_json(found: Differences, sides: Sides, verbose: bool) -> dict[str, Any]:
    """The differences as documented in docs/snapshots.md."""
    from msgspec import to_builtins

    objects = [one for one in found.objects if verbose or not one.minor]
    before, after = (
        {"what": text, "host": view.host, "kernel": view.kernel, "taken": _time_text(view.taken)}
        for text, view in zip(sides.texts, (sides.before, sides.after), strict=True)
    )
    return {
        "before": before,
        "after": after,
        "opened": to_builtins(found.opened),
        "closed": to_builtins(found.closed),
        "exposures": to_builtins(found.exposures),
        "objects": to_builtins(objects),
        "left_out": len(found.objects) - len(objects),
        "notes": list(found.notes),
    }


def _time_text(seconds: float) -> str:
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))
