"""`linkspan publish` and `unpublish`: ports of a sandbox while it runs."""

from __future__ import annotations

from typing import Any

import click

from linkspan.cli.names import complete
from linkspan.cli.port import find_ports, render_target
from linkspan.cli.state import changes, connect, format_option
from linkspan.cli.tables import is_plan, print_json, print_plan, render_host


@click.command()
@click.argument("sandbox", shell_complete=complete("sandboxes"))
@click.argument("ports", metavar="PORT...", nargs=-1, required=True)
@format_option
@changes
def publish(sandbox: str, ports: tuple[str, ...], output: str, dry_run: bool) -> None:
    """Publish ports of a sandbox or container while it runs.

    PORT is [[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp], as with run. All of them are
    published, or none. Shows what is published now, and where it leads.

    \b
    linkspan publish web 8443:443
    linkspan publish web 127.0.0.1:5353:53/udp 9000-9009:9000-9009
    """
    client = connect()
    before = [] if dry_run else client.get("sandboxes", sandbox)["ports"]
    body = {"ports": list(ports)}
    show(client.post("sandboxes", sandbox, "ports", body=body, dry_run=dry_run), output, before)


@click.command()
@click.argument("sandbox", shell_complete=complete("sandboxes"))
@click.argument("ports", metavar="PORT...", nargs=-1, required=True)
@click.option("--now", is_flag=True, help="End established connections as well.")
@format_option
@changes
def unpublish(sandbox: str, ports: tuple[str, ...], now: bool, output: str, dry_run: bool) -> None:
    """Close published ports of a sandbox or container while it runs.

    PORT is [HOST_IP:]HOST_PORT[-END][/tcp|udp|sctp]; a part of a published range will do. New
    connections are refused from then on. Those that are established go on, unless --now ends
    them. Other ports are not touched.

    \b
    linkspan unpublish web 8443
    linkspan unpublish web 5353/udp --now
    """
    client = connect()
    answer: dict[str, Any] = {}
    for port in ports:
        answer = client.delete("sandboxes", sandbox, "ports", port, now=now, dry_run=dry_run)
        if is_plan(answer):
            print_plan(answer, output)
    if output == "json" and not is_plan(answer):
        print_json(answer)


def show(answer: dict[str, Any], output: str, before: list[dict[str, Any]]) -> None:
    """The plan, or the sandbox as JSON, or the ports that are new."""
    if is_plan(answer):
        print_plan(answer, output)
    elif output == "json":
        print_json(answer)
    else:
        for entry in find_ports(answer):
            if not any(all(entry[key] == old[key] for key in old) for old in before):
                click.echo(f"{render_host(entry)} -> {render_target(entry)}/{entry['protocol']}")
