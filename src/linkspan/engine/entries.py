"""Records as entries of the store: which keys a change of a record writes and deletes.

networks/<id>, sandboxes/<id>     the records, as JSON
names/<kind>/<name>               the id that a name stands for
leases/<network>/<address>        the id of the sandbox that holds an address
macs/<network>/<address>          the MAC an address had, when it was not its usual one
uplinks/<interface>               an interface of the host that forwards IPv4 for us only
forwarding6/<path>                the value that a setting had before IPv6 was forwarded
unique_local                      the prefix that IPv6 subnets are cut from (RFC 4193)
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from linkspan.drivers.records import Network, Sandbox
from linkspan.engine.ipam import lease_key

_encode = msgspec.json.Encoder().encode
_network = msgspec.json.Decoder(Network)
_sandbox = msgspec.json.Decoder(Sandbox)

NETWORKS, SANDBOXES, MACS, UPLINKS = "networks/", "sandboxes/", "macs/", "uplinks/"
FORWARDING6, UNIQUE_LOCAL = "forwarding6/", "unique_local"


class Write(msgspec.Struct, frozen=True):
    """What one transaction does: values by key, and keys to delete."""

    puts: dict[str, bytes] = {}
    deletes: tuple[str, ...] = ()


def write_network(network: Network) -> Write:
    """A network that is new or has changed."""
    return Write(
        {
            NETWORKS + network.id: _encode(network),
            f"names/network/{network.name}": network.id.encode(),
        }
    )


def delete_network(network: Network) -> Write:
    """A network that is no more; the caller adds the cursors of its subnets."""
    return Write({}, (NETWORKS + network.id, f"names/network/{network.name}"))


def holds(sandbox: Sandbox) -> bool:
    """Whether the addresses and ports in the record are the sandbox's now, not just wished."""
    return sandbox.state not in ("exited", "gone")


def write_sandbox(sandbox: Sandbox, before: Sandbox | None = None) -> Write:
    """A sandbox that is new, or was `before`."""
    puts = {SANDBOXES + sandbox.id: _encode(sandbox)}
    if before is None:
        puts[f"names/sandbox/{sandbox.name}"] = sandbox.id.encode()
    held = set(_leases(before)) if before is not None and holds(before) else set()
    wanted = list(_leases(sandbox)) if holds(sandbox) else []
    for key in wanted:
        if key not in held:
            puts[key] = sandbox.id.encode()
    return Write(puts, tuple(held.difference(wanted)))


def delete_sandbox(sandbox: Sandbox) -> Write:
    """A sandbox that is no more."""
    name = f"names/sandbox/{sandbox.name}"
    return Write({}, (SANDBOXES + sandbox.id, name, *_leases(sandbox)))


def _leases(sandbox: Sandbox) -> Iterator[str]:
    for endpoint in sandbox.endpoints:
        for address in (endpoint.address, endpoint.address_ipv6):
            if address is not None:
                yield lease_key(endpoint.network, address)


def read_network(value: bytes) -> Network:
    """A network as it was written."""
    return _network.decode(value)


def read_sandbox(value: bytes) -> Sandbox:
    """A sandbox as it was written."""
    return _sandbox.decode(value)
