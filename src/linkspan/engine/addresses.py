"""The addresses and MACs of all networks: leased, released, taken in again after a start."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection

from linkspan.drivers.bridge import mac_of, stable_mac
from linkspan.drivers.records import Endpoint, Network, Sandbox
from linkspan.engine.entries import MACS
from linkspan.engine.ipam import Leases, cursor_key
from linkspan.errors import Exhausted, InvalidRequest


class Addresses:
    """Leases by network and subnet. In memory; what the store must know is returned."""

    def __init__(self) -> None:
        self._leases: dict[str, tuple[Leases, ...]] = {}
        self._macs: dict[tuple[str, str], str] = {}
        """The MAC that an address had last, where it was not its usual one."""

    def open(self, network: Network) -> None:
        """Begin to lease addresses of a network."""
        self._leases[network.id] = tuple(Leases(s, network.name) for s in network.subnets)

    def close(self, network: Network) -> None:
        """Stop leasing addresses of a network."""
        self._leases.pop(network.id, None)
        for key in [key for key in self._macs if key[0] == network.id]:
            del self._macs[key]

    def keys(self, network: Network) -> list[str]:
        """The store's keys that go with a network: its cursors, and unusual MACs."""
        cursors = [cursor_key(network.id, subnet.subnet) for subnet in network.subnets]
        odd = [address for identity, address in self._macs if identity == network.id]
        return cursors + [f"{MACS}{network.id}/{address}" for address in odd]

    def lease(
        self,
        network: Network,
        version: int,
        holder: str,
        wanted: str | None,
        preferred: Collection[str] = (),
    ) -> tuple[str, str | None] | None:
        """An address of this IP version with prefix length, and its subnet's gateway.

        One of the `preferred` ones, of either version, where it is free.

        None when the network has no such subnet and none was asked for. Raises InvalidRequest,
        AddressInUse and Exhausted, as Leases.lease does.
        """
        candidates = [
            (leases, subnet)
            for leases, subnet in zip(self._leases[network.id], network.subnets, strict=True)
            if leases.subnet.version == version
        ]
        if not candidates:
            if wanted is not None:
                raise InvalidRequest(
                    f"network {network.name} has no IPv{version} subnet that "
                    f"address {wanted} could be of"
                )
            return None
        failure: Exception | None = None
        liked = [
            (leases, subnet, address)
            for leases, subnet in candidates
            for address in preferred
            if ipaddress.ip_address(address) in leases.subnet
        ]
        for leases, subnet, once in [*liked, *((*candidate, None) for candidate in candidates)]:
            try:
                address = leases.lease(holder, wanted=wanted, preferred=once)
            except (Exhausted, InvalidRequest) as error:
                failure = failure or error
                continue
            return f"{address}/{leases.subnet.prefixlen}", subnet.gateway
        assert failure is not None
        raise failure

    def restore(self, sandbox: Sandbox) -> None:
        """Take in the leases of a stored sandbox."""
        for endpoint, leases, address in self._held(sandbox):
            leases.restore(address, sandbox.name)
            if endpoint.mac is not None:
                self._note_mac(endpoint, address)

    def release(self, sandbox: Sandbox, kept: Sandbox | None = None) -> None:
        """Give back the addresses of a sandbox, but those of endpoints that `kept` still has."""
        still = {endpoint.id for endpoint in kept.endpoints} if kept is not None else ()
        for endpoint in sandbox.endpoints:
            if endpoint.id not in still:
                self.release_endpoint(endpoint)

    def release_endpoint(self, endpoint: Endpoint) -> None:
        """Give back the addresses of one endpoint."""
        for address in (endpoint.address, endpoint.address_ipv6):
            if address is not None:
                self.release_address(endpoint.network, address)

    def release_address(self, network: str, address: str) -> None:
        """Give back one address; `network` is an id."""
        for leases in self._leases.get(network, ()):
            leases.release(address)

    def _held(self, sandbox: Sandbox) -> list[tuple[Endpoint, Leases, str]]:
        return [
            (endpoint, leases, address)
            for endpoint in sandbox.endpoints
            for address in (endpoint.address, endpoint.address_ipv6)
            if address is not None
            for leases in self._leases.get(endpoint.network, ())
            if ipaddress.ip_address(address) in leases.subnet
        ]

    def cursors(self, network: Network) -> dict[str, bytes]:
        """The store's entries that say which addresses were leased last."""
        return {
            cursor_key(network.id, subnet.subnet): leases.cursor.encode()
            for leases, subnet in zip(self._leases[network.id], network.subnets, strict=True)
            if leases.cursor is not None
        }

    def save_cursors(self) -> dict[Leases, str | None]:
        """Where every subnet's leasing is, to go back there after a dry run."""
        return {leases: leases.cursor for row in self._leases.values() for leases in row}

    def reset_cursors(self, saved: dict[Leases, str | None]) -> None:
        """Go back to where leasing was."""
        for leases, cursor in saved.items():
            leases.cursor = cursor

    def restore_cursor(self, network: Network, subnet: str, address: str) -> None:
        """Take in a stored cursor."""
        for leases in self._leases.get(network.id, ()):
            if str(leases.subnet) == subnet:
                leases.cursor = address

    # MACs

    def usual_mac(self, endpoint_id: str, ipv4: str | None, ipv6: str | None) -> str:
        """The MAC that goes with an endpoint's addresses ("10.20.0.2/24"), one stable by
        address where it has any.
        """
        with_length = ipv4 or ipv6
        return mac_of(with_length.split("/")[0]) if with_length else stable_mac(endpoint_id)

    def needs_announcement(self, endpoint: Endpoint) -> list[str]:
        """The addresses of an endpoint that had another MAC before."""
        return [
            address
            for address in (endpoint.address, endpoint.address_ipv6)
            if address is not None
            and self._macs.get((endpoint.network, address), self._first_mac(endpoint, address))
            != endpoint.mac
        ]

    def note_macs(self, endpoint: Endpoint) -> dict[str, bytes]:
        """Remember the MACs of an endpoint; gives entries for the store, for unusual ones."""
        puts: dict[str, bytes] = {}
        for address in (endpoint.address, endpoint.address_ipv6):
            if address is not None and self._note_mac(endpoint, address):
                puts[f"{MACS}{endpoint.network}/{address}"] = str(endpoint.mac).encode()
        return puts

    def restore_mac(self, network: str, address: str, mac: str) -> None:
        """Take in a stored MAC."""
        self._macs[network, address] = mac

    def _note_mac(self, endpoint: Endpoint, address: str) -> bool:
        key = endpoint.network, address
        assert endpoint.mac is not None
        if key not in self._macs and endpoint.mac == self._first_mac(endpoint, address):
            return False
        self._macs[key] = endpoint.mac
        return True

    def _first_mac(self, endpoint: Endpoint, address: str) -> str:
        return mac_of(address if endpoint.ipv4 is None else str(endpoint.address))
