"""An engine that plays through what it is asked, and says what would be there then."""

from __future__ import annotations

import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any

import msgspec

from linkspan.dataplane import HOST, DataPlane, Namespace
from linkspan.drivers.firewall import TABLES
from linkspan.drivers.records import Network, Sandbox
from linkspan.engine import (
    attaching,
    connecting,
    detaching,
    live_publishing,
    policy_changes,
)
from linkspan.engine.core import Core
from linkspan.engine.engine import Engine
from linkspan.engine.entries import SANDBOXES, read_sandbox
from linkspan.engine.events import EventLog
from linkspan.engine.loading import load_records
from linkspan.engine.policies import Policy
from linkspan.engine.purging import purge
from linkspan.engine.rehearsal.model import ModelHost
from linkspan.engine.report import Report
from linkspan.engine.requests import AttachmentRequest, NetworkAttachment, NetworkRequest
from linkspan.engine.settings import Settings
from linkspan.engine.store import SqliteStore
from linkspan.engine.store.sqlite import MEMORY
from linkspan.inventory.records import HostView


class Rehearsal(Engine):
    """An engine on a model of a host.

    Everything is carried out, on the model: `dry_run` makes no difference. Containers have
    their sandboxes and run nothing; addresses of DHCP servers are left open.
    """

    _host: ModelHost

    @classmethod
    async def begin(cls, view: HostView) -> Rehearsal:
        """Take up a host where it was looked at. End with `close`.

        Where our tables are not there, a daemon's start comes first: commands need one.
        Raises StorageFailed for records that cannot be read.
        """
        stored = view.stored
        entries = dict(stored.entries) if stored else {}
        settings = msgspec.json.decode(stored.settings if stored else b"{}", type=Settings)
        store = SqliteStore(MEMORY)
        await store.transaction(entries, ())
        events = await EventLog.open(store)
        core: Core

        def name_new(identity: str) -> str:
            sandbox = core.register.sandboxes.get(identity)
            return _free_name(sandbox.name if sandbox else identity[:12], view.plane)

        sandboxes = [read_sandbox(v) for k, v in entries.items() if k.startswith(SANDBOXES)]
        host = ModelHost(view, _known_names(view, sandboxes), name_new)
        core = Core(settings, host, store, events)
        engine = cls(core, contextlib.ExitStack())
        engine._host = host
        await load_records(core)
        if any(("table", HOST, "nft", t.family, t.name) not in view.plane for t in TABLES):
            await engine._reconciler.reconcile(starting=True)
        await engine._networks.create_predefined()
        return engine

    def outcome(self) -> DataPlane:
        """The plane as it would be."""
        return self._host.outcome()

    def name_of(self, sandbox: Sandbox) -> str | None:
        """What the plane calls a sandbox's namespace; None when it has none there."""
        return HOST if sandbox.host_mode else self._host.names.get(sandbox.namespace)

    async def _finish(self, work: Coroutine[Any, Any, Any]) -> Any:
        try:
            return await work
        finally:
            await self._core.settle()

    # The same operations, without asking whether only a plan is wanted ----------------

    async def create_network(self, request: NetworkRequest, *, dry_run: bool = False) -> Network:
        """See Engine."""
        made = await super().create_network(request)
        assert isinstance(made, Network)
        return made

    async def remove_network(self, ref: str, *, dry_run: bool = False) -> None:
        """See Engine."""
        await super().remove_network(ref)

    async def prune_networks(self, *, dry_run: bool = False) -> list[Network]:
        """See Engine."""
        done = await super().prune_networks()
        assert isinstance(done, list)
        return done

    async def create_sandbox(
        self, request: AttachmentRequest, *, identity: str | None = None, dry_run: bool = False
    ) -> Sandbox:
        """See Engine. No file is written for its resolver."""
        if getattr(request, "resolv_conf", None) is not None:
            request = msgspec.structs.replace(request, resolv_conf=None)
        made = await self._finish(attaching.create_sandbox(self._core, request, identity=identity))
        assert isinstance(made, Sandbox)
        return made

    async def remove_sandbox(self, ref: str, *, force: bool = False, dry_run: bool = False) -> None:
        """See Engine. Its container, if it has one, goes with it."""
        await self._finish(detaching.remove_sandbox(self._core, ref, force=force))

    async def restore_sandbox(self, ref: str) -> Sandbox:
        """See Engine."""
        restored: Sandbox = await self._finish(attaching.restore_sandbox(self._core, ref))
        return restored

    async def connect(
        self, sandbox_ref: str, attachment: NetworkAttachment | str, *, dry_run: bool = False
    ) -> Sandbox:
        """See Engine."""
        done = await self._finish(connecting.connect(self._core, sandbox_ref, attachment))
        assert isinstance(done, Sandbox)
        return done

    async def disconnect(
        self, sandbox_ref: str, network_ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Sandbox:
        """See Engine."""
        done = await self._finish(
            connecting.disconnect(self._core, sandbox_ref, network_ref, force=force)
        )
        assert isinstance(done, Sandbox)
        return done

    async def publish(
        self, sandbox_ref: str, ports: Sequence[str], *, dry_run: bool = False
    ) -> Sandbox:
        """See Engine."""
        done = await self._finish(live_publishing.publish(self._core, sandbox_ref, ports))
        assert isinstance(done, Sandbox)
        return done

    async def unpublish(
        self, sandbox_ref: str, port: str, *, now: bool = False, dry_run: bool = False
    ) -> Sandbox:
        """See Engine."""
        done = await self._finish(
            live_publishing.unpublish(self._core, sandbox_ref, port, now=False)
        )
        assert isinstance(done, Sandbox)
        return done

    async def set_policy(
        self, name: str, values: Sequence[str] = (), *, dry_run: bool = False
    ) -> Policy:
        """See Engine."""
        done = await self._finish(policy_changes.set_policy(self._core, name, values))
        assert isinstance(done, Policy)
        return done

    async def unset_policy(self, name: str, *, dry_run: bool = False) -> None:
        """See Engine."""
        await self._finish(policy_changes.unset_policy(self._core, name))

    async def purge(self, *, dry_run: bool = False) -> Report:
        """See Engine."""
        done = await self._finish(purge(self._core))
        assert isinstance(done, Report)
        return done

    async def start_container(self, ref: str) -> Sandbox:
        """Give a container that has ended its network again."""
        sandbox = self.sandbox(ref)
        return await self.restore_sandbox(ref) if sandbox.state == "exited" else sandbox

    async def stop_container(self, ref: str) -> Sandbox:
        """Take a container's network, as when its program has ended."""
        return await self.release_sandbox(ref)


def _known_names(view: HostView, sandboxes: Sequence[Sandbox]) -> dict[str, str]:
    """What the plane calls the namespaces of sandboxes: told by id, by file, or by inode."""
    by_id = {one.id: one.namespace for one in view.containers if one.id}
    by_path = {path: name for name, path in view.paths.items() if path is not None}
    by_inode: dict[int, str] = {}
    for item in view.plane.of(Namespace):
        if item.path is not None:
            by_path.setdefault(item.path, item.namespace)
        if item.inode is not None:
            by_inode[item.inode] = item.namespace
    there = {item.namespace for item in view.plane}
    found: dict[str, str] = {}
    for sandbox in sandboxes:
        candidates = (
            by_id.get(sandbox.id),
            by_path.get(sandbox.netns),
            by_inode.get(sandbox.inode or 0),
            sandbox.name,
        )
        name = next((one for one in candidates if one in there), None)
        if name is not None and not sandbox.host_mode:
            found[sandbox.namespace] = name
    return found


def _free_name(wanted: str, plane: DataPlane) -> str:
    taken = {item.namespace for item in plane}
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name
