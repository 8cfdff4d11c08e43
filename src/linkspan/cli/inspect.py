"""`linkspan inspect`: networks and sandboxes in full."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.client import Client, Refused
from linkspan.cli.details import print_network, print_sandbox
from linkspan.cli.names import names_argument
from linkspan.cli.state import connect, format_option, reads
from linkspan.cli.tables import print_json


@click.command()
@names_argument("sandboxes", "networks")
@click.option(
    "--type",
    "kind",
    type=click.Choice(["sandbox", "network"]),
    help="Look for this kind only. Default: a sandbox, else a network of that name.",
)
@format_option
@reads
def inspect(names: tuple[str, ...], kind: str | None, output: str) -> None:
    """Show sandboxes, containers and networks in full.

    As JSON, one is an object, several are an array.

    \b
    linkspan inspect shop
    linkspan inspect shop web --format json
    """
    client = connect()
    found = [find(client, name, kind) for name in names]
    if output == "json":
        print_json(found[0] if len(found) == 1 else found)
        return
    for index, one in enumerate(found):
        if index:
            click.echo()
        (print_network if "driver" in one else print_sandbox)(one)


def find(client: Client, name: str, kind: str | None) -> dict[str, Any]:
    """A sandbox or network by its name.

    Raises:
        Refused: there is none.
    """
    if kind != "network":
        try:
            return dict(client.get("sandboxes", name))
        except Refused as error:
            if kind is not None or error.code != "not_found":
                raise
    try:
        return dict(client.get("networks", name))
    except Refused as error:
        if kind is None and error.code == "not_found":
            raise Refused(404, "not_found", f"there is no sandbox or network {name!r}") from None
        raise
