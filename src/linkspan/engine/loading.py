"""Reading the store at start: records, leases, and who holds what."""

from __future__ import annotations

from linkspan.engine.core import Core
from linkspan.engine.entries import (
    MACS,
    NETWORKS,
    SANDBOXES,
    UPLINKS,
    holds,
    read_network,
    read_sandbox,
)
from linkspan.engine.ipam import cursor_key


async def load_records(core: Core) -> None:
    """Take in everything that the store knows. Raises StorageFailed."""
    for entry in await core.store.list(NETWORKS):
        network = read_network(entry.value)
        core.register.put_network(network)
        core.addresses.open(network)
    for network in core.register.networks.values():
        for subnet in network.subnets:
            found = await core.store.get(cursor_key(network.id, subnet.subnet))
            if found is not None:
                core.addresses.restore_cursor(network, subnet.subnet, found.value.decode())
    for entry in await core.store.list(MACS):
        _, identity, address = entry.key.split("/", 2)
        core.addresses.restore_mac(identity, address, entry.value.decode())
    core.uplinks = {e.key.removeprefix(UPLINKS) for e in await core.store.list(UPLINKS)}
    for entry in await core.store.list(SANDBOXES):
        sandbox = read_sandbox(entry.value)
        core.register.put_sandbox(sandbox)
        if holds(sandbox):
            core.addresses.restore(sandbox)
            core.ports.hold(sandbox)
