"""Programs that answer a connection by opening another one: relays such as docker-proxy."""

from __future__ import annotations

from collections.abc import Sequence

from linkspan.analysis.flow import Flow
from linkspan.dataplane.sockets import Process

_OPTIONS = {"proto": "-proto", "address": "-container-ip", "port": "-container-port"}


def relayed_flow(processes: Sequence[Process]) -> Flow | None:
    """The flow that a known relay opens for each connection that it takes, None for others."""
    for process in processes:
        if process.name != "docker-proxy":
            continue
        words = process.arguments
        found = {
            name: words[words.index(option) + 1]
            for name, option in _OPTIONS.items()
            if option in words[:-1]
        }
        if "address" in found and found.get("port", "").isdecimal():
            return Flow(
                destination=found["address"],
                destination_port=int(found["port"]),
                protocol=found.get("proto", "tcp"),
            )
    return None
