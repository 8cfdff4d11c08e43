"""What is asked of the engine. These records are also the JSON bodies of the HTTP API.

A field that is not stated has its default; one that is not known is refused.
"""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Something that is asked for, as it arrives: not yet checked for sense."""


class SubnetRequest(Request, frozen=True):
    """A subnet of a network. Without `subnet` one is chosen from the default pools."""

    subnet: str | None = None
    gateway: str | None = None
    """Default: the first address. Not stated for an internal network either."""
    ip_range: str | None = None
    """The part of the subnet that addresses are leased from; default: all of it."""
    reserved: dict[str, str] = {}
    """Addresses that are never leased, by a name that says why."""


class NetworkRequest(Request, frozen=True):
    """A network to create."""

    name: str
    driver: str = "bridge"
    subnets: list[SubnetRequest | str] = []
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    internal: bool = False
    ipam: str = "default"
    """Who chooses IPv4 addresses: default, or dhcp, a server on the segment of the parent."""
    ipv4: bool | None = None
    """Whether it has IPv4; default: yes, unless the subnets that are stated have none."""
    ipv6: bool | None = None
    """Whether it has IPv6; default: only with an IPv6 subnet. True without one has a subnet of
    unique local addresses chosen."""


class NetworkAttachment(Request, frozen=True):
    """A network that a sandbox joins, and what it wishes to have there."""

    network: str
    """Name or id."""
    ip: str | None = None
    ipv6: str | None = None
    mac: str | None = None
    gateway_priority: int = 0
    """The endpoint with the highest one carries the default route and the published ports."""
    aliases: list[str] = []


class PublishRequest(Request, frozen=True):
    """Ports to publish of a sandbox that is up."""

    ports: list[str]
    """[[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp]"""


class PolicyRequest(Request, frozen=True):
    """What a policy permits, where it takes values."""

    values: list[str] = []
    """Host addresses or prefixes, of published-on."""


class AttachmentRequest(Request, frozen=True):
    """What sandboxes and containers have in common."""

    name: str | None = None
    """Default: a readable one is made up."""
    networks: list[NetworkAttachment | str] | None = None
    """Default: the default network. An empty list is the same as ["none"]."""
    ports: list[str] = []
    """[[HOST_IP:]HOST_PORT[-END]:]PORT[-END][/tcp|udp|sctp]"""
    labels: dict[str, str] = {}
    hostname: str | None = None
    dns: list[str] = []
    """Servers to ask for names outside. Default: the host's."""
    dns_search: list[str] = []
    """Domains in which a container of ours seeks names. Default: the host's."""
    dns_options: list[str] = []
    """Options of resolv.conf(5) for a container of ours."""


class SandboxRequest(AttachmentRequest, frozen=True):
    """A sandbox to create: in a namespace of its own, or in one that exists already."""

    netns: str | None = None
    """Path of a file that holds a network namespace."""
    pid: int | None = None
    """A process whose network namespace is meant, instead of a path."""
    resolv_conf: str | None = None
    """A file to write that leads to the sandbox's resolver."""


class ContainerRequest(AttachmentRequest, frozen=True, kw_only=True):
    """A container to run, with a sandbox of its own."""

    command: list[str]
    env: list[str] = []
    user: str | None = None
    workdir: str | None = None
    rootfs: str | None = None
    """Default: a scratch overlay of the host's own file system."""
    tty: bool = False
    interactive: bool = False
    privileged: bool = False
    restart: str = "no"
    """no, always, unless-stopped, on-failure or on-failure:N."""
    remove: bool = False
    """Remove the container when it ends."""
