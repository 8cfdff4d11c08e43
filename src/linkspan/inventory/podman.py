"""Podman's containers: from its API where somebody serves it, else from what it leaves on disk.

LINKSPAN_PODMAN_SOCKET names the socket (several with colons between, none when empty). Podman
needs no daemon, so there usually is none: then conmon's arguments have the ids and names, the
storage's containers.json the images, and db.sql (Podman 4.8 on, SQLite) networks and ports.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import sqlite3
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from linkspan.inventory.apisockets import PATIENCE, ApiSocket, NoAnswer, find_sockets
from linkspan.inventory.programs import Program
from linkspan.inventory.sightings import (
    Sighted,
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

VARIABLE = "LINKSPAN_PODMAN_SOCKET"
_USUAL = ("/run/podman/podman.sock",)
_LIST = "/v4.0.0/libpod/containers/json"
STORAGE = "/var/lib/containers/storage"


def find_podman(patience: float = PATIENCE) -> Sighted:
    """The running containers of every Podman that serves its API. Each has `patience` seconds."""
    sightings: list[Sighting] = []
    unseen: list[str] = []
    usual = (*_USUAL, *sorted(glob.glob("/run/user/*/podman/podman.sock")))
    for path in find_sockets(VARIABLE, usual):
        try:
            rows = records(ApiSocket(path, patience).get(_LIST))
        except NoAnswer as reason:
            # A socket file without a server is the usual state of a Podman at rest.
            if VARIABLE in os.environ or "refused" not in str(reason):
                unseen.append(
                    f"names of containers may be missing: Podman's socket {path} {reason}"
                )
        else:
            sightings += [read_listed(row) for row in rows]
    return Sighted(tuple(sightings), tuple(unseen))


def read_listed(row: dict[str, Any]) -> Sighting:
    """A container as libpod's API lists it."""
    names = texts(row.get("Names"))
    pod = text(row, "PodName")
    infra = row.get("IsInfra") is True
    return Sighting(
        runtime="podman",
        name=names[0] if names else "",
        id=text(row, "Id"),
        pid=number(row, "Pid"),
        image=text(row, "Image"),
        aliases=(pod,) if pod and infra else (),
        networks=texts(row.get("Networks")),
        published=_ports(row.get("Ports")),
        guest=bool(pod) and not infra,
    )


def _ports(rows: Any) -> tuple[str, ...]:
    return tuple(
        publish_text(
            text(row, "host_ip"), row["host_port"], row["container_port"],
            text(row, "protocol") or "tcp", number(row, "range") or 1,
        )
        for row in records(rows)
        if number(row, "host_port") and number(row, "container_port")
    )  # fmt: skip


# Without its API --------------------------------------------------------------------------


def read_conmons(watchers: Iterable[Program]) -> list[Sighting]:
    """The containers that a conmon watches: Podman's, CRI-O's, and linkspan's own."""
    found = []
    for conmon in watchers:
        if not conmon.arguments[0].endswith("conmon") or "--exec" in conmon.arguments:
            continue
        id, name = conmon.option("-c", "--cid"), conmon.option("-n", "--name")
        if id:
            pidfile = conmon.option("-p", "--container-pidfile")
            found.append(
                Sighting(
                    runtime=_maker(conmon),
                    name=name,
                    id=id,
                    pid=read_number(conmon.inside(pidfile)) if pidfile else None,
                )
            )
    return found


def _maker(conmon: Program) -> str:
    after = os.path.basename(conmon.option("--exit-command"))
    if after:
        return after  # podman
    return "linkspan" if conmon.option("--persist-dir") == "." else "cri-o"


def find_storages(watchers: Iterable[Program]) -> list[str]:
    """Podman's storage folders: the usual one, users' own, and those that conmons name."""
    found = {STORAGE: STORAGE}
    for path in sorted(glob.glob("/home/*/.local/share/containers/storage")):
        found[path] = path
    for conmon in watchers:
        words = conmon.options("--exit-command-arg")
        if "--root" in words[:-1]:
            path = words[words.index("--root") + 1]
            if path.startswith("/") and not _is_same(path, conmon.inside(path)):
                found[conmon.inside("")] = conmon.inside(path)
            else:
                found.setdefault(path, path)
    return list(dict.fromkeys(found.values()))


def _is_same(path: str, other: str) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False


def read_storage(folder: str, running: Collection[str]) -> Iterator[Sighting]:
    """The containers of `running` (ids) that a storage folder knows, with all it tells."""
    for path in sorted(glob.glob(f"{glob.escape(folder)}/*-containers/containers.json")):
        for row in records(read_json(path)):
            names = texts(row.get("names"))
            if text(row, "id") not in running:
                continue
            try:
                metadata = json.loads(text(row, "metadata") or "{}")
            except (ValueError, RecursionError):
                metadata = {}
            yield Sighting(
                runtime="podman",
                name=names[0] if names else "",
                id=text(row, "id"),
                image=text(metadata, "image-name"),
            )
    yield from read_database(f"{folder}/db.sql", running)


def read_database(path: str, running: Collection[str]) -> Iterator[Sighting]:
    """The containers of `running` (ids) in libpod's SQLite database. None where it is none."""
    if not running or not os.path.exists(path):
        return
    try:
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as base:
            rows = base.execute(
                "SELECT c.ID, c.Name, c.JSON, s.JSON FROM ContainerConfig c"
                " LEFT JOIN ContainerState s ON s.ID = c.ID"
            ).fetchall()
    except sqlite3.Error:
        return
    for id, name, config, state in rows:
        if id in running:
            yield _read_row(str(id), str(name), _decode(config), _decode(state))


def _decode(value: Any) -> Any:
    try:
        return json.loads(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _read_row(id: str, name: str, config: Any, state: Any) -> Sighting:
    return Sighting(
        runtime="podman",
        name=name,
        id=id,
        pid=number(state, "pid"),
        path=text(state, "netns") or None,
        image=text(config, "rootfsImageName"),
        networks=texts(entry(config, "newNetworks")),
        published=_ports(entry(config, "newPortMappings")),
        guest=bool(text(config, "netNsCtr")),
    )
