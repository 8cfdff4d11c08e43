"""A physical segment: a switch with a container host, a neighbour and a router, and what is
behind the router.

The switch is a bridge in a namespace of its own; its ports are veth pairs, which to the
hosts are network cards with a cable.
"""

from __future__ import annotations

from typing import Any

from lab.bench import Lab
from lab.daemon import Daemon
from lab.places import Namespace, run_ip
from lab.processes import wait_until

HOST, HOST6 = "192.168.7.2", "fd00:7::2"
NEIGHBOUR, NEIGHBOUR6 = "192.168.7.9", "fd00:7::9"
ROUTER, ROUTER6 = "192.168.7.1", "fd00:7::1"
OUTSIDE = "198.51.100.9"
SUBNET, SUBNET6 = "192.168.7.0/24", "fd00:7::/64"
RANGE = "192.168.7.64/26"
PARENT = "eth1"


class Segment:
    """`host` runs a daemon and has one card on the segment, `eth1`."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.switch: Namespace = lab.namespace("switch")
        run_ip("-n", self.switch.name, "link", "add", "br0", "type", "bridge")
        for setting in ("mcast_snooping", "forward_delay"):
            run_ip("-n", self.switch.name, "link", "set", "br0", "type", "bridge", setting, "0")
        run_ip("-n", self.switch.name, "link", "set", "br0", "up")
        # What the switch forwards is no business of this machine's IP hooks.
        for family in ("ip", "ip6", "arp"):
            key = f"net.bridge.bridge-nf-call-{family}tables=0"
            lab.run(self.switch, ["sysctl", "-qw", key], check=False)
        self.host = self.plug_in("host", PARENT, f"{HOST}/24", f"{HOST6}/64")
        self.neighbour = self.plug_in("neighbour", "eth0", f"{NEIGHBOUR}/24", f"{NEIGHBOUR6}/64")
        self.router = self.plug_in("router", "eth0", f"{ROUTER}/24", f"{ROUTER6}/64")
        self.outside: Namespace = lab.namespace("outside")
        lab.veth(self.router, "wan", ("198.51.100.1/24",), self.outside, "eth0", (f"{OUTSIDE}/24",))
        lab.run(self.router, ["sysctl", "-qw", "net.ipv4.ip_forward=1"])
        lab.route(self.outside, "default", "via", "198.51.100.1")
        for place in (self.host, self.neighbour):
            lab.route(place, "default", "via", ROUTER)
        self.daemon: Daemon = lab.daemon(self.host)

    def plug_in(self, word: str, name: str, *addresses: str) -> Namespace:
        """A new machine on the segment; its card is called `name`."""
        made = self.lab.namespace(word)
        self.cable(made, name, *addresses)
        return made

    def cable(self, machine: Namespace, name: str, *addresses: str) -> None:
        """One more card of a machine, with a cable to the switch."""
        port = f"{machine.word[:8]}-{name}"
        self.lab.veth(machine, name, addresses, self.switch, port, ())
        run_ip("-n", self.switch.name, "link", "set", port, "master", "br0")

    def reflect(self, machine: Namespace, name: str) -> None:
        """The switch sends frames back to the port they came from (802.1Qbg, reflective relay)."""
        port = f"{machine.word[:8]}-{name}"
        words = ("type", "bridge_slave", "hairpin", "on")
        run_ip("-n", self.switch.name, "link", "set", port, *words)

    def network(self, name: str, driver: str = "macvlan", **more: Any) -> Any:
        """Create a network on the host's card; `options` are added to the parent's name."""
        options = {"parent": PARENT, **more.pop("options", {})}
        wanted = {"subnet": SUBNET, "gateway": ROUTER, "ip_range": RANGE}
        subnets = more.pop("subnets", [wanted])
        body = {"name": name, "driver": driver, "options": options, "subnets": subnets, **more}
        return self.daemon.post("/v1/networks", body)

    def sandbox(self, name: str, *networks: Any, **more: Any) -> Any:
        """Make a sandbox; its `netns` is a place of the lab."""
        return self.daemon.post("/v1/sandboxes", {"name": name, "networks": list(networks), **more})

    def reaches(self, place: Any, address: str) -> bool:
        """Whether a place gets an answer from an address."""
        family = "-6" if ":" in address else "-4"
        words = ["ping", family, "-n", "-c", "2", "-i", "0.2", "-W", "1", address]
        return self.lab.run(place, words, check=False).returncode == 0

    def state_of(self, network: str) -> str:
        """What `inspect` says about a network."""
        return str(self.daemon.get(f"/v1/networks/{network}")["state"])

    def wait_for_state(self, network: str, words: str) -> None:
        """Wait until a network's state has these words in it."""
        wait_until(lambda: words in self.state_of(network), f"{network}: {words}", 5)
