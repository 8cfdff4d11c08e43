"""What if: a host as it would be after some commands of linkspan's.

The commands are the real ones. They speak to an engine in this process that works on a model
of the host, and begin with what the daemon, or its store, knows.
"""

from __future__ import annotations

import contextlib
import io
import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from linkspan.cli.client import Client
from linkspan.cli.state import State, connect
from linkspan.cli.tables import render_port
from linkspan.errors import InvalidRequest, LinkspanError
from linkspan.inventory.records import Container, HostView

if TYPE_CHECKING:
    import asyncio

    from linkspan.drivers.records import Network, Sandbox
    from linkspan.engine.rehearsal.rehearsal import Rehearsal


def apply_plans(view: HostView, commands: Iterable[str]) -> HostView:
    """A host as it would be when these commands had been carried out, one after another.

    A command is what follows `linkspan` on a command line. Sandboxes that do not exist yet get
    a namespace in the plane that is marked as planned. Raises InvalidRequest: a command is
    wrong, would be refused, or cannot be planned; says which and why.
    """
    import asyncio

    from linkspan.engine.rehearsal.rehearsal import Rehearsal

    if view.stored is None and view.paths:
        from linkspan.cli.records import read_stored

        view = msgspec.structs.replace(view, stored=read_stored(connect()))
    if view.stored is None:
        _check_untouched(view)
    with asyncio.Runner() as runner:
        engine = runner.run(Rehearsal.begin(view))
        try:
            before = {sandbox.id: sandbox for sandbox in engine.sandboxes()}
            for command in commands:
                _carry_out(command, _ModelClient(engine, runner))
            plane = engine.outcome()
            containers = _containers(view, engine, before)
        finally:
            runner.run(engine.close())
    return msgspec.structs.replace(view, plane=plane, containers=containers)


def _check_untouched(view: HostView) -> None:
    """Without records a start of linkspan's would take away what carries its mark."""
    from linkspan.dataplane import Link
    from linkspan.engine.uplinks import is_ours

    if any(is_ours(link) for link in view.plane.of(Link)):
        raise InvalidRequest(
            "linkspan has made links on this host, and what it has stored is not known; start its "
            "daemon or name the store's folder with LINKSPAN_STATE, and save a file anew"
        )


class _ModelClient(Client):
    """Requests to a rehearsal instead of a daemon."""

    def __init__(self, engine: Rehearsal, runner: asyncio.Runner) -> None:
        super().__init__("")
        self._engine = engine
        self._runner = runner

    def request(
        self,
        method: str,
        parts: tuple[str, ...],
        *,
        body: Any = None,
        query: Mapping[str, Any] | None = None,
    ) -> Any:
        """See Client. Raises what the daemon would refuse with."""
        from linkspan.api.rehearsing import perform

        return self._runner.run(perform(self._engine, method, parts, body, query or {}))

    def stream(self, *parts: str, **query: Any) -> Any:
        """Nothing is told piece by piece."""
        raise InvalidRequest("this shows what happens, and changes nothing")


class _ModelState(State):
    """The state of a command that is played through."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self.planning = True
        self._client = client

    def client(self) -> Client:
        """The client of the rehearsal."""
        return self._client


def _carry_out(command: str, client: Client) -> None:
    """Run one command line on the model; what it prints is for nobody."""
    from linkspan.cli.group import cli

    arguments = _words(command)
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            cli.make_context("linkspan", arguments, obj=_ModelState(client)) as context,
        ):
            status = cli.invoke(context)
    except click.ClickException as error:
        raise InvalidRequest(f"plan {command!r}: {error.format_message()}") from None
    except click.exceptions.Exit:
        raise InvalidRequest(f"plan {command!r}: this changes nothing") from None
    except LinkspanError as error:
        raise InvalidRequest(f"plan {command!r} would be refused: {error.message}") from None
    if isinstance(status, int) and status:
        raise InvalidRequest(f"plan {command!r} would be refused")


_PROGRAM = "true"
"""What a planned container runs where nobody said it: nothing is run."""


def _words(command: str) -> list[str]:
    """The words of a command line. Raises InvalidRequest."""
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise InvalidRequest(f"plan {command!r}: {str(error).lower()}") from None
    while words and words[0] in ("sudo", "linkspan"):
        del words[0]
    if not words:
        raise InvalidRequest("plan '': name a command, as in --plan 'network create x --internal'")
    return _with_program(words, command) if words[0] == "run" else words


def _with_program(words: list[str], command: str) -> list[str]:
    """A container's options without its program are enough for a plan."""
    from linkspan.cli.run import run

    options = {name for parameter in run.params for name in parameter.opts}
    flags = {
        name
        for parameter in run.params
        if isinstance(parameter, click.Option) and parameter.is_flag
        for name in parameter.opts
    }
    place = 1
    while place < len(words) and words[place].startswith("-") and words[place] != "--":
        whole = "=" in words[place] or words[place] in flags
        place += 1 if whole or words[place] not in options else 2
    rest = words[place:]
    if not rest or rest == ["--"]:
        return [*words[:place], "--", _PROGRAM]
    late = [word for word in rest[1:] if word in options - flags]
    if rest[0] != "--" and late and "--" not in rest:
        raise InvalidRequest(
            f"plan {command!r}: options of run come before the program, and here {late[0]} is one "
            f"of {rest[0]!r}'s; write --plan 'run --name {rest[0]} {' '.join(rest[1:])}'"
        )
    return words


# Whose namespaces they are then -------------------------------------------------------


def _containers(
    view: HostView, engine: Rehearsal, before: Mapping[str, Sandbox]
) -> tuple[Container, ...]:
    """The containers of the view with what became of linkspan's."""
    after = {sandbox.id: sandbox for sandbox in engine.sandboxes()}
    changed = {id for id, one in after.items() if one != before.get(id)}
    touched = changed | (before.keys() - after.keys())
    names = {engine.name_of(one) for id, one in before.items() if id in touched}
    kept = [
        one
        for one in view.containers
        if not (one.id in touched if one.id else one.namespace in names - {"host", None})
    ]
    networks = {network.id: network for network in engine.networks()}
    made = (
        _container(one, engine.name_of(one), networks)
        for id, one in after.items()
        if id in changed and one.state == "up"
    )
    return (*kept, *(one for one in made if one is not None))


def _container(
    sandbox: Sandbox, namespace: str | None, networks: Mapping[str, Network]
) -> Container | None:
    if namespace is None:
        return None
    names = (
        ("host",)
        if sandbox.host_mode
        else tuple(networks[endpoint.network].name for endpoint in sandbox.endpoints)
    )
    return Container(
        namespace=namespace,
        name=sandbox.name,
        runtime="linkspan",
        id=sandbox.id,
        pid=sandbox.pid,
        aliases=tuple(
            dict.fromkeys(alias for endpoint in sandbox.endpoints for alias in endpoint.aliases)
        ),
        networks=names,
        published=tuple(render_port(msgspec.to_builtins(port)) for port in sandbox.ports),
    )
