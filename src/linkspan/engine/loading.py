"""Reading the store at start: records, leases, and who holds what."""

from __future__ import annotations

import asyncio
import secrets

from linkspan.engine.core import Core
from linkspan.engine.entries import (
    FORWARDING6,
    MACS,
    NETWORKS,
    SANDBOXES,
    UNIQUE_LOCAL,
    UPLINKS,
    holds,
    read_network,
    read_sandbox,
)
from linkspan.engine.ipam import cursor_key, unique_local_pool
from linkspan.engine.policy_changes import load_policies


async def load_records(core: Core) -> None:
    """Take in everything that the store knows. Raises StorageFailed."""
    await load_policies(core)
    for entry in await core.store.list(NETWORKS):
        network = read_network(entry.value)
        core.register.put_network(network)
        core.addresses.open(network)
        core.parents.open(network)
    for network in core.register.networks.values():
        for subnet in network.subnets:
            found = await core.store.get(cursor_key(network.id, subnet.subnet))
            if found is not None:
                core.addresses.restore_cursor(network, subnet.subnet, found.value.decode())
    for entry in await core.store.list(MACS):
        _, identity, address = entry.key.split("/", 2)
        core.addresses.restore_mac(identity, address, entry.value.decode())
    core.cut = await asyncio.to_thread(core.host.find_cut)
    core.uplinks = {e.key.removeprefix(UPLINKS) for e in await core.store.list(UPLINKS)}
    core.forwarding6 = {
        entry.key.removeprefix(FORWARDING6): entry.value.decode()
        for entry in await core.store.list(FORWARDING6)
    }
    core.unique_local = await _load_unique_local(core)
    for entry in await core.store.list(SANDBOXES):
        sandbox = read_sandbox(entry.value)
        core.register.put_sandbox(sandbox)
        if holds(sandbox):
            core.addresses.restore(sandbox)
            core.ports.hold(sandbox)


async def _load_unique_local(core: Core) -> str:
    """The prefix of this host's IPv6 subnets, chosen once."""
    found = await core.store.get(UNIQUE_LOCAL)
    if found is not None:
        return found.value.decode()
    pool = str(unique_local_pool(secrets.token_bytes(5)))
    await core.store.transaction({UNIQUE_LOCAL: pool.encode()}, ())
    return pool
