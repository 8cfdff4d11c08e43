"""containerd's tasks, as their bundles lie on disk: no socket is asked.

A bundle is .../io.containerd.runtime.v2.task/NAMESPACE/ID with config.json (the OCI runtime's
configuration) and init.pid. Docker's containers are the tasks of the namespace "moby";
nerdctl's and Kubernetes' have their names among the annotations.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from linkspan.inventory.programs import Program
from linkspan.inventory.sightings import (
    Sighting,
    entry,
    number,
    publish_text,
    read_json,
    read_number,
    records,
    text,
    texts,
)

TASKS = "/run/containerd/io.containerd.runtime.v2.task"
_CRI = "io.kubernetes.cri."


class Task(NamedTuple):
    """A running container of containerd. `bundle` is a path for us, `root` what is before it
    where its shim has a file system of its own.
    """

    namespace: str
    id: str
    pid: int | None
    bundle: str
    root: str = ""

    def read_spec(self) -> Any:
        """Its OCI configuration, None without one."""
        return read_json(f"{self.bundle}/config.json")

    def outside(self, path: str) -> str:
        """A path of its configuration, as we reach it."""
        return self.root + path


def find_tasks(watchers: Iterable[Program]) -> list[Task]:
    """The tasks in containerd's usual folder, and in those that running shims work in."""
    folders = {TASKS: ""}
    for shim in watchers:
        if "containerd-shim" not in shim.arguments[0]:
            continue
        try:
            place = os.readlink(f"/proc/{shim.pid}/cwd")
        except OSError:
            continue
        folder = os.path.dirname(os.path.dirname(place))
        if os.path.basename(folder).startswith("io.containerd.runtime"):
            folders.setdefault(folder, shim.inside(""))
    return [task for folder, root in folders.items() for task in _tasks_in(folder, root)]


def _tasks_in(folder: str, root: str) -> Iterator[Task]:
    for namespace in _list(root + folder):
        for id in _list(f"{root}{folder}/{namespace}"):
            bundle = f"{root}{folder}/{namespace}/{id}"
            pid = read_number(f"{bundle}/init.pid")
            yield Task(namespace, id, pid, bundle, root)


def _list(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def read_tasks(tasks: Iterable[Task], docker: str = "moby") -> list[Sighting]:
    """What bundles say of their containers. Of Docker's the id and the process alone."""
    return [
        Sighting(runtime="docker", id=task.id, pid=task.pid)
        if task.namespace == docker
        else read_task(task, task.read_spec())
        for task in tasks
    ]


def read_task(task: Task, spec: Any) -> Sighting:
    """A container of nerdctl, of Kubernetes or of containerd's own tools."""
    notes = entry(spec, "annotations")
    path = next(
        (
            text(one, "path")
            for one in records(entry(spec, "linux", "namespaces"))
            if text(one, "type") == "network"
        ),
        "",
    )
    pod = text(notes, f"{_CRI}sandbox-name")
    role = text(notes, f"{_CRI}container-name")
    name = text(notes, "nerdctl/name")
    if pod:
        name = f"{pod}/{role}" if role else pod
    return Sighting(
        runtime="containerd",
        name=name or (task.id[:12] if len(task.id) == 64 else task.id),
        id=task.id,
        pid=task.pid,
        path=task.outside(path) if path else None,
        image=text(notes, f"{_CRI}image-name") or text(notes, "nerdctl/image"),
        aliases=_pod_aliases(notes, pod, role),
        networks=_words(text(notes, "nerdctl/networks")),
        published=_nerdctl_ports(text(notes, "nerdctl/ports")),
        guest=bool(role),
    )


def _pod_aliases(notes: Any, pod: str, role: str) -> tuple[str, ...]:
    namespace = text(notes, f"{_CRI}sandbox-namespace")
    return (f"{namespace}/{pod}",) if namespace and not role else ()


def _words(value: str) -> tuple[str, ...]:
    try:
        return texts(json.loads(value)) if value else ()
    except (ValueError, RecursionError):
        return ()


def _nerdctl_ports(value: str) -> tuple[str, ...]:
    """Nerdctl keeps go-cni's port mappings, as JSON in a label."""
    try:
        rows = records(json.loads(value)) if value else []
    except (ValueError, RecursionError):
        return ()
    return tuple(
        publish_text(
            text(row, "HostIP"), row["HostPort"], row["ContainerPort"], text(row, "Protocol")
        )
        for row in rows
        if number(row, "HostPort") and number(row, "ContainerPort")
    )
