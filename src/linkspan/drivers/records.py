"""What a driver is given: networks, sandboxes, endpoints and published ports, as values."""

from __future__ import annotations

import msgspec


class Actor(msgspec.Struct, frozen=True, kw_only=True):
    """A client of the daemon, as the kernel knows the other end of its socket (SO_PEERCRED).

    `login` is the user who logged in and then became `user`, by sudo for example
    (/proc/PID/loginuid); None where the kernel does not say. `program` is its name then
    (/proc/PID/comm).
    """

    uid: int
    pid: int
    user: str = ""
    login: str | None = None
    program: str = ""

    def __str__(self) -> str:
        user = self.user or f"user {self.uid}"
        name = f"{self.login} as {user}" if self.login and self.login != user else user
        program = f", {self.program}" if self.program else ""
        return f"{name} (pid {self.pid}{program})"


class Opening(msgspec.Struct, frozen=True, kw_only=True):
    """When something was opened, in seconds since 1970, and by whom (None: the daemon itself)."""

    at: float
    by: Actor | None = None


class Subnet(msgspec.Struct, frozen=True, kw_only=True):
    """One subnet of a network. Addresses as text; `ip_range` the part that leases come from."""

    subnet: str
    gateway: str | None = None
    ip_range: str | None = None
    reserved: dict[str, str] = {}
    """Addresses never leased, by a name that says why (Docker's AuxiliaryAddresses)."""


class Network(msgspec.Struct, frozen=True, kw_only=True):
    """A network as it is stored. `interface` is its bridge on the host, "" for none."""

    id: str
    name: str
    driver: str
    subnets: tuple[Subnet, ...] = ()
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    internal: bool = False
    interface: str = ""
    mtu: int = 1500
    ipam: str = "default"
    """Who chooses IPv4 addresses: default (linkspan), or dhcp (a server on the segment)."""
    dhcp_gateway: str | None = None
    """The gateway instead of the one that the DHCP server names."""
    created: float = 0.0
    created_by: Actor | None = None

    @property
    def gateway_ipv4(self) -> str | None:
        """The gateway of the first IPv4 subnet, None when there is none."""
        return next((s.gateway for s in self.subnets if ":" not in s.subnet), None)

    @property
    def gateway_ipv6(self) -> str | None:
        """The gateway of the first IPv6 subnet, None when there is none."""
        return next((s.gateway for s in self.subnets if ":" in s.subnet), None)

    @property
    def has_ipv6(self) -> bool:
        """Whether any subnet is IPv6."""
        return any(":" in s.subnet for s in self.subnets)

    @property
    def forwards_ipv6(self) -> bool:
        """Whether the host forwards IPv6 packets from and to its bridge."""
        return self.driver == "bridge" and self.has_ipv6 and not self.internal


class DhcpLease(msgspec.Struct, frozen=True, kw_only=True):
    """What a DHCP server gave an endpoint. Times are seconds since 1970; None: without end."""

    address: str
    """With its prefix length."""
    server: str
    server_mac: str
    """Whom frames to the server go to: itself, or the router that relays to it."""
    acquired: float
    """When what was last granted was asked for."""
    renew_at: float | None = None
    rebind_at: float | None = None
    expires: float | None = None
    router: str | None = None
    dns: tuple[str, ...] = ()
    domain: str | None = None


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox's place on one network.

    `interface` is its name inside the sandbox, `host_interface` the other end on the host.
    `ipv4` and `ipv6` carry the prefix length ("10.20.0.2/24"); gateways do not.
    """

    id: str
    network: str
    """Id of the network."""
    interface: str = ""
    host_interface: str = ""
    ipv4: str | None = None
    ipv6: str | None = None
    mac: str | None = None
    gateway: str | None = None
    gateway_ipv6: str | None = None
    device_route: bool = False
    """The interface itself leads out, without a gateway (ipvlan l3)."""
    gateway_priority: int = 0
    aliases: tuple[str, ...] = ()
    fixed: tuple[str, ...] = ()
    """Which of ipv4, ipv6 and mac were asked for: they stay when the others are released."""
    preferred: tuple[str, ...] = ()
    """Addresses that it had before they were released: it gets them again if they are free."""
    lease: DhcpLease | None = None
    """Where its IPv4 address is from, on a network whose addresses come by DHCP."""
    awaits_lease: bool = False
    """It has not had a lease yet, and whoever asked for it waits for one."""

    @property
    def address(self) -> str | None:
        """The IPv4 address without its prefix length."""
        return self.ipv4.split("/")[0] if self.ipv4 else None

    @property
    def address_ipv6(self) -> str | None:
        """The IPv6 address without its prefix length."""
        return self.ipv6.split("/")[0] if self.ipv6 else None


class PublishedPort(msgspec.Struct, frozen=True, kw_only=True):
    """A host port, or a range of them, that leads to a port of a sandbox.

    Host ports `host_port` to `host_port_end` (both included) lead to `port` and the ones
    after it. `host_ip` "0.0.0.0" means every IPv4 address of the host, "::" every IPv6
    address, "127.0.0.1" the host itself only.
    """

    host_ip: str = "0.0.0.0"
    host_port: int
    host_port_end: int
    port: int
    protocol: str = "tcp"

    @property
    def port_end(self) -> int:
        """The last port inside."""
        return self.port + self.host_port_end - self.host_port

    def __str__(self) -> str:
        def span(first: int, last: int) -> str:
            return f"{first}" if first == last else f"{first}-{last}"

        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip
        return (
            f"{host}:{span(self.host_port, self.host_port_end)}"
            f":{span(self.port, self.port_end)}/{self.protocol}"
        )


class Sandbox(msgspec.Struct, frozen=True, kw_only=True):
    """A network namespace that linkspan gives networks to, as it is stored.

    `state` is allocated (stored, not yet in the kernel), up, gone (its namespace vanished)
    or exited (its container ended, its addresses are released). `made` says whether the
    namespace is ours to delete. `netns` is the path of a file that holds the namespace, ""
    in host mode; `inode` identifies it across renames and process id reuse.
    """

    id: str
    name: str
    state: str = "allocated"
    made: bool = True
    host_mode: bool = False
    netns: str = ""
    inode: int | None = None
    pid: int | None = None
    hostname: str = ""
    endpoints: tuple[Endpoint, ...] = ()
    ports: tuple[PublishedPort, ...] = ()
    labels: dict[str, str] = {}
    dns: tuple[str, ...] = ()
    """Servers that are asked for names outside; none: the host's."""
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    created: float = 0.0
    created_by: Actor | None = None
    openings: dict[str, Opening] = {}
    """Who put it on a network (by the network's id) or published a port (by the port's text)
    later; everything else came with the sandbox."""
    answered: bool = False
    """It was up once, so somebody knows of it: what fails later must not lose its record."""
    kept_defaults: tuple[int, ...] = ()
    """IP versions (4, 6) for which the namespace came with a default route of its own. It
    stays; ours is for what our own addresses send."""

    def opening(self, what: PublishedPort | Endpoint) -> Opening:
        """When and by whom a port was published, or the sandbox put on a network."""
        key = what.network if isinstance(what, Endpoint) else str(what)
        return self.openings.get(key) or Opening(at=self.created, by=self.created_by)

    @property
    def namespace(self) -> str:
        """The sandbox's name as a namespace of a data plane."""
        return self.id
