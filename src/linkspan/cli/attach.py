"""`linkspan attach` and `detach`: networks for a namespace that somebody else made."""

from __future__ import annotations

import os
from typing import Any

import click

from linkspan.cli.attachments import attachment_options, read_networks, read_pairs
from linkspan.cli.names import names_argument
from linkspan.cli.several import work_through
from linkspan.cli.state import changes, connect, format_option
from linkspan.cli.tables import is_plan, print_json, print_plan

NAMED = "/run/netns"
"""Where `ip netns` keeps the namespaces that it made."""


@click.command()
@click.option("--name", help="Name of the sandbox. Default: a readable one is made up.")
@click.option(
    "--netns", metavar="PATH", help="File that holds the namespace, or a name of `ip netns`."
)
@click.option("--pid", type=int, metavar="N", help="A process whose namespace is meant.")
@click.option(
    "--resolv-conf", metavar="PATH", help="File to write, so that programs ask our resolver."
)
@attachment_options
@format_option
@changes
def attach(
    name: str | None,
    netns: str | None,
    pid: int | None,
    resolv_conf: str | None,
    networks: tuple[str, ...],
    ip: str | None,
    ip6: str | None,
    mac: str | None,
    aliases: tuple[str, ...],
    publish: tuple[str, ...],
    dns: tuple[str, ...],
    labels: tuple[str, ...],
    output: str,
    dry_run: bool,
) -> None:
    """Give a network namespace its networks and ports.

    Shows the id of the sandbox that it is from then on. Links, addresses, routes and a way to
    our resolver are all that is changed in it. Without --netns and --pid a namespace is made;
    `linkspan inspect` shows where.

    \b
    linkspan attach --name ctr7 --netns /run/netns/ctr7 --network web -p 127.0.0.1:9000:9000/udp
    linkspan attach --pid 4711 --network web:ip=10.20.0.9 --network back
    """
    if netns is not None and pid is not None:
        raise click.UsageError("--netns and --pid both name a namespace; give one of them")
    body: dict[str, Any] = {
        "name": name,
        "netns": None if netns is None else find_namespace(netns),
        "pid": pid,
        "networks": read_networks(networks, ip, mac, ip6, aliases),
        "ports": list(publish),
        "dns": list(dns),
        "labels": read_pairs("--label", labels),
        "resolv_conf": None if resolv_conf is None else os.path.abspath(resolv_conf),
    }
    made = connect().post("sandboxes", body=body, dry_run=dry_run)
    if is_plan(made):
        print_plan(made, output)
    elif output == "json":
        print_json(made)
    else:
        click.echo(made["id"])


@click.command()
@names_argument("sandboxes")
@click.option("-f", "--force", is_flag=True, help="Also one whose container runs, which is ended.")
@changes
def detach(names: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Take the networks of a sandbox away, and forget it.

    A namespace that linkspan made goes with it; another one stays, without our interfaces.

    \b
    linkspan detach ctr7
    """
    client = connect()
    work_through(names, lambda name: client.delete("sandboxes", name, force=force, dry_run=dry_run))


def find_namespace(text: str) -> str:
    """The path that is meant: a bare name is one of `ip netns`."""
    return os.path.abspath(text) if "/" in text else os.path.join(NAMED, text)
