"""`linkspan reconcile`, `purge` and `info`: the host as a whole."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from linkspan.cli.client import SocketForbidden
from linkspan.cli.state import (
    DEFAULT_SOCKET,
    acts,
    changes,
    connect,
    current_state,
    format_option,
    reads,
)
from linkspan.cli.tables import clean, is_plan, print_fields, print_json, print_plan
from linkspan.errors import DaemonUnreachable, LinkspanError


@click.command()
@format_option
@acts
def reconcile(output: str) -> None:
    """Make the host what the store says it should be, now.

    The daemon does so by itself whenever something changes; this is for asking.

    \b
    linkspan reconcile
    """
    show_report(connect().post("reconcile"), output, "nothing to repair")


@click.command()
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.option("--state-dir", metavar="DIR", help="Without a daemon: its state folder.")
@click.option("--run-dir", metavar="DIR", help="Without a daemon: its run folder.")
@click.option("--config", metavar="FILE", help="Without a daemon: its settings.")
@format_option
@changes
def purge(
    yes: bool,
    state_dir: str | None,
    run_dir: str | None,
    config: str | None,
    output: str,
    dry_run: bool,
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
        # A plan without a daemon would have to start one's work before it could undo it.
        if dry_run or isinstance(error, SocketForbidden):
            raise
        # Another socket means other folders: never purge those of the host's own daemon for it.
        if current_state().socket_path != DEFAULT_SOCKET and not (
            config or (state_dir and run_dir)
        ):
            raise DaemonUnreachable(
                f"{error.message}; to purge without one, name --state-dir and --run-dir"
            ) from None
        report = purge_without_daemon(state_dir, run_dir, config)
    show_report(report, output, "there was nothing of linkspan's")


def purge_without_daemon(
    state_dir: str | None, run_dir: str | None, config: str | None
) -> dict[str, Any]:
    """Open the engine here, as the daemon would, and let it purge."""
    import msgspec

    from linkspan.api.purging import purge_host
    from linkspan.engine.settings import load_settings

    settings = load_settings(config, state_dir=absolute(state_dir), run_dir=absolute(run_dir))
    return dict(msgspec.to_builtins(purge_host(settings)))


def absolute(path: str | None) -> str | None:
    """A path from the root on; None stays None."""
    return None if path is None else os.path.abspath(path)


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
    """What was done, a line each.

    Raises:
        LinkspanError: some of it failed.
    """
    if is_plan(report):
        print_plan(report, output)
        return
    if output == "json":
        print_json(report)
    else:
        lines = [*report["removed"], *report["repaired"], *report["added"]]
        lines += [f"sandbox {name} is gone: its namespace has vanished" for name in report["gone"]]
        for line in lines or ([] if report["failed"] else [nothing]):
            click.echo(clean(line))
    if report["failed"]:
        raise LinkspanError("; ".join(report["failed"]))
