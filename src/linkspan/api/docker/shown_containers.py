"""Sandboxes as Docker shows containers, in a list and inspected."""

from __future__ import annotations

import shlex
from collections.abc import Mapping

import msgspec

from linkspan.api.docker.shown_endpoints import EndpointSettings, network_mode, show_endpoints
from linkspan.api.docker.shown_ports import PortBinding, PortSummary, bind_ports, list_ports
from linkspan.api.docker.times import show_length, show_moment
from linkspan.drivers.records import Network, Sandbox
from linkspan.engine.containers.records import ContainerRecord

STATES = ("created", "running", "paused", "restarting", "removing", "exited", "dead")
"""What Docker calls the states of a container."""

_OF_SANDBOX = {"allocated": "created", "up": "running", "gone": "dead", "exited": "exited"}
_OF_CONTAINER = {"creating": "created"}


class Place(msgspec.Struct, frozen=True):
    """The networks of a host at one moment, by id and by name."""

    by_id: Mapping[str, Network]
    by_name: Mapping[str, Network]


class HostConfigSummary(msgspec.Struct, frozen=True, rename="pascal"):
    """What a list shows of how a container is run."""

    network_mode: str


class NetworksSummary(msgspec.Struct, frozen=True, rename="pascal"):
    """What a list shows of networks."""

    networks: dict[str, EndpointSettings]


class ContainerSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A sandbox in a list. There are no images; the command is "" where we run none."""

    id: str = msgspec.field(name="Id")
    names: list[str] = msgspec.field(name="Names")
    image: str = msgspec.field(name="Image", default="")
    image_id: str = msgspec.field(name="ImageID", default="")
    command: str = msgspec.field(name="Command")
    created: int = msgspec.field(name="Created")
    ports: list[PortSummary] = msgspec.field(name="Ports")
    labels: dict[str, str] = msgspec.field(name="Labels")
    state: str = msgspec.field(name="State")
    status: str = msgspec.field(name="Status")
    host_config: HostConfigSummary = msgspec.field(name="HostConfig")
    network_settings: NetworksSummary = msgspec.field(name="NetworkSettings")
    mounts: list[dict[str, str]] = msgspec.field(name="Mounts", default_factory=list)


class State(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Whether it runs, since when, and how it ended."""

    status: str
    running: bool
    paused: bool = False
    restarting: bool
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)
    dead: bool
    pid: int
    exit_code: int
    error: str
    started_at: str
    finished_at: str


class RestartPolicy(msgspec.Struct, frozen=True, rename="pascal"):
    """When it is started again."""

    name: str
    maximum_retry_count: int = 0


