"""Noticing what others change behind our back, and putting it right at once.

Two subscriptions tell of links, addresses, routes, settings and firewall tables. What they
tell is only where to look; a moment later one task looks at all of it together. What no
notification tells (a foreign namespace without a link of ours, unmounted) is looked at now
and then. Lost notifications mean: compare everything.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any

from linkspan.drivers.records import Network, Sandbox
from linkspan.drivers.underlay import is_underlay
from linkspan.engine.core import Core, log
from linkspan.engine.host import Host
from linkspan.engine.reconcile import Reconciler
from linkspan.engine.report import Report
from linkspan.engine.underlay.parents import UP, Parent
from linkspan.engine.uplinks import ALIAS_PREFIX
from linkspan.kernel import monitor
from linkspan.kernel.netfilter import monitor as ruleset

SETTLE = 0.02
"""Seconds from the first notification to looking: changes come in bursts."""
FIRST_PATIENCE, LONGEST_PATIENCE = 0.1, 10.0
"""Seconds until a repair that failed is tried again; doubled each time."""
LOOK_AROUND = 2.0
"""Seconds between looking for what no notification tells."""


class Drift:
    """The watch over one engine's host."""

    def __init__(self, core: Core, reconciler: Reconciler) -> None:
        self._core = core
        self._reconciler = reconciler
        self._sandboxes: set[str] = set()
        self._everything = self._firewall = self._uplinks = False
        self._culprit = ""
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def watch(self) -> None:
        """Subscribe. What is heard is looked at after `start`."""
        routes, tables = self._core.host.open_monitors()
        self._tasks.append(self._spawn(self._hear_routes(routes)))
        self._tasks.append(self._spawn(self._hear_tables(tables)))

    def start(self) -> None:
        """Begin to put things right."""
        self._tasks.append(self._spawn(self._work()))
        self._tasks.append(self._spawn(self._look_around()))

    async def close(self) -> None:
        """End the watch."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(work)

    # Hearing --------------------------------------------------------------------------

    async def _hear_routes(self, source: monitor.RouteMonitor) -> None:
        with contextlib.closing(source):
            async for event in source.events():
                self._note_route_event(event)

    async def _hear_tables(self, source: ruleset.RulesetMonitor) -> None:
        with contextlib.closing(source):
            async for event in source.events():
                match event:
                    case ruleset.TableChanged(process=process):
                        self._firewall, self._culprit = True, process
                        self._news.set()
                    case ruleset.Lost():
                        self._firewall = True
                        self._news.set()

    def _note_route_event(self, event: monitor.Event) -> None:
        match event:
            case monitor.Lost():
                self._everything = True
            case monitor.LinkChanged():
                self._note_link(event)
            case monitor.AddressChanged(link=link, removed=removed):
                network = self._core.register.at_network_interface(link)
                if network is None:
                    self._uplinks = True
                elif removed and _has_address(network, event.address):
                    self._everything = True
            case monitor.RouteChanged(link=link):
                if link is None or self._core.register.at_network_interface(link) is None:
                    self._uplinks = True
            case monitor.SettingsChanged(link=link):
                if not self._is_under_way(link):
                    self._uplinks = True
        if self._everything or self._uplinks or self._sandboxes:
            self._news.set()

    def _is_under_way(self, link: str) -> bool:
        """Whether a link is an endpoint's, or a network's that is being made or removed."""
        register = self._core.register
        if register.at_host_interface(link) is not None:
            return True
        network = register.at_network_interface(link)
        return network is not None and network.id in register.reserved

    def _note_parent(self, event: monitor.LinkChanged) -> None:
        """A parent of networks came, went, or passes packets no longer."""
        parents = self._core.parents
        now = None if event.removed else Parent(up=event.up, carrier=event.carrier)
        shift = parents.note(event.name, now)
        if shift is None:
            return
        for network in parents.networks_on(event.name):
            self._core.events.record(
                "network",
                "restored" if shift.after == UP else "interrupted",
                name=network.name,
                object_id=network.id,
                state=shift.after,
            )
        # Links on it went with it, if it was away.
        self._everything = self._everything or shift.returned

    def _note_link(self, event: monitor.LinkChanged) -> None:
        self._note_parent(event)
        register = self._core.register
        sandbox = register.at_host_interface(event.name)
        network = register.at_network_interface(event.name)
        # A link that is being made is down and has no alias yet.
        is_down = not event.up and bool(event.alias)
        if sandbox is not None:
            if event.removed or is_down:
                self._sandboxes.add(sandbox.id)
        elif network is not None:
            # On a parent the MTU is the parent's affair.
            resized = event.mtu != network.mtu and not is_underlay(network)
            changed = is_down or (resized and bool(event.alias))
            if (event.removed or changed) and network.id not in register.reserved:
                self._everything = True
        elif event.alias.startswith(ALIAS_PREFIX):
            # Renamed by somebody: under its new name it is nobody's.
            self._everything = self._everything or not event.removed
        else:
            self._uplinks = True

    # Putting right --------------------------------------------------------------------

    async def _work(self) -> None:
        patience = FIRST_PATIENCE
        while True:
            await self._news.wait()
            await asyncio.sleep(SETTLE)
            self._news.clear()
            sandboxes, self._sandboxes = self._sandboxes, set()
            everything, self._everything = self._everything, False
            firewall, self._firewall = self._firewall, False
            uplinks, self._uplinks = self._uplinks, False
            try:
                if firewall:
                    await self._repair("firewall", self._reconciler.restore_firewall())
                if everything:
                    await self._repair("host", self._reconciler.reconcile())
                else:
                    for identity in sandboxes:
                        await self._check(identity)
                    if uplinks:
                        await self._repair("uplinks", self._reconciler.refresh_uplinks())
                patience = FIRST_PATIENCE
            except Exception:
                # Something else changed at the same moment, most likely: compare everything.
                log.exception("repairing failed; trying again")
                self._everything = True
                await asyncio.sleep(patience)
                patience = min(2 * patience, LONGEST_PATIENCE)
                self._news.set()

    async def _check(self, identity: str) -> None:
        core = self._core
        async with core.gate.on(identity):
            sandbox = core.register.sandboxes.get(identity)
            if sandbox is not None and sandbox.state == "up":
                await self._repair(f"sandbox {sandbox.name}", self._reconciler.check(sandbox))

    async def _repair(self, what: str, work: Coroutine[Any, Any, Report]) -> None:
        report = await work
        for line in report.lines():
            log.warning("%s: %s", what, line)
        if not report:
            return
        attributes = {"what": what, "changes": str(len(report.lines()))}
        if what == "firewall":
            culprit, self._culprit = self._culprit, ""
            self._core.events.record("firewall", "repaired", process=culprit, **attributes)
        elif report.added or report.repaired or report.removed:
            self._core.events.record("daemon", "repaired", **attributes)

    async def _look_around(self) -> None:
        while True:
            await asyncio.sleep(LOOK_AROUND)
            suspects = [
                sandbox
                for sandbox in self._core.register.sandboxes.values()
                if sandbox.state == "up" and not sandbox.host_mode
            ]
            vanished = await asyncio.to_thread(_find_vanished, self._core.host, suspects)
            if vanished:
                self._sandboxes.update(vanished)
                self._news.set()


def _find_vanished(host: Host, suspects: list[Sandbox]) -> list[str]:
    return [s.id for s in suspects if host.has_vanished(s.netns, s.inode)]


def _has_address(network: Network, with_length: str) -> bool:
    address = with_length.split("/")[0]
    if address.startswith("fe80:"):
        return network.has_ipv6
    return any(subnet.gateway == address for subnet in network.subnets)
