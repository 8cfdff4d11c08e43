"""Asking every source who is which namespace, and putting their words together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from linkspan.inventory.apisockets import PATIENCE
from linkspan.inventory.cni import find_attachments
from linkspan.inventory.containerd import find_tasks, read_tasks
from linkspan.inventory.docker import find_docker, read_left_files
from linkspan.inventory.naming import Found, Named, Near, name_namespaces
from linkspan.inventory.podman import find_podman, find_storages, read_conmons, read_storage
from linkspan.inventory.programs import find_groups, find_watchers
from linkspan.inventory.sightings import Sighting, publish_text, records, text


class Inventory(NamedTuple):
    """Who is which namespace, and sentences about what could not be learnt."""

    named: Named
    unseen: tuple[str, ...]


def take_inventory(
    found: Sequence[Found],
    sandboxes: Iterable[Any] = (),
    find_near: Near = lambda _: (),
    patience: float = PATIENCE,
) -> Inventory:
    """Who lives in the namespaces `found`, by all sources of this machine.

    `sandboxes` are those of linkspan's daemon as its API lists them, where one answers.
    `find_near` is asked where two have one name (see naming.name_namespaces). Each daemon of
    others has `patience` seconds; one that does not answer in them is told of in `unseen`, and
    what lies on disk is used instead.
    """
    watchers = find_watchers()
    groups = list(find_groups(sorted(pid for one in found for pid in one.pids)))
    tasks = find_tasks(watchers)
    conmons = read_conmons(watchers)
    below = [*read_tasks(tasks), *groups]
    with_process = {one.id for one in (*below, *conmons) if one.pid is not None}
    docker = find_docker(with_process, patience)
    podman = find_podman(patience)
    told = {one.id for one in docker.sightings}
    left = read_left_files(tasks, told)
    running = {one.id for one in (*conmons, *groups) if one.runtime == "podman"}
    stored = [
        one
        for folder in (find_storages(watchers) if running else ())
        for one in read_storage(folder, running)
    ]
    sightings = (
        *(read_sandbox(row) for row in records(list(sandboxes))),
        *(one for one in conmons if one.runtime == "linkspan"),
        *docker.sightings, *left, *podman.sightings, *conmons, *stored, *below,
        *find_attachments(),
    )  # fmt: skip
    status = os.stat("/proc/thread-self/ns/net")
    named = name_namespaces(found, sightings, (status.st_dev, status.st_ino), find_near)
    return Inventory(named, (*docker.unseen, *podman.unseen))


def read_sandbox(row: dict[str, Any]) -> Sighting:
    """A sandbox as linkspan's own API shows it."""
    pid = row.get("pid")
    endpoints = records(row.get("endpoints"))
    return Sighting(
        runtime="linkspan",
        name=text(row, "name"),
        id=text(row, "id"),
        pid=pid if isinstance(pid, int) else None,
        path=text(row, "netns") or None,
        aliases=tuple(
            dict.fromkeys(
                alias
                for one in endpoints
                for alias in one.get("aliases") or ()
                if isinstance(alias, str)
            )
        ),
        networks=tuple(text(one, "network") for one in endpoints),
        published=tuple(
            publish_text(
                text(one, "host_ip"), one["host_port"], one["port"], text(one, "protocol"),
                one["host_port_end"] - one["host_port"] + 1,
            )
            for one in records(row.get("ports"))
        ),
    )  # fmt: skip
