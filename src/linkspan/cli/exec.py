"""`linkspan exec`: one more program in a container, or in the network of any sandbox."""

from __future__ import annotations

import os
from typing import Any, NoReturn

import click

from linkspan.cli.client import Client
from linkspan.cli.names import complete
from linkspan.cli.run import read_environment
from linkspan.cli.state import acts, connect
from linkspan.errors import LinkspanError, PermissionRefused


@click.command("exec", context_settings={"allow_interspersed_args": False})
@click.argument("name", shell_complete=complete("sandboxes"))
@click.argument("command", nargs=-1, required=True, metavar="COMMAND [ARGUMENT]...")
@click.option("-i", "--interactive", is_flag=True, help="Pass standard input to it.")
@click.option("-t", "--tty", is_flag=True, help="Give it a terminal.")
@click.option(
    "-e", "--env", multiple=True, metavar="KEY=VALUE", help="Environment; KEY alone: ours."
)
@click.option("-u", "--user", metavar="USER[:GROUP]", help="Whom it runs as.")
@click.option("-w", "--workdir", metavar="DIR", help="Where it runs.")
@acts
def exec_(
    name: str,
    command: tuple[str, ...],
    interactive: bool,
    tty: bool,
    env: tuple[str, ...],
    user: str | None,
    workdir: str | None,
) -> int:
    """Run a program in a running container, and end with its status.

    In a sandbox without a container of ours the program is one of the host: it enters the
    network namespace and nothing else, and needs root.

    \b
    linkspan exec shop -- ip route
    linkspan exec -it shop bash
    """
    if command[0] == "--":
        command = command[1:]
    if not command:
        raise click.UsageError("Missing argument 'COMMAND [ARGUMENT]...'.")
    client = connect()
    sandbox = client.get("sandboxes", name)
    if sandbox["container"] is None:
        if user or workdir or tty:
            raise LinkspanError(
                f"{name} is a network namespace without a container of ours: only its network is "
                "entered; leave out --user, --workdir and --tty"
            )
        enter_network(sandbox, command, env)
    from linkspan.cli.terminals import check_terminal

    check_terminal(tty, interactive)
    body = {
        "command": list(command),
        "env": read_environment(env),
        "user": user,
        "workdir": workdir,
        "tty": tty,
        "interactive": interactive,
    }
    return run_in_container(client, sandbox, body)


def run_in_container(client: Client, sandbox: dict[str, Any], body: dict[str, Any]) -> int:
    """Prepare a session, join it, let it run, and return its exit status."""
    from linkspan.cli.terminals import Awaited, check_attachable, serve_streams

    place = ("containers", sandbox["id"], "exec")
    session = client.post(*place, body=body)
    awaited: list[Awaited] = []

    def begin() -> None:
        client.post(*place, session["id"], "start")
        awaited.append(Awaited(client, *place, session["id"], "wait"))

    try:
        folder = check_attachable(session["attach"])
        if not serve_streams(folder, body["interactive"], body["tty"], begin):
            return 0
        return awaited[0].read()
    except BaseException:
        try:
            client.delete(*place, session["id"])
        except LinkspanError:
            pass  # it has ended already
        raise


def enter_network(
    sandbox: dict[str, Any], command: tuple[str, ...], env: tuple[str, ...]
) -> NoReturn:
    """Become the program, in the sandbox's network namespace.

    Raises:
        PermissionRefused: this is not root.
        LinkspanError: the namespace is gone, or there is no such program.
    """
    import ctypes

    from linkspan.kernel import namespaces

    if sandbox["netns"]:
        if os.geteuid() != 0:
            raise PermissionRefused("entering a network namespace needs root: use sudo")
        with namespaces.opened(sandbox["netns"]) as descriptor:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.setns(descriptor, namespaces._CLONE_NEWNET) != 0:
                reason = os.strerror(ctypes.get_errno())
                raise LinkspanError(f"network namespace {sandbox['netns']}: {reason}")
    variables = dict(variable.split("=", 1) for variable in read_environment(env))
    try:
        os.execvpe(command[0], list(command), {**os.environ, **variables})
    except FileNotFoundError:
        raise LinkspanError(f"command {command[0]!r} was not found on this host") from None
    except OSError as error:
        raise LinkspanError(f"command {command[0]!r}: {error.strerror}") from None
