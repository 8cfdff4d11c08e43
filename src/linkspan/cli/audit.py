"""`linkspan audit`: every hole that configuration opened."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.state import connect, format_option, reads
from linkspan.cli.tables import clean, print_json, render_actor


@click.command()
@format_option
@reads
def audit(output: str) -> None:
    """Show every hole that configuration opened, with who opened it and when.

    A line each: published ports, host mode, privileged containers, sandboxes on several
    networks, routed networks, networks without checks or masquerading, members that are not
    apart, interfaces that route 127.0.0.0/8.

    \b
    linkspan audit
    linkspan audit --format json | jq '.[] | select(.kind == "published_port")'
    """
    found = connect().get("audit")
    if output == "json":
        print_json(found)
        return
    for hole in found:
        click.echo(describe(hole))


def describe(hole: dict[str, Any]) -> str:
    """A hole as a line."""
    opened = "not opened by linkspan"
    if hole["opened"]:
        by = render_actor(hole["by"]) or "the daemon"
        opened = f"opened {hole['opened'][:19]}Z by {by}"
    return clean(
        f"{hole['kind']}  {hole['name']}: {hole['what']}; open to {hole['open_to']}; {opened}"
    )
