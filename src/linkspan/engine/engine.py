"""The engine: the one thing that doors, API and daemon talk to.

Networks and sandboxes in, kernel objects out, everything remembered. One asyncio loop.
Operations that change something go on to their end also when whoever asked has left.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar, overload

import msgspec

from linkspan.dataplane import Link
from linkspan.drivers.records import Network, Sandbox
from linkspan.engine import (
    attaching,
    connecting,
    detaching,
    live_publishing,
    policy_changes,
)
from linkspan.engine.auditing import Configuration, Hole, find_holes, route_localnet
from linkspan.engine.containers import Containers
from linkspan.engine.core import Core, log
from linkspan.engine.dhcp.leasing import Leasing
from linkspan.engine.drift import Drift
from linkspan.engine.events import EventLog
from linkspan.engine.host import HOST_PLACE, Host, KernelHost
from linkspan.engine.loading import load_records
from linkspan.engine.lock import Lock
from linkspan.engine.naming import Naming
from linkspan.engine.networks import Networks
from linkspan.engine.plans import Plan
from linkspan.engine.policies import Policy, Violation
from linkspan.engine.purging import purge, remove_files
from linkspan.engine.reconcile import Reconciler
from linkspan.engine.rehearsal.stored import read_store
from linkspan.engine.report import Report
from linkspan.engine.requests import AttachmentRequest, NetworkAttachment, NetworkRequest
from linkspan.engine.runtime.runtime import Runtime
from linkspan.engine.settings import STORE_FILE, Settings
from linkspan.engine.store import SqliteStore
from linkspan.errors import Conflict

T = TypeVar("T")


class Engine:
    """One daemon's engine. Make it with `open`, end it with `close`."""

    def __init__(self, core: Core, lock: contextlib.ExitStack) -> None:
        self._core = core
        self._lock = lock
        self._networks = Networks(core)
        self._reconciler = Reconciler(core)
        self._drift = Drift(core, self._reconciler)
        self._leasing = core.leasing = Leasing(core, self._tell_container)
        runtime = Runtime(Path(core.settings.state_dir), Path(core.settings.run_dir))
        self.containers = Containers(self, runtime, core.store, core.events)
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = self._purged = False

    @classmethod
    async def open(
        cls, settings: Settings, host: Host | None = None, naming: Naming | None = None
    ) -> Engine:
        """Take the lock, read the store, and make the host as it says.

        `host` is for tests; it is this thread's namespace otherwise. `naming` answers
        containers; without it they have no names. Raises Conflict when
        another daemon works here or with these folders, StorageFailed, KernelRefused.
        """
        with contextlib.ExitStack() as undo:
            if host is None:
                lock = Lock(settings.state_dir, settings.run_dir)
                undo.callback(lock.release)
                host = KernelHost(settings.run_dir)
            store = SqliteStore(os.path.join(settings.state_dir, STORE_FILE))
            events = await EventLog.open(store)
            core = Core(settings, host, store, events, naming)
            engine = cls(core, undo.pop_all())
        try:
            await load_records(core)
            engine._drift.watch()
            report = await engine._reconciler.reconcile(starting=True)
            for line in report.lines():
                log.info("at start: %s", line)
            await engine._networks.create_predefined()
            await engine._leasing.start()
            await engine.containers.recover()
            engine._drift.start()
        except BaseException:
            await engine.close()
            raise
        return engine

    async def close(self) -> None:
        """Finish what is under way and let go of everything. No packet is touched."""
        await self.containers.close()
        self._closing = True
        await self._drift.close()
        while self._running:
            await asyncio.wait(self._running)
        await self._leasing.close()
        await self._core.close()
        await self._core.store.close()
        if self._purged:
            remove_files(self.settings)
        self._lock.close()

    @property
    def settings(self) -> Settings:
        """What it was opened with."""
        return self._core.settings

    @property
    def events(self) -> EventLog:
        """What happened."""
        return self._core.events

    async def records(self) -> dict[str, bytes]:
        """What a rehearsal begins with: see rehearsal.stored. Raises StorageFailed."""
        return await read_store(self._core.store)

    # Networks -------------------------------------------------------------------------

    @overload
    async def create_network(
        self, request: NetworkRequest, *, dry_run: Literal[False] = False
    ) -> Network: ...
    @overload
    async def create_network(self, request: NetworkRequest, *, dry_run: bool) -> Network | Plan: ...
    async def create_network(
        self, request: NetworkRequest, *, dry_run: bool = False
    ) -> Network | Plan:
        """Make a network. See Networks.create."""
        return await self._finish(self._create_network(request, dry_run))

    def networks(self) -> list[Network]:
        """All networks, in the order in which they were made."""
        return sorted(self._core.register.networks.values(), key=lambda n: n.created)

    def network(self, ref: str) -> Network:
        """The network of this name, id, or unique beginning of an id. Raises NotFound."""
        return self._core.register.network(ref)

    def network_state(self, network: Network) -> str:
        """Whether packets pass there: "up", or why not ("parent eth1 is down")."""
        return self._core.parents.state(network)

    async def remove_network(self, ref: str, *, dry_run: bool = False) -> Plan | None:
        """Remove a network. See Networks.remove."""
        return await self._finish(self._remove_network(ref, dry_run))

    async def prune_networks(self, *, dry_run: bool = False) -> list[Network] | Plan:
        """Remove unused networks. See Networks.prune."""
        return await self._finish(self._prune_networks(dry_run))

    async def _create_network(self, request: NetworkRequest, dry_run: bool) -> Network | Plan:
        made = await self._networks.create(request, dry_run=dry_run)
        if isinstance(made, Network) and made.forwards_ipv6:
            await self._reconciler.refresh_uplinks()
        return made

    async def _remove_network(self, ref: str, dry_run: bool) -> Plan | None:
        forwarded = self.network(ref).forwards_ipv6
        plan = await self._networks.remove(ref, dry_run=dry_run)
        if forwarded and not dry_run:
            await self._reconciler.refresh_uplinks()
        return plan

    async def _prune_networks(self, dry_run: bool) -> list[Network] | Plan:
        removed = await self._networks.prune(dry_run=dry_run)
        if isinstance(removed, list) and any(network.forwards_ipv6 for network in removed):
            await self._reconciler.refresh_uplinks()
        return removed

    # Sandboxes ------------------------------------------------------------------------

    @overload
    async def create_sandbox(
        self,
        request: AttachmentRequest,
        *,
        identity: str | None = None,
        dry_run: Literal[False] = False,
    ) -> Sandbox: ...
    @overload
    async def create_sandbox(
        self, request: AttachmentRequest, *, identity: str | None = None, dry_run: bool
    ) -> Sandbox | Plan: ...
    async def create_sandbox(
        self, request: AttachmentRequest, *, identity: str | None = None, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Give a namespace its networks and ports. See attaching.create_sandbox."""
        return await self._finish(
            self._leasing.joined(
                attaching.create_sandbox(self._core, request, identity=identity, dry_run=dry_run),
                lambda made: detaching.remove_sandbox(self._core, made.id, force=True),
            )
        )

    def sandboxes(self) -> list[Sandbox]:
        """All sandboxes, in the order in which they were made."""
        return sorted(self._core.register.sandboxes.values(), key=lambda s: s.created)

    def sandbox(self, ref: str) -> Sandbox:
        """The sandbox of this name, id, or unique beginning of an id. Raises NotFound."""
        return self._core.register.sandbox(ref)

    def resolv_conf(self, sandbox: Sandbox) -> str | None:
        """The text of its /etc/resolv.conf; None when it has no resolver of ours."""
        return self._core.naming.resolv_conf(sandbox, self._core.register.networks)

    def unanswered(self) -> dict[str, str]:
        """The names of sandboxes whose questions for names nobody answers now, and why."""
        sandboxes = self._core.register.sandboxes
        found = self._core.unanswered.items()
        return {sandboxes[id].name: why for id, why in found if id in sandboxes}

    def members(self, network_ref: str) -> list[Sandbox]:
        """The sandboxes on a network, in the order in which they joined. Raises NotFound."""
        return self._core.register.members(self._core.register.network(network_ref).id)

    async def remove_sandbox(
        self, ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Plan | None:
        """Take a sandbox away, and its container. See detaching.remove_sandbox.

        Raises Conflict for a container that runs, unless with `force`.
        """
        identity = self.sandbox(ref).id
        if self.containers.owns(identity) and not dry_run:
            await self.containers.remove(identity, force=force)
            return None
        return await self._finish(
            detaching.remove_sandbox(self._core, identity, force=force, dry_run=dry_run)
        )

    async def release_sandbox(self, ref: str) -> Sandbox:
        """Take away what a sandbox holds and keep its record. See detaching.release_sandbox."""
        return await self._finish(detaching.release_sandbox(self._core, ref))

    async def restore_sandbox(self, ref: str) -> Sandbox:
        """Bring up a sandbox that has exited. See attaching.restore_sandbox."""
        return await self._finish(
            self._leasing.joined(
                attaching.restore_sandbox(self._core, ref),
                lambda made: detaching.release_sandbox(self._core, made.id),
            )
        )

    async def connect(
        self, sandbox_ref: str, attachment: NetworkAttachment | str, *, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Put a sandbox on one more network. See connecting.connect."""
        done = await self._finish(
            self._leasing.joined(
                connecting.connect(self._core, sandbox_ref, attachment, dry_run=dry_run),
                self._leasing.leave,
            )
        )
        return await self._tell_container(done)

    async def disconnect(
        self, sandbox_ref: str, network_ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Take a sandbox off a network. See connecting.disconnect."""
        done = await self._finish(
            connecting.disconnect(
                self._core, sandbox_ref, network_ref, force=force, dry_run=dry_run
            )
        )
        return await self._tell_container(done)

    async def publish(
        self, sandbox_ref: str, ports: Sequence[str], *, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Publish more ports of a sandbox that is up. See live_publishing.publish."""
        return await self._finish(
            live_publishing.publish(self._core, sandbox_ref, ports, dry_run=dry_run)
        )

    async def unpublish(
        self, sandbox_ref: str, port: str, *, now: bool = False, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Close published ports of a sandbox that is up. See live_publishing.unpublish."""
        return await self._finish(
            live_publishing.unpublish(self._core, sandbox_ref, port, now=now, dry_run=dry_run)
        )

    async def _tell_container(self, done: Sandbox | Plan) -> Sandbox | Plan:
        if isinstance(done, Sandbox) and self.containers.owns(done.id):
            await self.containers.network_changed(done.id)
        return done

    # Policies -------------------------------------------------------------------------

    def policies(self) -> list[Policy]:
        """The policies in force, by name."""
        return sorted(self._core.policies.values(), key=lambda policy: policy.name)

    def violations(self, policy: Policy) -> list[Violation]:
        """What is there already and a policy would refuse."""
        return policy_changes.list_violations(self._core, policy)

    async def set_policy(
        self, name: str, values: Sequence[str] = (), *, dry_run: bool = False
    ) -> Policy | Plan:
        """Put a policy in force. See policy_changes.set_policy."""
        return await self._finish(
            policy_changes.set_policy(self._core, name, values, dry_run=dry_run)
        )

    async def unset_policy(self, name: str, *, dry_run: bool = False) -> Plan | None:
        """Take a policy out of force. See policy_changes.unset_policy."""
        return await self._finish(policy_changes.unset_policy(self._core, name, dry_run=dry_run))

    def check_policies(self, sandbox_ref: str, doing: str) -> None:
        """Refuse to go on with a sandbox that a policy forbids. Raises PolicyRefused."""
        self._core.check_policies(self.sandbox(sandbox_ref), doing)

    async def audit(self) -> list[Hole]:
        """Every hole that configuration opened. See auditing.find_holes."""
        core = self._core
        links = [link.name for link in (await core.observe(HOST_PLACE)).of(Link)]
        paths = [route_localnet(name) for name in ("all", "default", *links)]
        records = ((s, self.containers.record(s.id)) for s in self.sandboxes())
        return find_holes(
            Configuration(
                networks={network.id: network for network in self.networks()},
                sandboxes=self.sandboxes(),
                policies=core.policies,
                privileged=frozenset(s.id for s, record in records if record and record.privileged),
                settings=await asyncio.to_thread(core.host.read_settings, paths),
            )
        )

    # The host as a whole --------------------------------------------------------------

    async def reconcile(self) -> Report:
        """Make the host as the store says; what had to be done."""
        return await self._finish(self._reconciler.reconcile())

    async def purge(self, *, dry_run: bool = False) -> Report | Plan:
        """Take everything of ours off the host, records too. Close the engine afterwards."""
        failed: tuple[str, ...] = ()
        if not dry_run:
            # What repairs a flushed firewall must not repair this.
            await self._drift.close()
            failed = await self.containers.purge()
            self._purged = True
        done = await self._finish(purge(self._core, dry_run=dry_run))
        if isinstance(done, Report) and failed:
            return msgspec.structs.replace(done, failed=(*failed, *done.failed))
        return done

    async def _finish(self, work: Coroutine[Any, Any, T]) -> T:
        """Carry an operation to its end, also when the caller is cancelled meanwhile."""
        if self._closing:
            work.close()
            raise Conflict("the daemon is ending; ask again when it is back")
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may have left; it was logged where it matters
