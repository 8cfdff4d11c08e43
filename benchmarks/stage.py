"""The places of a benchmark: hosts with an uplink and somebody outside, and who works there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import client
from benchmarks.cni import CniHost
from benchmarks.floor import FloorHost
from benchmarks.places import Resident
from lab import Daemon, Lab, Namespace, Place

ADDRESS = "192.0.2.10"
"""The host's, on the wire to the outside."""
SUBNET = "10.20.0.0/16"
NETWORK = "bench"
QUIET = 0.1
"""Seconds in which the kernel frees the namespaces and links that a job left behind."""


class Host:
    """A namespace that stands for a machine, wired to another one outside."""

    def __init__(self, lab: Lab, word: str) -> None:
        self.lab = lab
        self.word = word
        self.place: Namespace = lab.namespace(word)
        self.outside: Namespace = lab.namespace(f"{word}-outside")
        lab.veth(self.place, "uplink", f"{ADDRESS}/24", self.outside, "eth0", "192.0.2.20/24")
        lab.route(self.place, "default", "via", "192.0.2.20")

    def expect_answer(self, inside: Place, port: int, host_port: int) -> None:
        """Fail unless the outside gets an answer through a published port."""
        listener = self.lab.listener_tcp(inside, "0.0.0.0", port, reply=self.word)
        answer = self.lab.fetch(self.outside, ADDRESS, host_port, timeout=3)
        listener.close()
        if answer.reply != self.word:
            raise AssertionError(f"{self.word}: port {host_port} does not answer: {answer.error}")


class OurHost(Host):
    """A host with a daemon and one network."""

    def __init__(self, lab: Lab, word: str = "ours") -> None:
        super().__init__(lab, word)
        self.daemon: Daemon = lab.daemon(self.place)
        self.daemon.post("/v1/networks", {"name": NETWORK, "subnets": [{"subnet": SUBNET}]})
        self.client = self.connect()

    def connect(self) -> client.Client:
        """A connection to the daemon of one's own."""
        return client.Client(self.daemon.socket)

    def attach(self, name: str, ports: Sequence[str] = ()) -> Any:
        """POST /v1/sandboxes: a new namespace on the network; the decoded answer."""
        return self.client.request("POST", "/v1/sandboxes", request_body(name, ports))

    def detach(self, name: str) -> None:
        """DELETE /v1/sandboxes/NAME."""
        self.client.request("DELETE", f"/v1/sandboxes/{name}")


def request_body(name: str, ports: Sequence[str] = ()) -> dict[str, Any]:
    """The body of POST /v1/sandboxes."""
    return {"name": name, "networks": [{"network": NETWORK}], "ports": list(ports)}


def prepare_attach(name: str, ports: Sequence[str] = ()) -> bytes:
    """The request, for `Client.ask`."""
    return client.prepare("POST", "/v1/sandboxes", request_body(name, ports))


def prepare_detach(name: str) -> bytes:
    """The request, for `Client.ask`."""
    return client.prepare("DELETE", f"/v1/sandboxes/{name}")


class TheirHost(Host):
    """A host where a thread of this process does the work."""

    def __init__(self, lab: Lab, word: str) -> None:
        super().__init__(lab, word)
        self.resident = Resident(self.place)

    def folder(self, word: str) -> Path:
        """A path for their files, not made yet."""
        return self.lab.directory / f"{self.word}-{word}"


def floor_host(lab: Lab, word: str = "floor") -> tuple[TheirHost, FloorHost]:
    """A host whose network a daemon made and left; prepared bytes work on it."""
    host = TheirHost(lab, word)
    daemon = lab.daemon(host.place)
    daemon.post("/v1/networks", {"name": NETWORK, "subnets": [{"subnet": SUBNET}]})
    daemon.stop()
    return host, FloorHost(host.resident, host.folder("namespaces"), SUBNET, mtu=1500)


def cni_host(lab: Lab, word: str = "cni") -> tuple[TheirHost, CniHost]:
    """A host for CNI's plugins; they make their bridge with the first container."""
    host = TheirHost(lab, word)
    return host, CniHost(host.resident, host.folder("state"), SUBNET)
