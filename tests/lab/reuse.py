"""Sites that serve one test after the other: each finds its site as if it had just been made.

What a test made is taken away by the daemon and the lab; then the host and its neighbour are
observed. A site that is not exactly as it was at first has served, and the next test gets a
new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

import msgspec

from lab.bench import Lab
from lab.daemon import Refused
from lab.site import Site
from linkspan.dataplane import FdbEntry, Link, Namespace, Neighbour, Object, Sysctl
from linkspan.kernel import namespaces
from linkspan.kernel.netfilter.conntrack import ANY, Conntrack
from linkspan.kernel.observe import observe

VOLATILE = (FdbEntry, Namespace, Neighbour)
"""What a kernel learns and forgets by itself."""


class Sites:
    """Sites that are as new, by what they were made with."""

    def __init__(self) -> None:
        self._idle: dict[tuple[object, ...], tuple[Site, Any]] = {}

    @contextlib.contextmanager
    def borrowed(self, bridge_netfilter: bool = True) -> Iterator[Site]:
        """A site for one test."""
        key = (bridge_netfilter,)
        site, bare = self._idle.pop(key) if key in self._idle else _make(bridge_netfilter)
        lab = site.lab
        begun = lab.bookmark()
        process = site.daemon.process
        events = site.daemon.stream("/v1/events?since=0&follow=false")
        site.since = max((event["id"] for event in events), default=0)
        as_new = False
        try:
            yield site
            if site.daemon.running and site.daemon.process is process:
                # A daemon that a test has purged or hurt answers no more, or refuses.
                with contextlib.suppress(OSError, HTTPException, Refused):
                    _take_away(site, bare[1])
                    lab.return_to(begun)
                    forget_connections(site)
                    as_new = look(site) == bare
        finally:
            if as_new:
                self._idle[key] = site, bare
            else:
                lab.close()

    def close(self) -> None:
        """Take all sites away."""
        with contextlib.ExitStack() as closing:
            for site, _ in self._idle.values():
                closing.callback(site.lab.close)
        self._idle.clear()


def _make(bridge_netfilter: bool) -> tuple[Site, Any]:
    lab = Lab()
    try:
        site = Site(lab, bridge_netfilter)
        forget_connections(site)
        return site, look(site)
    except BaseException:
        lab.close()
        raise


def _take_away(site: Site, known: Any) -> None:
    """Every sandbox, and every network and policy that was not there at first."""
    for sandbox in site.daemon.get("/v1/sandboxes"):
        site.daemon.delete(f"/v1/sandboxes/{sandbox['name']}?force=true")
    for what in ("networks", "policies"):
        kept = {one["name"] for one in known[what]}
        for one in site.daemon.get(f"/v1/{what}"):
            if one["name"] not in kept:
                site.daemon.delete(f"/v1/{what}/{one['name']}")


def look(site: Site) -> Any:
    """Everything about a site that a test could have changed, in the kernel and the daemon."""
    seen = observe({"host": site.host.path, "neighbour": site.neighbour.path})
    kernel = {item.key: _settled(item) for item in seen if not isinstance(item, VOLATILE)}
    known = {what: site.daemon.get(f"/v1/{what}") for what in ("networks", "sandboxes", "policies")}
    return kernel, known


def _settled(item: Object) -> Object:
    """Without what settles by itself: carriers, and MTUs that were learnt."""
    if isinstance(item, Link):
        return msgspec.structs.replace(item, carrier=None)
    if isinstance(item, Sysctl) and item.path.endswith("/mtu"):
        return msgspec.structs.replace(item, value="")
    return item


def forget_connections(site: Site) -> None:
    """Let the next test meet no connection of the one before."""
    for place in (site.host, site.neighbour):
        with (
            namespaces.opened(place.path) as descriptor,
            namespaces.entered(descriptor),
            Conntrack() as table,
        ):
            table.delete_matching(ANY)
