"""`linkspan policy`: what nobody may ask of this host."""

from __future__ import annotations

import click

from linkspan.cli.state import changes, connect, format_option, reads
from linkspan.cli.tables import is_plan, print_json, print_plan, print_table, render_actor

KNOWN = ("one-network", "no-routing", "no-host-mode", "published-on")


@click.group()
def policy() -> None:
    """Set rules that every container of this host has to keep.

    \b
    one-network              a sandbox is on one network at most
    no-routing               no sandbox passes packets on between its networks
    no-host-mode             no sandbox uses the host's own network
    published-on=ADDR,...    ports are published on these host addresses only

    \b
    linkspan policy set one-network
    linkspan policy ls
    """


def complete_policy(_: click.Context, __: click.Parameter, begun: str) -> list[str]:
    """The names of policies."""
    return [name for name in KNOWN if name.startswith(begun)]


@policy.command("set")
@click.argument(
    "policies",
    metavar="POLICY[=VALUE,...]...",
    nargs=-1,
    required=True,
    shell_complete=complete_policy,
)
@format_option
@changes
def set_policy(policies: tuple[str, ...], output: str, dry_run: bool) -> None:
    """Put policies in force. What is against them is refused from then on, and recorded.

    What is there already stays: it is listed, to be put right.

    \b
    linkspan policy set one-network no-host-mode
    linkspan policy set published-on=127.0.0.1,192.0.2.10
    """
    client = connect()
    done = []
    for name, values in read_policies(policies):
        answer = client.put("policies", name, body={"values": values}, dry_run=dry_run)
        if is_plan(answer):
            print_plan(answer, output)
            continue
        done.append(answer)
        if output != "json":
            for violation in answer["violations"]:
                click.echo(f"{name} is violated already: {violation['reason']}")
    if output == "json" and not dry_run:
        print_json(done)


@policy.command("ls")
@format_option
@reads
def list_policies(output: str) -> None:
    """List the policies in force, who set them, and what violates them.

    \b
    linkspan policy ls
    """
    found = connect().get("policies")
    if output == "json":
        print_json(found)
        return
    print_table(
        ["POLICY", "VALUES", "SET", "BY", "VIOLATED BY"],
        [
            [
                one["name"],
                one["values"],
                one["set"],
                render_actor(one["by"]),
                sorted({violation["sandbox"] for violation in one["violations"]}),
            ]
            for one in found
        ],
    )


@policy.command("unset")
@click.argument(
    "names", metavar="POLICY...", nargs=-1, required=True, shell_complete=complete_policy
)
@changes
def unset_policy(names: tuple[str, ...], dry_run: bool) -> None:
    """Take policies out of force.

    \b
    linkspan policy unset one-network
    """
    client = connect()
    for name in names:
        answer = client.delete("policies", name, dry_run=dry_run)
        if is_plan(answer):
            print_plan(answer)


def read_policies(given: tuple[str, ...]) -> list[tuple[str, list[str]]]:
    """Names with their values; an argument that is an address belongs to the one before it."""
    read: list[tuple[str, list[str]]] = []
    for text in given:
        name, equals, values = text.partition("=")
        if read and not equals and name not in KNOWN and (name[:1].isdigit() or ":" in name):
            read[-1][1].append(text)
        else:
            read.append((name, [value for value in values.split(",") if value]))
    return read
