"""Attaching: what happens between a request and packets that flow.

Everything is checked before anything is taken. Then addresses and ports are taken, the store
is told ("allocated"), the kernel is changed, the store is told again ("up"), and the request
is answered. What fails on the way is taken back, last thing first.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Collection

import msgspec

from linkspan.dataplane import DataPlane
from linkspan.drivers.records import Sandbox
from linkspan.drivers.registry import driver
from linkspan.engine.actors import acting
from linkspan.engine.aftermath import (
    about,
    addresses_to_announce,
    announce,
    forget,
    settle_flows,
)
from linkspan.engine.allocation import allocate_endpoints
from linkspan.engine.changes import creation, removal
from linkspan.engine.core import Core
from linkspan.engine.dhcp.drafting import awaits_lease
from linkspan.engine.drafts import (
    Join,
    check_hostname,
    rejoin,
    resolve_networks,
    without_preferred,
)
from linkspan.engine.entries import write_sandbox
from linkspan.engine.foreign import ForeignNamespace, check_foreign, find_foreign
from linkspan.engine.names import check_name, generate_name
from linkspan.engine.plans import Plan
from linkspan.engine.requests import AttachmentRequest, SandboxRequest
from linkspan.engine.resolution import check_resolution, write_resolv_conf
from linkspan.engine.underlay.probing import apply_probed, retry_claimed
from linkspan.errors import Conflict, InvalidRequest
from linkspan.kernel.failpoints import reach

LONGEST_HOSTNAME = 63


async def create_sandbox(
    core: Core, request: AttachmentRequest, *, identity: str | None = None, dry_run: bool = False
) -> Sandbox | Plan:
    """Give a namespace, of ours or one that exists, its networks and ports.

    `identity` is the id it shall have; a new one by default.

    Raises InvalidRequest, NotFound, PermissionRefused, NameInUse, AddressInUse, PortInUse,
    Exhausted, Conflict, StorageFailed, KernelRefused: then nothing has changed.
    """
    if request.name is not None:
        check_name("sandbox", request.name)
        core.register.check_sandbox_name(request.name)
    hostname = check_hostname(request.hostname) if request.hostname else ""
    check_resolution(request)
    resolv_conf = request.resolv_conf if isinstance(request, SandboxRequest) else None
    async with core.gate.shared():
        joins = resolve_networks(request.networks, core.settings.default_network, core.register)
        _check_host_mode(joins, request)
        foreign = await _find_foreign(core, request)
        # From here to the register nothing waits: what is free stays free.
        name = request.name or generate_name(core.register.sandbox_ids)
        core.register.check_sandbox_name(name)
        identity = identity or secrets.token_hex(32)
        host_mode = bool(joins) and joins[0].network.driver == "host"
        sandbox = Sandbox(
            id=identity,
            name=name,
            made=foreign is None and not host_mode,
            host_mode=host_mode,
            netns=_place_of(foreign, core.settings.namespace_dir, identity, host_mode),
            inode=foreign.inode if foreign is not None else None,
            pid=foreign.pid if foreign is not None else None,
            hostname=hostname or name[:LONGEST_HOSTNAME],
            labels=request.labels,
            dns=tuple(request.dns),
            dns_search=tuple(request.dns_search),
            dns_options=tuple(request.dns_options),
            created=time.time(),
            created_by=acting(),
            kept_defaults=_kept_defaults(foreign),
        )
        taken = foreign.interfaces if foreign is not None else set()

        async def once(avoided: Collection[str]) -> Sandbox:
            core.register.check_sandbox_name(name)
            wanted = without_preferred(joins, avoided)
            allocated = _allocate_checked(core, sandbox, wanted, request.ports, taken, "attach")
            return await _bring_up(core, allocated, None, resolv_conf)

        if not dry_run:
            async with core.gate.turn(identity):
                return await retry_claimed(once)
        cursors = core.addresses.save_cursors()
        allocated = _allocate(core, sandbox, joins, request.ports, taken)
        _check_policies(core, allocated, "attach", dry_run=True)
        operations = creation(core.describe(allocated))
        core.addresses.release(allocated)
        core.addresses.reset_cursors(cursors)
        return Plan(operations, {identity: name})


async def restore_sandbox(core: Core, ref: str) -> Sandbox:
    """Bring up a sandbox whose resources were released: new addresses, the same wishes.

    Raises Conflict unless it has exited, and what `create` raises.
    """
    identity = core.register.sandbox(ref).id
    async with core.gate.on(identity):
        before = core.register.sandbox(identity)
        if before.state != "exited":
            raise Conflict(f"sandbox {before.name} is {before.state}; only one that has "
                           "exited is brought up again")  # fmt: skip
        joins = [] if before.host_mode else rejoin(before, core.register)
        empty = msgspec.structs.replace(
            before, state="allocated", endpoints=(), ports=(), inode=None
        )
        texts = [str(port) for port in before.ports]

        async def once(avoided: Collection[str]) -> Sandbox:
            wanted = without_preferred(joins, avoided)
            allocated = _allocate_checked(core, empty, wanted, texts, set(), "start")
            return await _bring_up(core, allocated, before)

        return await retry_claimed(once)


def _allocate_checked(
    core: Core, sandbox: Sandbox, joins: list[Join], ports: list[str], taken: set[str], doing: str
) -> Sandbox:
    allocated = _allocate(core, sandbox, joins, ports, taken)
    _check_policies(core, allocated, doing)
    return allocated


def _allocate(
    core: Core, sandbox: Sandbox, joins: list[Join], ports: list[str], taken: set[str]
) -> Sandbox:
    """The sandbox with endpoints, whose addresses are leased now, and published ports,
    which are not held yet.
    """
    with_interfaces = [join for join in joins if driver(join.network.driver).makes_endpoints]
    endpoints = allocate_endpoints(core.register, core.addresses, sandbox, with_interfaces, taken)
    networks = core.register.networks
    endpoints = tuple(core.parents.with_parent_mac(networks[e.network], e) for e in endpoints)
    allocated = msgspec.structs.replace(sandbox, endpoints=endpoints)
    try:
        found = core.ports.assign(ports, allocated)
    except BaseException:
        core.addresses.release(allocated)
        raise
    return msgspec.structs.replace(allocated, ports=found)


def _check_policies(core: Core, allocated: Sandbox, doing: str, *, dry_run: bool = False) -> None:
    try:
        core.check_policies(allocated, doing, dry_run=dry_run)
    except BaseException:
        core.addresses.release(allocated)
        raise


async def _bring_up(
    core: Core, sandbox: Sandbox, before: Sandbox | None, resolv_conf: str | None = None
) -> Sandbox:
    """Make an allocated sandbox true; `before` is its record while it held nothing.

    `resolv_conf` is a file that shall lead to its resolver.
    """
    async with contextlib.AsyncExitStack() as undo:
        undo.callback(core.addresses.release, sandbox)
        core.ports.hold(sandbox)
        undo.callback(core.ports.release, sandbox)
        core.register.put_sandbox(sandbox)
        if before is None:
            undo.callback(core.register.drop_sandbox, sandbox)
        else:
            undo.callback(core.register.put_sandbox, before)
        reach("attach.allocated")
        announced = {e.id: addresses_to_announce(core, e) for e in sandbox.endpoints}
        write = write_sandbox(sandbox, before)
        for endpoint in sandbox.endpoints:
            network = core.register.networks[endpoint.network]
            write.puts.update(core.addresses.cursors(network))
            write.puts.update(core.addresses.note_macs(endpoint))
        await core.save(write)
        undo.push_async_callback(forget, core, sandbox, before)
        reach("attach.stored")
        sandbox = await _change_kernel(core, sandbox, undo)
        reach("attach.applied")
        if resolv_conf is not None:
            await asyncio.to_thread(write_resolv_conf, core, sandbox, resolv_conf)
        await settle_flows(core, sandbox.ports)
        # Whoever asked is answered when there is a lease.
        answered = sandbox.answered or not awaits_lease(sandbox.endpoints)
        up = msgspec.structs.replace(sandbox, state="up", answered=answered)
        await core.save(write_sandbox(up, sandbox), about("attached", up, **_opened(core, up)))
        undo.pop_all()
    reach("attach.up")
    core.register.put_sandbox(up)
    announce(core, up, announced)
    return up


async def _change_kernel(core: Core, sandbox: Sandbox, undo: contextlib.AsyncExitStack) -> Sandbox:
    if sandbox.host_mode:
        return sandbox
    if sandbox.made:
        inode = await core.prepare_namespace(sandbox.namespace)
        undo.callback(core.host.discard_namespace, sandbox.namespace)
        sandbox = msgspec.structs.replace(sandbox, inode=inode)
        reach("attach.namespace")
    else:
        core.host.adopt(sandbox.namespace, sandbox.netns, sandbox.inode)
        undo.callback(core.host.disown, sandbox.namespace)
    plane = core.describe(sandbox)
    # Names get ready beside the kernel's work: they need nothing but the namespace.
    undo.push_async_callback(core.rename, sandbox, None)
    async with core.renaming(None, sandbox):
        await apply_probed(core, sandbox, creation(plane), sandbox.endpoints)
        undo.push_async_callback(_take_back, core, plane)
    return sandbox


async def _take_back(core: Core, plane: DataPlane) -> None:
    await core.writer.apply(removal(plane))


async def _find_foreign(core: Core, request: AttachmentRequest) -> ForeignNamespace | None:
    if not isinstance(request, SandboxRequest) or (request.netns is None and request.pid is None):
        return None
    found = await asyncio.to_thread(find_foreign, request, core.host)
    check_foreign(found, core.own_inode, core.register)
    return found


def _place_of(
    foreign: ForeignNamespace | None, directory: str, identity: str, host_mode: bool
) -> str:
    if host_mode:
        return ""
    return foreign.path if foreign is not None else f"{directory}/{identity}"


def _kept_defaults(foreign: ForeignNamespace | None) -> tuple[int, ...]:
    if foreign is None:
        return ()
    return tuple(version for version in (4, 6) if foreign.default_route(version) is not None)


def _opened(core: Core, sandbox: Sandbox) -> dict[str, str]:
    """What an attach opened, for its event."""
    names = [core.register.networks[endpoint.network].name for endpoint in sandbox.endpoints]
    networks = "host" if sandbox.host_mode else " ".join(names)
    return {"networks": networks, "ports": " ".join(map(str, sandbox.ports))}


def _check_host_mode(joins: list[Join], request: AttachmentRequest) -> None:
    if not joins or joins[0].network.driver != "host":
        return
    if request.ports:
        raise InvalidRequest(
            f"port {request.ports[0]!r} cannot be published on network host: a sandbox there uses "
            "the host's own ports; leave the port out"
        )
    if isinstance(request, SandboxRequest) and (request.netns or request.pid):
        raise InvalidRequest("network host means the host's own namespace; leave out netns and pid")
