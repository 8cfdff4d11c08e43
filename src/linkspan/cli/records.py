"""What linkspan itself has stored on this host: asked of the daemon, or read where it lies."""

from __future__ import annotations

import os
from typing import Any

from linkspan.inventory.records import Stored

VARIABLE = "LINKSPAN_STATE"
"""Names the folder of the store for when no daemon answers."""
_USUAL = "/var/lib/linkspan"


def read_stored(client: Any) -> Stored | None:
    """Settings and records; None when linkspan has never run here.

    Raises what the daemon refuses with, StorageFailed and InvalidRequest for files that cannot
    be read.
    """
    import msgspec

    from linkspan.errors import DaemonUnreachable

    try:
        answer = client.get("records")
    except DaemonUnreachable:
        return _read_files()
    entries = {key: value.encode() for key, value in answer["entries"].items()}
    return Stored(entries, msgspec.json.encode(answer["settings"]))


def _read_files() -> Stored | None:
    import msgspec

    from linkspan.engine.rehearsal.stored import read_store_file
    from linkspan.engine.settings import STORE_FILE, load_settings

    folder = os.environ.get(VARIABLE)
    settings = load_settings(state_dir=None if folder is None else os.path.abspath(folder))
    entries = read_store_file(os.path.join(settings.state_dir, STORE_FILE))
    return None if entries is None else Stored(entries, msgspec.json.encode(settings))


def read_sandboxes() -> list[dict[str, Any]]:
    """The sandboxes that are stored on this host, when no daemon is there to show them; as the
    API shows them, as far as somebody is to be told by it. Empty where there is no store, or
    it cannot be read.
    """
    from linkspan.errors import LinkspanError

    if not os.path.isdir(os.environ.get(VARIABLE) or _USUAL):
        return []  # most hosts: nothing more is loaded
    try:
        stored = _read_files()
    except LinkspanError:
        return []
    return [] if stored is None else _show_sandboxes(stored)


def _show_sandboxes(stored: Stored) -> list[dict[str, Any]]:
    from linkspan.engine.entries import NETWORKS, SANDBOXES, holds, read_network, read_sandbox

    entries = stored.entries.items()
    networks = [read_network(value) for key, value in entries if key.startswith(NETWORKS)]
    names = {network.id: network.name for network in networks}
    found = []
    for key, value in entries:
        if not key.startswith(SANDBOXES):
            continue
        sandbox = read_sandbox(value)
        if not holds(sandbox):
            continue
        endpoints = [
            {"network": names.get(one.network, ""), "aliases": list(one.aliases)}
            for one in sandbox.endpoints
        ]
        ports = [
            {name: getattr(port, name) for name in port.__struct_fields__} for port in sandbox.ports
        ]
        found.append(
            {
                "name": sandbox.name,
                "id": sandbox.id,
                "netns": sandbox.netns,
                "pid": sandbox.pid,
                "endpoints": endpoints,
                "ports": ports,
            }
        )
    return found
