"""Programs of the host's file system as real containers, by runc or crun under conmon.

    spec        what a container is asked to be and found to be
    runtime     the containers of one daemon: create, start, kill, wait, exec, logs, delete
    creation    the steps of making one: rootfs, overlay, bundle -> config.json, conmon
    deletion    taking one away
    exec        one more process in one
    attach      a client's streams and terminal joined to one, without the daemon
    log         what one wrote

No network is made here: a container is given the path of a network namespace, or stays in the
one that the daemon runs in. Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from linkspan.engine.runtime.attach import AttachClient, AttachEnd
    from linkspan.engine.runtime.exec import ExecSession
    from linkspan.engine.runtime.log import LogEntry
    from linkspan.engine.runtime.runtime import Runtime
    from linkspan.engine.runtime.spec import ContainerSpec, ContainerState, Started

__all__ = [
    "AttachClient",
    "AttachEnd",
    "ContainerSpec",
    "ContainerState",
    "ExecSession",
    "LogEntry",
    "Runtime",
    "Started",
]

_HOMES = {
    "AttachClient": "attach",
    "AttachEnd": "attach",
    "ContainerSpec": "spec",
    "ContainerState": "spec",
    "ExecSession": "exec",
    "LogEntry": "log",
    "Runtime": "runtime",
    "Started": "spec",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
