"""Docker's operations on the daemon itself: ping, version, info."""

from __future__ import annotations

import os
import platform
import time
from typing import Any

import msgspec

from linkspan.api.docker.endpoint import MAX_VERSION, MIN_VERSION
from linkspan.api.docker.shown_containers import name_state
from linkspan.api.docker.times import show_moment
from linkspan.api.operation import Answer, Call, Operation
from linkspan.drivers.registry import DRIVERS
from linkspan.engine.ipam import parse_pool

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
"""Go's names of machines, where they are not the kernel's."""
SCOPE_NOTE = (
    "linkspan manages networks through this API and shows its sandboxes as containers; images, "
    "volumes, builds and swarm are not here"
)


class Component(msgspec.Struct, frozen=True, rename="pascal"):
    """A part of the server."""

    name: str
    version: str
    details: dict[str, str]


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """What serves this API."""

    platform: dict[str, str] = msgspec.field(name="Platform")
    components: list[Component] = msgspec.field(name="Components")
    version: str = msgspec.field(name="Version")
    api_version: str = msgspec.field(name="ApiVersion")
    min_api_version: str = msgspec.field(name="MinAPIVersion")
    os: str = msgspec.field(name="Os")
    arch: str = msgspec.field(name="Arch")
    kernel: str = msgspec.field(name="KernelVersion")


def show_version(version: tuple[int, int]) -> str:
    """(1, 43) as "1.43"."""
    return f"{version[0]}.{version[1]}"


async def ping(call: Call) -> Answer:
    """That the daemon answers, and in the headers which versions it speaks."""
    headers = (("cache-control", "no-cache, no-store, must-revalidate"), ("pragma", "no-cache"))
    return Answer(200, b"OK", headers, content_type="text/plain; charset=utf-8")


async def tell_version(call: Call) -> Answer:
    """What serves this API."""
    version, uname = call.service.facts["version"], platform.uname()
    facts = {
        "ApiVersion": show_version(MAX_VERSION),
        "MinAPIVersion": show_version(MIN_VERSION),
        "Os": "linux",
        "Arch": ARCHITECTURES.get(uname.machine, uname.machine),
        "KernelVersion": uname.release,
    }
    shown = VersionView(
        platform={"Name": "linkspan"},
        # The name that docker version shows the details of.
        components=[Component("Engine", version, facts)],
        version=version,
        api_version=facts["ApiVersion"],
        min_api_version=facts["MinAPIVersion"],
        os=facts["Os"],
        arch=facts["Arch"],
        kernel=facts["KernelVersion"],
    )
    return Answer(200, shown)


async def tell_info(call: Call) -> Answer:
    """The daemon, the host, and how many sandboxes there are."""
    return Answer(200, compose_info(call))


def compose_info(call: Call) -> dict[str, Any]:
    """What GET /info answers. Numbers of what linkspan does not do are 0, switches are off."""
    engine, facts, uname = call.engine, call.service.facts, platform.uname()
    states = [name_state(s, engine.containers.record(s.id)) for s in engine.sandboxes()]
    running = sum(state in ("running", "restarting") for state in states)
    pools = [parse_pool(text) for text in engine.settings.default_pools]
    return {
        "ID": f"linkspan-{facts['namespace']}",
        "Name": uname.node,
        "ServerVersion": facts["version"],
        "Containers": len(states),
        "ContainersRunning": running,
        "ContainersPaused": 0,
        "ContainersStopped": len(states) - running,
        "Images": 0,
        "Driver": "none",
        "DriverStatus": [],
        "Plugins": {"Volume": [], "Network": sorted(DRIVERS), "Authorization": None, "Log": []},
        "MemoryLimit": False,
        "SwapLimit": False,
        "CpuCfsPeriod": False,
        "CpuCfsQuota": False,
        "CPUShares": False,
        "CPUSet": False,
        "PidsLimit": False,
        "OomKillDisable": False,
        "IPv4Forwarding": _is_forwarding(),
        "Debug": False,
        "NFd": len(os.listdir("/proc/self/fd")),
        "NGoroutines": 0,
        "NEventsListener": 0,
        "SystemTime": show_moment(time.time()),
        "LoggingDriver": "none",
        "CgroupDriver": "none",
        "KernelVersion": uname.release,
        "OperatingSystem": _name_system(),
        "OSVersion": "",
        "OSType": "linux",
        "Architecture": uname.machine,
        "IndexServerAddress": "",
        "RegistryConfig": None,
        "NCPU": os.cpu_count() or 1,
        "MemTotal": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
        "GenericResources": None,
        "DockerRootDir": facts["state_dir"],
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "Labels": [],
        "ExperimentalBuild": False,
        "Runtimes": {},
        "DefaultRuntime": "",
        "Swarm": {"NodeID": "", "NodeAddr": "", "LocalNodeState": "inactive", "Error": "",
                  "ControlAvailable": False, "RemoteManagers": None},
        "LiveRestoreEnabled": True,
        "Isolation": "",
        "InitBinary": "",
        "ContainerdCommit": {"ID": "", "Expected": ""},
        "RuncCommit": {"ID": "", "Expected": ""},
        "InitCommit": {"ID": "", "Expected": ""},
        "SecurityOptions": [],
        "DefaultAddressPools": [{"Base": pool.base, "Size": pool.length} for pool in pools],
        "FirewallBackend": {"Driver": "nftables"},
        "CDISpecDirs": None,
        "Warnings": [SCOPE_NOTE],
    }  # fmt: skip


def _is_forwarding() -> bool:
    with open("/proc/sys/net/ipv4/ip_forward") as file:
        return file.read().strip() == "1"


def _name_system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "Linux"


OPERATIONS = (
    Operation(
        method="GET",
        path="/_ping",
        name="dockerPing",
        summary="That the daemon answers, and which versions it speaks (headers)",
        handler=ping,
        answers={200: str},
    ),
    Operation(
        method="GET",
        path="/version",
        name="dockerVersion",
        summary="What serves this API",
        handler=tell_version,
        answers={200: VersionView},
    ),
    Operation(
        method="GET",
        path="/info",
        name="dockerInfo",
        summary="The daemon, the host, and how many sandboxes there are",
        handler=tell_info,
        answers={200: dict[str, Any]},
    ),
)
