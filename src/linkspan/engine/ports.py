"""The published ports of this host: assigned, held, given back."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from linkspan.drivers.records import PublishedPort, Sandbox
from linkspan.drivers.sandbox import publishing_endpoint
from linkspan.engine.host import Host
from linkspan.engine.publishing import (
    HostSocket,
    Listeners,
    PortIndex,
    assign_ports,
    parse_port,
)
from linkspan.errors import InvalidRequest, PortInUse

EVERY_ADDRESS = {4: "0.0.0.0", 6: "::"}


class Ports:
    """Who has which host port."""

    def __init__(
        self,
        host: Host,
        port_range: tuple[int, int],
        binding_of: Callable[[str], str | None] = lambda network: None,
    ) -> None:
        """`binding_of` gives the host address that a network, by id, publishes on by default."""
        self._host = host
        self._range = port_range
        self._binding_of = binding_of
        self._index = PortIndex()

    def assign(self, texts: Sequence[str], sandbox: Sandbox) -> tuple[PublishedPort, ...]:
        """What a request's ports become for a sandbox whose endpoints are known.

        Nothing is held yet. Raises InvalidRequest where packets could not get in or back,
        and what `assign_ports` does.
        """
        if not texts:
            return ()
        specifications = [parse_port(text) for text in texts]
        versions = [v for v in (4, 6) if publishing_endpoint(sandbox, v) is not None]
        for specification in specifications:
            ip = specification.host_ip
            version = None if ip is None else 6 if ":" in ip else 4
            if not versions or (version is not None and version not in versions):
                direct = _direct_address(sandbox)
                raise InvalidRequest(
                    _why_direct(specification.text, direct)
                    if direct and not versions
                    else _why_not(specification.text, version if versions else None)
                )
        stated = {ip for s in specifications if (ip := s.host_ip)} - set(EVERY_ADDRESS.values())
        addresses = self._host.addresses() if stated else ()
        every = self._default_addresses(sandbox, versions)
        for specification in specifications:
            if specification.host_ip is None and not every:
                raise InvalidRequest(_why_not_bound(specification.text))
        bound = set(every) - set(EVERY_ADDRESS.values())
        if bound and (missing := bound - set(addresses or self._host.addresses())):
            raise InvalidRequest(
                f"ports are published on {min(missing)} by the network's option host_binding, "
                "but this host has no such address; state a host address with each port"
            )
        protocols = {s.protocol for s in specifications}
        try:
            return self._assign(texts, self._host.sockets(protocols), addresses, every)
        except PortInUse:
            # Once more, so that the message can say whose socket it is.
            named = self._host.sockets(protocols, named=True)
            return self._assign(texts, named, addresses, every)

    def _default_addresses(self, sandbox: Sandbox, versions: Sequence[int]) -> list[str]:
        """Where a port is published whose host address is not stated."""
        found = []
        for version in versions:
            endpoint = publishing_endpoint(sandbox, version)
            binding = self._binding_of(endpoint.network) if endpoint is not None else None
            if binding in (None, EVERY_ADDRESS[4]):
                found.append(EVERY_ADDRESS[version])
            elif binding is not None and (":" in binding) == (version == 6):
                found.append(binding)
        return found

    def _assign(
        self,
        texts: Sequence[str],
        sockets: Iterable[HostSocket],
        addresses: Collection[str],
        every: Sequence[str],
    ) -> tuple[PublishedPort, ...]:
        return assign_ports(
            texts,
            self._index,
            Listeners(sockets),
            host_addresses=addresses,
            port_range=self._range,
            every_address=every,
        )

    def hold(self, sandbox: Sandbox) -> None:
        """Enter a sandbox's ports. Raises PortInUse, then none is entered."""
        self.enter(sandbox.ports, sandbox.name)

    def enter(self, ports: Iterable[PublishedPort], name: str) -> None:
        """Enter ports of the sandbox of this name. Raises PortInUse, then none is entered."""
        entered: list[PublishedPort] = []
        try:
            for port in ports:
                self._index.add(port, name)
                entered.append(port)
        except BaseException:
            for port in entered:
                self._index.remove(port)
            raise

    def release(self, sandbox: Sandbox) -> None:
        """Take a sandbox's ports out."""
        self.take_out(sandbox.ports)

    def take_out(self, ports: Iterable[PublishedPort]) -> None:
        """Take ports out."""
        for port in ports:
            self._index.remove(port)


def _direct_address(sandbox: Sandbox) -> str | None:
    """An address at which a sandbox is on a physical segment itself."""
    on_segment = [endpoint for endpoint in sandbox.endpoints if not endpoint.host_interface]
    return next((e.address or e.address_ipv6 for e in on_segment), None)


def _why_direct(text: str, address: str) -> str:
    return (
        f"port {text!r} cannot be published: the sandbox is on its physical segment itself "
        f"(macvlan, ipvlan) and is reached at {address}, every port; leave the port out, or put "
        "it on a network of driver bridge as well, which the port leads to then"
    )


def _why_not_bound(text: str) -> str:
    return (
        f"port {text!r}: the network's option host_binding is an address of the other IP version "
        "than the sandbox has; state a host address with the port"
    )


def _why_not(text: str, version: int | None) -> str:
    if version is not None:
        return (
            f"port {text!r}: the sandbox has no IPv{version} address with a gateway; "
            f"publish it on an IPv{4 if version == 6 else 6} address, "
            f"or join a network with an IPv{version} subnet"
        )
    return (
        f"port {text!r} cannot be published: none of the sandbox's networks has a gateway "
        "(networks none and internal ones have none); join one that has, or leave the port out"
    )
