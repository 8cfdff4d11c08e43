"""Sandboxes of an engine as shown: with the names of their networks, and their containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from linkspan.api.views import ContainerView, SandboxView, show_sandbox, show_time
from linkspan.drivers.records import Network, Sandbox
from linkspan.errors import NotFound

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine


def show_one(engine: Engine, sandbox: Sandbox) -> SandboxView:
    """A sandbox as shown."""

    def name_network(identity: str) -> str:
        try:
            network: Network = engine.network(identity)
            return network.name
        except NotFound:  # removed in the moment between
            return identity

    shown = show_sandbox(sandbox, name_network, show_container(engine, sandbox))
    record = engine.containers.record(sandbox.id)
    if record is None:
        return shown
    return msgspec.structs.replace(shown, pid=record.pid)


def show_container(engine: Engine, sandbox: Sandbox) -> ContainerView | None:
    """The program that linkspan runs in a sandbox; None if it runs none."""
    record = engine.containers.record(sandbox.id)
    if record is None:
        return None
    attach = engine.containers.attach_directory(sandbox.id)
    return ContainerView(
        command=list(record.command),
        status=record.status,
        exit_code=record.exit_code,
        error=record.error,
        restart=record.restart,
        restart_count=record.restart_count,
        started=None if record.started is None else show_time(record.started),
        finished=None if record.finished is None else show_time(record.finished),
        tty=record.tty,
        interactive=record.interactive,
        privileged=record.privileged,
        user=record.user,
        workdir=record.workdir,
        env=list(record.env),
        rootfs=record.rootfs,
        remove=record.remove,
        log=str(engine.containers.log_path(sandbox.id)),
        attach=None if attach is None else str(attach),
    )
