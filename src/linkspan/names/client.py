"""The daemon's side: keeps the names process running and telling what is true.

Whatever was to be known is remembered here, so a process that was killed is started again
and told everything. Belongs to one asyncio loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import subprocess
import time
from collections.abc import Iterable, Mapping

from linkspan.drivers.records import Network, Sandbox
from linkspan.errors import LinkspanError, RuntimeFailed
from linkspan.names import control, process
from linkspan.names.connection import PATIENCE, Connection, Lost
from linkspan.names.records import Change, Host, Names, Resolver, Zone
from linkspan.names.resolvconf import HOST_FILE, HostFile, resolv_conf, resolv_conf_of_host
from linkspan.names.table import change_of, describe_names, resolver_of, zone_of

log = logging.getLogger("linkspan.names")
_PATIENCE_EACH = 0.02
"""Seconds more that it may take for each sandbox that it is told of."""
_TRIES = 3
_QUIET = 1.0
"""Seconds after a start that failed in which nobody waits for another one."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class NamesService:
    """Names for the sandboxes of one daemon. The process starts when it is first needed."""

    def __init__(self, run_dir: str, host_file: str = HOST_FILE) -> None:
        self._run_dir = os.path.abspath(run_dir)
        self._host_file = host_file
        self._zones: dict[str, Zone] = {}
        self._hosts: dict[tuple[str, str], Host] = {}
        self._resolvers: dict[str, Resolver] = {}
        self._connection: Connection | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._connecting = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._closed = False
        self._failed: tuple[float, RuntimeFailed] | None = None

    # What is true

    async def replace(
        self, networks: Iterable[Network], sandboxes: Iterable[Sandbox]
    ) -> dict[str, str]:
        """Know these and nothing else; also looks after every redirect.

        Gives the sandboxes, by id, that cannot be answered, and why.
        """
        names = describe_names(networks, sandboxes)
        self._zones = {zone.id: zone for zone in names.zones}
        self._hosts = {host.key: host for host in names.hosts}
        self._resolvers = {resolver.id: resolver for resolver in names.resolvers}
        if not names.resolvers and not self._is_there():
            return {}
        return await self._tell(control.Replace(names), names.resolvers)

    async def change(
        self, before: Sandbox | None, after: Sandbox | None, networks: Mapping[str, Network]
    ) -> dict[str, str]:
        """A sandbox has changed, None for one that is not there; in force when this returns.

        `networks` by id. Gives the sandbox with the reason if it cannot be answered.
        """
        return await self._update(change_of(before, after, networks))

    async def put_network(self, network: Network) -> None:
        """A network was made: nobody outside is asked for its addresses any more."""
        await self._update(Change(put=Names(zones=(zone_of(network),))))

    async def drop_network(self, id: str) -> None:
        """A network is gone."""
        await self._update(Change(zones_dropped=(id,)))

    async def _update(self, change: Change) -> dict[str, str]:
        if not change:
            return {}
        self._remember(change)
        if self._connection is None and not self._resolvers and not self._is_there():
            return {}  # nobody asks: it will be told when there is somebody
        return await self._tell(control.Update(change), change.put.resolvers)

    def _remember(self, change: Change) -> None:
        self._zones |= {zone.id: zone for zone in change.put.zones}
        self._hosts |= {host.key: host for host in change.put.hosts}
        self._resolvers |= {resolver.id: resolver for resolver in change.put.resolvers}
        for key in change.hosts_dropped:
            self._hosts.pop(key, None)
        for id in (*change.resolvers_dropped, *change.resolvers_gone):
            self._resolvers.pop(id, None)
        for id in change.zones_dropped:
            self._zones.pop(id, None)
            self._hosts = {key: host for key, host in self._hosts.items() if key[0] != id}

    def _everything(self) -> Names:
        return Names(
            zones=tuple(self._zones.values()),
            hosts=tuple(self._hosts.values()),
            resolvers=tuple(self._resolvers.values()),
        )

    async def inspect(self) -> control.State | None:
        """What the process answers now; None when none runs."""
        if self._connection is None and not self._is_there():
            return None
        reply = await (await self._connect()).request(control.Inspect())
        return reply if isinstance(reply, control.State) else None

    def resolv_conf(self, sandbox: Sandbox, networks: Mapping[str, Network]) -> str | None:
        """The text of a container's /etc/resolv.conf; None when nobody answers it here."""
        stated = sandbox.dns_search, sandbox.dns_options
        if resolver_of(sandbox, networks) is not None:
            return resolv_conf_of_host(HostFile(self._host_file).configuration, *stated)
        if sandbox.dns and not sandbox.host_mode:
            return resolv_conf(*stated, servers=sandbox.dns)
        return None

    # The process

    async def _tell(
        self, request: control.Request, resolvers: tuple[Resolver, ...]
    ) -> dict[str, str]:
        trouble: Exception = Lost()
        for _ in range(_TRIES):
            try:
                connection = await self._connect()
                reply = await connection.request(request, _patience(len(resolvers)))
                return reply.problems if isinstance(reply, control.Done) else {}
            except Lost as error:
                trouble = error
            except (LinkspanError, OSError) as error:
                trouble = error
                break
        log.error("names cannot be set: %s", trouble)
        return {resolver.id: f"the names process: {trouble}" for resolver in resolvers}

    def _is_there(self) -> bool:
        return os.path.exists(control.socket_path(self._run_dir))

    async def _connect(self) -> Connection:
        """The connection to a running process of this version, which knows everything."""
        async with self._connecting:
            if self._connection is not None and not self._connection.lost:
                return self._connection
            connection = await self._open()
            reply = await connection.request(control.Hello())
            if not isinstance(reply, control.Welcome):
                raise RuntimeFailed("something else than the names process answers")
            if reply.version != control.version():
                connection = await self._upgrade(connection, reply)
            everything = self._everything()
            patience = _patience(len(everything.resolvers))
            await connection.request(control.Replace(everything), patience)
            self._connection = connection
            self._watching = asyncio.create_task(self._watch(connection))
            return connection

    async def _open(self) -> Connection:
        try:
            return await Connection.open(control.socket_path(self._run_dir))
        except OSError:
            pass
        if self._failed is not None and time.monotonic() < self._failed[0] + _QUIET:
            raise self._failed[1]
        os.makedirs(self._run_dir, mode=0o755, exist_ok=True)
        self._reap()
        try:
            self._child = await asyncio.to_thread(process.start, self._run_dir, self._host_file)
        except RuntimeFailed as error:
            self._failed = (time.monotonic(), error)
            raise
        return await Connection.open(control.socket_path(self._run_dir))

    async def _upgrade(self, connection: Connection, found: control.Welcome) -> Connection:
        """Have the process become this version; its sockets stay open meanwhile."""
        log.info("the names process goes from version %s to %s", found.version, control.version())
        command = process.command(self._run_dir, self._host_file)
        await connection.request(control.Upgrade(command, dict(process.environment())))
        await connection.wait_lost()
        # The listening socket lives on: whoever connects waits for the new program.
        connection = await Connection.open(control.socket_path(self._run_dir))
        await connection.request(control.Hello(), process.PATIENCE)
        return connection

    async def _watch(self, connection: Connection) -> None:
        """Start the process again when it ends, as long as somebody wants to ask."""
        await connection.wait_lost()
        pause = _FIRST_PAUSE
        while not self._closed and self._resolvers:
            log.warning("the names process ended; it is started again")
            try:
                await self._connect()
                return
            except (Lost, LinkspanError, OSError) as error:
                log.error("the names process cannot be started: %s", error)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _reap(self) -> None:
        if self._child is not None:
            self._child.poll()

    # The end

    async def close(self) -> None:
        """Let go of the process, which lives on."""
        self._closed = True
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
        if self._child is not None:
            # It is nobody's child from now on, as far as we are concerned.
            self._child.returncode = 0

    async def stop(self) -> None:
        """End the process, whoever started it; nothing of it stays in any namespace."""
        self._closed = True
        with contextlib.suppress(Lost, OSError):
            connection = self._connection
            if connection is None or connection.lost:
                connection = await Connection.open(control.socket_path(self._run_dir))
            self._connection = connection
            await connection.request(control.Stop())
            await connection.wait_lost()
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(child.wait)
        await self.close()
        for name in (control.LOCK, control.LOG, f"{control.LOG}.1"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self._run_dir, name))


def _patience(sandboxes: int) -> float:
    return PATIENCE + _PATIENCE_EACH * sandboxes
