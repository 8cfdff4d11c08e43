"""Taking everything of ours off a host: known by our marks, so also what no record knows."""

from __future__ import annotations

import asyncio
import contextlib
import os

from linkspan.dataplane import Change, DataPlane, Element, Namespace, Operation, Remove, Table
from linkspan.drivers.registry import driver
from linkspan.engine.changes import removal, subject
from linkspan.engine.comparing import find_stale, guarded_uplinks, guards6
from linkspan.engine.core import Core
from linkspan.engine.entries import holds
from linkspan.engine.forwarding6 import GUARDS, give_back_all, settings_needed
from linkspan.engine.host import HOST_PLACE
from linkspan.engine.lock import LOCK_FILE
from linkspan.engine.plans import Plan, describe_operation
from linkspan.engine.report import Report
from linkspan.engine.settings import STORE_FILE, Settings
from linkspan.engine.uplinks import forwarding, release_uplinks

PREFIXES = (
    "sandboxes/", "networks/", "names/", "leases/", "cursors/", "macs/", "uplinks/",
    "forwarding6/", "unique_local", "policies/",
)  # fmt: skip


async def purge(core: Core, *, dry_run: bool = False) -> Report | Plan:
    """Remove all links, namespaces, tables, and every record but the events.

    Interfaces of the host that forwarded only for us stop forwarding. Goes on past errors;
    they are in the report.
    """
    async with core.gate.alone():
        change = await _plan(core)
        names = core.register.names()
        if dry_run:
            return Plan(change, names)
        for sandbox in core.register.sandboxes.values():
            await core.leasing.release(sandbox.endpoints)
        await core.naming.stop()
        errors = await core.writer.run(
            lambda: core.host.apply_many([(operation,) for operation in change])
        )
        for sandbox in list(core.register.sandboxes.values()):
            core.host.disown(sandbox.namespace)
            core.register.drop_sandbox(sandbox)
        for network in list(core.register.networks.values()):
            core.register.drop_network(network)
            core.addresses.close(network)
        keys = [entry.key for prefix in PREFIXES for entry in await core.store.list(prefix)]
        await core.store.transaction(deletes=keys)
        core.uplinks, core.forwarding6 = set(), {}
        await core.events.append("daemon", "purged")
        done = [
            describe_operation(operation, names)
            for operation, error in zip(change, errors, strict=True)
            if error is None
        ]
        return Report(
            removed=tuple(done), failed=tuple(str(error) for error in errors if error is not None)
        )


async def _plan(core: Core) -> Change:
    register = core.register
    places = dict(HOST_PLACE)
    for sandbox in register.sandboxes.values():
        # What is in namespaces of ours goes with them.
        if holds(sandbox) and not sandbox.made and not sandbox.host_mode:
            places[sandbox.namespace] = sandbox.netns
    observed = await core.observe(places)
    firewall = await asyncio.to_thread(core.host.observe_firewall)
    held = await asyncio.to_thread(core.host.held_namespaces)
    guarded = guarded_uplinks(firewall) | core.uplinks
    settings = core.host.read_settings(["ipv4/ip_forward", *map(forwarding, guarded)])
    uplinks = release_uplinks(
        guarded, host_is_router=settings.get("ipv4/ip_forward") == "1", settings=settings
    )
    pieces = [core.describe(sandbox) for sandbox in register.sandboxes.values()]
    pieces += [driver(n.driver).describe_network(n) for n in register.networks.values()]
    seen: set[object] = set()
    operations: list[Operation] = []
    for operation in (
        *(operation for piece in pieces for operation in removal(piece)),
        *find_stale(observed, DataPlane(), held, set()),
        *uplinks,
        *_forwarding6(core, firewall),
        *(Remove(table) for table in firewall.of(Table)),
    ):
        item = subject(operation)
        key = ("namespace", item.namespace) if isinstance(item, Namespace) else item.key
        if key not in seen and (isinstance(item, Table) or not _falls_with_tables(item)):
            seen.add(key)
            operations.append(operation)
    return tuple(operations)


def _forwarding6(core: Core, firewall: DataPlane) -> Change:
    settings = core.host.read_settings(settings_needed((), core.forwarding6))
    return give_back_all(core.forwarding6, settings, guards6(firewall))


def _falls_with_tables(item: object) -> bool:
    return isinstance(item, Element) and item.set not in ("uplinks", *GUARDS)


def remove_files(settings: Settings) -> None:
    """The store, and what is empty of our two folders. Nothing may have the store open."""
    for name in ("", "-wal", "-shm", ".lock"):
        _unlink(os.path.join(settings.state_dir, STORE_FILE + name))
    for root in (settings.state_dir, settings.run_dir):
        _unlink(os.path.join(root, LOCK_FILE))
        for folder, _, _ in os.walk(root, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
