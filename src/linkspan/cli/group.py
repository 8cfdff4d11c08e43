"""The command `linkspan`: finds the module of a command only when it is called, and ends well."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import Any

import click

from linkspan.cli.state import State, socket_option
from linkspan.errors import LinkspanError

COMMANDS: Mapping[str, str] = {
    "daemon": "daemon:daemon",
    "network": "network:network",
    "run": "run:run",
    "attach": "attach:attach",
    "detach": "attach:detach",
    "ps": "ps:ps",
    "inspect": "inspect:inspect",
    "exec": "exec:exec_",
    "start": "containers:start",
    "stop": "containers:stop",
    "kill": "containers:kill",
    "rm": "containers:rm",
    "logs": "logs:logs",
    "port": "port:port",
    "publish": "publish:publish",
    "unpublish": "publish:unpublish",
    "policy": "policy:policy",
    "audit": "audit:audit",
    "plan": "plan:plan",
    "path": "path:path",
    "exposed": "exposed:exposed",
    "reach": "reach:reach",
    "map": "map:map_",
    "snapshot": "snapshot:snapshot",
    "diff": "diff:diff",
    "events": "events:events",
    "doctor": "doctor:doctor",
    "reconcile": "host:reconcile",
    "purge": "host:purge",
    "info": "host:info",
    "completion": "completion:completion",
}
"""Where each command is: module below linkspan.cli, and its name there. The order of the help."""


class LazyGroup(click.Group):
    """A group that imports a command's module when somebody asks for the command."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names, in the order in which people meet them."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command of this name, imported now."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        found = getattr(importlib.import_module(f"linkspan.cli.{module}"), attribute)
        assert isinstance(found, click.Command)
        return found

    def invoke(self, context: click.Context) -> Any:
        """Run the command."""
        context.ensure_object(State)
        return super().invoke(context)


def show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the version and end."""
    if wanted and not context.resilient_parsing:
        from linkspan import __version__

        click.echo(f"linkspan {__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@socket_option
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=show_version,
    help="Show the version and end.",
)
def cli() -> None:
    """Make and explain container networks.

    Commands speak to the daemon on its unix socket: --socket, before or after the command, or
    LINKSPAN_SOCKET names it. Exit status: 0 done, 1 refused or failed with one line that says
    why, 2 wrong usage.

    \b
    linkspan network create web --subnet 10.20.0.0/24
    linkspan run -d --name shop --network web -p 8080:80 -- python3 -m http.server 80
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its status."""
    try:
        # standalone_mode=False: errors of ours get one line, whatever raised them.
        status = cli.main(arguments, prog_name="linkspan", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        end(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        end(130)
    except LinkspanError as error:
        fail(error.message)
    except BrokenPipeError:
        # The reader of our output has left, as `head` does.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        end(0)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        fail(f"{what}{error.strerror or error}")
    end(status if isinstance(status, int) else 0)


def fail(message: str) -> None:
    """One line on standard error, status 1."""
    click.echo(f"linkspan: {' '.join(message.split())}", err=True)
    end(1)


def end(status: int) -> None:
    """Write what is buffered, and end; an output that cannot be written is a failure."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except OSError as error:
        sys.stderr.write(f"linkspan: standard output: {error.strerror}\n")
        status = status or 1
    sys.exit(status)
