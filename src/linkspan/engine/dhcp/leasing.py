"""The leases of all endpoints: acquired when one joins, extended, lost, given back.

An endpoint joins without an address; its client then asks, and whoever joined waits for the
first lease. What a lease changes is stored before the kernel is changed, so a daemon that was
killed goes on where it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar, cast

import msgspec

from linkspan.dataplane import diff
from linkspan.drivers.records import DhcpLease, Endpoint, Network, Sandbox
from linkspan.drivers.underlay import parent_of
from linkspan.engine.aftermath import about, announce, forget_flows
from linkspan.engine.connecting import disconnect
from linkspan.engine.core import Core, log
from linkspan.engine.detaching import remove_sandbox
from linkspan.engine.dhcp.client import Client, Identity, Leased, Lost
from linkspan.engine.dhcp.drafting import awaits_lease, is_leased
from linkspan.engine.dhcp.exchange import Exchange, Frames
from linkspan.engine.entries import write_sandbox
from linkspan.engine.underlay.probing import find_claims, is_probed
from linkspan.errors import LinkspanError, NoLease

PATIENCE = 15.0
"""Seconds that whoever joins waits for a lease. Servers that ping an address before they offer
it take some 3 s of them."""
T = TypeVar("T")


class Leasing:
    """The DHCP clients of one engine. `tell` hears of sandboxes whose address has changed."""

    def __init__(self, core: Core, tell: Callable[[Sandbox], Awaitable[object]]) -> None:
        self._core, self._tell = core, tell
        self._exchanges: dict[str, Exchange] = {}
        self._first: dict[str, asyncio.Future[None]] = {}

    async def start(self) -> None:
        """Go on with all leases of the store; undo sandboxes of which nobody was told."""
        core = self._core
        for sandbox in list(core.register.sandboxes.values()):
            if sandbox.state != "up":
                continue
            try:
                if sandbox.answered or not awaits_lease(sandbox.endpoints):
                    self._keep(sandbox)
                else:
                    await remove_sandbox(core, sandbox.id, force=True)
            except LinkspanError as error:
                log.warning("the leases of %s could not be put right: %s", sandbox.name, error)

    async def joined(self, work: Awaitable[T], undo: Callable[[Sandbox], Awaitable[object]]) -> T:
        """What joining gives, with addresses when its networks lease them.

        Raises NoLease when one got none in time, after `undo`.
        """
        made = await work
        if not isinstance(made, Sandbox):
            return made
        self._keep(made)
        try:
            for endpoint in made.endpoints:
                await self._await_first(endpoint)
        except BaseException:
            await undo(made)
            raise
        now = self._core.register.sandboxes.get(made.id, made)
        return cast(T, now)

    async def release(self, endpoints: Iterable[Endpoint]) -> None:
        """See Releasing."""
        exchanges = [(e, self._exchanges.pop(e.id, None)) for e in endpoints]
        for endpoint, exchange in exchanges:
            if exchange is not None:
                await exchange.release()
                self._first.pop(endpoint.id, None)

    async def close(self) -> None:
        """Stop; leases stay as they are."""
        exchanges, self._exchanges = list(self._exchanges.values()), {}
        for exchange in exchanges:
            await exchange.stop()

    # One endpoint ---------------------------------------------------------------------

    def _keep(self, sandbox: Sandbox) -> None:
        for endpoint in sandbox.endpoints:
            network = self._core.register.networks[endpoint.network]
            if not is_leased(network) or endpoint.id in self._exchanges:
                continue
            client = Client(identify(sandbox, network, endpoint), endpoint.lease)
            exchange = Exchange(
                client, self._opener(sandbox.id, endpoint), self._outcome(sandbox.id, endpoint.id)
            )
            self._exchanges[endpoint.id] = exchange
            if endpoint.awaits_lease:
                self._first[endpoint.id] = asyncio.get_running_loop().create_future()
            exchange.start()

    def _opener(self, identity: str, endpoint: Endpoint) -> Callable[[], Frames]:
        def open_frames() -> Frames:
            core = self._core
            return core.host.open_frames(core.register.sandbox(identity).netns, endpoint.interface)

        return open_frames

    async def _await_first(self, endpoint: Endpoint) -> None:
        future = self._first.get(endpoint.id)
        if future is None:
            return
        exchange = self._exchanges[endpoint.id]
        try:
            await asyncio.wait_for(asyncio.shield(future), PATIENCE)
        except TimeoutError:
            network = self._core.register.networks[endpoint.network]
            why = exchange.trouble or exchange.client.explain()
            raise NoLease(
                f"network {network.name} gave no address by DHCP: {why} on {parent_of(network)} "
                f"within {PATIENCE:g} s; look at the segment's DHCP server, or state subnets "
                "instead of ipam dhcp"
            ) from None
        finally:
            self._first.pop(endpoint.id, None)

    async def leave(self, sandbox: Sandbox) -> None:
        """Take a sandbox off the networks that gave it no lease yet."""
        for endpoint in sandbox.endpoints:
            if endpoint.awaits_lease:
                await disconnect(self._core, sandbox.id, endpoint.network, force=True)

    # What comes of it -----------------------------------------------------------------

    def _outcome(
        self, identity: str, endpoint_id: str
    ) -> Callable[[Leased | Lost], Awaitable[str | None]]:
        async def outcome(news: Leased | Lost) -> str | None:
            found = self._find(identity, endpoint_id)
            if found is None:
                return None
            if isinstance(news, Leased):
                holder = await self._find_holder(*found, news.lease)
                if holder is not None:
                    return holder
            async with self._core.gate.on(identity):
                found = self._find(identity, endpoint_id)
                if found is not None:
                    await self._take_in(*found, news)
            return None

        return outcome

    def _find(self, identity: str, endpoint_id: str) -> tuple[Sandbox, Endpoint] | None:
        sandbox = self._core.register.sandboxes.get(identity)
        if sandbox is None or sandbox.state != "up":
            return None
        mine = [endpoint for endpoint in sandbox.endpoints if endpoint.id == endpoint_id]
        return (sandbox, mine[0]) if mine else None

    async def _find_holder(
        self, sandbox: Sandbox, endpoint: Endpoint, lease: DhcpLease
    ) -> str | None:
        """Who has a new address already (RFC 2131, section 3.1 point 5)."""
        network = self._core.register.networks[endpoint.network]
        if lease.address == endpoint.ipv4 or not is_probed(network):
            return None
        where: tuple[str | None, str] = (sandbox.netns, endpoint.interface)
        if network.driver == "ipvlan":
            where = (None, parent_of(network))
        found = await find_claims(
            self._core,
            *where,
            endpoint.mac,
            [lease.address.split("/")[0]],
            thorough=network.options.get("dad") == "full",
        )
        return next(iter(found.values()), None)

    async def _take_in(self, before: Sandbox, endpoint: Endpoint, news: Leased | Lost) -> None:
        """Store what a lease is now, and have the kernel follow."""
        core = self._core
        network = core.register.networks[endpoint.network]
        other = with_lease(endpoint, network, news.lease if isinstance(news, Leased) else None)
        endpoints = tuple(other if e.id == endpoint.id else e for e in before.endpoints)
        after = msgspec.structs.replace(
            before, endpoints=endpoints, answered=before.answered or not awaits_lease(endpoints)
        )
        change = diff(core.describe(before), core.describe(after))
        happening = about(
            describe_news(endpoint, news),
            after,
            network=network.name,
            address=news.lease.address,
            server=news.lease.server,
            **({"reason": news.why} if isinstance(news, Lost) else {}),
        )
        await core.save(write_sandbox(after, before), happening)
        core.register.put_sandbox(after)
        if change:
            await core.writer.apply(change)
            await core.rename(before, after)
            forget_flows(core, before, after)
            if other.address is not None:
                announce(core, after, {other.id: [other.address]})
            await self._tell(after)
        future = self._first.get(endpoint.id)
        if future is not None and not future.done() and isinstance(news, Leased):
            future.set_result(None)


def identify(sandbox: Sandbox, network: Network, endpoint: Endpoint) -> Identity:
    """How a sandbox introduces itself on a network: the same after every restart.

    The client identifier is an IAID and a DUID-UUID (RFC 4361, RFC 6355), made from ids.
    """
    assert endpoint.mac is not None
    duid = b"\0\4" + bytes.fromhex(sandbox.id)[:16]
    return Identity(
        mac=endpoint.mac,
        client_id=b"\xff" + bytes.fromhex(network.id)[:4] + duid,
        hostname=sandbox.hostname,
        broadcast=network.driver == "ipvlan",
    )


def with_lease(endpoint: Endpoint, network: Network, lease: DhcpLease | None) -> Endpoint:
    """An endpoint with what a lease gives it; None takes that away."""
    gateway = network.dhcp_gateway or (lease.router if lease is not None else None)
    return msgspec.structs.replace(
        endpoint,
        ipv4=lease.address if lease is not None else None,
        gateway=gateway if lease is not None and not network.internal else None,
        lease=lease,
        awaits_lease=endpoint.awaits_lease and lease is None,
    )


def describe_news(endpoint: Endpoint, news: Leased | Lost) -> str:
    """The action of the event: leased, renewed, or lease_lost."""
    if isinstance(news, Lost):
        return "lease_lost"
    return "renewed" if endpoint.ipv4 == news.lease.address else "leased"
