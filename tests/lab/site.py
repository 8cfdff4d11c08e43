"""A small site: a container host with a daemon, and a neighbour on its uplink segment."""

from __future__ import annotations

from typing import Any

from lab.bench import Lab
from lab.daemon import Daemon
from lab.places import Namespace

HOST = "192.0.2.10"
NEIGHBOUR = "192.0.2.20"


class Site:
    """`host` runs a daemon, `neighbour` shares its segment; both have nothing else.

    `bridge_netfilter` states whether bridged packets pass the IP hooks on the host;
    `arguments` are the daemon's.
    """

    def __init__(
        self, lab: Lab, bridge_netfilter: bool = True, arguments: tuple[str, ...] = ()
    ) -> None:
        self.lab = lab
        self.host: Namespace = lab.namespace("host")
        self.neighbour: Namespace = lab.namespace("neighbour")
        lab.veth(self.host, "uplink", f"{HOST}/24", self.neighbour, "eth0", f"{NEIGHBOUR}/24")
        lab.route(self.host, "default", "via", NEIGHBOUR)
        for family in ("ip", "ip6", "arp"):
            key = f"net.bridge.bridge-nf-call-{family}tables"
            lab.run(self.host, ["sysctl", "-qw", f"{key}={int(bridge_netfilter)}"])
        self.daemon: Daemon = lab.daemon(self.host, *arguments)

    def network(self, name: str, subnet: str | None = None, **more: Any) -> Any:
        """Create a network through the API."""
        body = {"name": name, "subnets": [{"subnet": subnet}] if subnet else [], **more}
        return self.daemon.post("/v1/networks", body)

    def sandbox(self, name: str, *networks: Any, ports: tuple[str, ...] = (), **more: Any) -> Any:
        """Make a sandbox through the API; its `netns` is a place of the lab."""
        body = {"name": name, "networks": list(networks), "ports": list(ports), **more}
        return self.daemon.post("/v1/sandboxes", body)

    def serve(self, sandbox: Any, port: int, protocol: str = "tcp") -> None:
        """Listen on all addresses of a sandbox; it answers with the sandbox's name."""
        listen = self.lab.listener_tcp if protocol == "tcp" else self.lab.listener_udp
        listen(sandbox["netns"], "0.0.0.0", port, reply=sandbox["name"])


def address(sandbox: Any, network: str | None = None) -> str:
    """A sandbox's IPv4 address without its prefix length, on one network or the first."""
    for endpoint in sandbox["endpoints"]:
        if network in (None, endpoint["network"]):
            return str(endpoint["ipv4"]).split("/")[0]
    raise AssertionError(f"{sandbox['name']} is not on {network}")
