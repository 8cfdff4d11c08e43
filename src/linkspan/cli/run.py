"""`linkspan run`: a program of the host's file system, or of a root file system, as a container."""

from __future__ import annotations

import os
from typing import Any

import click

from linkspan.cli.attachments import attachment_options, read_networks, read_pairs
from linkspan.cli.client import Client
from linkspan.cli.state import changes, connect, format_option
from linkspan.cli.tables import is_plan, print_json, print_plan
from linkspan.errors import LinkspanError


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to it.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option("-d", "--detach", is_flag=True, help="Run it in the background, and show its id.")
@click.option("--rm", "remove", is_flag=True, help="Remove it when it ends.")
@click.option("--name", help="Name of the container. Default: a readable one is made up.")
@click.option("--hostname", metavar="NAME", help="Its host name. Default: its short id.")
@click.option(
    "-e", "--env", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone: ours."
)
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Whom it runs as. Default: root.")
@click.option("-w", "--workdir", metavar="DIR", help="Where it runs. Default: /.")
@click.option(
    "--dns-search", multiple=True, metavar="DOMAIN", help="Where names are sought. Default: ours."
)
@click.option(
    "--dns-option", "dns_options", multiple=True, metavar="OPTION", help="As in resolv.conf(5)."
)
@attachment_options
@click.option(
    "--restart",
    default="no",
    metavar="POLICY",
    show_default=True,
    help="When it is started again: no, always, unless-stopped, on-failure or on-failure:N.",
)
@click.option(
    "--rootfs", metavar="DIR", help="Its root file system. Default: a scratch overlay of ours."
)
@click.option("--privileged", is_flag=True, help="With all rights over this host.")
@format_option
@changes
def run(
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    detach: bool,
    remove: bool,
    name: str | None,
    hostname: str | None,
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
    dns_search: tuple[str, ...],
    dns_options: tuple[str, ...],
    networks: tuple[str, ...],
    ip: str | None,
    ip6: str | None,
    mac: str | None,
    aliases: tuple[str, ...],
    publish: tuple[str, ...],
    dns: tuple[str, ...],
    labels: tuple[str, ...],
    restart: str,
    rootfs: str | None,
    privileged: bool,
    output: str,
    dry_run: bool,
) -> int:
    """Run a program in a container with a network of its own.

    In the foreground it gets our signals, and the exit status is its own (128 + the signal
    that killed it); 1 with a line from `linkspan:` means that it was not run. A program that
    does not exist is refused before anything is made. In a terminal, Ctrl-P Ctrl-Q leaves it
    running.

    \b
    linkspan run --rm --network none -- ip -br addr
    linkspan run -d --name shop --network web -p 8080:80 -- python3 -m http.server 80
    linkspan run -it --rm -- bash
    """
    body: dict[str, Any] = {
        "command": list(command),
        "interactive": interactive,
        "tty": tty,
        "remove": remove,
        "name": name,
        "hostname": hostname,
        "env": read_environment(env),
        "user": user,
        "workdir": workdir,
        "networks": read_networks(networks, ip, mac, ip6, aliases),
        "ports": list(publish),
        "dns": list(dns),
        "dns_search": list(dns_search),
        "dns_options": list(dns_options),
        "labels": read_pairs("--label", labels),
        "restart": restart,
        "rootfs": None if rootfs is None else os.path.abspath(rootfs),
        "privileged": privileged,
    }
    client = connect()
    if dry_run:
        print_plan(client.post("containers", body=body, dry_run=True), output)
        return 0
    if not detach:
        from linkspan.cli.terminals import check_terminal

        check_terminal(tty, interactive)
    made = client.post("containers", body=body)
    assert not is_plan(made)
    if not detach:
        return run_in_foreground(client, made, interactive, tty)
    start_or_remove(client, made)
    if output == "json":
        print_json(client.get("sandboxes", made["id"]))
    else:
        click.echo(made["id"])
    return 0


def run_in_foreground(client: Client, made: dict[str, Any], interactive: bool, tty: bool) -> int:
    """Join a created container, let it run, and return its exit status."""
    from linkspan.cli.terminals import Awaited, check_attachable, passed_signals, serve_streams

    identifier, name = made["id"], made["name"]
    try:
        folder = check_attachable(made["container"]["attach"])
    except LinkspanError:
        client.delete("sandboxes", identifier, force=True)
        raise
    awaited: list[Awaited] = []

    def begin() -> None:
        awaited.append(Awaited(client, "containers", identifier, "wait"))
        start_or_remove(client, made)

    leave = f"{name} did not end; it goes on: `linkspan rm -f {name}` ends it"

    def send(signal: str) -> None:
        client.post("containers", identifier, "kill", signal=signal)

    with passed_signals(send, leave):
        if not serve_streams(folder, interactive, tty, begin):
            return 0
        return awaited[0].read()


def start_or_remove(client: Client, made: dict[str, Any]) -> None:
    """Let a created container run; one that cannot is removed, and the reason told."""
    try:
        client.post("containers", made["id"], "start")
    except LinkspanError:
        try:
            client.delete("sandboxes", made["id"], force=True)
        except LinkspanError:
            pass  # the first failure is the one to tell
        raise


def read_environment(given: tuple[str, ...]) -> list[str]:
    """KEY=VALUE as it is; KEY alone with our own value, left out if we have none."""
    read: list[str] = []
    for variable in given:
        if "=" in variable:
            read.append(variable)
        elif variable in os.environ:
            read.append(f"{variable}={os.environ[variable]}")
    return read
