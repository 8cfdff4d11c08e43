"""A small site: a container host with a daemon, and a neighbour on its uplink segment."""

from __future__ import annotations

from typing import Any, NamedTuple

from lab.bench import Lab
from lab.daemon import Daemon
from lab.places import Namespace
from lab.processes import wait_until

HOST = "192.0.2.10"
NEIGHBOUR = "192.0.2.20"
HOST6 = "2001:db8:2::10"
NEIGHBOUR6 = "2001:db8:2::20"


class Family(NamedTuple):
    """The addresses of a site in one IP version, for tests that hold in both."""

    version: int
    host: str
    neighbour: str
    loopback: str
    every: str
    """All addresses of a place."""

    def subnet(self, number: int) -> str:
        """One of the subnets for networks, by a number of two digits."""
        return f"10.{number}.0.0/24" if self.version == 4 else f"fd00:{number}::/64"

    def gateway(self, number: int) -> str:
        """The gateway of that subnet."""
        return f"10.{number}.0.1" if self.version == 4 else f"fd00:{number}::1"

    def outside(self, number: int) -> str:
        """An address of that subnet that nobody has."""
        return f"10.{number}.0.99" if self.version == 4 else f"fd00:{number}::99"

    def of(self, sandbox: Any, network: str | None = None) -> str:
        """A sandbox's address without its prefix length, on one network or the first."""
        for endpoint in sandbox["endpoints"]:
            if network in (None, endpoint["network"]):
                return str(endpoint[f"ipv{self.version}"]).split("/")[0]
        raise AssertionError(f"{sandbox['name']} is not on {network}")

    def published(self, port: str, address: str | None = None) -> str:
        """The text that publishes a port on one address of this version, or on all of them."""
        address = address or self.every
        return f"[{address}]:{port}" if self.version == 6 else f"{address}:{port}"


IPV4 = Family(4, HOST, NEIGHBOUR, "127.0.0.1", "0.0.0.0")
IPV6 = Family(6, HOST6, NEIGHBOUR6, "::1", "::")


class Site:
    """`host` runs a daemon, `neighbour` shares its segment; both have nothing else.

    `bridge_netfilter` states whether bridged packets pass the IP hooks on the host;
    `arguments` are the daemon's.
    """

    def __init__(
        self, lab: Lab, bridge_netfilter: bool = True, arguments: tuple[str, ...] = ()
    ) -> None:
        self.lab = lab
        self.since = 0
        """The daemon's last event before this test; of a site that served others (lab.reuse)."""
        self.host: Namespace = lab.namespace("host")
        self.neighbour: Namespace = lab.namespace("neighbour")
        here, there = (f"{HOST}/24", f"{HOST6}/64"), (f"{NEIGHBOUR}/24", f"{NEIGHBOUR6}/64")
        lab.veth(self.host, "uplink", here, self.neighbour, "eth0", there)
        for neighbour in (NEIGHBOUR, NEIGHBOUR6):
            lab.route(self.host, "default", "via", neighbour)
        for family in ("ip", "ip6", "arp"):
            key = f"net.bridge.bridge-nf-call-{family}tables"
            lab.run(self.host, ["sysctl", "-qw", f"{key}={int(bridge_netfilter)}"])
        self.daemon: Daemon = lab.daemon(self.host, *arguments)
        # A new wire's first question for an IPv6 neighbour may be lost, and is asked again
        # a second later: that shall not happen in the middle of a test.
        # On a busy machine even three may be, after which it counts as unreachable.
        wait_until(
            lambda: lab.fetch(self.host, NEIGHBOUR6, 9, timeout=10).error == "refused",
            "an answer over the new wire",
            20,
        )

    def network(self, name: str, subnet: str | None = None, **more: Any) -> Any:
        """Create a network through the API."""
        body = {"name": name, "subnets": [{"subnet": subnet}] if subnet else [], **more}
        return self.daemon.post("/v1/networks", body)

    def sandbox(self, name: str, *networks: Any, ports: tuple[str, ...] = (), **more: Any) -> Any:
        """Make a sandbox through the API; its `netns` is a place of the lab."""
        body = {"name": name, "networks": list(networks), "ports": list(ports), **more}
        return self.daemon.post("/v1/sandboxes", body)

    def serve(self, sandbox: Any, port: int, protocol: str = "tcp", family: Family = IPV4) -> None:
        """Listen on all addresses of a sandbox; it answers with the sandbox's name."""
        listen = self.lab.listener_tcp if protocol == "tcp" else self.lab.listener_udp
        listen(sandbox["netns"], family.every, port, reply=sandbox["name"])


def address(sandbox: Any, network: str | None = None) -> str:
    """A sandbox's IPv4 address without its prefix length, on one network or the first."""
    return IPV4.of(sandbox, network)
