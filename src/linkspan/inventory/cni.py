"""CNI's cache of results: which plugin attached which container to which network.

libcni writes a file for each attachment (spec 1.0.0, section "cached results"): the container's
id, the network's name, the interfaces with the path of their namespace, and the port mappings.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from linkspan.inventory.sightings import (
    Sighting,
    complete,
    entry,
    number,
    publish_text,
    read_json,
    records,
    text,
)

FOLDERS = ("/var/lib/cni/results", "/var/lib/cni/cache/results")


def find_attachments(folders: Iterable[str] = FOLDERS) -> list[Sighting]:
    """The containers of all cached results; those on several networks once."""
    found: dict[str, Sighting] = {}
    for folder in folders:
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            sighting = read_result(read_json(os.path.join(folder, name)))
            if sighting is not None:
                known = found.get(sighting.id)
                found[sighting.id] = sighting if known is None else _joined(known, sighting)
    return list(found.values())


def read_result(kept: Any) -> Sighting | None:
    """One cached result; None for what is none."""
    id = text(kept, "containerId")
    if not id:
        return None
    arguments = {
        pair[0]: pair[1]
        for pair in (entry(kept, "cniArgs") or ())
        if isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str)
    }
    pod = text(arguments, "K8S_POD_NAME")
    namespace = text(arguments, "K8S_POD_NAMESPACE")
    path = next(
        (
            text(one, "sandbox")
            for one in records(entry(kept, "result", "interfaces"))
            if text(one, "sandbox")
        ),
        None,
    )
    return Sighting(
        runtime="cni",
        name=pod,
        id=id,
        path=path,
        aliases=(f"{namespace}/{pod}",) if pod and namespace else (),
        networks=tuple(filter(None, (text(kept, "networkName"),))),
        published=tuple(
            publish_text(
                text(row, "hostIP"), row["hostPort"], row["containerPort"],
                text(row, "protocol").lower() or "tcp",
            )
            for row in records(entry(kept, "capabilityArgs", "portMappings"))
            if number(row, "hostPort") and number(row, "containerPort")
        ),
    )  # fmt: skip


def _joined(known: Sighting, other: Sighting) -> Sighting:
    both = complete(known, other)
    return Sighting(
        **{
            **{name: getattr(both, name) for name in both.__struct_fields__},
            "networks": tuple(dict.fromkeys((*known.networks, *other.networks))),
            "published": tuple(dict.fromkeys((*known.published, *other.published))),
        }
    )
