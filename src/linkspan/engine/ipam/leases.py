"""The addresses of one subnet: which are leased, and which is next.

Addresses are leased in a ring: the next one is the lowest free one after the one leased last,
so a released address rests until all others were used. What the ring needs to know after a
restart is one address, its cursor; it belongs in the transaction that stores the lease:

    lease_key(network, address)   who holds the address
    cursor_key(network, subnet)   the address leased last
"""

from __future__ import annotations

import ipaddress

from linkspan.drivers.records import Subnet
from linkspan.engine.ipam.intervals import Intervals
from linkspan.engine.ipam.subnets import IPAddress, parse_address, special_role
from linkspan.errors import AddressInUse, Exhausted, InvalidRequest


def lease_key(network: str, address: str) -> str:
    """The store's key of a lease; `network` is an id."""
    return f"leases/{network}/{address}"


def cursor_key(network: str, subnet: str) -> str:
    """The store's key of a subnet's cursor; `network` is an id."""
    return f"cursors/{network}/{subnet}"


class Leases:
    """The leases of one subnet, in memory. `network` is its network's name, for messages."""

    def __init__(self, subnet: Subnet, network: str) -> None:
        self.subnet = ipaddress.ip_network(subnet.subnet)
        self.network = network
        part = ipaddress.ip_network(subnet.ip_range) if subnet.ip_range else self.subnet
        self._range = str(part)
        self._first, self._last = int(part.network_address), int(part.broadcast_address)
        self._holders: dict[int, str] = {}
        self._roles = {
            int(ipaddress.ip_address(address)): f"reserved for {name}"
            for name, address in subnet.reserved.items()
        }
        if subnet.gateway:
            self._roles[int(ipaddress.ip_address(subnet.gateway))] = "the gateway"
        for edge in (self.subnet.network_address, self.subnet.broadcast_address):
            role = special_role(self.subnet, edge)
            if role:
                self._roles[int(edge)] = f"the {role} address"
        self._taken = Intervals()
        for number in self._roles:
            self._taken.add(number)
        self._cursor = self._first - 1

    @property
    def cursor(self) -> str | None:
        """The address that was leased last without being asked for by name, None for none."""
        return None if self._cursor < self._first else str(self._address(self._cursor))

    @cursor.setter
    def cursor(self, address: str | None) -> None:
        self._cursor = self._first - 1 if address is None else int(ipaddress.ip_address(address))

    @property
    def capacity(self) -> int:
        """How many addresses can be leased without being asked for by name."""
        apart = sum(self._first <= number <= self._last for number in self._roles)
        return self._last - self._first + 1 - apart

    def __len__(self) -> int:
        return len(self._holders)

    def holder(self, address: str) -> str | None:
        """Who holds an address, None when nobody does."""
        return self._holders.get(int(ipaddress.ip_address(address)))

    def lease(self, holder: str, *, wanted: str | None = None, preferred: str | None = None) -> str:
        """An address for `holder` (its name, for messages), without prefix length.

        `wanted` is this one or none; `preferred` is tried first, and no matter if it is taken.
        Takes the same time whatever is leased already.

        Raises:
            InvalidRequest: the wanted address is not in the subnet, or not for a container.
            AddressInUse: the wanted address is leased; names the holder.
            Exhausted: nothing is free; says how many there are, and what to do.
        """
        if wanted is not None:
            number = self._check(wanted)
            self._hold(number, holder)
            return str(self._address(number))
        if preferred is not None:
            try:
                return self.lease(holder, wanted=preferred)
            except (InvalidRequest, AddressInUse):
                pass
        number = self._next()
        self._cursor = number
        self._hold(number, holder)
        return str(self._address(number))

    def restore(self, address: str, holder: str) -> None:
        """Take in a lease that the store holds; the cursor stays.

        Raises:
            AddressInUse: it is held already.
        """
        self._hold(int(ipaddress.ip_address(address)), holder)

    def release(self, address: str) -> bool:
        """Give an address back; False when it was not leased."""
        number = int(ipaddress.ip_address(address))
        if self._holders.pop(number, None) is None:
            return False
        if number not in self._roles:
            self._taken.remove(number)
        return True

    def _next(self) -> int:
        after = max(self._cursor + 1, self._first)
        number = self._taken.first_missing(after, self._last)
        if number is None:
            number = self._taken.first_missing(self._first, min(self._cursor, self._last))
        if number is None:
            where = f"range {self._range}" if self._range != str(self.subnet) else str(self.subnet)
            raise Exhausted(
                f"network {self.network} has no free address in {where}: all {self.capacity} "
                "are leased; remove a sandbox, or create a network with a larger subnet"
            )
        return number

    def _check(self, wanted: str) -> int:
        address = parse_address(wanted)
        if address.version != self.subnet.version or address not in self.subnet:
            raise InvalidRequest(
                f"address {address} is not inside subnet {self.subnet} of network {self.network}"
            )
        number = int(address)
        if number in self._roles:
            raise InvalidRequest(
                f"address {address} is {self._roles[number]} of network {self.network}; "
                "choose another"
            )
        return number

    def _hold(self, number: int, holder: str) -> None:
        other = self._holders.get(number)
        if other is not None:
            raise AddressInUse(
                f"address {self._address(number)} of network {self.network} is leased to {other}; "
                "choose another"
            )
        self._holders[number] = holder
        self._taken.add(number)

    def _address(self, number: int) -> IPAddress:
        kind = ipaddress.IPv4Address if self.subnet.version == 4 else ipaddress.IPv6Address
        return kind(number)


def address_from_mac(subnet: str, mac: str) -> str:
    """The address that a host with this MAC gives itself in an IPv6 /64 (RFC 4291, appendix A).

    Raises:
        InvalidRequest: the subnet is not an IPv6 /64.
    """
    network = ipaddress.ip_network(subnet)
    if network.version != 6 or network.prefixlen != 64:
        raise InvalidRequest(f"subnet {subnet}: addresses are made from MACs only in an IPv6 /64")
    raw = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([raw[0] ^ 2]) + raw[1:3] + b"\xff\xfe" + raw[3:]
    return str(network[int.from_bytes(identifier, "big")])
