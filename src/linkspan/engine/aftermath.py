"""What follows a change of a sandbox: flows that must move, neighbours that must learn, events."""

from __future__ import annotations

import asyncio
import contextlib

from linkspan.drivers.records import Endpoint, PublishedPort, Sandbox
from linkspan.engine.core import Core
from linkspan.engine.entries import delete_sandbox, write_sandbox
from linkspan.engine.events import Happening


async def settle_flows(core: Core, ports: tuple[PublishedPort, ...]) -> None:
    """Make UDP flows that were there before a mapping follow it: they would never end."""
    connectionless = [port for port in ports if port.protocol == "udp"]
    if connectionless:
        await asyncio.to_thread(core.host.flush_published, connectionless)


def forget_flows(core: Core, before: Sandbox, after: Sandbox | None) -> None:
    """Flows of addresses that a sandbox has no more, forgotten after the answer."""
    if before.state == "up":
        kept = {a for e in after.endpoints for a in _addresses(e)} if after is not None else ()
        core.forget_flows(a for e in before.endpoints for a in _addresses(e) if a not in kept)


def announce(core: Core, sandbox: Sandbox, wanted: dict[str, list[str]]) -> None:
    """Tell neighbours of addresses, listed by endpoint, that their MAC is another one now."""
    for endpoint in sandbox.endpoints:
        for address in wanted.get(endpoint.id, ()):
            core.do_in_thread_later(
                "announcing an address",
                core.host.announce,
                sandbox.netns,
                endpoint.interface,
                endpoint.mac,
                address,
            )


async def forget(core: Core, sandbox: Sandbox, before: Sandbox | None) -> None:
    """Take a sandbox back out of the store; a full disk leaves that to the next start."""
    with contextlib.suppress(Exception):
        if before is None:
            await core.save(delete_sandbox(sandbox))
        else:
            await core.save(write_sandbox(before, sandbox))


def about(action: str, sandbox: Sandbox, **attributes: str) -> Happening:
    """What happened to a sandbox."""
    return Happening(
        type="sandbox",
        action=action,
        name=sandbox.name,
        object_id=sandbox.id,
        attributes=attributes,
    )


def _addresses(endpoint: Endpoint) -> list[str]:
    return [a for a in (endpoint.address, endpoint.address_ipv6) if a is not None]
