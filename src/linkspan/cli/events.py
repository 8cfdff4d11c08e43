"""`linkspan events`: what happens, as it happens."""

from __future__ import annotations

import json
from typing import Any

import click

from linkspan.cli.state import connect, format_option, reads
from linkspan.cli.tables import clean, render_actor, shorten


@click.command()
@click.option(
    "--since", type=int, metavar="ID", help="Begin after the event of this id; 0: with the oldest."
)
@click.option(
    "--follow/--no-follow", default=True, help="Wait for more, or end with what there is."
)
@format_option
@reads
def events(since: int | None, follow: bool, output: str) -> None:
    """Show what happens, as it happens.

    A line an event; as JSON one object a line. Without --since only what happens from now on
    is shown; with --no-follow everything that is kept.

    \b
    linkspan events --since 0 --no-follow
    linkspan events --format json | jq .
    """
    for line in connect().stream("events", since=since, follow="true" if follow else "false"):
        if line.strip():
            click.echo(line if output == "json" else describe(json.loads(line)))


def describe(event: dict[str, Any]) -> str:
    """An event as a line."""
    more = "".join(f", {key} {value}" for key, value in event["attributes"].items() if value)
    name = event["name"] or shorten(event["object_id"])
    what = f"{event['type']} {name} {event['action']}".replace("  ", " ")
    by = render_actor(event["by"])
    who = f", by {by}" if by else ""
    return clean(f"{event['id']:>6}  {event['time']}  {what}{more}{who}")
