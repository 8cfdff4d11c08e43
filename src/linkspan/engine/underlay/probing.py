"""Duplicate address detection: an address of a physical segment is used when nobody has it.

The link is made first, without addresses, and asks from where the container will be: other
links on the same parent hear it too. Nothing waits in a thread meanwhile, so many attaches
ask at once, and the kernel's writer goes on with other changes.
"""

from __future__ import annotations

import asyncio
import errno
import random
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol, TypeVar

from linkspan.dataplane import Add, Change, Link, Operation, Remove, Replace, Sysctl
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.drivers.underlay import (
    is_routed,
    is_underlay,
    leads_nowhere,
    parent_of,
)
from linkspan.engine.changes import subject
from linkspan.engine.core import Core
from linkspan.engine.underlay.parents import as_parent
from linkspan.errors import AddressInUse, Conflict, KernelRefused

T = TypeVar("T")
_VANISHED = frozenset((errno.EINVAL, errno.ENODEV, errno.ENOENT))
"""What the kernel says of a master that is not there."""
MOST_CLAIMED = 16
"""Addresses of others in a row after which no further one is tried."""
PROBES, SPACING, LISTENING = 2, 0.05, 0.05
"""The short way: two probes, seconds between them and after the last, 100 ms in all."""


class Claimed(AddressInUse):
    """Somebody else on the segment has an address. `asked` when it was asked for by value."""

    def __init__(self, message: str, address: str, *, asked: bool) -> None:
        super().__init__(message)
        self.address = address
        self.asked = asked


class Prober(Protocol):
    """See kernel.probing.Prober."""

    def send(self) -> None:
        """Ask for every address once."""
        ...

    def read(self) -> Mapping[str, str]:
        """Who answered since the last call: MAC by address."""
        ...

    def close(self) -> None:
        """End it. Blocks."""
        ...


async def retry_claimed(once: Callable[[Collection[str]], Awaitable[T]]) -> T:
    """Do something again while addresses that were chosen for it turn out to be others'.

    `once` is given those that did. Raises AddressInUse.
    """
    avoided: list[str] = []
    while True:
        try:
            return await once(avoided)
        except Claimed as claimed:
            if claimed.asked:
                raise
            avoided.append(claimed.address)
            if len(avoided) == MOST_CLAIMED:
                raise AddressInUse(
                    f"{claimed}; so do {len(avoided) - 1} addresses before it: other hosts use "
                    "this part of the subnet, so make the network with an --ip-range that is free"
                ) from None


async def apply_probed(
    core: Core, sandbox: Sandbox, change: Change, endpoints: Sequence[Endpoint]
) -> None:
    """Carry out the change that makes endpoints, their addresses when they are known to be
    free. Raises AddressInUse, Conflict where a parent is not up, KernelRefused: then nothing
    has changed.
    """
    on_segments = [
        (core.register.networks[endpoint.network], endpoint)
        for endpoint in endpoints
        if is_underlay(core.register.networks[endpoint.network])
    ]
    for network, _ in on_segments:
        await check_parent_is_up(core, network)
    probed = [(network, endpoint) for network, endpoint in on_segments if is_probed(network)]
    if not probed:
        await _apply_bridged(core, change, endpoints)
        return
    first, rest = cut(change, {endpoint.interface for _, endpoint in probed}, sandbox.namespace)
    await core.writer.apply(first)
    try:
        own = await asyncio.to_thread(core.host.addresses)
        await asyncio.gather(
            *(_check_free(core, sandbox, network, endpoint, own) for network, endpoint in probed)
        )
        await core.writer.apply(rest)
    except BaseException:
        await asyncio.shield(core.writer.apply(inverse(first)))
        raise


async def _apply_bridged(core: Core, change: Change, endpoints: Sequence[Endpoint]) -> None:
    """Carry a change out; a bridge that somebody removed meanwhile is named."""
    try:
        await core.writer.apply(change)
    except KernelRefused as error:
        if error.errno not in _VANISHED:
            raise
        for network in (core.register.networks[endpoint.network] for endpoint in endpoints):
            if network.interface and not core.host.has_link(network.interface):
                raise Conflict(
                    f"the bridge {network.interface} of network {network.name} has vanished; it "
                    "is made again by itself: try once more"
                ) from None
        raise


async def check_parent_is_up(core: Core, network: Network) -> None:
    """Conflict that says what is wrong with a network's parent, if anything is."""
    name = parent_of(network)
    link = await asyncio.to_thread(core.host.link, name)
    core.parents.note(name, as_parent(link) if link is not None else None)
    state = core.parents.state(network)
    if link is None or not link.up:
        advice = f"`ip link set {name} up`" if link is not None else "plug it in or make it"
        raise Conflict(f"network {network.name} cannot be joined: {state}; {advice}")


