"""Programs that answer a connection by opening another one: relays such as docker-proxy."""

from __future__ import annotations

from collections.abc import Sequence

from linkspan.analysis.flow import Flow
from linkspan.dataplane.sockets import Process

DOCKER_PROXY = "docker-proxy"
_OPTIONS = {"proto": "-proto", "address": "-container-ip", "port": "-container-port"}
_HIDDEN = {
    "rootlessport": "hands it into a rootless container, nobody knows where",
    "rootlesskit": "hands it into a rootless host, nobody knows where",
    "slirp4netns": "hands it into a rootless container, nobody knows where",
    "pasta": "hands it into a rootless container, nobody knows where",
    "passt": "hands it into a virtual machine, nobody knows where",
    "conmon": "only keeps the port for its container, and answers nothing",
}
"""Programs whose arguments do not say where they lead, and what they do with a connection."""


def relayed_flow(processes: Sequence[Process]) -> Flow | None:
    """The flow that a known relay opens for each connection that it takes, None for others."""
    for process in processes:
        if process.name != DOCKER_PROXY:
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


def describe_relay(processes: Sequence[Process]) -> str | None:
    """What a relay does whose destination nobody can see; None for other programs."""
    for process in processes:
        # pasta's program is called by what the processor can do: pasta.avx2
        what = _HIDDEN.get(process.name.partition(".")[0])
        if what is not None:
            return f"{process.name} (pid {process.pid}) {what}"
    return None
