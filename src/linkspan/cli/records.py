"""What linkspan itself has stored on this host: asked of the daemon, or read where it lies."""

from __future__ import annotations

import os
from typing import Any

from linkspan.inventory.records import Stored

VARIABLE = "LINKSPAN_STATE"
"""Names the folder of the store for when no daemon answers."""


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
