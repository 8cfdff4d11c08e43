"""The peer: CNI's `bridge` and `portmap`, from Debian's containernetworking-plugins.

A runtime (containerd through libcni, CRI-O) runs each plugin of the list as a program, with the
configuration and the result so far on its standard input (CNI spec 1.0.0, section 3). So does
this. The namespace is made in this process, as containerd makes it, not by `ip netns add`.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.places import Resident, delete_namespace, run_program

PLUGINS = Path("/usr/lib/cni")


class CniHost:
    """Adds and deletes containers on a bridge network of a namespace."""

    def __init__(self, resident: Resident, directory: Path, subnet: str) -> None:
        self._resident = resident
        self._directory = directory
        directory.mkdir()
        self._conf = {
            "cniVersion": "1.0.0",
            "name": "bench",
            "bridge": "cni0",
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(directory / "leases"),
                "ranges": [[{"subnet": subnet}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        self._results: dict[int, Any] = {}

    def attach(self, number: int, ports: Sequence[tuple[int, int]]) -> float:
        """Namespace, ADD of bridge, ADD of portmap for (host port, port); the seconds."""
        return self._resident.do(lambda: self._attach(number, ports))

    def detach(self, number: int, ports: Sequence[tuple[int, int]]) -> float:
        """DEL of both, in the opposite order, and the namespace; the seconds."""
        return self._resident.do(lambda: self._detach(number, ports))

    def address(self, number: int) -> str:
        """The IPv4 address that a container got."""
        return str(self._results[number]["ips"][0]["address"]).split("/")[0]

    def path(self, number: int) -> str:
        """The file of a container's namespace."""
        return str(self._directory / f"ns{number}")

    def _attach(self, number: int, ports: Sequence[tuple[int, int]]) -> float:
        start = time.perf_counter()
        path = self.path(number)
        self._resident.make_namespace(path)
        result = self._call("ADD", "bridge", number, path, None, ())
        if ports:
            result = self._call("ADD", "portmap", number, path, result, ports)
        taken = time.perf_counter() - start
        self._results[number] = result
        return taken

    def _detach(self, number: int, ports: Sequence[tuple[int, int]]) -> float:
        start = time.perf_counter()
        path = self.path(number)
        result = self._results.pop(number)
        if ports:
            self._call("DEL", "portmap", number, path, result, ports)
        self._call("DEL", "bridge", number, path, result, ())
        delete_namespace(path)
        return time.perf_counter() - start

    def _call(
        self,
        command: str,
        plugin: str,
        number: int,
        path: str,
        previous: Any,
        ports: Sequence[tuple[int, int]],
    ) -> Any:
        conf: dict[str, Any] = {**self._conf, "type": plugin}
        if previous is not None:
            conf["prevResult"] = previous
        if ports:
            conf["capabilities"] = {"portMappings": True}
            conf["runtimeConfig"] = {
                "portMappings": [
                    {"hostPort": host, "containerPort": inside, "protocol": "tcp"}
                    for host, inside in ports
                ]
            }
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": f"bench{number}",
            "CNI_NETNS": path,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(PLUGINS),
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }
        answer = run_program(
            [str(PLUGINS / plugin)], json.dumps(conf).encode(), environment, timeout=600
        )
        return json.loads(answer) if answer.strip() else None


def is_there() -> bool:
    """Whether the plugins are installed."""
    return (PLUGINS / "bridge").exists() and (PLUGINS / "portmap").exists()


def version() -> str:
    """The version of the package."""
    done = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", "containernetworking-plugins"],
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or "unknown"
