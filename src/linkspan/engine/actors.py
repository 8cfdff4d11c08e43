"""On whose behalf something happens: the client of the request that is being answered.

Kept beside the call, not in every argument: whoever writes events and records asks here. What
the daemon does by itself (repairs, restarts, a watch over a container) is nobody's.
"""

from __future__ import annotations

import contextvars

from linkspan.drivers.records import Actor

_current: contextvars.ContextVar[Actor | None] = contextvars.ContextVar("actor", default=None)


def acting() -> Actor | None:
    """Who asked for what is being done; None for the daemon itself."""
    return _current.get()


def act_for(actor: Actor | None) -> None:
    """From here on, in this task and those that it starts, things happen for this client."""
    _current.set(actor)


def as_nobody() -> contextvars.Context:
    """A context for a task that outlives the request that starts it."""
    return contextvars.Context()
