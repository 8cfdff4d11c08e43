"""`linkspan daemon`: the process that makes networks and answers on the socket."""

from __future__ import annotations

import click

from linkspan.cli.state import current_state, socket_option


@click.command()
@click.option(
    "--state-dir", metavar="DIR", help="What must survive a reboot. Default: /var/lib/linkspan."
)
@click.option("--run-dir", metavar="DIR", help="What need not. Default: /run/linkspan.")
@click.option(
    "--config", metavar="FILE", help="Settings. Default: /etc/linkspan/linkspan.toml if it exists."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    help="How the log is written.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="The least that is logged.",
)
@socket_option
def daemon(
    state_dir: str | None, run_dir: str | None, config: str | None, log_format: str, log_level: str
) -> None:
    """Run the daemon in this network namespace.

    Needs root. One daemon a namespace; several namespaces of a host can have one each, with
    paths of their own. It logs to standard error and ends on SIGTERM or SIGINT; networks and
    containers outlive it.

    \b
    linkspan daemon
    linkspan daemon --socket /tmp/x/sock --state-dir /tmp/x/state --run-dir /tmp/x/run
    """
    from linkspan.api.logs import start_logging
    from linkspan.api.rights import check_rights
    from linkspan.cli.host import absolute
    from linkspan.engine.settings import load_settings

    check_rights("the daemon")
    state = current_state()
    settings = load_settings(config, state_dir=absolute(state_dir), run_dir=absolute(run_dir))
    start_logging(log_format, log_level)
    # Late: a wrong setting is told without loading the whole daemon.
    from linkspan.api.daemon import run_daemon

    run_daemon(settings, state.socket_path)
