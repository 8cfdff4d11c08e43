"""Putting a sandbox on one more network, and taking it off one, while packets flow.

Published ports lead to the endpoint that carries the default route. Where that becomes
another one, they follow it in the same change.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Collection

import msgspec

from linkspan.dataplane import Change, diff
from linkspan.drivers.records import Endpoint, Opening, Sandbox
from linkspan.drivers.registry import driver
from linkspan.drivers.sandbox import publishing_endpoint
from linkspan.engine.actors import acting
from linkspan.engine.aftermath import (
    about,
    addresses_to_announce,
    announce,
    forget,
    forget_flows,
    settle_flows,
)
from linkspan.engine.allocation import allocate_endpoint
from linkspan.engine.core import Core
from linkspan.engine.drafts import Join, resolve_network
from linkspan.engine.entries import write_sandbox
from linkspan.engine.foreign import ForeignNamespace
from linkspan.engine.plans import Plan
from linkspan.engine.requests import NetworkAttachment
from linkspan.engine.underlay.probing import apply_probed, retry_claimed
from linkspan.engine.unlinking import apply_and_unlink
from linkspan.errors import Conflict, InvalidRequest, NotFound
from linkspan.kernel.failpoints import reach


async def connect(
    core: Core, ref: str, attachment: NetworkAttachment | str, *, dry_run: bool = False
) -> Sandbox | Plan:
    """Put a sandbox on one more network. Raises as `create` does, and Conflict."""
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        before = _changeable(core, identity)
        join = resolve_network(attachment, core.register)
        if not driver(join.network.driver).makes_endpoints:
            raise InvalidRequest(
                f"network {join.network.name} (driver {join.network.driver}) cannot be "
                "connected to: it gives no interface"
            )
        if any(endpoint.network == join.network.id for endpoint in before.endpoints):
            raise Conflict(f"{before.name} is already on network {join.network.name}")
        taken = {endpoint.interface for endpoint in before.endpoints}
        if not before.made:
            seen = await core.observe({before.namespace: before.netns})
            taken |= ForeignNamespace(before.netns, before.inode or 0, seen).interfaces
            join = resolve_network(attachment, core.register)

        async def once(_: Collection[str]) -> Sandbox | Plan:
            return await _connect_once(core, before, join, taken, dry_run=dry_run)

        return await retry_claimed(once)


async def _connect_once(
    core: Core, before: Sandbox, join: Join, taken: set[str], *, dry_run: bool
) -> Sandbox | Plan:
    cursors = core.addresses.save_cursors() if dry_run else {}
    endpoint = core.parents.with_parent_mac(
        join.network, allocate_endpoint(core.register, core.addresses, before, join, taken)
    )
    opening = Opening(at=time.time(), by=acting())
    after = msgspec.structs.replace(
        before,
        endpoints=(*before.endpoints, endpoint),
        openings={**before.openings, endpoint.network: opening},
    )
    try:
        core.check_policies(after, "connect", dry_run=dry_run)
    except BaseException:
        core.addresses.release(after, before)
        raise
    change = diff(core.describe(before), core.describe(after))
    if dry_run:
        core.addresses.release(after, before)
        core.addresses.reset_cursors(cursors)
        return Plan(change, {before.id: before.name})
    return await _connect(core, before, after, endpoint, change)


async def _connect(
    core: Core, before: Sandbox, after: Sandbox, endpoint: Endpoint, change: Change
) -> Sandbox:
    network = core.register.networks[endpoint.network]
    async with contextlib.AsyncExitStack() as undo:
        undo.callback(core.addresses.release, after, before)
        core.register.put_sandbox(after)
        undo.callback(core.register.put_sandbox, before)
        announced = {endpoint.id: addresses_to_announce(core, endpoint)}
        write = write_sandbox(after, before)
        write.puts.update(core.addresses.cursors(network))
        write.puts.update(core.addresses.note_macs(endpoint))
        back = diff(core.describe(after), core.describe(before))
        await core.save(write, about("connected", after, network=network.name))
        undo.push_async_callback(forget, core, after, before)
        reach("connect.stored")
        await apply_probed(core, after, change, (endpoint,))
        undo.push_async_callback(core.writer.apply, back)
        undo.push_async_callback(core.rename, after, before)
        await core.rename(before, after)
        reach("connect.applied")
        if _published_at(before) != _published_at(after):
            await settle_flows(core, after.ports)
        undo.pop_all()
    announce(core, after, announced)
    return after


async def disconnect(
    core: Core, ref: str, network_ref: str, *, force: bool = False, dry_run: bool = False
) -> Sandbox | Plan:
    """Take a sandbox off a network; with `force` also where the kernel refuses.

    Raises NotFound when it is not on it, Conflict when it is not up.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        before = _changeable(core, identity)
        network = core.register.network(network_ref)
        left = tuple(e for e in before.endpoints if e.network != network.id)
        if len(left) == len(before.endpoints):
            raise NotFound(f"{before.name} is not on network {network.name}")
        openings = {what: by for what, by in before.openings.items() if what != network.id}
        after = msgspec.structs.replace(before, endpoints=left, openings=openings)
        change = diff(core.describe(before), core.describe(after))
        if dry_run:
            return Plan(change, {before.id: before.name})
        await core.leasing.release(e for e in before.endpoints if e.network == network.id)
        with contextlib.suppress(*((Exception,) if force else ())):
            await apply_and_unlink(core, change, core.describe(before))
        await core.rename(before, after)
        reach("disconnect.applied")
        await core.save(
            write_sandbox(after, before), about("disconnected", after, network=network.name)
        )
        core.register.put_sandbox(after)
        core.addresses.release(before, after)
        if _published_at(before) != _published_at(after):
            await settle_flows(core, after.ports)
        forget_flows(core, before, after)
        return after


def _changeable(core: Core, identity: str) -> Sandbox:
    sandbox = core.register.sandbox(identity)
    if sandbox.host_mode:
        raise Conflict(
            f"{sandbox.name} uses the host's own network and cannot be on another as well"
        )
    if sandbox.state != "up":
        raise Conflict(f"sandbox {sandbox.name} is {sandbox.state}; its networks cannot change")
    return sandbox


def _published_at(sandbox: Sandbox) -> tuple[str | None, str | None]:
    """Where published ports lead, for both IP versions."""
    chosen = publishing_endpoint(sandbox, 4), publishing_endpoint(sandbox, 6)
    return (
        chosen[0].address if chosen[0] else None,
        chosen[1].address_ipv6 if chosen[1] else None,
    )