def is_probed(network: Network) -> bool:
    """Whether addresses of a network are tried before they are used.

    Not where nobody resolves addresses (ipvlan l3), and where nobody else can be.
    """
    if is_routed(network) or leads_nowhere(network):
        return False
    return network.options.get("dad", "probe") != "off"


def cut(change: Change, links: Collection[str], namespace: str) -> tuple[Change, Change]:
    """A change in two: up to these links of a namespace, with their settings, and the rest."""
    ends = [
        place
        for place, operation in enumerate(change)
        if isinstance(item := subject(operation), Link)
        and item.namespace == namespace
        and item.name in links
    ]
    end = max(ends, default=-1) + 1
    settings = [
        operation
        for operation in change[end:]
        if isinstance(item := subject(operation), Sysctl)
        and item.namespace == namespace
        and item.path.split("/")[2] in links
    ]
    rest = [operation for operation in change[end:] if operation not in settings]
    return (*change[:end], *settings), tuple(rest)


def inverse(change: Change) -> Change:
    """The change that takes another back."""
    back: list[Operation] = []
    for operation in reversed(change):
        match operation:
            case Add(item):
                if not isinstance(item, Sysctl):
                    back.append(Remove(item))
            case Remove(item):
                back.append(Add(item))
            case Replace(old, new):
                back.append(Replace(new, old))
    return tuple(back)


async def _check_free(
    core: Core, sandbox: Sandbox, network: Network, endpoint: Endpoint, own: Collection[str]
) -> None:
    """Raise Claimed for the first address that is another's, or the host's own."""
    addresses = [a for a in (endpoint.address, endpoint.address_ipv6) if a is not None]
    for address in addresses:
        if address in own:
            # The host does not hear what members of its own parent ask.
            raise _claimed(network, endpoint, address, "this host itself")
    thorough = network.options.get("dad") == "full"
    if network.driver == "ipvlan":
        # An answer goes to the parent's MAC, and no member has the address yet: the kernel
        # gives it to the host alone (ipvlan_addr_lookup finds nobody).
        where: tuple[str | None, str] = (None, parent_of(network))
    else:
        where = (sandbox.netns, endpoint.interface)
    found = await find_claims(core, *where, endpoint.mac, addresses, thorough=thorough)
    for address, mac in found.items():
        raise _claimed(network, endpoint, address, mac)


def _claimed(network: Network, endpoint: Endpoint, address: str, holder: str) -> Claimed:
    asked = ("ipv6" if ":" in address else "ipv4") in endpoint.fixed
    advice = "; choose another, or leave it out to have a free one chosen" if asked else ""
    return Claimed(
        f"address {address} of network {network.name} is in use on {parent_of(network)}: "
        f"{holder} has it{advice}",
        address,
        asked=asked,
    )


async def find_claims(
    core: Core,
    path: str | None,
    interface: str,
    mac: str | None,
    addresses: Sequence[str],
    *,
    thorough: bool,
) -> dict[str, str]:
    """Ask a segment for addresses: the MAC of who has one, by address.

    `path` holds the namespace of the interface, None is the host's. A link without a MAC
    cannot ask.
    """
    if mac is None or not addresses:
        return {}
    prober = await asyncio.to_thread(core.host.open_prober, path, interface, mac, addresses)
    try:
        return await _listen(prober, waits(thorough, {":" in a for a in addresses}))
    finally:
        core.do_in_thread_later("closing a probe", prober.close)


def waits(thorough: bool, versions: Collection[bool]) -> list[float]:
    """Seconds before each probe, and after the last one.

    The thorough way for IPv4 is RFC 5227, section 1.1: three probes, up to 1 s before the
    first, 1 to 2 s between them, 2 s after the last; for IPv6 alone RFC 4862: up to 1 s, one
    probe (DupAddrDetectTransmits), 1 s (RetransTimer).
    """
    if not thorough:
        return [0.0, *[SPACING] * (PROBES - 1), LISTENING]
    if False not in versions:
        return [random.uniform(0, 1), 1.0]
    return [random.uniform(0, 1), random.uniform(1, 2), random.uniform(1, 2), 2.0]


async def _listen(prober: Prober, schedule: Sequence[float]) -> dict[str, str]:
    found: dict[str, str] = {}
    for place, wait in enumerate(schedule):
        end = asyncio.get_running_loop().time() + wait
        while not found and (left := end - asyncio.get_running_loop().time()) > 0:
            # Answers come within a millisecond or never: looking again and again costs less
            # than registering a descriptor for each.
            await asyncio.sleep(min(left, SPACING / 5))
            found |= prober.read()
        if found or place == len(schedule) - 1:
            break
        prober.send()
    return found or dict(prober.read())
