"""`linkspan reconcile`, `purge` and `info`: the host as a whole."""

from __future__ import annotations

import sys
from typing import Any

import click

from linkspan.cli.state import changes, connect, format_option, reads
from linkspan.cli.tables import clean, is_plan, print_fields, print_json, print_plan
from linkspan.errors import DaemonUnreachable


@click.command()
@format_option
@changes
def reconcile(output: str, dry_run: bool) -> None:
    """Make the host what the store says it should be, now.

    The daemon does so by itself whenever something changes; this is for asking.

    \b
    linkspan reconcile
    """
    show_report(connect().post("reconcile", dry_run=dry_run), output, "nothing to repair")


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--state-dir", metavar="DIR", help="Without a daemon: its state folder.")
@click.option("--run-dir", metavar="DIR", help="Without a daemon: its run folder.")
@format_option
@changes
def purge(
    yes: bool, state_dir: str | None, run_dir: str | None, output: str, dry_run: bool
) -> None:
    """Take everything of linkspan's off this host.

    Containers, namespaces, interfaces, firewall tables and the store; what is not ours stays.
    Ends the daemon, and also works without one. Asks first on a terminal.

    \b
    linkspan purge --dry-run
    linkspan purge --yes
    """
    if not (yes or dry_run) and sys.stdin.isatty():
        click.confirm(
            "Remove every network, sandbox and container of linkspan on this host?",
            abort=True,
            err=True,
        )
    try:
        report = connect().post("purge", dry_run=dry_run)
    except DaemonUnreachable as error:
        if "permission" in error.message:
            raise
        report = purge_without_daemon(state_dir, run_dir, dry_run)
    show_report(report, output, "there was nothing of linkspan's")


def purge_without_daemon(
    state_dir: str | None, run_dir: str | None, dry_run: bool
) -> dict[str, Any]:
    """Open the engine here, as the daemon would, and let it purge."""
    import asyncio

    import msgspec

    from linkspan.api.daemon import check_rights
    from linkspan.api.host import purge_host
    from linkspan.engine.settings import load_settings

    check_rights()
    settings = load_settings(None, state_dir=state_dir, run_dir=run_dir)
    report = asyncio.run(purge_host(settings, dry_run=dry_run))
    return dict(msgspec.to_builtins(report))


@click.command()
@format_option
@reads
def info(output: str) -> None:
    """Show the daemon: version, process, namespace, paths.

    \b
    linkspan info
    """
    found = connect().get("info")
    if output == "json":
        print_json(found)
    else:
        print_fields(
            (name.replace("_", " ").capitalize(), str(value)) for name, value in found.items()
        )


def show_report(report: dict[str, Any], output: str, nothing: str) -> None:
    """What was done, a line each."""
    if is_plan(report):
        print_plan(report, output)
    elif output == "json":
        print_json(report)
    else:
        for line in report["done"] or [nothing]:
            click.echo(clean(line))
