"""`linkspan port`: what is published, and where it leads."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.names import complete
from linkspan.cli.state import connect, format_option, reads
from linkspan.cli.tables import inside_of, print_json, print_table, render_host, render_span


@click.command()
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete("sandboxes"))
@format_option
@reads
def port(names: tuple[str, ...], output: str) -> None:
    """Show published ports and where they lead.

    Those of the sandboxes that are named, or all.

    \b
    linkspan port shop
    """
    client = connect()
    sandboxes = [client.get("sandboxes", name) for name in names] or client.get("sandboxes")
    found = [entry for one in sandboxes for entry in find_ports(one)]
    if output == "json":
        print_json(found)
    else:
        print_table(
            ["PUBLISHED", "LEADS TO", "PROTOCOL", "SANDBOX", "NETWORK"],
            [
                [
                    render_host(entry),
                    render_target(entry),
                    entry["protocol"],
                    entry["sandbox"],
                    entry["network"] or "",
                ]
                for entry in found
            ],
        )


def find_ports(one: dict[str, Any]) -> list[dict[str, Any]]:
    """The ports of a sandbox with the address that each leads to, null if there is none now."""
    return [{**entry, "sandbox": one["name"], **find_target(one, entry)} for entry in one["ports"]]


def find_target(one: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """The endpoint that carries the default route of the port's IP version carries the port.

    The one of highest priority; among equals the first (see drivers/sandbox.py).
    """
    gateway, key = ("gateway_ipv6", "ipv6") if ":" in entry["host_ip"] else ("gateway", "ipv4")
    able = [e for e in one["endpoints"] if e[gateway] and e[key]]
    chosen = max(able, key=lambda e: int(e["gateway_priority"]), default=None)
    if chosen is None:
        return {"address": None, "network": None}
    return {"address": chosen[key].split("/")[0], "network": chosen["network"]}


def render_target(entry: dict[str, Any]) -> str:
    """`10.20.0.2:80`."""
    address = entry["address"]
    if address is None:
        return ""
    return f"{f'[{address}]' if ':' in address else address}:{render_span(*inside_of(entry))}"
