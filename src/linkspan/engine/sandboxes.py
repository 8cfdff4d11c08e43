"""Sandboxes: made, taken away, put on networks and taken off them.

Every operation follows one order. Everything is checked before anything is taken. Attaching:
take addresses and ports, store, change the kernel, store that it is up, answer. Detaching is
the reverse. What fails on the way is taken back.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time

import msgspec

from linkspan.dataplane import Change, diff
from linkspan.drivers.records import Endpoint, PublishedPort, Sandbox
from linkspan.drivers.sandbox import gateway_endpoint
from linkspan.engine.allocation import allocate_endpoint, allocate_endpoints
from linkspan.engine.changes import creation, removal
from linkspan.engine.core import Core
from linkspan.engine.drafts import (
    Join,
    check_hostname,
    rejoin,
    resolve_network,
    resolve_networks,
    without_addresses,
)
from linkspan.engine.entries import delete_sandbox, holds, write_sandbox
from linkspan.engine.events import Happening
from linkspan.engine.foreign import ForeignNamespace, check_foreign, find_foreign
from linkspan.engine.names import check_name, generate_name
from linkspan.engine.plans import Plan
from linkspan.engine.requests import AttachmentRequest, NetworkAttachment, SandboxRequest
from linkspan.errors import Conflict, InvalidRequest, NotFound
from linkspan.kernel.failpoints import reach

LONGEST_HOSTNAME = 63


class Sandboxes:
    """The operations on sandboxes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    # Making ---------------------------------------------------------------------------

    async def create(
        self, request: AttachmentRequest, *, identity: str | None = None, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Give a namespace, of ours or one that exists, its networks and ports.

        `identity` is the id it shall have; a new one by default.

        Raises InvalidRequest, NotFound, PermissionRefused, NameInUse, AddressInUse, PortInUse,
        Exhausted, Conflict, StorageFailed, KernelRefused: then nothing has changed.
        """
        core = self._core
        if request.name is not None:
            check_name("sandbox", request.name)
            core.register.check_sandbox_name(request.name)
        hostname = check_hostname(request.hostname) if request.hostname else ""
        async with core.gate.shared():
            joins = resolve_networks(request.networks, core.settings.default_network, core.register)
            _check_host_mode(joins, request)
            foreign = await self._find_foreign(request)
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
                created=time.time(),
                kept_defaults=_kept_defaults(foreign),
            )
            taken = foreign.interfaces if foreign is not None else set()
            cursors = core.addresses.save_cursors() if dry_run else {}
            allocated = self._allocate(sandbox, joins, request.ports, taken)
            if dry_run:
                operations = creation(core.describe(allocated))
                core.addresses.release(allocated)
                core.addresses.reset_cursors(cursors)
                return Plan(operations, {identity: name})
            return await self._bring_up(allocated, None)

    def _allocate(
        self, sandbox: Sandbox, joins: list[Join], ports: list[str], taken: set[str]
    ) -> Sandbox:
        """The sandbox with endpoints, whose addresses are leased now, and published ports,
        which are not held yet.
        """
        core = self._core
        with_interfaces = [join for join in joins if join.network.interface]
        endpoints = allocate_endpoints(
            core.register, core.addresses, sandbox, with_interfaces, taken
        )
        allocated = msgspec.structs.replace(sandbox, endpoints=endpoints)
        try:
            found = core.ports.assign(ports, allocated)
        except BaseException:
            core.addresses.release(allocated)
            raise
        return msgspec.structs.replace(allocated, ports=found)

    async def _bring_up(self, sandbox: Sandbox, before: Sandbox | None) -> Sandbox:
        """Make an allocated sandbox true; `before` is its record while it held nothing."""
        core = self._core
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
            announced = {e.id: core.addresses.needs_announcement(e) for e in sandbox.endpoints}
            write = write_sandbox(sandbox, before)
            for endpoint in sandbox.endpoints:
                network = core.register.networks[endpoint.network]
                write.puts.update(core.addresses.cursors(network))
                write.puts.update(core.addresses.note_macs(endpoint))
            await core.save(write)
            undo.push_async_callback(self._forget, sandbox, before)
            reach("attach.stored")
            sandbox = await self._change_kernel(sandbox, undo)
            reach("attach.applied")
            await self._settle_flows(sandbox.ports)
            up = msgspec.structs.replace(sandbox, state="up")
            await core.save(write_sandbox(up, sandbox), about("attached", up))
            undo.pop_all()
        reach("attach.up")
        core.register.put_sandbox(up)
        self._announce(up, announced)
        return up

    async def _change_kernel(self, sandbox: Sandbox, undo: contextlib.AsyncExitStack) -> Sandbox:
        core = self._core
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
        await core.writer.apply(creation(plane))
        undo.push_async_callback(core.writer.apply, removal(plane))
        return sandbox

    async def _forget(self, sandbox: Sandbox, before: Sandbox | None) -> None:
        """Take a sandbox back out of the store; a full disk leaves that to the next start."""
        with contextlib.suppress(Exception):
            if before is None:
                await self._core.save(delete_sandbox(sandbox))
            else:
                await self._core.save(write_sandbox(before, sandbox))

    async def restore(self, ref: str) -> Sandbox:
        """Bring up a sandbox whose resources were released: new addresses, the same wishes.

        Raises Conflict unless it has exited, and what `create` raises.
        """
        core = self._core
        async with core.gate.on(core.register.sandbox(ref).id):
            before = core.register.sandbox(ref)
            if before.state != "exited":
                raise Conflict(f"sandbox {before.name} is {before.state}; only one that has "
                               "exited is brought up again")  # fmt: skip
            joins = [] if before.host_mode else rejoin(before, core.register)
            empty = msgspec.structs.replace(
                before, state="allocated", endpoints=(), ports=(), inode=None
            )
            texts = [str(port) for port in before.ports]
            allocated = self._allocate(empty, joins, texts, set())
            return await self._bring_up(allocated, before)

    # Changing -------------------------------------------------------------------------

    async def connect(
        self, ref: str, attachment: NetworkAttachment | str, *, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Put a sandbox on one more network. Raises as `create` does, and Conflict."""
        core = self._core
        async with core.gate.on(core.register.sandbox(ref).id):
            before = self._changeable(ref)
            join = resolve_network(attachment, core.register)
            if not join.network.interface:
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
            cursors = core.addresses.save_cursors() if dry_run else {}
            endpoint = allocate_endpoint(core.register, core.addresses, before, join, taken)
            after = msgspec.structs.replace(before, endpoints=(*before.endpoints, endpoint))
            change = diff(core.describe(before), core.describe(after))
            if dry_run:
                core.addresses.release(after, before)
                core.addresses.reset_cursors(cursors)
                return Plan(change, {before.id: before.name})
            return await self._connect(before, after, endpoint, change)

    async def _connect(
        self, before: Sandbox, after: Sandbox, endpoint: Endpoint, change: Change
    ) -> Sandbox:
        core = self._core
        network = core.register.networks[endpoint.network]
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(core.addresses.release, after, before)
            core.register.put_sandbox(after)
            undo.callback(core.register.put_sandbox, before)
            announced = {endpoint.id: core.addresses.needs_announcement(endpoint)}
            write = write_sandbox(after, before)
            write.puts.update(core.addresses.cursors(network))
            write.puts.update(core.addresses.note_macs(endpoint))
            back = diff(core.describe(after), core.describe(before))
            await core.save(write, about("connected", after, network=network.name))
            undo.push_async_callback(self._forget, after, before)
            reach("connect.stored")
            await core.writer.apply(change)
            undo.push_async_callback(core.writer.apply, back)
            reach("connect.applied")
            if _published_at(before) != _published_at(after):
                await self._settle_flows(after.ports)
            undo.pop_all()
        self._announce(after, announced)
        return after

    async def disconnect(
        self, ref: str, network_ref: str, *, force: bool = False, dry_run: bool = False
    ) -> Sandbox | Plan:
        """Take a sandbox off a network; with `force` also where the kernel refuses.

        Raises NotFound when it is not on it, Conflict when it is not up.
        """
        core = self._core
        async with core.gate.on(core.register.sandbox(ref).id):
            before = self._changeable(ref)
            network = core.register.network(network_ref)
            left = tuple(e for e in before.endpoints if e.network != network.id)
            if len(left) == len(before.endpoints):
                raise NotFound(f"{before.name} is not on network {network.name}")
            after = msgspec.structs.replace(before, endpoints=left)
            change = diff(core.describe(before), core.describe(after))
            if dry_run:
                return Plan(change, {before.id: before.name})
            with contextlib.suppress(*((Exception,) if force else ())):
                await core.writer.apply(change)
            reach("disconnect.applied")
            await core.save(
                write_sandbox(after, before), about("disconnected", after, network=network.name)
            )
            core.register.put_sandbox(after)
            core.addresses.release(before, after)
            if _published_at(before) != _published_at(after):
                await self._settle_flows(after.ports)
            self._forget_flows(before, after)
            return after

    def _changeable(self, ref: str) -> Sandbox:
        sandbox = self._core.register.sandbox(ref)
        if sandbox.host_mode:
            raise Conflict(
                f"{sandbox.name} uses the host's own network and cannot be on another as well"
            )
        if sandbox.state != "up":
            raise Conflict(f"sandbox {sandbox.name} is {sandbox.state}; its networks cannot change")
        return sandbox

    # Taking away ----------------------------------------------------------------------

    async def remove(self, ref: str, *, force: bool = False, dry_run: bool = False) -> Plan | None:
        """Take a sandbox's networks away, and its namespace if it is ours.

        With `force` the record goes even where the kernel refuses; what is left then is
        removed by the next reconciliation. Raises NotFound, KernelRefused, StorageFailed.
        """
        core = self._core
        async with core.gate.on(core.register.sandbox(ref).id):
            sandbox = core.register.sandbox(ref)
            change = removal(core.describe(sandbox))
            if dry_run:
                return Plan(change, {sandbox.id: sandbox.name})
            reach("detach.begin")
            await self._take_down(change, force)
            reach("detach.applied")
            await core.save(delete_sandbox(sandbox), about("detached", sandbox))
            reach("detach.stored")
            self._let_go(sandbox, None)
        return None

    async def release(self, ref: str, state: str = "exited") -> Sandbox:
        """Take away everything that a sandbox holds and keep its record, in this state.

        "exited" keeps its wishes for `restore`; "gone" keeps nothing.
        """
        core = self._core
        async with core.gate.on(core.register.sandbox(ref).id):
            return await self.release_held(core.register.sandbox(ref), state)

    async def release_held(self, sandbox: Sandbox, state: str) -> Sandbox:
        """`release` for callers that keep others away from the sandbox themselves."""
        core = self._core
        if not holds(sandbox):
            return sandbox
        kept = state == "exited"
        after = msgspec.structs.replace(
            sandbox,
            state=state,
            inode=None,
            endpoints=tuple(map(without_addresses, sandbox.endpoints)) if kept else (),
            ports=sandbox.ports if kept else (),
        )
        await self._take_down(removal(core.describe(sandbox)), force=not sandbox.made)
        reach("release.applied")
        await core.save(write_sandbox(after, sandbox), about(state, after))
        self._let_go(sandbox, after)
        return after

    async def _take_down(self, change: Change, force: bool) -> None:
        with contextlib.suppress(*((Exception,) if force else ())):
            await self._core.writer.apply(change)

    def _let_go(self, sandbox: Sandbox, after: Sandbox | None) -> None:
        core = self._core
        if holds(sandbox):
            core.addresses.release(sandbox)
            core.ports.release(sandbox)
        if not sandbox.made:
            core.host.disown(sandbox.namespace)
        if after is None:
            core.register.drop_sandbox(sandbox)
        else:
            core.register.put_sandbox(after)
        self._forget_flows(sandbox, after)

    # Flows and neighbours -------------------------------------------------------------

    async def _settle_flows(self, ports: tuple[PublishedPort, ...]) -> None:
        """Make UDP flows that were there before a mapping follow it: they would never end."""
        connectionless = [port for port in ports if port.protocol == "udp"]
        if connectionless:
            await asyncio.to_thread(self._core.host.flush_published, connectionless)

    def _forget_flows(self, before: Sandbox, after: Sandbox | None) -> None:
        """Flows of addresses that are nobody's any more, forgotten after the answer: a
        released address is not given out again at once.
        """
        kept = {a for e in after.endpoints for a in _addresses(e)} if after is not None else set()
        gone = [a for e in before.endpoints for a in _addresses(e) if a not in kept]
        if gone and before.state == "up":
            self._core.do_in_thread_later("forgetting flows", self._core.host.flush_addresses, gone)

    def _announce(self, sandbox: Sandbox, wanted: dict[str, list[str]]) -> None:
        for endpoint in sandbox.endpoints:
            for address in wanted.get(endpoint.id, ()):
                self._core.do_in_thread_later(
                    "announcing an address",
                    self._core.host.announce,
                    sandbox.netns,
                    endpoint.interface,
                    endpoint.mac,
                    address,
                )

    async def _find_foreign(self, request: AttachmentRequest) -> ForeignNamespace | None:
        if not isinstance(request, SandboxRequest) or (
            request.netns is None and request.pid is None
        ):
            return None
        found = await asyncio.to_thread(find_foreign, request, self._core.host)
        check_foreign(found, self._core.own_inode, self._core.register)
        return found


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


def _published_at(sandbox: Sandbox) -> tuple[str | None, str | None]:
    """Where published ports lead, for both IP versions."""
    chosen = gateway_endpoint(sandbox, 4), gateway_endpoint(sandbox, 6)
    return (
        chosen[0].address if chosen[0] else None,
        chosen[1].address_ipv6 if chosen[1] else None,
    )


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
