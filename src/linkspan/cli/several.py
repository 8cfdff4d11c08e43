"""Doing the same for several names: go on after a failure, and report every one at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import click

from linkspan.cli.tables import is_plan, print_json, print_plan
from linkspan.errors import DaemonUnreachable, LinkspanError


def work_through(names: Iterable[str], work: Callable[[str], Any]) -> None:
    """Call `work` for each name and print the name, or the plan that it answered.

    Raises:
        LinkspanError: the failures, in one line, when all was tried.
    """
    failures: list[str] = []
    for name in names:
        try:
            answer = work(name)
        except DaemonUnreachable:
            raise
        except LinkspanError as error:
            failures.append(error.message)
            continue
        if is_plan(answer):
            print_plan(answer)
        else:
            click.echo(name)
    if failures:
        raise LinkspanError("; ".join(failures))


def print_each(found: Iterable[dict[str, Any]], output: str) -> None:
    """The ids, a line each, or as an array."""
    identifiers = [one["id"] for one in found]
    if output == "json":
        print_json(identifiers)
    else:
        for identifier in identifiers:
            click.echo(identifier)
