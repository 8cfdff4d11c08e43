"""Which host ports are published, and by whom.

One ordered list of ranges for each protocol and host address. Within one list no two overlap,
so a look-up is a bisection. A wildcard clashes with every address of its IP version; hosts
have few addresses that something is published on, and each is looked up by itself.
"""

from __future__ import annotations

from bisect import bisect_left

import msgspec

from linkspan.drivers.records import PublishedPort
from linkspan.errors import PortInUse

WILDCARDS = {4: "0.0.0.0", 6: "::"}


class Holding(msgspec.Struct, frozen=True):
    """A published range: host ports `first` to `last`, both included, and who has it."""

    host_ip: str
    first: int
    last: int
    holder: str


class PortIndex:
    """All published ports of this host.

    `cursor` is the host port that was chosen last, for those who leave the choice to us.
    """

    def __init__(self) -> None:
        self._held: dict[str, dict[str, list[Holding]]] = {}
        self.cursor = 0

    def add(self, port: PublishedPort, holder: str) -> None:
        """Enter a published port of the sandbox that is called `holder`.

        Raises:
            PortInUse: something that is entered overlaps it.
        """
        found = self.find(port.protocol, port.host_ip, port.host_port, port.host_port_end)
        if found is not None:
            raise PortInUse(describe_clash(port.protocol, port.host_ip, port.host_port, found))
        held = self._held.setdefault(port.protocol, {}).setdefault(port.host_ip, [])
        new = Holding(port.host_ip, port.host_port, port.host_port_end, holder)
        held.insert(bisect_left(held, new.last, key=_last), new)

    def remove(self, port: PublishedPort) -> bool:
        """Take a published port out; False when it was not entered."""
        addresses = self._held.get(port.protocol, {})
        held = addresses.get(port.host_ip, [])
        index = bisect_left(held, port.host_port_end, key=_last)
        if index == len(held) or (held[index].first, held[index].last) != (
            port.host_port,
            port.host_port_end,
        ):
            return False
        del held[index]
        if not held:
            del addresses[port.host_ip]
        return True

    def find(self, protocol: str, host_ip: str, first: int, last: int) -> Holding | None:
        """What is published of these host ports on this address; the lowest on any one address.

        On a wildcard: on any address of its IP version.
        """
        addresses = self._held.get(protocol, {})
        version = 6 if ":" in host_ip else 4
        if host_ip == WILDCARDS[version]:
            lists = [held for ip, held in addresses.items() if (":" in ip) == (version == 6)]
        else:
            lists = [addresses.get(ip, []) for ip in (host_ip, WILDCARDS[version])]
        for held in lists:
            index = bisect_left(held, first, key=_last)
            if index < len(held) and held[index].first <= last:
                return held[index]
        return None


def describe_clash(protocol: str, host_ip: str, first: int, found: Holding) -> str:
    """One line about a clash with a published port: which, by whom, and where if elsewhere."""
    elsewhere = f" on {found.host_ip}" if found.host_ip != host_ip else ""
    return (
        f"port {max(first, found.first)}/{protocol} on {host_ip} is already published by "
        f"{found.holder}{elsewhere}"
    )


def _last(holding: Holding) -> int:
    return holding.last
