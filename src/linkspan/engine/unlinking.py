"""Taking links away without waiting for the kernel's housekeeping.

A link is gone for everyone a moment after the kernel was asked. Its answer comes ten times
later: first it waits until no processor can still be using the link's memory (rcu_barrier in
netdev_run_todo, net/core/dev.c). Nobody who asked for a network to be disconnected needs that.
"""

from __future__ import annotations

import asyncio

from linkspan.dataplane import HOST, Change, DataPlane, Link, Operation, Remove, Route, Veth
from linkspan.engine.core import Core

LOOK_EVERY = 0.001
"""Seconds between looking whether a link is still there."""


async def apply_and_unlink(core: Core, change: Change, before: DataPlane) -> None:
    """Carry out a change of `before`, the removal of the host's links last; returns when they
    are gone.

    What the kernel still has to do then is done behind the answer. Raises what it refused.
    """
    links = [link for operation in change if (link := _removed_link(operation))]
    names = {link.name for link in links}
    ends = {_far_end(link) for link in links}
    # What takes the place of a route that would have gone with its link comes before that now.
    routes = [Remove(r) for r in before.of(Route) if (r.namespace, r.link) in ends]
    rest = [operation for operation in change if _removed_link(operation) is None]
    await core.writer.apply((*routes, *rest))
    if not names:
        return
    last = tuple(one for one in change if _removed_link(one) is not None)
    removing = asyncio.ensure_future(core.writer.apply(last))
    while any(map(core.host.has_link, names)):
        done, _ = await asyncio.wait((removing,), timeout=LOOK_EVERY)
        if done:
            break
    if removing.done():
        removing.result()
    else:
        core.do_later("removing links", _finish(removing))


def _removed_link(operation: Operation) -> Link | None:
    """The link of the host that an operation takes away; None for any other operation."""
    if isinstance(operation, Remove) and isinstance(operation.object, Link):
        return operation.object if operation.object.namespace == HOST else None
    return None


def _far_end(link: Link) -> tuple[str | None, str | None]:
    """The namespace and name of the other end."""
    if isinstance(link.kind, Veth):
        return link.kind.peer_namespace, link.kind.peer_name
    return None, None


async def _finish(removing: asyncio.Future[None]) -> None:
    await removing
