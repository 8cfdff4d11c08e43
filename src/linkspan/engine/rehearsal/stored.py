"""What of a store a rehearsal begins with: networks, sandboxes, leases, policies.

Not what containers run, nor their environment; not what happened.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing

from linkspan.engine.entries import (
    FORWARDING6,
    MACS,
    NETWORKS,
    SANDBOXES,
    UNIQUE_LOCAL,
    UPLINKS,
)
from linkspan.engine.policies import PREFIX as POLICIES
from linkspan.engine.store import Store
from linkspan.engine.store.sqlite import APPLICATION_ID, BUSY_SECONDS, explain
from linkspan.errors import StorageFailed

PREFIXES = (
    NETWORKS, SANDBOXES, MACS, UPLINKS, FORWARDING6, UNIQUE_LOCAL, POLICIES,
    "names/", "leases/", "cursors/",
)  # fmt: skip


async def read_store(store: Store) -> dict[str, bytes]:
    """Entries of an open store by key. Raises StorageFailed."""
    return {e.key: e.value for prefix in PREFIXES for e in await store.list(prefix)}


def read_store_file(path: str) -> dict[str, bytes] | None:
    """Entries of a store that no daemon has open; None when there is no such file.

    Nothing is written there. Raises StorageFailed: it cannot be read, or is no store of ours.
    """
    if not os.path.exists(path):
        return None
    query = "SELECT key, value FROM entry WHERE key >= ? AND key < ? ORDER BY key"
    try:
        uri = f"file:{path.replace('?', '%3f').replace('#', '%23')}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_SECONDS)) as connection:
            if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
                raise StorageFailed(f"{path} is no store of linkspan's; name another folder")
            return {
                key: value
                for prefix in PREFIXES
                for key, value in connection.execute(query, (prefix, prefix + "\U0010ffff"))
            }
    except sqlite3.Error as error:
        raise explain(error, "read", path) from error
