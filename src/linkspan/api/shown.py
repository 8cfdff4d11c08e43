"""Sandboxes of an engine as shown: with the names of their networks, and their containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from linkspan.api.views import ContainerView, SandboxView, show_sandbox
from linkspan.drivers.records import Sandbox
from linkspan.errors import NotFound

if TYPE_CHECKING:
    from linkspan.engine.engine import Engine


def show_one(engine: Engine, sandbox: Sandbox) -> SandboxView:
    """A sandbox as shown."""

    def name_network(identity: str) -> str:
        try:
            return engine.network(identity).name
        except NotFound:  # removed in the moment between
            return identity

    return show_sandbox(sandbox, name_network, show_container(engine, sandbox))


def show_container(engine: Engine, sandbox: Sandbox) -> ContainerView | None:
    """The program that linkspan runs in a sandbox; None if it runs none."""
    return None
