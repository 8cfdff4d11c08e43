"""When a container begins again by itself."""

from __future__ import annotations

import pytest

from linkspan.engine.containers.restarts import (
    RestartPolicy,
    next_delay,
    parse_restart,
    wants_restart,
)
from linkspan.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("no", RestartPolicy("no")),
        ("always", RestartPolicy("always")),
        ("unless-stopped", RestartPolicy("unless-stopped")),
        ("on-failure", RestartPolicy("on-failure")),
        ("on-failure:3", RestartPolicy("on-failure", 3)),
        ("on-failure:0", RestartPolicy("on-failure")),
    ],
)
def test_policies(text: str, policy: RestartPolicy):
    assert parse_restart(text) == policy


@pytest.mark.parametrize("text", ["", "yes", "always:3", "on-failure:", "on-failure:-1", "no:1"])
def test_other_policies_are_refused(text: str):
    with pytest.raises(InvalidRequest, match="write no, always, unless-stopped"):
        parse_restart(text)


@pytest.mark.parametrize(
    ("policy", "code", "count", "stopped", "again"),
    [
        ("no", 1, 0, False, False),
        ("always", 0, 99, False, True),
        ("always", 0, 0, True, False),
        ("unless-stopped", 137, 0, False, True),
        ("unless-stopped", 137, 0, True, False),
        ("on-failure", 0, 0, False, False),
        ("on-failure", 1, 99, False, True),
        ("on-failure:2", 1, 1, False, True),
        ("on-failure:2", 1, 2, False, False),
    ],
)
def test_who_begins_again(policy: str, code: int, count: int, stopped: bool, again: bool):
    assert wants_restart(parse_restart(policy), code, count, stopped=stopped) == again


def test_the_delay_doubles_up_to_a_minute_and_starts_over_after_a_long_run():
    delays, delay = [], None
    for _ in range(12):
        delay = next_delay(delay, uptime=0.5)
        delays.append(delay)
    assert delays[:4] == [0.1, 0.2, 0.4, 0.8]
    assert delays[-1] == 60.0
    assert next_delay(60.0, uptime=10.0) == 0.1
