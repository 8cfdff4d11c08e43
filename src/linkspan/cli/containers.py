"""`linkspan start`, `stop`, `kill` and `rm`."""

from __future__ import annotations

import click

from linkspan.cli.names import names_argument
from linkspan.cli.several import work_through
from linkspan.cli.state import changes, connect

NAMES = names_argument("sandboxes")


@click.command()
@NAMES
@changes
def start(names: tuple[str, ...], dry_run: bool) -> None:
    """Start containers that have ended.

    Their files are as they left them, and they get their networks again.

    \b
    linkspan start shop
    """
    client = connect()
    work_through(names, lambda name: client.post("containers", name, "start", dry_run=dry_run))


@click.command()
@NAMES
@click.option(
    "-t", "--time", "timeout", type=float, default=10, show_default=True, metavar="SECONDS",
    help="How long a container has to end by itself before it is killed.",
)  # fmt: skip
@changes
def stop(names: tuple[str, ...], timeout: float, dry_run: bool) -> None:
    """End containers: SIGTERM, then SIGKILL. They stay, with their files and log.

    \b
    linkspan stop -t 2 shop
    """
    client = connect()
    work_through(
        names,
        lambda name: client.post("containers", name, "stop", timeout=timeout, dry_run=dry_run),
    )


@click.command()
@NAMES
@click.option("-s", "--signal", default="KILL", show_default=True, help="Name or number.")
@changes
def kill(names: tuple[str, ...], signal: str, dry_run: bool) -> None:
    """Send the first process of containers a signal.

    \b
    linkspan kill -s HUP shop
    """
    client = connect()
    work_through(
        names, lambda name: client.post("containers", name, "kill", signal=signal, dry_run=dry_run)
    )


@click.command()
@NAMES
@click.option("-f", "--force", is_flag=True, help="Also one that runs; it is killed.")
@changes
def rm(names: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Remove containers and sandboxes: files, log, addresses, ports.

    \b
    linkspan rm -f shop
    """
    client = connect()
    work_through(names, lambda name: client.delete("sandboxes", name, force=force, dry_run=dry_run))
