"""`linkspan logs`: what a container wrote."""

from __future__ import annotations

import base64
import json
import sys
from typing import Any

import click

from linkspan.cli.names import complete
from linkspan.cli.state import connect, format_option, reads


@click.command()
@click.argument("name", shell_complete=complete("sandboxes"))
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends.")
@click.option("-n", "--tail", type=int, metavar="N", help="The last N lines only.")
@click.option("--timestamps", is_flag=True, help="Begin each line with its time.")
@format_option
@reads
def logs(name: str, follow: bool, tail: int | None, timestamps: bool, output: str) -> None:
    """Show what a container wrote.

    Its output goes to ours, its errors to our standard error. As JSON, one object a line.

    \b
    linkspan logs -f --tail 20 shop
    """
    lines = connect().stream("containers", name, "logs", follow=follow, tail=tail)
    for line in filter(None, lines):
        if output == "json":
            click.echo(line)
        else:
            write_entry(json.loads(line), timestamps)


def write_entry(entry: dict[str, Any], timestamps: bool) -> None:
    """The bytes as they were written, on the stream that they were written to."""
    raw = entry.get("base64")
    data = base64.b64decode(raw) if raw else entry["text"].encode()
    target = sys.stderr.buffer if entry["stream"] == "stderr" else sys.stdout.buffer
    target.write(f"{entry['time']} ".encode() + data if timestamps else data)
    target.flush()
