"""`linkspan plan`: what another command would do."""

from __future__ import annotations

import click

from linkspan.cli.state import current_state, socket_option


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@socket_option
@click.pass_context
def plan(context: click.Context, command: tuple[str, ...]) -> None:
    """Show what a command would do, and do nothing.

    A line for each object that it would create, change or remove. The same as --dry-run on
    that command.

    \b
    linkspan plan -- network create x --subnet 10.30.0.0/24
    linkspan plan -- run -d --network web -p 8081:80 -- python3 -m http.server 80
    """
    current_state().planning = True
    root = context.find_root()
    arguments = list(command[1:] if command[0] == "--" else command)
    # The inner command sees the same state, and every one that changes something asks it.
    group = root.command
    with group.make_context("linkspan", arguments, obj=root.obj) as inner:
        group.invoke(inner)
