"""When a container that ended begins again by itself, and how soon. Pure."""

from __future__ import annotations

import msgspec

from linkspan.errors import InvalidRequest

FIRST_DELAY = 0.1
LONGEST_DELAY = 60.0
"""Seconds until a container begins again: doubled each time, as with Docker."""
LONG_ENOUGH = 10.0
"""Seconds of running after which the delay is the first one again."""


class RestartPolicy(msgspec.Struct, frozen=True):
    """`name` is no, always, unless-stopped or on-failure; `limit` restarts at most for the last."""

    name: str = "no"
    limit: int | None = None


def parse_restart(text: str) -> RestartPolicy:
    """A policy from the text of a request.

    Raises:
        InvalidRequest: it is none; says which there are.
    """
    name, colon, count = text.partition(":")
    if name == "on-failure" and colon and count.isascii() and count.isdecimal():
        return RestartPolicy(name, int(count) or None)
    if name in ("no", "always", "unless-stopped", "on-failure") and not colon:
        return RestartPolicy(name)
    raise InvalidRequest(
        f"restart policy {text!r}: write no, always, unless-stopped, on-failure or on-failure:N"
    )


def wants_restart(policy: RestartPolicy, exit_code: int, count: int, *, stopped: bool) -> bool:
    """Whether a container that ended with `exit_code`, after `count` restarts, begins again.

    One that was stopped on request does not.
    """
    if stopped or policy.name == "no":
        return False
    if policy.name == "on-failure":
        return exit_code != 0 and (policy.limit is None or count < policy.limit)
    return True


def next_delay(previous: float | None, uptime: float) -> float:
    """Seconds to wait, after waiting `previous` the last time and running for `uptime`."""
    if previous is None or uptime >= LONG_ENOUGH:
        return FIRST_DELAY
    return min(2 * previous, LONGEST_DELAY)
