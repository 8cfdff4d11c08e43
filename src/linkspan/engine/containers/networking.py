"""What containers need of the engine, and no more: sandboxes made, released, restored, removed."""

from __future__ import annotations

from typing import Literal, Protocol, overload

from linkspan.drivers.records import Sandbox
from linkspan.engine.plans import Plan
from linkspan.engine.requests import SandboxRequest


class Networking(Protocol):
    """What containers ask of the engine."""

    def sandbox(self, ref: str) -> Sandbox:
        """The sandbox of this name or id; NotFound when there is none."""
        ...

    def resolv_conf(self, sandbox: Sandbox) -> str | None:
        """The text of its /etc/resolv.conf; None when it has no resolver of ours."""
        ...

    @overload
    async def create_sandbox(
        self,
        request: SandboxRequest,
        *,
        identity: str | None = None,
        dry_run: Literal[False] = False,
    ) -> Sandbox: ...
    @overload
    async def create_sandbox(
        self, request: SandboxRequest, *, identity: str | None = None, dry_run: bool
    ) -> Sandbox | Plan: ...
    async def create_sandbox(
        self, request: SandboxRequest, *, identity: str | None = None, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Make a sandbox with this id, up; or the plan of it."""
        ...

    def check_policies(self, sandbox_ref: str, doing: str) -> None:
        """PolicyRefused when a policy forbids what the sandbox is."""
        ...

    async def release_sandbox(self, ref: str) -> object:
        """Take its network, addresses and ports away; its record and wishes stay."""
        ...

    async def restore_sandbox(self, ref: str) -> Sandbox:
        """Give a released sandbox its network again."""
        ...

    async def remove_sandbox(self, ref: str, *, force: bool = False) -> object:
        """Take everything of a sandbox away."""
        ...
