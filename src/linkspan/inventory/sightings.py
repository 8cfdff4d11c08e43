"""One source's word about one container, before all sources are put together."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec

LARGEST_FILE = 16 << 20
"""Bytes of a file that is still read."""

Identity = tuple[int, int]
"""(device, inode) of a network namespace."""


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """A container as one source tells of it; what it does not tell is empty.

    `pid` is a process in it, `path` a file of its network namespace. `guest` says that it
    uses the namespace of another container.
    """

    runtime: str
    name: str = ""
    id: str = ""
    pid: int | None = None
    path: str | None = None
    image: str = ""
    aliases: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    published: tuple[str, ...] = ()
    guest: bool = False


class Sighted(NamedTuple):
    """What a source gave: containers, and sentences about what it would not tell."""

    sightings: tuple[Sighting, ...] = ()
    unseen: tuple[str, ...] = ()


def complete(known: Sighting, other: Sighting) -> Sighting:
    """`known` with what only `other` tells."""
    return msgspec.structs.replace(
        known,
        name=known.name or other.name,
        pid=known.pid if known.pid is not None else other.pid,
        path=known.path or other.path,
        image=known.image or other.image,
        aliases=tuple(dict.fromkeys((*known.aliases, *other.aliases))),
        networks=known.networks or other.networks,
        published=known.published or other.published,
        guest=known.guest or other.guest,
    )


def identify(sighting: Sighting) -> Identity | None:
    """The namespace of a container; None when it has none (any more), or none to be seen."""
    paths = [] if sighting.pid is None else [f"/proc/{sighting.pid}/ns/net"]
    if sighting.path:
        paths.append(sighting.path)
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        return status.st_dev, status.st_ino
    return None


def publish_text(address: str, host_port: int, port: int, protocol: str, count: int = 1) -> str:
    """How a published port is written: "192.0.2.10:8080->80/tcp", ranges as "8000-8009->..."."""
    address = address or "0.0.0.0"
    shown = f"[{address}]" if ":" in address else address
    return f"{shown}:{_range(host_port, count)}->{_range(port, count)}/{protocol}"


def _range(first: int, count: int) -> str:
    return str(first) if count <= 1 else f"{first}-{first + count - 1}"


def read_json(path: str) -> Any:
    """The JSON value of a file; None when there is none, or it is no JSON or far too long."""
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST_FILE + 1)
        return None if len(data) > LARGEST_FILE else json.loads(data)
    except (OSError, ValueError, RecursionError):
        return None


def read_number(path: str) -> int | None:
    """The number in a file, as programs leave their process ids; None without one."""
    try:
        with open(path) as file:
            return int(file.read(32))
    except (OSError, ValueError):
        return None


def texts(value: Any) -> tuple[str, ...]:
    """The texts of a list or the keys of an object, out of JSON that may be anything."""
    if not isinstance(value, (list, dict)):
        return ()
    return tuple(one for one in value if isinstance(one, str))


def entry(value: Any, *keys: str) -> Any:
    """What is at a path of keys in JSON, None where the path ends early."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(value: Any, *keys: str) -> str:
    """The text at a path of keys, "" where there is none."""
    found = entry(value, *keys)
    return found if isinstance(found, str) else ""


def number(value: Any, *keys: str) -> int | None:
    """The number at a path of keys, None where there is none or it is 0."""
    found = entry(value, *keys)
    return found if isinstance(found, int) and found > 0 else None


def records(value: Any) -> Iterable[dict[str, Any]]:
    """The objects of a list, out of JSON that may be anything."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