class HostConfig(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """How it is run."""

    network_mode: str
    port_bindings: dict[str, list[PortBinding]]
    restart_policy: RestartPolicy
    auto_remove: bool
    privileged: bool


class Config(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What was asked for."""

    hostname: str
    user: str
    tty: bool
    open_stdin: bool
    env: list[str]
    cmd: list[str]
    image: str = ""
    working_dir: str
    labels: dict[str, str]


class NetworkSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Namespace, ports and networks. The fields from `gateway` on are those of the network
    `bridge`, and there up to version 1.51 only.
    """

    sandbox_id: str = msgspec.field(name="SandboxID")
    sandbox_key: str = msgspec.field(name="SandboxKey")
    ports: dict[str, list[PortBinding] | None] = msgspec.field(name="Ports")
    networks: dict[str, EndpointSettings] = msgspec.field(name="Networks")
    gateway: str | msgspec.UnsetType = msgspec.field(name="Gateway", default=msgspec.UNSET)
    address: str | msgspec.UnsetType = msgspec.field(name="IPAddress", default=msgspec.UNSET)
    prefix_length: int | msgspec.UnsetType = msgspec.field(
        name="IPPrefixLen", default=msgspec.UNSET
    )
    gateway_ipv6: str | msgspec.UnsetType = msgspec.field(name="IPv6Gateway", default=msgspec.UNSET)
    address_ipv6: str | msgspec.UnsetType = msgspec.field(
        name="GlobalIPv6Address", default=msgspec.UNSET
    )
    prefix_length_ipv6: int | msgspec.UnsetType = msgspec.field(
        name="GlobalIPv6PrefixLen", default=msgspec.UNSET
    )
    mac: str | msgspec.UnsetType = msgspec.field(name="MacAddress", default=msgspec.UNSET)
    endpoint_id: str | msgspec.UnsetType = msgspec.field(name="EndpointID", default=msgspec.UNSET)


class ContainerDetails(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A sandbox inspected."""

    id: str
    created: str
    path: str
    args: list[str]
    state: State
    image: str = ""
    log_path: str
    name: str
    restart_count: int
    driver: str = ""
    platform: str = "linux"
    mounts: list[dict[str, str]] = []
    host_config: HostConfig
    config: Config
    network_settings: NetworkSettings


def name_state(sandbox: Sandbox, record: ContainerRecord | None) -> str:
    """Which of Docker's states a sandbox is in: its container's, or its namespace's own."""
    if record is None:
        return _OF_SANDBOX[sandbox.state]
    return _OF_CONTAINER.get(record.status, record.status)


def describe_state(sandbox: Sandbox, record: ContainerRecord | None, now: float) -> str:
    """The state in words, as `docker ps` shows it: "Up 5 minutes"."""
    state = name_state(sandbox, record)
    if state == "running":
        since = record.started if record is not None else sandbox.created
        return f"Up {show_length(now - (since or now))}"
    if state in ("exited", "restarting"):
        code = record.exit_code if record is not None else 0
        ended = record.finished if record is not None else None
        ago = f" {show_length(now - ended)} ago" if ended is not None else ""
        return f"{state.capitalize()} ({code or 0}){ago}"
    return "Removal In Progress" if state == "removing" else state.capitalize()


def summarise(
    sandbox: Sandbox, record: ContainerRecord | None, place: Place, now: float
) -> ContainerSummary:
    """A sandbox as a list shows it; `now` is in Unix seconds."""
    state = name_state(sandbox, record)
    return ContainerSummary(
        id=sandbox.id,
        names=[f"/{sandbox.name}"],
        command=shlex.join(record.command) if record is not None else "",
        created=int(sandbox.created),
        ports=list_ports(sandbox.ports) if state == "running" else [],
        labels=dict(sandbox.labels),
        state=state,
        status=describe_state(sandbox, record, now),
        host_config=HostConfigSummary(network_mode(sandbox, place.by_id)),
        network_settings=NetworksSummary(show_endpoints(sandbox, place.by_id, place.by_name)),
    )


def show_details(
    sandbox: Sandbox,
    record: ContainerRecord | None,
    place: Place,
    log_path: str,
    old: bool,
) -> ContainerDetails:
    """A sandbox as inspected; `old` for a version before 1.52."""
    state = name_state(sandbox, record)
    bindings = bind_ports(sandbox.ports)
    open_ports = bindings if state == "running" else {}
    command = list(record.command) if record is not None else []
    policy, _, retries = (record.restart if record is not None else "no").partition(":")
    return ContainerDetails(
        id=sandbox.id,
        created=show_moment(sandbox.created),
        path=command[0] if command else "",
        args=command[1:],
        state=_show_state(state, sandbox, record),
        log_path=log_path,
        name=f"/{sandbox.name}",
        restart_count=record.restart_count if record is not None else 0,
        host_config=HostConfig(
            network_mode=network_mode(sandbox, place.by_id),
            port_bindings=bindings,
            restart_policy=RestartPolicy(policy, int(retries or 0)),
            auto_remove=record.remove if record is not None else False,
            privileged=record.privileged if record is not None else False,
        ),
        config=Config(
            hostname=sandbox.hostname,
            user=record.user if record is not None else "",
            tty=record.tty if record is not None else False,
            open_stdin=record.interactive if record is not None else False,
            env=list(record.env) if record is not None else [],
            cmd=command,
            working_dir=record.workdir if record is not None else "",
            labels=dict(sandbox.labels),
        ),
        network_settings=_show_settings(sandbox, place, open_ports, old),
    )


def _show_state(state: str, sandbox: Sandbox, record: ContainerRecord | None) -> State:
    started = record.started if record is not None else sandbox.created
    pid = record.pid if record is not None else sandbox.pid
    return State(
        status=state,
        running=state in ("running", "restarting"),
        restarting=state == "restarting",
        dead=state == "dead",
        pid=(pid or 0) if state == "running" else 0,
        exit_code=(record.exit_code or 0) if record is not None else 0,
        error=record.error if record is not None else "",
        started_at=show_moment(started),
        finished_at=show_moment(record.finished if record is not None else None),
    )


def _show_settings(
    sandbox: Sandbox, place: Place, bindings: dict[str, list[PortBinding]], old: bool
) -> NetworkSettings:
    networks = show_endpoints(sandbox, place.by_id, place.by_name)
    settings = NetworkSettings(
        sandbox_id=sandbox.id,
        sandbox_key=sandbox.netns,
        ports=dict(bindings),
        networks=networks,
    )
    if not old:
        return settings
    default = networks.get("bridge", EndpointSettings())
    return msgspec.structs.replace(
        settings,
        gateway=default.gateway,
        address=default.address,
        prefix_length=default.prefix_length,
        gateway_ipv6=default.gateway_ipv6,
        address_ipv6=default.address_ipv6,
        prefix_length_ipv6=default.prefix_length_ipv6,
        mac=default.mac,
        endpoint_id=default.endpoint_id,
    )
