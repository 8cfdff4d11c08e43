"""Docker's containers: from its daemon's socket, or from what lies on disk without it.

LINKSPAN_DOCKER_SOCKET names the socket (several with colons between, none when empty);
otherwise it is DOCKER_HOST where that is a unix socket, or where Docker usually has it.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterable
from typing import Any

from linkspan.inventory.apisockets import PATIENCE, ApiSocket, NoAnswer, find_sockets
from linkspan.inventory.containerd import Task
from linkspan.inventory.sightings import (
    Sighted,
    Sighting,
    entry,
    number,
    publish_text,
    read_json,
    records,
    text,
    texts,
)

VARIABLE = "LINKSPAN_DOCKER_SOCKET"
_USUAL = ("/run/docker.sock", "/var/run/docker.sock")
_SERVICE, _PROJECT = "com.docker.compose.service", "com.docker.compose.project"
NAMESPACE = "moby"
"""Docker's name for itself in containerd."""


def find_docker(known: Collection[str] = (), patience: float = PATIENCE) -> Sighted:
    """The running containers of every Docker daemon that answers.

    The list does not tell processes: the daemon is asked one by one for those whose ids are
    not in `known`. Each daemon has `patience` seconds.
    """
    sightings: list[Sighting] = []
    unseen: list[str] = []
    for path in find_sockets(VARIABLE, _usual_sockets()):
        api = ApiSocket(path, patience)
        try:
            for row in records(api.get("/containers/json")):
                sighting = read_listed(row)
                if sighting.id and sighting.id not in known:
                    sighting = _inspect(api.get, sighting)
                sightings.append(sighting)
        except NoAnswer as reason:
            unseen.append(f"names of containers may be missing: Docker's socket {path} {reason}")
    return Sighted(tuple(sightings), tuple(unseen))


def _usual_sockets() -> tuple[str, ...]:
    scheme, _, path = os.environ.get("DOCKER_HOST", "").partition("://")
    own = (path,) if scheme == "unix" else ()
    return (*own, *_USUAL, *sorted(glob.glob("/run/user/*/docker.sock")))


def _inspect(get: Callable[[str], Any], sighting: Sighting) -> Sighting:
    try:
        state = get(f"/containers/{sighting.id}/json")
    except NoAnswer as reason:
        if "404" in str(reason):  # it ended meanwhile
            return sighting
        raise
    return Sighting(
        runtime="docker", name=sighting.name, id=sighting.id,
        pid=number(state, "State", "Pid"),
        path=text(state, "NetworkSettings", "SandboxKey") or None,
        image=sighting.image, aliases=sighting.aliases, networks=sighting.networks,
        published=sighting.published, guest=sighting.guest,
    )  # fmt: skip


def read_listed(row: dict[str, Any]) -> Sighting:
    """A container as `GET /containers/json` of Docker's API lists it."""
    names = [name.lstrip("/") for name in texts(row.get("Names"))]
    own = [name for name in names if "/" not in name]  # others are links of other containers
    return Sighting(
        runtime="docker",
        name=own[0] if own else "",
        id=text(row, "Id"),
        image=text(row, "Image"),
        aliases=_compose_aliases(row.get("Labels")),
        networks=texts(entry(row, "NetworkSettings", "Networks")),
        published=tuple(
            dict.fromkeys(
                publish_text(
                    text(port, "IP"), port["PublicPort"], port["PrivatePort"], text(port, "Type")
                )
                for port in records(row.get("Ports"))
                if number(port, "PublicPort") and number(port, "PrivatePort")
            )
        ),
        guest=text(row, "HostConfig", "NetworkMode").startswith("container:"),
    )


def _compose_aliases(labels: Any) -> tuple[str, ...]:
    """A service's name, alone and with its project's."""
    service, project = text(labels, _SERVICE), text(labels, _PROJECT)
    if not service:
        return ()
    return (service, f"{project}/{service}") if project else (service,)


# Without the daemon -----------------------------------------------------------------------


def read_left_files(tasks: Iterable[Task], known: Collection[str] = ()) -> list[Sighting]:
    """Docker's containers that run although no daemon told of them.

    containerd's bundle of a container says where Docker's own folders of containers are: the
    files that it mounts on /etc/hostname and the like are in one of them, its own or, where it
    shares a network, another's.
    """
    found = []
    for task in tasks:
        if task.namespace != NAMESPACE or task.id in known:
            continue
        for mount in records(entry(task.read_spec(), "mounts")):
            folder, name = os.path.split(text(mount, "source"))
            if name not in ("hostname", "hosts", "resolv.conf"):
                continue
            folder, owner = os.path.split(folder)
            config = read_json(task.outside(f"{folder}/{task.id}/config.v2.json"))
            if isinstance(config, dict):
                found.append(read_config(config, task.id, owner != task.id))
                break
    return found


def read_config(config: dict[str, Any], id: str, guest: bool = False) -> Sighting:
    """A container as Docker keeps it in config.v2.json."""
    settings = entry(config, "NetworkSettings")
    published = []
    ports = entry(settings, "Ports")
    for inside, bindings in (ports if isinstance(ports, dict) else {}).items():
        port, _, protocol = inside.partition("/")
        for binding in records(bindings):
            host_port = text(binding, "HostPort")
            if host_port.isdecimal() and port.isdecimal():
                published.append(
                    publish_text(text(binding, "HostIp"), int(host_port), int(port), protocol)
                )
    return Sighting(
        runtime="docker",
        name=text(config, "Name").lstrip("/"),
        id=text(config, "ID") or id,
        pid=number(config, "State", "Pid"),
        path=text(settings, "SandboxKey") or None,
        image=text(config, "Config", "Image"),
        aliases=_compose_aliases(entry(config, "Config", "Labels")),
        networks=texts(entry(settings, "Networks")),
        published=tuple(published),
        guest=guest,
    )
