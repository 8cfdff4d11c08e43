"""`linkspan ps`: sandboxes and containers."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

import click

from linkspan.cli.several import print_each
from linkspan.cli.state import connect, format_option, quiet_option, reads
from linkspan.cli.tables import Cell, print_json, print_table, render_age, render_port, shorten

LONGEST_COMMAND = 30


@click.command()
@click.option("-a", "--all", "everything", is_flag=True, help="Also what has ended or is gone.")
@quiet_option
@format_option
@reads
def ps(everything: bool, quiet: bool, output: str) -> None:
    """List sandboxes and containers: those that are up, or all.

    \b
    linkspan ps
    linkspan ps -a --format json
    """
    found = connect().get("sandboxes")
    # One whose namespace has gone is shown: somebody has to know, and it stays until detached.
    if not everything:
        found = [one for one in found if not is_at_rest(one)]
    if quiet:
        print_each(found, output)
    elif output == "json":
        print_json(found)
    else:
        print_table(
            ["ID", "NAME", "STATE", "NETWORKS", "PORTS", "COMMAND", "AGE"],
            [describe(one) for one in found],
        )


def is_at_rest(one: Mapping[str, Any]) -> bool:
    """Whether it is a container that has ended, or was created and not started."""
    container = one["container"]
    return one["state"] == "exited" or (
        container is not None and container["status"] in ("created", "exited")
    )


def describe(one: Mapping[str, Any]) -> list[Cell]:
    """A row."""
    return [
        shorten(one["id"]),
        one["name"],
        describe_state(one),
        [describe_endpoint(endpoint) for endpoint in one["endpoints"]]
        or ("" if one["netns"] else "host"),
        [render_port(port) for port in one["ports"]],
        describe_command(one["container"]),
        render_age(one["created"]),
    ]


def describe_state(one: Mapping[str, Any]) -> str:
    """The container's status if there is one, else the state of the sandbox."""
    if one["container"] is None or one["state"] == "gone":
        return str(one["state"])
    container = one["container"]
    if container["status"] != "exited":
        return str(container["status"])
    code = container["exit_code"]
    return f"exited ({'unknown' if code is None else code})"


def describe_endpoint(endpoint: Mapping[str, Any]) -> str:
    """`web 10.20.0.2`: the network and the address there."""
    address = endpoint["ipv4"] or endpoint["ipv6"]
    return f"{endpoint['network']} {address.split('/')[0]}" if address else str(endpoint["network"])


def describe_command(container: Mapping[str, Any] | None) -> str:
    """The beginning of the command; "-" where we run nothing."""
    if container is None:
        return "-"
    text = shlex.join(container["command"])
    return (
        text
        if len(text) <= LONGEST_COMMAND
        else text[: LONGEST_COMMAND - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
