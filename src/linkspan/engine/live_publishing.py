"""Ports published and closed while the sandbox is up: nothing else of it is touched.

What is opened is in the store before it is open, with who opened it; what is closed is closed
before the store says so. Either is taken back when the second half fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Sequence

import msgspec

from linkspan.dataplane import Change, diff
from linkspan.drivers.bridge import gateway_mode
from linkspan.drivers.records import Opening, PublishedPort, Sandbox
from linkspan.drivers.sandbox import publishing_endpoint
from linkspan.engine.actors import acting
from linkspan.engine.aftermath import settle_flows
from linkspan.engine.core import Core
from linkspan.engine.cutting import Lead
from linkspan.engine.entries import write_sandbox
from linkspan.engine.events import Happening
from linkspan.engine.plans import Plan
from linkspan.engine.publishing import close_ports
from linkspan.errors import Conflict, InvalidRequest
from linkspan.kernel.failpoints import reach


async def publish(
    core: Core, ref: str, texts: Sequence[str], *, dry_run: bool = False
) -> Sandbox | Plan:
    """Publish more ports of a sandbox that is up.

    Raises NotFound, Conflict unless it is up, and InvalidRequest, PortInUse, Exhausted,
    PolicyRefused, StorageFailed, KernelRefused: then nothing has changed.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        before = _changeable(core, identity)
        if not texts:
            raise InvalidRequest("no port is named; write one like 8443:443")
        found = core.ports.assign(texts, before)
        opening = Opening(at=time.time(), by=acting())
        after = msgspec.structs.replace(
            before,
            ports=(*before.ports, *found),
            openings={**before.openings, **{str(port): opening for port in found}},
        )
        core.check_policies(after, "publish", dry_run=dry_run)
        change = _difference(core, before, (), found)
        if dry_run:
            return Plan(change, {before.id: before.name})
        async with contextlib.AsyncExitStack() as undo:
            core.ports.enter(found, before.name)
            undo.callback(core.ports.take_out, found)
            await core.save(write_sandbox(after, before), *_about("published", after, found))
            undo.push_async_callback(_take_back, core, before, found)
            reach("publish.stored")
            await core.writer.apply(change)
            undo.push_async_callback(core.writer.apply, _difference(core, before, found, ()))
            reach("publish.applied")
            await settle_flows(core, found)
            undo.pop_all()
        core.register.put_sandbox(after)
        return after


async def unpublish(
    core: Core, ref: str, text: str, *, now: bool = False, dry_run: bool = False
) -> Sandbox | Plan:
    """Close published ports for new connections; `now` ends the established ones as well.

    Raises NotFound when it is not published, Conflict unless the sandbox is up, InvalidRequest,
    StorageFailed, KernelRefused.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        before = _changeable(core, identity)
        closing = close_ports(text, before.ports, before.name)
        parts = tuple(part for part, _ in closing.remaining)
        after = _without(before, closing.affected, closing.remaining)
        change = _difference(core, before, closing.affected, parts)
        if dry_run:
            return Plan(change, {before.id: before.name})
        async with contextlib.AsyncExitStack() as undo:
            await core.writer.apply(change)
            back = _difference(core, before, parts, closing.affected)
            undo.push_async_callback(core.writer.apply, back)
            reach("unpublish.applied")
            happenings = _about("unpublished", after, closing.closed, now="true" if now else "")
            await core.save(write_sandbox(after, before), *happenings)
            undo.pop_all()
        reach("unpublish.stored")
        core.register.put_sandbox(after)
        core.ports.take_out(closing.affected)
        core.ports.enter(parts, after.name)
        if now:
            leads = [lead for port in closing.closed if (lead := _find_lead(core, after, port))]
            core.cut |= await asyncio.to_thread(core.host.cut_published, leads, after.netns)
        reach("unpublish.cut")
        return after


def _changeable(core: Core, identity: str) -> Sandbox:
    sandbox = core.register.sandbox(identity)
    if sandbox.host_mode:
        raise Conflict(
            f"{sandbox.name} uses the host's own network: what it listens on is open already, "
            "and nothing can be published or closed for it"
        )
    if sandbox.state != "up":
        raise Conflict(
            f"sandbox {sandbox.name} is {sandbox.state}; ports are published and closed while "
            "it is up"
        )
    return sandbox


def _difference(
    core: Core,
    sandbox: Sandbox,
    before: tuple[PublishedPort, ...],
    after: tuple[PublishedPort, ...],
) -> Change:
    """The change from some published ports to others. What else the sandbox publishes does not
    matter, but where it leads to the same ports inside: they may have something in common.
    """
    touched = (*before, *after)
    beside = tuple(
        port
        for port in sandbox.ports
        if port not in touched and any(_meet_inside(port, other) for other in touched)
    )
    return diff(
        core.describe(msgspec.structs.replace(sandbox, ports=(*beside, *before))),
        core.describe(msgspec.structs.replace(sandbox, ports=(*beside, *after))),
    )


def _meet_inside(one: PublishedPort, other: PublishedPort) -> bool:
    return (
        one.protocol == other.protocol and one.port <= other.port_end and other.port <= one.port_end
    )


def _without(
    sandbox: Sandbox,
    affected: tuple[PublishedPort, ...],
    remaining: tuple[tuple[PublishedPort, PublishedPort], ...],
) -> Sandbox:
    """The sandbox when ports are closed; what remains of a range keeps who opened it."""
    openings = dict(sandbox.openings)
    for part, whole in remaining:
        if str(whole) in sandbox.openings:
            openings[str(part)] = sandbox.openings[str(whole)]
    for port in affected:
        openings.pop(str(port), None)
    ports: list[PublishedPort] = []
    for port in sandbox.ports:
        if port in affected:
            ports += [part for part, whole in remaining if whole == port]
        else:
            ports.append(port)
    return msgspec.structs.replace(sandbox, ports=tuple(ports), openings=openings)


def _find_lead(core: Core, sandbox: Sandbox, port: PublishedPort) -> Lead | None:
    """Where a published port leads; None where it leads nowhere."""
    version = 6 if ":" in port.host_ip else 4
    chosen = publishing_endpoint(sandbox, version)
    if chosen is None:
        return None
    inside = chosen.ipv4 if version == 4 else chosen.ipv6
    if inside is None:
        return None
    options = core.register.networks[chosen.network].options
    return Lead(port=port, inside=inside, routed=gateway_mode(options, version) == "routed")


async def _take_back(core: Core, before: Sandbox, ports: tuple[PublishedPort, ...]) -> None:
    """Say in the store that ports were not opened after all; on a full disk the next start
    finds them stored, and opens them.
    """
    with contextlib.suppress(Exception):
        await core.save(
            write_sandbox(before, before),
            *_about("unpublished", before, ports, reason="publishing failed"),
        )


def _about(
    action: str, sandbox: Sandbox, ports: Sequence[PublishedPort], **attributes: str
) -> list[Happening]:
    return [
        Happening(
            type="port",
            action=action,
            name=sandbox.name,
            object_id=sandbox.id,
            attributes={"port": str(port), **{k: v for k, v in attributes.items() if v}},
        )
        for port in ports
    ]
