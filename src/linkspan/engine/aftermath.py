"""What follows a change of a sandbox: flows that must move, neighbours that must learn, events."""

from __future__ import annotations

import asyncio
import contextlib

from linkspan.drivers.records import Endpoint, PublishedPort, Sandbox
from linkspan.drivers.underlay import is_routed, is_underlay
from linkspan.engine.core import Core
from linkspan.engine.entries import delete_sandbox, write_sandbox
from linkspan.engine.events import Happening


async def settle_flows(core: Core, ports: tuple[PublishedPort, ...]) -> None:
    """Make flows that were there before a mapping follow it: those of UDP, which would never
    end, and those that were cut off when a port was closed.
    """
    connectionless = [port for port in ports if port.protocol == "udp"]
    if connectionless:
        await asyncio.to_thread(core.host.flush_published, connectionless)
    if core.cut:
        again = [port for port in ports if any(covers(port, cut) for cut in core.cut)]
        if again:
            await asyncio.to_thread(core.host.forget_cut, again)
            core.cut = {cut for cut in core.cut if not any(covers(p, cut) for p in again)}


def covers(port: PublishedPort, host_port: tuple[str, int]) -> bool:
    """Whether a published port, or range, includes a protocol and port of the host."""
    protocol, number = host_port
    return port.protocol == protocol and port.host_port <= number <= port.host_port_end


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


def addresses_to_announce(core: Core, endpoint: Endpoint) -> list[str]:
    """Which addresses of a new endpoint its neighbours must hear of.

    On a physical segment all: switches learn the port, and others may have known the address.
    """
    network = core.register.networks[endpoint.network]
    if is_underlay(network):
        return [] if is_routed(network) else _addresses(endpoint)
    return core.addresses.needs_announcement(endpoint)


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
