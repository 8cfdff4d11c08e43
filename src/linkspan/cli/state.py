"""What all commands share: where the socket is, output formats, planning instead of doing."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from linkspan.cli.client import Client

DEFAULT_SOCKET = "/run/linkspan/linkspan.sock"
VARIABLE = "LINKSPAN_SOCKET"

F = TypeVar("F", bound=Callable[..., Any])


class State:
    """What was said before and after the command: the socket, and whether to plan only."""

    def __init__(self) -> None:
        self.socket: str | None = None
        self.planning = False

    @property
    def socket_path(self) -> str:
        """--socket, else LINKSPAN_SOCKET, else the default."""
        return self.socket or os.environ.get(VARIABLE) or DEFAULT_SOCKET

    def client(self) -> Client:
        """A client for the daemon on that socket."""
        from linkspan.cli.client import Client

        return Client(self.socket_path)


def current_state() -> State:
    """The state of the command that runs now."""
    state = click.get_current_context().ensure_object(State)
    assert isinstance(state, State)
    return state


def connect() -> Client:
    """A client for the daemon that the command line names."""
    return current_state().client()


def _remember_socket(context: click.Context, _: click.Parameter, path: str | None) -> None:
    if path is not None:
        context.ensure_object(State).socket = path


def _remember_planning(context: click.Context, _: click.Parameter, wanted: bool) -> bool:
    return wanted or context.ensure_object(State).planning


socket_option = click.option(
    "--socket",
    metavar="PATH",
    expose_value=False,
    callback=_remember_socket,
    help=f"Socket of the daemon, instead of ${VARIABLE} or {DEFAULT_SOCKET}.",
)

format_option = click.option(
    "--format",
    "output",
    type=click.Choice(["table", "json"]),
    default="table",
    help="A table for people, or JSON for programs.",
)

quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show ids only.")

dry_run_option = click.option(
    "--dry-run",
    is_flag=True,
    callback=_remember_planning,
    help="Show what would be done, and do nothing.",
)


def reads(function: F) -> F:
    """Marks a command that changes nothing, and gives it --socket."""
    return _without_plan(function, "changes nothing: there is nothing to plan")


def acts(function: F) -> F:
    """Marks a command whose effect cannot be told before, and gives it --socket."""
    return _without_plan(function, "cannot say before what it will do")


def changes(function: F) -> F:
    """Gives a command that changes something --socket and --dry-run (as `dry_run`)."""
    return socket_option(dry_run_option(function))


def _without_plan(function: F, why: str) -> F:
    @wraps(function)
    def refuse_planning(*arguments: Any, **options: Any) -> Any:
        if current_state().planning:
            raise click.UsageError(f"`{click.get_current_context().command_path}` {why}")
        return function(*arguments, **options)

    return socket_option(refuse_planning)  # type: ignore[return-value]
